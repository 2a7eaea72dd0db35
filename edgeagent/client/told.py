"""What the agent has told: cameras, devices, groups, alarms and the newest readings. No IO."""

from __future__ import annotations

__all__ = ["Signal", "Told"]

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeagent.model import Value
from edgeagent.wire import control as c
from edgeagent.wire.messages import CameraState, Hello, State


class Signal:
    """Wakes those who wait for something to have changed."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        """Something has changed."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def until(self, condition: Callable[[], object], timeout_s: float | None = None) -> bool:
        """Wait for a condition that is looked at after each change; whether it came true in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    waiting = asyncio.get_running_loop().create_future()
                    self._waiting.add(waiting)
                    try:
                        await waiting
                    finally:
                        self._waiting.discard(waiting)
        except TimeoutError:
            return bool(condition())
        return True


@dataclass(slots=True)
class Told:
    """The agent as it is known now.

    Attributes:
        expected: How many devices it has.
        rights: What we may do.
        released: The number of the lease that we gave back last, by group.
        values: The newest readings of each device since it was told not to work, by device and reading, with the agent's Unix time
            in ms; see `known`.
    """

    cameras: dict[str, CameraState] = field(default_factory=dict)
    devices: dict[str, c.DeviceInfo] = field(default_factory=dict)
    groups: dict[str, c.Group] = field(default_factory=dict)
    alarms: dict[tuple[str, str], c.Alarm] = field(default_factory=dict)
    values: dict[tuple[str, str], tuple[Value, float]] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    rights: frozenset[str] = frozenset()
    expected: int = 0

    @property
    def complete(self) -> bool:
        """Whether all devices and groups have been told."""
        groups = {device.group for device in self.devices.values() if device.moves and device.group}
        return len(self.devices) >= self.expected and groups <= self.groups.keys()

    def begin(self, hello: Hello) -> None:
        """A new connection: what was known of the old one's devices and groups is void."""
        self.devices, self.groups, self.alarms, self.values, self.released = {}, {}, {}, {}, {}
        self.rights = frozenset()
        self.hello(hello)

    def hello(self, message: Hello) -> None:
        self.cameras = {camera.name: camera for camera in message.cameras}
        self.expected = message.devices

    def state(self, message: State) -> None:
        self.cameras.update((camera.name, camera) for camera in message.cameras)

    def take(self, message: c.ControlFromAgent) -> list[tuple[str, str]]:
        """Take a message of the channels of control; returns the readings that came with it."""
        match message:
            case c.Devices():
                self.rights = frozenset(message.rights)
                self.devices.update((device.name, device) for device in message.devices)
                for name in message.gone:
                    self.devices.pop(name, None)
                void = {*message.gone, *(device.name for device in message.devices if device.phase != "live")}
                self.values = {key: value for key, value in self.values.items() if key[0] not in void}
            case c.Group():
                self.groups[message.group] = message
            case c.Alarm():
                if message.on:
                    self.alarms[message.device, message.key] = message
                else:
                    self.alarms.pop((message.device, message.key), None)
            case c.ReadingsMessage():
                new: dict[tuple[str, str], tuple[Value, float]] = {
                    (device, name): (value, message.at)
                    for device, values in message.values.items()
                    for name, value in values.items()
                }
                self.values.update(new)
                return list(new)
        return []

    def known(self, key: tuple[str, str]) -> tuple[Value, float] | None:
        """The newest of a reading; None where its device does not work. One that works again may be read before that is told:
        readings come on a channel of their own."""
        device = self.devices.get(key[0])
        return self.values.get(key) if device is not None and device.phase == "live" else None
