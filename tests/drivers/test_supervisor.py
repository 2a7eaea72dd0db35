"""Devices under supervision: on the virtual clock where drivers answer, on a real one where they hang."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.drivers import Actuator, DeviceFault, Driver, PeerError, Reading, Readings, Sensor, Value, command
from edgeagent.drivers.supervisor import Supervisor, SupervisorPolicy
from edgeagent.drivers.thread import DriverThread

QUICK = SupervisorPolicy(open_s=0.2, close_s=0.2, retry_min_s=0.01, retry_max_s=0.02)


class Thermometer(Sensor):
    interval_s = 2.0

    def __init__(self, name: str = "thermometer") -> None:
        super().__init__(name, None)
        self.log: list[str] = []
        self.next: list[Any] = []
        self.hidden: Sequence[str] = ()

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"temperature": Reading(unit="°C"), "wet": Reading(kind="flag"), "state": Reading(kind="text")}

    def do(self, what: str) -> Any:
        self.log.append(what)
        then = self.next.pop(0) if self.next else None
        if isinstance(then, BaseException):
            raise then
        return then() if callable(then) else then

    def open(self) -> None:
        self.do("open")

    def close(self) -> None:
        self.log.append("close")

    def read(self) -> Readings:
        values: Readings | None = self.do("read")
        return {"temperature": 20.0} if values is None else values

    def secrets(self) -> Sequence[str]:
        return self.hidden


class Rover(Thermometer, Actuator):
    """Switches, reads, and takes commands."""

    timeout_s: ClassVar[float] = 5.0
    moves = False

    def stop(self) -> None:
        self.log.append("stop")

    @command()
    def honk(self, times: int = 1) -> Any:
        return self.do(f"honk {times}")


class Watchful(Thermometer):
    """Watches how it is treated: what is called twice at once, or while it is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.wrong: list[str] = []
        self.inside = ""
        self.is_open = False

    def do(self, what: str) -> Any:
        if self.inside:
            self.wrong.append(f"{what} during {self.inside}")
        if (what == "open") is self.is_open:
            self.wrong.append(f"{what} while {'open' if self.is_open else 'closed'}")
        self.is_open = True  # from the call of `open` on, since a half-open one is closed, too
        self.inside = what
        try:
            return super().do(what)
        finally:
            self.inside = ""

    def close(self) -> None:
        if self.inside:
            self.wrong.append(f"close during {self.inside}")
        super().close()
        self.is_open = False


class WatchfulRover(Watchful, Rover):
    pass


class HastyRover(Rover):
    timeout_s = 0.1


class Watch:
    def __init__(self) -> None:
        self.phases: list[tuple[str, str, str]] = []
        self.values: list[tuple[float, Mapping[str, Mapping[str, Value]]]] = []
        self.told = asyncio.Event()

    def device(self, name: str, phase: str, text: str) -> None:
        self.phases.append((name, phase, text))
        self.told.set()

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        self.values.append((at, values))
        self.told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(1000):
            while not condition():
                self.told.clear()
                await self.told.wait()

    def count(self, phase: str) -> int:
        return sum(told == phase for _, told, _ in self.phases)

    @property
    def last(self) -> tuple[str, str]:
        return self.phases[-1][1:]


@asynccontextmanager
async def supervised(*drivers: Driver, **options: Any) -> AsyncIterator[tuple[Supervisor, Watch]]:
    watch = Watch()
    options = {"clock": asyncio.get_running_loop().time, "random01": lambda: 0.5} | options
    supervisor = Supervisor({d.name: d for d in drivers}, watch, **options)
    supervisor.start()
    try:
        yield supervisor, watch
    finally:
        await supervisor.close()


async def settled(supervisor: Supervisor, device: str) -> None:
    """Until the driver has done what was handed to its thread; without a timer, so that the clock stands."""
    await asyncio.get_running_loop().run_in_executor(supervisor._devices[device].thread, lambda: None)


async def test_a_sensor_is_opened_read_at_its_interval_and_closed() -> None:
    sensor = Thermometer()
    async with supervised(sensor) as (supervisor, watch):
        assert watch.phases == []
        await watch.until(lambda: len(watch.values) == 3)
        assert supervisor.phase("thermometer") == "live"
    assert [phase for _, phase, _ in watch.phases] == ["starting", "live"]
    start = watch.values[0][0]
    assert [at - start for at, _ in watch.values] == [0, 2, 4]
    assert watch.values[0][1] == {"thermometer": {"temperature": 20.0}}
    assert sensor.log == ["open", "read", "read", "read", "close"]


async def test_the_owner_sets_the_interval() -> None:
    async with supervised(Thermometer(), intervals={"thermometer": 0.1}) as (_, watch):
        await watch.until(lambda: len(watch.values) == 3)
    assert watch.values[2][0] - watch.values[0][0] == pytest.approx(0.2)


async def test_a_sensor_that_wakes_is_read_at_once_but_not_to_death() -> None:
    sensor = Thermometer()
    async with supervised(sensor, intervals={"thermometer": 60}) as (_, watch):
        await watch.until(lambda: len(watch.values) == 1)
        began = watch.values[0][0]
        for _ in range(100):
            sensor.wake()
        await watch.until(lambda: len(watch.values) == 2)
        assert watch.values[1][0] - began == pytest.approx(SupervisorPolicy().wake_s)
        await asyncio.sleep(1)
        await asyncio.to_thread(sensor.wake)
        await watch.until(lambda: len(watch.values) == 3)
        assert watch.values[2][0] - began == pytest.approx(1.02)
    assert sensor.log.count("read") == 3


async def test_only_what_is_declared_and_finite_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    sensor = Thermometer()
    sensor.next = [None, {"temperature": float("nan"), "wet": True, "state": "x" * 300, "colour": 1}, {"wet": 1, "state": None}, 7]
    async with supervised(sensor) as (_, watch):
        await watch.until(lambda: len(watch.values) >= 3)
    assert watch.values[0][1] == {"thermometer": {"wet": True, "state": "x" * 200}}
    assert watch.values[1][1] == {"thermometer": {}}, "what it knew it knows no more, which is told once"
    assert watch.values[2][1] == {"thermometer": {"temperature": 20.0}}
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        "device thermometer: temperature is nan, not a finite number",
        "device thermometer: it read 'colour', which `readings` does not declare",
        "device thermometer: wet is a int, not a bool",
        "device thermometer: read() returned a int; it should return a dict of readings",
    ]


async def test_a_fault_is_told_and_the_device_opened_again_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    sensor = Thermometer()
    sensor.hidden = ["hush"]
    sensor.next = [None, None, DeviceFault("The bus hush is silent."), *[DeviceFault("No answer.")] * 3]
    async with supervised(sensor) as (_, watch):
        await watch.until(lambda: watch.count("live") == 2)
    waits = [text for _, phase, text in watch.phases if phase == "retrying"]
    assert waits == ["The bus … is silent. Trying again.", *["No answer. Trying again."] * 3]
    assert sensor.log == ["open", "read", "read", "close", *["open", "close"] * 3, "open", "read", "close"]
    assert watch.values[1][0] - watch.values[0][0] == pytest.approx(2 + 1.5 + 2.5 + 4.5 + 8.5)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [
        "device thermometer: The bus … is silent. Trying again.",
        "device thermometer: No answer. Trying again.",
        "device thermometer: works again after 17 s",
    ]


async def test_a_sensor_whose_first_read_fails_was_never_live() -> None:
    sensor = Thermometer()
    sensor.next = [None, DeviceFault("No answer.")]
    async with supervised(sensor) as (_, watch):
        await watch.until(lambda: watch.values)
    assert [phase for _, phase, _ in watch.phases] == ["starting", "retrying", "starting", "live"]


async def test_what_only_the_owner_can_mend_is_tried_again_after_ten_minutes() -> None:
    sensor = Thermometer()
    sensor.next = [DeviceFault("There is no pin 99.", retry=False)]
    async with supervised(sensor) as (_, watch):
        await watch.until(lambda: watch.count("failed"))
        failed_at = asyncio.get_running_loop().time()
        assert watch.last == ("failed", "There is no pin 99.")
        await watch.until(lambda: watch.count("live"))
        assert asyncio.get_running_loop().time() - failed_at == pytest.approx(600)


@pytest.mark.parametrize("bug", [RuntimeError("secret hush"), StopIteration(), SystemExit(3), asyncio.CancelledError()])
async def test_a_bug_in_a_driver_spares_the_others(bug: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    broken, fine = Thermometer("broken"), Thermometer("fine")
    broken.hidden = ["hush"]
    broken.next = [None, bug]
    async with supervised(broken, fine) as (_, watch):
        await watch.until(lambda: len(watch.values) >= 3)
    text = next(text for _, phase, text in watch.phases if phase == "retrying")
    assert text == "The device's driver failed (RuntimeError). Trying again."
    assert fine.log.count("open") == 1
    assert "Traceback" in caplog.text and "hush" not in caplog.text


def test_stop_goes_first() -> None:
    rover = Rover("rover")
    thread = DriverThread(rover, lambda: 0.0)
    inside, go = threading.Event(), threading.Event()

    def slow() -> None:
        rover.log.append("slow")
        inside.set()
        go.wait()

    thread.stop()  # not open yet
    thread.submit(thread.opened).result(20)
    thread.submit(slow)
    inside.wait()
    waits = thread.submit(rover.log.append, "job")
    thread.stop()
    go.set()
    waits.result(20)
    thread.submit(thread.end).result(20)
    assert rover.log[:2] == ["slow", "stop"] and rover.log[-1] == "job"


async def test_commands() -> None:
    rover = Rover("rover")
    async with supervised(rover) as (supervisor, watch):
        with pytest.raises(PeerError, match="is starting") as caught:
            await supervisor.command("rover", "honk", {})
        assert caught.value.code == 503
        await watch.until(lambda: watch.count("live"))
        rover.next = [lambda: {"louder": (1, 2)}]
        assert await supervisor.command("rover", "honk", {"times": 2}) == {"louder": [1, 2]}
        await watch.until(lambda: len(watch.values) == 2)
        assert watch.values[1][0] - watch.values[0][0] < 0.1  # read again at once
        wrong: list[tuple[str, str, dict[str, Any], int, str]] = [
            ("boat", "honk", {}, 404, "no such device"),
            ("rover", "open", {}, 404, "no command open; it has honk"),
            ("rover", "honk", {"times": "2"}, 400, "times: write a whole number"),
            ("rover", "honk", {"loud": 1}, 400, "loud: there is no such argument"),
        ]
        for device, name, args, code, sentence in wrong:
            with pytest.raises(PeerError, match=sentence) as caught:
                await supervisor.command(device, name, args)
            assert caught.value.code == code
        for result, code, sentence in [
            (object(), 500, "no plain JSON"),
            ("x" * 4000, 500, "longer than 3000 bytes"),
            (PeerError(409, "It honks already."), 409, "honks already"),
            (ValueError("x"), 500, "failed .ValueError"),
        ]:
            rover.next = [result]
            with pytest.raises(PeerError, match=sentence) as caught:
                await supervisor.command("rover", "honk", {})
            assert caught.value.code == code
        assert supervisor.phase("rover") == "live"
        rover.next = [DeviceFault("The horn is off.")]
        with pytest.raises(DeviceFault, match="The horn is off"):
            await supervisor.command("rover", "honk", {})
        assert supervisor.phase("rover") == "retrying"


async def test_commands_that_pile_up_are_refused() -> None:
    rover = Rover("rover")
    async with supervised(rover, policy=SupervisorPolicy(max_commands=2)) as (supervisor, watch):
        await watch.until(lambda: watch.count("live"))
        outcomes = await asyncio.gather(*(supervisor.command("rover", "honk", {}) for _ in range(4)), return_exceptions=True)
    assert [outcome.code if isinstance(outcome, PeerError) else outcome for outcome in outcomes] == [None, None, 429, 429]


async def test_a_device_that_fails_while_commands_wait_refuses_them() -> None:
    rover = Rover("rover")
    async with supervised(rover) as (supervisor, watch):
        await watch.until(lambda: watch.count("live"))
        rover.next = [DeviceFault("Gone.")]
        first, second = await asyncio.gather(*(supervisor.command("rover", "honk", {}) for _ in range(2)), return_exceptions=True)
    assert isinstance(first, DeviceFault) and isinstance(second, PeerError)
    assert second.code == 503
    assert rover.log.count("honk 1") == 1


@pytest.mark.realtime
async def test_a_driver_that_hangs_is_stopped_told_and_opened_again_when_it_returns() -> None:
    rover = HastyRover("rover")
    inside, go = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go.wait()

    async with supervised(rover, Thermometer(), policy=QUICK) as (supervisor, watch):
        await watch.until(lambda: watch.count("live") == 2)
        rover.next = [hang]
        honking = asyncio.create_task(supervisor.command("rover", "honk", {}))
        await asyncio.to_thread(inside.wait)
        await watch.until(lambda: watch.count("failed"))
        assert "hangs" in watch.last[1]
        with pytest.raises(PeerError, match="hangs"):
            await supervisor.command("rover", "honk", {})
        while "stop" not in rover.log:  # from another thread
            await asyncio.sleep(0.01)
        assert rover.log.count("open") == 1
        go.set()
        await asyncio.gather(honking, return_exceptions=True)
        await watch.until(lambda: watch.count("live") == 3)
    assert ("rover", "retrying", "The device did not answer for a while. Trying again.") in watch.phases
    assert rover.log[rover.log.index("stop") :].count("open") == 1


@pytest.mark.realtime
async def test_a_read_that_hangs_is_told_and_the_others_go_on() -> None:
    hasty, other = HastyRover("hasty"), Thermometer("other")
    go = threading.Event()
    intervals = {"hasty": 0.02, "other": 0.02}
    async with supervised(hasty, other, policy=QUICK, intervals=intervals) as (_, watch):
        await watch.until(lambda: watch.count("live") == 2)
        hasty.next = [go.wait]
        await watch.until(lambda: watch.count("failed"))
        assert watch.last[1].startswith("The device does not answer and its driver hangs")
        count = len(watch.values)
        await watch.until(lambda: len(watch.values) >= count + 5)
        assert all("other" in values for _, values in watch.values[count:])
        go.set()
        await watch.until(lambda: watch.count("live") == 3)


@pytest.mark.realtime
async def test_stop_comes_from_another_thread_while_the_driver_is_held_up() -> None:
    rover = Rover("rover")
    inside, go = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go.wait()

    async with supervised(rover) as (supervisor, watch):
        await watch.until(lambda: watch.count("live"))
        rover.next = [hang]
        honking = asyncio.create_task(supervisor.command("rover", "honk", {}))
        await asyncio.to_thread(inside.wait)
        for _ in range(2):
            supervisor._devices["rover"].thread.stop()
        while "stop" not in rover.log:
            await asyncio.sleep(0.01)
        assert supervisor.phase("rover") == "live"  # late, but within its time
        go.set()
        await asyncio.gather(honking, return_exceptions=True)
        await settled(supervisor, "rover")
        assert rover.log[rover.log.index("stop") + 1 :].count("stop")  # what hung may have switched it after the first


@pytest.mark.realtime
async def test_close_leaves_a_hanging_driver_behind_which_stops_when_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    rover = HastyRover("rover")
    inside, go, closed = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go.wait()

    rover.next = [hang]
    rover.close = closed.set  # type: ignore[method-assign]
    async with supervised(rover, policy=QUICK):
        await asyncio.to_thread(inside.wait)
    assert "left behind" in caplog.text
    go.set()
    assert await asyncio.to_thread(closed.wait, 20)
    while any(thread.name == "device-rover" for thread in threading.enumerate()):
        await asyncio.sleep(0.01)


@pytest.mark.realtime
async def test_a_command_that_hangs_is_answered() -> None:
    rover = HastyRover("rover")
    go = threading.Event()
    policy = SupervisorPolicy(command_s=0.2, close_s=5)
    async with supervised(rover, policy=policy) as (supervisor, watch):
        await watch.until(lambda: watch.count("live"))
        rover.next = [go.wait]
        with pytest.raises(PeerError, match="takes too long") as caught:
            await supervisor.command("rover", "honk", {})
        assert caught.value.code == 504
        await watch.until(lambda: watch.count("failed"))
        go.set()


MOODS: dict[str, Any] = {
    "good": None,
    "fault": DeviceFault("No answer."),
    "final": DeviceFault("No pin.", retry=False),
    "bug": ZeroDivisionError(),
    "odd": {"temperature": "hot", "x": 1},
}
STEPS = st.sampled_from(["stop", "command", "wake", "wait", "long"])


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["good", "good", *MOODS]), max_size=12), st.lists(STEPS, max_size=15))
async def test_whatever_a_driver_does_it_is_treated_in_order(moods: list[str], steps: list[str]) -> None:
    rover = WatchfulRover("rover")
    rover.next = [MOODS[mood] for mood in moods]
    async with supervised(rover, intervals={"rover": 15}) as (supervisor, watch):
        for step in steps:
            match step:
                case "stop":
                    supervisor._devices["rover"].thread.stop()
                case "command":
                    with contextlib.suppress(PeerError, DeviceFault):
                        assert await supervisor.command("rover", "honk", {}) in (None, {"temperature": "hot", "x": 1})
                case "wake":
                    rover.wake()
                case "wait":
                    await asyncio.sleep(0.7)
                case "long":
                    await asyncio.sleep(40)
    assert rover.wrong == []
    assert rover.log[-2:] == ["stop", "close"]
    phases = [phase for _, phase, _ in watch.phases]
    assert phases[0] == "starting"
    follows = {"starting": {"live", "retrying", "failed"}, "live": {"retrying", "failed"}}
    for before, after in itertools.pairwise(phases):
        assert after in follows.get(before, {"starting", "retrying", "failed"}), phases
