from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.core.camera_life import (
    Abandon,
    CameraLife,
    Described,
    Effect,
    End,
    Ended,
    Frames,
    LifePolicy,
    LifeState,
    Report,
    Run,
    Start,
    Stop,
)
from edgeagent.model import CameraPhase, StreamInfo

POLICY = LifePolicy()


def phases(effects: list[Effect]) -> list[CameraPhase]:
    return [effect.status.phase for effect in effects if isinstance(effect, Report)]


def actions(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Report)]


def text(effects: list[Effect]) -> str:
    return next(effect.status.text for effect in effects if isinstance(effect, Report))


def live(now: float = 0.0) -> CameraLife:
    life = CameraLife(POLICY)
    life.handle(Start(), now)
    life.handle(Frames(1), now)
    assert life.state is LifeState.LIVE
    return life


def test_starts_and_goes_live() -> None:
    life = CameraLife(POLICY)
    assert life.next_deadline() is None
    effects = life.handle(Start(), 5.0)
    assert (actions(effects), phases(effects)) == ([Run(1)], [CameraPhase.STARTING])
    effects = life.handle(Frames(1), 6.0)
    assert (actions(effects), phases(effects)) == ([], [CameraPhase.LIVE])
    assert life.handle(Frames(1), 6.1) == []
    assert life.handle(Start(), 6.2) == []


def test_a_camera_that_never_delivers_is_opened_again() -> None:
    life = CameraLife(POLICY)
    life.handle(Start(), 0.0)
    assert life.tick(POLICY.start_s - 0.1) == []
    effects = life.tick(POLICY.start_s)
    assert actions(effects) == [End(1)]
    assert text(effects) == "The camera has sent no picture for 15 seconds since it was opened."
    effects = life.handle(Ended(1), 16.0, random01=1.0)
    assert phases(effects) == [CameraPhase.RETRYING]
    assert text(effects).endswith("since it was opened. Trying again.")
    assert life.tick(17.9) == []
    assert actions(life.tick(18.0)) == [Run(2)]


def test_a_stall_ends_the_run() -> None:
    life = live(0.0)
    life.handle(Frames(1), 3.0)
    assert life.tick(7.9) == []
    effects = life.tick(8.0)
    assert actions(effects) == [End(1)]
    assert text(effects) == "The camera has sent no picture for 5 seconds."
    assert life.handle(Frames(1), 8.1) == []  # too late: it is being ended
    assert life.state is LifeState.ENDING


def test_a_fault_is_told_and_tried_again() -> None:
    life = live()
    effects = life.handle(Ended(1, "The camera at 10.0.0.7 refuses the connection."), 1.0, random01=0.0)
    assert text(effects) == "The camera at 10.0.0.7 refuses the connection. Trying again."
    assert actions(life.tick(2.0)) == [Run(2)]


def test_an_end_without_reason_is_told() -> None:
    assert text(live().handle(Ended(1), 1.0, random01=0.0)) == "The camera stopped by itself. Trying again."


def test_a_fault_that_stays_waits_for_a_new_start_or_long() -> None:
    life = live()
    effects = life.handle(Ended(1, "The path is a folder.", retry=False), 1.0)
    assert phases(effects) == [CameraPhase.FAILED]
    assert text(effects) == "The path is a folder."
    assert life.tick(100.0) == []
    assert actions(life.handle(Start(), 100.0)) == [Run(2)]
    life.handle(Ended(2, "The camera refuses the password.", retry=False), 101.0)
    assert life.next_deadline() == 101.0 + POLICY.failed_s
    assert actions(life.tick(101.0 + POLICY.failed_s)) == [Run(3)]


def test_backoff_grows_and_begins_again_after_a_good_run() -> None:
    life = CameraLife(POLICY)
    now, waits = 0.0, []
    life.handle(Start(), now)
    for run in range(1, 15):
        life.handle(Frames(run), now)
        if run == 13:
            now += POLICY.good_s
            life.handle(Frames(run), now)
        life.handle(Ended(run, "Gone."), now, random01=1.0)
        deadline = life.next_deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
        life.tick(now)
    assert waits == [2, 2, 2, 2, 2, 2, 4, 8, 16, 30, 30, 30, 2, 2]


def test_who_was_away_for_a_moment_is_not_waited_for_longer() -> None:
    """Whatever the chances: a camera that comes back within `quick_s` is opened within twice the shortest wait from then."""
    life, now, share = live(), POLICY.good_s, 1.0
    life.handle(Frames(1), now)
    life.handle(Ended(1, "Gone."), now, share)
    gone = now
    while now < gone + POLICY.quick_s:
        deadline = life.next_deadline()
        assert deadline is not None
        assert deadline - now <= 2 * POLICY.retry_min_s
        now = deadline
        assert actions(life.tick(now)) == [Run(life.runs)]
        life.handle(Ended(life.runs, "Gone."), now, share)


def test_stop_waits_for_the_end() -> None:
    life = live()
    effects = life.handle(Stop(), 1.0)
    assert (actions(effects), phases(effects)) == ([End(1)], [CameraPhase.OFF])
    assert life.next_deadline() == 1.0 + POLICY.end_s
    assert phases(life.handle(Ended(1, "whatever", retry=False), 1.1)) == [CameraPhase.OFF]
    assert life.next_deadline() is None


def test_start_while_closing_opens_again_without_back_off() -> None:
    life = live()
    life.handle(Stop(), 1.0)
    assert phases(life.handle(Start(), 1.1)) == [CameraPhase.STARTING]
    assert actions(life.handle(Ended(1), 1.2)) == [Run(2)]


def test_stop_while_reopening_stays_off() -> None:
    life = live()
    life.handle(Stop(), 1.0)
    life.handle(Start(), 1.1)
    life.handle(Stop(), 1.2)
    assert actions(life.handle(Ended(1), 1.3)) == []
    assert life.state is LifeState.OFF


@pytest.mark.parametrize("stop_at", ["waiting", "failed"])
def test_stop_where_nothing_runs(stop_at: str) -> None:
    life = live()
    life.handle(Ended(1, "Gone.", retry=stop_at == "waiting"), 1.0)
    assert phases(life.handle(Stop(), 2.0)) == [CameraPhase.OFF]
    assert life.next_deadline() is None


def test_a_run_that_does_not_return_is_given_up_and_void() -> None:
    life = live()
    life.tick(5.0)
    effects = life.tick(10.0)
    assert actions(effects) == [Abandon(1)]
    assert life.handle(Frames(1), 10.1) == []
    assert life.handle(Described(1, StreamInfo(1, 1)), 10.1) == []
    assert actions(life.tick(life.next_deadline() or 0)) == [Run(2)]
    assert life.handle(Ended(1, "too late"), 20.0) == []
    assert life.status.phase is CameraPhase.STARTING


def hang(life: CameraLife, times: int) -> None:
    while times:
        deadline = life.next_deadline()
        assert deadline is not None
        times -= any(isinstance(effect, Abandon) for effect in life.tick(deadline))


def test_hanging_runs_are_counted_and_forgiven_when_they_end() -> None:
    life = CameraLife(POLICY)
    life.handle(Start(), 0.0)
    hang(life, POLICY.max_hung)
    assert life.status.phase is CameraPhase.FAILED
    assert "Restart the agent" in life.status.text
    life.handle(Start(), 1000.0)
    assert life.status.phase is CameraPhase.FAILED
    assert life.hung == POLICY.max_hung
    assert phases(life.handle(Ended(2), 1001.0)) == [CameraPhase.RETRYING], "nobody has to start it again"
    deadline = life.next_deadline()
    assert deadline is not None
    assert actions(life.tick(deadline)) == [Run(POLICY.max_hung + 1)]
    assert life.runs == POLICY.max_hung + 1


def test_a_device_that_is_lost_to_the_process_is_so_until_it_delivers() -> None:
    life = CameraLife(POLICY)
    life.handle(Start(), 0.0)
    life.handle(Ended(1, "It does not let itself be closed.", restart=True), 1.0)
    assert life.lost and life.status.phase is CameraPhase.RETRYING
    assert actions(life.tick(life.next_deadline() or 0.0)) == [Run(2)]
    assert life.lost
    life.handle(Frames(2), 5.0)
    assert not life.lost


def test_description_goes_with_the_status() -> None:
    life = CameraLife(POLICY)
    life.handle(Start(), 0.0)
    info = StreamInfo(640, 480, 30, "42c01f")
    assert life.handle(Described(1, info), 0.1) == []
    assert life.handle(Frames(1), 0.2) == [Report(life.status)]
    assert life.status.info == info
    bigger = StreamInfo(1280, 720, 30, "42c01f")
    assert life.handle(Described(1, bigger), 0.3) == [Report(life.status)]
    assert life.handle(Described(1, bigger), 0.4) == []


@given(st.floats(0, 1))
def test_no_wait_is_shorter_than_a_second_or_longer_than_the_limit(share: float) -> None:
    life = live()
    life.handle(Ended(1, "Gone."), 0.0, random01=share)
    deadline = life.next_deadline()
    assert deadline is not None
    assert POLICY.retry_min_s <= deadline <= POLICY.retry_max_s


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order: at most one run, never a lost one, no state without a way on."""

    def __init__(self) -> None:
        super().__init__()
        self.life = CameraLife(POLICY)
        self.now = 0.0
        self.newest = 0
        self.alive: int | None = None
        self.hung: set[int] = set()
        self.wanted = False

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run(run):
                    assert self.alive is None, "two runs at a time"
                    assert run == self.newest + 1
                    self.newest = self.alive = run
                case End(run):
                    assert run == self.alive
                case Abandon(run):
                    assert run == self.alive
                    self.hung.add(run)
                    self.alive = None
                case Report(status):
                    assert "  " not in status.text
                    assert not status.text or status.text[-1] == "."

    @rule()
    def start(self) -> None:
        self.wanted = True
        self.take(self.life.handle(Start(), self.now))

    @rule()
    def stop(self) -> None:
        self.wanted = False
        self.take(self.life.handle(Stop(), self.now))

    @rule(run=st.integers(0, 3))
    def frames(self, run: int) -> None:
        self.take(self.life.handle(Frames(self.newest - run), self.now))

    @precondition(lambda self: self.alive is not None)
    @rule(fault=st.sampled_from(["", "It is gone."]), retry=st.booleans())
    def ended(self, fault: str, retry: bool) -> None:
        assert self.alive is not None
        run, self.alive = self.alive, None
        self.take(self.life.handle(Ended(run, fault, retry), self.now))

    @precondition(lambda self: self.hung)
    @rule()
    def hung_ended(self) -> None:
        self.take(self.life.handle(Ended(self.hung.pop(), "late"), self.now))

    @rule(seconds=st.floats(0, 40), share=st.floats(0, 1))
    def pass_time(self, seconds: float, share: float) -> None:
        end = self.now + seconds
        while (deadline := self.life.next_deadline()) is not None and deadline <= end:
            assert deadline >= self.now
            self.now = deadline
            self.take(self.life.tick(self.now, share))
        self.now = end

    @invariant()
    def consistent(self) -> None:
        state, deadline = self.life.state, self.life.next_deadline()
        quiet = state in (LifeState.OFF, LifeState.FAILED)
        assert state is LifeState.FAILED or quiet == (deadline is None)
        assert (self.alive is not None) == (not quiet and state is not LifeState.WAITING)
        assert self.wanted == (state not in (LifeState.OFF, LifeState.CLOSING))
        assert len(self.hung) <= POLICY.max_hung


TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_a_camera_that_was_away_for_an_hour_is_back_within_its_longest_wait(chances: list[float]) -> None:
    """The Wi-Fi of an IP camera goes: each try takes the driver 3 s to fail. Nothing grows, nothing gives up."""
    life, now, tries = live(), 0.0, 0
    life.handle(Ended(1, "It is away."), now, chances[0])
    while now < 3600:
        deadline = life.next_deadline()
        assert deadline is not None
        assert 0 < deadline - now <= POLICY.retry_max_s + 1e-6
        now = deadline
        assert actions(life.tick(now)) == [Run(life.runs)]
        now += 3.0
        tries += 1
        life.handle(Ended(life.runs, "It is away."), now, chances[tries % len(chances)])
        assert life.state is LifeState.WAITING
    assert 3600 / (POLICY.retry_max_s + 3) - 1 <= tries
    back = life.next_deadline()
    assert back is not None
    assert back - now <= POLICY.retry_max_s + 1e-6
    life.tick(back)
    assert phases(life.handle(Frames(life.runs), back + 1)) == [CameraPhase.LIVE]
