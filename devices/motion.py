"""`motion`: a PIR sensor (HC-SR501 and its like) on a pin."""

from __future__ import annotations

__all__ = ["Motion"]

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from edgeagent.drivers import Reading, Readings, Sensor
from edgeagent_devices._gpio import OnPins, Pin, claimed, released


class Motion(OnPins, Sensor):
    """Whether something warm moves before it."""

    summary = "a motion sensor (PIR, as HC-SR501) on a GPIO pin"
    icon = "motion"
    wiring = "VCC → 5 V, GND → ground, OUT → GPIO pin (it gives 3.3 V). Let it warm up for a minute."
    interval_s = 5.0

    class Options(BaseModel, extra="forbid"):
        """The sensor."""

        pin: Pin = Field(description="BCM number of the pin")
        active_high: bool = Field(True, description="whether the pin is high while something moves")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._pin: Any = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"motion": Reading(title="Motion", kind="flag", device_class="motion")}

    def open(self) -> None:
        # Not gpiozero's MotionSensor: that samples on a thread and smooths what the PIR has long smoothed.
        with claimed() as gpiozero:
            pin = gpiozero.DigitalInputDevice(self._options.pin, pull_up=None, active_state=self._options.active_high)
            pin.when_activated = pin.when_deactivated = self._changed
            self._pin = pin

    def _changed(self) -> None:
        self.wake()

    def read(self) -> Readings:
        return {"motion": bool(self._pin.value)}

    def close(self) -> None:
        released(self._pin)
        self._pin = None
