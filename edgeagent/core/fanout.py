"""What one viewer is sent of a stream, and when: join, queue, pace, skip. Sans-IO; time in seconds is an argument.

state     event                         next      what happens
WAITING   keyframe                      FLOWING   queued
WAITING   other frame                   WAITING   dropped, counted
WAITING   replay(GOP)                   FLOWING   the GOP is queued, its time stamps drawn together; a path too slow for it: WAITING
FLOWING   frame beyond a thinned GOP    WAITING   dropped, counted: what is left out is the end of each GOP (`thin`)
FLOWING   frame, nothing queued         FLOWING   leaves straight away where it is one burst and the pacer allows
FLOWING   frame, queue within bounds    FLOWING   queued
FLOWING   frame, queue full             WAITING   queue emptied but for a frame half sent; a keyframe is wanted
FLOWING   keyframe, queue full          FLOWING   queue emptied, the keyframe queued
any       reset()                       WAITING   queue emptied: another camera, or a wish for `off`
"""

from __future__ import annotations

__all__ = ["Burst", "FramePort", "KeyframeGate", "Pacer", "ViewerQueue"]

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from edgeagent.core.thinning import FIRST_OTHERS, REPLAY_STEP, Thinner

MAX_BURST = 48
"""Packets that leave together: 48 of 1,200 bytes fit one UDP_SEGMENT send (64 kB)."""
BURST_S, MIN_BURST = 0.04, 6_000
"""What may leave together, in seconds of the pace; in bytes at least: five packets, which tell the bottleneck's rate."""
MAX_REPLAY_S = 1.0
"""Of a replay whose time stamps are drawn together: it is over before the next keyframe is worth waiting for."""
CATCH_UP = 0.65
"""A longer one takes at most so much of the time it shows, at a pace above the estimate: it reaches the live picture, however far
the next keyframe is, and jumps to that where it is sooner."""
LEFTOVER_S = 0.25
"""Of a thinned GOP that is not sent when the next begins: how much goes on, in seconds of the rate."""


class FramePort(Protocol):
    """What the queue must know of a frame: its bytes, its media time (ticks of 90 kHz), its number of packets."""

    @property
    def size(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def count(self) -> int: ...


F = TypeVar("F", bound=FramePort)


class Burst(NamedTuple, Generic[F]):
    """Packets `first` to `end` of `frame`, to be sent now under the media time `timestamp` (ticks of 90 kHz)."""

    frame: F
    first: int
    end: int
    timestamp: int


@dataclass(slots=True)
class Pacer:
    """Token bucket that may run into debt by one burst.

    Attributes:
        rate_bps: Bits a second at which the debt is paid; set it by `set_rate`.
        depth: Bytes that may leave at once after silence.
    """

    rate_bps: float = 50e6
    depth: int = 60_000
    _tokens: float = 60_000.0
    _at: float = 0.0

    def set_rate(self, bps: float) -> None:
        """Change the pace, and with it what may leave together."""
        self.rate_bps = bps
        self.depth = min(60_000, max(MIN_BURST, int(bps * BURST_S / 8)))
        self._tokens = min(self._tokens, self.depth)

    def ready_at(self, now: float) -> float:
        """When the next burst may leave; `now` or earlier means at once."""
        gained = (now - self._at) * self.rate_bps / 8
        self._tokens, self._at = min(self.depth, self._tokens + max(0.0, gained)), now
        return now if self._tokens > 0 else now - self._tokens * 8 / self.rate_bps

    def spent(self, size: int) -> None:
        self._tokens -= size

    def spend(self, size: int, now: float) -> bool:
        """Pay for a burst that may leave at once, if it may. The same as `ready_at` and `spent`, for each frame of each viewer."""
        tokens = self._tokens
        if now > self._at:
            tokens += (now - self._at) * self.rate_bps / 8
        self._tokens = tokens = tokens if tokens < self.depth else self.depth
        self._at = now
        if tokens < 0 or size > self.depth:
            return False
        self._tokens = tokens - size
        return True


@dataclass(slots=True)
class _Entry(Generic[F]):
    frame: F
    timestamp: int
    keyframe: bool = False
    thinned: bool = False
    sent: int = 0


class ViewerQueue(Generic[F]):
    """One viewer's bounded queue. Counters: `queued`, `dropped`, `skips` (times it jumped to a keyframe)."""

    def __init__(self, pacer: Pacer, *, max_delay_s: float = 0.5, min_bytes: int = 24_000) -> None:
        self.pacer = pacer
        self.thin_bps: float | None = None
        """At how many bit/s GOPs are thinned out, None for not at all: for who cannot take all of what cannot be changed."""
        self._thinner = Thinner()
        self.max_delay_s = max_delay_s
        self.min_bytes = min_bytes
        self.waiting = True
        self.queued = self.dropped = self.skips = 0
        self._entries: deque[_Entry[F]] = deque()
        self._bytes = 0
        self._allowance = 0

    def thin(self, bps: float | None) -> None:
        """Thin out at another rate from now on, or no more."""
        if self.thin_bps is None and bps is not None:
            self._thinner = Thinner()  # what the last one knew of GOPs and of room is of another time
            self._thinner.credit = self._thinner.room(bps) / 2  # the GOP goes on for a moment
        self.thin_bps = bps

    def push(self, frame: F, keyframe: bool) -> bool:
        """Take a live frame; true where a keyframe is now wanted from the source."""
        if self.waiting and not keyframe:
            self.dropped += 1
            return False
        if self.thin_bps is not None:
            self._push_thinned(frame, keyframe, self.thin_bps)
            return False
        limit = max(self.min_bytes, self.pacer.rate_bps / 8 * self.max_delay_s) + (0 if keyframe else self._allowance)
        if self._bytes and self._bytes + frame.size > limit and len(self._entries) > 1:
            self._skip()
            if not keyframe:
                self.dropped += 1
                return True
        self.waiting = False
        self._append(frame, frame.timestamp)
        return False

    def straight(self, frame: F, now: float) -> bool:
        """Whether a live frame may leave at once and whole, as nearly all do; it is then counted and paid for, and not queued."""
        if self.waiting or self._entries or self.thin_bps is not None or frame.count > MAX_BURST:
            return False
        if not self.pacer.spend(frame.size, now):
            return False
        self.queued += 1
        return True

    def _push_thinned(self, frame: F, keyframe: bool, bps: float) -> None:
        """Take a keyframe and as many of those behind it as the rate has room for until the next; keyframes alone at worst."""
        thinner = self._thinner
        if keyframe:
            while len(self._entries) > 1 + FIRST_OTHERS and self._bytes > bps / 8 * LEFTOVER_S:
                self._drop_last()
            taken = thinner.keyframe(frame.size, frame.timestamp, bps)
        else:
            taken = thinner.other(frame.size)
        self.waiting = not taken
        if taken:
            self._append(frame, frame.timestamp, keyframe, thinned=True)
        else:
            self.dropped += 1

    def _replay_thinned(self, frames: Sequence[F], bps: float) -> bool:
        """The same for a newcomer, whose keyframe is as good as new."""
        thinner, newest = self._thinner, frames[-1].timestamp
        if not thinner.join(frames[0].size, frames[0].timestamp, newest, bps):
            return False
        self._drop_queue()
        self._append(frames[0], newest, keyframe=True, thinned=True)
        for frame in frames[1:]:
            self.waiting = not thinner.other(frame.size)
            if self.waiting:
                break
            self._append(frame, frame.timestamp, thinned=True)
        else:
            self.waiting = False
        return True

    def replay(self, frames: Sequence[F]) -> bool:
        """Queue the current GOP for a newcomer. The newest frame keeps its time, those before it follow each other by 1 ms.

        A GOP for which the pacer needs over `MAX_REPLAY_S` is shown as fast as it leaves, until it has caught up. Where frames are
        left out, its beginning that fits. Returns false, and goes on waiting, where the path is too slow ever to catch up.
        """
        if self.thin_bps is not None:
            return self._replay_thinned(frames, self.thin_bps)
        newest, size = frames[-1].timestamp, sum(frame.size for frame in frames)
        lasts_s = size * 8 / self.pacer.rate_bps
        if lasts_s > max(MAX_REPLAY_S, CATCH_UP * (newest - frames[0].timestamp) / 90_000):
            return False
        self._drop_queue()
        self.waiting = False
        behind = size
        for place, frame in enumerate(frames):
            behind -= frame.size
            early = (len(frames) - 1 - place) * REPLAY_STEP
            if lasts_s > MAX_REPLAY_S:
                early = max(early, int(lasts_s * 90_000 * behind / size))
            self._append(frame, newest - early)
        self._allowance = self._bytes
        return True

    def reset(self) -> None:
        """Forget what is queued and wait for a keyframe."""
        self._thinner = Thinner()
        self._drop_queue()
        self.waiting = True

    def pop(self, now: float) -> Burst[F] | None:
        """The next packets that may leave, or None: nothing is queued, or the pacer says later (`deadline`)."""
        if not self._entries or self.pacer.ready_at(now) > now:
            return None
        entry = self._entries[0]
        if entry.thinned and not entry.sent:
            self._stamp(entry)
        together = max(1, self.pacer.depth * entry.frame.count // max(1, entry.frame.size))
        first, end = entry.sent, min(entry.frame.count, entry.sent + min(MAX_BURST, together))
        size = entry.frame.size * (end - first) // max(1, entry.frame.count)
        self.pacer.spent(size)
        entry.sent = end
        if end == entry.frame.count:
            self._entries.popleft()
            self._bytes -= entry.frame.size
            self._allowance = min(self._allowance, self._bytes)
        return Burst(entry.frame, first, end, entry.timestamp)

    def deadline(self, now: float) -> float | None:
        """When `pop` will have something, or None while the queue is empty."""
        return self.pacer.ready_at(now) if self._entries else None

    def _stamp(self, entry: _Entry[F]) -> None:
        """Say when the thinned frame that leaves next is to be shown."""
        if entry.keyframe:
            entry.timestamp = self._thinner.stamp_keyframe(entry.frame.timestamp, entry.timestamp)
            return
        behind, more = 0, not self.waiting
        for other in islice(self._entries, 1, None):
            if other.keyframe:
                more = False
                break
            behind += 1
        entry.timestamp = self._thinner.stamp(entry.timestamp, behind, more)

    def _append(self, frame: F, timestamp: int, keyframe: bool = False, thinned: bool = False) -> None:
        self._entries.append(_Entry(frame, timestamp, keyframe, thinned))
        self._bytes += frame.size
        self.queued += 1

    def _skip(self) -> None:
        self.skips += 1
        self._drop_queue(keep_begun=True)
        self.waiting = True

    def _drop_last(self) -> None:
        entry = self._entries.pop()
        self._bytes -= entry.frame.size
        self.dropped += 1
        self._thinner.refund(entry.frame.size)

    def _drop_queue(self, keep_begun: bool = False) -> None:
        begun = self._entries[0] if keep_begun and self._entries and self._entries[0].sent else None
        self.dropped += len(self._entries) - (begun is not None)
        self._entries.clear()
        self._bytes = self._allowance = 0
        if begun is not None:
            self._entries.append(begun)
            self._bytes = begun.frame.size


class KeyframeGate:
    """Coalesces keyframe requests of many viewers: at most one each `min_interval_s`, none lost."""

    def __init__(self, min_interval_s: float = 0.5) -> None:
        self.min_interval_s = min_interval_s
        self._last = float("-inf")
        self.pending = False

    def request(self, now: float) -> float:
        """Ask; returns when the source shall be asked: `now` or earlier means at once."""
        self.pending = True
        return max(now, self._last + self.min_interval_s)

    def due(self, now: float) -> bool:
        """Whether to ask the source now; then the request is taken."""
        if self.pending and now >= self._last + self.min_interval_s:
            self.pending, self._last = False, now
            return True
        return False

    def seen(self, now: float) -> None:
        """A keyframe came: whoever waited has it."""
        self.pending = False
