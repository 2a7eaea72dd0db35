"""`button`: a push button between a pin and ground."""

from __future__ import annotations

__all__ = ["Button"]

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from edgeagent.drivers import Reading, Readings, Sensor
from edgeagent_devices._gpio import OnPins, Pin, claimed, released


class Button(OnPins, Sensor):
    """A button or any other contact: a door, a float switch."""

    summary = "a push button, door contact or float switch on a GPIO pin"
    icon = "button"
    wiring = "GPIO pin → button → ground (`pull_up: true`), or GPIO pin → button → 3.3 V (`pull_up: false`). Never 5 V."
    interval_s = 5.0

    class Options(BaseModel, extra="forbid"):
        """The contact."""

        pin: Pin = Field(description="BCM number of the pin")
        pull_up: bool = Field(True, description="whether the contact goes to ground; false where it goes to 3.3 V")
        bounce_s: Annotated[float, Field(ge=0, le=1)] = Field(0.02, description="a contact this short is none")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._pin: Any = None
        self._count = 0

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            "pressed": Reading(title="Pressed", kind="flag"),
            "count": Reading(title="Times pressed", digits=0, minimum=0),
        }

    def open(self) -> None:
        options = self._options
        with claimed() as gpiozero:
            self._pin = gpiozero.Button(options.pin, pull_up=options.pull_up, bounce_time=options.bounce_s or None)
            self._pin.when_pressed = self._pressed
            self._pin.when_released = self._changed

    def _pressed(self) -> None:
        self._count += 1
        self.wake()

    def _changed(self) -> None:
        self.wake()

    def read(self) -> Readings:
        # `count` tells of a press that was over before anybody looked.
        return {"pressed": bool(self._pin.is_pressed), "count": self._count}

    def close(self) -> None:
        released(self._pin)
        self._pin = None
