"""Tests that every driver of a sensor or an actuator should pass; `edgeagent.drivers.conformance` offers them to authors.

The driver runs for real, on a thread as in the agent; where its hardware is not at hand, a test puts something in its place before
(gpiozero's mock pins, a fake bus). Commands are looked at but not called: only their author knows what they do.
"""

from __future__ import annotations

__all__ = ["assert_device_conforms", "device_problems", "driver_file"]

import functools
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from edgeagent.drivers import commands, folder
from edgeagent.drivers.check import complaint
from edgeagent.drivers.device import Actuator, Axis, Driver, Reading, Sensor, commands_of, limited_place, places_of
from edgeagent.drivers.pins import open_driver
from edgeagent.drivers.readings import checked
from edgeagent.drivers.thread import DriverThread

_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_STOP_S = 0.5
_OPEN_S = 15.0
_MAX_SCHEMA = 2000  # characters; a device with all its commands is told in messages of 4 kB


def driver_file(path: Path | str) -> type[Driver]:
    """The driver in a file, as the agent loads it from `drivers_dir`, whoever may write to the file.

    Raises:
        AssertionError: There is none that can be used, and why.
        DeviceFault: The file cannot be loaded.
    """
    found: type = folder.run(Path(path))
    assert not (reason := complaint(found)), f"{found} {reason}"
    assert issubclass(found, Driver), f"{found} is a camera; its kit is `assert_conforms`"
    return found


def assert_device_conforms(kind: type[Driver], options: Mapping[str, Any] | None = None) -> None:
    """Fail with every sentence of `device_problems`."""
    problems = device_problems(kind, options)
    assert not problems, "\n".join(problems)


def device_problems(kind: type[Driver], options: Mapping[str, Any] | None = None) -> list[str]:
    """Look at a driver, run it twice, and list what is wrong with it, each a sentence; empty for a good one.

    Args:
        kind: The class.
        options: As the owner would write them below the device's name.
    """
    if reason := complaint(kind):
        return [f"It {reason}."]
    problems = _of_class(kind)
    try:
        checked_options = kind.Options.model_validate(dict(options or {}))
    except ValidationError as error:
        return [*problems, f"Its options are refused: {error.error_count()} of them, first {error.errors()[0]['msg']}."]
    problems += _of_options(kind.Options, checked_options)
    driver = kind("conformance", checked_options)
    problems += _declared(driver)
    return problems or _Run(driver).problems()


def _of_class(kind: type[Driver]) -> list[str]:
    problems = []
    if not kind.summary or "\n" in kind.summary:
        problems.append("`summary` should be one line that says what the driver is for.")
    if not 0 < kind.timeout_s <= 120:
        problems.append("`timeout_s` should be above 0 and at most 120 seconds.")
    if issubclass(kind, Sensor) and not 0.01 <= kind.interval_s <= 86_400:
        problems.append("`interval_s` should be from 0.01 s to a day.")
    for name in commands_of(kind):
        if len(json.dumps(commands.schema_of(kind, name))) > _MAX_SCHEMA:
            problems.append(f"The schema of the command {name} is longer than {_MAX_SCHEMA} characters; shorten its descriptions.")
    return problems


def _of_options(model: type[BaseModel], given: BaseModel) -> list[str]:
    problems = []
    if model.model_config.get("extra") != "forbid":
        problems.append('`Options` should refuse unknown keys: write `class Options(BaseModel, extra="forbid"):`.')
    try:
        described = model.model_json_schema().get("properties", {})
    except Exception as error:  # pydantic has many
        return [*problems, f"`Options` has no JSON Schema ({type(error).__name__}): {error}"]
    problems += [
        f'The option {name} has no description: write `Field(description="…")`.'
        for name, field in described.items()
        if not field.get("description")
    ]
    if taken := {"driver", "group", "interval_s", "limits", "telemetry"} & model.model_fields.keys():
        problems.append(f"An option is called {' and '.join(sorted(taken))}, which stands for something else below every device.")
    if not any(isinstance(value, SecretStr) for value in vars(given).values()):
        try:
            same = model.model_validate(json.loads(json.dumps(given.model_dump(mode="json")))) == given
        except (ValueError, TypeError):
            same = False
        if not same:
            problems.append("`Options` that went through JSON are not the same: they could not reach the keeper.")
    return problems


def _declared(driver: Driver) -> list[str]:
    """What it says about itself before it is open."""
    problems = []
    axes: Mapping[str, Axis] = dict(driver.axes) if isinstance(driver, Actuator) else {}
    readings: Mapping[str, Reading] = dict(driver.readings) if isinstance(driver, Sensor) else {}
    for what, names in (("axis", axes), ("reading", readings)):
        problems += [
            f"The {what} {name!r} needs a name of a-z, 0-9 and _, at most 32 characters."
            for name in names
            if not isinstance(name, str) or not _KEY.fullmatch(name)
        ]
    for name, axis in axes.items():
        if not all(map(math.isfinite, (axis.minimum, axis.neutral, axis.maximum))):
            problems.append(f"The bounds of the axis {name} should be finite.")
        elif not (axis.minimum <= axis.neutral <= axis.maximum and axis.minimum < axis.maximum):
            problems.append(f"The axis {name} should have minimum ≤ neutral ≤ maximum, and a range.")
    for name, reading in readings.items():
        bounds = (reading.minimum, reading.maximum, reading.warn_below, reading.warn_above, reading.stop_below, reading.dead_band)
        if any(bound is not None and not math.isfinite(bound) for bound in bounds) or not 0 <= reading.digits <= 6:
            problems.append(f"The numbers of the reading {name} should be finite, its digits from 0 to 6.")
        if reading.kind != "number" and any(bound is not None for bound in bounds[:-1]):
            problems.append(f"The reading {name} is no number and has bounds.")
    problems += [
        f"The axis {name} holds a place, and the reading {name} is of another unit or kind: it tells nothing of it. Give it"
        " the axis' unit, or another name."
        for name, axis in axes.items()
        if axis.position and name in readings and name not in places_of(driver)
    ]
    if sentence := limited_place(driver):
        problems.append(f"{sentence}.")
    if isinstance(driver, Sensor) and not readings:
        problems.append("It is a `Sensor` without `readings`.")
    if isinstance(driver, Actuator) and driver.moves and not axes:
        problems.append("It `moves` but has no `axes`; what is switched by commands says `moves = False`.")
    if isinstance(driver, Actuator) and not driver.moves and axes:
        problems.append("It has `axes` but says `moves = False`.")
    called = [getattr(member, "__code__", None) for kind in type(driver).__mro__ for member in vars(kind).values()]
    if "gpiozero" not in driver.libraries and any(code and "gpiozero" in code.co_names for code in called):
        problems.append('It uses gpiozero: write `libraries = ("gpiozero",)`, so that its pulses become exact before it is opened.')
    if not all(isinstance(secret, str) for secret in driver.secrets()):
        problems.append("`secrets()` should return strings.")
    return problems


class _Run:
    """One life of a driver, until something is wrong with it."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self._problems, self._hangs = driver, list[str](), False
        self._thread = DriverThread(driver, time.monotonic)

    def problems(self) -> list[str]:
        try:
            for turn in ("first", "second"):
                try:
                    self._live()
                finally:
                    self._shut()
                if self._problems:
                    return [f"When it is open for the {turn} time: {text}" for text in dict.fromkeys(self._problems)]
        except _Over:
            pass
        finally:
            self._thread.end()
        return list(dict.fromkeys(self._problems))

    def _live(self) -> None:
        driver = self._driver
        self._call("open", lambda: open_driver(driver), max(_OPEN_S, driver.timeout_s))
        if isinstance(driver, Actuator):
            self._stop(driver)
        if isinstance(driver, Sensor):
            self._read(driver)
        if isinstance(driver, Actuator):
            self._move(driver)
        if isinstance(driver, Sensor):
            self._read(driver)
            if not (self._problems or isinstance(driver, Actuator) or driver.own_thread):
                self._read_elsewhere(driver)

    def _move(self, driver: Actuator) -> None:
        axes = driver.axes
        rounds = [{name: axis.neutral for name, axis in axes.items()}]
        rounds += [{name: value} for name, axis in axes.items() for value in (axis.minimum, axis.maximum, axis.neutral)]
        rounds += [{name: axis.maximum for name, axis in axes.items()}]
        for values in rounds if axes else []:
            self._call(f"apply({values})", functools.partial(driver.apply, values), driver.timeout_s)
        self._stop(driver)
        try:
            self._quick(driver.stop)  # as the keeper does while the driver's own thread hangs
        except Exception as error:
            self._problems.append(f"stop() from another thread raised {type(error).__name__}: {error}")

    def _stop(self, driver: Actuator) -> None:
        self._quick(functools.partial(self._call, "stop", driver.stop, driver.timeout_s))

    def _quick(self, stop: Callable[[], object]) -> None:
        """Twice, since a second time does no harm; the machine may have been busy with something else the first time."""
        took_s = []
        for _ in range(2):
            began = time.monotonic()
            stop()
            took_s.append(time.monotonic() - began)
        if min(took_s) > _STOP_S:
            self._problems.append(f"stop() takes longer than {_STOP_S:g} s.")

    def _read(self, driver: Sensor) -> None:
        values = self._call("read", driver.read, driver.timeout_s)
        _, odd = checked(values, driver.readings)
        self._problems += [f"read(): {sentence}." for sentence in odd]

    def _read_elsewhere(self, driver: Sensor) -> None:
        """As where it shares a thread with others; the driver's own rests meanwhile."""
        thread = DriverThread(driver, time.monotonic)
        try:
            thread.submit(driver.read).result(driver.timeout_s)
        except Exception as error:
            self._problems.append(
                f"read() on another thread than that of open() raised {type(error).__name__}: {error}. "
                "Where its library wants one thread, it should say `own_thread = True`."
            )
        finally:
            thread.end()

    def _shut(self) -> None:
        for _ in range(0 if self._hangs else 2):  # a second time does no harm
            self._call("close", self._driver.close, self._driver.timeout_s)

    def _call(self, what: str, action: Callable[[], Any], limit_s: float) -> Any:
        future = self._thread.submit(action)
        try:
            return future.result(limit_s)
        except FutureTimeout:
            if future.done():  # the driver's own
                self._problems.append(f"{what} raised TimeoutError.")
            else:
                self._problems.append(f"{what} does not return within {limit_s:g} s.")
                self._hangs = True
                raise _Over from None
        except Exception as error:
            self._problems.append(f"{what} raised {type(error).__name__}: {error}")
        return {}


class _Over(Exception):
    """The driver hangs: nothing more can be asked of it."""
