"""What a script knows of the agent, message by message."""

from __future__ import annotations

from typing import Any

from edgeagent.client.told import Told
from edgeagent.wire import control as c
from edgeagent.wire.messages import Hello

KEY = ("front", "range")


def device(phase: Any, name: str = "front") -> c.Devices:
    info = c.DeviceInfo(name=name, phase=phase, readings=[c.ReadingInfo(name="range")])
    return c.Devices(you="v1", rights=["watch"], devices=[info])


def reading(value: float, name: str = "front") -> c.ReadingsMessage:
    return c.ReadingsMessage(at=1.0, values={name: {"range": value}})


def test_what_a_device_told_before_it_failed_says_nothing() -> None:
    told = Told()
    assert told.take(reading(1.5)) == [KEY], "it may come before the device"
    assert told.known(KEY) is None
    for each in device("live"), device("live", "back"), reading(0.7, "back"):
        told.take(each)
    assert told.known(KEY) == (1.5, 1.0)
    told.take(device("retrying"))
    assert told.known(KEY) is None and set(told.values) == {("back", "range")}
    told.take(device("live"))
    assert told.known(KEY) is None


def test_what_is_read_may_come_before_that_the_device_works_again() -> None:
    told = Told()
    for each in device("live"), reading(1.5), device("retrying"), device("starting"):
        told.take(each)
    assert told.take(reading(0.2)) == [KEY], "channels do not wait for each other"
    assert told.known(KEY) is None
    told.take(device("live"))
    assert told.known(KEY) == (0.2, 1.0)


def test_a_new_connection_knows_no_readings_of_the_old_one() -> None:
    told = Told()
    told.take(device("live"))
    told.take(reading(1.5))
    told.begin(Hello(device="porch", version="1", epoch="e2", cameras=[], devices=1))
    assert not told.values
