"""`system`: how the board itself fares."""

from __future__ import annotations

__all__ = ["System", "ticks"]

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from edgeagent.drivers import Reading, Readings, Sensor
from edgeagent.drivers.board import BoardReader, Power

_STAT = Path("/proc/stat")


class System(Sensor):
    """The board as a sensor: what it would complain of, in numbers."""

    summary = "the board itself: processor, temperature, memory, disk, Wi-Fi, under-voltage and throttling"
    icon = "board"
    wiring = "Nothing to connect."
    interval_s = 10.0

    class Options(BaseModel, extra="forbid"):
        """What is worth an alarm."""

        hot_c: Annotated[float, Field(ge=30, le=120)] = Field(
            80.0, description="a higher temperature of the processor raises an alarm"
        )
        low_memory: Annotated[float, Field(ge=0, le=100)] = Field(5.0, description="less free memory (%) raises an alarm")
        low_disk: Annotated[float, Field(ge=0, le=100)] = Field(3.0, description="less free disk (%) raises an alarm")
        weak_wifi_dbm: Annotated[float, Field(ge=-100, le=0)] = Field(-75.0, description="a weaker Wi-Fi signal raises an alarm")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._look = BoardReader()
        self._busy: tuple[int, int] | None = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        options = self._options
        return {
            "cpu": Reading("Processor", unit="%", digits=0, minimum=0, maximum=100, dead_band=2),
            "temperature": Reading(
                "Temperature",
                unit="°C",
                digits=0,
                minimum=0,
                maximum=110,
                warn_above=options.hot_c,
                dead_band=1,
                device_class="temperature",
            ),
            "memory": Reading(
                "Free memory", unit="%", digits=0, minimum=0, maximum=100, warn_below=options.low_memory, dead_band=1
            ),
            "disk": Reading("Free disk", unit="%", digits=0, minimum=0, maximum=100, warn_below=options.low_disk, dead_band=0.5),
            "wifi": Reading(
                "Wi-Fi",
                unit="dBm",
                digits=0,
                minimum=-100,
                maximum=0,
                warn_below=options.weak_wifi_dbm,
                dead_band=3,
                device_class="signal_strength",
            ),
            "undervoltage": Reading("Too little power", kind="flag", device_class="problem"),
            "throttled": Reading("Slowed down", kind="flag", device_class="problem"),
            "undervoltage_since_boot": Reading("Too little power since the start", kind="flag", device_class="problem"),
            "throttled_since_boot": Reading("Slowed down since the start", kind="flag", device_class="problem"),
        }

    def open(self) -> None:
        self._busy = None
        self._cpu()

    def read(self) -> Readings:
        health = self._look()
        power = health.power or Power()
        found = {
            "cpu": self._cpu(),
            "temperature": health.temperature_c,
            "memory": _share(health.memory_available_bytes, health.memory_total_bytes),
            "disk": _share(health.disk_free_bytes, health.disk_total_bytes),
            "wifi": health.wifi_signal_dbm,
            "undervoltage": power.undervoltage_now,
            "throttled": power.throttled_now,
            "undervoltage_since_boot": power.undervoltage_since_boot,
            "throttled_since_boot": power.throttled_since_boot,
        }
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Nothing is held."""

    def _cpu(self) -> float | None:
        """Share of the time since the last look that the processors worked, in %."""
        try:
            line = _STAT.read_text("ascii", "replace").partition("\n")[0]
        except OSError:
            return None
        before, self._busy = self._busy, ticks(line)
        if before is None or self._busy is None or self._busy[1] <= before[1]:
            return None
        return round(100 * (self._busy[0] - before[0]) / (self._busy[1] - before[1]), 1)


def ticks(line: str) -> tuple[int, int] | None:
    """Ticks worked and ticks passed, by the first line of `/proc/stat` (proc_stat(5)); None where it is another.

    >>> ticks("cpu  10 0 5 80 5 0 0 0 0 0")
    (15, 100)
    """
    words = line.split()
    if len(words) < 6 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:]):
        return None
    numbers = [int(word) for word in words[1:9]]  # the guests' are in `user` already
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def _share(part: int | None, whole: int | None) -> float | None:
    return round(100 * part / whole, 1) if part is not None and whole else None
