"""`led`: a light on a pin, on or off."""

from __future__ import annotations

__all__ = ["Led"]

from typing import Annotated

from pydantic import Field

from edgeagent.drivers import command
from edgeagent_devices._gpio import Switched


class Led(Switched):
    """An LED, or anything else that a pin lights."""

    summary = "a light on a GPIO pin, on or off"
    icon = "light"
    wiring = "GPIO pin → resistor (330 Ω) → long leg of the LED; short leg → ground. More than 10 mA needs a transistor."

    @command(title="Blink")
    def blink(
        self,
        seconds: Annotated[float, Field(ge=0.05, le=10, description="seconds on, and as many off")] = 0.5,
        times: Annotated[int, Field(ge=1, le=100)] = 3,
    ) -> None:
        """Blink, then stay off."""
        self._pin.blink(seconds, seconds, times)
