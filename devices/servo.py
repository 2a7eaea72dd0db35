"""`servo`: one hobby servo."""

from __future__ import annotations

__all__ = ["Servo"]

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor, command
from edgeagent_devices._gpio import OnPins
from edgeagent_devices._servo import ServoOptions, ServoPin


class Servo(OnPins, Actuator, Sensor):
    """Turns to an angle and holds it."""

    summary = "a hobby servo on a GPIO pin"
    icon = "servo"
    wiring = (
        "Brown or black → ground, red → 5 V of its own supply (not the board's, which it would pull down), orange or white → GPIO\n"
        "pin; join the grounds."
    )
    interval_s = 1.0

    class Options(ServoOptions):
        """One servo."""

        at_start: Literal["slack", "home"] = Field(
            "slack", description="`slack`: no pulses, and so no motion, before it is first told where to go; `home`: go home"
        )
        relax: bool = Field(False, description="send no pulses when stopped: it goes slack instead of holding its angle")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._servo = ServoPin(options)

    @property
    def axes(self) -> Mapping[str, Axis]:
        options = self._options
        return {"angle": Axis("Angle", options.min_deg, options.max_deg, options.home_deg, unit="°", position=True)}

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"angle": Reading("Angle", unit="°", digits=0, minimum=self._options.min_deg, maximum=self._options.max_deg)}

    def open(self) -> None:
        self._servo.open()
        if self._options.at_start == "home":
            self.turn(self._options.home_deg)

    def apply(self, values: Mapping[str, float]) -> None:
        if "angle" in values and self._servo.turn(values["angle"]):
            self.wake()

    def read(self) -> Readings:
        angle = self._servo.angle
        return {} if angle is None else {"angle": round(angle, 1)}

    def stop(self) -> None:
        if self._options.relax:
            self._servo.relax()

    def close(self) -> None:
        self._servo.relax()
        self._servo.close()

    @command(title="Turn to")
    def turn(self, degrees: Annotated[float, Field(ge=-180, le=180, description="°")]) -> None:
        """Turn to an angle; what is beyond the servo's reach, or the owner's limits, ends there."""
        self._servo.turn(self.within("angle", degrees))

    @command(title="Home")
    def home(self) -> None:
        """Turn to `home_deg`, trimmed as the owner has it."""
        self.turn(self._options.home_deg)
