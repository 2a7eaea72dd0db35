"""Token buckets: bursts, the long run, and how much is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.ratelimit import KeyedBuckets, Rate, TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(Rate(per_s=2, burst=3), now=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.wait_s(10.25) == pytest.approx(0.25)
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == pytest.approx(0.5)
    assert [bucket.take(100.0) for _ in range(4)][:3] == [0.0, 0.0, 0.0]


def test_many_at_once_or_none() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=20), now=0.0)
    assert bucket.take(0.0, 15) == 0.0
    assert bucket.take(0.0, 15) == pytest.approx(1.0)
    assert bucket.take(0.0, 5) == 0.0, "what is refused costs nothing"
    assert bucket.take(2.0, 20) == 0.0


def test_waiting_as_long_as_told_suffices() -> None:
    bucket, now = TokenBucket(Rate(per_s=7, burst=1), now=0.0), 0.0
    assert bucket.take(now) == 0.0
    for _ in range(100):
        wait_s = bucket.take(now)
        assert wait_s > 0
        assert bucket.wait_s(now + wait_s / 2) > 0
        now += wait_s
        assert bucket.wait_s(now) == 0.0
        assert bucket.take(now) == 0.0


def test_a_clock_that_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(Rate(per_s=1, burst=1), now=5.0)
    assert bucket.take(5.0) == 0.0
    assert bucket.take(0.0) == pytest.approx(1.0)
    assert bucket.take(5.0) == pytest.approx(1.0)


@given(st.lists(st.floats(0, 2), max_size=200), st.floats(0.1, 50), st.integers(1, 20))
def test_never_more_than_burst_and_rate(steps: list[float], per_s: float, burst: int) -> None:
    bucket, now, taken = TokenBucket(Rate(per_s, burst), 0.0), 0.0, 0
    for step in steps:
        now += step
        taken += bucket.take(now) == 0.0
        assert taken <= burst + now * per_s + 1e-6


def test_keys_do_not_disturb_each_other_and_are_forgotten() -> None:
    buckets = KeyedBuckets(Rate(per_s=1, burst=1), max_keys=2)
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.wait_s("a", 0.0) > 0
    assert buckets.wait_s("unknown", 0.0) == 0.0
    buckets.take("a", 0.0)  # b is now the one used longest ago
    assert buckets.take("c", 0.0) == 0.0
    assert len(buckets) == 2
    assert buckets.wait_s("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0.0


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_a_rate_that_never_lets_through_is_refused(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Rate(per_s, burst)
