"""The estimator against simulated paths, in virtual time, and against receivers that tell nonsense."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.bitrate import MAX_BPS, MIN_BPS, START_BPS, Estimator, NetworkMemory, RepairBudget, near_start_bps
from tests.core.path_sim import Path

CAMERA = 3e6


def most_sent(path: Path, begin: float, end: float) -> float:
    """The highest ratio of what was sent to what came through, over 2 s."""
    starts = [begin + step / 2 for step in range(int((end - begin - 2) * 2) + 1)]
    return max(path.sent_bps(at, at + 2) / path.carried_bps(at, at + 2) for at in starts)


@pytest.mark.parametrize("jitter_s", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("rate", [10e6, 2e6, 1e6, 0.5e6])
def test_a_steady_path_is_used_and_its_queue_stays_short(rate: float, jitter_s: float) -> None:
    path = Path(lambda at: rate, jitter_s=jitter_s, wanted_bps=CAMERA)
    path.run(35)
    assert path.carried_bps(15, 35) >= 0.75 * min(rate, CAMERA)
    assert path.queue_p95_s(0, 35) < 0.25
    assert most_sent(path, 0, 35) <= 1.3


@pytest.mark.parametrize("seed", range(3))
def test_a_drop_is_followed_within_two_seconds_and_the_rise_after_it(seed: int) -> None:
    path = Path(lambda at: 0.7e6 if 15 <= at < 30 else 4e6, jitter_s=0.003, wanted_bps=CAMERA, seed=seed)
    path.run(50)
    assert path.carried_bps(10, 15) > 0.9 * CAMERA
    assert min(estimate for at, estimate in path.history if 15 < at < 17) < 0.7e6
    assert path.queue_p95_s(19, 30) < 0.25
    assert path.carried_bps(19, 30) > 0.6 * 0.7e6
    assert max(estimate for at, estimate in path.history if 30 < at < 35) > 1.2e6
    assert path.carried_bps(42, 50) > 0.75 * CAMERA


@pytest.mark.parametrize(("rate", "least", "most"), [(50e6, 10e6, 50e6), (6e6, 4e6, 6.5e6), (2e6, 1e6, 2e6)])
def test_a_small_layer_that_cannot_grow_keeps_nobody_from_a_large_one(rate: float, least: float, most: float) -> None:
    path = Path(lambda at: rate, jitter_s=0.003, wanted_bps=0.25e6)
    ask = path.estimator.probe_due
    path.estimator.probe_due = lambda wanted_bps, now: ask(8e6, now)  # type: ignore[method-assign]
    path.run(3)
    assert least < path.history[-1][1] < most


@pytest.mark.parametrize(("least_s", "most_s", "hold_s"), [(0.02, 0.08, 0.3), (0.03, 0.12, 0.5), (0.02, 0.08, 1.0)])
def test_a_way_whose_length_changes_is_used(least_s: float, most_s: float, hold_s: float) -> None:
    chance = random.Random(3)
    path = Path(lambda at: 8e6, jitter_s=0.003, wanted_bps=CAMERA)
    while path.now - path.began < 40:
        path.delay_s = chance.uniform(least_s, most_s)
        path.run(hold_s)
    assert path.carried_bps(15, 40) > 0.9 * CAMERA


@pytest.mark.parametrize("loss", [0.02, 0.08])
@pytest.mark.parametrize("rate", [10e6, 2e6])
def test_random_loss_shrinks_nothing(rate: float, loss: float) -> None:
    path = Path(lambda at: rate, loss=loss, wanted_bps=CAMERA)
    path.run(30)
    assert path.carried_bps(15, 30) > 0.75 * min(rate, CAMERA) * (1 - loss)
    assert path.estimator.loss == pytest.approx(loss, abs=0.06)


def test_a_path_that_loses_half_is_sent_less() -> None:
    path = Path(lambda at: 10e6, loss=0.5, wanted_bps=CAMERA)
    path.run(20)
    assert max(estimate for at, estimate in path.history if at > 10) < START_BPS


def test_feedback_that_is_lost_halves_the_rate_each_second_and_its_return_raises_it() -> None:
    path = Path(lambda at: 2e6, deaf=lambda at: 20 < at < 26, wanted_bps=CAMERA)
    path.run(20)
    before = path.estimator.estimate_bps or 0.0
    path.run(6)
    assert MIN_BPS <= (path.estimator.estimate_bps or 0.0) < before / 8
    path.run(14)
    assert path.carried_bps(36, 40) > 0.6 * 2e6


@pytest.mark.parametrize("rate", [10e6, 2e6])
def test_remb_alone_is_followed(rate: float) -> None:
    path = Path(lambda at: rate, tells="remb", wanted_bps=CAMERA)
    path.run(40)
    assert path.carried_bps(20, 40) > 0.75 * min(rate, CAMERA)
    assert path.queue_p95_s(20, 40) < 0.25


def test_reports_alone_limit_nobody_who_loses_little() -> None:
    wide = Path(lambda at: 10e6, tells="reports", estimator=Estimator(None), wanted_bps=CAMERA)
    wide.run(20)
    assert wide.estimator.estimate_bps is None
    assert wide.carried_bps(5, 20) > 0.95 * CAMERA


@pytest.mark.parametrize("rate", [2e6, 1e6, 0.5e6])
def test_reports_alone_limit_who_loses_much_and_go_on_doing_so(rate: float) -> None:
    narrow = Path(lambda at: rate, tells="reports", estimator=Estimator(None), wanted_bps=CAMERA)
    narrow.run(40)
    assert narrow.carried_bps(20, 40) > 0.75 * rate
    assert most_sent(narrow, 20, 40) < 1.3
    assert all(estimate for at, estimate in narrow.history if at > 3), "it is limited from the first complaint on"


def test_a_receiver_whose_clock_is_set_is_understood_again() -> None:
    path = Path(lambda at: 2e6, clock=lambda at: at + 5000 + 3600 * (at > 15) - 9000 * (at > 25), wanted_bps=CAMERA)
    path.run(35)
    for begin in (10, 18, 28):
        assert path.carried_bps(begin, begin + 5) > 0.75 * 2e6


def test_what_the_path_carried_is_known_when_the_viewer_has_fallen_asleep() -> None:
    path = Path(lambda at: 10e6, wanted_bps=20e6)
    path.run(20)
    estimator, carried = path.estimator, path.estimator.estimate_bps
    assert carried is not None and estimator.heard_bps == carried
    for second in range(1, 6):
        estimator.silence(path.now + 1.1 * second)
    assert (estimator.estimate_bps or 0.0) <= carried / 8
    assert estimator.heard_bps == carried
    path.now += 6
    path.run(1)
    assert estimator.heard_bps == estimator.estimate_bps


times = st.lists(st.none() | st.floats(-1e6, 1e9), max_size=60) | st.lists(st.floats(0, 1), max_size=400)
steps = st.one_of(
    st.tuples(st.just("sent"), st.integers(1, 60), st.integers(40, 1300)),
    st.tuples(st.just("feedback"), st.integers(0, 0xFFFF), times),
    st.tuples(st.just("answer"), st.floats(-5, 5), st.floats(0, 1)),  # to what was just sent, by a clock that jumps
    st.tuples(st.just("report"), st.floats(0, 1), st.none() | st.floats(0, 10)),
    st.tuples(st.just("remb"), st.floats(0, 1e10), st.none()),
    st.tuples(st.just("complain"), st.floats(0, 1e9), st.none()),
    st.tuples(st.just("silence"), st.none(), st.none()),
    st.tuples(st.just("probe"), st.floats(0, 1e8), st.none()),
    st.tuples(st.just("wait"), st.floats(0.001, 40), st.none()),
)


@given(st.none() | st.floats(MIN_BPS, 1e7), st.lists(steps, max_size=60))
def test_whatever_is_told_the_estimate_stays_within_its_bounds(start: float | None, told: list[tuple[str, Any, Any]]) -> None:
    estimator, now, sequence, count = Estimator(start), 1000.0, 1, 0
    for step, first, second in told:
        now += 0.01
        if step == "sent":
            sequence, count = sequence + count, first
            estimator.sent(sequence, count, second, now)
        elif step == "feedback":
            estimator.feedback(first, second, now)
        elif step == "answer":
            arrivals = [None if n / max(1, count) < second / 2 else 500 + now + first + n / 1000 for n in range(count)]
            estimator.feedback(sequence & 0xFFFF, arrivals, now)
        elif step == "report":
            estimator.report(first, second, now)
        elif step == "remb":
            estimator.remb(first, now)
        elif step == "complain":
            estimator.complain(first, now)
        elif step == "silence":
            estimator.silence(now)
        elif step == "probe":
            assert estimator.probe_due(first, now) in (True, False)
        else:
            now += first
        rate = estimator.estimate_bps
        assert rate is None or MIN_BPS <= rate <= MAX_BPS
        assert rate is not None or start is None or not estimator.heard  # who gives no feedback is not limited
        assert 0 <= estimator.loss <= 1
        assert 0 <= estimator.queue_s < math.inf
        assert 0 <= estimator.delivered_bps < math.inf
        assert estimator.capacity_bps is None or 0 < estimator.capacity_bps < math.inf


@given(st.integers(0, 0xFFFF), st.lists(st.none() | st.floats(0, 1e6), max_size=100))
def test_feedback_on_what_was_never_sent_changes_nothing(base: int, arrivals: list[float | None]) -> None:
    estimator = Estimator()
    for now in (10.0, 10.1, 10.2):
        estimator.feedback(base, arrivals, now)
    assert (estimator.delivered_bps, estimator.queue_s, estimator.loss, estimator.capacity_bps) == (0, 0, 0, None)
    assert estimator.estimate_bps == START_BPS


def test_numbers_wrap() -> None:
    estimator, now = Estimator(), 10.0
    for number in range(65_400, 65_700, 5):
        estimator.sent(number, 5, 1200, now)
        estimator.feedback(number & 0xFFFF, [now + n * 0.001 for n in range(5)], now + 0.02)
        now += 0.033
    assert estimator.loss == 0
    assert estimator.capacity_bps == pytest.approx(9.6e6, rel=0.01)


def test_probes_are_for_who_could_use_more_and_not_many() -> None:
    path = Path(lambda at: 2e6, wanted_bps=0.5e6)
    path.run(20)
    assert not path.estimator.probe_due(0.5e6, path.now)
    assert not Estimator().probe_due(5e6, 10.0)  # nobody has told anything yet
    lonely = Estimator()
    due, now = [], 10.0
    for number in range(600):
        lonely.sent(number, 1, 200, now)
        lonely.feedback(number, [now], now + 0.01)
        if lonely.probe_due(5e6, now + 0.01):
            due.append(now)
        now += 0.033
    assert 3 <= len(due) <= 20 / 1.5
    assert all(later - earlier >= 1.4 for earlier, later in itertools.pairwise(due))


@given(
    st.floats(0.05, 0.5),
    st.floats(0.1, 2.0),
    st.floats(6e4, 2e7),
    st.lists(st.tuples(st.floats(0, 2), st.integers(100, 1400)), min_size=1, max_size=80),
)
def test_repairs_never_take_more_than_their_share(
    share: float, burst_s: float, estimate: float, asked: list[tuple[float, int]]
) -> None:
    budget, now, spent = RepairBudget(share, burst_s), 1000.0, list[tuple[float, int]]()
    for wait, size in asked:
        now += wait
        if budget.allows(size, estimate, now):
            spent.append((now, size))
    rate = share * estimate / 8
    most = max(8_000.0, rate * burst_s)
    for first in range(len(spent)):
        total = 0
        for at, size in spent[first:]:
            total += size
            assert total <= most + rate * (at - spent[first][0]) + 1


def test_a_repair_or_two_is_always_possible_and_the_budget_comes_back() -> None:
    budget = RepairBudget()
    assert [budget.allows(1200, MIN_BPS, 5.0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert not budget.allows(1200, MIN_BPS, 4.0)  # a clock that runs backwards gives nothing
    assert budget.allows(1200, MIN_BPS, 6.0)


def test_what_a_network_carried_is_remembered_for_a_while() -> None:
    memory = NetworkMemory(size=3, max_age_s=100.0)
    unknown = memory.start_bps("home", 0.0)
    memory.remember("home", 5e6, 0.0)
    assert memory.start_bps("home", 99.0) == pytest.approx(4e6)
    assert memory.start_bps("home", 101.0) == unknown
    memory.remember("slow", 1000.0, 1.0)
    assert memory.start_bps("slow", 1.0) == MIN_BPS
    memory.remember("home", 2e6, 2.0)
    for place, network in enumerate(("a", "b")):
        memory.remember(network, 1e6, 3.0 + place)
    assert memory.start_bps("slow", 5.0) == unknown  # the one longest unseen is forgotten
    assert memory.start_bps("home", 5.0) == pytest.approx(1.6e6)


@pytest.mark.parametrize(
    ("rtt_s", "same_machine", "near"),
    [
        (0.002, False, True),
        (0.02, False, False),
        (0.02, True, True),
        (0.08, True, False),
        (float("inf"), True, False),
    ],
)
def test_a_local_path_begins_high(rtt_s: float, same_machine: bool, near: bool) -> None:
    assert (near_start_bps(rtt_s, same_machine=same_machine) is not None) is near


def test_one_who_looks_for_a_moment_makes_a_network_no_slower() -> None:
    memory = NetworkMemory()
    memory.remember("home", 20e6, 0.0)
    for at in range(1, 9):
        begin = memory.start_bps("home", float(at))
        assert begin is not None
        memory.remember("home", begin, float(at), bounded=False)
    assert memory.start_bps("home", 9.0) == pytest.approx(16e6)
    memory.remember("home", 3e6, 9.0)
    assert memory.start_bps("home", 10.0) == pytest.approx(2.4e6)
