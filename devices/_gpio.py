"""What the drivers of GPIO pins share, all on gpiozero: on a board through lgpio, without one on `GPIOZERO_PIN_FACTORY=mock`."""

from __future__ import annotations

__all__ = ["SAFE", "OnPins", "Pin", "Switched", "claimed", "released"]

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, DeviceFault, Driver, Reading, Readings, Sensor, command
from edgeagent.drivers.pins import make_good

Pin = Annotated[int, Field(ge=0, le=27)]
"""A pin of the header by its BCM (GPIO) number, 0 to 27."""

NO_LIBRARY = (
    "The pins need gpiozero: `sudo apt install python3-gpiozero python3-lgpio`, and a venv made with --system-site-packages."
)
NO_PINS = "This machine has no GPIO pins that may be used; is the user in the group gpio? (GPIOZERO_PIN_FACTORY=mock plays them.)"

SAFE = "what it does while it hangs; after other faults, and when the agent ends, its pin is given back and drives nothing"
_PIN_LIBRARIES = ("lgpio", "RPi", "pigpio")
_DEV = Path("/dev")


@contextlib.contextmanager
def claimed() -> Iterator[Any]:
    """The module gpiozero; what it raises becomes a DeviceFault with a sentence for the owner."""
    try:
        import gpiozero
    except ImportError:
        raise DeviceFault(NO_LIBRARY, retry=False) from None
    try:
        make_good()
        yield gpiozero
    except gpiozero.BadPinFactory:
        raise DeviceFault(NO_PINS, retry=False) from None
    except gpiozero.GPIOPinInUse as error:
        raise DeviceFault(f"A pin is taken twice: {error}. Give each device its own pins.", retry=False) from None
    except gpiozero.PinPWMUnsupported:
        raise DeviceFault(
            "These pins can only be on or off; PWM needs lgpio (or GPIOZERO_MOCK_PIN_CLASS=mockpwmpin).", retry=False
        ) from None
    except gpiozero.GPIOZeroError as error:
        raise DeviceFault(f"The pins cannot be used: {error}.") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "lgpio":
            raise
        raise DeviceFault(f"The pins cannot be used: {error}. Another program may hold them.") from error


def released(*devices: Any) -> None:
    """Close gpiozero devices, whatever state they are in; None is none."""
    for device in devices:
        if device is not None:
            with contextlib.suppress(Exception):
                device.close()


class OnPins(Driver):
    """A driver of GPIO pins: looks whether there are any, without claiming one."""

    libraries = ("gpiozero",)

    def check(self) -> None:
        try:
            import gpiozero
        except ImportError:
            raise DeviceFault(NO_LIBRARY, retry=False) from None
        if gpiozero.Device.pin_factory is not None or os.environ.get("GPIOZERO_PIN_FACTORY"):
            return  # the owner's choice: mock pins, or those of another board
        if not any(importlib.util.find_spec(library) for library in _PIN_LIBRARIES):
            raise DeviceFault(NO_LIBRARY, retry=False)
        if not any(os.access(chip, os.R_OK | os.W_OK) for chip in _DEV.glob("gpiochip*")):
            raise DeviceFault(NO_PINS, retry=False)


class Switched(OnPins, Actuator, Sensor):
    """A pin that is on or off until it is switched: lamps, relays, buzzers."""

    moves = False
    interval_s = 5.0

    class Options(BaseModel, extra="forbid"):
        """What is switched."""

        pin: Pin = Field(description="BCM number of the pin")
        active_high: bool = Field(True, description="whether the pin is high when it is on; many relay boards want false")
        initial: bool = Field(False, description="whether it is on after the start")
        safe: Literal["off", "on", "keep"] = Field("off", description=SAFE)

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._pin: Any = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"on": Reading(title="On", kind="flag")}

    def open(self) -> None:
        with claimed() as gpiozero:
            options = self._options
            self._pin = gpiozero.DigitalOutputDevice(options.pin, active_high=options.active_high, initial_value=options.initial)

    def read(self) -> Readings:
        return {"on": bool(self._pin.value)} if self._pin is not None else {}

    def stop(self) -> None:
        if self._pin is not None and self._options.safe != "keep":
            (self._pin.on if self._options.safe == "on" else self._pin.off)()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()
        released(self._pin)
        self._pin = None

    @command(title="Switch")
    def switch(self, on: bool) -> None:
        """Switch it on or off."""
        (self._pin.on if on else self._pin.off)()
