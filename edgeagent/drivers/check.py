"""What makes a class a driver: looked at once, when it is registered, and said in a sentence to its author."""

from __future__ import annotations

__all__ = ["Kind", "complaint", "kind_of"]

import inspect
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from edgeagent.drivers import commands
from edgeagent.drivers.camera import Camera
from edgeagent.drivers.device import Actuator, Driver, Sensor, commands_of

Kind: TypeAlias = Literal["camera", "sensor", "actuator"]

_CALLED = ("open", "close", "check", "read", "apply", "stop", "secrets")
"""Methods that the agent calls on a thread, so that none of them may be a coroutine."""


def kind_of(driver: type[Camera] | type[Driver]) -> Kind:
    """What a driver is for; one that also reads what it moves or switches is an actuator."""
    if issubclass(driver, Camera):
        return "camera"
    return "actuator" if issubclass(driver, Actuator) else "sensor"


def complaint(found: Any) -> str:
    """Why something cannot be registered as a driver, as the rest of a sentence that begins with it; "" where it can."""
    if not isinstance(found, type):
        return "is no class; a driver is a class derived from `Sensor`, `Actuator` or `Camera` of `edgeagent.drivers`"
    if issubclass(found, Camera):
        return _unfinished(found) or _options(found)
    if not issubclass(found, Sensor | Actuator):
        return "is derived neither from `Sensor` nor from `Actuator` nor from `Camera` of `edgeagent.drivers`"
    if issubclass(found, Actuator) and ("stop" in found.__abstractmethods__ or not inspect.isfunction(found.stop)):
        return "has no `stop()`: what moves or switches must be able to stop at once; write `def stop(self) -> None:`"
    return _unfinished(found) or _options(found) or _coroutines(found) or _axes(found) or _commands(found)


def _unfinished(found: type) -> str:
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    return f"is not complete: it lacks {' and '.join(f'`{name}`' for name in lacking)}" if lacking else ""


def _options(found: type[Camera] | type[Driver]) -> str:
    options: Any = found.Options
    if isinstance(options, type) and issubclass(options, BaseModel):
        return ""
    return 'has an `Options` that is no pydantic model; write `class Options(BaseModel, extra="forbid"):`'


def _coroutines(found: type[Driver]) -> str:
    for name in (*_CALLED, *commands_of(found)):
        if inspect.iscoroutinefunction(getattr(found, name, None)):
            return f"has an `async def {name}`; write `def {name}`: it is called on a thread of its own and may block"
    return ""


def _axes(found: type[Driver]) -> str:
    if issubclass(found, Actuator) and found.axes is not Actuator.axes and found.apply is Actuator.apply:
        return "has `axes` but no `apply()` that takes their values"
    return ""


def _commands(found: type[Driver]) -> str:
    for name in commands_of(found):
        try:
            commands.schema_of(found, name)
        except TypeError as error:
            return f"has a command that cannot be offered: {error}"
    return ""
