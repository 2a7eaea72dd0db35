"""A path in virtual time: a bottleneck with a queue and loss, and a receiver that gives transport-wide feedback."""

from __future__ import annotations

__all__ = ["Path"]

import random
from collections.abc import Callable

from edgeagent.core.bitrate import Estimator


class Path:
    """Frames at 30 a second of what the estimate allows, through a bottleneck; feedback every 100 ms.

    Args:
        rate: bit/s of the bottleneck at a time in s; 0 loses everything.
        delay_s: One way.
        queue_s: What the bottleneck holds, in seconds of its rate.
        loss: Share lost at random.
        jitter_s: Extra delay of each packet, at most.
        wanted_bps: What the camera would send.
    """

    def __init__(
        self,
        rate: Callable[[float], float],
        *,
        delay_s: float = 0.01,
        queue_s: float = 0.3,
        loss: float = 0.0,
        jitter_s: float = 0.0,
        wanted_bps: float = 3e6,
        estimator: Estimator | None = None,
        seed: int = 1,
    ) -> None:
        self.rate, self.delay_s, self.queue_s, self.loss, self.jitter_s, self.wanted = (
            rate,
            delay_s,
            queue_s,
            loss,
            jitter_s,
            wanted_bps,
        )
        self.estimator = estimator or Estimator()
        self.random = random.Random(seed)
        self.now = 100.0
        self.began = self.now
        self.free_at = 0.0
        self.sequence = 0
        self.fed = 0
        self.arrivals: dict[int, float] = {}
        self.sent_bytes = self.carried_bytes = self.dropped = 0
        self.delays: list[tuple[float, float]] = []
        self.history: list[tuple[float, float]] = []

    def run(self, seconds: float) -> None:
        """Let time pass, frame by frame."""
        end = self.now + seconds
        frame = 0
        while self.now < end:
            estimate = self.estimator.estimate_bps or 1e9
            media = min(self.wanted, estimate * 0.9)
            self.burst(max(1, round(media / 30 / 8 / 1200)))
            if self.estimator.probe_due(self.wanted * 1.1, self.now):
                self.burst(6)
            frame += 1
            self.now += 1 / 30
            if frame % 3 == 0:
                self.report()
            self.history.append((self.now - self.began, self.estimator.estimate_bps or 0.0))

    def burst(self, count: int) -> None:
        size = 1200
        self.estimator.sent(self.sequence, count, size, self.now)
        for number in range(self.sequence, self.sequence + count):
            self.sent_bytes += size
            rate = self.rate(self.now - self.began)
            start = max(self.now, self.free_at)
            if not rate or start - self.now > self.queue_s or self.random.random() < self.loss:
                self.dropped += 1
                continue
            self.free_at = start + size * 8 / rate
            self.carried_bytes += size
            self.delays.append((self.now - self.began, self.free_at - self.now))
            self.arrivals[number] = self.free_at + self.delay_s + self.random.random() * self.jitter_s
        self.sequence += count

    def report(self) -> None:
        """What has arrived by now, minus the way back."""
        heard = self.now - self.delay_s
        got = [n for n, at in self.arrivals.items() if n >= self.fed and at <= heard]
        if not got:
            return
        last = max(got)
        times = [
            self.arrivals[n] + 5000.0 if n in self.arrivals and self.arrivals[n] <= heard else None
            for n in range(self.fed, last + 1)
        ]
        self.estimator.feedback(self.fed & 0xFFFF, times, self.now)
        for n in range(self.fed, last + 1):
            self.arrivals.pop(n, None)
        self.fed = last + 1
