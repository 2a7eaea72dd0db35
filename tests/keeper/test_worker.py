"""Orders to what is stopped in the same turn of the worker's loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagent.core import keeping_events as e
from edgeagent.core.keeping import Keeping
from edgeagent.core.shaping import AxisRange
from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor, command, commands
from edgeagent.drivers.device import limited_place
from edgeagent.keeper.worker import Prepared, Worker
from edgeagent.wire import keeper as wire


class Thread:
    """In place of a device's."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def stop(self) -> None:
        self.log.append("stop")

    def apply(self, values: Mapping[str, float], until: float) -> None:
        self.log.append("apply")

    def order(self, order: wire.Order) -> bool:
        self.log.append(order.command)
        return True


class Rig:
    """A worker that is turned by hand, and the agent's end. The device was told to move `ago_s` ago, for as long as `life_s`."""

    def __init__(self, ends: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
        agent, self.agent, guard, self.guard = ends
        for end in ends:
            end.setblocking(False)
        self.now = 1000.0
        monkeypatch.setattr("edgeagent.keeper.worker.time", SimpleNamespace(monotonic=lambda: self.now))
        self.worker = Worker(agent, guard, [], 1, "")
        self.thread = Thread()
        self.worker._threads = {"rover": self.thread}  # type: ignore[dict-item]
        self.worker._keeping = Keeping({"rover": e.Kept("drive", {"throttle": AxisRange()})}, 1, self.now)
        self.worker._keeping.handle(e.Opened("rover"), self.now)
        self.worker._pulse_at = 1e9
        self.file = agent.fileno()
        self.turn(wire.Set(run=1, halts=0, until=self.now + 0.3, values={"rover": {"throttle": 0.5}}))
        assert self.thread.log == ["apply"]
        self.thread.log.clear()

    def turn(self, *messages: wire.Message) -> list[wire.Message]:
        """What the worker does with these in one turn, and answers."""
        for message in messages:
            self.agent.send(wire.encode(message))
        self.worker._turn({self.file: 1} if messages else {}, [])
        answers: list[wire.Message] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                answers.append(wire.decode_keeper(self.agent.recv(wire.MAX_PACKET)))
        return answers


ORDER = wire.Order(run=1, id=1, device="rover", command="spin")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    ends = [*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), *socket.socketpair()]
    rig = Rig(ends, monkeypatch)
    yield rig
    for end in (*ends, rig.worker._woken, rig.worker._wake_end):
        end.close()


def code(answers: list[wire.Message]) -> int:
    (done,) = [answer for answer in answers if isinstance(answer, wire.Done)]
    return done.code


@pytest.mark.parametrize(
    ("passed_s", "before", "expected"),
    [
        (0.31, lambda rig: [wire.Alive(at=rig.now)], 409),
        (0.31, lambda rig: [wire.Alive(at=rig.now), wire.Set(run=1, halts=0, until=rig.now + 0.3, values={"rover": {}})], 409),
        (0.31, lambda rig: [], 409),
        (0.31, lambda rig: [wire.Stop()], 409),
        (0.51, lambda rig: [], 503),
    ],
)
def test_a_command_never_comes_behind_the_stop_of_its_device(
    rig: Rig, passed_s: float, before: Callable[[Rig], list[wire.Message]], expected: int
) -> None:
    rig.now += passed_s
    assert code(rig.turn(*before(rig), ORDER)) == expected
    assert set(rig.thread.log) == {"stop"}


def test_a_command_does_not_come_behind_the_keepers_own_delay(rig: Rig) -> None:
    rig.worker._held = True
    assert code(rig.turn(wire.Alive(at=rig.now), ORDER)) == 409
    assert rig.thread.log == ["stop"]


def test_a_command_that_was_asked_for_behind_a_stop_is_taken(rig: Rig) -> None:
    rig.turn(wire.Stop(), ORDER)
    assert rig.thread.log == ["stop", "spin"]
    rig.now += 0.31
    rig.turn(wire.Alive(at=rig.now))
    rig.turn(ORDER)
    assert rig.thread.log == ["stop", "spin", "spin"]


def test_a_command_of_somebody_who_did_not_know_of_the_keepers_stop_does_not_come(rig: Rig) -> None:
    """It arrives in a later turn: the agent's loop is late."""
    rig.now += 0.31
    (told,) = [answer for answer in rig.turn(wire.Alive(at=rig.now)) if isinstance(answer, wire.Stopped)]
    assert code(rig.turn(ORDER)) == 409
    assert rig.thread.log == ["stop"]
    rig.turn(ORDER.model_copy(update={"halts": told.halts}))
    assert rig.thread.log == ["stop", "spin"], "he has been told"


class Mount(Actuator, Sensor):
    """It stands where it was told to be."""

    def open(self) -> None:
        self.pan = 0.0

    def close(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"pan": Axis(minimum=-90, maximum=90, position=True), "speed": Axis()}

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"pan": Reading(), "speed": Reading(), "volts": Reading()}

    def apply(self, values: Mapping[str, float]) -> None:
        self.pan = values.get("pan", self.pan)

    def read(self) -> Readings:
        return {"pan": self.pan, "speed": 0.5, "volts": 7.4}

    @command()
    def home(self) -> None:
        self.pan = self.within("pan", 0.0)


def test_where_it_stands_has_no_limits() -> None:
    """They would be looked at in the operator's terms: with `invert`, what lies below would be above."""

    class Limited(Mount):
        readings: Mapping[str, Reading] = {"pan": Reading(stop_below=-60)}

    class Other(Mount):
        readings: Mapping[str, Reading] = {"pan": Reading(unit="V", stop_below=6), "speed": Reading(warn_above=0.9)}

    assert "The reading pan tells where the axis pan is" in limited_place(Limited("mount", None))
    assert limited_place(Other("mount", None)) == ""


class Direct(Thread):
    """Carries everything out at once."""

    def __init__(self, name: str, driver: Mount, report: Callable[[Any], None], **_: object) -> None:
        super().__init__()
        self.driver, self.report = driver, report

    def start(self) -> None:
        self.driver.open()
        self.report(e.Opened("mount"))
        self.read()

    def read(self) -> None:
        self.report(wire.Read(device="mount", at=0.0, values=dict(self.driver.read())))

    def apply(self, values: Mapping[str, float], until: float) -> None:
        self.driver.apply(values)
        self.read()

    def order(self, order: wire.Order) -> bool:
        commands.call(self.driver, order.command, order.args)
        self.read()
        self.report(e.Carried("mount", places={"pan": self.driver.pan}))
        return True


def mounted(rig: Rig, monkeypatch: pytest.MonkeyPatch, kind: type[Mount], **limits: Any) -> Direct:
    monkeypatch.setattr("edgeagent.keeper.worker.DeviceThread", Direct)
    kept = wire.KeptDevice(name="mount", driver="mount", limits={"pan": wire.AxisLimits(**limits)})
    rig.worker._prepared = [Prepared(kept, kind)]
    rig.worker._threads.clear()
    rig.worker._begin(rig.now)
    thread = rig.worker._threads["mount"]
    assert isinstance(thread, Direct)
    return thread


def test_a_reading_in_another_unit_is_no_place_whatever_its_value(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Volts(Mount):
        readings: Mapping[str, Reading] = {"pan": Reading(unit="V")}

        def read(self) -> Readings:
            return {"pan": 7.4}

    thread = mounted(rig, monkeypatch, Volts, invert=True, slew=0.5)
    told = [dict(answer.values) for answer in rig.turn() + rig.turn() if isinstance(answer, wire.Read)]
    assert told and all(values == {"pan": 7.4} for values in told), "it is told as it is"
    rig.turn(wire.Stop())
    thread.read()
    rig.turn()
    for _ in range(2):
        rig.turn(wire.Set(run=1, halts=0, until=rig.now + 0.3, values={"mount": {"pan": -90.0}}))
        rig.now += 0.02
    assert 0 < thread.driver.pan < 5, "the ramp begins at neutral, not at 7.4"


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"invert": True},
        {"top": 0.5, "trim": -0.3},
        {"trim": 0.2, "invert": True, "dead_zone": 0.1, "expo": 0.7},
        {"slew": 0.5, "trim": 0.2, "invert": True, "expo": 0.3},
    ],
)
def test_where_it_stands_is_told_so_that_a_stick_goes_on_from_there(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    thread = mounted(rig, monkeypatch, Mount, **limits)

    def turn(*messages: wire.Message) -> dict[str, Any]:
        """What was read last."""
        answers = rig.turn(*messages) + rig.turn()
        return [dict(answer.values) for answer in answers if isinstance(answer, wire.Read)][-1]

    def push(pan: float) -> dict[str, Any]:
        return turn(wire.Set(run=1, halts=0, until=rig.now + 0.3, values={"mount": {"pan": pan}}))

    turn()
    told = turn(wire.Order(run=1, id=1, device="mount", command="home"))
    assert told == {"pan": pytest.approx(0), "speed": 0.5, "volts": 7.4}, "home is where the operator has it in the middle"
    home = thread.driver.pan
    for _ in range(10):
        told = push(60.0)
        rig.now += 0.02
    slow = "slew" in limits
    assert told["pan"] < 30 if slow else told["pan"] == pytest.approx(60)
    assert thread.driver.pan != pytest.approx(home, abs=5)
    rig.turn(wire.Stop())
    stood = thread.driver.pan
    thread.read()
    told = turn()
    assert push(told["pan"])["pan"] == pytest.approx(told["pan"])
    assert thread.driver.pan == pytest.approx(stood, abs=1e-6), "the first push of a page that knows nothing else"
    thread.driver.pan = 512.0
    thread.read()
    assert turn()["pan"] == 512.0, "no place: as it is"
