"""`ds18b20`: temperature by Maxim's DS18B20 on the 1-Wire bus, as the kernel reads it."""

from __future__ import annotations

__all__ = ["Ds18b20", "celsius"]

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor

_KERNEL = Path("/sys/bus/w1/devices")
_FAMILIES = ("10-", "22-", "28-", "3b-", "42-")
"""DS18S20, DS1822, DS18B20, DS1825, DS28EA00: the kernel reads them alike."""
_FAKE = "28-0000000000aa"
_POWER_ON = 85.0
_TEXT = re.compile(r"crc=[0-9a-f]{2} YES\n.*t=(-?\d{1,6})\s*$", re.S)


class Ds18b20(Sensor):
    """A thermometer in a steel tube."""

    summary = "temperature by a DS18B20 on the 1-Wire bus"
    icon = "temperature"
    wiring = (
        "Red → 3.3 V, black → ground, yellow → GPIO 4, and 4.7 kΩ between yellow and red. `dtoverlay=w1-gpio` in\n"
        "/boot/firmware/config.txt, then restart."
    )
    interval_s = 10.0
    timeout_s = 10.0

    class Options(BaseModel, extra="forbid"):
        """The sensor."""

        bus: Literal["kernel", "fake"] = Field("kernel", description="`fake` for one made of software")
        sensor: Annotated[str, Field(pattern=r"^[0-9a-f]{2}-[0-9a-f]{12}$")] | None = Field(
            None, description="its number, like 28-0316a2794dff, as in /sys/bus/w1/devices; needed where there are several"
        )

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._sensor = ""

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            "temperature": Reading("Temperature", unit="°C", minimum=-55, maximum=125, dead_band=0.06, device_class="temperature")
        }

    def check(self) -> None:
        self._find()

    def open(self) -> None:
        self._sensor = self._find()

    def _find(self) -> str:
        """The sensor's number; the kernel lists those that it sees."""
        found = (
            [_FAKE] if self._options.bus == "fake" else sorted(p.name for p in _KERNEL.glob("*-*") if p.name.startswith(_FAMILIES))
        )
        if self._options.sensor is not None:
            if self._options.sensor not in found:
                raise DeviceFault(
                    f"There is no sensor {self._options.sensor} on the 1-Wire bus; it has {', '.join(found) or 'none'}."
                )
            return self._options.sensor
        if len(found) > 1:
            raise DeviceFault(f"There are several sensors: write `sensor:` with one of {', '.join(found)}.", retry=False)
        if not found:
            raise DeviceFault("There is no sensor on the 1-Wire bus: check its wires and `dtoverlay=w1-gpio`.")
        return found[0]

    def read(self) -> Readings:
        if self._options.bus == "fake":
            from edgeagent_devices._i2c_fake import celsius_now

            return {"temperature": celsius(f"50 05 : crc=1c YES\n50 05 t={round(celsius_now() * 1000)}\n")}
        try:
            text = (_KERNEL / self._sensor / "w1_slave").read_text("ascii", "replace")
        except OSError:
            raise DeviceFault(f"The sensor {self._sensor} no longer answers: check its wires.") from None
        return {"temperature": celsius(text)}

    def close(self) -> None:
        self._sensor = ""


def celsius(text: str) -> float:
    """°C from the kernel's `w1_slave`.

    Raises:
        DeviceFault: The checksum is wrong, or the sensor has only just got power (it then says 85 °C).
    """
    found = _TEXT.search(text)
    if found is None:
        raise DeviceFault("The 1-Wire sensor's answer was garbled: its cable is too long, or the 4.7 kΩ resistor is missing.")
    value = int(found[1]) / 1000
    if value == _POWER_ON:
        raise DeviceFault("The 1-Wire sensor has just lost its power (it says 85 °C): check the red wire.")
    if not -55 <= value <= 125:
        raise DeviceFault(f"The 1-Wire sensor says {value:g} °C, which it cannot measure.")
    return value
