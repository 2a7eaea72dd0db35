"""Sensors that are read together: on one thread while they are quick, each on its own where one is not."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.drivers import DeviceFault, PeerError, Readings, command
from edgeagent.drivers.thread import DriverThread
from tests.drivers.test_supervisor import QUICK, Rover, Thermometer, Watchful, supervised

COMMON = "device-reads"


class Noting(Watchful):
    """Notes on which thread it is called."""

    interval_s = 0.1

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.threads: list[str] = []

    def do(self, what: str) -> Any:
        if what == "read":
            self.threads.append(threading.current_thread().name)
        return super().do(what)

    @command()
    def honk(self) -> Any:
        return self.do(f"honk on {threading.current_thread().name}")


class Hasty(Noting):
    interval_s = 0.02
    timeout_s: ClassVar[float] = 0.5


class Choosy(Noting):
    own_thread = True


class NotingRover(Rover):
    interval_s = 0.1

    def __init__(self) -> None:
        super().__init__("rover")
        self.threads: list[str] = []

    def read(self) -> Readings:
        self.threads.append(threading.current_thread().name)
        return {}


class Held:
    """What a driver is held up in. `begun` belongs to the loop."""

    def __init__(self) -> None:
        self.begun, self._go = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        self._loop.call_soon_threadsafe(self.begun.set)
        self._go.wait()

    def release(self) -> None:
        self._go.set()


class Clock(threading.local):
    """The loop's, which each thread may let run ahead for itself, as if what it does took so long."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._ahead_s = now, 0.0

    def __call__(self) -> float:
        return self._now() + self._ahead_s

    def take(self, seconds: float) -> None:
        self._ahead_s += seconds


def reads(count: int, *sensors: Noting) -> Callable[[], bool]:
    return lambda: all(len(sensor.threads) >= count for sensor in sensors)


def common(*sensors: Noting) -> Callable[[], bool]:
    """Whether they were read together the last time. On this clock the read that follows one on an own thread may find that thread
    not at rest yet, and goes there again."""
    return lambda: all(sensor.threads[-1:] == [COMMON] for sensor in sensors)


async def test_what_has_proven_quick_is_read_on_one_thread() -> None:
    one, two, choosy, rover = Noting("one"), Noting("two"), Choosy("choosy"), NotingRover()
    async with supervised(one, two, choosy, rover) as (_, watch):
        await watch.until(common(one, two))
        count = len(one.threads)
        await watch.until(reads(count + 10, one, two, choosy))
    for sensor in (one, two):
        assert sensor.threads[:6] == [f"device-{sensor.name}"] * 6  # the first, and five that prove it
        assert set(sensor.threads[count:]) == {COMMON}
        assert sensor.wrong == []
    assert {*choosy.threads, *rover.threads} == {"device-choosy", "device-rover"}


async def test_sensors_of_one_interval_are_read_together() -> None:
    """Also where one was opened later than the other: once both have proven quick, what they read is told at once."""
    first, second = Noting("first"), Noting("second")
    second.next = [DeviceFault("Not yet.")]
    async with supervised(first, second) as (_, watch):
        await watch.until(common(first, second))
        count = len(watch.values)
        await watch.until(lambda: len(watch.values) >= count + 20)
    told = watch.values[count : count + 20]
    assert all(set(values) == {"first", "second"} for _, values in told)
    assert [after - before for (before, _), (after, _) in itertools.pairwise(told)] == pytest.approx([0.1] * 19)


async def test_one_alone_stays_on_its_own_thread() -> None:
    sensor = Noting("one")
    async with supervised(sensor) as (_, watch):
        await watch.until(reads(12, sensor))
    assert set(sensor.threads) == {"device-one"}


async def test_a_slow_read_sends_a_sensor_back_to_its_own_thread_until_it_is_quick_again() -> None:
    slow, quick, calm = Noting("slow"), Noting("quick"), Noting("calm")
    clock = Clock(asyncio.get_running_loop().time)
    async with supervised(slow, quick, calm, clock=clock) as (_, watch):
        await watch.until(common(slow, quick, calm))
        count = len(slow.threads)
        slow.next = [lambda: clock.take(0.006)]
        await watch.until(reads(count + 3, slow))
        await watch.until(common(slow))
    assert slow.threads[count] == COMMON
    assert slow.threads[count + 1 : count + 6] == ["device-slow"] * 5
    assert set(quick.threads[count:]) == {COMMON}


async def test_no_more_are_read_one_after_the_other_than_half_a_round_holds() -> None:
    sensors = [Noting(f"sensor-{n}") for n in range(10)]
    clock = Clock(asyncio.get_running_loop().time)
    for sensor in sensors:
        sensor.next = [None, *[lambda: clock.take(0.004)] * 1000]

    def rounds() -> list[int]:
        return [[sensor.threads[n] for sensor in sensors].count(COMMON) for n in range(min(len(s.threads) for s in sensors))]

    async with supervised(*sensors, clock=clock) as (_, watch):
        await watch.until(lambda: 6 in rounds())
        await watch.until(reads(len(rounds()) + 5, *sensors))
    assert max(rounds()) == 6


@pytest.mark.parametrize("bug", [DeviceFault("No answer."), RuntimeError("x"), SystemExit(3), StopIteration()])
async def test_an_error_in_a_common_read_is_the_sensors_own(bug: BaseException) -> None:
    broken, one, two = Noting("broken"), Noting("one"), Noting("two")
    async with supervised(broken, one, two) as (_, watch):
        await watch.until(common(broken, one, two))
        broken.next = [bug]
        count = len(one.threads)
        await watch.until(lambda: watch.count("live") == 4)
        await watch.until(common(broken))
    assert watch.count("retrying") == 1
    assert set(one.threads[count:]) == set(two.threads[count:]) == {COMMON}
    assert broken.wrong == one.wrong == two.wrong == []
    assert broken.log.count("open") == broken.log.count("close") == 2


async def test_a_command_waits_for_a_common_read() -> None:
    one, two, held = Noting("one"), Noting("two"), Held()
    async with supervised(one, two) as (supervisor, watch):
        await watch.until(common(one, two))
        one.next = [held]
        await held.begun.wait()
        assert one.inside == "read" and one.threads[-1] == COMMON
        sounding = asyncio.create_task(supervisor.command("one", "honk", {}))
        await asyncio.sleep(0)
        supervisor._devices["one"].thread.stop()
        held.release()
        assert await sounding is None
    assert "honk on device-one" in one.log
    assert one.wrong == two.wrong == []


async def test_a_common_read_waits_for_a_command() -> None:
    one, two, three, held = Noting("one"), Noting("two"), Noting("three"), Held()
    clock = Clock(asyncio.get_running_loop().time)
    async with supervised(one, two, three, clock=clock) as (supervisor, watch):
        await watch.until(common(one, two, three))
        one.next = [held]
        sounding = asyncio.create_task(supervisor.command("one", "honk", {}))
        await held.begun.wait()
        count = len(one.threads)
        clock.take(0.1)
        one.wake()
        await watch.until(reads(count + 1, two, three))
        assert len(one.threads) == count
        held.release()
        await sounding
        await watch.until(reads(count + 1, one))
    assert one.threads[count] == "device-one"
    assert one.wrong == two.wrong == three.wrong == []


async def test_a_common_read_that_takes_long_holds_the_others_up_once() -> None:
    long, two, three, held = Noting("long"), Noting("two"), Noting("three"), Held()
    clock = Clock(asyncio.get_running_loop().time)
    async with supervised(long, two, three, clock=clock) as (supervisor, watch):
        await watch.until(common(long, two, three))
        count = len(long.threads)

        def dawdle() -> None:
            held()
            clock.take(0.06)

        long.next = [dawdle]
        await held.begun.wait()
        clock.take(0.06)
        supervisor._poller.look()
        await watch.until(reads(count + 1, two, three))
        clock.take(0.04)
        supervisor._poller.look()
        await watch.until(reads(count + 2, two, three))
        assert long.inside == "read"
        held.release()
        await watch.until(reads(count + 51, long))
        await watch.until(common(long, two, three))
    assert long.threads[count] == COMMON
    assert long.threads[count + 1 : count + 51] == ["device-long"] * 50  # it has to prove itself for longer
    assert long.wrong == two.wrong == three.wrong == []
    assert watch.count("live") == 3


async def test_nothing_is_read_after_the_close_that_came_during_a_common_read() -> None:
    one, two, three, held = Noting("one"), Noting("two"), Noting("three"), Held()

    async def release() -> None:
        while two.is_open:  # its turn in the round would come after that of the first
            await asyncio.to_thread(lambda: None)
        held.release()

    async with supervised(one, two, three) as (_, watch):
        await watch.until(common(one, two, three))
        one.next = [held]
        await held.begun.wait()
        releasing = asyncio.create_task(release())
    await releasing
    for sensor in (one, two, three):
        assert sensor.wrong == []
        assert sensor.log[-1] == "close"
    await _reader_gone()


async def _reader_gone() -> None:
    while any(thread.name == COMMON for thread in threading.enumerate()):
        await asyncio.to_thread(lambda: None)


@pytest.mark.realtime
async def test_a_common_read_that_hangs_holds_the_others_up_once() -> None:
    bad, one, two, held = Hasty("bad"), Hasty("one"), Hasty("two"), Held()

    def hang() -> None:
        if threading.current_thread().name == COMMON:
            held()
        else:
            bad.next.append(hang)

    async with supervised(bad, one, two, policy=QUICK) as (supervisor, watch):
        await watch.until(lambda: supervisor.phase("bad") == "live")
        bad.next = [hang]
        await held.begun.wait()
        count = len(one.threads)
        await watch.until(lambda: supervisor.phase("bad") == "failed")
        await watch.until(reads(count + 20, one, two))
        assert bad.inside == "read"
        held.release()
        await watch.until(lambda: supervisor.phase("bad") == "live")
    assert "hangs" in next(text for name, phase, text in watch.phases if (name, phase) == ("bad", "failed"))
    assert bad.wrong == one.wrong == two.wrong == []
    await _reader_gone()


MOODS = st.sampled_from(["good", "good", "good", "slow", "fault", "bug"])
STEPS = st.sampled_from(["command", "wake", "wait", "long"])


@settings(max_examples=20)
@given(st.lists(st.lists(MOODS, max_size=30), min_size=2, max_size=4), st.lists(STEPS, max_size=10))
async def test_whatever_sensors_do_together_each_is_treated_in_order(moods: list[list[str]], steps: list[str]) -> None:
    clock = Clock(asyncio.get_running_loop().time)
    slow = functools.partial(clock.take, 0.02)
    kinds: dict[str, Any] = {"good": None, "slow": slow, "fault": DeviceFault("No answer."), "bug": ZeroDivisionError()}
    sensors = [Noting(f"sensor-{n}") for n in range(len(moods))]
    for sensor, own in zip(sensors, moods, strict=True):
        sensor.next = [kinds[mood] for mood in own]
    async with supervised(*sensors, clock=clock, intervals={sensor.name: 2.0 for sensor in sensors}) as (supervisor, watch):
        for step in steps:
            match step:
                case "command":
                    with contextlib.suppress(PeerError, DeviceFault):
                        await supervisor.command("sensor-0", "honk", {})
                case "wake":
                    sensors[-1].wake()
                case "wait":
                    await asyncio.sleep(3)
                case "long":
                    await asyncio.sleep(40)
        await watch.until(reads(3, *sensors))
    for sensor in sensors:
        assert sensor.wrong == []
        assert sensor.log[-1] == "close"
        assert sensor.log.count("open") <= sensor.log.count("close")


def test_a_driver_is_lent_only_while_it_rests() -> None:
    thread = DriverThread(Thermometer(), lambda: 7.0)
    log: list[str] = []

    def note(what: str) -> Callable[[], None]:
        return lambda: log.append(f"{what} on {threading.current_thread().name}")

    here = threading.current_thread().name
    assert thread.lend(note("closed"), note("closed later"))  # nothing is left to come, nothing was done
    thread.submit(thread.opened).result(20)
    thread.submit(lambda: None).result(20)
    inside, gate = threading.Event(), threading.Event()

    def busy() -> None:
        inside.set()
        gate.wait()

    held = thread.submit(busy)
    assert inside.wait(20)
    assert not thread.lend(note("x"), note("later"))
    gate.set()
    held.result(20)
    thread.submit(lambda: None).result(20)
    assert log == ["later on device-thermometer"]
    while thread.busy_since is not None:  # it tells its outcome a moment before it rests
        threading.Event().wait(0.001)

    def lent() -> None:
        assert thread.busy_since == 7.0
        thread.post(note("posted"))
        note("lent")()

    assert thread.lend(lent, note("x"))
    thread.submit(thread.end).result(20)
    assert log[1:] == [f"lent on {here}", "posted on device-thermometer"]
