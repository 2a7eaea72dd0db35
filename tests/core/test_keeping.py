"""The keeper's decisions: by the table, and over whatever happens in whatever order and at whatever time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.core.keeping import KeeperState, Keeping
from edgeagent.core.keeping_events import (
    Alive,
    Apply,
    Carried,
    Commanded,
    Effect,
    End,
    Event,
    Failed,
    Held,
    InputEnded,
    KeepPolicy,
    Kept,
    Opened,
    Seen,
    SetPoint,
    Stop,
    StopAsked,
    Terminated,
    Told,
)
from edgeagent.core.shaping import AxisRange, Limits

POLICY = KeepPolicy()
START = 1000.0
AXES = {"throttle": AxisRange(), "steer": AxisRange(position=True)}
DEVICES = {
    "left": Kept("drive", AXES, {"throttle": Limits(slew=1.0)}),
    "right": Kept("drive", AXES),
    "arm": Kept("arm", AXES, {"steer": Limits(slew=1.0)}),
    "head": Kept("head", {"pan": AxisRange(position=True)}),
}


class Rig:
    """A keeper, driven by hand."""

    def __init__(self, *there: str) -> None:
        self.now = START
        self.keeping = Keeping(DEVICES, 7, self.now)
        for name in there or tuple(DEVICES):
            self.take(Opened(name))

    def take(self, event: Event) -> list[Effect]:
        return self.keeping.handle(event, self.now)

    def set(self, life_s: float = 0.3, run: int = 7, **values: float) -> list[Effect]:
        wanted = {name: {"throttle": value} for name, value in values.items()}
        return self.take(SetPoint(run, self.keeping.halts, self.now + life_s, wanted))

    def wait(self, seconds: float, alive: bool = True) -> list[Effect]:
        """Let time pass as a loop does, which wakes at each deadline."""
        effects: list[Effect] = []
        end = self.now + seconds
        while self.now < end:
            deadline = self.keeping.next_deadline()
            self.now = min(end, self.now + 0.1, max(self.now, deadline) if deadline is not None else end)
            if alive:
                effects += self.take(Alive(self.now))
            effects += self.keeping.tick(self.now)
        return effects


def of(kind: type[Effect], effects: list[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: list[Effect]) -> list[tuple[tuple[str, ...], str]]:
    return [(effect.devices, effect.why) for effect in of(Told, effects)]


def test_a_set_point_moves_and_expires() -> None:
    rig = Rig()
    (apply,) = rig.set(right=0.5)
    assert apply == Apply("right", {"throttle": 0.5}, START + 0.3)
    assert rig.wait(0.29) == []
    effects = rig.wait(0.02)
    assert effects == [Stop("right"), Told(("right",), "expired", START + 0.3, 1)]
    assert rig.wait(2) == []


def test_what_is_due_comes_before_what_arrives() -> None:
    """A set-point that comes when its forerunner has expired cannot hide that."""
    rig = Rig()
    rig.set(right=0.5)
    rig.now += 0.31
    assert told(rig.set(right=0.5)) == [(("right",), "expired")]
    assert rig.keeping.moving() == []


def test_a_ramp_goes_on_between_set_points() -> None:
    rig = Rig()
    rig.set(left=1.0)
    applies = of(Apply, rig.wait(0.2))
    assert len(applies) == pytest.approx(10, abs=1)
    assert [a.values["throttle"] for a in applies] == sorted(a.values["throttle"] for a in applies)


def test_nobody_lives_longer_than_is_allowed() -> None:
    rig = Rig()
    rig.set(life_s=60, right=1.0)
    rig.wait(POLICY.max_life_s - 0.01)
    assert rig.keeping.moving() == ["right"]
    assert Stop("right") in rig.wait(0.02)


def test_an_axis_left_out_goes_to_neutral_and_a_position_stays() -> None:
    rig = Rig()
    rig.take(SetPoint(7, 0, rig.now + 0.3, {"right": {"throttle": 1.0, "steer": 0.4}}))
    (apply,) = of(Apply, rig.take(SetPoint(7, 0, rig.now + 0.3, {"right": {}})))
    assert apply.values == {"throttle": 0.0, "steer": 0.4}


def test_of_a_group_only_the_last_expiry_is_told() -> None:
    """Somebody who pans and no longer drives is not disarmed by that."""
    rig = Rig()
    rig.set(life_s=0.1, left=0.1)
    rig.set(life_s=0.3, right=0.1)
    effects = rig.wait(0.2)
    assert (of(Stop, effects), told(effects)) == ([Stop("left")], [])
    assert told(rig.wait(0.2)) == [(("right",), "expired")]


def test_silence_stops_everything_until_a_fresh_sign_of_life() -> None:
    rig = Rig()
    rig.set(life_s=2, right=0.5)
    effects = rig.wait(0.6, alive=False)
    assert {stop.device for stop in of(Stop, effects)} == set(DEVICES)
    assert told(effects) == [(tuple(DEVICES), "silence")]
    assert rig.set(right=0.5) == []
    rig.take(Alive(rig.now - 1))  # it waited in the socket
    assert rig.set(right=0.5) == []
    rig.take(Alive(rig.now))
    assert of(Apply, rig.set(right=0.5))
    assert rig.keeping.refused == {"deaf": 2}


def test_its_own_lateness_is_no_silence_of_the_agent() -> None:
    rig = Rig()
    rig.now += 3
    assert rig.take(Alive(rig.now - 0.05)) == []
    assert rig.keeping.state is KeeperState.LISTENING


def test_what_was_sent_before_the_stop_was_known_moves_nothing() -> None:
    rig = Rig()
    rig.set(right=0.5)
    rig.take(Held())
    assert rig.take(SetPoint(7, 0, rig.now + 0.3, {"right": {"throttle": 1.0}})) == []
    assert rig.set(run=6, right=1.0) == []
    assert rig.set(life_s=0, right=1.0) == []
    assert of(Apply, rig.set(right=1.0))
    assert rig.keeping.refused == {"halts": 1, "run": 1, "late": 1}


def test_a_fault_stops_its_group_and_no_other() -> None:
    rig = Rig()
    rig.set(left=0.5, right=0.5, arm=0.5)
    effects = rig.take(Failed("left"))
    assert of(Stop, effects) == [Stop("left"), Stop("right")]
    assert told(effects) == [(("left", "right"), "device")]
    assert of(Apply, rig.set(right=0.5, arm=0.6)) == [Apply("arm", {"throttle": 0.6}, rig.now + 0.3)]
    assert rig.take(Failed("left")) == []
    rig.take(Opened("left"))
    assert of(Apply, rig.set(right=0.5))


def test_a_group_waits_for_all_of_its_devices() -> None:
    rig = Rig("left")
    assert rig.set(left=0.5) == []
    rig.take(Opened("right"))
    assert of(Apply, rig.set(left=0.5))


def test_stops_that_are_asked_for() -> None:
    rig = Rig()
    rig.set(left=0.5, right=0.5, arm=0.5)
    assert rig.take(StopAsked(["arm", "nobody"])) == [Stop("arm")]
    assert rig.take(StopAsked()) == [Stop(name) for name in DEVICES]
    assert rig.keeping.halts == 0
    assert rig.wait(1) == []
    (apply,) = of(Apply, rig.set(left=1.0))
    assert apply.values["throttle"] <= 0.05  # the ramp begins again


def steer(rig: Rig, *, throttle: float = 0.0, **steer: float) -> list[dict[str, float]]:
    """What the arm is given."""
    values = {"arm": {"throttle": throttle, **steer}}
    return [a.values for a in of(Apply, rig.take(SetPoint(7, rig.keeping.halts, rig.now + 0.3, values)))]


def test_a_stop_ends_the_way_to_a_position() -> None:
    """Who arms it anew and leaves the position out does not send it on where it was going before."""
    rig = Rig()
    steer(rig, steer=1.0)
    (here,) = steer(rig)
    assert here["steer"] < 1
    rig.take(StopAsked())
    rig.wait(1)
    assert steer(rig) == [{"throttle": 0.0}]
    assert [a.values for a in of(Apply, rig.wait(0.2))] == []
    (on,) = steer(rig, steer=1.0)
    assert here["steer"] <= on["steer"] <= here["steer"] + 0.05


def test_a_position_that_nobody_told_anything_is_given_nothing() -> None:
    rig = Rig()
    assert rig.take(SetPoint(7, 0, rig.now + 0.3, {"head": {}})) == []
    assert rig.keeping.moving() == ["head"]
    assert of(Stop, rig.wait(0.31)) == [Stop("head")]


def test_a_device_that_was_opened_anew_begins_where_it_stands_then() -> None:
    rig = Rig()
    for _ in range(40):
        steer(rig, steer=1.0)
        rig.wait(0.05)
    rig.take(Failed("arm"))
    rig.take(Opened("arm"))
    (first,) = steer(rig, steer=0.5)
    assert first["steer"] <= 0.05


def test_what_a_command_turned_is_not_turned_back() -> None:
    rig = Rig()
    steer(rig, steer=0.4)
    rig.take(Commanded("arm"))
    assert steer(rig, throttle=1.0) == [{"throttle": 1.0}]


@pytest.mark.parametrize("says", ["itself", "reading"])
def test_a_ramp_goes_on_from_where_a_command_has_put_it(says: str) -> None:
    rig = Rig()
    for _ in range(40):
        (high,) = steer(rig, steer=0.8)
        rig.wait(0.05)
    assert high["steer"] > 0.7
    rig.take(Commanded("arm"))
    assert steer(rig, steer=0.1) == [{"throttle": 0.0}], "while nobody knows where it will be"
    if says == "itself":
        rig.take(Carried("arm", places={"steer": 0.0}))
    else:
        rig.take(Seen("arm", {"steer": 0.8, "throttle": 0.7, "volts": "low"}))  # from before it began, as nobody can see
        rig.take(Carried("arm", places={"steer": 0.0}))
    begun = [a.values["steer"] for a in of(Apply, rig.keeping.tick(rig.now))]
    assert begun == [0.0], "what was wanted meanwhile"
    rig.wait(0.02)
    (on,) = steer(rig, steer=0.1)
    assert 0 < on["steer"] <= 0.021
    rig.take(Seen("arm", {"steer": -1.0}))  # an older one, or one that lags: the ramp knows better
    assert steer(rig, steer=0.1)[0]["steer"] >= on["steer"]


def test_each_of_several_commands_is_waited_for() -> None:
    rig = Rig()
    for _ in range(3):
        rig.take(Commanded("arm"))
    rig.take(Carried("arm", 2, {"steer": 0.5}))
    assert steer(rig, steer=0.5) == [{"throttle": 0.0}]
    rig.take(Carried("arm"))
    assert steer(rig, steer=0.5)[-1] == {"throttle": 0.0, "steer": 0.5}


def test_where_only_readings_say_where_it_is_one_behind_the_last_command_counts() -> None:
    rig = Rig()
    rig.take(Commanded("head"))
    rig.take(Commanded("head"))
    rig.take(Carried("head", 1, {"pan": 0.25}))
    rig.take(Seen("head", {"pan": 0.25}))
    rig.take(Carried("head"))
    assert rig.keeping._devices["head"].unsure == {"pan"}
    rig.take(Seen("head", {"pan": 0.5}))
    assert rig.keeping._devices["head"].unsure == set()


@pytest.mark.parametrize("place", [512.0, -1.2])
def test_a_reading_in_another_unit_is_no_place(place: float) -> None:
    rig = Rig()
    rig.take(Seen("arm", {"steer": place}))
    assert abs(steer(rig, steer=0.0)[0]["steer"]) <= 0.05
    rig.take(Commanded("arm"))
    rig.take(Carried("arm", places={"steer": 1.05}))  # the end, as it is measured
    assert steer(rig, steer=1.0)[-1]["steer"] == 1.0


def test_the_first_reading_says_where_a_device_that_was_opened_stands() -> None:
    rig = Rig()
    rig.take(Failed("arm"))
    rig.take(Opened("arm"))
    rig.take(Seen("arm", {"steer": 0.6}))
    (first,) = steer(rig, steer=0.5)
    assert first["steer"] == pytest.approx(0.6, abs=0.051)


def test_told_to_end() -> None:
    rig = Rig()
    rig.set(right=0.5)
    assert told(rig.take(Terminated())) == [(tuple(DEVICES), "ending")]
    assert rig.take(Terminated()) == []
    assert rig.set(right=0.5) == []
    effects = rig.wait(POLICY.leave_s + 0.01)
    assert of(End, effects) == [End()]
    assert rig.keeping.state is KeeperState.GONE
    assert rig.take(InputEnded()) == []


def test_the_end_of_input_ends_everything() -> None:
    rig = Rig()
    rig.set(right=0.5)
    assert rig.take(InputEnded()) == [*(Stop(name) for name in DEVICES), End()]
    assert rig.keeping.next_deadline() is None


class AnyOrder(RuleBasedStateMachine):
    """Compares the effects with a plain model of what may move."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(*DEVICES)
        self.there = set(DEVICES)
        self.known = 0  # halts that the agent has been told
        self.heard = START
        self.ended = self.leaving = False
        self.commands = dict.fromkeys(DEVICES, 0)  # that are not over
        self.named: set[tuple[str, str]] = set()  # positions that a set-point has named since the last command or stop
        self.output = {(name, axis): (0.0, START) for name, kept in DEVICES.items() for axis in kept.limits}
        """Of axes with a slew rate: what they are given, and since when."""
        self.until: dict[str, float] = {}
        """Devices whose driver was given a value since it was stopped, and until when it may have it."""

    def check(self, effects: list[Effect]) -> None:
        now = self.rig.now
        for effect in effects:
            match effect:
                case Apply(name, values, until):
                    assert name in self.there
                    assert not self.leaving and not self.ended
                    assert now < until <= now + POLICY.max_life_s
                    assert now < self.heard + POLICY.silence_s
                    assert all(-1 <= value <= 1 for value in values.values())
                    self.until[name] = until
                    for axis, value in values.items():
                        if DEVICES[name].axes[axis].position:
                            assert not self.commands[name], "where a command will put it nobody knows yet"
                            assert (name, axis) in self.named, "what a command or a stop has ended stays ended"
                        if (name, axis) in self.output:
                            before, at = self.output[name, axis]
                            slew = DEVICES[name].limits[axis].slew or 0.0
                            assert abs(value - before) <= slew * (now - at) + 1e-9, "no leap"
                            self.output[name, axis] = value, now
                case Stop(name):
                    self.until.pop(name, None)
                    self.ended_ways(name)
                    for key in self.output.keys() & {(name, "throttle")}:
                        self.output[key] = 0.0, now
                case Told(devices, _, at, halts):
                    assert at == now and halts == self.rig.keeping.halts
                    assert not self.until.keys() & set(devices)

    def ended_ways(self, device: str) -> None:
        self.named = {key for key in self.named if key[0] != device}

    def take(self, event: Event) -> list[Effect]:
        effects = self.rig.take(event)
        self.check(effects)
        return effects

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.29, 0.3, 0.31, 0.49, 0.51, 0.55, 1.2]), step=st.booleans())
    def time_passes(self, seconds: float, step: bool) -> None:
        end = self.rig.now + seconds
        deadline = self.rig.keeping.next_deadline()
        while step and deadline is not None and deadline < end:
            self.rig.now = max(self.rig.now, deadline)
            self.check(self.rig.keeping.tick(self.rig.now))
            after = self.rig.keeping.next_deadline()
            assert after is None or after > self.rig.now  # no spinning
            deadline = after
        self.rig.now = end
        self.check(self.rig.keeping.tick(end))

    @rule(age_s=st.sampled_from([0.0, 0.0, 0.01, 0.3, 0.5, 0.6]))
    def alive(self, age_s: float) -> None:
        self.heard = max(self.heard, self.rig.now - age_s)
        self.take(Alive(self.rig.now - age_s))

    @rule(
        life_s=st.sampled_from([0.3, 0.3, 0.05, 1.0, 2.5, 0.0, -0.1]),
        fresh=st.sampled_from([True, True, False]),
        halts_behind=st.sampled_from([0, 0, 0, 1]),
        run=st.sampled_from([7, 7, 7, 6]),
        values=st.dictionaries(
            st.sampled_from([*DEVICES, *DEVICES, "nobody"]),
            st.dictionaries(st.sampled_from(["throttle", "steer", "nothing"]), st.floats(-3, 3), max_size=3),
            min_size=1,
            max_size=3,
        ),
    )
    def set_point(self, life_s: float, fresh: bool, halts_behind: int, run: int, values: dict[str, dict[str, float]]) -> None:
        if fresh:
            self.alive(0.0)
        halts = self.rig.keeping.halts
        self.check(self.rig.keeping.tick(self.rig.now))  # what is due before it
        self.named |= {(name, axis) for name, given in values.items() for axis in given}
        effects = self.take(SetPoint(run, halts - halts_behind, self.rig.now + life_s, values))
        if (halts_behind and halts == self.rig.keeping.halts) or run != 7 or life_s <= 0:
            assert not {a.device for a in of(Apply, effects) if a.until == self.rig.now + life_s}

    @rule(names=st.none() | st.lists(st.sampled_from([*DEVICES, "nobody"]), max_size=3))
    def stop(self, names: list[str] | None) -> None:
        """A stop wins: whatever was due at the same moment, it comes last."""
        self.take(StopAsked(names))
        assert not self.until.keys() & set(DEVICES if names is None else names)

    @rule(name=st.sampled_from([*DEVICES, "nobody"]))
    def commanded(self, name: str) -> None:
        self.check(self.rig.keeping.tick(self.rig.now))
        if name in DEVICES:
            self.commands[name] += 1
            self.ended_ways(name)
            if all(axis.position for axis in DEVICES[name].axes.values()):
                self.until.pop(name, None)  # of what a set-point told it nothing is left
        assert not of(Stop, self.take(Commanded(name)))

    @precondition(lambda self: any(self.commands.values()))
    @rule(data=st.data(), place=st.floats(-1, 1), says=st.sampled_from(["itself", "older reading as well"]))
    def carried(self, data: st.DataObject, place: float, says: str) -> None:
        """The command has put what it turns there, as the driver says or is read; an older reading may be on its way."""
        name = data.draw(st.sampled_from([name for name, count in self.commands.items() if count]))
        self.over(name, data.draw(st.integers(1, self.commands[name])), place, says)

    def over(self, name: str, count: int, place: float, says: str) -> None:
        axis = "pan" if name == "head" else "steer"
        self.check(self.rig.keeping.tick(self.rig.now))
        self.commands[name] -= count
        if (name, axis) in self.output:
            self.output[name, axis] = place, self.rig.now
        if says == "older reading as well":
            self.take(Seen(name, {axis: -place, "throttle": 1.0}))
        self.take(Carried(name, count, {axis: place}))

    @rule(
        name=st.sampled_from(list(DEVICES)),
        wishes=st.lists(st.floats(-1, 1) | st.none(), min_size=3, max_size=3),
        place=st.floats(-1, 1),
        says=st.sampled_from(["itself", "older reading as well"]),
    )
    def errand(self, name: str, wishes: list[float | None], place: float, says: str) -> None:
        """A command among set-points, as a page sends both; some of them name the place that it turns."""
        axis = "pan" if name == "head" else "steer"
        for number, wish in enumerate(wishes):
            if number == 1:
                self.commanded(name)
            self.set_point(1.0, True, 0, 7, {name: {} if wish is None else {axis: wish}})
            if number == 1:
                self.over(name, self.commands[name], place, says)
            self.time_passes(0.05, True)

    @rule()
    def held(self) -> None:
        self.take(Held())
        assert not self.until

    @rule(name=st.sampled_from(list(DEVICES)))
    def fails(self, name: str) -> None:
        was_there = name in self.there
        self.take(Failed(name))
        self.there.discard(name)
        if was_there:
            assert not {other for other in self.until if DEVICES[other].group == DEVICES[name].group}

    @rule(name=st.sampled_from(list(DEVICES)))
    def opens(self, name: str) -> None:
        if not self.ended:
            self.there.add(name)
        self.check(self.rig.keeping.tick(self.rig.now))
        for key in self.output.keys() & {(name, "throttle"), (name, "steer")}:
            self.output[key] = 0.0, self.rig.now
        self.take(Opened(name))

    @precondition(lambda self: not self.ended and self.rig.now > START + 3)
    @rule()
    def terminated(self) -> None:
        self.take(Terminated())
        self.leaving = True
        assert not self.until

    @precondition(lambda self: self.leaving)
    @rule()
    def input_ends(self) -> None:
        self.take(InputEnded())
        self.ended = True

    @invariant()
    def nothing_moves_that_may_not(self) -> None:
        """Every silence ends in a stop: after each tick nobody has a value whose time is over."""
        for name, until in self.until.items():
            assert self.rig.now < until
            assert self.rig.now < self.heard + POLICY.silence_s
            assert {other for other in DEVICES if DEVICES[other].group == DEVICES[name].group} <= self.there
        # The head alone may have nothing that it was told.
        assert self.until.keys() <= set(self.rig.keeping.moving()) <= self.until.keys() | {"head"}


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
