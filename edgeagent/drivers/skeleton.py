"""`edgeagent drivers new`: a driver that works as written, with its test, for its author to put his hardware into."""

from __future__ import annotations

__all__ = ["KINDS", "write"]

import keyword
import re
from pathlib import Path
from string import Template

from edgeagent.drivers import registry
from edgeagent.errors import EdgeAgentError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)

_HEAD = '''"""`$name`: $summary."""

from __future__ import annotations

'''

_SENSOR = '''import os
from collections.abc import Mapping

from pydantic import BaseModel, Field

from edgeagent.drivers import DeviceFault, Reading, Readings, Sensor


class $class_name(Sensor):
    summary = "$summary"
    icon = "temperature"  # light, switch, motor, servo, battery, temperature, humidity, distance, motion …
    interval_s = 2.0  # from one reading to the next
    wiring = """
    VCC → 3.3 V, GND → ground, SDA → GPIO 2 (pin 3), SCL → GPIO 3 (pin 5)
    """

    class Options(BaseModel, extra="forbid"):
        """What the owner may write below the device's name: self.options."""

        minutes: int = Field(default=1, description="over how many minutes: 1, 5 or 15")

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"load": Reading(title="Load", digits=2, minimum=0, dead_band=0.01)}  # TODO: what it measures; unit="°C"

    def open(self) -> None:
        # TODO: import the sensor's library here and open the bus. The processor's load stands in for a sensor.
        try:
            self._column = (1, 5, 15).index(self.options.minutes)
        except ValueError:
            raise DeviceFault("`minutes` must be 1, 5 or 15.", retry=False) from None

    def close(self) -> None:
        pass  # TODO: close the bus; it may never have been opened

    def read(self) -> Readings:
        # TODO: ask the sensor; this may block. Where it does not answer: raise DeviceFault("The sensor does not answer.")
        return {"load": os.getloadavg()[self._column]}
'''

_SWITCH = '''from collections.abc import Mapping

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, Reading, Readings, Sensor, command


class $class_name(Actuator, Sensor):
    summary = "$summary"
    icon = "switch"
    moves = False  # it stays as it is until somebody switches it again
    wiring = """
    Relay board: VCC → 5 V, GND → ground, IN → the pin of the option `pin`
    """

    class Options(BaseModel, extra="forbid"):
        """What the owner may write below the device's name: self.options."""

        pin: int = Field(default=17, ge=0, le=27, description="number of the GPIO pin")

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"on": Reading(title="On", kind="flag")}

    def open(self) -> None:
        # TODO: import the library here, and name it above: libraries = ("gpiozero",)
        # Claim the pin, switched off: self._pin = gpiozero.LED(self.options.pin)
        self._on = False

    def close(self) -> None:
        self.stop()  # TODO: and give the pin back; it may never have been claimed

    def stop(self) -> None:
        # TODO: the safe state, at once: self._pin.off()
        self._on = False

    def read(self) -> Readings:
        return {"on": self._on}  # TODO: self._pin.is_lit

    @command(title="Switch")
    def switch(self, on: bool) -> None:
        # TODO: self._pin.value = on
        self._on = on
'''

_ACTUATOR = '''from collections.abc import Mapping

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, Axis, Reading, Readings, Sensor


class $class_name(Actuator, Sensor):
    summary = "$summary"
    icon = "motor"
    wiring = """
    Motor driver: GND → ground, IN1 and IN2 → the pins of the option `pins`, motor and its battery at the other side
    """

    class Options(BaseModel, extra="forbid"):
        """What the owner may write below the device's name: self.options."""

        pins: tuple[int, int] = Field(default=(5, 6), description="numbers of the GPIO pins for forward and backward")

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis(title="Speed", role="throttle")}  # from -1, backward, to 1; neutral is 0

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"speed": Reading(title="Speed", minimum=-1, maximum=1, digits=2, dead_band=0.01)}

    def open(self) -> None:
        # TODO: import the library here, and name it above: libraries = ("gpiozero",)
        # Claim the pins, standing still: self._motor = gpiozero.Motor(*self.options.pins)
        self._speed = 0.0

    def close(self) -> None:
        self.stop()  # TODO: and give the pins back; they may never have been claimed

    def apply(self, values: Mapping[str, float]) -> None:
        # TODO: self._motor.value = …; called up to 50 times a second, with values in range, limited as the owner wants
        self._speed = values.get("throttle", self._speed)

    def stop(self) -> None:
        # TODO: stand still, at once: self._motor.stop(). May come from another thread while `apply` hangs.
        self._speed = 0.0

    def read(self) -> Readings:
        return {"speed": self._speed}
'''

_TEST = '''"""Run it with pytest, or as it is: python $test_file"""

from pathlib import Path

from edgeagent.drivers.conformance import assert_device_conforms, driver_file

$class_name = driver_file(Path(__file__).with_name("$file"))


def test_conforms() -> None:
    """Opens, $verbs and closes it for real, twice. Add a test for each thing that your driver does."""
    assert_device_conforms($class_name, {})


if __name__ == "__main__":
    test_conforms()
    print("$name: all is well")
'''

KINDS = {
    "sensor": (_SENSOR, "tells what it measures", "reads"),
    "actuator": (_ACTUATOR, "moves something", "moves, stops"),
    "switch": (_SWITCH, "switches something", "stops, reads"),
}
"""What can be begun: source, summary and what its test does."""


def write(name: str, kind: str, folder: Path) -> tuple[Path, Path]:
    """Write a driver and its test; returns both paths.

    Raises:
        EdgeAgentError: The name serves for no driver, is taken, or the files exist or cannot be written; a sentence.
    """
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > 40 or keyword.iskeyword(module) or name in ("new", "test"):
        raise EdgeAgentError(f"`{name}` is no name for a driver: write a-z, 0-9 and inner hyphens, like garden-lamp.")
    if name in registry.names():
        raise EdgeAgentError(f"There is a driver `{name}` already: take another name.")
    driver, test = folder / f"{module}.py", folder / f"test_{module}.py"
    if existing := next((path for path in (driver, test) if path.exists()), None):
        raise EdgeAgentError(f"{existing} is there already: take another name, or move it away.")
    source, summary, verbs = KINDS[kind]
    words = {
        "name": name,
        "summary": summary,
        "verbs": verbs,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "file": driver.name,
        "test_file": test.name,
    }
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever the umask: the agent takes no driver from where others may write
        for path, template in ((driver, _HEAD + source), (test, _TEST)):
            path.write_text(Template(template).substitute(words), encoding="utf-8")
            path.chmod(0o644)
    except OSError as error:
        raise EdgeAgentError(f"{folder} cannot be written to: {error.strerror or error}.") from None
    return driver, test
