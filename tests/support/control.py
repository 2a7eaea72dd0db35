"""Devices, viewers and a keeper for tests of control."""

from __future__ import annotations

__all__ = ["ARM", "BATTERY", "LAMP", "OPERATOR", "OWNER", "ROVER", "TILT", "device", "keep_live"]

from typing import Any

from edgeagent.core import arbiter_events as e
from edgeagent.core.arbiter import Arbiter
from edgeagent.core.principals import principal_of
from edgeagent.wire.control import AxisInfo, CommandInfo, DeviceInfo, ReadingInfo

OPERATOR = principal_of("Ben", "operate")
OWNER = principal_of("Anna", "admin")


def device(name: str, **more: Any) -> DeviceInfo:
    return DeviceInfo(name=name, **more)


ROVER = device(
    "rover",
    title="Rover",
    moves=True,
    group="drive",
    axes=[AxisInfo(name="throttle", role="throttle"), AxisInfo(name="steer", role="steer")],
    readings=[ReadingInfo(name="speed", unit="m/s", digits=2, dead_band=0.05)],
    commands=[CommandInfo(name="horn", title="Horn")],
)
ARM = device(
    "arm",
    moves=True,
    group="drive",
    axes=[AxisInfo(name="lift", minimum=0, maximum=10, neutral=0), AxisInfo(name="grip", position=True, minimum=-5, maximum=45)],
)
TILT = device(
    "tilt",
    title="Camera head",
    moves=True,
    group="head",
    axes=[AxisInfo(name="pan", position=True, minimum=-90, maximum=90, unit="°", role="pan")],
)
LAMP = device("lamp", title="Lamp", readings=[ReadingInfo(name="on", kind="flag")], commands=[CommandInfo(name="switch")])
BATTERY = device(
    "battery",
    title="Battery",
    readings=[ReadingInfo(name="voltage", title="Voltage", unit="V", digits=1, warn_below=11.0, stop_below=10.0)],
)


def keep_live(arbiter: Arbiter, config: e.ArbiterConfig, now: float) -> None:
    """The keeper and all that moves are there."""
    arbiter.handle(e.KeeperChanged(True), now)
    for info in config.devices:
        arbiter.handle(e.DeviceChanged(info.name, "live", ""), now)
