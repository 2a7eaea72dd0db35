"""`ackermann`: a model car, a steering servo and an electronic speed controller (ESC)."""

from __future__ import annotations

__all__ = ["Ackermann"]

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from edgeagent.drivers import Actuator, Axis
from edgeagent_devices._gpio import OnPins, Pin, claimed, released

Pulse = Annotated[int, Field(ge=800, le=2200)]


class PulseOptions(BaseModel, extra="forbid"):
    """One channel of a model car: 1000 to 2000 µs about a neutral pulse, as radio controls have it."""

    pin: Pin = Field(description="BCM number of the pin; 12, 13, 18 and 19 jitter least")
    neutral_us: Pulse = Field(1500, description="pulse at rest, in µs")
    min_us: Pulse = Field(1000, description="pulse at -1 (left, backward), in µs")
    max_us: Pulse = Field(2000, description="pulse at 1 (right, forward), in µs")
    trim_us: Annotated[int, Field(ge=-200, le=200)] = Field(0, description="added to neutral, so that the car goes straight")
    invert: bool = Field(False, description="turn it the other way round")

    @model_validator(mode="after")
    def _ordered(self) -> PulseOptions:
        if not self.min_us < self.neutral_us + self.trim_us < self.max_us:
            raise ValueError("neutral_us with its trim must lie between min_us and max_us")
        return self

    def pulse_us(self, value: float) -> float:
        """The pulse for a value from -1 to 1."""
        value = -value if self.invert else value
        middle = self.neutral_us + self.trim_us
        return middle + value * ((self.max_us - middle) if value > 0 else (middle - self.min_us))


class Ackermann(OnPins, Actuator):
    """Steering servo and ESC. An ESC without pulses stops by itself; at neutral pulses it brakes or rolls out, as it is set."""

    summary = "a model car: steering servo and ESC on GPIO pins"
    icon = "motor"
    wiring = (
        "Servo and ESC: signal → GPIO pins, ground → ground. The ESC's BEC (red) feeds the servo, never the board as well.\n"
        "Lift the wheels at the first try: some ESCs want to see neutral for two seconds before they listen."
    )

    class Options(BaseModel, extra="forbid"):
        """Both channels."""

        throttle: PulseOptions = Field(description="the ESC")
        steer: PulseOptions = Field(description="the steering servo")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._channels: dict[str, PulseOptions] = {"throttle": options.throttle, "steer": options.steer}
        self._pins: dict[str, Any] = {}

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis("Speed", role="throttle"), "steer": Axis("Steering", role="steer")}

    def open(self) -> None:
        with claimed() as gpiozero:
            for name, channel in self._channels.items():
                self._pins[name] = gpiozero.Servo(channel.pin, initial_value=None, min_pulse_width=0.0008, max_pulse_width=0.0022)
        self.stop()

    def apply(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._pins[name].value = (self._channels[name].pulse_us(value) - 1500) / 700

    def stop(self) -> None:
        for name, pin in self._pins.items():
            pin.value = (self._channels[name].pulse_us(0.0) - 1500) / 700

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()
        released(*self._pins.values())
        self._pins = {}
