"""One device's thread, with a clock of the test's own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor, command
from edgeagent.errors import PeerError
from edgeagent.keeper.thread import RESCUE_S, Carried, DeviceThread, Failed, Opened, Report
from edgeagent.wire.keeper import Order, Read
from tests.support.procs import wait_until

pytestmark = pytest.mark.realtime


class Stuck(Actuator):
    """Its `apply` returns when it is let go."""

    class Options(BaseModel, extra="forbid"):
        pass

    def __init__(self) -> None:
        super().__init__("motor", self.Options())
        self.inside, self.go = threading.Event(), threading.Event()
        self.applied = 0
        self.stops: list[str] = []

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis()}

    def open(self) -> None: ...
    def close(self) -> None: ...

    def apply(self, values: Mapping[str, float]) -> None:
        self.inside.set()
        self.go.wait(60)
        self.applied += 1

    @command()
    def dance(self) -> None:
        self.apply({})

    def stop(self) -> None:
        self.stops.append(threading.current_thread().name)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.reports: list[Report] = []
        self.motor = Stuck()
        self.thread = DeviceThread("motor", self.motor, self.reports.append, clock=lambda: self.now)
        self.thread.start()
        wait_until(lambda: Opened("motor") in self.reports, "it to be open")

    def apply(self, throttle: float) -> None:
        """And wait until the driver has done so."""
        before = self.motor.applied
        self.thread.apply({"throttle": throttle}, self.now + 0.3)
        wait_until(lambda: self.motor.applied > before, "it to be applied")

    def look(self) -> None:
        for _ in range(5):
            assert self.thread.look() == ""


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.motor.go.set()
    world.thread.close()
    assert world.thread.ended(30)


@pytest.mark.parametrize(("life_s", "fails_after_s"), [(0.3, 0.3), (2.0, 1.0)])
def test_an_apply_that_outlives_its_set_point_has_failed(world: World, life_s: float, fails_after_s: float) -> None:
    """Though newer set-points come all the time."""
    world.thread.apply({"throttle": 1.0}, world.now + life_s)
    assert world.motor.inside.wait(30)
    for _ in range(9):
        world.now += fails_after_s / 10
        world.thread.apply({"throttle": 0.0}, world.now + life_s)
        world.look()
    assert Failed("motor") not in world.reports
    world.now += fails_after_s / 10 + 0.01
    world.look()
    assert Failed("motor") in world.reports
    # Upon which the keeper stops the group, and with it this one.
    world.thread.stop()
    world.look()
    world.now += RESCUE_S + 0.01
    world.look()
    wait_until(lambda: "rescue-motor" in world.motor.stops, "it to be stopped beside its own thread")


def test_a_slow_one_is_left_alone(world: World) -> None:
    world.thread.apply({"throttle": 1.0}, world.now + 0.3)
    assert world.motor.inside.wait(30)
    world.now += 0.2
    world.look()
    world.motor.go.set()
    world.thread.stop()
    wait_until(lambda: not world.thread.stopping, "it to be stopped")
    world.now += 5.0  # nothing runs
    world.look()
    assert Failed("motor") not in world.reports


@pytest.mark.parametrize("driven", [True, False])
def test_a_command_may_keep_set_points_waiting_only_while_nothing_moves_by_them(world: World, driven: bool) -> None:
    """Else nobody can make it stand still but by a stop, and the wish for neutral is none."""
    world.motor.go.set()
    for throttle in (0.7, 0.7 if driven else 0.0):
        world.apply(throttle)
    world.motor.go.clear()
    world.motor.inside.clear()
    world.thread.order(Order(run=0, id=1, device="motor", command="dance"))
    assert world.motor.inside.wait(30)
    world.now += 0.9
    world.look()
    world.thread.apply({"throttle": 0.0}, world.now + 0.3)
    world.now += 0.2
    world.thread.apply({"throttle": 0.0}, world.now + 0.3)
    world.look()
    assert Failed("motor") not in world.reports
    world.now += 0.11
    world.look()
    assert (Failed("motor") in world.reports) == driven
    for _ in range(9):
        world.now += 0.4
        world.thread.apply({"throttle": 1.0}, world.now + 0.3)
        world.look()
    assert (Failed("motor") in world.reports) == driven
    world.now += world.motor.timeout_s
    world.look()
    assert Failed("motor") in world.reports


def test_what_was_stopped_moves_by_no_set_point(world: World) -> None:
    """So that a command may take its time again."""
    world.motor.go.set()
    world.apply(1.0)
    stops = len(world.motor.stops)
    world.thread.stop()
    wait_until(lambda: len(world.motor.stops) > stops and not world.thread.stopping, "it to be stopped")
    world.motor.go.clear()
    world.motor.inside.clear()
    world.thread.order(Order(run=0, id=1, device="motor", command="dance"))
    assert world.motor.inside.wait(30)
    world.thread.apply({"throttle": 0.0}, world.now + 0.3)
    world.now += 0.9
    world.look()
    assert Failed("motor") not in world.reports


@pytest.mark.parametrize("behind", ["", "apply", "stop"])
def test_a_command_may_have_left_it_moving(world: World, behind: str) -> None:
    """Then nothing may keep the wish to stand still waiting for long."""
    world.motor.go.set()
    thread = world.thread

    def dance(number: int) -> None:
        applied = world.motor.applied
        thread.order(Order(run=0, id=number, device="motor", command="dance"))
        wait_until(lambda: world.motor.applied > applied, "it to be called")

    dance(1)
    wait_until(lambda: any(isinstance(report, Carried) for report in world.reports), "it to be over")
    if behind == "apply":
        world.apply(0.0)
    elif behind == "stop":
        stops = len(world.motor.stops)
        thread.stop()
        wait_until(lambda: len(world.motor.stops) > stops and not thread.stopping, "it to be stopped")
    world.motor.go.clear()
    world.motor.inside.clear()
    thread.order(Order(run=0, id=2, device="motor", command="dance"))
    assert world.motor.inside.wait(30)
    thread.apply({"throttle": 0.0}, world.now + 0.3)
    world.now += 0.31
    world.look()
    assert (Failed("motor") in world.reports) == (not behind)


class Mount(Stuck, Sensor):
    """Holds a place, and writes down what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis(), "pan": Axis(position=True)}

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"pan": Reading()}

    def read(self) -> Readings:
        self.log.append("read")
        return {"pan": 0.25}

    def apply(self, values: Mapping[str, float]) -> None:
        self.log.append(dict(values))
        super().apply(values)

    @command()
    def turn(self, to: float) -> None:
        self.log.append(self.within("pan", to))

    @command()
    def home(self) -> None:
        self.log.append("home")
        self.turned("pan", 0.0)

    @command()
    def level(self) -> None:
        self.log.append("level")

    @command()
    def fail(self) -> None:
        self.within("pan", 1.0)
        raise PeerError(409, "The gate is open already.")


@pytest.fixture
def mount() -> Iterator[tuple[Mount, DeviceThread, list[Report]]]:
    reports: list[Report] = []
    mount = Mount()
    mount.within = lambda axis, value: value / 2
    thread = DeviceThread("motor", mount, reports.append, clock=lambda: 100.0)
    thread.start()
    wait_until(lambda: mount.log == ["read"], "the first reading")
    yield mount, thread, reports
    mount.go.set()
    thread.close()
    assert thread.ended(30)


def test_what_waits_from_before_a_command_does_not_undo_it(mount: tuple[Mount, DeviceThread, list[Report]]) -> None:
    driver, thread, _ = mount
    thread.apply({"throttle": 0.5, "pan": 0.1}, 200.0)
    assert driver.inside.wait(30)
    thread.apply({"throttle": 0.6, "pan": 0.2}, 200.0)
    assert thread.order(Order(run=0, id=1, device="motor", command="home"))
    driver.go.set()
    wait_until(lambda: len(driver.log) == 5, "all of it")
    assert driver.log == ["read", {"throttle": 0.5, "pan": 0.1}, "home", {"throttle": 0.6}, "read"]


def test_where_commands_have_put_it_is_told_after_it_was_read(mount: tuple[Mount, DeviceThread, list[Report]]) -> None:
    driver, thread, reports = mount

    def carried() -> list[Carried]:
        return [report for report in reports if isinstance(report, Carried)]

    def call(number: int, name: str, **args: float) -> None:
        assert thread.order(Order(run=0, id=number, device="motor", command=name, args=args))
        wait_until(lambda: sum(each.count for each in carried()) == number, "it to be over")

    call(1, "turn", to=0.8)
    call(2, "home")
    call(3, "fail")
    call(4, "level")
    assert [each.places for each in carried()] == [{"pan": 0.4}, {"pan": 0.0}, {"pan": 0.25}, {"pan": 0.25}]
    for number, each in enumerate(reports):
        if isinstance(each, Carried):
            assert isinstance(reports[number - 1], Read), "so that its place is known by then"
    assert not thread.order(Order(run=0, id=5, device="motor", command="turn"))
    thread.apply({"throttle": 0.5}, 200.0)
    assert driver.inside.wait(30)
    for number, name, args in (6, "turn", {"to": 0.8}), (7, "level", {}):
        assert thread.order(Order(run=0, id=number, device="motor", command=name, args=args))
    driver.go.set()
    wait_until(lambda: sum(each.count for each in carried()) == 6, "both to be over")
    assert carried()[-1].places == {"pan": 0.25}, "the first of them does not know"
    driver.inside.clear()
    driver.go.clear()
    thread.apply({"throttle": 0.5}, 200.0)
    assert driver.inside.wait(30)
    assert thread.order(Order(run=0, id=8, device="motor", command="home"))
    thread.stop()
    assert sum(each.count for each in carried()) == 7, "what never began is over, too"


class Slow(Stuck, Sensor):
    """It is read as well, and writes down what is done."""

    interval_s = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"battery": Reading(stop_below=10.0)}

    def read(self) -> Readings:
        self.log.append("read")
        return {"battery": 12.0}

    def apply(self, values: Mapping[str, float]) -> None:
        self.log.append("apply")
        super().apply(values)

    @command()
    def horn(self) -> None:
        self.log.append("horn")


def test_a_reading_that_it_knows_no_more_is_told_to_be_unknown_once() -> None:
    reports, motor = list[Report](), Slow()
    told = iter([{"battery": 12.0}, {}, {}, {"battery": 11.0}])
    motor.read = lambda: next(told)  # type: ignore[method-assign]
    thread = DeviceThread("motor", motor, reports.append, clock=lambda: 100.0)  # so that it is read once, and after each command
    thread.start()

    def carried() -> int:
        return sum(each.count for each in reports if isinstance(each, Carried))

    try:
        wait_until(lambda: any(isinstance(each, Read) for each in reports), "the first reading")
        for number in 1, 2, 3:
            assert thread.order(Order(run=0, id=number, device="motor", command="horn"))
            wait_until(functools.partial(lambda so_many: carried() == so_many, number), "it to be read again")
        assert [each.values for each in reports if isinstance(each, Read)] == [{"battery": 12.0}, {}, {"battery": 11.0}]
    finally:
        thread.close()
        assert thread.ended(30)


def test_set_points_that_come_faster_than_it_takes_them_keep_nothing_else_waiting() -> None:
    now, reports, motor = [100.0], list[Report](), Slow()
    thread = DeviceThread("motor", motor, reports.append, clock=lambda: now[0])
    thread.start()
    try:
        wait_until(lambda: motor.log == ["read"], "the first reading")
        thread.apply({"throttle": 1.0}, now[0] + 60)
        assert motor.inside.wait(30)
        now[0] += 1.0  # it is to be read again
        thread.order(Order(run=0, id=1, device="motor", command="horn"))
        again, motor.inside = motor.go, threading.Event()
        motor.go = threading.Event()
        thread.apply({"throttle": 0.9}, now[0] + 60)
        again.set()
        assert motor.inside.wait(30)
        assert motor.log == ["read", "apply", "horn", "apply"]
        thread.apply({"throttle": 0.8}, now[0] + 60)
        motor.go.set()
        wait_until(lambda: len(motor.log) == 6, "the third")
        assert motor.log[4:] == ["read", "apply"]
    finally:
        motor.go.set()
        thread.close()
        assert thread.ended(30)
