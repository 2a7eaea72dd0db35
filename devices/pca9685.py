"""`pca9685`: sixteen servos, speed controllers or lights on NXP's PCA9685."""

from __future__ import annotations

__all__ = ["Channel", "Pca9685"]

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from edgeagent.drivers import Actuator, Axis, DeviceFault, Reading, Readings, Sensor
from edgeagent_devices._i2c import Address, Bus, I2c, opened, reachable

_MODE1, _MODE2, _CHANNEL_0, _ALL_OFF_HIGH, _PRESCALE = 0x00, 0x01, 0x06, 0xFD, 0xFE
_SLEEP, _AUTO_INCREMENT, _RESTART, _TOTEM_POLE = 0x10, 0x20, 0x80, 0x04
_FULL = 0x10
_STEPS, _OSCILLATOR_HZ = 4096, 25_000_000
_Pulse = Annotated[int, Field(ge=400, le=2700)]


def _each(writes: Iterable[Callable[[], object]]) -> None:
    """Do all of them, though some fail; raises the first error at the end."""
    failed: Exception | None = None
    for write in writes:
        try:
            write()
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed


class Channel(BaseModel, extra="forbid"):
    """What hangs on one channel."""

    channel: Annotated[int, Field(ge=0, le=15)] = Field(description="number on the board, 0 to 15")
    kind: Literal["servo", "motor", "light"] = Field(
        "servo",
        description="`servo` holds a place when stopped; `motor` (an ESC, a continuous servo) goes to neutral; `light` goes off",
    )
    role: Literal["throttle", "steer", "pan", "tilt", "other"] = Field("other", description="what keys and sticks steer")
    min_us: _Pulse = Field(1000, description="pulse at the low end, in µs")
    neutral_us: _Pulse = Field(1500, description="pulse in the middle, in µs")
    max_us: _Pulse = Field(2000, description="pulse at the high end, in µs")
    invert: bool = Field(False, description="turn it the other way round")

    @model_validator(mode="after")
    def _ordered(self) -> Channel:
        if not self.min_us < self.neutral_us < self.max_us:
            raise ValueError("min_us, neutral_us and max_us must rise")
        return self

    def axis(self, name: str) -> Axis:
        """As a page steers it: -1 to 1, a light 0 to 1."""
        return Axis(name.capitalize(), 0.0 if self.kind == "light" else -1.0, role=self.role, position=self.kind == "servo")

    def duty(self, value: float, frequency_hz: float) -> float:
        """Share of the period that the output is high."""
        if self.kind == "light":
            return 1 - value if self.invert else value
        value = -value if self.invert else value
        end = self.max_us if value > 0 else self.min_us
        return (self.neutral_us + abs(value) * (end - self.neutral_us)) * frequency_hz / 1e6


class Pca9685(Actuator, Sensor):
    """The chip goes on by itself whatever becomes of the board: stopping it is what the keeper is for."""

    summary = "servos, speed controllers and lights on a PCA9685 (16 channels) on I²C"
    icon = "servo"
    interval_s = 1.0
    libraries = ("smbus2",)
    wiring = (
        "VCC → 3.3 V, GND → ground, SDA → GPIO 2, SCL → GPIO 3; V+ → the servos' own 5 to 6 V. Address 0x40 and up, by solder\n"
        "bridges. OE may go to a pin or a switch that cuts all outputs."
    )

    class Options(BaseModel, extra="forbid"):
        """The chip and its channels."""

        bus: Bus = Field(1, description="number of the I²C bus; `fake` for one made of software")
        address: Address = Field(0x40, description="0x40 to 0x77")
        frequency_hz: Annotated[float, Field(ge=24, le=400)] = Field(50.0, description="of the pulses: 50 for servos")
        channels: Annotated[
            dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Channel], Field(min_length=1, max_length=16)
        ] = Field(description="what hangs on it, by name: `steer: {channel: 0, role: steer}`")

        @model_validator(mode="after")
        def _once(self) -> Pca9685.Options:
            numbers = [channel.channel for channel in self.channels.values()]
            if len(set(numbers)) != len(numbers):
                raise ValueError("each channel can be used once only")
            return self

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._chip: I2c | None = None
        self._places: dict[str, float] = {}  # of servos, as they were told since it was opened

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {name: channel.axis(name) for name, channel in self._options.channels.items()}

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            name: Reading(axis.title, digits=2, minimum=axis.minimum, maximum=axis.maximum, dead_band=0.01)
            for name, axis in self.axes.items()
            if axis.position
        }

    def check(self) -> None:
        reachable(self._options.bus)

    def open(self) -> None:
        self._places.clear()
        chip = self._chip = opened(self._options.bus, self._options.address, "PCA9685")
        self._all_off(chip)  # before anything else: it may have gone on since the last agent
        prescale = round(_OSCILLATOR_HZ / (_STEPS * self._options.frequency_hz)) - 1
        chip.write(_MODE1, _SLEEP)  # the frequency can only be set while the oscillator rests (datasheet 7.3.5)
        chip.write(_PRESCALE, prescale)
        chip.write(_MODE2, _TOTEM_POLE)
        chip.write(_MODE1, _AUTO_INCREMENT)
        time.sleep(0.001)
        chip.write(_MODE1, _AUTO_INCREMENT | _RESTART)
        self.stop()

    def apply(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._set(self._options.channels[name], value)
        places = {name: value for name, value in values.items() if self._options.channels[name].kind == "servo"}
        if places != {name: self._places.get(name) for name in places}:
            self._places |= places
            self.wake()

    def read(self) -> Readings:
        assert self._chip is not None
        if self._chip.read(_MODE1)[0] & (_SLEEP | _AUTO_INCREMENT) != _AUTO_INCREMENT:  # as after its start, and no pulses
            raise DeviceFault("The PCA9685 has reset itself: look at its supply, which the motors may pull down.")
        return {name: round(value, 3) for name, value in self._places.items()}

    def stop(self) -> None:
        _each(functools.partial(self._set, channel, 0.0) for channel in self._by_weight() if channel.kind != "servo")

    def close(self) -> None:
        if self._chip is None:
            return
        with contextlib.suppress(Exception):
            self._all_off(self._chip)
        self._chip.close()
        self._chip = None

    def _all_off(self, chip: I2c) -> None:
        """No pulses: an ESC stops, a servo goes slack, lights are dark. Where one cannot be set, DeviceFault comes last."""
        dark_high = {one.channel for one in self._options.channels.values() if one.kind == "light" and one.invert}
        if not dark_high:
            chip.write(_ALL_OFF_HIGH, _FULL)  # one byte: the chip counts on by itself only after `open` has told it to
            return
        # One channel after the other, since the register for all would light these up for a moment. Off wins over on (datasheet
        # 7.3.3).
        used = [channel.channel for channel in self._by_weight()]
        _each(
            functools.partial(chip.write, _CHANNEL_0 + 4 * number + byte, value)
            for number in (*used, *(number for number in range(16) if number not in used))
            for byte, value in (((1, _FULL), (3, 0)) if number in dark_high else ((3, _FULL),))
        )

    def _by_weight(self) -> list[Channel]:
        """What drives comes first."""
        return sorted(self._options.channels.values(), key=lambda channel: ("motor", "servo", "light").index(channel.kind))

    def _set(self, channel: Channel, value: float) -> None:
        if self._chip is None:
            return
        steps = round(channel.duty(value, self._options.frequency_hz) * _STEPS)
        on = (_FULL << 8, 0) if steps >= _STEPS else (0, _FULL << 8) if steps <= 0 else (0, steps)
        register = _CHANNEL_0 + 4 * channel.channel
        self._chip.write(register, on[0] & 0xFF, on[0] >> 8, on[1] & 0xFF, on[1] >> 8)
