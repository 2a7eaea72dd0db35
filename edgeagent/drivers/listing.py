"""What `edgeagent drivers` prints: every driver in short, or all about one."""

from __future__ import annotations

__all__ = ["about", "overview"]

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeagent.drivers import commands, registry
from edgeagent.drivers.camera import Camera
from edgeagent.drivers.check import Kind, kind_of
from edgeagent.drivers.device import Actuator, Axis, Driver, Reading, Sensor, commands_of

_HEADINGS: dict[Kind | None, str] = {
    "camera": "Cameras, to be written under `cameras:`",
    "sensor": "Sensors, to be written under `devices:`",
    "actuator": "What moves or switches, to be written under `devices:`",
    None: "Drivers that cannot be used",
}


def overview(folder: Path | None = None) -> Iterator[str]:
    """Lines about all drivers, by kind, with their options.

    Args:
        folder: The owner's own drivers, too.
    """
    summaries = registry.summaries(folder)
    for kind, heading in _HEADINGS.items():
        drivers = [driver for driver in summaries if driver.kind == kind]
        if drivers:
            yield f"{heading}:"
            yield ""
        for driver in drivers:
            yield f"{driver.name}: {driver.summary or driver.problem}"
            if not driver.problem:
                yield from _options(registry.load(driver.name, folder))
        if drivers:
            yield ""
    yield "`edgeagent drivers NAME` tells more of one; `edgeagent drivers new NAME` begins one of your own."


def about(name: str, folder: Path | None = None) -> Iterator[str]:
    """Lines about one driver: options, what it tells and takes, wiring, and what to write.

    Raises:
        DeviceFault: There is none by this name, or it cannot be used.
    """
    driver = registry.load(name, folder)
    source = next((line.package for line in registry.summaries(folder) if line.name == name), "")
    yield f"{name}: {driver.summary}"
    yield f"    {kind_of(driver)}, of {source}"
    yield from _part("Options", _options(driver))
    if not issubclass(driver, Camera):
        yield from _of_device(driver)
    yield ""
    yield "In the configuration:"
    yield ""
    required = driver.Options.model_json_schema().get("required", ())
    yield "    cameras:" if issubclass(driver, Camera) else "    devices:"
    yield f"      {name}: {{{', '.join([f'driver: {name}', *(f'{key}: …' for key in required)])}}}"


def _of_device(driver: type[Driver]) -> Iterator[str]:
    if issubclass(driver, Sensor):
        readings = _told(driver, "readings")
        lines = [_reading(*item) for item in readings.items()] if readings else ["    depend on its options"]
        yield from _part(f"Readings, every {driver.interval_s:g} s", lines)
    if issubclass(driver, Actuator):
        axes = _told(driver, "axes")
        lines = [_axis(*item) for item in axes.items()] if axes else ["    depend on its options"] if driver.moves else []
        yield from _part("Axes, moved by set-points under a lease", lines)
    yield from _part("Commands", [_command(driver, name, str(marks["title"])) for name, marks in commands_of(driver).items()])
    yield from _part("Wiring", [f"    {line}".rstrip() for line in driver.wiring.strip().splitlines()])


def _part(heading: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if not number:
            yield ""
            yield f"{heading}:"
        yield line


def _told(driver: type[Driver], what: str) -> Mapping[str, Any]:
    """Its axes or readings, as far as they can be told without the owner's options."""
    try:
        options = driver.Options()
    except ValidationError:
        options = driver.Options.model_construct()
    with contextlib.suppress(Exception):  # it wants its options, and may fail in any way without
        return dict(getattr(driver("", options), what))
    return {}


def _options(driver: type[Camera] | type[Driver]) -> Iterator[str]:
    described = driver.Options.model_json_schema()
    for name, field in described.get("properties", {}).items():
        must = " (required)" if name in described.get("required", ()) else ""
        default = field.get("default")
        default = "" if default in (None, "", []) else f" (default: {default if isinstance(default, str) else json.dumps(default)})"
        yield f"    {name}{must}: {field.get('description', '')}{default}"


def _reading(name: str, reading: Reading) -> str:
    what = {"number": f"a number{f' in {reading.unit}' if reading.unit else ''}", "flag": "yes or no", "text": "a text"}[
        reading.kind
    ]
    return f"    {name}: {what}{f' ({reading.title})' if reading.title else ''}"


def _axis(name: str, axis: Axis) -> str:
    unit = f" {axis.unit}" if axis.unit else ""
    held = ", holds its position" if axis.position else ""
    return f"    {name}: {axis.minimum:g} to {axis.maximum:g}{unit}{held}{f' ({axis.title})' if axis.title else ''}"


def _command(driver: type[Driver], name: str, title: str) -> str:
    schema = commands.schema_of(driver, name)
    required = schema.get("required", ())
    arguments = []
    for key, field in schema["properties"].items():
        kind = " | ".join(map(json.dumps, field["enum"])) if "enum" in field else field.get("type", "any")
        bounds = [f"{word} {field[bound]:g}" for bound, word in (("minimum", "from"), ("maximum", "to")) if bound in field]
        default = "" if key in required else f" = {json.dumps(field.get('default'))}"
        arguments.append(f"{key}: {' '.join([kind, *bounds])}{default}")
    return f"    {name}({', '.join(arguments)}){f': {title}' if title else ''}"
