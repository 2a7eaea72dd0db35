"""When a board asks its site for the next certificate, and when its clock is to be believed. Time and randomness are arguments.

now                                          what
before EARLIEST, or the certificate's start  WaitForClock: a board without a battery starts in 1970, and TLS would fail or lie
before 2/3 of the certificate's life         Wait
later, also after its end                    Renew, by the identity key; a failure is tried again behind a back-off
refused for good (revoked)                   Renew, but only once a day: a site may change its mind
the broker refuses the certificate           Renew within a minute (its CA may have been replaced); were that in vain, again behind
                                             a back-off of hours
"""

from __future__ import annotations

__all__ = ["EARLIEST", "Renew", "Renewal", "Step", "Wait", "WaitForClock", "clock_is_sane"]

import math
from dataclasses import dataclass
from typing import Final

from edgeagent.core.backoff import Backoff

EARLIEST: Final = 1_793_491_200.0
"""1 November 2026: this program did not exist before, so no clock that says so is right."""
_DAY_S = 86_400.0
_LOOK_AGAIN_S = 5.0  # at a clock that is not set; nothing tells when it is
_RETRY_MIN_S, _RETRY_MAX_S = 30.0, 3_600.0
_DOUBT_SPREAD_S = 60.0  # all boards of a broker are refused at once
_DOUBT_MIN_S, _DOUBT_MAX_S = 3_600.0, _DAY_S
_LONGEST_WAIT_S = 3_600.0  # a clock may be set meanwhile
_AGAIN_MIN_S = 60.0  # between two that worked
_SPREAD = 0.05  # of the life, so that boards enrolled together do not come back together


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitForClock:
    """The clock is not set yet: no TLS. Look again after `seconds`."""

    seconds: float = _LOOK_AGAIN_S


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask now. `expired`: the certificate has run out, so it proves nothing any more and is not to be shown."""

    expired: bool


Step = Wait | WaitForClock | Renew


def clock_is_sane(now: float, at_least: float = 0.0) -> bool:
    """Whether Unix time `now` can be right, knowing that it was `at_least` once."""
    return math.isfinite(now) and now >= max(EARLIEST, at_least)


class Renewal:
    """Decides for one board.

    Args:
        not_before: Start of its certificate, Unix seconds.
        not_after: Its end.
        random01: A number from 0 to 1, to spread boards.
    """

    def __init__(self, not_before: float, not_after: float, random01: float) -> None:
        self._backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
        self._doubts = Backoff(_DOUBT_MIN_S, _DOUBT_MAX_S)
        self._doubted_at = self._believed_until = 0.0
        self._not_before = self._not_after = self._due = self._quiet_from = self._quiet_until = 0.0
        self.renewed(not_before, not_after, random01)

    @property
    def due_at(self) -> float:
        """When it is time, Unix seconds."""
        return self._due

    def renewed(self, not_before: float, not_after: float, random01: float, *, now: float | None = None) -> None:
        """A new certificate is in place.

        Args:
            now: When; None where it is the one of before a restart. One that is due at once, as the last of a CA or by a clock
                that is far ahead, is replaced behind a back-off: it would be the next time, too.
        """
        life_s = max(0.0, not_after - not_before)
        self._not_before, self._not_after = not_before, not_after
        self._due = not_before + life_s * (2 / 3 + _SPREAD * random01)
        self._quiet_from = self._quiet_until = 0.0
        if now is not None and self._due < now + _AGAIN_MIN_S:
            self._quiet(now, max(_AGAIN_MIN_S, self._backoff.next(random01)))
        else:
            self._backoff.reset()

    def hurry(self) -> None:
        """The site, or the owner, wants a new key now."""
        self._due = self._quiet_until = 0.0

    def doubted(self, now: float, random01: float) -> None:
        """The broker refuses the certificate: a new one may mend that. What the site has said about asking again stays."""
        if self._doubted_at <= now < self._believed_until:
            return  # one was asked for on this ground already
        soon_s = _DOUBT_SPREAD_S * random01
        self._due = min(self._due, now + soon_s)
        self._doubted_at, self._believed_until = now, now + soon_s + self._doubts.next(random01)

    def trusted(self) -> None:
        """The broker has taken the certificate."""
        self._doubts.reset()
        self._doubted_at = self._believed_until = 0.0

    def failed(self, now: float, random01: float, retry_s: float | None = None) -> float:
        """It did not work: wait, as long as the site said where it did; the seconds."""
        wait_s = max(self._backoff.next(random01), retry_s or 0.0)
        return self._quiet(now, wait_s)

    def refused(self, now: float) -> float:
        """The site, proved, does not want this board any more: ask once a day."""
        return self._quiet(now, _DAY_S)

    def next(self, now: float) -> Step:
        """What to do at Unix time `now`."""
        if not clock_is_sane(now, self._not_before):
            return WaitForClock()
        until = self._due
        if self._quiet_from <= now:  # else the clock was set back: what was noted by it says nothing
            until = max(until, self._quiet_until)
        if now < until:
            return Wait(min(until - now, _LONGEST_WAIT_S))
        return Renew(expired=now >= self._not_after)

    def _quiet(self, now: float, wait_s: float) -> float:
        self._quiet_from, self._quiet_until = now, now + wait_s
        return wait_s
