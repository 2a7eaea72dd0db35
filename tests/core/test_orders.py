from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeagent.core.orders import (
    FIRST,
    FIRST_WITHIN_S,
    MAX_STARTS,
    SETTLED_S,
    WITHIN_S,
    Again,
    Busy,
    Keep,
    Obey,
    OrderBook,
    Record,
    Refuse,
    Restart,
    Trial,
    TrialEffect,
    TrialState,
    Tried,
    next_number,
)


def test_orders_are_obeyed_once_and_in_order() -> None:
    book = OrderBook("e1", after=10)
    assert book.judge("e1", 11, 0) == Obey(11)
    assert book.judge("e1", 11, 0) == Again(())  # still being done
    book.done(11, ["answer"])
    assert book.judge("e1", 11, 1) == Again(("answer",))
    assert book.judge("e1", 13, 1) == Obey(13)
    assert book.judge("e1", 12, 1) == Refuse(12, 13)  # overtaken
    assert book.judge("e1", 10, 1.5) == Refuse(10, 13, quiet=True)
    assert book.judge("e0", 14, 4) == Refuse(14, 13)  # of another run
    assert book.after == 13


def test_what_is_too_much_at_once_may_come_again_under_its_number() -> None:
    book = OrderBook("e1", most=2)
    assert [book.judge("e1", number, 0) for number in (1, 2, 3)] == [Obey(1), Obey(2), Busy(3)]
    book.done(1, [])
    assert book.judge("e1", 3, 0) == Obey(3)


@given(st.lists(st.tuples(st.sampled_from(["e0", "e1"]), st.integers(1, 30), st.booleans()), max_size=80))
def test_no_number_is_obeyed_twice(orders: list[tuple[str, int, bool]]) -> None:
    book = OrderBook("e1", after=3, most=4)
    obeyed: list[int] = []
    for at, (epoch, number, done) in enumerate(orders):
        match book.judge(epoch, number, float(at)):
            case Obey(given):
                assert epoch == "e1" and given == number > max([3, *obeyed])
                obeyed.append(given)
                if done:
                    book.done(given, [])
            case Again():
                assert number in obeyed and epoch == "e1"
            case Refuse(_, after):
                assert after == max([3, *obeyed])
    assert len(obeyed) == len(set(obeyed))


@given(st.integers(0, 2**40), st.floats(-1e6, 4e9))
def test_numbers_go_up_whatever_the_clock_does(last: int, wall_s: float) -> None:
    assert next_number(last, wall_s) > last
    assert next_number(5, float("nan")) == 6


def record_of(effects: list[TrialEffect]) -> Record:
    return next(effect.record for effect in effects if isinstance(effect, Keep))


def restarts(effects: list[TrialEffect]) -> bool:
    return any(isinstance(effect, Restart) for effect in effects)


def on_trial(record: Record) -> Trial:
    trial = Trial(record)
    trial.start()
    return trial


def test_settings_that_work_are_kept() -> None:
    trial = Trial(Record("old"))
    assert trial.start() == []
    effects = trial.begin("new", 7)
    assert restarts(effects) and record_of(effects) == Record("old", Tried("new", 7))
    assert trial.begin("newer", 8) == []  # one at a time

    trial = Trial(record_of(effects))
    assert record_of(trial.start()).tried == Tried("new", 7, 1)
    assert trial.running == "new"
    assert trial.look(healthy=True, connected=False, now=100) == []
    assert trial.next_deadline() == 100 + WITHIN_S
    assert trial.look(healthy=True, connected=True, now=120) == []
    assert trial.look(healthy=True, connected=False, now=121) == []  # flapping
    assert trial.look(healthy=True, connected=True, now=122) == []
    assert trial.next_deadline() == 122 + SETTLED_S
    effects = trial.look(healthy=True, connected=True, now=122 + SETTLED_S)
    assert record_of(effects).settings == "new" and not restarts(effects)
    assert trial.record.outcome and trial.record.outcome.kept and trial.record.outcome.re == 7
    assert trial.state is TrialState.STEADY and trial.next_deadline() is None


def test_settings_without_a_broker_are_taken_back() -> None:
    trial = on_trial(Record("old", Tried("new", 7)))
    trial.look(healthy=True, connected=False, now=0)
    effects = trial.look(healthy=True, connected=False, now=WITHIN_S)
    assert restarts(effects)
    again = Trial(record_of(effects))
    assert again.start() == [] and again.running == "old"
    assert again.record.outcome and not again.record.outcome.kept and "broker" in again.record.outcome.text


def test_the_first_settings_wait_for_a_broker_but_not_for_an_agent_that_is_unwell() -> None:
    trial = on_trial(Record("", Tried("new", FIRST)))
    assert trial.look(healthy=True, connected=False, now=0) == [] and trial.next_deadline() == FIRST_WITHIN_S
    assert trial.look(healthy=False, connected=False, now=FIRST_WITHIN_S - 1) == []
    assert restarts(trial.look(healthy=True, connected=False, now=FIRST_WITHIN_S))
    assert trial.record.outcome and "broker" in trial.record.outcome.text
    late = on_trial(Record("", Tried("new", FIRST)))
    late.look(healthy=True, connected=False, now=0)
    assert late.look(healthy=True, connected=True, now=3 * WITHIN_S) == []
    assert late.look(healthy=True, connected=True, now=3 * WITHIN_S + SETTLED_S)
    assert late.record == Record("new", None, late.record.outcome)
    unwell = on_trial(Record("", Tried("new", FIRST)))
    unwell.look(healthy=False, connected=False, now=0)
    assert unwell.look(healthy=False, connected=True, now=100) == [] and unwell.next_deadline() == 100 + WITHIN_S
    assert restarts(unwell.look(healthy=False, connected=True, now=100 + WITHIN_S))


def test_an_end_in_order_is_no_failed_start() -> None:
    record = Record("old", Tried("new", 7))
    for _ in range(3 * MAX_STARTS):
        trial = Trial(record)
        trial.start()
        assert trial.running == "new"
        record = record_of(trial.leave())
        assert record == Record("old", Tried("new", 7)) and trial.leave() == []
    assert Trial(Record("old")).leave() == []


def test_settings_that_end_the_process_are_taken_back_after_some_starts() -> None:
    record = Record("old", Tried("new", 7))
    for _ in range(MAX_STARTS):
        trial = Trial(record)
        record = record_of(trial.start())
        assert trial.running == "new"
    trial = Trial(record)
    record = record_of(trial.start())
    assert trial.running == "old" and record.settings == "old" and record.tried is None
    assert record.outcome and not record.outcome.kept


def test_settings_that_cannot_be_read_are_taken_back_at_once() -> None:
    trial = on_trial(Record("", Tried("new", 7)))
    effects = trial.failed("there is no such key")
    assert not restarts(effects) and trial.running == "" and "no such key" in repr(record_of(effects).outcome)
    assert trial.failed("again") == []


class Board(RuleBasedStateMachine):
    """A board that crashes, loses power and its broker at any moment; its disk is what survives."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Record()
        self.proved = {""}
        self.version = 0
        self.now = 0.0
        self.starts: dict[str, int] = {}
        self.boot()

    def boot(self) -> None:
        self.trial = Trial(self.disk)
        self.carry(self.trial.start())
        if self.trial.state is TrialState.TRYING:
            version = self.trial.running
            self.starts[version] = self.starts.get(version, 0) + 1

    def carry(self, effects: list[TrialEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Keep):
                self.disk = effect.record
            else:
                self.boot()
                return

    @rule()
    def crash(self) -> None:
        self.boot()

    @rule()
    def ended_in_order(self) -> None:
        if self.trial.state is TrialState.TRYING:
            self.starts[self.trial.running] -= 1
        self.carry(self.trial.leave())
        self.boot()

    @rule()
    def ordered(self) -> None:
        self.version += 1
        self.carry(self.trial.begin(f"v{self.version}", self.version))

    @rule()
    def unreadable(self) -> None:
        self.carry(self.trial.failed("no"))

    @rule(seconds=st.sampled_from([0.0, 1.0, SETTLED_S, 30.0, WITHIN_S]), healthy=st.booleans(), connected=st.booleans())
    def time_passes(self, seconds: float, healthy: bool, connected: bool) -> None:
        self.now += seconds
        before = self.trial.running
        effects = self.trial.look(healthy=healthy, connected=connected, now=self.now)
        if effects and not restarts(effects):
            assert healthy and connected
            self.proved.add(before)
        self.carry(effects)

    @invariant()
    def it_runs_by_what_was_proved_or_is_on_trial(self) -> None:
        assert self.disk.settings in self.proved
        assert self.trial.running in self.proved or self.trial.state is TrialState.TRYING
        assert all(starts <= MAX_STARTS for starts in self.starts.values())
        assert self.disk == self.trial.record


TestBoard = Board.TestCase
