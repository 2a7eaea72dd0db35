"""What a script knows of the agent, message by message."""

from __future__ import annotations

from typing import Any

from edgeagent.client.told import Told
from edgeagent.wire import control as c
from edgeagent.wire.messages import Hello


def device(phase: Any, name: str = "front") -> c.Devices:
    info = c.DeviceInfo(name=name, phase=phase, readings=[c.ReadingInfo(name="range")])
    return c.Devices(you="v1", rights=["watch"], devices=[info])


def reading(value: float, name: str = "front") -> c.ReadingsMessage:
    return c.ReadingsMessage(at=1.0, values={name: {"range": value}})


def test_what_a_device_told_before_it_failed_says_nothing() -> None:
    told = Told()
    assert told.take(reading(1.5)) == [("front", "range")], "it may come before the device"
    for each in device("live"), device("live", "back"), reading(0.7, "back"):
        told.take(each)
    assert told.values[("front", "range")] == (1.5, 1.0)
    told.take(device("retrying"))
    assert set(told.values) == {("back", "range")}
    assert told.take(reading(1.5)) == [], "it was late: channels do not wait for each other"
    told.take(device("live"))
    assert ("front", "range") not in told.values
    told.take(reading(0.2))
    assert told.values[("front", "range")] == (0.2, 1.0)


def test_a_new_connection_knows_no_readings_of_the_old_one() -> None:
    told = Told()
    told.take(device("live"))
    told.take(reading(1.5))
    told.begin(Hello(device="porch", version="1", epoch="e2", cameras=[], devices=1))
    assert not told.values
