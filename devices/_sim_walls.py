"""Textures of what stands in the simulated world, painted once: fence, wall, hedge, crate and tower."""

from __future__ import annotations

__all__ = ["KINDS", "TEXELS", "paint_kinds"]

from typing import Any

import numpy as np

from edgeagent_devices._sim_colour import Floats, blend, mix, noise, rgb_of

TEXELS = 256
"""Side of a texture; it is as high as what it covers, and a metre wide."""
_SIDE = 128  # the same, in the units in which they are painted


def paint_kinds() -> list[Floats]:
    """The textures of `KINDS` in RGB."""
    chance = np.random.default_rng(2)
    return [paint(chance) for paint in _PAINTERS.values()]


def _fence(chance: Any) -> Floats:
    x, y = _grid()
    plank = np.floor(x / 16)
    tone = np.sin(plank * 12.9) * 0.5 + 0.5
    wood = mix(rgb_of(0xC98F55), rgb_of(0xA96F3D), tone * 0.6 + 0.4 * noise(chance, TEXELS, TEXELS, 4, 64))
    gap = np.clip(1.4 - np.minimum(x % 16, 16 - x % 16), 0, 1)
    picture = wood * (1 - 0.55 * gap)[..., None]
    for rail in (34, 98):
        picture *= (1 - 0.25 * (np.abs(y - rail - 7) < 2))[..., None]
        blend(picture, np.clip(6.5 - np.abs(y - rail), 0, 1) * 0.9, 0xB57C48)
    blend(picture, np.clip(7 - y, 0, 1), 0xE4B478)
    picture *= _foot(y)
    return picture


def _wall(chance: Any) -> Floats:
    x, y = _grid()
    plaster = rgb_of(0xF4E6CE) * (0.93 + 0.1 * noise(chance, TEXELS, TEXELS, 24, 24))[..., None]
    row = np.floor((y - 74) / 13.5)
    shifted = x + (row % 2) * 16
    joint = np.maximum(
        np.clip(1.3 - np.minimum(shifted % 32, 32 - shifted % 32), 0, 1),
        np.clip(1.3 - np.abs((y - 74) % 13.5 - 6.75 - 5.5), 0, 1),
    )
    tone = np.sin(np.floor(shifted / 32) * 7.3 + row * 3.1) * 0.5 + 0.5
    brick = mix(mix(rgb_of(0xC9694A), rgb_of(0xB0553D), tone), rgb_of(0xE3CDB4), joint)
    picture = np.where((y > 74)[..., None], brick, plaster)
    picture *= (1 - 0.3 * (np.abs(y - 74) < 1.5))[..., None]
    blend(picture, np.clip(15 - y, 0, 1), 0xC8603F)
    picture *= (1 - 0.28 * np.clip(1 - np.abs(y - 17) / 3, 0, 1))[..., None]
    picture *= (1 - 0.25 * np.clip(1.5 - np.abs(x % 21.33 - 10), 0, 1) * (y < 14))[..., None]
    picture *= _foot(y)
    return picture


def _hedge(chance: Any) -> Floats:
    x, y = _grid()
    leaves = 0.55 * noise(chance, TEXELS, TEXELS, 22, 22) + 0.45 * noise(chance, TEXELS, TEXELS, 48, 48)
    picture = mix(rgb_of(0x2E5E2A), rgb_of(0x7DB04B), np.clip(leaves * 1.25 - 0.12 + (40 - y) / 300, 0, 1))
    for _ in range(26):
        cx, cy = chance.uniform(0, _SIDE), chance.uniform(8, 96)
        off = np.hypot((x - cx + _SIDE / 2) % _SIDE - _SIDE / 2, y - cy)
        blend(picture, np.clip(3.2 - off, 0, 1), (0xFF8FB1, 0xFFFFFF, 0xFFD166)[int(chance.integers(3))])
    picture *= (1 + 0.16 * np.clip(1 - y / 14, 0, 1))[..., None]
    picture *= _foot(y)
    return picture


def _crate(chance: Any) -> Floats:
    x, y = _grid()
    inside = x * (_SIDE / 102.4) % _SIDE  # a crate is 0.8 m wide
    wood = mix(rgb_of(0xE0A458), rgb_of(0xC6853C), 0.7 * noise(chance, TEXELS, TEXELS, 40, 5) + 0.3 * (np.floor(y / 21.3) % 2))
    picture: Floats = wood * (1 - 0.4 * np.clip(1.4 - np.abs(y % 21.3 - 1), 0, 1))[..., None]
    brace = np.abs(inside - y)
    picture *= (1 - 0.3 * np.clip(13 - np.abs(brace), 0, 1) * np.clip(np.abs(brace) - 8, 0, 1))[..., None]
    blend(picture, np.clip(9.5 - brace, 0, 1) * 0.95, 0xB87333)
    frame = np.minimum(np.minimum(inside, _SIDE - inside), np.minimum(y, _SIDE - y))
    picture *= (1 - 0.35 * np.clip(1 - np.abs(frame - 16.5) / 2.5, 0, 1))[..., None]
    blend(picture, np.clip(15 - frame, 0, 1), 0xA9662B)
    for corner in ((7, 7), (7, 121), (121, 7), (121, 121)):
        blend(picture, np.clip(3.5 - np.hypot(inside - corner[0], y - corner[1]), 0, 1), 0xF2E3C6)
    picture *= _foot(y)
    return picture


def _tower(chance: Any) -> Floats:
    x, y = _grid()
    inside = x * (_SIDE / 115.2) % _SIDE  # 0.9 m wide
    row = np.floor(y / 12.8)
    shifted = inside + (row % 2) * 16
    tone = np.sin(np.floor(shifted / 32) * 5.7 + row * 2.3) * 0.5 + 0.5
    joint = np.maximum(np.clip(1.2 - np.minimum(shifted % 32, 32 - shifted % 32), 0, 1), np.clip(1.2 - np.abs(y % 12.8 - 1), 0, 1))
    stone = mix(rgb_of(0xB9BBC6), rgb_of(0x9FA2B2), tone) * (0.93 + 0.12 * noise(chance, TEXELS, TEXELS, 30, 30))[..., None]
    picture = mix(stone, rgb_of(0x7C7F8E), joint * 0.7)
    arch = np.where(y > 46, np.abs(inside - 64) - 15, np.hypot(inside - 64, y - 46) - 15)
    window = np.clip(-arch + 0.5, 0, 1) * (y < 72)
    blend(picture, np.clip(4 - np.abs(arch), 0, 1) * (y < 75), 0xE8E3D6)
    blend(picture, window, 0x39405E)
    blend(picture, window * np.clip(1 - np.abs(inside - y * 0.5 - 38) / 4, 0, 1) * 0.6, 0xA9C8F0)
    notch = (inside % 42.7 < 20) & (y < 11)
    blend(picture, np.clip(20 - y, 0, 1) * 1.0, 0xD4704E)
    picture *= (1 - 0.3 * np.clip(1 - np.abs(y - 22) / 3, 0, 1))[..., None]
    blend(picture, notch.astype(np.float32) * 0.35, 0x9C4A32)
    picture *= _foot(y)
    return picture


def _grid() -> tuple[Floats, Floats]:
    y, x = (np.mgrid[0:TEXELS, 0:TEXELS].astype(np.float32) + 0.5) * (_SIDE / TEXELS)
    return x, y


def _foot(y: Floats) -> Floats:
    """Darker towards the ground, where less light comes."""
    shade: Floats = (1 - 0.38 * np.exp(-(_SIDE - y) / 12))[..., None].astype(np.float32)
    return shade


_PAINTERS = {"fence": _fence, "wall": _wall, "hedge": _hedge, "crate": _crate, "tower": _tower}
KINDS = tuple(_PAINTERS)
"""What `Box.kind` may be, and the fence around it all."""
