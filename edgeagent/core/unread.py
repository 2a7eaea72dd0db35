"""Which readings nobody knows of those that nothing may move without: a battery's, whose `stop_below` must not fail open."""

from __future__ import annotations

__all__ = ["PATIENCE", "PATIENCE_S", "Unread"]

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeagent.core.numbers import finite
from edgeagent.model import Value
from edgeagent.wire.control import DeviceInfo

PATIENCE = 3
"""A reading that has not come for so many of its intervals is known no more,"""
PATIENCE_S = 10.0
"""but for so many seconds at least: no battery empties in less, and a busy machine is late."""


@dataclass(slots=True)
class _Watched:
    title: str
    after_s: float
    """How long a value counts."""
    live: bool = False
    until: float | None = None
    """When the last value will count no more; None where there has been none since the device went live."""
    text: str = ""


class Unread:
    """Feed it what happens; each method returns the readings, by device and name, of which `text` has changed.

    Args:
        devices: All that there are.
        intervals_s: How often each is read, by its name; what is not here may be silent for as long as it wants.
    """

    def __init__(self, devices: Iterable[DeviceInfo], intervals_s: Mapping[str, float]) -> None:
        self._watched: dict[str, dict[str, _Watched]] = {}
        for device in devices:
            interval_s = intervals_s.get(device.name, math.inf)
            found = {
                info.name: _Watched(
                    f"{info.title or info.name} of {device.title or device.name}", max(PATIENCE * interval_s, PATIENCE_S)
                )
                for info in device.readings
                if info.kind == "number" and info.stop_below is not None
            }
            if found:
                self._watched[device.name] = found
        self.tick(-math.inf)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """All that it watches."""
        return [(device, name) for device, found in self._watched.items() for name in found]

    def text(self, device: str, name: str) -> str:
        """Why nothing may move, in a sentence; "" where the reading is known, or is none of these."""
        watched = self._watched.get(device, {}).get(name)
        return watched.text if watched is not None else ""

    def next_deadline(self) -> float | None:
        """When `tick` is due; None for never."""
        times = [w.until for found in self._watched.values() for w in found.values() if w.until is not None and not w.text]
        return min((until for until in times if until < math.inf), default=None)

    def phase(self, device: str, live: bool, now: float) -> list[tuple[str, str]]:
        """The device works, or does not; what it told before it went live counts no more."""
        for watched in self._watched.get(device, {}).values():
            if not (live and watched.live):
                watched.live, watched.until = live, None
        return self.tick(now)

    def took(self, values: Mapping[str, Mapping[str, Value]], now: float) -> list[tuple[str, str]]:
        """These were just read."""
        for device in values.keys() & self._watched.keys():
            for name, watched in self._watched[device].items():
                if finite(values[device].get(name)) is not None:
                    watched.until = now + watched.after_s
        return self.tick(now)

    def tick(self, now: float) -> list[tuple[str, str]]:
        """Let time pass."""
        changed = []
        for device, found in self._watched.items():
            for name, watched in found.items():
                text = ""
                if not watched.live:
                    text = f"{watched.title} is not known, since that does not work; nothing may move."
                elif watched.until is None:
                    text = f"{watched.title} is not known yet; nothing may move."
                elif now >= watched.until:
                    text = f"{watched.title} has not been read for {watched.after_s:g} s; nothing may move."
                if text != watched.text:
                    watched.text = text
                    changed.append((device, name))
        return changed
