"""`pan-tilt`: two servos that turn a camera."""

from __future__ import annotations

__all__ = ["PanTilt"]

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor, command
from edgeagent_devices._gpio import OnPins
from edgeagent_devices._servo import ServoOptions, ServoPin


class PanTilt(OnPins, Actuator, Sensor):
    """A camera mount: pan to the sides, tilt up and down. It holds its place when stopped."""

    summary = "a pan-tilt mount of two servos on GPIO pins"
    icon = "pan-tilt"
    wiring = "Each servo as `servo`: ground, its own 5 V, signal → GPIO pin (12 and 13, or 18 and 19). Grounds joined."
    interval_s = 1.0

    class Options(BaseModel, extra="forbid"):
        """Both servos."""

        pan: ServoOptions = Field(description="the servo that turns to the sides; positive is right")
        tilt: ServoOptions = Field(description="the servo that turns up and down; positive is up")
        at_start: Literal["slack", "home"] = Field(
            "slack", description="`slack`: no pulses, and so no motion, before it is first told where to look; `home`: go home"
        )

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._servos = {"pan": ServoPin(options.pan), "tilt": ServoPin(options.tilt)}

    @property
    def axes(self) -> Mapping[str, Axis]:
        pan, tilt = self._options.pan, self._options.tilt
        return {
            "pan": Axis("Pan", pan.min_deg, pan.max_deg, pan.home_deg, unit="°", role="pan", position=True),
            "tilt": Axis("Tilt", tilt.min_deg, tilt.max_deg, tilt.home_deg, unit="°", role="tilt", position=True),
        }

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            name: Reading(axis.title, unit="°", digits=0, minimum=axis.minimum, maximum=axis.maximum)
            for name, axis in self.axes.items()
        }

    def open(self) -> None:
        for servo in self._servos.values():
            servo.open()
        if self._options.at_start == "home":
            self.home()

    def apply(self, values: Mapping[str, float]) -> None:
        if any([self._servos[name].turn(degrees) for name, degrees in values.items()]):
            self.wake()

    def read(self) -> Readings:
        return {name: round(servo.angle, 1) for name, servo in self._servos.items() if servo.angle is not None}

    def stop(self) -> None:
        """It stands still already: a servo holds the place it was last told."""

    def close(self) -> None:
        for servo in self._servos.values():
            servo.relax()
            servo.close()

    @command(title="Look ahead")
    def home(self) -> None:
        """Turn both to `home_deg`, trimmed as the owner has it."""
        for name, axis in self.axes.items():
            self._servos[name].turn(self.within(name, axis.neutral))
