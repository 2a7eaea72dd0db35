"""Messages for the broker's other clients: readings as a home automation takes them, and its commands.

    ea/1/d/<device>/r/<name>              retained `DeviceReadings`, of each device that is told over MQTT
    ea/1/d/<device>/in/home-assistant     `HomeCommand`
    ea/1/d/<device>/announced             retained `Announced`: what this agent has said in topics that are not its own

The decoders are in `edgeagent.wire.codec`.
"""

from __future__ import annotations

__all__ = ["MAX_HOME_COMMAND", "Announced", "DeviceReadings", "HomeCommand"]

from typing import Annotated, Any, Literal

from pydantic import Field

from edgeagent.wire.control import Key
from edgeagent.wire.messages import Message, Name

MAX_HOME_COMMAND = 1024
"""Bytes of one command."""


class DeviceReadings(Message):
    """The newest readings of one device. `at` is the agent's Unix time in ms.

    `live`: whether the device works; where it does not, `text` says why in one sentence, and there are no readings.
    """

    t: Literal["device_readings"] = "device_readings"
    at: float
    live: bool
    text: str = ""
    readings: dict[str, float | bool | str]


class HomeCommand(Message):
    """Call a command of a device with arguments as its schema says. Answered by the device's readings."""

    t: Literal["home_command"] = "home_command"
    device: Name
    command: Key
    args: Annotated[dict[Key, Any], Field(max_length=16, default_factory=dict)]


class Announced(Message):
    """Which components a home automation was told of, their platforms by their ids, by topic: so that they can be taken back."""

    t: Literal["announced"] = "announced"
    topics: Annotated[dict[str, dict[str, str]], Field(max_length=64)]
