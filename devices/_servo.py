"""A hobby servo on a pin, in degrees; for `servo` and `pan-tilt`."""

from __future__ import annotations

__all__ = ["Pulse", "ServoOptions", "ServoPin"]

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from edgeagent_devices._gpio import Pin, claimed, released

Pulse = Annotated[int, Field(ge=400, le=2700)]
"""Length of a servo's pulse in µs."""


class ServoOptions(BaseModel, extra="forbid"):
    """One servo: its pin, its reach, and which pulse is which end."""

    pin: Pin = Field(description="BCM number of the pin; 12, 13, 18 and 19 jitter least")
    min_deg: Annotated[float, Field(ge=-180, le=180)] = Field(-90.0, description="angle of the shortest pulse")
    max_deg: Annotated[float, Field(ge=-180, le=180)] = Field(90.0, description="angle of the longest pulse")
    min_us: Pulse = Field(1000, description="shortest pulse, in µs")
    max_us: Pulse = Field(2000, description="longest pulse, in µs")
    home_deg: float = Field(0.0, description="where `home` is")
    invert: bool = Field(False, description="turn it the other way round")

    @model_validator(mode="after")
    def _ordered(self) -> ServoOptions:
        if self.min_deg >= self.max_deg or self.min_us >= self.max_us:
            raise ValueError("min_deg must be below max_deg, and min_us below max_us; `invert: true` turns the servo round")
        if not self.min_deg <= self.home_deg <= self.max_deg:
            raise ValueError("home_deg must lie between min_deg and max_deg")
        return self


class ServoPin:
    """The servo itself. `turn` it to an angle, `relax` it (no pulses: it holds nothing), `close` it."""

    def __init__(self, options: ServoOptions) -> None:
        self._options = options
        self._device: Any = None
        self.angle: float | None = None
        """Where it was last told to be, degrees; None before that."""

    def open(self) -> None:
        """Claim the pin; no pulses yet, so nothing moves. Raises DeviceFault."""
        options = self._options
        with claimed() as gpiozero:
            self._device = gpiozero.Servo(
                options.pin, initial_value=None, min_pulse_width=options.min_us / 1e6, max_pulse_width=options.max_us / 1e6
            )

    def turn(self, degrees: float) -> bool:
        """Go to an angle within reach; whether that is another than before."""
        options = self._options
        before, self.angle = self.angle, min(options.max_deg, max(options.min_deg, degrees))
        share = (self.angle - options.min_deg) / (options.max_deg - options.min_deg) * 2 - 1
        self._device.value = -share if options.invert else share
        return self.angle != before

    def relax(self) -> None:
        """Send no more pulses."""
        if self._device is not None:
            self._device.value = None

    def close(self) -> None:
        """Give the pin back."""
        released(self._device)
        self._device = self.angle = None
