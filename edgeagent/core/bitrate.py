"""What one viewer's path carries: an estimate in bit/s from what the receiver reports. Sans-IO; time in seconds is an argument.

Where the receiver gives transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01), three facts are taken from
the arrival times: how much is delivered, how long a queue stands before the bottleneck (the first packet of a burst tells, against
the least delay seen), and how fast the bottleneck is (packets that left together arrive spread out at its rate). With REMB
(draft-alvestrand-rmcat-remb-03) the receiver's own estimate is followed; with receiver reports alone, loss and round trip.

event                               estimate
queue above `QUEUE_S`               0.85 of what is delivered, less what drains the queue; then held until that can show; nothing
                                    where bursts show that it is the way which has become longer
loss above 20 %                     less by half of the share lost, once a second; less loss may be the air's, and is repaired
queue below half of it              towards 0.9 of the bottleneck's rate within half a second where bursts show it, else 30 %;
                                    8 % beyond, 4 % near what got through when a queue last stood; what is above twice what was
                                    sent and arrives is reached by bursts alone, and at most doubled in 0.4 s; where pictures are
                                    late anyway, never above 1.05 of what bursts show
a rise that soon ended in a queue   that bottleneck's rate is doubted for 2, 4, 8 … 30 s: the rise is 8 % a second meanwhile; not
                                    where pictures are late anyway
no feedback for a second            halved each second
"""

from __future__ import annotations

__all__ = [
    "LATE_QUEUE_S",
    "LAYERED_START_BPS",
    "MIN_BPS",
    "QUEUE_S",
    "START_BPS",
    "Estimator",
    "NetworkMemory",
    "RepairBudget",
    "near_start_bps",
]

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from itertools import takewhile
from typing import NamedTuple

START_BPS = 1_000_000.0
"""Where nothing is known of a path."""
LAYERED_START_BPS = 600_000.0
"""The same for a camera with a small layer, which shows well with less; what bursts show makes up for it within a second."""
NEAR_START_BPS = 20e6
"""On a path through the same house: there the picture begins at its best."""
NEAR_S, SAME_MACHINE_S = 0.008, 0.05
"""Round trips so short that the path is a local one; within one machine a busy processor takes the most of them."""
MIN_BPS, MAX_BPS = 60_000.0, 100e6
QUEUE_S = 0.035
"""A queue that stands longer than this is ours to drain, where pictures are live."""
LATE_QUEUE_S = 0.12
"""The same where they are thinned out of what cannot be changed, and late by the size of its keyframes."""
SAMPLE_PACKETS = 4
"""Packets of one burst that tell the bottleneck's rate."""

_BACK_TO = 0.85
_OF_CAPACITY = 0.9
_LATE_BACK_TO, _LATE_RISE, _LATE_SURE = 0.5, 1.3, 4  # one side that stood still for a moment looks like a path that has none left
_LATE_OF_CAPACITY, _LATE_SAMPLES = 1.05, 2  # what is thinned out is sent all the time: more fills the queue before that is told
_SHOWN_RISE = 2.0  # a second, where bursts show that more is carried than is sent
_QUEUE_WINDOW_S = 0.25
_WANDER_S = 0.15
_RATE_WINDOW_S = 0.5
_BASE_WINDOW_S = 10.0
_SAMPLE_S = 3.0  # how long a sample of the bottleneck's rate counts
_LEAST_SPREAD_S = 0.0005  # arrival times are told in quarters of a millisecond
_PROBE_S = 1.5
_CEILING_S = 15.0
_FRESH_FEEDBACK_S = 3.0


class _Burst(NamedTuple):
    sequence: int
    packets: int
    size: int
    at: float


class Estimator:
    """The estimate of one transport.

    Args:
        start_bps: To begin with; None where the receiver gives no feedback but reports: nothing is limited until one complains.
    """

    def __init__(self, start_bps: float | None = START_BPS) -> None:
        self._rate = self._heard_bps = start_bps
        self.queue_limit_s = QUEUE_S
        """A queue that stands longer is drained; more where the picture is late anyway: some queue makes the most of a path."""
        self.loss = 0.0
        """Share of the packets that did not arrive, 0 to 1, lately."""
        self.queue_s = 0.0
        """How long packets stand before the bottleneck."""
        self.rtt_s: float | None = None
        self.delivered_bps = 0.0
        self._bursts: deque[_Burst] = deque()
        self._next = 0
        self._delays: deque[tuple[float, float]] = deque()
        self._base = (float("inf"), float("inf"))
        self._base_at = float("-inf")
        self._arrived: deque[tuple[float, int]] = deque(maxlen=256)
        self._outcomes: deque[tuple[float, int, int]] = deque()
        self._samples: deque[tuple[float, float, int]] = deque()  # when, bit/s, packets
        self._clock: float | None = None
        self._began: float | None = None
        self._last_feedback = self._last_cut = self._last_rise = self._last_probe = self._halved_at = float("-inf")
        self._cut_queue_s = 0.0
        self._stubborn = 0  # cuts in a row after which the queue was as long as before
        self._ceiling_bps = MAX_BPS  # what got through when a queue last stood: above 0.9 of it, rise with care
        self._probe_s = _PROBE_S
        self._doubt_until = float("-inf")
        self._doubt_s = 2.0
        self._remb_at = float("-inf")

    @property
    def estimate_bps(self) -> float | None:
        """What the path carries, all packets counted; None while nothing limits it."""
        return self._rate

    @property
    def heard_bps(self) -> float | None:
        """The estimate when feedback last came: that it was halved since tells nothing of the path."""
        return self._heard_bps if self._halved_at > self._last_feedback else self._rate

    def bounded(self, now: float) -> bool:
        """Whether a queue, or loss, has shown lately where the path ends; else the estimate tells no more than what was tried."""
        return now - self._last_cut <= _CEILING_S

    @property
    def heard(self) -> bool:
        """Whether the receiver has told anything that the estimate rests on."""
        return self._began is not None or self._remb_at > 0

    @property
    def capacity_bps(self) -> float | None:
        """The bottleneck's rate as bursts show it; None where none did lately.

        Low among the samples: a receiver that was held up takes packets from its socket faster than they came.
        """
        rates = sorted(rate for _, rate, _ in self._samples)
        return rates[(len(rates) - 1) // 3] if rates else None

    def sent(self, sequence: int, count: int, size: int, now: float) -> None:
        """`count` packets of `size` bytes left together; `sequence` is the first one's transport-wide number, not wrapped."""
        self._bursts.append(_Burst(sequence, count, size, now))
        self._next = sequence + count
        while len(self._bursts) > 1 and now - self._bursts[0].at > 3.0:
            self._bursts.popleft()

    def feedback(self, base: int, arrivals: Sequence[float | None], now: float) -> None:
        """Take transport-wide feedback: when packets from `base` (16 bits) on arrived by the receiver's clock, None for lost."""
        if self._rate is None:
            self._rate = START_BPS
        interval = min(0.25, now - self._last_feedback)
        self._last_feedback = now
        first = self._next + ((base - self._next + 0x8000) & 0xFFFF) - 0x8000
        end = first + len(arrivals)
        received = lost = 0
        told = list(takewhile(lambda burst: burst.sequence + burst.packets > first, reversed(self._bursts)))
        for burst in reversed(told):
            low, high = max(burst.sequence, first), min(burst.sequence + burst.packets, end)
            if low >= high:
                break
            times = [t for t in arrivals[low - first : high - first] if t is not None]
            received += len(times)
            lost += high - low - len(times)
            if times:
                self._arrival(burst, times, whole=low == burst.sequence, now=now)
        self._outcomes.append((now, received, lost))
        while now - self._outcomes[0][0] > 1.0:
            self._outcomes.popleft()
        total = sum(r + missed for _, r, missed in self._outcomes)
        self.loss = sum(missed for _, _, missed in self._outcomes) / total if total else 0.0
        self._measure(now)
        self._decide(now, interval)

    def _arrival(self, burst: _Burst, times: list[float], *, whole: bool, now: float) -> None:
        """Of one burst: its delay, what arrived, and the bottleneck's rate where enough packets tell."""
        first, last = min(times), max(times)
        if self._clock is not None and abs(first - self._clock) > 30.0:  # the receiver's clock was set, or it is another one
            self._base, self._base_at = (float("inf"), float("inf")), float("-inf")
            self._arrived.clear()
            self._delays.clear()
        self._clock = max(last, self._clock or last) if self._arrived else last
        self._arrived.append((last, burst.size * len(times)))
        if whole:
            delay = first - burst.at
            if now - self._base_at > _BASE_WINDOW_S:
                self._base, self._base_at = (self._base[1], float("inf")), now
            self._base = (self._base[0], min(self._base[1], delay))
            self._delays.append((now, delay))
        if len(times) >= SAMPLE_PACKETS:
            spread = max(last - first, _LEAST_SPREAD_S)
            self._samples.append((now, burst.size * (len(times) - 1) * 8 / spread, len(times)))

    def _measure(self, now: float) -> None:
        while self._delays and now - self._delays[0][0] > _QUEUE_WINDOW_S:
            self._delays.popleft()
        self.queue_s = max(0.0, min(d for _, d in self._delays) - min(self._base)) if self._delays else 0.0
        while self._samples and (now - self._samples[0][0] > _SAMPLE_S or len(self._samples) > 9):
            self._samples.popleft()
        if not self._arrived:
            return
        newest = self._arrived[-1][0]
        while newest - self._arrived[0][0] > _RATE_WINDOW_S:
            self._arrived.popleft()
        span = max(newest - self._arrived[0][0], 0.1)
        self.delivered_bps = sum(size for _, size in list(self._arrived)[1:]) * 8 / span if len(self._arrived) > 1 else 0.0

    def _decide(self, now: float, interval: float) -> None:
        assert self._rate is not None
        if self._began is None:
            self._began = now
        held = now - self._last_cut < 0.2 + self.queue_s + (self.rtt_s or 0.0)
        if self.queue_s > self.queue_limit_s and not self._wanders(now):
            # A queue that shrinks is being drained already.
            if not held and (self.queue_s > self._cut_queue_s * 0.8 or now - self._last_cut > 1.0):
                self._cut(now)
        elif self.loss > 0.2:
            if now - self._last_cut > 1.0:
                self._rate = self._clamp(self._rate * (1 - self.loss / 2))
                self._last_cut, self._cut_queue_s = now, 0.0
        elif self.queue_s < self.queue_limit_s / 2 and not held:
            self._rise(now, interval)
        if self._late and len(self._samples) >= _LATE_SAMPLES:
            self._rate = self._clamp(min(self._rate, self._median_bps * _LATE_OF_CAPACITY))

    def _wanders(self, now: float) -> bool:
        """Whether the way itself has become longer: bursts pass the bottleneck at twice what is sent, and nothing is lost."""
        capacity = self.capacity_bps
        easy = capacity is not None and self._sure and self._through_bps(now) < capacity / 2
        return easy and self.loss <= 0.02 and self.queue_s < _WANDER_S

    @property
    def _late(self) -> bool:
        """Whether pictures are thinned out: bursts leave all the time then, and tell of the bottleneck."""
        return self.queue_limit_s > QUEUE_S

    @property
    def _median_bps(self) -> float:
        return sorted(rate for _, rate, _ in self._samples)[len(self._samples) // 2]

    @property
    def _sure(self) -> bool:
        """Whether more than one burst tells the bottleneck's rate."""
        return sum(packets for *_, packets in self._samples) > SAMPLE_PACKETS

    def _through_bps(self, now: float) -> float:
        """What gets through: a receiver that was held up takes a second's packets from its socket at once."""
        sent = 0
        for burst in reversed(self._bursts):
            if now - burst.at > _RATE_WINDOW_S:
                break
            sent += burst.size * burst.packets
        return min(self.delivered_bps, sent * 8 / _RATE_WINDOW_S)

    def _cut(self, now: float) -> None:
        """A queue stands: fall below what gets through, so that it drains."""
        assert self._rate is not None
        alike = now - self._last_cut < 2.0 and 0.85 < self.queue_s / max(0.001, self._cut_queue_s) < 1.15 and self.loss < 0.02
        self._stubborn = self._stubborn + 1 if alike else 0
        if self._stubborn >= 2:  # less is sent, and the delay stays: the way has become longer, or a clock was set
            self._base, self._base_at, self._stubborn = (min(d for _, d in self._delays), float("inf")), now, 0
            return
        drain = 1 - min(0.4, (self.queue_s - self.queue_limit_s) * 1.5)
        target = self.delivered_bps * _BACK_TO * drain
        if self.queue_s < 0.15 and self.loss < 0.02:
            target = max(target, self._rate * 0.7)  # a short queue may be one large picture
        if self._late and len(self._samples) >= _LATE_SAMPLES:
            target = max(target, self._median_bps * _LATE_BACK_TO)
        if now - self._last_rise < 2.0:
            self._doubt_until, self._doubt_s = now + self._doubt_s, min(30.0, self._doubt_s * 2)
        self._samples.clear()
        self._last_cut, self._cut_queue_s = now, self.queue_s
        self._ceiling_bps = self.delivered_bps
        self._rate = self._clamp(min(self._rate, target))

    def _rise(self, now: float, interval: float) -> None:
        assert self._rate is not None
        capacity = self.capacity_bps
        late = self._late
        bound = max(
            self._rate, (_LATE_RISE if late else 2) * self._through_bps(now) + 100_000
        )  # whatever bursts show, it must be seen to get through
        if now - self._last_cut > _CEILING_S or (capacity is not None and self._sure and capacity > 1.5 * self._ceiling_bps):
            self._ceiling_bps = MAX_BPS
        near = self._rate > _OF_CAPACITY * self._ceiling_bps
        if capacity is None or (len(self._samples) < _LATE_SURE if late else now < self._doubt_until):
            rise = 0.04 if near else 0.08 if now < self._doubt_until else 0.3
            self._rate = self._clamp(min(self._rate * (1 + rise * interval), bound))
            return
        goal = capacity * _OF_CAPACITY
        if goal > self._rate and not near:
            self._probe_s = _PROBE_S
            if goal > self._rate * 1.3:
                self._last_rise = now
            if not late:  # what is sent may be a layer that cannot grow: the next one needs more than that shows
                bound = max(bound, self._rate * (1 + _SHOWN_RISE * interval))
            self._rate = self._clamp(min(bound, self._rate + (goal - self._rate) * min(1.0, interval * 4)))
        else:
            self._rate = self._clamp(min(self._rate * (1 + (0.04 if near else 0.08) * interval), bound))
        if now - self._last_cut > 20.0:
            self._doubt_s = 2.0

    def _clamp(self, bps: float) -> float:
        return min(MAX_BPS, max(MIN_BPS, bps))

    def probe_due(self, wanted_bps: float, now: float) -> bool:
        """Whether to send a burst of old packets now, to learn the bottleneck's rate; then it counts as sent.

        Only where more could be used than the path is thought to carry, and no frame is large enough to tell.
        """
        if self._rate is None or self._rate >= wanted_bps or now - self._last_feedback > 0.5:
            return False
        if self.queue_s > self.queue_limit_s / 2 or now - self._last_cut < _PROBE_S or now < self._doubt_until or self.loss > 0.2:
            return False
        if now - self._last_probe < self._probe_s and self._last_probe > 0:
            return False
        self._last_probe, self._probe_s = now, min(2 * _PROBE_S, self._probe_s * 1.4)
        return True

    def remb(self, bps: float, now: float) -> None:
        """The receiver's own estimate; used where it gives no transport-wide feedback."""
        self._remb_at = now
        if now - self._last_feedback > _FRESH_FEEDBACK_S:
            self._rate = self._clamp(bps)

    def report(self, fraction_lost: float, rtt_s: float | None, now: float) -> None:
        """A receiver report: the only thing to go by where neither feedback nor REMB comes."""
        if rtt_s is not None:
            self.rtt_s = rtt_s
        if now - self._last_feedback < _FRESH_FEEDBACK_S:
            return
        self.loss = fraction_lost
        if not self.heard and fraction_lost < 0.02 and self._last_cut < 0:
            self._rate = None  # it was asked for feedback and gives none
        if fraction_lost > 0.1 and now - self._last_cut > 1.0 and self._rate is not None:
            self._rate, self._last_cut = self._clamp(self._rate * (1 - fraction_lost / 2)), now
        elif fraction_lost < 0.02 and self._rate is not None and now - self._remb_at > _FRESH_FEEDBACK_S:
            self._rate = self._clamp(self._rate * 1.08)

    def complain(self, sent_bps: float, now: float) -> None:
        """A receiver that gives reports only lost much: begin to limit, at a share of what is sent."""
        if self._rate is None:
            self._rate, self._last_cut = self._clamp(sent_bps * 0.7), now

    def silence(self, now: float) -> None:
        """Time passes while packets are sent: feedback that has stopped means that nothing comes back, or through."""
        last = max(self._last_feedback, self._halved_at)
        if self._rate is not None and self._last_feedback > 0 and now - last > 1.0:
            self._heard_bps, self._halved_at = self.heard_bps, now
            self._rate = self._clamp(self._rate / 2)


class RepairBudget:
    """How much may be sent again: a share of the estimate, as a token bucket.

    Args:
        share: Of the estimate, 0 to 1.
        burst_s: What may be saved up, in seconds of the share.
    """

    def __init__(self, share: float = 0.25, burst_s: float = 0.5) -> None:
        self.share, self.burst_s = share, burst_s
        self._tokens = 8_000.0
        self._at = 0.0

    def allows(self, size: int, estimate_bps: float, now: float) -> bool:
        """Whether `size` bytes may be sent again now; they are then counted."""
        rate = estimate_bps * self.share / 8
        self._tokens = min(max(8_000.0, rate * self.burst_s), self._tokens + max(0.0, now - self._at) * rate)
        self._at = now
        if self._tokens < size:
            return False
        self._tokens -= size
        return True


def near_start_bps(rtt_s: float, *, same_machine: bool) -> float | None:
    """Where to begin on a path that must be a local one, in bit/s; None where it may be any.

    Args:
        rtt_s: The shortest round trip seen.
        same_machine: Both ends have one address. That alone proves nothing: a TURN server may stand on this machine.
    """
    return NEAR_START_BPS if rtt_s < (SAME_MACHINE_S if same_machine else NEAR_S) else None


class NetworkMemory:
    """What each viewer's network carried last time, so that the next picture begins there.

    Args:
        size: Networks remembered; the one longest unseen is forgotten first.
        max_age_s: How long it counts.
    """

    def __init__(self, size: int = 256, max_age_s: float = 6 * 3600.0) -> None:
        self._size, self._max_age_s = size, max_age_s
        self._known: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def remember(self, network: Hashable, bps: float, now: float, *, bounded: bool = True) -> None:
        """What it carried, in bit/s; where nothing bounded it, a viewer who looked for a moment makes it no slower than it was."""
        known, at = self._known.pop(network, (0.0, float("-inf")))
        if not bounded and now - at < self._max_age_s:
            bps = max(bps, known)
        self._known[network] = (bps, now)
        while len(self._known) > self._size:
            self._known.popitem(last=False)

    def start_bps(self, network: Hashable, now: float) -> float | None:
        """Where to begin: a little below what it carried; None where that is not known."""
        bps, at = self._known.get(network, (0.0, float("-inf")))
        return max(MIN_BPS, bps * 0.8) if now - at < self._max_age_s else None
