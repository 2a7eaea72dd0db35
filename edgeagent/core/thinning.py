"""Which pictures of a stream that cannot be changed a path has room for, and when each is to be shown. Sans-IO.

A picture refers to the one before it, so what is left out is the end of each GOP, keyframes alone at worst. A keyframe fills the
path for a good part of a second, and what fits behind it is the beginning of the GOP: sent under its own time it would be shown in
a rush, followed by a standstill. So what is kept is spread evenly, up to `LAST_BEFORE_S` before the next keyframe: RTP time stamps
are when to show, and the receiver holds back what is there too soon.
"""

from __future__ import annotations

__all__ = ["FIRST_OTHERS", "MOST_AHEAD", "REPLAY_STEP", "Thinner"]

import math

CLOCK_RATE = 90_000
REPLAY_STEP = 90
"""The least between two time stamps, in ticks of 90 kHz: 1 ms."""
MOST_AHEAD = 3 * CLOCK_RATE
"""How far ahead of its own time a picture may be shown; the next is not shown before it. Beyond, it is another source's time."""
LAST_BEFORE_S = 0.4
"""How long before the next keyframe the last picture of a GOP is shown; less where more of them fit."""
FIRST_S = 0.5
FIRST_OTHERS = 2
"""A newcomer's first keyframe may have the next one right behind it, which is long on its way: so many pictures are always sent in
between and shown so long, two since browsers show the second frame that they ever get at once, whatever its time stamp."""
GOP_S = 2.0
"""Until one was seen whole."""
KEYFRAME_EXCESS = 1.25
"""A keyframe may take this much more than there is room for, anything where nothing is owed: better a late picture than none."""


class Thinner:
    """The room of one GOP after the other, in bytes.

    Attributes:
        credit: What is left of it; below 0 where a keyframe took of the next ones.
        gop_s: From a keyframe to the next, in s.
    """

    def __init__(self) -> None:
        self.credit = 0.0
        self.gop_s = GOP_S
        self._keyframe_at: int | None = None
        self._taken = self._taken_bytes = 0
        self._joined = False
        # Of the GOP that leaves, which may be the one before that which comes in:
        self._began = self._newest = 0
        self._least = 0.0

    def room(self, bps: float) -> float:
        """Bytes that a GOP may take at `bps`."""
        return bps / 8 * self.gop_s

    def keyframe(self, size: int, timestamp: int, bps: float) -> bool:
        """A GOP begins; whether there is room for its keyframe. `timestamp` in ticks of 90 kHz, as everywhere here.

        One for which there never is takes of the GOPs behind it, whose keyframes are left out until that is made good.
        """
        if self._keyframe_at is not None and timestamp > self._keyframe_at:
            self.gop_s = min(10.0, max(1 / 60, (timestamp - self._keyframe_at) / CLOCK_RATE))
        room, owed = self.room(bps), self.credit < 0
        self.credit = min(self.credit, room / 2) + room
        self._begin(timestamp)
        return self._take(size, KEYFRAME_EXCESS if owed else math.inf)

    def join(self, size: int, timestamp: int, newest: int, bps: float) -> bool:
        """The same for a newcomer in the midst of a GOP, whose latest frame is `newest`.

        False where its keyframe would take more than half of the next one's room, and that one is near.
        """
        passed_s = max(0.0, (newest - timestamp) / CLOCK_RATE)
        self.gop_s = max(self.gop_s, passed_s)
        self.credit = bps / 8 * (self.gop_s - passed_s)
        self._begin(timestamp)
        if size > self.credit + self.room(bps) / 2 and passed_s > self.gop_s / 2:
            self.credit = 0.0
            return False
        self.credit -= size
        self._joined = True
        return True

    def other(self, size: int) -> bool:
        """Whether there is room for the next picture of the GOP."""
        if self._joined and self._taken < FIRST_OTHERS:
            self.credit -= size
        elif not self._take(size):
            return False
        self._taken, self._taken_bytes = self._taken + 1, self._taken_bytes + size
        return True

    def refund(self, size: int) -> None:
        """What was taken is not sent after all."""
        self.credit += size

    def _begin(self, timestamp: int) -> None:
        self._keyframe_at = timestamp
        self._taken = self._taken_bytes = 0
        self._joined = False

    def _take(self, size: int, excess: float = 1.0) -> bool:
        if size > self.credit * excess:
            return False
        self.credit -= size
        return True

    def stamp_keyframe(self, timestamp: int, shown: int) -> int:
        """The time stamp of a keyframe that leaves now: `shown` is its own, or for a newcomer the newest one's."""
        self._began = timestamp
        self._least = FIRST_S * CLOCK_RATE if shown > timestamp else 0.0
        self._newest = self._newest + REPLAY_STEP if 0 <= self._newest - shown < MOST_AHEAD else shown
        return self._newest

    def stamp(self, timestamp: int, behind: int, more: bool) -> int:
        """The time stamp of a picture that leaves now.

        Args:
            timestamp: Its own.
            behind: How many of its GOP are queued behind it.
            more: Whether there may be others.
        """
        number = 1.0 + behind
        if more and self._taken_bytes:
            number += max(0.0, self.credit) * self._taken / self._taken_bytes
        left = max(self._least, self._began + (self.gop_s - LAST_BEFORE_S) * CLOCK_RATE - self._newest)
        step = max(REPLAY_STEP, int(left / number))
        self._least = max(0.0, self._least - step)
        self._newest = max(timestamp, self._newest + step)
        return self._newest
