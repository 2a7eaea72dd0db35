"""The kit for sensors and actuators: a good driver passes, and each way of being spoilt is told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel, Field, SecretStr

from edgeagent.drivers import Actuator, Axis, DeviceFault, Driver, Reading, Readings, Sensor, command, skeleton
from edgeagent.drivers.conformance import assert_device_conforms, device_problems, driver_file
from edgeagent.drivers.conformance_device import _declared


class Rover(Actuator, Sensor):
    """A good one."""

    summary = "a rover in memory"
    threads: ClassVar[set[str]] = set()

    class Options(BaseModel, extra="forbid"):
        top: float = Field(default=1.0, description="its top speed")
        key: SecretStr = Field(default=SecretStr(""), description="its key")

    axes: Mapping[str, Axis] = {"throttle": Axis(), "pan": Axis(minimum=-90, maximum=90, position=True)}
    readings: Mapping[str, Reading] = {"speed": Reading(unit="m/s"), "on": Reading(kind="flag")}

    def open(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.speed = 0.0

    def close(self) -> None: ...

    def apply(self, values: Mapping[str, float]) -> None:
        self.threads.add(threading.current_thread().name)
        self.speed = values.get("throttle", self.speed)

    def stop(self) -> None:
        self.speed = 0.0

    def read(self) -> Readings:
        return {"speed": self.speed, "on": True}

    @command()
    def honk(self, times: Annotated[int, Field(ge=1, le=5)] = 1) -> None:
        raise AssertionError("not called by the kit")


def test_a_good_driver_passes() -> None:
    assert_device_conforms(Rover, {"top": 0.5})
    assert Rover.threads == {"device-conformance"}
    assert not any(thread.name.startswith("device-conformance") for thread in threading.enumerate() if not thread.daemon)


def test_gpiozero_is_to_be_named() -> None:
    """So that its pulses are exact; see `edgeagent.drivers.pins`."""

    class Lamp(Rover):
        def open(self) -> None:
            import gpiozero

            assert gpiozero
            super().open()

    class Named(Lamp):
        libraries = ("gpiozero",)

    (problem,) = _declared(Lamp("lamp", Lamp.Options()))
    assert 'libraries = ("gpiozero",)' in problem
    assert _declared(Named("lamp", Named.Options())) == []


def fail(message: str = "no") -> Any:
    def method(self: Any, *_: Any) -> None:
        raise DeviceFault(message)

    return method


def stop_only_at_home(self: Any) -> None:
    if threading.current_thread().name != "device-conformance":
        raise RuntimeError("not from here")


def close_once(self: Any) -> None:
    if self.__dict__.pop("speed", None) is None:
        raise RuntimeError("closed before")


def open_once(self: Any) -> None:
    if hasattr(self, "speed"):
        raise DeviceFault("in use")
    self.speed = 0.0


class NoDescription(BaseModel, extra="forbid"):
    top: float = 1.0


class Lax(BaseModel):
    group: str = Field(default="", description="taken")


class OneWay(BaseModel, extra="forbid"):
    pins: tuple[int, ...] = Field(default=(), description="pins")
    where: Path = Field(default=Path(), description="where")
    raw: Any = Field(default=(1, 2), description="becomes a list")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"summary": ""}, "`summary` should be one line"),
        ({"timeout_s": 0}, "`timeout_s` should be above 0"),
        ({"interval_s": 0.001}, "`interval_s` should be from 0.01 s"),
        ({"stop": None}, "It has no `stop()`"),
        ({"Options": NoDescription}, "The option top has no description"),
        ({"Options": Lax}, "`Options` should refuse unknown keys"),
        ({"Options": Lax}, "An option is called group"),
        ({"Options": OneWay}, "`Options` that went through JSON are not the same"),
        ({"axes": {"Left": Axis()}}, "The axis 'Left' needs a name"),
        ({"axes": {"a": Axis(minimum=1)}}, "minimum ≤ neutral ≤ maximum"),
        ({"axes": {"a": Axis(maximum=float("inf"))}}, "The bounds of the axis a should be finite"),
        ({"axes": {}}, "It `moves` but has no `axes`"),
        ({"moves": False}, "It has `axes` but says `moves = False`"),
        ({"readings": {}}, "It is a `Sensor` without `readings`"),
        ({"readings": {"speed": Reading(digits=9)}}, "its digits from 0 to 6"),
        ({"readings": {"pan": Reading(stop_below=-60)}}, "The reading pan tells where the axis pan is, so it has no `warn_below`"),
        ({"readings": {"pan": Reading(unit="°")}}, "the reading pan is of another unit or kind"),
        ({"readings": {"speed": Reading(kind="flag", maximum=1)}}, "is no number and has bounds"),
        ({"readings": {"speed": Reading()}}, "read(): it read 'on', which `readings` does not declare"),
        ({"read": lambda self: {"speed": "fast"}}, "read(): speed is a str, not a finite number"),
        ({"read": fail("no answer")}, "read raised DeviceFault: no answer"),
        ({"secrets": lambda self: [b"key"]}, "`secrets()` should return strings"),
        ({"apply": fail()}, "raised DeviceFault: no"),
        ({"stop": fail()}, "stop raised DeviceFault: no"),
        ({"stop": stop_only_at_home}, "stop() from another thread raised RuntimeError: not from here"),
        ({"close": close_once}, "close raised RuntimeError: closed before"),
        ({"open": open_once}, "When it is open for the second time: open raised DeviceFault: in use"),
    ],
)
def test_a_spoilt_driver_is_told_what_is_wrong(body: dict[str, Any], sentence: str) -> None:
    said = device_problems(type("Spoilt", (Rover,), body))
    assert any(sentence in one for one in said), said


class Ledger(Sensor):
    """Its library wants one thread."""

    summary = "a row of a table"
    readings: Mapping[str, Reading] = {"rows": Reading()}

    def open(self) -> None:
        self.base = sqlite3.connect(":memory:")

    def close(self) -> None:
        self.base.close()

    def read(self) -> Readings:
        return {"rows": self.base.execute("select 1").fetchone()[0]}


def test_a_driver_whose_library_wants_one_thread_has_to_say_so() -> None:
    (said,) = device_problems(Ledger)
    assert "read() on another thread than that of open() raised ProgrammingError" in said and "own_thread = True" in said
    assert device_problems(type("Choosy", (Ledger,), {"own_thread": True})) == []


def test_a_driver_that_hangs_is_told_and_left_alone() -> None:
    go = threading.Event()
    body = {"timeout_s": 0.05, "read": lambda self: go.wait()}
    try:
        assert device_problems(type("Hanging", (Rover,), body)) == ["read does not return within 0.05 s."]
    finally:
        go.set()


def test_options_that_are_refused() -> None:
    assert device_problems(Rover, {"top": "fast"}) == [
        "Its options are refused: 1 of them, first Input should be a valid number, unable to parse string as a number."
    ]


@pytest.mark.parametrize("kind", skeleton.KINDS)
def test_what_new_writes_conforms_as_written(kind: str, tmp_path: Path) -> None:
    driver, test = skeleton.write(f"my-{kind}", kind, tmp_path / "own")
    found = driver_file(driver)
    assert issubclass(found, Driver) and found.__name__ == f"My{kind.capitalize()}"
    assert_device_conforms(found)
    namespace: dict[str, Any] = {"__file__": str(test), "__name__": "test"}
    exec(compile(test.read_text(), str(test), "exec"), namespace)
    namespace["test_conforms"]()
    assert (driver.stat().st_mode & 0o777, driver.parent.stat().st_mode & 0o777) == (0o644, 0o755)
