"""Types for drivers' `Options`, so that rates and sizes are written alike everywhere: `bitrate: 3M`, `size: 1280x720`."""

from __future__ import annotations

__all__ = ["Bitrate", "PictureSize", "parse_bitrate", "parse_size"]

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_BITRATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)")
_SIZE = re.compile(r"(\d{1,5})\s*[x×]\s*(\d{1,5})")
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000}


def parse_bitrate(value: Any) -> int:
    """bit/s from `3M`, `500k`, `1.5M` or a number.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write a rate like 3M or 500k")
    match = _BITRATE.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a rate like 3M or 500k")
    return round(float(match[1]) * _SCALE[match[2]])


def parse_size(value: Any) -> tuple[int, int]:
    """Width and height from `1280x720`.

    Raises:
        ValueError: It is written otherwise, odd, or outside 320x180 to 4096x2304.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        value = f"{value[0]}x{value[1]}"
    match = _SIZE.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a size like 1280x720")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2:
        raise ValueError("width and height must be even")
    if not (320 <= width <= 4096 and 180 <= height <= 2304):
        raise ValueError("the size must be between 320x180 and 4096x2304")
    return width, height


Bitrate = Annotated[
    int,
    BeforeValidator(parse_bitrate),
    Field(ge=50_000, le=100_000_000),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[kM]?$"}]}),
]
"""bit/s, from 50k to 100M."""

PictureSize = Annotated[tuple[int, int], BeforeValidator(parse_size), WithJsonSchema({"type": "string", "pattern": r"^\d+x\d+$"})]
"""Width and height in pixels, both even, from 320x180 to 4096x2304."""
