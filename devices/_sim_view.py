"""What the simulated rover's camera sees: walls, ground and sky looked up in textures, all with numpy.

They are drawn at half size and enlarged, which looks like a small lens; the targets' signs come at full size on top.
"""

from __future__ import annotations

__all__ = ["Sight", "View"]

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent_devices._sim_colour import Bytes, Floats, yuv
from edgeagent_devices._sim_faces import EYE_M, Faces, Layer
from edgeagent_devices._sim_map import Ground
from edgeagent_devices._sim_paint import paint_detail, paint_ground, paint_sign, paint_sky, paint_walls
from edgeagent_devices._sim_physics import TILT_DEG
from edgeagent_devices._sim_walls import TEXELS

BEHIND_M = 0.18
"""How far behind the rover's middle it stands, less than the rover's radius: never inside a wall."""
_HALF_FIELD = math.radians(40)
_HAZE_M = 26.0
_HAZE = yuv(0xD8E3DC)
_DETAIL_PER_M = 300.0
_DETAIL_M = 2.4
_SIGN_M = (0.75, 1.5)
_NECK, _POST = 0.46, 0.42  # of a sign's height and width: below the neck there is only the post with its foot
_TILT_ROOM = 1.15


@dataclass(frozen=True, slots=True)
class Sight:
    """From where and whereto one looks.

    Attributes:
        x: Metres, of the rover's middle.
        y: Metres.
        heading: Of the rover, radians.
        pan: Degrees to the right of it.
        tilt: Degrees up.
        lit: Numbers of the targets that are lit.
    """

    x: float
    y: float
    heading: float
    pan: float = 0.0
    tilt: float = 0.0
    lit: tuple[int, ...] = ()


class View:
    """Draws one ground into the planes of pictures of one size.

    Args:
        ground: What to draw.
        width: Pixels, even.
        height: Pixels, even.
    """

    def __init__(self, ground: Ground, width: int, height: int) -> None:
        self._ground = ground
        self._width, self._height = width, height
        self._columns, self._rows = (width // 2 + 1) & ~1, (height // 2 + 1) & ~1
        self.focal = width / 2 / math.tan(_HALF_FIELD)
        self._focal = self.focal / 2
        slopes = (np.arange(self._columns, dtype=np.float32) + 0.5 - width / 4) / self._focal
        self._slopes: Floats = slopes.astype(np.float32)
        self._angles = np.arctan(self._slopes)
        self._row_centres = (np.arange(self._rows, dtype=np.float32) + 0.5)[:, None]
        self._faces = Faces.of(ground)
        self._ground_atlas, self._walls = paint_ground(ground), paint_walls()
        self._detail = paint_detail().ravel()
        self._sky_rows = 2 * math.ceil((self._rows / 2 + self._focal * math.tan(math.radians(TILT_DEG * _TILT_ROOM))) / 2) + 8
        self._sky = paint_sky(2 * round(self._focal * math.tau / 2), self._sky_rows)
        self._signs = {
            (number, lit): paint_sign(number, lit) for number in range(1, len(ground.targets) + 1) for lit in (False, True)
        }
        self._luma = np.zeros((self._rows, self._columns), np.uint8)
        self._chroma = [np.full((self._rows // 2, self._columns // 2), 128, np.uint8) for _ in range(2)]

    def draw(self, sight: Sight, luma: Bytes, chroma: tuple[Bytes, Bytes]) -> float:
        """Draw what is seen into planes of the full size; returns the row of the horizon."""
        angle = sight.heading - math.radians(sight.pan)
        ahead, right = (math.cos(angle), math.sin(angle)), (math.sin(angle), -math.cos(angle))
        eye = sight.x - BEHIND_M * math.cos(sight.heading), sight.y - BEHIND_M * math.sin(sight.heading)
        horizon = self._rows / 2 + self._focal * math.tan(math.radians(sight.tilt))
        towards_x = ahead[0] + self._slopes * np.float32(right[0])
        towards_y = ahead[1] + self._slopes * np.float32(right[1])
        near, along = self._faces.meet(eye, towards_x, towards_y)
        layers = self._faces.layers(near, along, horizon, self._focal)
        self._draw_sky(angle, horizon, max(float(layer.top.max()) for layer in layers))
        self._draw_ground(eye, towards_x, towards_y, horizon, float(layers[0].bottom.min()))
        for layer in layers:
            self._draw_layer(layer)
        _double(self._luma, luma)
        for small, plane in zip(self._chroma, chroma, strict=True):
            _double(small, plane)
        self._draw_signs(sight, eye, ahead, right, 2 * horizon, layers, luma, chroma)
        return 2 * horizon

    def _draw_sky(self, angle: float, horizon: float, until: float) -> None:
        bottom = max(0, min(self._rows, math.ceil(until))) + 1 & ~1
        bottom = min(bottom, self._rows)
        if not bottom:
            return
        around = self._sky[0].shape[1]
        columns = ((angle - self._angles) * (around / math.tau)).astype(np.int32) % around
        first = self._sky_rows - round(horizon)
        rows = np.clip(np.arange(first, first + bottom), 0, self._sky_rows - 1)
        np.take(self._sky[0][rows], columns, axis=1, out=self._luma[:bottom], mode="clip")
        for plane, sky in zip(self._chroma, self._sky[1:], strict=True):
            np.take(sky[rows[::2] // 2], columns[::2] // 2, axis=1, out=plane[: bottom // 2], mode="clip")

    def _draw_ground(self, eye: tuple[float, float], towards_x: Floats, towards_y: Floats, horizon: float, start: float) -> None:
        top = max(0, math.floor(max(start, horizon + 1))) & ~1
        if top >= self._rows:
            return
        depth = (self._focal * EYE_M) / (self._row_centres[top:] - np.float32(horizon))
        atlas = self._ground_atlas
        # Texels under a pixel: by its width, and by its much larger depth; in between, neither flickers nor is it a blur.
        under = depth / self._focal * atlas.scale * np.sqrt(np.maximum(1, depth / EYE_M))
        level = np.clip(np.log2(np.maximum(under, 1)) + 0.2, 0, len(atlas.starts) - 1).astype(np.intp)
        scale = np.float32(atlas.scale) * np.float32(0.5) ** level.astype(np.float32)
        across = np.float32(eye[0]) * scale + depth * scale * towards_x
        down = np.float32(eye[1]) * scale + depth * scale * towards_y
        index = down.astype(np.int32)
        index *= atlas.strides[level]
        index += across.astype(np.int32)
        index += atlas.starts[level]
        places = index.astype(np.intp)
        part = np.take(atlas.planes[0], places, mode="clip")
        haze = np.exp(-((depth / _HAZE_M) ** 2))
        far = int((depth > 3).sum())
        if far:
            _mute(part[:far], haze[:far], _HAZE[0])
        close = int((depth >= _DETAIL_M).sum())
        self._add_detail(part[close:], depth[close:], eye, towards_x, towards_y)
        self._luma[top:] = part
        places = places[::2, ::2]
        for plane, source, tint in zip(self._chroma, atlas.planes[1:], _HAZE[1:], strict=True):
            part = np.take(source, places, mode="clip")
            if far:
                _mute(part[: far // 2], haze[:far:2][: far // 2], tint)
            plane[top // 2 :] = part

    def _add_detail(self, part: Bytes, depth: Floats, eye: tuple[float, float], towards_x: Floats, towards_y: Floats) -> None:
        """Grain that shows only close by, where the ground's own texels would be seen."""
        if not len(depth):
            return
        step = depth * np.float32(_DETAIL_PER_M)
        places = (step * towards_y + np.float32(eye[1] * _DETAIL_PER_M)).astype(np.int32)
        places &= 255
        places <<= 8
        places |= (step * towards_x + np.float32(eye[0] * _DETAIL_PER_M)).astype(np.int32) & 255
        grain = np.take(self._detail, places.astype(np.intp), mode="clip")
        fade = np.clip((_DETAIL_M - depth) * 170, 0, 256).astype(np.uint16)
        strength = ((grain * fade) >> 8).astype(np.uint8)
        strength -= (fade >> 3).astype(np.uint8)  # the grain's middle, 32
        np.add(part, strength, out=part)  # wraps, as it should where the grain is darker

    def _draw_layer(self, layer: Layer) -> None:
        active = np.flatnonzero(layer.seen & (layer.top < self._rows) & (layer.limit > 0))
        if not len(active):
            return
        left, right = int(active[0]) & ~1, min(self._columns, int(active[-1]) + 2 & ~1)
        columns = slice(left, right)
        top, limit, seen = layer.top[columns], layer.limit[columns], layer.seen[columns]
        first = max(0, math.floor(float(top[seen].min()))) & ~1
        last = min(self._rows, math.ceil(float(limit[seen].max())) + 1 & ~1)
        if first >= last:
            return
        atlas, faces, which = self._walls, self._faces, layer.which[columns]
        near = np.maximum(layer.near[columns], np.float32(1e-3))
        level = np.clip(np.log2(np.maximum(TEXELS / self._focal / near, 1)), 0, len(atlas.starts) - 1).astype(np.intp)
        side = TEXELS >> level
        across = (layer.along[columns] * side).astype(np.int32) % side
        # A texture's columns stand one behind the other, so that going down adds one: exact enough in 24 bits.
        begin = (atlas.starts[level] + (faces.textures[which] * side + across) * side).astype(np.float32)
        pace = side / np.maximum(layer.bottom[columns] - top, np.float32(1e-3))
        rows = self._row_centres[first:last]
        down = rows * pace
        down += begin - top * pace
        np.minimum(down, begin + (side - np.float32(0.06)), out=down)
        places = down.astype(np.intp)
        edge = np.floor(top)
        drawn = (rows >= edge) & (rows < limit) & seen
        clear = np.exp(-((1 / near / _HAZE_M) ** 2))
        light = clear * faces.shades[which]
        area = self._luma[first:last, columns]
        soft = np.flatnonzero(seen & (edge >= first) & (edge < last) & (edge < limit))
        at = edge[soft].astype(np.intp) - first
        behind = area[at, soft].astype(np.float32)
        np.copyto(area, self._lit(atlas.planes[0], places, light, 16 * (clear - light) + _HAZE[0] * (1 - clear)), where=drawn)
        area[at, soft] = behind + (area[at, soft] - behind) * (1 - top[soft] + edge[soft])  # the upper edge without steps
        places, drawn = places[::2, ::2], drawn[::2, ::2]
        for plane, source, tint in zip(self._chroma, atlas.planes[1:], _HAZE[1:], strict=True):
            area = plane[first // 2 : last // 2, left // 2 : right // 2]
            rest = (128 * (clear - light) + tint * (1 - clear))[::2]
            np.copyto(area, self._lit(source, places, light[::2], rest), where=drawn)

    def _lit(self, source: Bytes, places: NDArray[np.intp], light: Floats, rest: Floats) -> Bytes:
        values = np.take(source, places, mode="clip").astype(np.uint16)
        values *= (light * 255).astype(np.uint16)
        values += (rest * 255).astype(np.uint16)
        values >>= 8
        return values.astype(np.uint8)

    def _draw_signs(
        self,
        sight: Sight,
        eye: tuple[float, float],
        ahead: tuple[float, float],
        right: tuple[float, float],
        horizon: float,
        layers: list[Layer],
        luma: Bytes,
        chroma: tuple[Bytes, Bytes],
    ) -> None:
        placed = []
        for number, (x, y) in enumerate(self._ground.targets, 1):
            dx, dy = x - eye[0], y - eye[1]
            depth = dx * ahead[0] + dy * ahead[1]
            if depth > 0.25:
                placed.append((depth, number, (dx * right[0] + dy * right[1]) / depth))
        for depth, number, slope in sorted(placed, reverse=True):
            size = self.focal / depth
            width, height = max(2, round(_SIGN_M[0] * size)), max(4, round(_SIGN_M[1] * size))
            lit = number in sight.lit
            left = round(self._width / 2 + slope * self.focal - width / 2)
            top = round(horizon + EYE_M * size - height)
            hidden = np.full(self._columns, np.inf, np.float32)
            for layer in layers:
                before = layer.seen & (layer.near * depth > 1)
                hidden = np.where(before, np.minimum(hidden, layer.top), hidden)
            clear = math.exp(-((depth / _HAZE_M) ** 2))
            self._lay(number, lit, left, top, width, height, 2 * hidden, clear, luma, chroma)

    def _lay(
        self,
        number: int,
        lit: bool,
        left: int,
        top: int,
        width: int,
        height: int,
        hidden: Floats,
        clear: float,
        luma: Bytes,
        chroma: tuple[Bytes, Bytes],
    ) -> None:
        """Lay a sign over the picture, where its columns and rows are not hidden by a wall: its disc, and its narrow post."""
        neck = top + round(height * _NECK)
        post = round(width * (1 - _POST) / 2)
        for part in ((left, left + width, top, neck), (left + post, left + width - post, neck, top + height)):
            x0, x1 = max(0, part[0]) & ~1, min(self._width, part[1] + 1) & ~1
            y0, y1 = (max(0, part[2]) + 1) & ~1, min(self._height, part[3] + 1) & ~1
            if x0 >= x1 or y0 >= y1:
                continue
            limits = hidden[x0 // 2 : x1 // 2]
            y1 = min(y1, 2 * math.ceil(min(float(limits.max()), 1e6) / 2))
            if y0 >= y1:
                continue
            sizes = self._signs[number, lit].sizes
            *planes, cover = next((size for size in reversed(sizes) if size[0].shape[1] >= width), sizes[0])
            texels = cover.shape
            columns = np.clip((np.arange(x0, x1) - left + 0.5) * (texels[1] / width), 0, texels[1] - 1).astype(np.intp)
            rows = np.clip((np.arange(y0, y1) - top + 0.5) * (texels[0] / height), 0, texels[0] - 1).astype(np.intp)
            share = cover[rows].take(columns, axis=1)
            if float(limits.min()) < y1:
                share *= np.arange(y0, y1)[:, None] < np.repeat(limits, 2)
            for index, (plane, source) in enumerate(zip((luma, *chroma), planes, strict=True)):
                step = 2 if index else 1
                ink = source[rows[::step]].take(columns[::step], axis=1).astype(np.uint16)
                let = share[::step, ::step]
                ink *= np.uint16(256 * clear)
                ink += np.uint16(256 * (1 - clear) * _HAZE[index])
                ink >>= 8
                ink *= let
                area = plane[y0 // step : y1 // step, x0 // step : x1 // step]
                ink += area * (256 - let)
                ink >>= 8
                area[...] = ink


def _mute(part: Bytes, haze: Floats, tint: float) -> None:
    """Let what is far fade into the haze, in place; `haze` is what is left of it."""
    share = (haze * 256).astype(np.uint16)
    values = part * share
    values += (np.float32(tint) * (1 - haze) * 256).astype(np.uint16)
    values >>= 8
    part[...] = values


def _double(small: Bytes, large: Bytes) -> None:
    """Enlarge to twice the size, the pixels between as the mean of their neighbours."""
    rows, columns = large.shape
    small = small[: (rows + 1) // 2, : (columns + 1) // 2]
    beside = np.concatenate([small[:, 1:], small[:, -1:]], axis=1)
    pairs = _mean(small, beside).astype("<u2")
    pairs <<= 8
    pairs |= small  # a pixel and the one between as one number: much quicker than every other pixel
    large[::2] = pairs.view(np.uint8)[:, :columns]
    even, odd = large[::2], large[1::2]
    inner = min(odd.shape[0], even.shape[0] - 1)
    odd[:inner] = _mean(even[:inner], even[1 : inner + 1])
    odd[inner:] = even[inner : odd.shape[0]]


def _mean(one: Bytes, other: Bytes) -> Bytes:
    mean = one ^ other
    mean >>= 1
    mean += one & other
    return mean
