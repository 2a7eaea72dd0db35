"""`ina219`: voltage and current of a battery by TI's INA219."""

from __future__ import annotations

__all__ = ["Ina219"]

from collections import deque
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from edgeagent.drivers import Reading, Readings, Sensor
from edgeagent_devices._i2c import Address, Bus, I2c, opened, reachable

_CONFIG, _SHUNT, _BUS = 0x00, 0x01, 0x02
_CONTINUOUS = 0x3FFF
"""32 V, 320 mV across the shunt, both averaged over 128 samples (68 ms), continuously (datasheet 8.6.2)."""
_SHUNT_LSB_V, _BUS_LSB_V = 10e-6, 4e-3
_MEDIAN_OF = 5


class Ina219(Sensor):
    """A battery's watch: it warns, and stops whatever moves before the cells are harmed."""

    summary = "a battery's voltage and current by an INA219 on I²C, with warning and cut-off"
    icon = "battery"
    wiring = (
        "VCC → 3.3 V, GND → ground, SDA → GPIO 2, SCL → GPIO 3; battery + → VIN+, VIN- → load. Up to 26 V and, by the 0.1 Ω\n"
        "resistor on the usual boards, 3.2 A."
    )
    interval_s = 0.5

    class Options(BaseModel, extra="forbid"):
        """The chip and the battery."""

        bus: Bus = Field(1, description="number of the I²C bus; `fake` for one made of software")
        address: Address = Field(0x40, description="0x40 to 0x4f")
        shunt_ohm: Annotated[float, Field(gt=0, le=10)] = Field(0.1, description="the resistor that the current flows through")
        empty_v: Annotated[float, Field(ge=0, le=26)] = Field(0.0, description="voltage at 0 %; 0: no percentage is told")
        full_v: Annotated[float, Field(ge=0, le=26)] = Field(0.0, description="voltage at 100 %")
        warn_below_v: Annotated[float, Field(ge=0, le=26)] = Field(0.0, description="a lower voltage raises an alarm; 0: none")
        stop_below_v: Annotated[float, Field(ge=0, le=26)] = Field(0.0, description="a lower voltage stops whatever moves; 0: none")

        @model_validator(mode="after")
        def _ordered(self) -> Ina219.Options:
            if (self.empty_v or self.full_v) and not 0 < self.empty_v < self.full_v:
                raise ValueError("empty_v must be above 0 and below full_v; a 3-cell lithium battery has 9.6 and 12.6")
            return self

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._options = options
        self._chip: I2c | None = None
        self._volts: deque[float] = deque(maxlen=_MEDIAN_OF)

    @property
    def readings(self) -> Mapping[str, Reading]:
        options = self._options
        found = {
            "voltage": Reading(
                "Voltage",
                unit="V",
                digits=2,
                minimum=0,
                maximum=options.full_v or 26,
                warn_below=options.warn_below_v or None,
                stop_below=options.stop_below_v or None,
                dead_band=0.02,
                device_class="voltage",
            ),
            "current": Reading("Current", unit="A", digits=2, dead_band=0.02, device_class="current"),
            "power": Reading("Power", unit="W", digits=1, dead_band=0.1, device_class="power"),
        }
        if options.full_v:
            found["battery"] = Reading("Battery", unit="%", digits=0, minimum=0, maximum=100, dead_band=1, device_class="battery")
        return found

    def check(self) -> None:
        reachable(self._options.bus)

    def open(self) -> None:
        self._chip = opened(self._options.bus, self._options.address, "INA219")
        self._chip.write(_CONFIG, *_CONTINUOUS.to_bytes(2))
        self._volts.clear()

    def read(self) -> Readings:
        assert self._chip is not None
        options = self._options
        amperes = int.from_bytes(self._chip.read(_SHUNT, 2), signed=True) * _SHUNT_LSB_V / options.shunt_ohm
        # The median: a motor that starts pulls the voltage down for a moment, which must not stop the robot.
        self._volts.append((int.from_bytes(self._chip.read(_BUS, 2)) >> 3) * _BUS_LSB_V)
        volts = sorted(self._volts)[len(self._volts) // 2]
        values = {"voltage": round(volts, 3), "current": round(amperes, 3), "power": round(volts * amperes, 2)}
        if options.full_v:
            share = (volts - options.empty_v) / (options.full_v - options.empty_v)
            values["battery"] = round(100 * min(1.0, max(0.0, share)), 1)
        return values

    def close(self) -> None:
        if self._chip is not None:
            self._chip.close()
        self._chip = None
