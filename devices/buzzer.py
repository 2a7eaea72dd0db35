"""`buzzer`: an active buzzer on a pin."""

from __future__ import annotations

__all__ = ["Buzzer"]

from typing import Annotated

from pydantic import Field

from edgeagent.drivers import command
from edgeagent_devices._gpio import Switched


class Buzzer(Switched):
    """A buzzer that sounds by itself when it has voltage."""

    summary = "an active buzzer on a GPIO pin"
    icon = "buzzer"
    wiring = "Active buzzer (it has its own oscillator): + → GPIO pin, through a transistor above 10 mA; - → ground."

    @command(title="Beep")
    def beep(
        self,
        seconds: Annotated[float, Field(ge=0.02, le=5)] = 0.2,
        times: Annotated[int, Field(ge=1, le=20)] = 1,
    ) -> None:
        """Sound so long and so often."""
        self._pin.blink(seconds, seconds, times)
