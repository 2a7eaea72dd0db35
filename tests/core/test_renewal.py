"""When a board renews its certificate, over months of virtual time."""

from __future__ import annotations

import itertools

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


@pytest.mark.parametrize("ahead_s", [0.0, 10 * 365 * DAY])
def test_certificates_that_are_due_at_once_are_no_storm(ahead_s: float) -> None:
    renewal = Renewal(START, START + 900, 0.0)  # the last ones of a CA; or the clock here is far ahead of the site's
    now, begun, asked = START + 600 + ahead_s, START + 600 + ahead_s, 0
    while now < begun + DAY:
        match renewal.next(now):
            case Renew():
                asked += 1
                renewal.renewed(now - ahead_s - 3600, START + 900, 1.0, now=now)
            case Wait(seconds):
                assert seconds > 0
                now += seconds
    assert 20 < asked < 60
    renewal.renewed(now - 3600, now + LIFE, 0.0, now=now)
    assert renewal.next(now + 120) == Wait(3600.0)


def test_whoever_hurries_waits_for_nothing() -> None:
    renewal = Renewal(START, START + LIFE, 0.0)
    renewal.failed(START, 1.0)
    renewal.hurry()
    assert renewal.next(START + 1) == Renew(expired=False)


def test_a_broker_that_refuses_the_certificate_hurries_renewal_without_a_storm() -> None:
    renewal = Renewal(START, START + LIFE, 0.0)
    renewal.doubted(START, 0.5)
    assert renewal.next(START) == Wait(30.0)  # boards that are refused together come one after the other
    now, asked = START, []
    for _ in range(10 * 1440):  # the new one does not mend it: refused at each connection, for ten days
        now += 60
        renewal.doubted(now, 1.0)
        if renewal.next(now) == Renew(expired=False):
            asked.append(now)
            renewal.renewed(now, now + LIFE, 0.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps == sorted(gaps) and 3_600 <= gaps[0] <= 3 * 3_600 and gaps[-1] == pytest.approx(DAY, rel=0.01)
    renewal.trusted()
    renewal.doubted(now, 0.0)
    assert renewal.next(now) == Renew(expired=False)
    renewal.refused(now)  # the site has revoked this board, which is why the broker does not want it
    renewal.trusted()
    renewal.doubted(now + 60, 0.0)
    assert renewal.next(now + 60) == Wait(3600.0)


@given(st.floats(min_value=0, max_value=1e10), st.floats(min_value=0, max_value=1e10))
def test_a_clock_that_jumps_never_stops_it_for_longer_than_an_hour(first: float, second: float) -> None:
    renewal = Renewal(START, START + LIFE, 0.5)
    if isinstance(renewal.next(first), Renew):
        renewal.failed(first, 1.0)
    step = renewal.next(second)
    assert isinstance(step, Renew) or 0 <= step.seconds <= 3600
