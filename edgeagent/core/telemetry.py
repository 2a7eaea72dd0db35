"""Which readings viewers are told, and when: dead band, least and longest interval, batches; the newest value wins.

    a reading                      is told
    ────────────────────────────── ──────────────────────────────────────────────────────────────────────────────
    first value                    at the next tick
    changed by over its dead band  `min_interval_s` after it was last told, at the next tick
    read, but not changed so much  `max_interval_s` after it was last told: a sign of life, and for what got lost
    not read since it was told     not at all: an old value is not made to look new

Ticks are `tick_s` apart, so that what changes at about the same time goes in one message, written once for all viewers. A viewer
whose channel was full is owed those readings: he gets their newest values, alone, at one of the next ticks.
"""

from __future__ import annotations

__all__ = ["Batch", "Intervals", "Telemetry", "TelemetryCounters", "TelemetryPolicy", "as_told"]

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from edgeagent.core.numbers import finite
from edgeagent.model import Value
from edgeagent.wire.control import DeviceInfo, ReadingInfo

Key: TypeAlias = tuple[str, str]
"""Device and reading."""
MAX_TEXT = 200


@dataclass(slots=True, frozen=True)
class TelemetryPolicy:
    """How often one reading is told at most and at least, and how things are put together.

    Attributes:
        min_interval_s: Shortest time between two values of one reading.
        max_interval_s: Longest time without one, while the sensor is read.
        tick_s: Time between two batches.
        max_bytes: A batch's size; what stays below one packet is lost least.
    """

    min_interval_s: float = 0.1
    max_interval_s: float = 5.0
    tick_s: float = 0.1
    max_bytes: int = 1100


@dataclass(slots=True, frozen=True)
class Intervals:
    """The owner's own for one reading, in seconds; None as the policy has it. `max_s` is at least `min_s`."""

    min_s: float | None = None
    max_s: float | None = None


@dataclass(slots=True, frozen=True)
class Batch:
    """Values of one message, by device and reading."""

    values: dict[str, dict[str, Value]]

    def keys(self) -> Iterable[Key]:
        """Which readings it holds."""
        return ((device, name) for device, values in self.values.items() for name in values)


@dataclass(slots=True)
class TelemetryCounters:
    """What happened since the start."""

    batches: int = 0
    unknown: int = 0
    unfit: int = 0
    missed: int = 0


@dataclass(slots=True)
class _Entry:
    info: ReadingInfo
    min_interval_s: float
    max_interval_s: float
    value: Value | None = None
    told: Value | None = None
    told_at: float = -math.inf
    fresh: bool = False

    def due(self) -> float:
        if not self.fresh:
            return math.inf
        return self.told_at + (self.min_interval_s if self._changed() else max(self.min_interval_s, self.max_interval_s))

    def _changed(self) -> bool:
        if isinstance(self.value, float) and isinstance(self.told, float):
            return abs(self.value - self.told) > self.info.dead_band
        return self.value != self.told


class Telemetry:
    """Readings of all devices. Time is an argument, in seconds; `flush` is due at `next_deadline()`."""

    def __init__(
        self, devices: Iterable[DeviceInfo], policy: TelemetryPolicy | None = None, intervals: Mapping[Key, Intervals] | None = None
    ) -> None:
        self._policy = policy = policy or TelemetryPolicy()
        self._entries: dict[Key, _Entry] = {}
        for device in devices:
            for info in device.readings:
                own = (intervals or {}).get((device.name, info.name), Intervals())
                min_s = policy.min_interval_s if own.min_s is None else own.min_s
                max_s = policy.max_interval_s if own.max_s is None else own.max_s
                self._entries[device.name, info.name] = _Entry(info, min_s, max_s)
        self._owed: dict[str, set[Key]] = {}
        self._due = math.inf
        self._tick = -math.inf  # not before this time
        self.counters = TelemetryCounters()

    def next_deadline(self) -> float | None:
        """When something is to be told; None for never."""
        due = -math.inf if any(self._owed.values()) else self._due
        return None if due == math.inf else max(due, self._tick)

    @property
    def viewers(self) -> Collection[str]:
        """Who is told."""
        return self._owed.keys()

    def update(self, values: Mapping[str, Mapping[str, Value]]) -> None:
        """Take what was just read. What was not declared, or is no proper value of its kind, is left out and counted."""
        for device, readings in values.items():
            for name, value in readings.items():
                entry = self._entries.get((device, name))
                if entry is None:
                    self.counters.unknown += 1
                elif (fit := as_told(value, entry.info)) is None:
                    self.counters.unfit += 1
                else:
                    entry.value, entry.fresh = fit, True
                    self._due = min(self._due, entry.due())

    def forget(self, device: str) -> None:
        """What this device last told says nothing any more."""
        for (owner, _), entry in self._entries.items():
            if owner == device:
                entry.value = entry.told = None
                entry.fresh = False

    def came(self, viewer: str) -> None:
        """A viewer wants to be told; he is owed all that is known."""
        self._owed[viewer] = {key for key, entry in self._entries.items() if entry.value is not None}

    def gone(self, viewer: str) -> None:
        """He wants it no more."""
        self._owed.pop(viewer, None)

    def flush(self, now: float) -> list[Batch]:
        """What is to be told now, to all viewers. Say `sent` or `missed` of each batch and viewer, then look what is `owed`."""
        if now < self._tick:
            return []
        self._tick = now + self._policy.tick_s
        if now < self._due:
            return []
        told = []
        for key, entry in self._entries.items():
            if entry.due() <= now:
                entry.told, entry.told_at, entry.fresh = entry.value, now, False
                told.append(key)
        self._due = min((entry.due() for entry in self._entries.values()), default=math.inf)
        batches = self._batches(told)
        self.counters.batches += len(batches)
        return batches

    def owed(self, viewer: str) -> list[Batch]:
        """What this viewer alone is to be told, by its newest values."""
        return self._batches(sorted(self._owed.get(viewer, ())))

    def sent(self, viewer: str, batch: Batch) -> None:
        """The viewer's channel has taken the batch."""
        if owed := self._owed.get(viewer):
            owed.difference_update(batch.keys())

    def missed(self, viewer: str, batch: Batch) -> None:
        """The viewer's channel was full."""
        self.counters.missed += 1
        if viewer in self._owed:
            self._owed[viewer].update(batch.keys())

    def _batches(self, keys: Iterable[Key]) -> list[Batch]:
        out: list[Batch] = []
        values: dict[str, dict[str, Value]] = {}
        size = 80  # the message around it
        for device, name in keys:
            value = self._entries[device, name].value
            if value is None:
                continue
            more = (
                len(name)
                + 4
                + (len(json.dumps(value, ensure_ascii=False).encode()) if isinstance(value, str) else len(repr(value)))
            )
            if device not in values:
                more += len(device) + 6
            if values and size + more > self._policy.max_bytes:
                out.append(Batch(values))
                values, size = {}, 80
                more += len(device) + 6
            values.setdefault(device, {})[name] = value
            size += more
        if values:
            out.append(Batch(values))
        return out


def as_told(value: object, info: ReadingInfo) -> Value | None:
    """A value as it goes over the wire; None where it is no proper value of its kind."""
    match info.kind:
        case "flag":
            return value if isinstance(value, bool) else None
        case "text":
            return value[:MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else None
        case _:
            number = finite(value)
            return None if number is None else round(number, info.digits + 2)
