"""Colours and shapes for painting the simulated world: RGB from 0 to 1 in the last axis, coverage from 0 to 1, smooth noise."""

from __future__ import annotations

__all__ = ["Bytes", "Floats", "blend", "from_box", "from_line", "halve", "mix", "noise", "rgb_of", "ring", "yuv"]

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]


def yuv(rgb: Any) -> Floats:
    """Y, U, V of colours: an array whose last axis is red, green, blue from 0 to 1, or a number like 0xFF8800."""
    if isinstance(rgb, int):
        rgb = np.array([rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255], np.float32) / 255
    red, green, blue = (rgb[..., index] for index in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + 219 * luma, 128 + (blue - luma) * (224 / 1.8556), 128 + (red - luma) * (224 / 1.5748)]
    return np.stack(planes, -1).astype(np.float32)


def rgb_of(colour: int) -> Floats:
    """Red, green, blue of a number like 0xFF8800."""
    return np.array([colour >> 16 & 255, colour >> 8 & 255, colour & 255], np.float32) / 255


def mix(one: Any, other: Any, share: Any) -> Floats:
    """From `one` to `other`, by a share from 0 to 1 for each place."""
    share = np.asarray(share, np.float32)[..., None]
    mixed: Floats = (one + (other - one) * share).astype(np.float32)
    return mixed


def blend(picture: Floats, cover: Any, colour: int) -> None:
    """Lay a colour over a picture, in place."""
    picture += (rgb_of(colour) - picture) * np.asarray(cover, np.float32)[..., None]


def ring(radius: Floats, inner: float, outer: float, scale: float) -> Floats:
    """Coverage of a ring, or of a disc where `inner` is 0; `scale` is pixels in a unit of length."""
    cover: Floats = np.clip((outer - radius) * scale + 0.5, 0, 1)
    return cover * np.clip((radius - inner) * scale + 0.5, 0, 1) if inner else cover


def from_line(x: Any, y: Any, start: tuple[float, float], end: tuple[float, float]) -> Floats:
    """Distance from a line."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance: Floats = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy).astype(np.float32)
    return distance


def from_box(x: Floats, y: Floats, left: float, bottom: float, right: float, top: float) -> Floats:
    """Distance from a box; 0 inside."""
    distance: Floats = np.hypot(np.maximum(np.maximum(left - x, x - right), 0), np.maximum(np.maximum(bottom - y, y - top), 0))
    return distance


def noise(chance: Any, rows: int, columns: int, cells_down: int, cells_across: int) -> Floats:
    """Smooth noise from 0 to 1 that repeats at its edges."""
    grid = chance.random((cells_down, cells_across), np.float32)
    y, x = (np.arange(size, dtype=np.float32) * (cells / size) for size, cells in ((rows, cells_down), (columns, cells_across)))
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = y - top, x - left
    down, right = (down * down * (3 - 2 * down))[:, None], (right * right * (3 - 2 * right))[None, :]
    wide = grid[:, left] * (1 - right) + grid[:, (left + 1) % cells_across] * right
    result: Floats = wide[top] * (1 - down) + wide[(top + 1) % cells_down] * down
    return result


def halve(planes: Floats) -> Floats:
    """Half of the size, each texel the mean of four."""
    rows, columns = planes.shape[0] & ~1, planes.shape[1] & ~1
    even = planes[:rows, :columns]
    half: Floats = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) * np.float32(0.25)
    return half
