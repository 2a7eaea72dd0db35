"""The drivers of chips through smbus2 on a bus of the kernel's own: `i2c-stub`, 256 registers behind each address."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import smbus2

from edgeagent.drivers import DeviceFault, registry
from edgeagent.drivers.conformance import assert_device_conforms
from edgeagent_devices._i2c_fake import _Bme280, _Mpu6050

BME280, INA219, MPU6050, PCA9685 = 0x76, 0x41, 0x68, 0x40


def modprobe(*arguments: str) -> None:
    subprocess.run(["modprobe", "-d", os.environ["EA_KERNEL"], *arguments], check=True)


@pytest.fixture
def bus() -> Iterator[int]:
    """Its number; the chips that are soldered to it hold nothing but zeros."""
    modprobe("i2c-dev")
    modprobe("i2c-stub", f"chip_addr={','.join(map(hex, (BME280, INA219, MPU6050, PCA9685)))}")
    (adapter,) = [path for path in Path("/sys/class/i2c-dev").iterdir() if "stub" in (path / "name").read_text()]
    yield int(adapter.name.removeprefix("i2c-"))
    modprobe("-r", "i2c-stub")


@contextmanager
def chip(bus: int) -> Iterator[smbus2.SMBus]:
    with smbus2.SMBus(bus) as opened:
        yield opened


def put(bus: int, address: int, register: int, values: bytes) -> None:
    with chip(bus) as wires:
        for at in range(0, len(values), 32):
            wires.write_i2c_block_data(address, register + at, list(values[at : at + 32]))


def got(bus: int, address: int, register: int, length: int) -> bytes:
    with chip(bus) as wires:
        return bytes(wires.read_i2c_block_data(address, register, length))


def driver(name: str, bus: int, **options: Any) -> Any:
    kind = registry.load_device(name)
    made = kind("thing", kind.Options.model_validate({"bus": bus} | options))
    made.check()
    try:
        made.open()
    except DeviceFault:
        made.close()  # as the agent does
        raise
    return made


def a_bme280(bus: int) -> None:
    model = _Bme280()
    for start, end in ((0x88, 0xA2), (0xD0, 0xD1), (0xE1, 0xE8)):
        put(bus, BME280, start, bytes(model.registers[start:end]))
    put(bus, BME280, 0xF7, (415_148 << 4).to_bytes(3, "big") + (519_888 << 4).to_bytes(3, "big") + (28_000).to_bytes(2, "big"))


def test_a_weather_chip(bus: int) -> None:
    a_bme280(bus)
    made = driver("bme280", bus)
    values = made.read()
    made.close()
    assert values["temperature"] == pytest.approx(25.08, abs=0.01)
    assert values["pressure"] == pytest.approx(1006.53, abs=0.01)
    assert 0 < values["humidity"] < 100
    assert got(bus, BME280, 0xE0, 1) == b"\xb6", "it was reset"
    assert got(bus, BME280, 0xF4, 1) == b"\x25", "one forced measurement"
    assert_device_conforms(registry.load_device("bme280"), {"bus": bus})
    put(bus, BME280, 0xD0, b"\x58")
    made = driver("bme280", bus)
    assert set(made.read()) == {"temperature", "pressure"}
    made.close()


def test_a_battery(bus: int) -> None:
    """The chip's registers are two bytes wide; the stub's are bytes, so that what it holds of two neighbours overlaps:
    shunt 0x0b2e (28.62 mV), bus 0x2ee2 (about 6 V)."""
    made = driver("ina219", bus, address=INA219, empty_v=5.0, full_v=7.0)
    assert got(bus, INA219, 0x00, 2) == b"\x3f\xff"
    put(bus, INA219, 0x01, b"\x0b\x2e\xe2")
    values = made.read()
    assert values["current"] == pytest.approx(0.2862, abs=0.001)
    assert values["voltage"] == pytest.approx((0x2EE2 >> 3) * 4e-3, abs=0.001)
    made.close()
    assert_device_conforms(registry.load_device("ina219"), {"bus": bus, "address": INA219})


def test_a_compass_of_motion(bus: int) -> None:
    put(bus, MPU6050, 0x75, bytes(_Mpu6050().registers[0x75:0x76]))
    made = driver("mpu6050", bus)
    put(bus, MPU6050, 0x3B, struct.pack(">7h", 0, 4096, 7094, 0, 0, 0, 655))
    values = made.read()
    assert values["roll"] == pytest.approx(30, abs=0.2)
    assert values["turn_rate"] == pytest.approx(10, abs=0.1)
    assert values["acceleration"] == pytest.approx(1, abs=0.01)
    made.close()
    assert got(bus, MPU6050, 0x6B, 1) == b"\x01" and got(bus, MPU6050, 0x1B, 2) == b"\x08\x08"
    assert_device_conforms(registry.load_device("mpu6050"), {"bus": bus})


def test_servos_and_motors(bus: int) -> None:
    channels = {
        "steer": {"channel": 0, "role": "steer"},
        "throttle": {"channel": 1, "kind": "motor", "role": "throttle"},
        "lamp": {"channel": 15, "kind": "light"},
    }
    made = driver("pca9685", bus, channels=channels)
    assert got(bus, PCA9685, 0xFE, 1) == bytes([121]), "50 Hz"
    assert got(bus, PCA9685, 0x00, 2) == b"\xa0\x04"

    def off(channel: int) -> int:
        return int.from_bytes(got(bus, PCA9685, 0x06 + 4 * channel, 4)[2:], "little")

    assert off(1) == round(1500 * 50 / 1e6 * 4096)
    made.apply({"steer": 1.0, "throttle": 1.0, "lamp": 0.5})
    assert (off(0), off(1), off(15)) == (410, 410, 2048)
    made.stop()
    assert (off(0), off(1), off(15)) == (410, 307, 0x1000)
    put(bus, PCA9685, 0xFC, b"\x00\x00")
    made.close()
    assert got(bus, PCA9685, 0xFC, 2) == b"\x00\x10", "all off"
    assert_device_conforms(registry.load_device("pca9685"), {"bus": bus, "channels": channels})


@pytest.mark.parametrize(("name", "address"), [("bme280", 0x77), ("ina219", 0x45), ("mpu6050", 0x69), ("pca9685", 0x60)])
def test_a_chip_that_is_not_there_is_a_sentence(name: str, address: int, bus: int) -> None:
    more = {"channels": {"steer": {"channel": 0}}} if name == "pca9685" else {}
    with pytest.raises(DeviceFault, match=f"at 0x{address:02x} on I²C bus {bus} answers: check its wires"):
        driver(name, bus, address=address, **more)


def test_another_chip_is_a_sentence(bus: int) -> None:
    with pytest.raises(DeviceFault, match="is no BME280"):
        driver("bme280", bus)
    with pytest.raises(DeviceFault, match="is no MPU-6050"):
        driver("mpu6050", bus)


def test_a_chip_is_unplugged_with_its_bus(bus: int) -> None:
    a_bme280(bus)
    made = driver("bme280", bus)
    made.read()
    made.close()
    with pytest.raises(DeviceFault, match="There is no I²C bus 63: switch it on"):
        driver("bme280", 63)
    modprobe("-r", "i2c-stub")
    with pytest.raises(DeviceFault, match=f"There is no I²C bus {bus}"):
        driver("bme280", bus)
