"""Driver `sim-sensor`: a weather station and a motion detector that are not there, for trying things out and for tests."""

from __future__ import annotations

__all__ = ["SimSensor"]

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor, Value

Kind = Literal["temperature", "humidity", "light", "motion"]

_READINGS: Mapping[Kind, Reading] = {
    "temperature": Reading(
        "Temperature", unit="°C", minimum=-20, maximum=50, warn_above=35, dead_band=0.05, device_class="temperature"
    ),
    "humidity": Reading("Humidity", unit="%", digits=0, minimum=0, maximum=100, dead_band=0.5, device_class="humidity"),
    "light": Reading("Light", unit="lx", digits=0, minimum=0, maximum=2000, dead_band=5, device_class="illuminance"),
    "motion": Reading("Motion", kind="flag", device_class="motion"),
}
_MOTION_S, _MOTION_EVERY_S = 4.0, 23.0


class SimSensor(Sensor):
    """Smooth values that depend on nothing but the time since `open`: the same each time.

    Attributes:
        clock: Seconds; a test may put its own here.
    """

    summary: ClassVar[str] = "Simulated temperature, humidity, light and motion, with faults on request"
    wiring: ClassVar[str] = "None."
    icon: ClassVar[str] = "temperature"

    class Faults(BaseModel, extra="forbid"):
        """When it fails, for trying out what happens then."""

        every_s: float = Field(ge=1, description="It fails again and again, this many seconds after the last time")
        for_s: float = Field(default=5.0, gt=0, description="How long it then stays away, in seconds")

    class Options(BaseModel, extra="forbid"):
        """The keys of a `sim-sensor`."""

        readings: list[Kind] = Field(
            default=["temperature", "humidity", "light", "motion"], min_length=1, description="What it tells"
        )
        day_s: float = Field(default=240.0, ge=1, description="Length of its day in seconds: how fast values change")
        faults: SimSensor.Faults | None = Field(default=None, description="When it fails; never where left out")

    options: Options
    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._began: float | None = None  # stays through a fault, which ends by the clock and not by opening anew
        self._open = False

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Those that the owner named."""
        return {kind: _READINGS[kind] for kind in self.options.readings}

    def open(self) -> None:
        """Begin its day, the first time."""
        if self._began is None:
            self._began = self.clock()
        self._fail_if_due(self.clock() - self._began)
        self._open = True

    def close(self) -> None:
        """Nothing to give back."""
        self._open = False

    def read(self) -> Readings:
        """The values now."""
        if self._began is None or not self._open:
            raise DeviceFault("The simulated sensor is not open.")
        elapsed = self.clock() - self._began
        self._fail_if_due(elapsed)
        return {kind: _value(kind, elapsed, elapsed / self.options.day_s * math.tau) for kind in self.options.readings}

    def _fail_if_due(self, elapsed: float) -> None:
        faults = self.options.faults
        if faults and elapsed % (faults.every_s + faults.for_s) >= faults.every_s:
            raise DeviceFault("The simulated sensor does not answer, as it was told to.")


def _value(kind: Kind, elapsed: float, sun: float) -> Value:
    """A reading `elapsed` seconds after the morning; `sun` is the angle of the day."""
    ripple = 0.6 * math.sin(elapsed / 3.1) + 0.4 * math.sin(elapsed / 1.7 + 1)
    match kind:
        case "temperature":
            return round(21 + 4 * math.sin(sun - 0.8) + 0.15 * ripple, 3)
        case "humidity":
            return round(52 - 14 * math.sin(sun - 0.8) + 0.8 * ripple, 3)
        case "light":
            return round(30 + 900 * math.pow(max(0.0, math.sin(sun)), 1.2) + 8 * ripple, 3)
        case "motion":
            return elapsed % _MOTION_EVERY_S > _MOTION_EVERY_S - _MOTION_S
