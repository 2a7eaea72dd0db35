"""What a sensor returned, checked once against what it declares."""

from __future__ import annotations

__all__ = ["checked"]

import math
import numbers
from collections.abc import Mapping
from typing import Any

from edgeagent.drivers.device import Reading
from edgeagent.model import Value

_MAX_TEXT = 200


def checked(values: Any, declared: Mapping[str, Reading]) -> tuple[dict[str, Value], list[str]]:
    """The values that may go on, and a sentence for each that may not.

    Numbers become finite floats (those of numpy, too), flags bools, texts are cut to 200 characters. None stands for a value that
    is not known now and is left out silently.
    """
    if not isinstance(values, Mapping):
        return {}, [f"read() returned {_kind(values)}; it should return a dict of readings"]
    good: dict[str, Value] = {}
    odd: list[str] = []
    for name, value in values.items():
        reading = declared.get(name)
        if reading is None:
            odd.append(f"it read {str(name)[:40]!r}, which `readings` does not declare")
        elif value is not None:
            taken = _taken(value, reading.kind)
            if taken is None:
                odd.append(f"{name} is {_kind(value)}, not {_WANTED[reading.kind]}")
            else:
                good[name] = taken
    return good, odd


_WANTED = {"number": "a finite number", "flag": "a bool", "text": "text"}


def _taken(value: Any, kind: str) -> Value | None:
    if kind == "number" and type(value) is float:  # nearly always
        return value if math.isfinite(value) else None
    if kind == "flag":
        return value if isinstance(value, bool) else bool(value) if type(value).__name__ in ("bool_", "bool") else None
    if kind == "text":
        return value[:_MAX_TEXT] if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _kind(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return f"a {type(value).__name__}"
