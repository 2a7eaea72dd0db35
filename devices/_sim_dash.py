"""What is laid over the simulated world: the rover's bonnet, the beam of its lights, its horn and a small map."""

from __future__ import annotations

__all__ = ["Dash", "Instruments"]

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent_devices._lettering import draw
from edgeagent_devices._sim_colour import Bytes, Floats, blend, mix, rgb_of, yuv
from edgeagent_devices._sim_map import Ground
from edgeagent_devices._sim_paint import COLOURS

_DROP_M, _FRONT_M, _BONNET_M = 0.145, 0.42, 0.105  # the bonnet below the camera, its front edge, half of its width
_MAP_PX, _MARGIN_PX = 208, 84  # of a picture of 1280x720
_MAP_TOP = 0.21  # of the height
_BEAMS = {"white": 0xFFFFFF, "amber": 0xFFB84D, "blue": 0x6FA8FF}
_MAP_KINDS = {"wall": 0xC4694A, "hedge": 0x3F7D3A, "crate": 0xC98F3F, "tower": 0x8A8DA0}
_ARROW_PX = 34
_ARROWS = 72  # directions of it
_MOST_PAN_DEG = 65.0


@dataclass(frozen=True, slots=True)
class Instruments:
    """What of the rover is seen here.

    Attributes:
        x: Metres.
        y: Metres.
        heading: Radians.
        pan: Degrees to the right.
        lit: Numbers of the targets that are lit.
        beam: Colour of the lights, "" while they are off.
        horn: Whether it sounds.
    """

    x: float
    y: float
    heading: float
    pan: float
    lit: tuple[int, ...]
    beam: str
    horn: bool


class Dash:
    """Draws over pictures of one size.

    Args:
        ground: For the map.
        width: Pixels, even.
        height: Pixels, even.
        focal: Pixels.
        show_map: Whether to draw one.
    """

    def __init__(self, ground: Ground, width: int, height: int, focal: float, show_map: bool = True) -> None:
        self._ground, self._width, self._height, self._focal = ground, width, height, focal
        self._unit = min(width / 1280, height / 720)
        self._bonnet_top = _DROP_M * focal / (_FRONT_M + 0.03)  # below the horizon
        self._bonnet = self._paint_bonnet()
        self._pool = self._paint_pool()
        self._beams = {name: yuv(colour) for name, colour in _BEAMS.items()}
        self._toot = _Patch.of(*self._paint_toot())
        self._show_map = show_map
        self._map_for: tuple[int, ...] | None = None
        self._map: _Patch
        self._arrows: dict[tuple[int, int], _Patch] = {}  # by direction and pan; they are small
        self._map_scale = _MAP_PX * self._unit / ground.width

    def draw(self, seen: Instruments, horizon: float, luma: Bytes, chroma: tuple[Bytes, Bytes]) -> None:
        """Draw over planes whose horizon is at that row."""
        planes = (luma, *chroma)
        if abs(seen.pan) < _MOST_PAN_DEG:
            middle = self._width / 2 - self._focal * math.tan(math.radians(seen.pan))
            if seen.beam:
                self._draw_pool(seen.beam, middle, horizon, planes)
            bonnet = self._bonnet[bool(seen.beam)]
            bonnet.lay(planes, middle - bonnet.width / 2, horizon + self._bonnet_top)
            if seen.horn:
                lift = self._toot.height + 12 * self._unit
                self._toot.lay(planes, middle - self._toot.width * 1.1, self._height - 0.18 * self._height - lift)
        if self._show_map:
            self._draw_map(seen, planes)

    def _paint_bonnet(self) -> dict[bool, _Patch]:
        """A rounded plate below the camera, as far as it can be seen by looking down, by whether its lights are on."""
        rows = math.ceil(self._height / 2 + self._focal * math.tan(math.radians(32)) - self._bonnet_top)
        below = self._bonnet_top + np.arange(rows, dtype=np.float32)[:, None] + 0.5
        depth = _DROP_M * self._focal / below
        half = math.ceil(self._focal * (_BONNET_M + 0.03) / float(depth[-1, 0])) & ~1
        aside = (np.arange(2 * half, dtype=np.float32)[None, :] + 0.5 - half) * depth / self._focal
        texel = depth / self._focal
        round_ = 0.035
        width = _BONNET_M - 0.16 * np.maximum(0, depth - 0.3)
        over_x, over_z = np.abs(aside) - width + round_, depth - _FRONT_M + round_
        outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_z, 0)) + np.minimum(np.maximum(over_x, over_z), 0) - round_
        cover = np.clip(0.5 - outside / texel, 0, 1)
        shine = np.clip(0.5 + 0.5 * aside / _BONNET_M, 0, 1)
        picture = mix(rgb_of(0xFF9A4D), rgb_of(0xDE5B1E), shine * 0.7 + np.clip((0.42 - depth) * 1.6, 0, 0.3))
        blend(picture, np.clip(0.5 - (np.abs(aside) - 0.017) / texel, 0, 1), 0xFFF6E6)
        blend(picture, np.clip(0.5 + (outside + 0.006) / texel, 0, 1) * 0.55, 0x7A2A08)
        for slot in (0.335, 0.352, 0.369):
            inside = np.maximum(np.abs(np.abs(aside) - 0.05) - 0.017, np.abs(depth - slot) - 0.0034)
            blend(picture, np.clip(0.5 - inside / texel, 0, 1) * 0.8, 0x54200A)
        lamp = np.hypot(np.abs(aside) - 0.074, (depth - 0.401) * 1.3) - 0.014
        blend(picture, np.clip(0.5 - (lamp - 0.004) / texel, 0, 1), 0x3B3F4F)
        patches = {}
        for lights, colour in ((False, 0xBFD3DE), (True, 0xFFFFF0)):
            blend(picture, np.clip(0.5 - lamp / texel, 0, 1), colour)
            patches[lights] = _Patch.of(picture, cover.astype(np.float32))
        return patches

    def _paint_pool(self) -> Floats:
        """How bright the lights make each place below the horizon, from 0 to 1."""
        rows, half = math.ceil(self._height * 0.42) & ~1, math.ceil(self._width * 0.42) & ~1
        down = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None]
        aside = ((np.arange(2 * half, dtype=np.float32) + 0.5 - half) / half)[None, :]
        pool = sum(np.exp(-(((aside - side) / (0.18 + 0.3 * down)) ** 2)) for side in (-0.2, 0.2))
        edge = np.clip(down * 5, 0, 1) * np.clip((1 - np.abs(aside)) * 4, 0, 1)
        faded: Floats = (np.minimum(np.asarray(pool), 1) * edge * (0.9 - 0.3 * down)).astype(np.float32)
        return faded

    def _draw_pool(self, beam: str, middle: float, horizon: float, planes: tuple[Bytes, ...]) -> None:
        colour = self._beams[beam]
        left, top = round(middle - self._pool.shape[1] / 2) & ~1, round(horizon + 4) & ~1
        for index, (plane, gain) in enumerate(zip(planes, (0.3, 0.5, 0.5), strict=True)):
            step = self._width // plane.shape[1]
            pool = self._pool[::step, ::step]
            x, y = left // step, top // step
            x0, x1, y0, y1 = max(0, x), min(plane.shape[1], x + pool.shape[1]), max(0, y), min(plane.shape[0], y + pool.shape[0])
            if x0 < x1 and y0 < y1:
                area = plane[y0:y1, x0:x1]
                area[...] = area + (colour[index] - area) * (pool[y0 - y : y1 - y, x0 - x : x1 - x] * np.float32(gain))

    def _paint_toot(self) -> tuple[Floats, Floats]:
        cap = max(10, round(40 * self._unit))
        ink, base = draw("Toot!", cap, cap * 0.17)
        pad = round(cap * 0.55)
        rows, columns = base + 2 * pad, ink.shape[1] + 2 * pad
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
        radius = rows / 2.2
        over_x, over_y = np.abs(x - columns / 2) - columns / 2 + radius, np.abs(y - rows / 2) - rows / 2 + radius
        outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0)) + np.minimum(np.maximum(over_x, over_y), 0) - radius
        picture = np.broadcast_to(rgb_of(0xFFFFFF), (rows, columns, 3)).copy()
        text = np.zeros((rows, columns), np.float32)
        height = min(ink.shape[0], rows - pad)
        text[pad : pad + height, pad : pad + ink.shape[1]] = ink[:height]
        blend(picture, text, 0xDE5B1E)
        return picture, np.clip(0.5 - outside, 0, 1)

    def _paint_map(self, lit: tuple[int, ...]) -> tuple[Floats, Floats]:
        scale, ground = self._map_scale, self._ground
        rows, columns = round(ground.depth * scale), round(ground.width * scale)
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + 0.5
        metres_x, metres_y = x / scale, (rows - y) / scale
        picture = np.broadcast_to(rgb_of(0x24352F), (rows, columns, 3)).copy()
        stops = [ground.start, *ground.targets]
        for start, end in itertools.pairwise(stops):
            dx, dy = end[0] - start[0], end[1] - start[1]
            along = np.clip(((metres_x - start[0]) * dx + (metres_y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
            away = np.hypot(metres_x - start[0] - along * dx, metres_y - start[1] - along * dy)
            blend(picture, np.clip(0.5 - (away - 0.22) * scale, 0, 1) * 0.35, 0xD9BC8C)
        for box in ground.boxes:
            over_x = np.abs(metres_x - (box.left + box.right) / 2) - (box.right - box.left) / 2
            over_y = np.abs(metres_y - (box.bottom + box.top) / 2) - (box.top - box.bottom) / 2
            blend(picture, np.clip(0.7 - np.maximum(over_x, over_y) * scale, 0, 1), _MAP_KINDS[box.kind])
        for number, target in enumerate(ground.targets, 1):
            away = np.hypot(metres_x - target[0], metres_y - target[1]) * scale
            size = 5.2 * self._unit
            blend(picture, np.clip(0.5 - (away - size), 0, 1), 0xFFFFFF)
            blend(picture, np.clip(0.5 - (away - size + 1.8 * self._unit), 0, 1), COLOURS[(number - 1) % len(COLOURS)])
            if number in lit:
                blend(picture, np.clip(0.5 - (away - 2.2 * self._unit), 0, 1), 0xFFFFFF)
        radius = 9 * self._unit
        over_x, over_y = np.abs(x - columns / 2) - columns / 2 + radius, np.abs(y - rows / 2) - rows / 2 + radius
        outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0)) - radius
        cover = np.clip(0.5 - outside, 0, 1)
        blend(picture, np.clip(outside + 2.2 * self._unit, 0, 1) * 0.7, 0xFFFFFF)
        return picture, cover * np.float32(0.88)

    def _draw_map(self, seen: Instruments, planes: tuple[Bytes, ...]) -> None:
        if self._map_for != seen.lit:
            self._map_for, self._map = seen.lit, _Patch.of(*self._paint_map(seen.lit))
        margin = _MARGIN_PX * self._unit
        # Below a title, clear of what a page that drives lays over the other corners, and of what it cuts away to fill a window.
        left, top = round(margin) & ~1, round(_MAP_TOP * self._height) & ~1
        self._map.lay(planes, left, top)
        turned = round(seen.heading / math.tau * _ARROWS) % _ARROWS, round(seen.pan / 10)
        if turned not in self._arrows:
            self._arrows[turned] = self._paint_arrow(turned[0] / _ARROWS * math.tau, math.radians(10 * turned[1]))
        arrow = self._arrows[turned]
        at_x, at_y = left + seen.x * self._map_scale, top + (self._ground.depth - seen.y) * self._map_scale
        arrow.lay(planes, at_x - arrow.width / 2, at_y - arrow.height / 2)

    def _paint_arrow(self, heading: float, pan: float) -> _Patch:
        """The rover on the map, and where its camera looks."""
        size = 2 * round(_ARROW_PX * self._unit / 2)
        y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5 - size / 2) / self._unit
        y = -y
        ahead = x * math.cos(heading) + y * math.sin(heading)
        aside = np.abs(x * math.sin(heading) - y * math.cos(heading))
        look = heading - pan
        cone = np.abs(np.arctan2(y * math.cos(look) - x * math.sin(look), x * math.cos(look) + y * math.sin(look)))
        cover = np.clip((0.7 - cone) * 6, 0, 1) * np.clip(1 - np.hypot(x, y) / 17, 0, 1) * 0.8
        arrow = np.clip(0.5 - np.maximum(ahead * 0.45 + aside - 4.2, -5.2 - ahead + aside * 0.4), 0, 1)
        picture = mix(np.broadcast_to(rgb_of(0x5EEAD4), (size, size, 3)), rgb_of(0xFF8A3D), arrow)
        return _Patch.of(picture, np.maximum(cover, arrow))


@dataclass(frozen=True, slots=True)
class _Patch:
    """A picture with coverage, prepared so that laying it down takes one multiplication: YUV already times coverage."""

    inks: tuple[NDArray[np.uint16], ...]
    lets: tuple[NDArray[np.uint16], ...]

    @property
    def width(self) -> int:
        return int(self.inks[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.inks[0].shape[0])

    @classmethod
    def of(cls, picture: Floats, cover: Floats) -> _Patch:
        rows, columns = picture.shape[0] & ~1, picture.shape[1] & ~1
        colours, cover = yuv(picture[:rows, :columns]), cover[:rows, :columns]
        inks, lets = [], []
        for index in range(3):
            step = 1 if index == 0 else 2
            share = cover[::step, ::step]
            inks.append(np.rint(colours[::step, ::step, index] * share * 256).astype(np.uint16))
            lets.append(np.rint((1 - share) * 256).astype(np.uint16))
        return cls(tuple(inks), tuple(lets))

    def lay(self, planes: tuple[Bytes, ...], left: float, top: float) -> None:
        """Lay it down with its corner at these pixels, rounded to even ones; what lies outside is left out."""
        x, y = round(left) & ~1, round(top) & ~1
        for plane, ink, let, step in zip(planes, self.inks, self.lets, (1, 2, 2), strict=True):
            px, py = x // step, y // step
            x0, x1, y0, y1 = max(0, px), min(plane.shape[1], px + ink.shape[1]), max(0, py), min(plane.shape[0], py + ink.shape[0])
            if x0 >= x1 or y0 >= y1:
                continue
            part = slice(y0 - py, y1 - py), slice(x0 - px, x1 - px)
            area = plane[y0:y1, x0:x1]
            mixed = area * let[part]
            mixed += ink[part]
            mixed >>= 8
            area[...] = mixed
