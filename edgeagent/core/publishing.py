"""Which devices' readings are published on a broker, and when: one retained message a device, never more than one a second.

    what happened to a device            its message is published
    ──────────────────────────────────── ───────────────────────────────────────────────────────────────────────
    broker connected                     at once
    works again, or no longer            `min_interval_s` after the last one
    a reading changed by its dead band   `min_interval_s` after the last one: at once after a rest
    read, but not changed so much        `max_interval_s` after the last one: a sign of life
    somebody has asked (`ask`)           `min_interval_s` after the last one
    broker lost                          not at all

A device that does not work has no readings: what it last told says nothing any more. Nor does a reading that was
left out when the device was read last.
"""

from __future__ import annotations

__all__ = ["Publishing", "Standing"]

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeagent.core.telemetry import as_told
from edgeagent.model import Value
from edgeagent.wire.control import DeviceInfo, ReadingInfo


@dataclass(slots=True, frozen=True)
class Standing:
    """How a device stands: whether it works, else why not, and its newest readings."""

    live: bool
    text: str
    readings: Mapping[str, Value]


@dataclass(slots=True, eq=False)
class _Device:
    infos: Mapping[str, ReadingInfo]
    live: bool = False
    text: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    told: Standing | None = None
    told_at: float = -math.inf
    fresh: bool = False  # read since it was told
    asked: bool = True

    def changed(self) -> bool:
        told = self.told
        if told is None or (told.live, told.text) != (self.live, self.text) or told.readings.keys() != self.values.keys():
            return True
        return any(_differs(value, told.readings[name], self.infos[name].dead_band) for name, value in self.values.items())


class Publishing:
    """Readings of all devices that are published. `now` is any monotonic clock in seconds; ask `due` when `next_deadline` is over.

    Args:
        devices: Those that are published.
        min_interval_s: Shortest time between two messages of one device.
        max_interval_s: Longest time without one, while its sensor is read.
    """

    def __init__(self, devices: Iterable[DeviceInfo], *, min_interval_s: float = 1.0, max_interval_s: float = 60.0) -> None:
        self._min_s, self._max_s = min_interval_s, max_interval_s
        self._devices = {
            info.name: _Device({reading.name: reading for reading in info.readings}, info.phase == "live", info.text)
            for info in devices
        }
        self._connected = False

    @property
    def names(self) -> tuple[str, ...]:
        """Which devices are published."""
        return tuple(self._devices)

    def connected(self) -> None:
        """The broker serves us: what it retains may be of another time."""
        self._connected = True
        for device in self._devices.values():
            device.told, device.told_at = None, -math.inf

    def lost(self) -> None:
        """The broker is gone."""
        self._connected = False

    def device(self, name: str, live: bool, text: str) -> None:
        """A device works, or does not; others than those that are published are left out."""
        if device := self._devices.get(name):
            device.live, device.text = live, "" if live else text
            if not live:
                device.values.clear()

    def readings(self, values: Mapping[str, Mapping[str, Value]]) -> None:
        """Take what was just read, of each device all that is known of it; what is no proper value of its kind is left out."""
        for name, readings in values.items():
            if device := self._devices.get(name):
                known = ((key, as_told(value, device.infos[key])) for key, value in readings.items() if key in device.infos)
                device.values = {key: fit for key, fit in known if fit is not None}
                device.fresh = device.fresh or bool(device.values)

    def ask(self, name: str) -> None:
        """Publish it soon, changed or not."""
        if device := self._devices.get(name):
            device.asked = True

    def next_deadline(self) -> float | None:
        """When something is due; None for never."""
        due = min((self._due(device) for device in self._devices.values()), default=math.inf)
        return None if due == math.inf else due

    def due(self, now: float) -> dict[str, Standing]:
        """What is to be published by now, by device; it counts as published."""
        out = {}
        for name, device in self._devices.items():
            if self._due(device) <= now:
                device.told = out[name] = Standing(device.live, device.text, dict(device.values))
                device.told_at, device.fresh, device.asked = now, False, False
        return out

    def _due(self, device: _Device) -> float:
        if not self._connected:
            return math.inf
        if device.asked or device.changed():
            return device.told_at + self._min_s
        return device.told_at + self._max_s if device.fresh else math.inf


def _differs(value: Value, told: Value, dead_band: float) -> bool:
    if isinstance(value, float) and isinstance(told, float):
        return abs(value - told) > dead_band
    return value != told
