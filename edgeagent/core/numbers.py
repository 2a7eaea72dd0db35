"""Numbers of whatever drivers and boards give."""

from __future__ import annotations

__all__ = ["finite"]

import math


def finite(value: object) -> float | None:
    """The finite number that this is; None for anything else, also for truth values and integers that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
