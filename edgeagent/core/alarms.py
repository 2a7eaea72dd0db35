"""Which readings a person must know of: too low, too high, too low to move by. With hysteresis, so that none flickers.

A limit is broken by a value beyond it and kept again when the value is back within it by a band: its dead band, 2 % of the
limit, or one unit of the last digit shown, whichever is largest.
"""

from __future__ import annotations

__all__ = ["Alarms"]

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeagent.model import Value
from edgeagent.wire.control import Alarm, DeviceInfo, ReadingInfo

_LIMITS = ("stop_below", "warn_below", "warn_above")  # the worst first


@dataclass(slots=True)
class _Watched:
    device: DeviceInfo
    info: ReadingInfo
    broken: set[str] = field(default_factory=set)

    def take(self, value: float) -> None:
        for kind in _LIMITS:
            limit: float | None = getattr(self.info, kind)
            if limit is None:
                continue
            beyond = value - limit if kind == "warn_above" else limit - value
            band = max(self.info.dead_band, 0.02 * abs(limit), 10.0**-self.info.digits)
            if beyond > 0:
                self.broken.add(kind)
            elif beyond <= -band:
                self.broken.discard(kind)

    @property
    def worst(self) -> str:
        return next((kind for kind in _LIMITS if kind in self.broken), "")

    def alarm(self, value: float) -> Alarm:
        worst = self.worst
        name = f"{self.info.title or self.info.name} of {self.device.title or self.device.name}"
        text = f"{name} is {self._show(value)}"
        if worst:
            limit = getattr(self.info, worst)
            text += f", {'above' if worst == 'warn_above' else 'below'} {self._show(limit)}"
        if worst == "stop_below":
            text += "; nothing may move"
        level = "danger" if worst == "stop_below" else "warning"
        return Alarm(device=self.device.name, key=self.info.name, on=bool(worst), level=level, text=f"{text}.")

    def _show(self, value: float) -> str:
        return f"{value:.{self.info.digits}f} {self.info.unit}".rstrip()


class Alarms:
    """The limits of all numbers that devices tell."""

    def __init__(self, devices: Iterable[DeviceInfo]) -> None:
        self._watched = {
            (device.name, info.name): _Watched(device, info)
            for device in devices
            for info in device.readings
            if info.kind == "number" and any(getattr(info, kind) is not None for kind in _LIMITS)
        }
        self._on: dict[tuple[str, str], Alarm] = {}

    @property
    def on(self) -> list[Alarm]:
        """What a newcomer is told."""
        return list(self._on.values())

    def update(self, values: Mapping[str, Mapping[str, Value]]) -> list[Alarm]:
        """Take what was just read; returns what has changed. While an alarm of level `danger` lasts, nothing may move."""
        changed = []
        for device, readings in values.items():
            for name, value in readings.items():
                watched = self._watched.get((device, name))
                if watched is None or isinstance(value, bool | str) or not math.isfinite(value):
                    continue
                before = watched.worst
                watched.take(value)
                if watched.worst == before:
                    continue
                alarm = watched.alarm(value)
                changed.append(alarm)
                if alarm.on:
                    self._on[device, name] = alarm
                else:
                    del self._on[device, name]
        return changed
