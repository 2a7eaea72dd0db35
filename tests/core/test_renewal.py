"""When a board renews its certificate, over months of virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.renewal import EARLIEST, Renew, Renewal, Wait, WaitForClock, clock_is_sane

START = EARLIEST + 1e6
DAY = 86_400.0
LIFE = 90 * DAY


def test_renews_at_two_thirds_of_life_and_spreads_boards() -> None:
    first, last = (Renewal(START, START + LIFE, random01).due_at for random01 in (0.0, 1.0))
    assert first == pytest.approx(START + 60 * DAY) and first < last < START + 65 * DAY
    renewal = Renewal(START, START + LIFE, 0.0)
    assert renewal.next(START + 59.5 * DAY) == Wait(3600.0)
    assert renewal.next(first - 10) == Wait(pytest.approx(10.0))  # type: ignore[arg-type]
    assert renewal.next(first) == Renew(expired=False)
    assert renewal.next(START + 400 * DAY) == Renew(expired=True)


def test_no_tls_before_the_clock_can_be_right() -> None:
    renewal = Renewal(START, START + LIFE, 0.0)
    for now in (0.0, 1e9, EARLIEST - 1, START - 1, float("nan"), float("-inf")):
        assert renewal.next(now) == WaitForClock()
    assert not clock_is_sane(0.0) and clock_is_sane(EARLIEST) and not clock_is_sane(EARLIEST, EARLIEST + 1)


def test_failures_back_off_and_a_refusal_is_asked_about_daily() -> None:
    renewal = Renewal(START, START + LIFE, 0.0)
    now = START + 70 * DAY
    waits = []
    for _ in range(12):
        assert renewal.next(now) == Renew(expired=False)
        waits.append(renewal.failed(now, 1.0))
        assert renewal.next(now + waits[-1] - 1) == Wait(pytest.approx(1.0))  # type: ignore[arg-type]
        now += waits[-1]
    assert waits == sorted(waits) and waits[0] == 60 and waits[-1] == 3600
    assert renewal.failed(now, 0.0, retry_s=7200) == 7200
    now += 7200
    assert renewal.refused(now) == DAY
    assert renewal.next(now + DAY) == Renew(expired=False)
    renewal.renewed(now, now + LIFE, 0.0)
    assert renewal.next(now) == Wait(3600.0)


def test_whoever_hurries_waits_for_nothing() -> None:
    renewal = Renewal(START, START + LIFE, 0.0)
    renewal.failed(START, 1.0)
    renewal.hurry()
    assert renewal.next(START + 1) == Renew(expired=False)


@given(st.floats(min_value=0, max_value=1e10), st.floats(min_value=0, max_value=1e10))
def test_a_clock_that_jumps_never_stops_it_for_longer_than_an_hour(first: float, second: float) -> None:
    renewal = Renewal(START, START + LIFE, 0.5)
    if isinstance(renewal.next(first), Renew):
        renewal.failed(first, 1.0)
    step = renewal.next(second)
    assert isinstance(step, Renew) or 0 <= step.seconds <= 3600
