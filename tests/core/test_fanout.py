from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.fanout import MIN_BURST, KeyframeGate, Pacer, ViewerQueue
from edgeagent.core.thinning import REPLAY_STEP


@dataclass(eq=False)
class Frame:
    """A frame of `count` packets of 1,000 bytes."""

    count: int
    timestamp: int = 0
    keyframe: bool = False

    @property
    def size(self) -> int:
        return self.count * 1000


def drain(queue: ViewerQueue[Frame], now: float) -> list[tuple[Frame, int, int, int]]:
    out = []
    while (burst := queue.pop(now)) is not None:
        out.append((burst.frame, burst.first, burst.end, burst.timestamp))
    return out


def test_a_newcomer_waits_for_a_keyframe() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer())
    assert not queue.push(Frame(3), keyframe=False)
    assert drain(queue, 0.0) == []
    key = Frame(3, keyframe=True)
    queue.push(key, keyframe=True)
    assert drain(queue, 0.0) == [(key, 0, 3, 0)]
    assert queue.dropped == 1


def test_a_large_frame_leaves_in_bursts_at_the_pacers_rate() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e6, depth=10_000))
    frame = Frame(100)
    queue.push(frame, keyframe=True)
    now, sent, times = 0.0, 0, []
    while sent < 100:
        burst = queue.pop(now)
        if burst is None:
            deadline = queue.deadline(now)
            assert deadline is not None and deadline > now
            now = deadline + 1e-9
        else:
            assert burst.first == sent
            sent = burst.end
            times.append(now)
    assert times[0] == 0.0
    assert 0.08 < times[-1] < 0.1  # 96 packets of 1 kB less the depth of 10 kB at 1 MB/s


def test_replay_draws_the_gop_together_and_keeps_the_newest_time() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=1e9))
    gop = [Frame(2, timestamp=90_000 + i * 3000) for i in range(10)]
    queue.replay(gop)
    live = Frame(1, timestamp=90_000 + 30_000)
    queue.push(live, keyframe=False)
    times = [burst[3] for burst in drain(queue, 0.0)]
    assert times[-1] == live.timestamp
    assert times[-2] == gop[-1].timestamp
    assert all(b - a == REPLAY_STEP for a, b in itertools.pairwise(times[:-1]))


def test_a_gop_that_the_path_cannot_carry_in_a_second_is_not_replayed() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=1e6))
    assert not queue.replay([Frame(10, timestamp=n * 3000) for n in range(20)])
    assert queue.waiting and queue.pop(0.0) is None
    assert queue.replay([Frame(10, timestamp=n * 3000) for n in range(12)])


def test_a_long_gop_is_shown_as_fast_as_it_leaves_until_the_live_picture_is_reached() -> None:
    gop = [Frame(10, timestamp=n * 3000) for n in range(240)]  # eight seconds
    stream_bps = sum(frame.size for frame in gop) / 8 * 8
    too_slow = Pacer(rate_bps=1.4 * stream_bps)  # it would hardly catch up if the estimate is right, and never if it is too high
    assert not ViewerQueue[Frame](too_slow).replay(gop)
    pacer = Pacer(rate_bps=1.6 * stream_bps)
    pacer.set_rate(pacer.rate_bps)
    queue: ViewerQueue[Frame] = ViewerQueue(pacer)
    assert queue.replay(gop)
    shown: list[tuple[float, int]] = []  # when, and what: the media time
    now, number = 0.0, 240
    while now < 30.0:
        while now + 8.0 >= number / 30:
            assert not queue.push(Frame(10, timestamp=number * 3000), keyframe=False)
            number += 1
        while burst := queue.pop(now):
            shown.append((now, burst.timestamp))
        now += 0.005
    assert all(later > earlier for (_, earlier), (_, later) in itertools.pairwise(shown[::10]))
    assert shown[0][0] == 0.0 and max(b - a for (a, _), (b, _) in itertools.pairwise(shown)) < 0.2  # at once, and never stuck
    assert not queue.waiting and queue.skips == 0
    caught_up = next(at for at, time in shown if time > (8.0 + at - 0.1) * 90_000)
    assert caught_up < 20.0


def test_a_long_replay_jumps_to_a_keyframe_that_comes_meanwhile() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=4e6))
    assert queue.replay([Frame(10, timestamp=n * 3000) for n in range(240)])
    now = 0.0
    for number in range(240, 300):
        now += 1 / 30
        keyframe = number == 299
        assert not queue.push(Frame(10, timestamp=number * 3000), keyframe)
        times = [burst[3] for burst in drain(queue, now)]
    assert times[-1] == 299 * 3000, "live two seconds behind the join"
    assert queue.skips == 1


def test_a_full_queue_skips_to_the_next_keyframe_and_asks_for_it() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e3, depth=1), max_delay_s=0.1, min_bytes=20_000)
    queue.push(Frame(5), keyframe=True)
    assert queue.pop(0.0) is not None
    wanted = [queue.push(Frame(5), keyframe=False) for _ in range(10)]
    assert wanted.count(True) == 1
    assert queue.waiting
    assert queue.skips == 1
    queue.push(Frame(1), keyframe=True)
    assert not queue.waiting


def test_a_frame_half_sent_is_finished_after_a_skip() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e3, depth=50_000), max_delay_s=0.1, min_bytes=20_000)
    big = Frame(60)
    queue.push(big, keyframe=True)
    first = queue.pop(0.0)
    assert first is not None and first.end == 48
    for _ in range(5):
        queue.push(Frame(10), keyframe=False)
    later = queue.pop(1000.0)
    assert later is not None and (later.frame, later.first, later.end) == (big, 48, 60)


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "key", "straight", "pop", "replay", "reset", "wait"]), st.integers(1, 120)),
        min_size=1,
        max_size=80,
    ),
    st.floats(1e4, 1e8),
)
def test_whatever_happens_packets_are_in_order_bounded_and_begin_with_a_keyframe(steps: list[tuple[str, int]], rate: float) -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=rate))
    now, time = 0.0, 0
    open_frame: tuple[Frame, int] | None = None
    fresh = True
    for step, size in steps:
        time += 3000
        if step in ("push", "key"):
            queue.push(Frame(size, time, step == "key"), keyframe=step == "key")
        elif step == "straight":
            small = Frame(size, time)
            empty = queue.deadline(now) is None
            if queue.straight(small, now):
                assert empty and not queue.waiting and size <= 48
                open_frame = (small, size)
        elif step == "replay":
            queue.replay([Frame(size, time - 3000, True), Frame(1, time)])
            open_frame, fresh = None, True
        elif step == "reset":
            queue.reset()
            open_frame, fresh = None, True
        elif step == "wait":
            now += size / 100
        else:
            burst = queue.pop(now)
            if burst is None:
                continue
            assert 0 <= burst.first < burst.end <= burst.frame.count
            if fresh and burst.first == 0:
                assert burst.frame.keyframe
                fresh = False
            if open_frame is not None and burst.frame is open_frame[0]:
                assert burst.first == open_frame[1]
            else:
                assert burst.first == 0
            open_frame = (burst.frame, burst.end)
        limit = max(queue.min_bytes, rate / 8 * queue.max_delay_s)
        assert queue._bytes <= limit + 2 * 240_000


def test_a_frame_of_one_burst_leaves_straight_away_when_nothing_waits() -> None:
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e6, depth=48_000))
    assert not queue.straight(Frame(3), 0.0)  # a newcomer waits for a keyframe
    queue.push(Frame(1, keyframe=True), keyframe=True)
    assert not queue.straight(Frame(3), 0.0)  # behind what is queued
    drain(queue, 0.0)
    assert queue.straight(Frame(30), 0.0)
    assert not queue.straight(Frame(49), 1.0)
    assert queue.straight(Frame(48), 1.0)
    assert queue.straight(Frame(1), 1.0)  # the bucket is even: one more may run into debt
    assert not queue.straight(Frame(1), 1.0)


def test_keyframe_requests_are_coalesced_and_none_is_lost() -> None:
    gate = KeyframeGate(0.5)
    assert gate.request(10.0) == 10.0
    assert gate.due(10.0)
    assert gate.request(10.1) == 10.5
    assert gate.request(10.2) == 10.5
    assert not gate.due(10.4)
    assert gate.due(10.5)
    assert not gate.due(11.5)
    gate.request(12.0)
    gate.seen(12.0)
    assert not gate.due(12.0)


def test_a_changed_pace_changes_what_may_leave_together() -> None:
    pacer = Pacer()
    pacer.set_rate(1e6)
    assert pacer.depth == MIN_BURST
    pacer.spent(MIN_BURST + 1_250)
    assert pacer.ready_at(0.0) == 0.01  # the debt of 1,250 bytes at 125,000 a second
    pacer.set_rate(8e6)
    assert pacer.depth == 40_000
    assert pacer.ready_at(0.0) == 0.00125
    pacer.set_rate(1e9)
    assert pacer.depth == 60_000
    assert pacer.ready_at(0.0) <= 0.0001  # a new pace is no new credit


@given(st.lists(st.tuples(st.floats(6e4, 1e8), st.integers(0, 60_000), st.floats(0, 1)), min_size=1, max_size=40))
def test_no_change_of_pace_lets_more_leave_than_the_fastest(changes: list[tuple[float, int, float]]) -> None:
    pacer, now, sent = Pacer(_at=100.0), 100.0, 0
    for rate, size, wait in changes:
        pacer.set_rate(rate)
        if pacer.ready_at(now) <= now:
            pacer.spent(size)
            sent += size
        now += wait
    assert sent <= 60_000 + max(rate for rate, _, _ in changes) / 8 * (now - 100.0) + 60_000


def play(queue: ViewerQueue[Frame], frames: list[Frame], now: float, step_s: float) -> list[Frame]:
    """Push frames at a steady rate as a sender does, and return those that began to leave."""
    left: list[Frame] = []
    for frame in frames:
        if queue.straight(frame, now):
            left.append(frame)
        else:
            queue.push(frame, frame.keyframe)
        left += [burst[0] for burst in drain(queue, now) if burst[1] == 0]
        now += step_s
    return left


gops = st.lists(st.tuples(st.integers(3, 60), st.integers(3, 40), st.integers(1, 12)), min_size=1, max_size=12)


def source(shape: list[tuple[int, int, int]]) -> list[Frame]:
    """GOPs of frames at 30 a second: how many, packets of the keyframe, packets of the others."""
    sizes = [(key if n == 0 else other, n == 0) for count, key, other in shape for n in range(count)]
    return [Frame(size, 90_000 + n * 3000, key) for n, (size, key) in enumerate(sizes)]


def check_decodable(frames: list[Frame], left: list[Frame]) -> None:
    before = None
    for frame in left:
        place = frames.index(frame)
        assert frame.keyframe or (before is not None and place == before + 1)
        before = place


@given(gops, st.floats(6e4, 3e6))
def test_a_thinned_stream_keeps_to_its_rate_and_can_be_decoded(shape: list[tuple[int, int, int]], bps: float) -> None:
    frames = source(shape)
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer())
    queue.thin(bps)
    left = play(queue, frames, 10.0, 1 / 30)
    check_decodable(frames, left)
    assert len(left) + queue.dropped == len(frames)
    # Two seconds' room to begin with, what was left before, and a keyframe that takes of what comes behind it.
    longest = max(2.0, *(count / 30 for count, _, _ in shape))
    largest = max(frame.size for frame in frames if frame.keyframe)
    assert sum(frame.size for frame in left) * 8 <= bps * (len(frames) / 30 + 2.0 + 0.5 * longest) + 8 * largest + 1


@given(gops, st.lists(st.tuples(st.integers(0, 400), st.none() | st.floats(6e4, 3e6)), max_size=5), st.floats(2e5, 5e7))
def test_thinned_or_not_nothing_leaves_whose_predecessor_did_not(
    shape: list[tuple[int, int, int]], changes: list[tuple[int, float | None]], pace: float
) -> None:
    frames = source(shape)
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer())
    queue.pacer.set_rate(pace)
    left, begun = [], 0
    for place, thin in [*sorted(changes, key=lambda change: change[0]), (len(frames), None)]:
        left += play(queue, frames[begun:place], 10.0 + begun / 30, 1 / 30)
        begun = max(begun, min(place, len(frames)))
        queue.thin(thin)
    left += [burst[0] for burst in drain(queue, 1000.0) if burst[1] == 0]
    check_decodable(frames, left)


def test_the_end_of_each_gop_is_what_is_left_out() -> None:
    frames = source([(30, 10, 2)] * 6)  # 68 kB a second
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer())
    queue.thin_bps = 8 * 34_000.0
    left = play(queue, frames, 10.0, 1 / 30)
    places = [frames.index(frame) % 30 for frame in left]
    assert places.count(0) == 6
    assert 60 <= len(left) <= 100
    assert sum(frame.size for frame in left) <= 34_000 * 7.5
