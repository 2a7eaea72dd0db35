"""What the simulated world looks like, painted once: the ground, walls, the sky all around and the targets' signs.

Everything is painted in RGB and kept as YUV (BT.709, limited range), so that drawing a picture is only copying. It is kept for the
next camera, and never changed.
"""

from __future__ import annotations

__all__ = ["COLOURS", "SUN", "Atlas", "Sign", "paint_detail", "paint_ground", "paint_sign", "paint_sky", "paint_walls"]

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeagent_devices._lettering import draw
from edgeagent_devices._sim_colour import Bytes, Floats, blend, from_box, from_line, halve, mix, noise, rgb_of, ring, yuv
from edgeagent_devices._sim_map import Ground
from edgeagent_devices._sim_walls import TEXELS, paint_kinds

SUN = (-0.55, 0.38)
"""Where shadows fall, for each metre of height."""
SUN_AT = math.atan2(-SUN[1], -SUN[0])
COLOURS = (0xFF5A5F, 0xFFB400, 0x2EC4B6, 0x9B5DE5, 0x3A86FF)
"""Of the targets."""
_GROUND_TEXELS = 1_800_000
_TEXELS_PER_M = 84.0
_LEVELS = 4


@dataclass(frozen=True)
class Atlas:
    """A texture in several sizes, each half of the one before, one behind the other.

    Attributes:
        planes: Y, U and V, flat.
        starts: Where each size begins.
        strides: Its texels in a row.
        scale: Texels in a metre, of the largest.
    """

    planes: tuple[Bytes, Bytes, Bytes]
    starts: NDArray[np.int32]
    strides: NDArray[np.int32]
    scale: float


@dataclass(frozen=True)
class Sign:
    """A picture with coverage, in several sizes: for each its Y, U and V, and the coverage from 0 to 256."""

    sizes: tuple[tuple[Bytes, Bytes, Bytes, NDArray[np.uint16]], ...]


@functools.lru_cache(maxsize=2)
def paint_ground(ground: Ground) -> Atlas:
    """A lawn with paths from target to target, the shadows of what stands on it, rings around targets and the charging pad."""
    chance = np.random.default_rng(ground.seed + 11)
    scale = min(_TEXELS_PER_M, math.sqrt(_GROUND_TEXELS / (ground.width * ground.depth)))
    columns, rows = (max(64, round(side * scale) & ~(2**_LEVELS - 1)) for side in (ground.width, ground.depth))
    x = ((np.arange(columns, dtype=np.float32) + 0.5) / scale)[None, :]
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / scale)[:, None]
    fine = noise(chance, rows, columns, round(ground.depth * 14), round(ground.width * 14))
    coarse = noise(chance, rows, columns, round(ground.depth * 0.9), round(ground.width * 0.9))
    grain = chance.random((rows, columns), np.float32) - 0.5
    mown = 0.5 + 0.5 * np.tanh(6 * np.sin((x + 0.35 * y) * (math.pi / 0.9)))
    picture = mix(rgb_of(0x6DA544), rgb_of(0x8CBF4E), np.clip(0.25 + 0.5 * coarse + 0.35 * mown - 0.1, 0, 1))
    picture *= (0.92 + 0.13 * fine + 0.09 * grain)[..., None]
    _flowers(picture, chance, rows * columns // 2600)

    def near(left: float, bottom: float, right: float, top: float, room: float) -> tuple[tuple[slice, slice], Floats, Floats]:
        """The part of the picture around a box, with its coordinates: most of what is painted is small."""
        down, up = (min(rows, max(0, int(value * scale))) for value in (bottom - room, top + room + 1))
        west, east = (min(columns, max(0, int(value * scale))) for value in (left - room, right + room + 1))
        return (slice(down, up), slice(west, east)), x[:, west:east], y[down:up]

    away = np.full((rows, columns), 99, np.float32)
    stops = [ground.start, *ground.targets]
    for start, end in itertools.pairwise(stops):
        (left, right), (bottom, top) = sorted((start[0], end[0])), sorted((start[1], end[1]))
        part, part_x, part_y = near(left, bottom, right, top, 0.8)
        away[part] = np.minimum(away[part], from_line(part_x, part_y, start, end))
    edge = np.clip((0.34 + 0.2 * fine + 0.1 * coarse - away) * 16, 0, 1)
    pebbles = noise(chance, rows, columns, round(ground.depth * 26), round(ground.width * 26))
    path = rgb_of(0xD9BC8C) * (0.88 + 0.2 * pebbles + 0.08 * grain)[..., None]
    picture += (path - picture) * edge[..., None]

    for number, target in enumerate(ground.targets):
        part, part_x, part_y = near(*target, *target, 0.6)
        radius = np.hypot(part_x - target[0], part_y - target[1])
        blend(picture[part], ring(radius, 0.0, 0.5, scale) * 0.75, 0xF3EBDD)
        blend(picture[part], ring(radius, 0.4, 0.52, scale), COLOURS[number % len(COLOURS)])
        blend(picture[part], ring(radius, 0.17, 0.23, scale), COLOURS[number % len(COLOURS)])
    part, part_x, part_y = near(*ground.start, *ground.start, 0.7)
    _pad(picture[part], part_x, part_y, ground.start, scale)

    dark = np.zeros((rows, columns), np.float32)
    gap = np.minimum(np.minimum(x, ground.width - x), np.minimum(y, ground.depth - y))
    for box in ground.boxes:
        part, part_x, part_y = near(box.left, box.bottom, box.right, box.top, 0.8 + 0.6 * box.height)
        gap[part] = np.minimum(gap[part], from_box(part_x, part_y, box.left, box.bottom, box.right, box.top))
        steps = max(2, round(box.height * 8))
        for step in range(steps):
            lift = box.height * (step + 1) / steps
            dx, dy = SUN[0] * lift, SUN[1] * lift
            outside = from_box(part_x, part_y, box.left + dx, box.bottom + dy, box.right + dx, box.top + dy)
            dark[part] = np.maximum(dark[part], np.clip(1 - outside * 14, 0, 1))
    for side, shift in ((ground.width - x, SUN[0]), (y, SUN[1])):  # what the fence throws
        np.maximum(dark, np.clip((abs(shift) * 0.9 - side) * 14, 0, 1), out=dark)
    picture *= ((1 - 0.42 * dark) * (1 - 0.4 * np.exp(-np.maximum(gap, 0) / 0.16)))[..., None]
    picture += (dark * 0.02)[..., None] * rgb_of(0x6688FF)
    return _atlas(picture, scale)


def paint_detail(side: int = 256) -> Bytes:
    """Grain of the ground close to the camera, around 32: tiles without a seam."""
    chance = np.random.default_rng(5)
    tile = sum(noise(chance, side, side, cells, cells) * weight for cells, weight in ((128, 0.55), (64, 0.3), (24, 0.15)))
    return np.clip(32 + (np.asarray(tile) - 0.5) * 52, 0, 64).astype(np.uint8)


@functools.cache
def paint_walls() -> Atlas:
    """The textures of `KINDS`, below one another, each lying on its side: its columns are rows."""
    return _atlas(np.concatenate([picture.transpose(1, 0, 2) for picture in paint_kinds()]), float(TEXELS))


@functools.lru_cache(maxsize=2)
def paint_sky(columns: int, rows: int) -> tuple[Bytes, Bytes, Bytes]:
    """The sky all around, the lowest row at the horizon: sun, clouds and hills. U and V have half the columns and rows."""
    chance = np.random.default_rng(9)
    up = (1 - (np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None]  # 0 at the horizon
    around = ((np.arange(columns, dtype=np.float32) + 0.5) / columns)[None, :]
    picture = mix(rgb_of(0xFFE9C9), rgb_of(0x8CCBF2), np.clip(up * 3.2, 0, 1) ** 0.8 + around * 0)
    picture = mix(picture, rgb_of(0x3F8EDC), np.clip(up * 1.25 - 0.25, 0, 1) + around * 0)
    turn = np.abs((around - SUN_AT / math.tau + 0.5) % 1 - 0.5) * columns
    sun = np.hypot(turn, (up - 0.42) * rows) / (rows * 0.055)
    glow = np.exp(-((sun / 6) ** 2))
    picture += (glow * 0.22)[..., None] * rgb_of(0xFFE0A0)
    blend(picture, np.clip((1 - sun) * rows * 0.02 + 0.5, 0, 1), 0xFFFBEA)
    for lift, share, seed in ((0.62, 0.5, 8), (0.33, 0.46, 14)):
        band = np.exp(-(((up - lift) / 0.17) ** 2))
        puffs = 0.6 * noise(chance, rows, columns, 9, seed) + 0.28 * noise(chance, rows, columns, 20, seed * 3)
        puffs += 0.12 * noise(chance, rows, columns, 44, seed * 7)
        cover = np.clip((puffs * band - share) * 7, 0, 1)
        where = np.flatnonzero(cover.any(axis=1))
        part = slice(int(where[0]), int(where[-1]) + 1)
        lit = np.clip(0.75 + (puffs - np.roll(puffs, 6, axis=0))[part] * 5, 0, 1)
        picture[part] = mix(picture[part], mix(rgb_of(0xC9D3E6), rgb_of(0xFFFFFF), lit), cover[part] * 0.93)
    for height, rough, colour, cells in ((0.135, 0.06, 0x9DB8D2, 9), (0.085, 0.05, 0x7FA7A0, 15), (0.05, 0.03, 0x6B9E66, 26)):
        ridge = (
            height
            + rough * (noise(chance, 1, columns, 1, cells) - 0.5)
            + rough * 0.3 * (noise(chance, 1, columns, 1, cells * 4) - 0.5)
        )
        blend(picture, np.clip((ridge - up) * rows + 0.5, 0, 1), colour)
    planes = yuv(np.clip(picture, 0, 1))
    half = halve(planes)
    luma, blue, red = (np.rint(part).astype(np.uint8, order="C") for part in (planes[..., 0], half[..., 1], half[..., 2]))
    return luma, blue, red


@functools.cache
def paint_sign(number: int, lit: bool) -> Sign:
    """A target's post with its number, 0.75 m wide and 1.5 m high, on the ground at its lower edge."""
    columns, rows = 192, 384
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x -= columns / 2 - 0.5
    colour = rgb_of(COLOURS[(number - 1) % len(COLOURS)])
    picture = np.zeros((rows, columns, 3), np.float32)
    cover = np.zeros((rows, columns), np.float32)

    def lay(mask: Floats, paint: Any) -> None:
        picture[...] = mix(picture, paint, mask)
        np.maximum(cover, mask, out=cover)

    radius = np.hypot(x, y - 96)
    if lit:
        glow = np.clip(1 - radius / 95, 0, 1) ** 1.6 * 0.75
        lay(glow, mix(colour, rgb_of(0xFFFFFF), np.float32(0.55)))
    round_ = np.clip(0.5 + 0.5 * (x / 9), 0, 1)
    lay(np.clip(9.5 - np.abs(x), 0, 1) * (y > 100), mix(rgb_of(0xF6F1E7), rgb_of(0x8B8478), round_)[...])
    stripe = (((y // 28) % 2) == 0) & (y > 150)
    lay(np.clip(9.5 - np.abs(x), 0, 1) * stripe, mix(colour, colour * 0.55, round_))
    lay(np.clip(1.0 - np.hypot(x / 34, (y - rows + 9) / 9), 0, 1) * 1.0, rgb_of(0x5B5347))
    lay(np.clip(69 - radius, 0, 1), rgb_of(0xFFFFFF))
    face = colour * 1.0 if lit else mix(colour, rgb_of(0x55504A), np.float32(0.25))
    lay(np.clip(61 - radius, 0, 1), np.clip(face * (1.1 - 0.25 * ((y - 96) / 61 + 1) / 2)[..., None], 0, 1))
    text = "" if lit else str(number)
    if text:
        ink, base = draw(text, 70, 12)
        top, left = round(96 + 35 - base), round(columns / 2 - ink.shape[1] / 2)
        mask = np.zeros((rows, columns), np.float32)
        mask[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        lay(mask * cover, rgb_of(0xFFFFFF))
    else:
        tick = np.minimum(from_line(x, y, (-30, 98), (-8, 122)), from_line(x, y, (-8, 122), (32, 72)))
        lay(np.clip(9 - tick, 0, 1), rgb_of(0xFFFFFF))
    whole = np.concatenate([yuv(np.clip(picture, 0, 1)), cover[..., None]], -1)
    sizes = [whole]
    while sizes[-1].shape[1] > 12:
        sizes.append(halve(sizes[-1]))
    return Sign(
        tuple(
            (*(np.rint(size[..., index]).astype(np.uint8) for index in range(3)), np.rint(size[..., 3] * 256).astype(np.uint16))
            for size in sizes
        )
    )


def _pad(picture: Floats, x: Floats, y: Floats, at: tuple[float, float], scale: float) -> None:
    """The charging pad: a plate with a bolt of lightning."""
    radius = np.hypot(x - at[0], y - at[1])
    blend(picture, ring(radius, 0.0, 0.6, scale), 0x33415C)
    blend(picture, ring(radius, 0.5, 0.56, scale), 0x5EEAD4)
    across, along = y - at[1], x - at[0]  # upright for who comes towards it
    bolt = np.minimum(
        from_line(along, across, (0.26, -0.1), (-0.03, 0.07)),
        np.minimum(from_line(along, across, (-0.03, 0.07), (0.03, -0.07)), from_line(along, across, (0.03, -0.07), (-0.26, 0.1))),
    )
    blend(picture, np.clip((0.045 - bolt) * scale + 0.5, 0, 1), 0xFFE66D)


def _flowers(picture: Floats, chance: Any, count: int) -> None:
    rows, columns = picture.shape[:2]
    heart_y, heart_x = chance.integers(0, rows, count // 7), chance.integers(0, columns, count // 7)
    which = chance.integers(0, len(heart_y), count)
    y = np.clip(heart_y[which] + chance.normal(0, rows / 60, count), 1, rows - 3).astype(np.intp)
    x = np.clip(heart_x[which] + chance.normal(0, rows / 60, count), 1, columns - 3).astype(np.intp)
    colours = np.stack([rgb_of(colour) for colour in (0xFFFFFF, 0xFFE066, 0xFFA3C7, 0xC8B6FF)])[which % 4]
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
        picture[y + dy, x + dx] = colours
    picture[y, x] = rgb_of(0xE9A825)


def _atlas(picture: Floats, scale: float) -> Atlas:
    sizes = [yuv(np.clip(picture, 0, 1))]
    for _ in range(_LEVELS - 1):
        sizes.append(halve(sizes[-1]))
    starts = np.cumsum([0, *(size.shape[0] * size.shape[1] for size in sizes[:-1])]).astype(np.int32)
    strides = np.array([size.shape[1] for size in sizes], np.int32)
    planes = tuple(np.concatenate([np.rint(size[..., index]).astype(np.uint8).ravel() for size in sizes]) for index in range(3))
    return Atlas(planes, starts, strides, scale)  # type: ignore[arg-type]
