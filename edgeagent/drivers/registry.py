"""Finds drivers by their entry points in the group `edgeagent.drivers`; nothing is imported before it is asked for by name."""

from __future__ import annotations

__all__ = ["GROUP", "DriverSummary", "load", "names", "summaries"]

import difflib
import importlib.metadata
import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from edgeagent.drivers.camera import Camera
from edgeagent.errors import DeviceFault

_log = logging.getLogger(__name__)

GROUP = "edgeagent.drivers"


@dataclass(slots=True, frozen=True)
class DriverSummary:
    """One line of `edgeagent drivers`.

    Attributes:
        name: As written under `driver:`.
        summary: What it is for; "" where it cannot be loaded.
        package: The distribution that brings it.
        problem: Why it cannot be used, a sentence; "" where it can.
    """

    name: str
    summary: str
    package: str
    problem: str = ""


def names() -> list[str]:
    """The names of all drivers installed, sorted; nothing is imported."""
    return sorted(_found())


def load(name: str) -> type[Camera]:
    """The class of a driver.

    Raises:
        DeviceFault: There is none by this name, two packages offer it, or it cannot be imported; never worth a retry.
    """
    found = _found()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"installed are {', '.join(sorted(found)) or 'none'}."
        raise DeviceFault(f"There is no driver `{name}`; {hint}", retry=False)
    points = found[name]
    if len(points) > 1:
        owners = " and ".join(sorted(_package(point) for point in points))
        raise DeviceFault(f"The driver `{name}` is offered by {owners}; uninstall one of them.", retry=False)
    try:
        loaded = points[0].load()
    except Exception as error:  # a plug-in may fail in any way, and the other cameras go on
        _log.debug("driver %s cannot be loaded", name, exc_info=True)
        raise DeviceFault(
            f"The driver `{name}` of {_package(points[0])} cannot be loaded ({type(error).__name__}: {error}).", retry=False
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Camera)) or inspect.isabstract(loaded):
        raise DeviceFault(
            f"The driver `{name}` of {_package(points[0])} is not a complete `edgeagent.drivers.Camera`.", retry=False
        )
    return loaded


def summaries() -> list[DriverSummary]:
    """Every driver with its summary or what is wrong with it. Imports them all; never raises for a broken one."""
    lines = []
    for name, points in sorted(_found().items()):
        package = ", ".join(sorted({_package(point) for point in points}))
        try:
            lines.append(DriverSummary(name, load(name).summary, package))
        except DeviceFault as fault:
            lines.append(DriverSummary(name, "", package, fault.message))
    return lines


def _found() -> dict[str, list[importlib.metadata.EntryPoint]]:
    found: dict[str, dict[str, importlib.metadata.EntryPoint]] = {}
    for point in _entry_points():
        # The same target twice is one package seen twice (a checkout beside its installation), not a conflict.
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(points.values()) for name, points in found.items()}


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=GROUP)


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"
