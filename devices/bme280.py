"""`bme280`: temperature, humidity and pressure by Bosch's BME280 (and BMP280, without humidity)."""

from __future__ import annotations

__all__ = ["Bme280", "Calibration", "compensated"]

import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor
from edgeagent_devices._i2c import Address, Bus, I2c, opened, reachable

_ID, _RESET, _CTRL_HUM, _STATUS, _CTRL_MEAS, _DATA = 0xD0, 0xE0, 0xF2, 0xF3, 0xF4, 0xF7
_CHIPS = {0x60: True, 0x58: False, 0x57: False, 0x56: False}
"""Chip ids, and whether they know humidity."""


class Bme280(Sensor):
    """A weather chip."""

    summary = "temperature, humidity and pressure by a BME280 (or BMP280) on I²C"
    icon = "temperature"
    wiring = "VIN → 3.3 V, GND → ground, SDA → GPIO 2, SCL → GPIO 3. Address 0x76, or 0x77 with SDO high."
    interval_s = 5.0

    class Options(BaseModel, extra="forbid"):
        """The chip."""

        bus: Bus = Field(1, description="number of the I²C bus; `fake` for one made of software")
        address: Address = Field(0x76, description="0x76 or 0x77")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._chip: I2c | None = None
        self._humid = True
        self._calibration: Calibration | None = None

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            "temperature": Reading("Temperature", unit="°C", minimum=-40, maximum=85, dead_band=0.05, device_class="temperature"),
            "humidity": Reading("Humidity", unit="%", digits=0, minimum=0, maximum=100, dead_band=0.5, device_class="humidity"),
            "pressure": Reading(
                "Pressure", unit="hPa", minimum=300, maximum=1100, dead_band=0.1, device_class="atmospheric_pressure"
            ),
        }

    def check(self) -> None:
        reachable(self._options.bus)

    def open(self) -> None:
        chip = self._chip = opened(self._options.bus, self._options.address, "BME280")
        kind = chip.read(_ID)[0]
        if kind not in _CHIPS:
            raise DeviceFault(f"The chip at 0x{self._options.address:02x} is no BME280 (it says 0x{kind:02x}).", retry=False)
        self._humid = _CHIPS[kind]
        chip.write(_RESET, 0xB6)
        time.sleep(0.005)
        low, high = chip.read(0x88, 26), chip.read(0xE1, 7) if self._humid else bytes(7)
        self._calibration = Calibration.read(low, high)

    def read(self) -> Readings:
        assert self._chip is not None and self._calibration is not None
        # Forced mode: one measurement of each (datasheet 3.3.3), which keeps the chip from warming itself.
        self._chip.write(_CTRL_HUM, 0x01)
        self._chip.write(_CTRL_MEAS, 0x25)
        for _ in range(10):
            time.sleep(0.005)
            if not self._chip.read(_STATUS)[0] & 0x08:
                break
        else:
            raise DeviceFault("The BME280 does not finish its measurement.")
        raw = self._chip.read(_DATA, 8)
        pressure, temperature = int.from_bytes(raw[0:3]) >> 4, int.from_bytes(raw[3:6]) >> 4
        celsius, hectopascal, percent = compensated(self._calibration, temperature, pressure, int.from_bytes(raw[6:8]))
        values = {"temperature": round(celsius, 2), "pressure": round(hectopascal, 2)}
        return values | ({"humidity": round(percent, 1)} if self._humid else {})

    def close(self) -> None:
        if self._chip is not None:
            self._chip.close()
        self._chip = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The factory's trimming (datasheet 4.2.2): t1 to t3, p1 to p9, h1 to h6."""

    t: tuple[int, ...]
    p: tuple[int, ...]
    h: tuple[int, ...]

    @classmethod
    def read(cls, low: bytes, high: bytes) -> Calibration:
        """From the registers 0x88 to 0xA1 and 0xE1 to 0xE7."""
        words = struct.unpack("<HhhHhhhhhhhh", low[:24])
        h2, h3 = struct.unpack("<hB", high[:3])
        h4 = int.from_bytes(high[3:4], signed=True) << 4 | high[4] & 0x0F
        h5 = int.from_bytes(high[5:6], signed=True) << 4 | high[4] >> 4
        return cls(words[:3], words[3:], (low[25], h2, h3, h4, h5, int.from_bytes(high[6:7], signed=True)))


def compensated(trim: Calibration, temperature: int, pressure: int, humidity: int) -> tuple[float, float, float]:
    """°C, hPa and % from the raw measurements: the datasheet's formulas in floating point (appendix 8.1)."""
    t1, t2, t3 = trim.t
    fine = (temperature / 16384 - t1 / 1024) * t2 + (temperature / 131072 - t1 / 8192) ** 2 * t3
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = trim.p
    v1 = fine / 2 - 64000
    v2 = (v1 * v1 * p6 / 32768 + v1 * p5 * 2) / 4 + p4 * 65536
    v1 = (1 + (p3 * v1 * v1 / 524288 + p2 * v1) / 524288 / 32768) * p1
    hectopascal = 0.0
    if v1:
        pascal = (1048576 - pressure - v2 / 4096) * 6250 / v1
        hectopascal = (pascal + (p9 * pascal * pascal / 2147483648 + pascal * p8 / 32768 + p7) / 16) / 100
    h1, h2, h3, h4, h5, h6 = trim.h
    h = fine - 76800
    h = (humidity - (h4 * 64 + h5 / 16384 * h)) * (h2 / 65536 * (1 + h6 / 67108864 * h * (1 + h3 / 67108864 * h)))
    percent = min(100.0, max(0.0, h * (1 - h1 * h / 524288)))
    return fine / 5120, hectopascal, percent
