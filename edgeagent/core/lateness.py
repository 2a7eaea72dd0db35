"""How late a message is, without a common clock: its delay above the smallest delay seen lately from the same sender.

Sender and receiver each read a monotonic clock of unknown origin. Their difference at arrival is the delay plus a constant; the
least of it within a sliding window stands for a message that was not held up. The window forgets, so clocks that drift apart
(100 ppm are 3 ms in 30 s) do no harm.

After a silence the window begins anew, since a sender that slept comes back with a clock that stood still. What comes first then
may have waited in a queue, all of it alike; so the smallest delay counts as known only when messages have come for `settle_s`.
"""

from __future__ import annotations

__all__ = ["Lateness"]

import math
from collections import deque

_BUCKETS = 30


class Lateness:
    """Delays of one sender. Keeps at most some 30 numbers.

    Args:
        window_s: How long the smallest delay is remembered, in seconds, to a thirtieth.
        silence_s: After so long without a message the window begins anew.
        settle_s: For how long messages must have come until `settled`.
    """

    __slots__ = ("_began", "_bucket_s", "_heard", "_least", "_settle_s", "_silence_s")

    def __init__(self, window_s: float = 30.0, silence_s: float = 1.0, settle_s: float = 0.3) -> None:
        self._bucket_s = window_s / _BUCKETS
        self._silence_s = silence_s
        self._settle_s = settle_s
        self._least: deque[tuple[int, float]] = deque()  # bucket, least of it; rising from left to right
        self._began = self._heard = -math.inf

    def take(self, sent: float, now: float) -> float:
        """Seconds by which a message is late; `sent` by the sender's clock, `now` by ours."""
        if now - self._heard > self._silence_s:
            self._least.clear()
            self._began = now
        self._heard = max(now, self._heard)
        delay = now - sent
        bucket = int(now // self._bucket_s)
        while self._least and self._least[0][0] <= bucket - _BUCKETS:
            self._least.popleft()
        floor = min(delay, self._least[0][1]) if self._least else delay
        # Of what came before, only what is smaller can ever be the smallest again.
        while self._least and self._least[-1][1] >= delay:
            self._least.pop()
        if not self._least or self._least[-1][0] < bucket:
            self._least.append((bucket, delay))
        return delay - floor

    @property
    def settled(self) -> bool:
        """Whether enough messages have come for the smallest delay to be known."""
        return self._heard - self._began >= self._settle_s
