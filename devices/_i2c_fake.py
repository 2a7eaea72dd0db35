"""An I²C bus made of software, register by register: `bus: fake`, for trying drivers and pages without hardware.

Chips appear where they are asked for; they live as long as the process, as real ones live longer than a driver.
"""

from __future__ import annotations

__all__ = ["Chip", "FakeBus", "celsius_now"]

import errno
import math
import struct
import time
from collections.abc import Callable, Mapping


def celsius_now() -> float:
    """A day's temperature in ten minutes."""
    return 21.0 + 4.0 * math.sin(time.monotonic() * 2 * math.pi / 600)


class Chip:
    """256 registers.

    Attributes:
        registers: What they hold.
        broken: Whether it answers no more, as one that is unplugged.
    """

    def __init__(self) -> None:
        self.registers = bytearray(256)
        self.broken = False

    def measure(self) -> None:
        """Bring the registers up to date, before they are read."""

    def written(self, register: int, data: bytes) -> None:
        """Take what was written."""
        self.registers[register : register + len(data)] = data


class _Bme280(Chip):
    """With the calibration of the datasheet's example (BMP280, 3.12)."""

    def __init__(self) -> None:
        super().__init__()
        self.registers[0xD0] = 0x60
        pressure = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
        self.registers[0x88:0xA0] = struct.pack("<HhhHhhhhhhhh", 27504, 26435, -1000, *pressure)
        self.registers[0xA1] = 75
        # h2 = 362, h3 = 0, h4 = 313, h5 = 50, h6 = 30
        self.registers[0xE1:0xE8] = bytes((0x6A, 0x01, 0x00, 313 >> 4, (50 & 0x0F) << 4 | 313 & 0x0F, 50 >> 4, 30))

    def measure(self) -> None:
        temperature = 519_888 + round((celsius_now() - 25.08) * 3_180)  # 3180 steps a degree about there
        self.registers[0xF7:0xFF] = (415_148 << 4).to_bytes(3) + (temperature << 4).to_bytes(3) + (28_000).to_bytes(2)


class _Ina219(Chip):
    """A battery of three cells under a load that comes and goes; 16-bit registers, addressed by number."""

    def measure(self) -> None:
        phase = time.monotonic() * 2 * math.pi
        volts, amperes = 11.4 + 0.5 * math.sin(phase / 900), 0.6 + 0.3 * math.sin(phase / 20)
        self.registers[0x01 * 2 : 0x01 * 2 + 2] = round(amperes * 0.1 / 10e-6).to_bytes(2, signed=True)
        self.registers[0x02 * 2 : 0x02 * 2 + 2] = (round(volts / 4e-3) << 3).to_bytes(2)


class _Mpu6050(Chip):
    """It lies on a table that rocks."""

    def __init__(self) -> None:
        super().__init__()
        self.registers[0x75] = 0x68

    def measure(self) -> None:
        phase = time.monotonic() * 2 * math.pi / 8
        roll, pitch = 0.2 * math.sin(phase), 0.1 * math.cos(phase)
        x, y, z = -math.sin(pitch), math.sin(roll) * math.cos(pitch), math.cos(roll) * math.cos(pitch)
        turn = (math.degrees(0.2 * math.cos(phase)), 0.0, 10 * math.sin(phase / 3))
        accelerations, rates = (round(v * 8192) for v in (x, y, z)), (round(v * 65.5) for v in turn)
        self.registers[0x3B:0x49] = struct.pack(">7h", *accelerations, 0, *rates)


class _Pca9685(Chip):
    """As the real one, it takes a frequency only while it sleeps, and its ALL registers set all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.registers[0x00], self.registers[0xFE] = 0x11, 0x1E

    def written(self, register: int, data: bytes) -> None:
        for offset, value in enumerate(data):
            at = register + offset
            if at == 0xFE and not self.registers[0x00] & 0x10:
                continue
            self.registers[at] = value
            if 0xFA <= at <= 0xFD:
                self.registers[0x06 + at - 0xFA : 0x46 : 4] = bytes([value]) * 16

    def duty(self, channel: int) -> float:
        """Share of the period that an output is high."""
        on, off = struct.unpack_from("<HH", self.registers, 0x06 + 4 * channel)
        return 0.0 if off & 0x1000 else 1.0 if on & 0x1000 else (off - on) % 4096 / 4096


_KINDS: Mapping[str, Callable[[], Chip]] = {"BME280": _Bme280, "INA219": _Ina219, "MPU-6050": _Mpu6050, "PCA9685": _Pca9685}
_WORDS = (_Ina219,)
"""Chips whose registers are two bytes wide."""


class FakeBus:
    """Stands in for `smbus2.SMBus`, for one kind of chip.

    Attributes:
        chips: All chips so far, by kind and address.
    """

    chips: dict[tuple[str, int], Chip] = {}  # noqa: RUF012  they outlive the bus

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def _chip(self, address: int) -> Chip:
        chip = self.chips.setdefault((self._kind, address), _KINDS[self._kind]())
        if chip.broken:
            raise OSError(errno.EREMOTEIO, "Remote I/O error")
        return chip

    def read_i2c_block_data(self, i2c_addr: int, register: int, length: int) -> list[int]:
        """See smbus2."""
        chip = self._chip(i2c_addr)
        chip.measure()
        start = register * 2 if isinstance(chip, _WORDS) else register
        return list(chip.registers[start : start + length])

    def write_i2c_block_data(self, i2c_addr: int, register: int, data: list[int]) -> None:
        """See smbus2."""
        chip = self._chip(i2c_addr)
        chip.written(register * 2 if isinstance(chip, _WORDS) else register, bytes(data))

    def close(self) -> None:
        """Nothing to give back."""
