"""A path in virtual time: a bottleneck with a queue and loss, and a receiver that tells what arrives in one of several ways."""

from __future__ import annotations

__all__ = ["Path"]

import random
from collections.abc import Callable
from typing import Literal

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
        tells: What the receiver gives: transport-wide feedback and reports, REMB and reports, or reports alone.
        deaf: Whether what the receiver tells is lost on the way back, at a time in s.
        clock: The receiver's clock in s at a time in s, both from the beginning.

    Attributes:
        sent, carried: Time in s and size in bytes of each packet, when it left and when it was through the bottleneck.
        delays: Time in s and how long the packet stood before the bottleneck, its own sending counted.
        history: Time in s and the estimate in bit/s, once a frame.
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
        tells: Literal["feedback", "remb", "reports"] = "feedback",
        deaf: Callable[[float], bool] = lambda at: False,
        clock: Callable[[float], float] = lambda at: at + 5000.0,
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
        self.tells, self.deaf, self.clock = tells, deaf, clock
        self.sent: list[tuple[float, int]] = []
        self.carried: list[tuple[float, int]] = []
        self._credit = 0.0
        self._counted = (0, 0)
        self.now = 100.0
        self.began = self._told_at = self.now
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
            self._credit += min(self.wanted, estimate * 0.9) / 30 / 8 / 1200
            count = int(self._credit)
            self._credit -= count
            if count:
                self.burst(count)
            if self.estimator.probe_due(self.wanted * 1.1, self.now):
                self.burst(6)
            frame += 1
            self.now += 1 / 30
            if self.tells == "feedback" and frame % 3 == 0:
                self.report()
            if self.now - self._told_at >= 1.0:
                self.tell()
            self.history.append((self.now - self.began, self.estimator.estimate_bps or 0.0))

    def burst(self, count: int) -> None:
        size = 1200
        self.estimator.sent(self.sequence, count, size, self.now)
        for number in range(self.sequence, self.sequence + count):
            self.sent_bytes += size
            self.sent.append((self.now - self.began, size))
            rate = self.rate(self.now - self.began)
            start = max(self.now, self.free_at)
            if not rate or start - self.now > self.queue_s or self.random.random() < self.loss:
                self.dropped += 1
                continue
            self.free_at = start + size * 8 / rate
            self.carried_bytes += size
            self.carried.append((self.free_at - self.began, size))
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
        if self.deaf(self.now - self.began):
            self._forget(last)
            return
        times = [
            self.clock(self.arrivals[n] - self.began) if n in self.arrivals and self.arrivals[n] <= heard else None
            for n in range(self.fed, last + 1)
        ]
        self.estimator.feedback(self.fed & 0xFFFF, times, self.now)
        self._forget(last)

    def _forget(self, last: int) -> None:
        for n in range(self.fed, last + 1):
            self.arrivals.pop(n, None)
        self.fed = last + 1

    def tell(self) -> None:
        """Once a second: silence is noticed; a receiver report, and REMB a little above what arrives where that is given."""
        passed, self._told_at = self.now - self._told_at, self.now
        sent, lost = len(self.sent) - self._counted[0], self.dropped - self._counted[1]
        self._counted = len(self.sent), self.dropped
        if sent:
            self.estimator.silence(self.now)
        if self.deaf(self.now - self.began):
            return
        standing = max(0.0, self.free_at - self.now)
        fraction = min(1.0, lost / sent) if sent else 0.0
        self.estimator.report(fraction, 2 * self.delay_s + standing, self.now)
        if self.tells == "remb":
            arrived = (sent - lost) * 1200 * 8 / passed
            self.estimator.remb(arrived * (0.85 if standing > 0.1 or fraction > 0.1 else 1.15), self.now)
        elif self.tells == "reports" and fraction > 0.1:
            self.estimator.complain(sent * 1200 * 8 / passed, self.now)

    def sent_bps(self, begin: float, end: float) -> float:
        """Mean rate sent between two times in s."""
        return _rate(self.sent, begin, end)

    def carried_bps(self, begin: float, end: float) -> float:
        """Mean rate that came through the bottleneck between two times in s."""
        return _rate(self.carried, begin, end)

    def queue_p95_s(self, begin: float, end: float) -> float:
        """The 95th percentile of `delays` between two times in s."""
        delays = sorted(delay for at, delay in self.delays if begin <= at < end)
        return delays[int(len(delays) * 0.95)]


def _rate(packets: list[tuple[float, int]], begin: float, end: float) -> float:
    return sum(size for at, size in packets if begin <= at < end) * 8 / (end - begin)
