"""`pwm-led`: a light on a pin that can be dimmed."""

from __future__ import annotations

__all__ = ["PwmLed"]

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, Reading, Readings, Sensor, command
from edgeagent_devices._gpio import SAFE, OnPins, Pin, claimed, released


class PwmLed(OnPins, Actuator, Sensor):
    """An LED or an LED strip's MOSFET, dimmed by pulse width."""

    summary = "a light on a GPIO pin that can be dimmed"
    icon = "light"
    wiring = (
        "As `led`; for a strip: GPIO pin → gate of a logic-level MOSFET, strip between its supply and the drain, grounds joined."
    )
    moves = False
    interval_s = 5.0

    class Options(BaseModel, extra="forbid"):
        """The light."""

        pin: Pin = Field(description="BCM number of the pin")
        active_high: bool = Field(True, description="whether the pin is high when it is lit")
        frequency_hz: Annotated[int, Field(ge=10, le=10_000)] = Field(500, description="of the pulses")
        initial: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="brightness after the start, 0 to 1")
        safe: Literal["off", "keep"] = Field("off", description=SAFE)

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._pin: Any = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            "on": Reading(title="On", kind="flag"),
            "brightness": Reading(title="Brightness", unit="%", digits=0, minimum=0, maximum=100),
        }

    def open(self) -> None:
        options = self._options
        with claimed() as gpiozero:
            self._pin = gpiozero.PWMOutputDevice(
                options.pin, active_high=options.active_high, initial_value=options.initial, frequency=options.frequency_hz
            )

    def read(self) -> Readings:
        value = float(self._pin.value)
        return {"on": value > 0, "brightness": round(value * 100, 1)}

    def stop(self) -> None:
        if self._pin is not None and self._options.safe == "off":
            self._pin.off()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()
        released(self._pin)
        self._pin = None

    @command(title="Switch")
    def switch(self, on: bool) -> None:
        """Full light, or none."""
        (self._pin.on if on else self._pin.off)()

    @command(title="Dim")
    def dim(self, brightness: Annotated[float, Field(ge=0, le=100, description="%")]) -> None:
        """Light it so brightly."""
        self._pin.value = brightness / 100

    @command(title="Pulse")
    def pulse(self, seconds: Annotated[float, Field(ge=0.1, le=10, description="seconds up, and as many down")] = 1.0) -> None:
        """Glow up and down until it is switched."""
        self._pin.pulse(seconds, seconds)
