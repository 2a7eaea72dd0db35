"""`motor-pair`: differential drive, two motors on H-bridges."""

from __future__ import annotations

__all__ = ["MotorPair"]

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from edgeagent.drivers import Actuator, Axis
from edgeagent_devices._gpio import OnPins, Pin, claimed, released


class MotorPair(OnPins, Actuator):
    """A robot that steers by the difference of its wheels: gpiozero's Robot or PhaseEnableRobot."""

    summary = "differential drive: two motors on H-bridges (L298N, TB6612, DRV8833, DRV8835 …)"
    icon = "motor"
    wiring = (
        "Two pins a motor (IN1 and IN2 of L298N, DRV8833): `left: [forward, backward]`; with a pin that enables it (L298N ENA,\n"
        "TB6612 PWM) three: `left: [forward, backward, enable]`. One pin for direction and one for speed (DRV8835, Pololu):\n"
        "`phase_enable: true` and `left: [phase, enable]`. Motors need a supply of their own; join the grounds. A resistor of\n"
        "10 kΩ from each input to ground keeps the motors still while the board starts."
    )

    class Options(BaseModel, extra="forbid"):
        """Both motors."""

        left: Annotated[list[Pin], Field(min_length=2, max_length=3)] = Field(description="BCM numbers of the left motor's pins")
        right: Annotated[list[Pin], Field(min_length=2, max_length=3)] = Field(description="BCM numbers of the right motor's pins")
        phase_enable: bool = Field(False, description="whether the two pins are phase and enable instead of forward and backward")
        pwm: bool = Field(True, description="whether the motors can turn slowly; false where they are only on or off")
        swap: bool = Field(False, description="swap left and right")
        invert_left: bool = Field(False, description="turn the left motor the other way round")
        invert_right: bool = Field(False, description="turn the right motor the other way round")

        @model_validator(mode="after")
        def _pins(self) -> MotorPair.Options:
            pins = [*self.left, *self.right]
            if len(set(pins)) != len(pins):
                raise ValueError("each pin can be used once only")
            if self.phase_enable and (len(self.left) != 2 or len(self.right) != 2):
                raise ValueError("with phase_enable each motor has two pins: phase and enable")
            return self

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._motors: Sequence[Any] = ()
        self._values = {"throttle": 0.0, "steer": 0.0}

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis("Speed", role="throttle"), "steer": Axis("Steering", role="steer")}

    def open(self) -> None:
        options = self._options
        opened = []
        try:
            with claimed() as gpiozero:
                for pins in (options.left, options.right):
                    if options.phase_enable:
                        opened.append(gpiozero.PhaseEnableMotor(pins[0], pins[1], pwm=options.pwm))
                    else:
                        opened.append(gpiozero.Motor(pins[0], pins[1], enable=pins[2] if len(pins) > 2 else None, pwm=options.pwm))
        except BaseException:
            released(*opened)
            raise
        self._motors = opened
        self.stop()

    def apply(self, values: Mapping[str, float]) -> None:
        self._values |= values
        options = self._options
        left, right = wheels(self._values["throttle"], self._values["steer"])
        if options.swap:
            left, right = right, left
        speeds = (-left if options.invert_left else left, -right if options.invert_right else right)
        for motor, speed in zip(self._motors, speeds, strict=True):
            motor.value = speed if options.pwm else float((speed > 0.5) - (speed < -0.5))

    def stop(self) -> None:
        self._values = {"throttle": 0.0, "steer": 0.0}
        for motor in self._motors:
            motor.stop()

    def close(self) -> None:
        released(*self._motors)  # closing an output lets its pin float; the resistor at the bridge holds it low
        self._motors = ()


def wheels(throttle: float, steer: float) -> tuple[float, float]:
    """Speeds of the left and the right wheel, each from -1 to 1; at full speed the inner wheel gives way.

    >>> wheels(1.0, 0.0), wheels(0.0, 1.0), wheels(1.0, 0.5)
    ((1.0, 1.0), (1.0, -1.0), (1.0, 0.3333333333333333))
    """
    left, right = throttle + steer, throttle - steer
    scale = max(1.0, abs(left), abs(right))
    return left / scale, right / scale
