"""One device's thread, with a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest
from pydantic import BaseModel

from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor, command
from edgeagent.keeper.thread import RESCUE_S, DeviceThread, Failed, Opened, Report
from edgeagent.wire.keeper import Order
from tests.support.procs import wait_until

pytestmark = pytest.mark.realtime


class Stuck(Actuator):
    """Its `apply` returns when it is let go."""

    class Options(BaseModel, extra="forbid"):
        pass

    def __init__(self) -> None:
        super().__init__("motor", self.Options())
        self.inside, self.go = threading.Event(), threading.Event()
        self.stops: list[str] = []

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis()}

    def open(self) -> None: ...
    def close(self) -> None: ...

    def apply(self, values: Mapping[str, float]) -> None:
        self.inside.set()
        self.go.wait(60)

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


def test_a_command_that_keeps_a_set_point_waiting_until_it_expires_has_failed(world: World) -> None:
    """While it lasts nobody can make it stand still but by a stop, and the wish for neutral is none."""
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
    assert Failed("motor") in world.reports


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
