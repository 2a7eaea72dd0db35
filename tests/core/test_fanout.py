from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.fanout import REPLAY_STEP, KeyframeGate, Pacer, ViewerQueue


@dataclass(eq=False)
class Frame:
    """A frame of `count` packets of 1,000 bytes."""

    count: int
    timestamp: int = 0
    keyframe: bool = False

    @property
    def size(self) -> int:
        return self.count * 1000

    def __len__(self) -> int:
        return self.count


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
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e3, depth=1), max_delay_s=0.1, min_bytes=20_000)
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
            assert 0 <= burst.first < burst.end <= len(burst.frame)
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
    queue: ViewerQueue[Frame] = ViewerQueue(Pacer(rate_bps=8e6, depth=40_000))
    assert not queue.straight(Frame(3), 0.0)  # a newcomer waits for a keyframe
    queue.push(Frame(1, keyframe=True), keyframe=True)
    assert not queue.straight(Frame(3), 0.0)  # behind what is queued
    drain(queue, 0.0)
    assert queue.straight(Frame(30), 0.0)
    assert not queue.straight(Frame(49), 1.0)
    assert queue.straight(Frame(48), 1.0)
    assert not queue.straight(Frame(1), 1.0)  # the pacer is in debt


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
