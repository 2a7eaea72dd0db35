"""The drivers of chips on I²C and 1-Wire: on the bus made of software that ships, and on the numbers of the datasheets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from edgeagent.drivers import DeviceFault, registry
from edgeagent.drivers.conformance import assert_device_conforms
from edgeagent_devices._i2c import opened
from edgeagent_devices._i2c_fake import FakeBus, _Pca9685
from edgeagent_devices.bme280 import Calibration, compensated
from edgeagent_devices.ds18b20 import celsius


@pytest.fixture(autouse=True)
def new_chips() -> Iterator[None]:
    FakeBus.chips.clear()
    yield
    FakeBus.chips.clear()


def driver(name: str, **options: Any) -> Any:
    kind = registry.load_device(name)
    return kind("thing", kind.Options(**({"bus": "fake"} | options)))


@pytest.mark.parametrize("name", ["bme280", "ina219", "mpu6050", "ds18b20"])
def test_reads_what_it_declares(name: str) -> None:
    made = driver(name)
    made.close()
    for _ in range(2):
        made.open()
        values = made.read()
        assert set(values) == set(made.readings)
        for key, value in values.items():
            declared = made.readings[key]
            assert (declared.minimum is None or value >= declared.minimum) and (
                declared.maximum is None or value <= declared.maximum
            )
        made.close()


CONFORMING: dict[str, dict[str, Any]] = {
    "bme280": {},
    "ds18b20": {},
    "ina219": {"empty_v": 9.6, "full_v": 12.6},
    "mpu6050": {},
    "pca9685": {"channels": {"steer": {"channel": 0}, "lamp": {"channel": 1, "kind": "light"}}},
}


@pytest.mark.parametrize("name", CONFORMING)
def test_conforms(name: str) -> None:
    assert_device_conforms(registry.load_device(name), {"bus": "fake"} | CONFORMING[name])


@pytest.mark.parametrize(
    ("name", "kind", "address"), [("bme280", "BME280", 0x76), ("ina219", "INA219", 0x40), ("mpu6050", "MPU-6050", 0x68)]
)
def test_a_chip_that_is_unplugged(name: str, kind: str, address: int) -> None:
    made = driver(name)
    made.open()
    FakeBus.chips[kind, address].broken = True
    with pytest.raises(DeviceFault, match=f"0x{address:02x} on I²C bus fake answers"):
        made.read()
    made.close()
    FakeBus.chips[kind, address].broken = False
    made.open()
    assert made.read()
    made.close()


def test_a_chip_that_has_reset_itself() -> None:
    """Motors that start may pull its supply down for a moment: it answers again, and does nothing."""
    servos, level = driver("pca9685", channels={"esc": {"channel": 0, "kind": "motor"}}), driver("mpu6050")
    for made, kind, address, after in (
        (servos, "PCA9685", 0x40, {0x00: 0x11, 0x01: 0x04, 0xFE: 0x1E}),
        (level, "MPU-6050", 0x68, {0x75: 0x68, 0x6B: 0x40}),
    ):
        made.open()
        made.read()
        chip = FakeBus.chips[kind, address]
        chip.registers[:] = bytes(after.get(register, 0) for register in range(256))
        with pytest.raises(DeviceFault, match="reset itself") as caught:
            made.read()
        assert caught.value.retry
        made.close()
        made.open()
        made.read()
        made.close()


def test_another_chip_at_its_address() -> None:
    made = driver("bme280")
    made.open()
    made.close()
    FakeBus.chips["BME280", 0x76].registers[0xD0] = 0x55
    with pytest.raises(DeviceFault, match="is no BME280"):
        made.open()
    made.close()


def test_the_datasheets_example() -> None:
    """BMP280, 3.12: 25.08 °C and 100 653.27 Pa."""
    trim = Calibration((27504, 26435, -1000), (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000), (75, 362, 0, 313, 50, 30))
    temperature, pressure, _ = compensated(trim, 519_888, 415_148, 28_000)
    assert temperature == pytest.approx(25.08, abs=0.005)
    assert pressure == pytest.approx(1006.5327, abs=0.01)
    assert Calibration.read(*_raw()) == trim


def _raw() -> tuple[bytes, bytes]:
    made = driver("bme280")
    made.open()
    registers = FakeBus.chips["BME280", 0x76].registers
    made.close()
    return bytes(registers[0x88:0xA2]), bytes(registers[0xE1:0xE8])


def test_a_bmp280_knows_no_humidity() -> None:
    made = driver("bme280")
    made.open()
    made.close()
    FakeBus.chips["BME280", 0x76].registers[0xD0] = 0x58
    made.open()
    assert set(made.read()) == {"temperature", "pressure"}
    made.close()


def test_a_battery_is_watched_by_the_median() -> None:
    """A motor that starts pulls the voltage down for a moment: no reason to stop."""
    made = driver("ina219", empty_v=9.6, full_v=12.6, warn_below_v=10.5, stop_below_v=9.9)
    made.open()
    chip = FakeBus.chips["INA219", 0x40]
    chip.measure = lambda: None  # type: ignore[method-assign]

    def volts(value: float) -> float:
        chip.registers[4:6] = (round(value / 4e-3) << 3).to_bytes(2)
        return float(made.read()["voltage"])

    for _ in range(5):
        volts(12.0)
    assert volts(9.0) == 12.0
    assert made.read()["battery"] == 80.0
    for _ in range(4):
        low = volts(9.0)
    assert low == 9.0
    reading = made.readings["voltage"]
    assert (reading.warn_below, reading.stop_below) == (10.5, 9.9)
    made.close()


def test_servos_and_motors_on_one_chip() -> None:
    channels = {
        "steer": {"channel": 0, "role": "steer", "invert": True},
        "throttle": {"channel": 1, "kind": "motor", "role": "throttle", "max_us": 1800},
        "lamp": {"channel": 15, "kind": "light"},
    }
    made = driver("pca9685", channels=channels)
    made.open()
    chip = FakeBus.chips["PCA9685", 0x40]
    assert isinstance(chip, _Pca9685)
    assert chip.registers[0xFE] == 121, "50 Hz"

    def pulses() -> list[float]:
        return [chip.duty(channel) * 20_000 for channel in (0, 1)]

    assert pulses() == [0, pytest.approx(1500, abs=5)], "a servo goes nowhere before it is told to"
    made.apply({"steer": 0.5, "throttle": 1.0, "lamp": 0.25})
    assert pulses() == pytest.approx([1250, 1800], abs=5)
    assert chip.duty(15) == pytest.approx(0.25, abs=0.001)
    woken: list[bool] = []
    made.wake = lambda: woken.append(True)
    made.apply({"lamp": 1.0, "steer": 0.5})
    assert chip.duty(15) == 1.0
    assert made.read() == {"steer": 0.5} and not woken
    made.apply({"steer": 0.25})
    assert made.read() == {"steer": 0.25} and woken, "a page goes on from where it is"
    made.apply({"steer": 0.5})
    made.stop()
    assert pulses() == pytest.approx([1250, 1500], abs=5)
    assert chip.duty(15) == 0.0
    assert {name: (axis.minimum, axis.role) for name, axis in made.axes.items()} == {
        "steer": (-1, "steer"),
        "throttle": (-1, "throttle"),
        "lamp": (0, "other"),
    }
    made.close()
    assert [chip.duty(channel) for channel in range(16)] == [0] * 16


def test_a_light_that_is_dark_when_its_output_is_high_stays_dark(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {"lamp": {"channel": 3, "kind": "light", "invert": True}, "wheel": {"channel": 4, "kind": "motor"}}
    made = driver("pca9685", channels=channels)
    made.open()
    chip = FakeBus.chips["PCA9685", 0x40]
    assert isinstance(chip, _Pca9685)
    made.stop()
    assert chip.duty(3) == 1.0
    seen: list[float] = []
    written = chip.written

    def watched(register: int, data: bytes) -> None:
        written(register, data)
        seen.append(chip.duty(3))

    monkeypatch.setattr(chip, "written", watched)
    made.close()
    made.open()
    made.close()
    assert set(seen) == {1.0}, "never lit for a moment"
    assert [chip.duty(channel) for channel in range(16) if channel != 3] == [0] * 15


@pytest.mark.parametrize("invert", [True, False])
def test_a_channel_that_cannot_be_set_keeps_no_other_going(invert: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    channels = {
        "lamp": {"channel": 3, "kind": "light", "invert": invert},
        "esc": {"channel": 9, "kind": "motor"},
        "pump": {"channel": 12, "kind": "light"},
    }
    for ends, motor in (("close", 0.0), ("stop", 1500 / 20_000)):
        made = driver("pca9685", channels=channels)
        made.open()
        made.apply({"esc": 0.8, "pump": 1.0})
        chip = FakeBus.chips["PCA9685", 0x40]
        assert isinstance(chip, _Pca9685)
        written = chip.written

        def broken(register: int, data: bytes, written: Any = written) -> None:
            if 6 + 4 * 3 <= register < 6 + 4 * 4:
                raise OSError(121, "Remote I/O error")
            written(register, data)

        with monkeypatch.context() as patched:
            patched.setattr(chip, "written", broken)
            if ends == "close":
                made.close()
            else:
                with pytest.raises(DeviceFault):
                    made.stop()
        assert chip.duty(9) == pytest.approx(motor, abs=0.001) and chip.duty(12) == 0.0
        made.close()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pca9685", {"channels": {"a": {"channel": 1}, "b": {"channel": 1}}}, "once only"),
        ("pca9685", {"channels": {"a": {"channel": 1, "min_us": 1600}}}, "must rise"),
        ("ina219", {"empty_v": 12, "full_v": 9}, "below full_v"),
        ("bme280", {"address": 0x78}, "less than or equal"),
        ("ds18b20", {"sensor": "28"}, "match"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        driver(name, **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=21312\n", 21.312),
        ("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=-1250\n", -1.25),
        ("50 05 4b 46 7f ff 0c 10 1c : crc=1c NO\n50 05 4b 46 7f ff 0c 10 1c t=21312\n", "garbled"),
        ("00 00 00 00 : crc=00 YES\n00 t=85000\n", "lost its power"),
        ("00 00 00 00 : crc=00 YES\n00 t=999000\n", "cannot measure"),
        ("", "garbled"),
    ],
)
def test_the_kernels_word_for_a_temperature(text: str, expected: float | str) -> None:
    if isinstance(expected, float):
        assert celsius(text) == expected
        return
    with pytest.raises(DeviceFault, match=expected):
        celsius(text)


def test_no_sensor_on_the_kernels_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from edgeagent_devices import ds18b20

    monkeypatch.setattr(ds18b20, "_KERNEL", tmp_path)
    made = driver("ds18b20", bus="kernel")
    with pytest.raises(DeviceFault, match="no sensor"):
        made.open()
    for number in ("28-0000000000aa", "28-0000000000bb"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "w1_slave").write_text("x : crc=1c YES\nx t=20000\n")
    with pytest.raises(DeviceFault, match="several") as caught:
        made.open()
    assert not caught.value.retry
    chosen = driver("ds18b20", bus="kernel", sensor="28-0000000000bb")
    chosen.open()
    assert chosen.read() == {"temperature": 20.0}
    (tmp_path / "28-0000000000bb" / "w1_slave").unlink()
    with pytest.raises(DeviceFault, match="no longer answers"):
        chosen.read()


@pytest.mark.parametrize(
    ("error", "words", "retry"),
    [(errno.ENOENT, "no I²C bus 1", True), (errno.EACCES, "group i2c", False), (errno.EBUSY, "cannot be opened", True)],
)
def test_a_bus_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: int, words: str, retry: bool) -> None:
    import os

    import smbus2

    def refuse(number: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(smbus2, "SMBus", refuse)
    with pytest.raises(DeviceFault, match=words) as caught:
        opened(1, 0x40, "INA219")
    assert caught.value.retry is retry
