"""Thinned pictures over a path in virtual time: when they are shown, and what is sent of them."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeagent.core.bitrate import LATE_QUEUE_S, Estimator
from edgeagent.core.fanout import Burst, Pacer, ViewerQueue
from edgeagent.core.thinning import LAST_BEFORE_S, REPLAY_STEP, Thinner

CLOCK_RATE, FPS = 90_000, 30
HOLD_S = 0.35
"""What a receiver holds back: the page asks for 0.3 s, and browsers add some of their own."""


@dataclass(eq=False)
class Frame:
    """A frame in packets of 1,000 bytes."""

    size: int
    timestamp: int
    keyframe: bool

    @property
    def count(self) -> int:
        return self.size // 1000


def source(seconds: float, gop_s: float, bps: float, keyframe: int) -> list[Frame]:
    """A camera of a constant bitrate: keyframes of one size, the others of another."""
    count = round(gop_s * FPS)
    other = max(1000, round((bps / 8 * gop_s - keyframe) / max(1, count - 1) / 1000) * 1000)
    keys = [number % count == 0 for number in range(round(seconds * FPS))]
    return [Frame(keyframe if key else other, 12_345_678 + n * CLOCK_RATE // FPS, key) for n, key in enumerate(keys)]


class Viewer:
    """A viewer behind a bottleneck that holds 300 ms; what is sent is paced at the estimate, or at `fixed_bps`."""

    def __init__(self, link_bps: float, fixed_bps: float | None = None) -> None:
        self.queue: ViewerQueue[Frame] = ViewerQueue(Pacer())
        self.estimator = Estimator()
        self.estimator.queue_limit_s = LATE_QUEUE_S
        self.link_bps, self.fixed_bps = link_bps, fixed_bps
        self.now = self.free_at = 0.0
        self.sent: list[tuple[float, int]] = []
        self.dropped = 0
        self.shown: list[tuple[float, Frame, int]] = []  # when, what, and its time stamp
        self._sequence = 0
        self._arrivals: deque[tuple[int, float | None]] = deque()
        self._way: float | None = None
        self._whole = True
        self._rate()

    def _rate(self) -> None:
        rate = self.fixed_bps or self.estimator.estimate_bps or 1e6
        self.queue.thin_bps = rate * 0.97
        self.queue.pacer.set_rate(rate)

    def watch(self, frames: list[Frame], join: int = 0) -> None:
        """See frames from the one at `join` on, with the GOP that it is in."""
        told_at = 0.0
        for place, frame in enumerate(frames):
            self.pump(place / FPS)
            if place == join:
                begun = max(number for number in range(place + 1) if frames[number].keyframe)
                self.queue.replay(frames[begun : place + 1])
            elif place > join:
                self.queue.push(frame, frame.keyframe)
            if not self.fixed_bps and self.now - told_at >= 0.1:
                told_at = self.now
                self.tell()

    def tell(self) -> None:
        heard = [each for each in self._arrivals if each[1] is None or each[1] <= self.now - 0.01]
        if heard:
            first, last = heard[0][0], heard[-1][0]
            times = dict(heard)
            self.estimator.feedback(first & 0xFFFF, [times.get(number) for number in range(first, last + 1)], self.now)
            self._arrivals = deque(each for each in self._arrivals if each[0] > last)
        self._rate()

    def pump(self, until: float) -> None:
        """Let time pass."""
        while (at := self.queue.deadline(self.now)) is not None and at <= until:
            self.now = max(self.now, at) + 1e-9
            if burst := self.queue.pop(self.now):
                self.carry(burst)
        self.now = until

    def carry(self, burst: Burst[Frame]) -> None:
        count = burst.end - burst.first
        if not self.fixed_bps:
            self.estimator.sent(self._sequence, count, 1000, self.now)
        self._whole = self._whole or burst.first == 0
        for _ in range(count):
            self.sent.append((self.now, 1000))
            start = max(self.now, self.free_at)
            if start - self.now > 0.3:
                self.dropped += 1
                self._whole = False
                self._arrivals.append((self._sequence, None))
            else:
                self.free_at = start + 8000 / self.link_bps
                self._arrivals.append((self._sequence, self.free_at + 0.01))
            self._sequence += 1
        if burst.end == burst.frame.count and self._whole:
            self.show(burst.frame, burst.timestamp)

    def show(self, frame: Frame, timestamp: int) -> None:
        """By its time stamp, `HOLD_S` behind the mean way of the latest; a picture that is late at once."""
        way = self.free_at - timestamp / CLOCK_RATE
        self._way = way if self._way is None else self._way + (way - self._way) * 0.1
        at = max(self.free_at, timestamp / CLOCK_RATE + self._way + HOLD_S)
        self.shown.append((max(at, self.shown[-1][0]) if self.shown else at, frame, timestamp))

    def longest_pause_s(self, begin_s: float) -> float:
        moments = [begin_s, *(at for at, *_ in self.shown if at > begin_s)]
        return max((later - at for at, later in itertools.pairwise(moments)), default=float("inf"))

    def most_sent(self) -> float:
        """The most that was sent within 2 s, as a multiple of what the link carries."""
        most = total = first = 0
        for at, size in self.sent:
            total += size
            while at - self.sent[first][0] > 2.0:
                total -= self.sent[first][1]
                first += 1
            most = max(most, total)
        return most * 8 / 2.0 / self.link_bps


@settings(max_examples=40)
@given(
    gop_s=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    bps=st.floats(1.5e6, 3e6),
    share=st.floats(0.35, 0.9),
    key_s=st.floats(0.05, 0.7),
    join=st.integers(0, 60),
)
def test_a_picture_is_shown_once_a_second_where_a_keyframe_takes_less(
    gop_s: float, bps: float, share: float, key_s: float, join: int
) -> None:
    link = bps * share
    keyframe = max(1000, round(link / 8 * key_s / 1000) * 1000)
    frames = source(join / FPS + 4 * gop_s + 1.0, gop_s, bps, keyframe)
    other = min(frame.size for frame in frames)
    room = link * 0.97 / 8 * gop_s - keyframe
    assume(keyframe > other and room / other >= gop_s * 2 + 1)  # two of the others a second
    viewer = Viewer(link, fixed_bps=link)
    viewer.watch(frames, join)
    pauses = [(at, later) for (at, *_), (later, *_) in itertools.pairwise(viewer.shown) if at > join / FPS + 2 * gop_s]
    assert max((later - at for at, later in pauses), default=0.0) <= 1.0
    check_stamps(viewer)


@settings(max_examples=25)
@given(
    gop_s=st.sampled_from([0.5, 1.0, 2.0, 4.0, 10.0]),
    link=st.sampled_from([3e5, 1e6]),
    keys_s=st.lists(st.floats(0.05, 6.0), min_size=1, max_size=3),
    join=st.integers(0, 60),
)
def test_keyframes_of_any_size_are_shown_and_no_more_is_taken_than_leaves(
    gop_s: float, link: float, keys_s: list[float], join: int
) -> None:
    keyframes = [max(1000, round(link / 8 * key_s / 1000) * 1000) for key_s in keys_s]
    most_s = max(keyframes) * 8 / link
    frames = source(join / FPS + 3 * (most_s + gop_s), gop_s, link, 1000)
    for number, frame in enumerate(frame for frame in frames if frame.keyframe):
        frame.size = keyframes[number % len(keyframes)]
    viewer = Viewer(link, fixed_bps=link)
    viewer.watch(frames, join)
    within_s = most_s / 0.97 + 1.5 * gop_s + HOLD_S + 0.1
    moments = [join / FPS, *(at for at, *_ in viewer.shown), len(frames) / FPS]
    assert max(later - at for at, later in itertools.pairwise(moments)) <= within_s
    viewer.pump(viewer.now + most_s + 1.5)
    assert viewer.queue.deadline(viewer.now) is None, "never more is queued than the largest and a little"


def check_stamps(viewer: Viewer) -> None:
    """Time stamps rise, none is before its picture's own, and none a GOP behind."""
    for (_, _, before), (_, frame, timestamp) in itertools.pairwise(viewer.shown):
        assert timestamp >= before + REPLAY_STEP
        assert frame.timestamp <= timestamp


@pytest.mark.parametrize("join", [0, 7, 31, 58])
@pytest.mark.parametrize("link", [0.7e6, 1e6, 1.5e6, 2.5e6])
def test_following_the_estimate_nothing_is_lost_and_pictures_come_every_second(link: float, join: int) -> None:
    viewer = Viewer(link)
    viewer.watch(source(40.0, 2.0, 3e6, 76_000), join)
    assert viewer.most_sent() <= 1.3
    keyframe_s = 76_000 * 8 / link
    assert viewer.shown[0][0] - join / FPS < 1.5 * keyframe_s + 0.5
    assert viewer.longest_pause_s(viewer.shown[0][0]) <= max(1.0, 1.6 * keyframe_s)
    assert viewer.longest_pause_s(join / FPS + 8.0) <= 1.0
    assert viewer.dropped <= 0.01 * len(viewer.sent)
    used = sum(size for at, size in viewer.sent if at > 15) * 8 / 25
    assert used >= 0.75 * min(link, 3e6)
    check_stamps(viewer)


@pytest.mark.parametrize("low", [1.5e5, 2e5])
def test_a_path_that_was_bad_for_a_while_is_used_again_though_no_keyframe_had_room_then(low: float) -> None:
    """Nothing that leaves is told of, and of what is not told the estimate never rises."""
    frames = source(60.0, 2.0, 3e6, 100_000)

    class Tunnel(Viewer):
        def tell(self) -> None:
            self.link_bps = low if 10.0 <= self.now < 25.0 else 4e6
            super().tell()

    viewer = Tunnel(4e6)
    viewer.watch(frames)
    assert viewer.estimator.estimate_bps is not None and viewer.estimator.estimate_bps > 2e6
    assert viewer.longest_pause_s(30.0) <= 1.0


@pytest.mark.parametrize(("bps", "gop_s", "keyframe"), [(8e6, 1.0, 400_000), (8e6, 2.0, 500_000)])
def test_a_camera_with_large_keyframes_is_seen_on_a_path_that_is_not_known_yet(bps: float, gop_s: float, keyframe: int) -> None:
    viewer = Viewer(1e9)
    viewer.estimator = Estimator(1e6)
    viewer.estimator.queue_limit_s = LATE_QUEUE_S
    viewer._rate()
    viewer.watch(source(6.0, gop_s, bps, keyframe), 7)
    assert viewer.shown and viewer.shown[0][0] - 7 / FPS < keyframe * 8 / 1e6


def test_after_a_moment_of_standstill_the_path_is_soon_used_again() -> None:
    """A computer that does nothing for a moment looks like a queue, and several of them like a path that lies."""
    frames = source(40.0, 2.0, 3e6, 76_000)
    halts = {round(at * FPS) for at in (10.0, 11.5, 13.0)}

    class Halting(Viewer):
        def tell(self) -> None:
            place = round(self.now * FPS)
            if any(halt <= place < halt + 12 for halt in halts):
                self.free_at = max(self.free_at, self.now + 0.25)
            super().tell()

    viewer = Halting(1e6)
    viewer.watch(frames)
    assert viewer.most_sent() <= 1.3
    used = sum(size for at, size in viewer.sent if 17 < at < 25) * 8 / 8
    assert used >= 0.85e6
    assert viewer.longest_pause_s(18.0) <= 1.0


def test_what_fits_is_spread_up_to_shortly_before_the_next_keyframe() -> None:
    thinner = Thinner()
    assert thinner.keyframe(50_000, 90_000, 400_000)  # 100 kB in 2 s
    taken = [thinner.other(10_000) for _ in range(7)]
    assert taken == [True] * 5 + [False] * 2
    stamps = [thinner.stamp_keyframe(90_000, 90_000)]
    stamps += [thinner.stamp(90_000 + 3000 * n, 5 - n, more=False) for n in range(1, 6)]
    step_s = (2.0 - LAST_BEFORE_S) / 5
    assert stamps == pytest.approx([90_000 * (1 + n * step_s) for n in range(6)], abs=10)


def test_where_more_may_come_the_rest_of_the_room_tells_how_many() -> None:
    thinner = Thinner()
    thinner.keyframe(50_000, 90_000, 400_000)
    thinner.other(10_000)
    thinner.stamp_keyframe(90_000, 90_000)
    step_s = (2.0 - LAST_BEFORE_S) / 5
    assert thinner.stamp(93_000, 0, more=True) == pytest.approx(90_000 * (1 + step_s), abs=10)


def test_where_nearly_all_fit_they_keep_their_own_time() -> None:
    thinner = Thinner()
    thinner.keyframe(5_000, 90_000, 400_000)
    thinner.stamp_keyframe(90_000, 90_000)
    for number in range(1, 58):
        assert thinner.other(1_600)
        assert thinner.stamp(90_000 + 3000 * number, 0, more=True) == 90_000 + 3000 * number


def test_a_newcomer_gets_the_keyframe_that_was_unless_the_next_is_sooner() -> None:
    thinner = Thinner()
    assert thinner.join(100_000, 90_000, 90_000 + 45_000, 400_000)  # 75 kB until the next, and half of that one's 100 kB
    assert [thinner.other(500) for _ in range(3)] == [True, True, False]
    assert thinner.keyframe(70_000, 90_000 + 180_000, 400_000)
    assert thinner.credit == pytest.approx(4_000)
    shown = [
        thinner.stamp_keyframe(90_000, 90_000 + 170_000),
        *(thinner.stamp(90_000 + 3000 * n, 2 - n, more=False) for n in (1, 2)),
    ]
    shown += [thinner.stamp_keyframe(90_000 + 180_000, 90_000 + 180_000)]
    assert [at - shown[0] for at in shown] == [0, 22_500, 45_000, 45_000 + REPLAY_STEP]
    late = Thinner()
    assert not late.join(100_000, 90_000, 90_000 + 170_000, 400_000)
    assert late.keyframe(100_000, 90_000 + 180_000, 400_000)


def test_a_keyframe_that_comes_early_is_not_shown_before_what_went_before() -> None:
    thinner = Thinner()
    thinner.keyframe(10_000, 90_000, 100_000)
    thinner.stamp_keyframe(90_000, 90_000)
    thinner.other(5_000)
    last = thinner.stamp(93_000, 0, more=False)
    thinner.keyframe(10_000, 99_000, 100_000)
    assert thinner.gop_s == pytest.approx(0.1)
    assert thinner.stamp_keyframe(99_000, 99_000) == last + REPLAY_STEP
