"""How a board treats what its site orders: which orders it obeys, and when it keeps or takes back what it tries. Without IO.

`OrderBook` judges an order whose seal was proved. Numbers count upward for good; an order is bound to one run of the board:

    judged in turn                                                  verdict
    ──────────────────────────────────────────────────────────────  ──────────────────────────────────────────────────────
    sealed for another run                                          Refuse, with the board's `after`; at most 1 in 2 s
    its number was obeyed in this run                               Again: the answers it had, if it is done
    its number is not above `after`: replayed, or overtaken         Refuse, as above
    sealed more than VALID_S ago by the board's time                Refuse, as above: held back; the site seals it anew by that time
    as many are waiting as may                                      Busy; its number stays unused
    else                                                            Obey; `after` is its number

The board's time is its clock, and never before what a site has told in this run and what has passed since (`OrderBook.time`). What
it refuses, it answers with that time: a site whose clock is another seals by it, so that wrong clocks cost one more message.

`Trial` is of settings that must prove themselves. Its record is kept on disk before each step, and alone says by which settings a
board runs: a crash or a power cut ends where the board worked before. (Releases are tried by root, `edgeagent.install`.)

    state     event                                                 next      effects
    ────────  ────────────────────────────────────────────────────  ────────  ──────────────────────────────────────────────
    STEADY    begin                                                 LEAVING   Keep, Restart
    (start)   nothing is tried                                      STEADY
    (start)   tried, begun fewer than MAX_STARTS times              TRYING    Keep
    (start)   tried, begun MAX_STARTS times                         BACK      Keep
    TRYING    healthy and connected for SETTLED_S on end            STEADY    Keep
    TRYING    WITHIN_S since the start, not yet settled             LEAVING   Keep, Restart
              the FIRST: since the broker was reached; FIRST_WITHIN_S
    TRYING    `leave`: the process ends in order                    LEAVING   Keep: it counts as no start
    TRYING    `failed`: they cannot even be read                    BACK      Keep

An outcome stays in the record until the next `begin`, for the site to be told.
"""

from __future__ import annotations

__all__ = [
    "FIRST",
    "FIRST_WITHIN_S",
    "MAX_STARTS",
    "SETTLED_S",
    "VALID_S",
    "WITHIN_S",
    "Again",
    "Busy",
    "Keep",
    "Obey",
    "OrderBook",
    "Outcome",
    "Record",
    "Refuse",
    "Restart",
    "Trial",
    "TrialEffect",
    "TrialState",
    "Tried",
    "Verdict",
    "next_number",
]

import enum
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TypeAlias

MAX_STARTS = 2
"""How often a board begins with what it tries before it goes back: a power cut in between is no failure."""
SETTLED_S = 8.0
WITHIN_S = 60.0
FIRST, FIRST_WITHIN_S = 1, 3600.0
"""The number of the order that came with the enrolment, and how long a broker is waited for with its settings: they cannot have cut
the board off from a broker that it never had, and what it would go back to is nothing."""
VALID_S = 30.0
"""How long an order may be on its way: what a site has called failed is not obeyed later, once the broker lets it through."""
_KEPT = 16
_REFUSE_EVERY_S = 2.0


def next_number(last: int, wall_s: float) -> int:
    """The number of the next envelope: above `last`, and by the clock, for a sender that was restored from an old copy."""
    return max(last + 1, int(wall_s * 1000)) if math.isfinite(wall_s) else last + 1


# Orders


@dataclass(slots=True, frozen=True)
class Obey:
    """Write `after` down, then do it."""

    number: int


@dataclass(slots=True, frozen=True)
class Again:
    """It was obeyed already: send these answers once more; none where it is still being done."""

    answers: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Refuse:
    """Answer that it came too late, with `after`; silently where `quiet`, since whoever replays shall not make us talk."""

    number: int
    after: int
    quiet: bool = False


@dataclass(slots=True, frozen=True)
class Busy:
    """Answer that it may come again later."""

    number: int


Verdict: TypeAlias = Obey | Again | Refuse | Busy


class OrderBook:
    """Judges orders by epoch and number.

    Args:
        epoch: This run of the board.
        after: The highest number ever obeyed, from disk.
        most: How many orders may wait to be done.
    """

    def __init__(self, epoch: str, after: int = 0, *, most: int = 8) -> None:
        self._epoch = epoch
        self._most = most
        self._open: set[int] = set()
        self._done: OrderedDict[int, list[str]] = OrderedDict()
        self._refused_at = -math.inf
        self._ahead = -math.inf
        self.after = after

    def time(self, now: float, wall: float) -> float:
        """Unix time as far as this board knows it: by its clock, or later.

        Args:
            now: Seconds of a clock that only goes up.
            wall: Its clock; one that was never set holds up nothing.
        """
        return max(wall, now + self._ahead)

    def judge(self, epoch: str, number: int, now: float, *, at: float = math.inf, wall: float = -math.inf) -> Verdict:
        """What to do with an order whose seal is right.

        Args:
            now, wall: As for `time`.
            at: When the site has sealed it, Unix seconds by its clock, or by what this board has told of its own.
        """
        after = self.after
        if epoch == self._epoch:
            if number in self._open:
                return Again(())
            if number in self._done:
                return Again(tuple(self._done[number]))
            if number > self.after and self.time(now, wall) > at + VALID_S:
                after = max(1, after)  # 0 would say that the site's numbers are not the reason
            elif number > self.after:
                if len(self._open) >= self._most:
                    return Busy(number)
                self.after = number
                if math.isfinite(at):
                    self._ahead = max(self._ahead, at - now)
                self._open.add(number)
                return Obey(number)
        quiet = now - self._refused_at < _REFUSE_EVERY_S
        if not quiet:
            self._refused_at = now
        return Refuse(number, after, quiet)

    def done(self, number: int, answers: list[str]) -> None:
        """An order was carried out, and answered so."""
        if number in self._open:
            self._open.remove(number)
            self._done[number] = answers
            while len(self._done) > _KEPT:
                self._done.popitem(last=False)


# Trials


@dataclass(slots=True, frozen=True)
class Tried:
    """What is being tried.

    Attributes:
        version: Of the settings; "" for the board's own file.
        re: The number of the order that wants them.
        starts: How often the board has begun with them.
        why: What ended the last of these runs, where that is known.
    """

    version: str
    re: int
    starts: int = 0
    why: str = ""


@dataclass(slots=True, frozen=True)
class Outcome:
    """What became of the last trial."""

    version: str
    re: int
    kept: bool
    text: str


@dataclass(slots=True, frozen=True)
class Record:
    """What is on disk: the version of the settings that work ("" for the board's own file), what is tried, and the last outcome."""

    settings: str = ""
    tried: Tried | None = None
    outcome: Outcome | None = None


@dataclass(slots=True, frozen=True)
class Keep:
    """Write the record down before anything else."""

    record: Record


@dataclass(slots=True, frozen=True)
class Restart:
    """End orderly, and begin anew."""

    why: str


TrialEffect: TypeAlias = Keep | Restart


class TrialState(enum.StrEnum):
    """Where a trial stands."""

    STEADY = "steady"
    TRYING = "trying"
    BACK = "back"  # went back at the start: runs what worked before
    LEAVING = "leaving"


class Trial:
    """Settings under trial; made at the start from the record on disk, then `start`."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.state = TrialState.STEADY
        self._deadline: float | None = None
        self._waits = record.tried is not None and record.tried.re == FIRST  # for a broker, longer
        self._good_since: float | None = None

    @property
    def running(self) -> str:
        """The version by which this process runs."""
        tried = self.record.tried
        return tried.version if tried is not None and self.state is TrialState.TRYING else self.record.settings

    def start(self) -> list[TrialEffect]:
        """The process begins; carry out the effects before settings are read."""
        tried = self.record.tried
        if tried is None:
            return []
        if tried.starts >= MAX_STARTS:
            why = f" ({tried.why.rstrip('.')})" if tried.why else ""
            text = f"the board began {MAX_STARTS} times with them and never got well{why}"
            return [self._back(tried, text, TrialState.BACK)]
        self.state = TrialState.TRYING
        return [self._keep(replace(self.record, tried=replace(tried, starts=tried.starts + 1)))]

    def begin(self, version: str, re: int) -> list[TrialEffect]:
        """Try settings that lie ready on disk. Empty where some are being tried already, or the process is leaving."""
        if self.record.tried is not None or self.state is TrialState.LEAVING:
            return []
        self.state = TrialState.LEAVING
        return [self._keep(Record(self.record.settings, Tried(version, re))), Restart(f"to try {_words(version)}")]

    def failed(self, why: str) -> list[TrialEffect]:
        """What is tried cannot even be read: go back at once, without another start."""
        tried = self.record.tried
        if tried is None or self.state is not TrialState.TRYING:
            return []
        return [self._back(tried, why, TrialState.BACK)]

    def leave(self) -> list[TrialEffect]:
        """The process ends in order, by a signal or because it begins anew: nothing that speaks against what is tried."""
        tried = self.record.tried
        if tried is None or self.state is not TrialState.TRYING:
            return []
        self.state = TrialState.LEAVING
        return [self._keep(replace(self.record, tried=replace(tried, starts=tried.starts - 1)))]

    def look(self, *, healthy: bool, connected: bool, now: float) -> list[TrialEffect]:
        """How things are; to be called at each change and when `next_deadline` is due. The first look starts the trial's clock."""
        tried = self.record.tried
        if tried is None or self.state is not TrialState.TRYING:
            return []
        if self._deadline is None:
            self._deadline = now + (FIRST_WITHIN_S if self._waits else WITHIN_S)
        if self._waits and connected:
            self._waits, self._deadline = False, min(self._deadline, now + WITHIN_S)
        if not (healthy and connected):
            self._good_since = None
        elif self._good_since is None:
            self._good_since = now
        if self._good_since is not None and self._good_since + SETTLED_S <= now:  # rounded as `next_deadline` is
            self.state = TrialState.STEADY
            outcome = Outcome(tried.version, tried.re, True, f"{_words(tried.version)} works.")
            return [self._keep(Record(tried.version, None, outcome))]
        if now >= self._deadline:
            why = "the agent did not get well" if connected else "the broker could not be reached"
            keep = self._back(tried, f"{why} within {FIRST_WITHIN_S if self._waits else WITHIN_S:g} s", TrialState.LEAVING)
            return [keep, Restart(f"{_words(tried.version)} does not work: going back")]
        return []

    def next_deadline(self) -> float | None:
        """When `look` is due even if nothing changes."""
        if self.state is not TrialState.TRYING or self._deadline is None:
            return None
        return self._deadline if self._good_since is None else min(self._deadline, self._good_since + SETTLED_S)

    def _back(self, tried: Tried, why: str, state: TrialState) -> Keep:
        self.state = state
        outcome = Outcome(tried.version, tried.re, False, f"{_words(tried.version)} was taken back: {why}.")
        return self._keep(Record(self.record.settings, None, outcome))

    def _keep(self, record: Record) -> Keep:
        self.record = record
        return Keep(record)


def _words(version: str) -> str:
    return f"version {version} of the settings" if version else "the board's own file"
