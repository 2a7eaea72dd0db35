from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.camera_life import CameraLife, Ended, Frames, LifePolicy, LifeState, Start
from edgeagent.core.vitals import CameraVital, Vitals, VitalsPolicy
from edgeagent.model import CameraPhase

POLICY = VitalsPolicy()
STEP_S = 1.5
GATE = CameraVital("gate", CameraPhase.LIVE, wanted=True, watched=True, frames=10, runs=1)


def stuck_after(vitals: Vitals, *cameras: CameraVital, limit_s: float = 1000.0, start_s: float = 0.0) -> float:
    """Seconds until the same cameras, looked at again and again, are complained of; infinity where they never are."""
    now = start_s
    while now - start_s <= limit_s:
        if vitals.look(cameras, now):
            return now - start_s
        now += STEP_S
    return math.inf


@pytest.mark.parametrize(
    ("phase", "limit_s"),
    [
        (CameraPhase.LIVE, POLICY.live_s),
        (CameraPhase.OFF, POLICY.start_s),
        (CameraPhase.STARTING, POLICY.start_s),
        (CameraPhase.RETRYING, POLICY.retry_s),
        (CameraPhase.FAILED, math.inf),
    ],
)
def test_each_phase_has_its_limit(phase: CameraPhase, limit_s: float) -> None:
    found = stuck_after(Vitals(), replace(GATE, phase=phase))
    assert found == limit_s or limit_s <= found < limit_s + STEP_S


@pytest.mark.parametrize("stall_s", [0.0, 5.0, 6.0, 61.0])
def test_a_camera_that_may_be_silent_for_long_is_given_its_time(stall_s: float) -> None:
    found = stuck_after(Vitals(), replace(GATE, stall_s=stall_s))
    assert max(POLICY.live_s, stall_s) < found + STEP_S and found <= max(POLICY.live_s, stall_s + 5) + STEP_S
    assert found > stall_s + LifePolicy().stall_s - STEP_S


def test_what_nobody_needs_may_stand_still() -> None:
    for phase in CameraPhase:
        assert stuck_after(Vitals(), replace(GATE, phase=phase, wanted=False, watched=False, hung=1)) == math.inf


@pytest.mark.parametrize("change", [{"frames": 11}, {"rests": 1}, {"runs": 2}, {"phase": CameraPhase.RETRYING}])
def test_every_kind_of_progress_counts(change: dict[str, object]) -> None:
    vitals = Vitals()
    assert stuck_after(vitals, GATE, limit_s=POLICY.live_s - STEP_S) == math.inf
    assert vitals.look([replace(GATE, **change)], POLICY.live_s) == ""  # type: ignore[arg-type]
    assert stuck_after(vitals, replace(GATE, phase=CameraPhase.LIVE, frames=12), start_s=POLICY.live_s) >= POLICY.live_s


def test_what_is_stuck_is_named_and_what_moves_again_is_well() -> None:
    vitals = Vitals()
    yard = replace(GATE, name="yard")
    now = 0.0
    while not (said := vitals.look([replace(yard, frames=int(now * 30)), GATE], now)):
        now += STEP_S
    assert said.startswith("camera gate: no frame came through for 1")
    assert vitals.look([yard, replace(GATE, frames=11)], now + STEP_S) == ""


def test_a_driver_that_hangs_for_good_costs_no_other_viewer_the_picture() -> None:
    hung = replace(GATE, phase=CameraPhase.FAILED, hung=3)
    moving = [replace(GATE, name="yard", frames=n) for n in range(1000)]
    vitals = Vitals()
    assert not any(vitals.look([hung, yard], n * STEP_S) for n, yard in enumerate(moving))
    assert "only a restart" in vitals.look([hung, replace(moving[0], watched=False, wanted=False)], 1e4)
    assert stuck_after(Vitals(), hung) >= POLICY.hung_s
    assert stuck_after(Vitals(), replace(hung, hung=0)) == math.inf


def test_a_device_that_is_lost_to_the_process_is_told_though_it_is_tried_again_and_again() -> None:
    vitals, now, runs, said = Vitals(), 0.0, 0, ""
    phases = (CameraPhase.STARTING, CameraPhase.RETRYING)
    while not said:
        now, runs = now + STEP_S, runs + 1
        said = vitals.look([replace(GATE, phase=phases[runs % 2], runs=runs, lost=True)], now)
        assert now < 2 * POLICY.hung_s
    assert now >= POLICY.hung_s and "only a restart" in said
    yard = replace(GATE, name="yard")
    lost = replace(GATE, phase=CameraPhase.RETRYING, lost=True)
    assert not any(vitals.look([lost, replace(yard, frames=n)], now + n * STEP_S) for n in range(200))
    assert vitals.look([replace(GATE, frames=11)], now + 200 * STEP_S) == ""


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_only_time_in_which_it_looked_counts(gaps: list[float]) -> None:
    vitals, now, looked_s = Vitals(), 0.0, 0.0
    vitals.look([GATE], now)
    for gap in gaps:
        now += gap
        looked_s += min(gap, POLICY.step_s)
        assert bool(vitals.look([GATE], now)) == (looked_s >= POLICY.live_s)


@given(
    st.lists(st.sampled_from(["fails at once", "never starts", "hangs", "stalls", "rests", "plays"]), min_size=1, max_size=12),
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.2, 2.0),
)
def test_whatever_a_camera_does_its_runner_keeps_the_agent_well(doings: list[str], chances: list[float], step_s: float) -> None:
    """A real `CameraLife` with a camera that does one thing in each run, for a quarter of an hour: never a false alarm."""
    life, vitals, policy = CameraLife(LifePolicy(max_hung=1000)), Vitals(), LifePolicy()
    now, frames, rests, ended = 0.0, 0, 0, 0
    life.handle(Start(), now)
    while now < 900:
        doing, chance = doings[life.runs % len(doings)], chances[life.runs % len(chances)]
        running = life.state in (LifeState.STARTING, LifeState.LIVE, LifeState.ENDING)
        if running and ended < life.runs:
            if doing == "fails at once" or (life.state is LifeState.ENDING and doing != "hangs"):
                ended = life.runs
                life.handle(Ended(life.runs, "It is away."), now, chance)
            elif doing == "plays" or (doing == "stalls" and life.state is LifeState.STARTING):
                frames += 1
                life.handle(Frames(life.runs), now, chance)
                if frames % 500 == 0:
                    ended = life.runs
                    life.handle(Ended(life.runs, "It went."), now, chance)
            elif doing == "rests":
                rests += 1
                life.handle(Frames(life.runs), now, chance)
        life.tick(now, chance)
        seen = CameraVital("gate", life.status.phase, True, True, frames, life.runs, life.hung, rests=rests)
        assert not vitals.look([seen], now), f"after {now:.1f} s in {life.state}, run {life.runs} ({doing})"
        now += step_s
    assert policy.retry_max_s + policy.start_s + policy.end_s < POLICY.retry_s
