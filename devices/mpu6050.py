"""`mpu6050`: which way is up, and how fast it turns, by InvenSense's MPU-6050."""

from __future__ import annotations

__all__ = ["Mpu6050"]

import math
import struct
import time
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor
from edgeagent_devices._i2c import Address, Bus, I2c, opened, reachable

_SMPLRT_DIV, _CONFIG, _GYRO_CONFIG, _ACCEL_CONFIG, _DATA, _PWR_MGMT_1, _WHO_AM_I = 0x19, 0x1A, 0x1B, 0x1C, 0x3B, 0x6B, 0x75
_KNOWN = {0x68, 0x69, 0x70, 0x71, 0x72, 0x98}
"""What the MPU-6050 and its successors with the same registers say of themselves."""
_LSB_PER_G, _LSB_PER_DPS = 8192.0, 65.5
"""At ±4 g and ±500 °/s."""
_SCALES, _SCALE_BITS = 0x08, 0x18
_TRUST_GYRO_S = 0.5
"""Faster than this the gyroscope is trusted, slower the accelerometer."""


class Mpu6050(Sensor):
    """An inertial measurement unit; pitch and roll by a complementary filter."""

    summary = "pitch, roll and turn rate by an MPU-6050 (IMU) on I²C"
    icon = "compass"
    wiring = "VCC → 3.3 V, GND → ground, SDA → GPIO 2, SCL → GPIO 3. X forward, Y left, Z up. Address 0x68, or 0x69 with AD0 high."
    interval_s = 0.1

    class Options(BaseModel, extra="forbid"):
        """The chip."""

        bus: Bus = Field(1, description="number of the I²C bus; `fake` for one made of software")
        address: Address = Field(0x68, description="0x68 or 0x69")
        warn_tilt_deg: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="a larger tilt raises an alarm; 0: none")

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._chip: I2c | None = None
        self._roll = self._pitch = 0.0
        self._read_at = 0.0

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            "pitch": Reading("Pitch", unit="°", minimum=-90, maximum=90, dead_band=0.5),
            "roll": Reading("Roll", unit="°", minimum=-180, maximum=180, dead_band=0.5),
            "tilt": Reading(
                "Tilt", unit="°", digits=0, minimum=0, maximum=180, warn_above=self._options.warn_tilt_deg or None, dead_band=1
            ),
            "turn_rate": Reading("Turn rate", unit="°/s", digits=0, minimum=-500, maximum=500, dead_band=1),
            "acceleration": Reading("Acceleration", unit="g", digits=2, minimum=0, maximum=7, dead_band=0.02),
        }

    def check(self) -> None:
        reachable(self._options.bus)

    def open(self) -> None:
        chip = self._chip = opened(self._options.bus, self._options.address, "MPU-6050")
        who = chip.read(_WHO_AM_I)[0]
        if who not in _KNOWN:
            raise DeviceFault(f"The chip at 0x{self._options.address:02x} is no MPU-6050 (it says 0x{who:02x}).", retry=False)
        chip.write(_PWR_MGMT_1, 0x80)
        time.sleep(0.1)  # the reset
        chip.write(_PWR_MGMT_1, 0x01)  # awake, clocked by the gyroscope
        for register, value in ((_CONFIG, 3), (_SMPLRT_DIV, 4), (_GYRO_CONFIG, _SCALES), (_ACCEL_CONFIG, _SCALES)):
            chip.write(register, value)
        time.sleep(0.05)
        self._read_at = -math.inf

    def read(self) -> Readings:
        assert self._chip is not None
        if any(scale & _SCALE_BITS != _SCALES for scale in self._chip.read(_GYRO_CONFIG, 2)):
            # It sleeps, and would read as level for ever; its successors measure, by another scale.
            raise DeviceFault("The MPU-6050 has reset itself: look at its supply, which motors may pull down.")
        words = struct.unpack(">7h", self._chip.read(_DATA, 14))
        x, y, z = (word / _LSB_PER_G for word in words[:3])
        roll_rate, pitch_rate, turn_rate = (word / _LSB_PER_DPS for word in words[4:])
        now = time.monotonic()
        passed_s, self._read_at = now - self._read_at, now
        roll, pitch = math.degrees(math.atan2(y, z)), math.degrees(math.atan2(-x, math.hypot(y, z)))
        trust = _TRUST_GYRO_S / (_TRUST_GYRO_S + passed_s)
        if passed_s < 1 and abs(roll - self._roll) < 90:  # else nothing to go on from, or across the back
            roll = trust * (self._roll + roll_rate * passed_s) + (1 - trust) * roll
            pitch = trust * (self._pitch + pitch_rate * passed_s) + (1 - trust) * pitch
        self._roll, self._pitch = roll, pitch
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, math.cos(math.radians(roll)) * math.cos(math.radians(pitch))))))
        return {
            "pitch": round(pitch, 1),
            "roll": round(roll, 1),
            "tilt": round(tilt, 1),
            "turn_rate": round(turn_rate, 1),
            "acceleration": round(math.hypot(x, y, z), 3),
        }

    def close(self) -> None:
        if self._chip is not None:
            self._chip.close()
        self._chip = None
