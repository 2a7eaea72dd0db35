"""`relay`: a relay on a pin; a gate or a garage door by a pulse."""

from __future__ import annotations

__all__ = ["Relay"]

from typing import Annotated

from pydantic import Field

from edgeagent.drivers import command
from edgeagent_devices._gpio import Switched


class Relay(Switched):
    """A relay board's input."""

    summary = "a relay on a GPIO pin, switched or pulsed"
    icon = "switch"
    wiring = (
        "Relay board: VCC → 5 V (or 3.3 V), GND → ground, IN → GPIO pin. Boards that switch on when IN is low want\n"
        "`active_high: false`. A bare relay needs a transistor and a diode. Mains voltage is for an electrician."
    )

    @command(title="Pulse")
    def pulse(self, seconds: Annotated[float, Field(ge=0.05, le=60)] = 0.5) -> None:
        """Switch on, and off again after so many seconds: a door opener's button."""
        self._pin.blink(seconds, 0, 1)
