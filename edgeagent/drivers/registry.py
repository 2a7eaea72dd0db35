"""Finds drivers: by their entry points in the group `edgeagent.drivers`, and as files in the owner's own folder (`drivers_dir`).

Nothing is imported before it is asked for by name. A package goes before a file of the same name, which is then told.
"""

from __future__ import annotations

__all__ = ["GROUP", "DriverSummary", "cameras", "load", "load_camera", "load_device", "names", "summaries"]

import difflib
import functools
import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeagent.drivers import folder as own_files
from edgeagent.drivers.camera import Camera
from edgeagent.drivers.check import Kind, complaint, kind_of
from edgeagent.drivers.device import Driver
from edgeagent.errors import DeviceFault

_log = logging.getLogger(__name__)

GROUP = "edgeagent.drivers"


@dataclass(slots=True, frozen=True)
class DriverSummary:
    """One line of `edgeagent drivers`.

    Attributes:
        name: As written under `driver:`.
        summary: What it is for; "" where it cannot be loaded.
        package: The distribution or the file that brings it.
        problem: Why it cannot be used, a sentence; "" where it can.
        kind: `camera`, `sensor` or `actuator`; None where it cannot be loaded.
    """

    name: str
    summary: str
    package: str
    problem: str = ""
    kind: Kind | None = None


def names(folder: Path | None = None) -> list[str]:
    """The names of all drivers, sorted; nothing is imported.

    Args:
        folder: The owner's own drivers, too. One that cannot be used is passed over: `summaries` and `load` tell why.
    """
    return sorted({*_found(), *_files(folder)})


def load(name: str, folder: Path | None = None) -> type[Camera] | type[Driver]:
    """The class of a driver.

    Raises:
        DeviceFault: There is none by this name, two packages offer it, it cannot be imported, or it is not a complete driver;
            never worth a retry.
    """
    points = _found().get(name)
    if points is None:
        if folder and (path := own_files.found(folder).get(name)):
            return _checked(own_files.load(name, path), f"The driver {path}")
        known = names(folder)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"installed are {', '.join(known) or 'none'}."
        raise DeviceFault(f"There is no driver `{name}`; {hint}", retry=False)
    if len(points) > 1:
        owners = " and ".join(sorted(_package(point) for point in points))
        raise DeviceFault(f"The driver `{name}` is offered by {owners}; uninstall one of them.", retry=False)
    if path := _files(folder).get(name):
        raise DeviceFault(f"There is a driver `{name}` of {_package(points[0])} already; give {path} another name.", retry=False)
    try:
        loaded = points[0].load()
    except Exception as error:  # a plug-in may fail in any way, and the other drivers go on
        _log.debug("driver %s cannot be loaded", name, exc_info=True)
        raise DeviceFault(
            f"The driver `{name}` of {_package(points[0])} cannot be loaded ({type(error).__name__}: {error}).", retry=False
        ) from error
    return _checked(loaded, f"The driver `{name}` of {_package(points[0])}")


def load_camera(name: str, folder: Path | None = None) -> type[Camera]:
    """As `load`, for what stands under `cameras:`. Raises DeviceFault for another kind of driver, too."""
    loaded = load(name, folder)
    if not issubclass(loaded, Camera):
        raise DeviceFault(f"`{name}` is no camera but {_article(kind_of(loaded))}: write it under `devices:`.", retry=False)
    return loaded


def load_device(name: str, folder: Path | None = None) -> type[Driver]:
    """As `load`, for what stands under `devices:`. Raises DeviceFault for a camera, too."""
    loaded = load(name, folder)
    if issubclass(loaded, Camera):
        raise DeviceFault(f"`{name}` is a camera: write it under `cameras:`.", retry=False)
    return loaded


def cameras() -> dict[str, type[Camera]]:
    """All drivers of cameras that are installed and can be loaded. Imports all drivers; never raises for a broken one."""
    found = {line.name: load(line.name) for line in summaries() if line.kind == "camera"}
    return {name: driver for name, driver in found.items() if issubclass(driver, Camera)}


def summaries(folder: Path | None = None) -> list[DriverSummary]:
    """Every driver with its summary or what is wrong with it. Imports them all; never raises for a broken one."""
    sources = {name: ", ".join(sorted({_package(point) for point in points})) for name, points in _found().items()}
    files = {name: str(path) for name, path in _files(folder).items()}
    lines = []
    for name, source in sorted({**files, **sources}.items()):
        try:
            driver = load(name, folder)
            lines.append(DriverSummary(name, driver.summary, source, kind=kind_of(driver)))
        except DeviceFault as fault:
            lines.append(DriverSummary(name, "", source, fault.message))
    return lines


def _checked(loaded: object, who: str) -> type[Camera] | type[Driver]:
    if reason := complaint(loaded):
        raise DeviceFault(f"{who} {reason}.", retry=False)
    assert isinstance(loaded, type) and issubclass(loaded, Camera | Driver)
    return loaded


def _article(kind: Kind) -> str:
    return "an actuator" if kind == "actuator" else f"a {kind}"


def _files(folder: Path | None) -> dict[str, Path]:
    try:
        return own_files.found(folder) if folder else {}
    except DeviceFault:  # told by `load`, and by the configuration
        return {}


def _found() -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, dict[str, importlib.metadata.EntryPoint]] = {}
    for point in _entry_points():
        # The same target twice is one package seen twice (a checkout beside its installation), not a conflict.
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(points.values()) for name, points in found.items()}


@functools.cache
def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    """Looked up once: it reads a file of each package that is installed, which takes a small board a tenth of a second."""
    return importlib.metadata.entry_points(group=GROUP)


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"
