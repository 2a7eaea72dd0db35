"""Render the demo's camera clip, a garden at dusk: `python scripts/render_clip.py` writes `edgeagent/assets/clip.mp4`.

Everything is computed here with numpy, so the clip has no licence but the project's. The still parts are painted once at twice the
resolution; each frame then adds clouds, smoke, sway, the cat and fireflies. Every motion has a period that divides the length, so
the last frame leads into the first. The stream is what a browser takes as it is: H.264 constrained baseline 3.1, no B-frames, a
keyframe every 2 s. `--still 7.4 out.png` renders one moment as a picture.

Units: pixels of the output picture (y down) for what is painted, metres (x right, y up, z ahead of the camera) for what is built.
Colours are linear light until `develop`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 wherever it is big
Colour = tuple[float, float, float] | Array

WIDTH, HEIGHT, FPS, LENGTH_S, GOP = 1280, 720, 30, 12, 60
SCALE = 2  # supersampling of the still parts
HORIZON, FOCAL, EYE_M = 300.0, 900.0, 1.9
OUTPUT = Path(__file__).parent.parent / "edgeagent" / "assets" / "clip.mp4"

SUN_X = 890.0  # where the sun went down
WARM: Colour = (1.0, 0.56, 0.2)
LAMP_M = (0.95, 1.95, 7.5)
LAMP = (WIDTH / 2 + FOCAL * LAMP_M[0] / LAMP_M[2], HORIZON + FOCAL * (EYE_M - LAMP_M[1]) / LAMP_M[2])
WALL_Z_M, WALL_TOP_M, WALL_LEFT_M = 9.5, 1.15, 1.0

rng = np.random.default_rng(7)
bark = np.random.default_rng(3)  # its own, so that more or less bark does not grow another tree
LATTICE = rng.random((256, 256)).astype(np.float32)


def vec(*values: float) -> Array:
    """A vector or colour."""
    return np.array(values, np.float32)


def smooth(low: float, high: float, x: Array | float) -> Array:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the greater."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def noise(x: Array, y: Array) -> Array:
    """Value noise, 0 to 1, that repeats every 256."""
    xi, yi = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    fx, fy = x - xi, y - yi
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    x0, x1, y0, y1 = xi & 255, (xi + 1) & 255, yi & 255, (yi + 1) & 255
    top = LATTICE[y0, x0] * (1 - fx) + LATTICE[y0, x1] * fx
    bottom = LATTICE[y1, x0] * (1 - fx) + LATTICE[y1, x1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy, np.float32)


def fbm(x: Array, y: Array, octaves: int = 4) -> Array:
    """Octaves of noise, each twice as fine and half as strong; 0 to 1."""
    total = np.zeros(np.broadcast(x, y).shape, np.float32)
    for i in range(octaves):
        total += noise(x * 2**i + 17 * i, y * 2**i + 31 * i) / 2 ** (i + 1)
    return total / (1 - 0.5**octaves)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur by Fourier transform; beyond the edges is black."""
    pad = int(3 * sigma)
    padded = np.pad(image, ((0, pad), (0, pad), (0, 0)))
    fy, fx = np.fft.fftfreq(padded.shape[0])[:, None, None], np.fft.rfftfreq(padded.shape[1])[None, :, None]
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    result = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * kernel, padded.shape[:2], axes=(0, 1))
    return result[: image.shape[0], : image.shape[1]].astype(np.float32)


# --- Painting ---------------------------------------------------------------------------------------------------------------------


class Layer:
    """A picture with coverage (premultiplied), painted at `scale` times the output's resolution."""

    def __init__(self, scale: int = SCALE, box: tuple[float, float, float, float] = (0, 0, WIDTH, HEIGHT)) -> None:
        self.scale, self.left, self.top = scale, int(box[0]), int(box[1])
        self.rgba = np.zeros(((int(box[3]) - self.top) * scale, (int(box[2]) - self.left) * scale, 4), np.float32)

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[slice, slice], Array, Array]:
        """The part of the layer inside a box: its slices and the coordinates of its pixels (a row and a column)."""
        s, (rows, columns) = self.scale, self.rgba.shape[:2]
        a, b = np.clip([int(np.floor((x0 - self.left) * s)), int(np.ceil((x1 - self.left) * s))], 0, columns)
        c, d = np.clip([int(np.floor((y0 - self.top) * s)), int(np.ceil((y1 - self.top) * s))], 0, rows)
        x = (np.arange(a, b, dtype=np.float32)[None, :] + 0.5) / s + self.left
        y = (np.arange(c, d, dtype=np.float32)[:, None] + 0.5) / s + self.top
        return (slice(c, d), slice(a, b)), x, y

    def cover(self, distance: Array) -> Array:
        """Coverage from a signed distance in output pixels, negative inside."""
        return np.clip(0.5 - distance * self.scale, 0, 1)

    def paint(self, where: tuple[slice, slice], mask: Array, colour: Colour) -> None:
        """Lay a colour over a part of the layer."""
        mask = mask[..., None]
        part = self.rgba[where]
        part *= 1 - mask
        part[..., :3] += mask * np.asarray(colour, np.float32)
        part[..., 3:] += mask

    def stroke(self, start: tuple[float, float], end: tuple[float, float], r0: float, r1: float, colour: Colour) -> None:
        """A line with round ends whose radius goes from `r0` to `r1`."""
        (x0, y0), (x1, y1), r = start, end, max(r0, r1) + 1
        where, x, y = self.window(min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r)
        self.paint(where, self.cover(capsule(x, y, start, end, r0, r1)), colour)

    def leaf(self, x0: float, y0: float, length: float, width: float, angle: float, colour: Colour) -> None:
        """An ellipse."""
        r, c, s = max(length, width) + 1, np.cos(angle), np.sin(angle)
        where, x, y = self.window(x0 - r, y0 - r, x0 + r, y0 + r)
        u, v = ((x - x0) * c + (y - y0) * s) / length, ((y - y0) * c - (x - x0) * s) / width
        self.paint(where, self.cover((np.hypot(u, v) - 1) * min(length, width)), colour)

    def shadow(self, x0: float, y0: float, rx: float, ry: float, depth: float) -> None:
        """A soft shadow on what is there."""
        where, x, y = self.window(x0 - 2 * rx, y0 - 2 * ry, x0 + 2 * rx, y0 + 2 * ry)
        self.paint(where, depth * np.exp(-1.6 * (((x - x0) / rx) ** 2 + ((y - y0) / ry) ** 2)), vec(0.006, 0.009, 0.008))

    def reduced(self) -> Array:
        """The layer at the output's resolution."""
        rows, columns = self.rgba.shape[0] // self.scale, self.rgba.shape[1] // self.scale
        return np.asarray(self.rgba.reshape(rows, self.scale, columns, self.scale, 4).mean(axis=(1, 3)))


def capsule(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float], r0: float, r1: float) -> Array:
    """Signed distance to a line whose radius goes from `r0` to `r1`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.asarray(np.hypot(x - start[0] - t * dx, y - start[1] - t * dy) - (r0 + (r1 - r0) * t), np.float32)


def lamplight(x: float, y: float, reach: float) -> Array:
    """What the lamp gives to something painted, by its distance in the picture."""
    return np.asarray(WARM, np.float32) / (1 + ((x - LAMP[0]) ** 2 + (y - LAMP[1]) ** 2) / reach**2)


def foliage(layer: Layer, cx: float, cy: float, rx: float, ry: float, count: int, size: float, albedo: Colour, lamp: float) -> None:
    """A clump of leaves, darker inside and below, lit by the sky from above and by the lamp from its side."""
    angle, radius = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count))
    radius *= 0.82 + 0.18 * np.sin(angle * 3 + cx) + 0.1 * np.sin(angle * 7 + cy)
    for i, order in enumerate(np.linspace(0, 1, count)):
        ox, oy = np.cos(angle[i]) * radius[i], np.sin(angle[i]) * radius[i]
        x, y = cx + ox * rx, cy + oy * ry
        facing = np.clip(0.5 + 0.5 * (ox * (LAMP[0] - cx) + oy * (LAMP[1] - cy)) / (np.hypot(LAMP[0] - cx, LAMP[1] - cy) + 1), 0, 1)
        light = vec(0.3, 0.36, 0.5) * (0.35 + 0.65 * np.clip(0.5 - 0.7 * oy, 0, 1)) + lamp * facing * lamplight(x, y, 75)
        shade = (0.25 + 0.75 * order) * rng.uniform(0.6, 1.25)
        layer.leaf(x, y, size * rng.uniform(0.7, 1.4), size * 0.5, rng.uniform(0, np.pi), np.asarray(albedo) * light * shade)


# --- The built world --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wall:
    """A flat face: `at` plus multiples of two axes; `place` says which (u, v) of it each pixel of the picture shows."""

    at: Array
    along: Array
    up: Array

    def project(self, u: float, v: float) -> tuple[float, float]:
        """Where a point of the face is in the picture."""
        x, y, z = self.at + u * self.along + v * self.up
        return float(WIDTH / 2 + FOCAL * x / z), float(HORIZON + FOCAL * (EYE_M - y) / z)

    def normal(self) -> Array:
        """The unit normal that faces the camera."""
        n = np.cross(self.along, self.up)
        return np.asarray(n / np.linalg.norm(n) * (-1 if n @ (self.at - vec(0, EYE_M, 0)) > 0 else 1), np.float32)

    def place(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """(u, v) and the point in metres for pixels of the picture."""
        n, eye = np.cross(self.along, self.up), vec(0, EYE_M, 0)
        ray = np.stack(np.broadcast_arrays((x - WIDTH / 2) / FOCAL, (HORIZON - y) / FOCAL, np.float32(1)), -1)
        point = eye + ray * ((n @ (self.at - eye)) / (ray @ n))[..., None]
        dual = np.linalg.pinv(np.stack([self.along, self.up]))
        uv = (point - self.at) @ dual
        return uv[..., 0].astype(np.float32), uv[..., 1].astype(np.float32), point.astype(np.float32)

    def pixel(self, u: float, v: float) -> float:
        """Metres that one pixel of the picture spans at a point of the face."""
        return float((self.at + u * self.along + v * self.up)[2] / FOCAL)


def lit(point: Array, normal: Array, albedo: Array, lights: list[tuple[Array, float]], ambient: float = 1.0) -> Array:
    """The colour of a surface under the evening sky, its afterglow and point lights of a strength."""
    light = vec(0.115, 0.16, 0.28) * ambient * (0.6 + 0.4 * normal[1]) + vec(0.5, 0.26, 0.16) * 0.35 * max(0.0, float(normal[0]))
    total = np.broadcast_to(light, point.shape).copy()
    for position, strength in lights:
        ray = position - point
        distance = np.sqrt((ray**2).sum(-1))
        total += (strength * np.clip((ray @ normal) / distance, 0, 1) / (0.15 + distance**2))[..., None] * np.asarray(
            WARM, np.float32
        )
    return np.asarray(albedo * total)


def stones(u: Array, v: Array) -> tuple[Array, Array]:
    """Irregular stones, about one to each unit square: the width of the joint at a place, and the tone of the stone (0 to 1)."""
    nearest, second, tone = np.full(u.shape, 9, np.float32), np.full(u.shape, 9, np.float32), np.zeros_like(u)
    iu, iv = np.floor(u), np.floor(v)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            a, b = (iu + i).astype(np.int32) & 255, (iv + j).astype(np.int32) & 255
            d = np.hypot(iu + i + 0.2 + 0.6 * LATTICE[a, b] - u, iv + j + 0.2 + 0.6 * LATTICE[b, a] - v)
            tone = np.where(d < nearest, LATTICE[a, (b + 9) & 255], tone)
            second = np.minimum(second, np.maximum(nearest, d))
            nearest = np.minimum(nearest, d)
    return second - nearest, tone


def box_sdf(u: Array, v: Array, u0: float, v0: float, u1: float, v1: float) -> Array:
    """Signed distance to a rectangle."""
    du, dv = np.abs(u - (u0 + u1) / 2) - (u1 - u0) / 2, np.abs(v - (v0 + v1) / 2) - (v1 - v0) / 2
    return np.asarray(np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0), np.float32)


ACROSS, BACK, UP = vec(-0.8, 0, 0.6), vec(0.6, 0, 0.8), vec(0, 1, 0)  # the house's axes
CORNER, GABLE_M, SIDE_M, EAVES_M, RISE_M = vec(-4.2, 0, 13), 6.0, 6.4, 2.7, 2.5
GABLE, SIDE = Wall(CORNER, ACROSS, UP), Wall(CORNER, BACK, UP)
WINDOWS = (  # face, u0, v0, u1, v1, brightness
    (GABLE, 0.8, 0.85, 2.2, 2.15, 1.0),
    (GABLE, 3.8, 0.85, 5.2, 2.15, 0.8),
    (GABLE, 2.5, 3.1, 3.5, 4.15, 0.5),
    (SIDE, 3.5, 0.85, 5.2, 2.15, 1.05),
)
SCONCE = CORNER + 1.05 * BACK + vec(0.8, 0, -0.6) * 0.25 + 2.0 * UP
LIGHTS: list[tuple[Array, float]] = [(vec(*LAMP_M), 4.2), (SCONCE, 1.5)]


def windowlight(point: Array) -> Array:
    """Light that falls through the windows on the ground, as a lamp inside each room casts it."""
    total = np.zeros(point.shape[:-1], np.float32)
    for face, u0, v0, u1, v1, strength in WINDOWS:
        if v0 > 2:
            continue
        n = face.normal()
        room = face.at + (u0 + u1) / 2 * face.along + 2.5 * UP - 1.6 * n
        ray = room - point
        front = (point - face.at) @ n
        cross = point + ray * (front / np.maximum(front + 1.6, 0.1))[..., None] - face.at
        soft = 0.06 + 0.035 * np.maximum(front, 0)
        d = box_sdf(cross @ face.along, cross[..., 1], u0, v0, u1, v1)
        total += np.where(front > 0, strength * np.clip(0.5 - d / soft / 2, 0, 1) * 5 / (1.5 + (ray**2).sum(-1)), 0)
    return total


def paint_window(layer: Layer, face: Wall, u0: float, v0: float, u1: float, v1: float, strength: float) -> None:
    """A lit window with frame, bars, curtains and sill."""
    corners = [face.project(u, v) for u in (u0 - 0.3, u1 + 0.3) for v in (v0 - 0.3, v1 + 0.3)]
    where, x, y = layer.window(*np.min(corners, 0), *np.max(corners, 0))
    u, v, _ = face.place(x, y)
    metre = face.pixel((u0 + u1) / 2, v0)
    s, t = (u - u0) / (u1 - u0), (v - v0) / (v1 - v0)
    room = 0.55 + 0.6 * np.exp(-((s - 0.45) ** 2) * 5 - (t - 0.75) ** 2 * 3) + 0.12 * (fbm(u * 3 + u0 * 9, v * 3, 3) - 0.5)
    room *= 1 - 0.45 * smooth(0.32, 0.26, t) * smooth(0.18, 0.22, np.abs(s - 0.5) + 0.1 * noise(u * 9, v * 9))  # things on the sill
    glow = room[..., None] * vec(1.0, 0.56, 0.2) * 1.45 * strength
    curtain = smooth(0.2, 0.16, np.minimum(s, 1 - s) + 0.05 * t)[..., None]
    glow = glow * (1 - curtain) + curtain * vec(0.95, 0.45, 0.16) * strength * (0.75 + 0.2 * np.sin(s * 95))[..., None]
    layer.paint(where, layer.cover(box_sdf(u, v, u0 - 0.09, v0 - 0.09, u1 + 0.09, v1 + 0.09) / metre), vec(0.16, 0.13, 0.12))
    layer.paint(where, layer.cover(box_sdf(u, v, u0, v0, u1, v1) / metre), glow)
    middle, bar = (u0 + u1) / 2, vec(0.1, 0.07, 0.05)
    layer.paint(where, layer.cover(box_sdf(u, v, middle - 0.035, v0, middle + 0.035, v1) / metre), bar)
    layer.paint(where, layer.cover(box_sdf(u, v, u0, v0 + 0.66 * (v1 - v0), u1, v0 + 0.66 * (v1 - v0) + 0.05) / metre), bar)
    layer.paint(where, layer.cover(box_sdf(u, v, u0 - 0.16, v0 - 0.16, u1 + 0.16, v0 - 0.08) / metre), vec(0.2, 0.15, 0.12))


def paint_house(layer: Layer) -> None:
    """The house: gable and side in plaster, slate roof, chimney, windows and door."""
    where, x, y = layer.window(100, 40, 660, 460)
    slope = ACROSS * GABLE_M / 2 + UP * RISE_M
    length = float(np.linalg.norm(slope))
    # The far slope, seen from below where it overhangs.
    verge = Wall(CORNER + ACROSS * GABLE_M + UP * EAVES_M, BACK, (UP * RISE_M - ACROSS * GABLE_M / 2) / length)
    u, v, _ = verge.place(x, y)
    layer.paint(where, layer.cover(box_sdf(u, v, -0.28, -0.4, 0.2, length) / verge.pixel(0, 1)), vec(0.03, 0.028, 0.035))
    for face, width, albedo in ((SIDE, SIDE_M, vec(0.5, 0.44, 0.4)), (GABLE, GABLE_M, vec(0.5, 0.46, 0.43))):
        u, v, point = face.place(x, y)
        top = EAVES_M + (RISE_M * (1 - np.abs(u - GABLE_M / 2) / (GABLE_M / 2)) if face is GABLE else np.float32(0))
        d = np.maximum(np.maximum(-u, u - width), np.maximum(-v, v - top))
        plaster = albedo * (0.86 + 0.2 * fbm(u * 2.5, v * 2.5, 4) + 0.08 * noise(u * 30, v * 30))[..., None]
        plaster *= (0.6 + 0.4 * smooth(0, 0.5, v) * smooth(0, 0.7, top - v))[..., None]  # darker at the foot and under the eaves
        plinth = np.clip(0.5 - (v - 0.35) / face.pixel(2, 0), 0, 1)[..., None]
        colour = lit(point, face.normal(), plaster * (1 - plinth) + plinth * vec(0.2, 0.19, 0.19), LIGHTS)
        layer.paint(where, layer.cover(d / face.pixel(width / 2, 1)), colour)
    roof = Wall(CORNER + UP * (EAVES_M + 0.06), BACK, slope / length)
    u, v, point = roof.place(x, y)
    row = np.floor(v / 0.26)
    tile = np.floor(u / 0.34 + 0.5 * (row % 2))
    albedo = 0.17 + 0.09 * noise(tile * 7.3, row * 3.7) + 0.05 * fbm(u, v, 3)
    albedo *= 0.72 + 0.28 * smooth(0.0, 0.35, v / 0.26 - row) * smooth(0, 0.1, np.abs((u / 0.34 + 0.5 * (row % 2)) % 1 - 0.02))
    d = np.maximum(np.maximum(-0.28 - u, u - SIDE_M - 0.28), np.maximum(-0.4 - v, v - length))
    colour = lit(point, roof.normal(), albedo[..., None] * vec(1, 0.97, 1.05), LIGHTS, 1.5)
    layer.paint(where, layer.cover(d / roof.pixel(3, 1.5)), colour)
    gutter = np.maximum(np.maximum(-0.3 - u, u - SIDE_M - 0.3), np.abs(v + 0.42) - 0.06)
    layer.paint(where, layer.cover(gutter / roof.pixel(3, 0)), vec(0.035, 0.035, 0.045))
    boards = Wall(CORNER - 0.28 * BACK, ACROSS, UP)
    u, v, point = boards.place(x, y)
    off = np.abs(u - GABLE_M / 2)
    rake = np.abs(v - EAVES_M - RISE_M * (1 - off / (GABLE_M / 2)) + 0.06) - 0.13
    colour = lit(point, boards.normal(), vec(0.16, 0.15, 0.16), LIGHTS)
    layer.paint(where, layer.cover(np.maximum(rake, off - GABLE_M / 2 - 0.32) / boards.pixel(3, 4)), colour)
    foot = CORNER + ACROSS * (GABLE_M / 2 - 0.35) + BACK * 3.4 + UP * (EAVES_M + RISE_M - 0.5)
    for face, width in ((Wall(foot, BACK, UP), 0.8), (Wall(foot, ACROSS, UP), 0.7)):
        u, v, point = face.place(x, y)
        brick = 0.22 + 0.1 * noise(np.floor(u / 0.2 + 0.5 * (np.floor(v / 0.1) % 2)) * 5.1, np.floor(v / 0.1) * 3.3)
        colour = lit(point, face.normal(), brick[..., None] * vec(1.0, 0.62, 0.5), LIGHTS)
        layer.paint(where, layer.cover(box_sdf(u, v, 0, -0.6, width, 1.35) / face.pixel(0, 1)), colour)
        layer.paint(where, layer.cover(box_sdf(u, v, -0.06, 1.25, width + 0.06, 1.4) / face.pixel(0, 1)), colour * 0.6)
    u, v, point = SIDE.place(x, y)
    metre, boards_gap = SIDE.pixel(1.8, 1), smooth(0.0, 0.08, np.abs((u * 6) % 1 - 0.5))[..., None]
    layer.paint(where, layer.cover(box_sdf(u, v, 1.25, 0, 2.5, 2.25) / metre), vec(0.2, 0.16, 0.13))
    door = lit(point, SIDE.normal(), vec(0.1, 0.2, 0.2) * (0.6 + 0.4 * boards_gap), LIGHTS)
    layer.paint(where, layer.cover(box_sdf(u, v, 1.37, 0, 2.38, 2.13) / metre), door)
    layer.paint(where, layer.cover(box_sdf(u, v, 1.6, 1.35, 2.15, 1.9) / metre), vec(1.0, 0.58, 0.22) * 1.5)
    layer.paint(where, layer.cover((np.abs(u - 1.875) - 0.025) / metre) * (v > 1.35) * (v < 1.9), vec(0.06, 0.07, 0.07))
    for window in WINDOWS:
        paint_window(layer, *window)
    cx, cy = WIDTH / 2 + FOCAL * SCONCE[0] / SCONCE[2], HORIZON + FOCAL * (EYE_M - SCONCE[1]) / SCONCE[2]
    layer.leaf(cx, cy, 4.5, 3.2, np.pi / 2, vec(1.0, 0.72, 0.4) * 3.5)


def path_x(z: Array) -> Array:
    """The middle of the path, metres, at a distance from the camera."""
    return np.asarray(0.3 + 0.35 * np.sin(z * 0.55) - 3.65 * smooth(6, 14.8, z), np.float32)


def paint_ground(layer: Layer) -> None:
    """Lawn, meadow and the flagstone path, with the light of lamp and windows on them."""
    where, x, y = layer.window(0, HORIZON + 6, WIDTH, HEIGHT)
    z = EYE_M * FOCAL / (y - HORIZON)
    px, pz = np.broadcast_arrays((x - WIDTH / 2) / FOCAL * z, z)
    point = np.stack([px, np.zeros_like(px), pz], -1)
    blade = z * z / (EYE_M * FOCAL)  # metres of depth in one pixel: finer noise than this would only alias
    texture = np.zeros_like(px)
    for frequency, weight in ((0.3, 0.5), (1.1, 0.35), (4.0, 0.35), (13.0, 0.6), (34.0, 0.6)):
        texture += weight * np.clip(1.6 - frequency * blade, 0, 1) * (noise(px * frequency * 1.6 + 40, pz * frequency) - 0.5)
    stripe = smooth(-0.25, 0.25, np.sin((px + 0.42 * pz) * 2.6)) - 0.5
    green = vec(0.14, 0.225, 0.075) + stripe[..., None] * vec(0.018, 0.03, 0.008)
    green = green * np.clip(1 + texture, 0.25, 2)[..., None]
    off = np.abs(px - path_x(pz)) - 0.62 + 0.14 * (noise(px * 3, pz * 3) - 0.5)
    gap, tone = stones((px - path_x(pz)) / 0.52, pz / 0.5)
    joint = smooth(0.03, 0.13, gap)
    stone = (joint * (0.2 + 0.12 * tone + 0.1 * texture))[..., None] * vec(1.0, 0.96, 0.92) + (1 - joint)[..., None] * green * 0.55
    on = np.clip(0.5 - off / 0.05 / (1 + blade * 3), 0, 1)[..., None]
    albedo = green * (1 - on) + stone * on
    colour = lit(point, UP, albedo, LIGHTS, 1.25) + albedo * (windowlight(point) * 2.4)[..., None] * np.asarray(WARM, np.float32)
    house = np.maximum(0, np.hypot(px + 5.2, (pz - 15.5)) - 4.2)  # the house and the wall keep some sky off the ground
    colour *= (1 - 0.5 * np.exp(-house / 0.9))[..., None]
    colour *= (1 - 0.55 * np.exp(-np.abs(pz - WALL_Z_M) / 0.5) * smooth(WALL_LEFT_M - 0.3, WALL_LEFT_M + 0.3, px))[..., None]
    haze = (smooth(16, 110, pz) ** 0.8 * 0.85)[..., None]
    near_sun = np.exp(-(((x - SUN_X) / 420) ** 2))[..., None]
    colour = colour * (1 - haze) + haze * (vec(0.1, 0.095, 0.14) + near_sun * vec(0.26, 0.12, 0.05))
    layer.paint(where, smooth(HORIZON + 5, HORIZON + 17, y) + 0 * px, colour)


def paint_distance(layer: Layer) -> None:
    """Hills in the haze, then the edge of a wood."""
    near_sun = np.exp(-(((layer.window(0, 0, WIDTH, 1)[1] - SUN_X) / 380) ** 2))[..., None]
    for base, height, width, seed, dark in ((236, 110, 330, 3, 0.0), (266, 70, 210, 11, 0.7)):
        where, x, y = layer.window(0, 150, WIDTH, 330)
        top = base - height * (fbm(x / width + seed, np.zeros_like(x) + seed, 4) - 0.42)
        haze = (
            vec(0.12, 0.11, 0.18) * (1 - dark) + vec(0.08, 0.08, 0.12) * dark + near_sun * vec(0.3, 0.1, 0.04) * (1 - 0.45 * dark)
        )
        mist = smooth(0, 75, y - top)[..., None] * 0.4
        layer.paint(
            where, layer.cover(top - y), haze * (1 - mist) + mist * (vec(0.2, 0.16, 0.22) + near_sun * vec(0.36, 0.17, 0.07))
        )
    for row, (y0, size, count) in enumerate(((306, 17, 75), (313, 27, 46))):
        for x0 in np.sort(rng.uniform(-20, WIDTH + 20, count)):
            r = size * rng.uniform(0.6, 1.35)
            shade = (vec(0.075, 0.08, 0.1), vec(0.032, 0.042, 0.05))[row] * rng.uniform(0.85, 1.15)
            shade = shade + vec(0.09, 0.035, 0.015) * np.exp(-(((x0 - SUN_X) / 300) ** 2)) * (0.75 - 0.4 * row)
            where, x, y = layer.window(x0 - 2 * r, y0 - 3.2 * r, x0 + 2 * r, y0 + 12)
            if rng.random() < 0.22:  # a fir
                h = np.clip((y - (y0 - 2.6 * r)) / (2.6 * r), 0, 1.2)
                d = np.abs(x - x0) - r * 0.62 * h * (0.72 + 0.4 * ((h * 7) % 1)) + 1.2 * (noise(x / 2, y / 2) - 0.5)
                d = np.maximum(d, y0 - 2.6 * r - y)
            else:
                rough = 0.5 * r * (fbm(x / r * 2.2 + x0, y / r * 2.2, 4) - 0.5)
                d = np.hypot((x - x0) * 0.95, y - (y0 - r * 0.75)) - r + 2.2 * rough
                d = np.minimum(d, y0 - 4 - y + 3 * noise(x / 3 + x0, y / 3))
            relief = 0.82 + 0.3 * fbm(x / 4 + x0, y / 4, 3) + 0.2 * (y0 - r - y) / r
            layer.paint(where, layer.cover(d) * smooth(y0 + 12, y0 + 4, y), shade * np.clip(relief, 0.6, 1.4)[..., None])


def paint_mist(layer: Layer) -> None:
    """Mist that lies on the meadow, before the wood."""
    where, x, y = layer.window(0, 260, WIDTH, 360)
    wisps = 0.5 + 0.9 * fbm(x / 130, y / 14, 4)
    mist = np.exp(-(((y - 312) / np.where(y < 312, 15, 19)) ** 2)) * 0.62 * wisps
    layer.paint(
        where,
        np.clip(mist, 0, 0.85),
        vec(0.15, 0.125, 0.17) + np.exp(-(((x - SUN_X) / 330) ** 2))[..., None] * vec(0.36, 0.17, 0.07),
    )


def paint_stone_wall(layer: Layer) -> None:
    """The dry stone wall that the cat walks on."""
    face = Wall(vec(WALL_LEFT_M, 0, WALL_Z_M), vec(1, 0, 0), UP)
    where, x, y = layer.window(700, 350, WIDTH, 500)
    u, v, point = face.place(x, y)
    metre = face.pixel(0, 0)
    su, sv = u / 0.36 + 0.25 * (noise(u * 4, v * 4) - 0.5), v / 0.17 + 0.3 * (noise(u * 3 + 9, v * 4) - 0.5)
    gap, tone = stones(su, sv)
    relief = smooth(0.02, 0.3, gap + 0.1 * (fbm(u * 14, v * 14, 3) - 0.5)) * (0.75 + 0.35 * tone)
    albedo = (0.03 + relief * (0.12 + 0.22 * tone + 0.2 * fbm(u * 7, v * 7, 4)))[..., None] * vec(1.0, 0.94, 0.86)
    moss = smooth(0.56, 0.72, fbm(u * 1.3 + 5, v * 2, 4) + 0.12 * (1 - v))[..., None]
    albedo = albedo * (1 - 0.7 * moss) + 0.7 * moss * vec(0.1, 0.15, 0.05)
    layer.paint(
        where,
        layer.cover(np.maximum(-u, v - WALL_TOP_M + 0.03) / metre) * (v > -0.02),
        lit(point, vec(0, 0, -1), albedo, LIGHTS, 1.2),
    )
    slab = u / 0.62 + 0.5 * (noise(u * 0.8, 0 * u) - 0.5)
    joint = 0.45 + 0.55 * smooth(0.494, 0.475, np.abs(slab % 1 - 0.5))
    stone = (joint * (0.24 + 0.14 * noise(np.floor(slab) * 3.7, 0 * u) + 0.16 * fbm(u * 5, v * 9, 4)))[..., None] * vec(
        1, 0.96, 0.9
    )
    edge = np.maximum(np.abs(v - WALL_TOP_M + 0.045) - 0.055, -0.06 - u) + 0.012 * (noise(u * 7, 0 * v) - 0.5)
    top = smooth(WALL_TOP_M - 0.025, WALL_TOP_M, v)[..., None]
    layer.paint(
        where, layer.cover(edge / metre), lit(point, vec(0, 0, -1), stone, LIGHTS, 1.3) + top * stone * vec(0.34, 0.25, 0.27)
    )


BULBS = [(526 + 500 * t, 157 - 14 * t + 4 * 64 * t * (1 - t)) for t in np.linspace(0.06, 0.98, 12)]


def paint_string(layer: Layer) -> None:
    """The cable of the string of lights, and its bulbs."""
    points = [(526 + 500 * t, 153 - 14 * t + 4 * 64 * t * (1 - t)) for t in np.linspace(0, 1, 41)]
    for start, end in itertools.pairwise(points):
        layer.stroke(start, end, 0.6, 0.6, vec(0.02, 0.02, 0.025))
    for x, y in BULBS:
        layer.stroke((x, y - 4), (x, y - 1.5), 1.2, 1.2, vec(0.02, 0.02, 0.025))
        layer.leaf(x, y + 1.6, 3.6, 2.8, np.pi / 2, vec(1.0, 0.74, 0.42) * 3)


def paint_back() -> Layer:
    """All that is still, and behind the cat."""
    layer = Layer()
    paint_distance(layer)
    paint_ground(layer)
    paint_mist(layer)
    for cx, cy, rx, ry, n in ((70, 300, 105, 92, 1500), (20, 250, 80, 100, 900), (130, 352, 62, 60, 700)):  # beside the house
        foliage(layer, cx, cy, rx, ry, n, 6.5, (0.085, 0.12, 0.085), 0.3)
    paint_house(layer)
    beds = (
        (176, 402, 34, 19),
        (236, 409, 38, 20),
        (300, 419, 38, 21),
        (350, 424, 26, 18),
        (396, 416, 20, 14),
        (530, 402, 36, 15),
        (590, 392, 38, 19),
        (640, 386, 30, 22),
    )
    for cx, cy, rx, ry in beds:
        layer.shadow(cx, cy + ry * 0.85, rx * 1.3, ry * 0.6, 0.6)
        foliage(layer, cx, cy, rx, ry, 420, 3.2, (0.13, 0.19, 0.1), 1.2)
        for _ in range(16):
            tint = (vec(0.5, 0.3, 0.55), vec(0.5, 0.48, 0.5), vec(0.55, 0.22, 0.3))[int(rng.integers(3))]
            layer.leaf(cx + rng.normal() * rx * 0.42, cy - ry * 0.25 + rng.normal() * ry * 0.33, 2.3, 1.9, 0, tint * 0.55)
    paint_stone_wall(layer)
    paint_string(layer)
    return layer


def grow(
    layer: Layer, x: float, y: float, angle: float, length: float, radius: float, depth: int, tips: list[tuple[float, float]]
) -> None:
    """A branch and what grows from it; the ends of the twigs are collected."""
    bend = angle + rng.normal() * 0.12
    ends = (x + np.cos(bend) * length, y - np.sin(bend) * length)
    layer.stroke((x, y), ends, radius, radius * 0.65, vec(0.016, 0.015, 0.018))
    for _ in range(int(length * radius / 7)):  # bark, lit from the lamp's side
        k, side = bark.uniform(-0.06, 0.92), bark.random()
        across = (side * 1.7 - 0.85) * radius * (1 - 0.35 * k)
        a = (x + (ends[0] - x) * k + across * np.sin(bend), y + (ends[1] - y) * k + across * np.cos(bend))
        b = (a[0] + (ends[0] - x) * 0.08, a[1] + (ends[1] - y) * 0.08)
        shade = (vec(0.026, 0.023, 0.026) + (1 - side) ** 2 * 0.2 * lamplight(*a, 200)) * bark.uniform(0.5, 1.1)
        layer.stroke(a, b, 1.1, 0.6, shade)
    if depth < 3:
        tips.append(ends)
    if depth:
        for spread in (rng.uniform(0.25, 0.6), -rng.uniform(0.25, 0.6), *((rng.normal() * 0.2,) if rng.random() < 0.5 else ())):
            grow(layer, *ends, bend + spread, length * rng.uniform(0.66, 0.86), radius * 0.62, depth - 1, tips)


def paint_lamp(layer: Layer) -> None:
    """The lantern on its post."""
    x, y = LAMP
    iron = vec(0.02, 0.02, 0.022)
    foot = HORIZON + FOCAL * EYE_M / LAMP_M[2]
    layer.shadow(x, foot, 22, 5, 0.7)
    layer.stroke((x, y + 18), (x, foot), 2.2, 3.2, iron)
    layer.stroke((x - 1.2, y + 24), (x - 1.6, foot - 4), 0.4, 0.6, vec(0.09, 0.06, 0.04))
    layer.stroke((x, foot - 10), (x, foot), 4.2, 5.5, iron)
    layer.stroke((x, y + 20), (x, y + 23), 4, 4, iron)
    where, gx, gy = layer.window(x - 20, y - 40, x + 20, y + 24)
    half = 8.5 - 3.5 * (gy - y + 13) / 28
    glass = np.maximum(np.abs(gx - x) - half, np.abs(gy - y - 1) - 14)
    core = np.exp(-(((gx - x) / 5) ** 2) - ((gy - y - 1) / 8) ** 2)[..., None]
    layer.paint(where, layer.cover(glass), vec(1.0, 0.6, 0.24) * 2 + core * vec(1, 0.85, 0.6) * 6)
    layer.paint(where, layer.cover(np.maximum(np.abs(glass) - 0.9, np.abs(gy - y - 1) - 15)), iron)
    layer.paint(where, layer.cover(np.maximum(np.abs(gx - x) - 0.5, np.abs(gy - y - 1) - 14)), iron)
    roof = np.maximum(np.abs(gx - x) - 12 * np.clip((gy - y + 26) / 13, 0, 1), np.abs(gy - y + 19.5) - 6.5)
    layer.paint(where, layer.cover(roof), iron)
    layer.stroke((x, y - 29), (x, y - 24), 1.6, 1.6, iron)


def paint_front() -> Layer:
    """All that is before the cat: shrub, lamp, tree, grass and flowers."""
    layer = Layer()
    for cx, cy, rx, ry, n in ((752, 428, 52, 62, 2300), (706, 452, 36, 36, 1000), (800, 452, 40, 36, 1000)):
        layer.shadow(cx, cy + ry * 0.9, rx * 1.25, ry * 0.35, 0.7)
        foliage(layer, cx, cy, rx, ry, n, 4.0, (0.14, 0.2, 0.085), 2.2)
    for x0 in rng.uniform(835, 1270, 26):  # what grows at the foot of the wall
        foliage(layer, x0, 478 + rng.normal() * 3, 22, 15 + rng.random() * 10, 150, 3.4, (0.13, 0.19, 0.09), 2.2)
        for _ in range(7):
            tint = (vec(0.5, 0.28, 0.6), vec(0.62, 0.6, 0.62), vec(0.66, 0.25, 0.3))[int(rng.integers(3))]
            light = vec(0.4, 0.4, 0.5) + 1.5 * lamplight(x0, 470, 110)
            layer.leaf(x0 + rng.normal() * 14, 468 + rng.normal() * 7, 2.6, 2.2, 0, tint * light)
    paint_lamp(layer)
    tips: list[tuple[float, float]] = []
    layer.shadow(1172, 566, 95, 14, 0.75)
    layer.stroke((1172, 545), (1163, 400), 29, 19, vec(0.016, 0.015, 0.018))
    for root in (-46, -30, -12, 14, 32, 44):
        layer.stroke((1172 + root * 0.45, 535), (1172 + root, 567 + 3 * np.cos(root)), 13, 4, vec(0.016, 0.015, 0.018))
    for k in np.linspace(0, 1, 40):  # bark
        y0 = 566 - 190 * k
        edge = 1171 - 9 * k - (28 - 11 * k)
        for _ in range(7):
            t = rng.random()
            shade = vec(0.028, 0.025, 0.028) + (1 - t) ** 2 * 0.28 * lamplight(edge, y0, 240)
            x0 = edge + t * 1.85 * (28 - 11 * k)
            layer.stroke((x0, y0), (x0 + rng.normal() * 1.5, y0 - rng.uniform(8, 20)), 1.3, 0.7, shade * rng.uniform(0.5, 1.1))
    for x0 in rng.uniform(1118, 1228, 170):  # grass about its foot
        y0 = 574 + rng.uniform(-3, 7)
        green = vec(0.06, 0.1, 0.035) * (vec(0.28, 0.35, 0.42) + 1.6 * lamplight(x0, y0, 240)) * rng.uniform(0.6, 1.2)
        layer.stroke((x0, y0), (x0 + rng.normal() * 5, y0 - rng.uniform(8, 22)), 1.5, 0.5, green)
    for angle, length, radius in ((1.2, 125, 14), (2.12, 135, 13), (1.66, 150, 13), (0.75, 95, 9)):
        grow(layer, 1163, 402, angle, length, radius, 4, tips)
    for tx, ty in tips:
        if ty < 265:
            foliage(layer, tx, ty, 38, 26, 130, 4.9, (0.085, 0.12, 0.06), 0.9)
    blades = [(x, rng.random()) for x in rng.uniform(-20, WIDTH + 20, 2300)]
    for x0, depth in sorted(blades, key=lambda blade: blade[1]):
        side = abs(x0 - 660) / 640
        y0 = 700 + 50 * depth
        length = (16 + 74 * side**1.7) * rng.uniform(0.6, 1.35) * (0.7 + 0.5 * depth)
        lean = rng.normal() * 0.3 + (0.25 if x0 < 660 else -0.25)
        points = [(x0 + lean * length * k * k, y0 - length * k) for k in (0, 0.3, 0.55, 0.8, 1)]
        light = vec(0.3, 0.37, 0.46) + 2.4 * lamplight(x0, y0 - length, 150)
        green = vec(0.07, 0.115, 0.04) * rng.uniform(0.7, 1.3) * (0.35 + 0.65 * depth)
        for i, (a, b) in enumerate(itertools.pairwise(points)):
            layer.stroke(a, b, 2.3 - 0.55 * i, 1.75 - 0.5 * i, green * light * (0.5 + 0.4 * i))
        if side > 0.28 and rng.random() < 0.075:  # lavender
            hx, hy = points[-1]
            for j in range(9):
                tint = vec(0.24, 0.15, 0.42) * light * rng.uniform(0.7, 1.5)
                layer.leaf(hx + rng.normal() * 1.6 - lean * j * 1.5, hy - 18 + j * 3.4, 3.1, 2.2, rng.uniform(0, 3), tint)
    return layer


# --- What moves -------------------------------------------------------------------------------------------------------------------


def turn(t: float, count: int, phase: Array | float = 0.0) -> Array:
    """The angle, radians, of something that turns `count` times in the clip."""
    return np.asarray(2 * np.pi * (count * t / LENGTH_S + phase), np.float32)


class Sky:
    """Gradient, afterglow, moon and stars, with clouds that drift."""

    def __init__(self) -> None:
        self.rows = 330
        x = np.arange(WIDTH, dtype=np.float32)[None, :] + 0.5
        y = np.arange(self.rows, dtype=np.float32)[:, None] + 0.5
        height = np.clip((HORIZON - y) / HORIZON, 0, 1)
        stops = (0, 0.1, 0.24, 0.42, 0.68, 1)
        sun = (
            (1.7, 0.62, 0.12),
            (1.45, 0.5, 0.15),
            (0.72, 0.31, 0.25),
            (0.2, 0.2, 0.31),
            (0.075, 0.115, 0.235),
            (0.028, 0.055, 0.14),
        )
        away = (
            (0.42, 0.24, 0.25),
            (0.36, 0.22, 0.28),
            (0.22, 0.19, 0.3),
            (0.12, 0.15, 0.28),
            (0.055, 0.09, 0.2),
            (0.022, 0.045, 0.12),
        )
        near = np.exp(-(((x - SUN_X) / 520) ** 2))[..., None]
        columns = [np.stack([np.interp(height, stops, [c[i] for c in side]) for i in range(3)], -1) for side in (sun, away)]
        self.base = (columns[0] * near + columns[1] * (1 - near)).astype(np.float32)
        self.glow = (near[..., 0] * np.exp(-height * 3.2)).astype(np.float32)
        self.stars = [(rng.uniform(0, WIDTH), rng.uniform(0, 150), rng.uniform(0.1, 0.4), rng.random()) for _ in range(60)]
        # The clouds are a flat sheet seen from below, sampled at half resolution.
        hx, hy = x[:, ::2], y[::2]
        far = 1 / (np.maximum(HORIZON - hy, 0) / HORIZON + 0.16)
        self.u, self.v = (hx - SUN_X) / 560 * far + 50, far * 1.9 + 0 * hx
        self.fade = smooth(6.0, 4.2, far) + 0 * hx
        self.sheet = fbm(*np.meshgrid(np.arange(1400, dtype=np.float32) / 64, np.arange(900, dtype=np.float32) / 64), 6)
        mx, my = 742.0, 84.0
        disc = np.clip(15.5 - np.hypot(x - mx, y - my), 0, 1) * np.clip(np.hypot(x - mx + 6.5, y - my + 4.5) - 13.6, 0, 1)
        halo = 0.1 / (1 + (np.hypot(x - mx, y - my) / 26) ** 2)
        self.moon = disc[..., None] * vec(1.5, 1.4, 1.2) + halo[..., None] * vec(0.7, 0.75, 1.0)
        self.moon_clear = disc

    def sample(self, shift: float) -> Array:
        """The sheet of clouds, moved."""
        x, y = (self.u - 44 + shift) * 64 * 1.15 % 1398, self.v * 64 % 898
        sheet, xi, yi = self.sheet, x.astype(np.int32), y.astype(np.int32)
        fx, fy = x - xi, y - yi
        top = sheet[yi, xi] * (1 - fx) + sheet[yi, xi + 1] * fx
        return np.asarray(top * (1 - fy) + (sheet[yi + 1, xi] * (1 - fx) + sheet[yi + 1, xi + 1] * fx) * fy, np.float32)

    def at(self, t: float) -> Array:
        """The sky at a time: the sheet drifts twice, half a turn apart, and each starts again while it cannot be seen."""
        phase = t / LENGTH_S
        weight = 0.5 + 0.5 * np.cos(2 * np.pi * phase)
        drift = 0.26
        first, second = self.sample(((phase + 0.5) % 1 - 0.5) * drift), self.sample((phase % 1 - 0.5) * drift)
        density = first * weight + second * (1 - weight)
        half = smooth(0.4, 0.66, density) * self.fade
        cloud = np.repeat(np.repeat(half, 2, 0), 2, 1)
        cloud[1:-1, 1:-1] = (cloud[:-2, 1:-1] + cloud[2:, 1:-1] + cloud[1:-1, :-2] + cloud[1:-1, 2:]) / 4
        cloud = cloud[: self.rows]
        picture = self.base.copy()
        for x, y, size, offset in self.stars:
            picture[int(y), int(x)] += size * (0.75 + 0.25 * np.sin(turn(t, 3, offset))) * (1 - y / 170)
        picture += self.moon * (1 - 0.6 * cloud)[..., None]
        lit_below = vec(0.2, 0.15, 0.22) + self.glow[..., None] * vec(1.5, 0.45, 0.15)
        cover = (cloud * 0.62)[..., None]
        return np.asarray(picture * (1 - cover) + cover * (0.35 * picture + lit_below * (1 - 0.25 * cover)), np.float32)


CHIMNEY = (422.0, 83.0)


def add_smoke(picture: Array, t: float) -> None:
    """Puffs that rise from the chimney, widen and fade."""
    for i in range(18):
        age = (2 * t / LENGTH_S + i / 18) % 1
        x0 = CHIMNEY[0] + 70 * age**1.4 + 6 * np.sin(age * 9 + i * 2.4)
        y0, r = CHIMNEY[1] - 95 * age**0.85, 4 + 22 * age
        x_from, x_to = int(x0 - 2.5 * r), int(x0 + 2.5 * r)
        y_from, y_to = max(0, int(y0 - 2.5 * r)), int(min(y0 + 2.5 * r, CHIMNEY[1] + 2))
        if y_to <= y_from:
            continue
        x, y = np.arange(x_from, x_to)[None, :] + 0.5, np.arange(y_from, y_to)[:, None] + 0.5
        alpha = 0.2 * (1 - age) ** 1.3 * min(1.0, age * 12) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / r**2)
        part = picture[y_from:y_to, x_from:x_to]
        part += alpha[..., None].astype(np.float32) * (vec(0.36, 0.3, 0.36) - part)


def cat_at(t: float) -> tuple[float, float]:
    """Where the cat is, metres to the right of the camera, and how much it stands still (0 to 1): it comes, looks, and goes."""
    start, stop, go = 0.9, 6.4, 8.3
    speed = 0.85

    def ramp(s: float) -> float:  # metres walked s seconds after setting off, with a soft start
        return speed * (s - 0.35 * (1 - np.exp(-s / 0.35))) if s > 0 else 0.0

    total = ramp(stop - start)
    walked = total - ramp(stop - t) if t < stop else total + ramp(t - go)
    still = float(smooth(stop - 0.5, stop, t) * smooth(go + 0.4, go, t))
    return 7.55 - walked, still


def add_cat(picture: Array, t: float) -> None:
    """The cat on the wall: it walks to the left, and leaps down behind the wall."""
    place, still = cat_at(t)
    leap = np.clip((t - 9.9) / 0.8, 0, 1)
    if leap >= 1:
        return
    stretch, pitch = float(smooth(0, 0.2, leap)), float(0.5 * smooth(0, 0.2, leap) - 1.5 * smooth(0.12, 0.75, leap))
    unit = FOCAL / WALL_Z_M * 1.45  # a stately cat
    x0, y0 = WIDTH / 2 + FOCAL * place / (WALL_Z_M + 0.2), HORIZON + FOCAL * (EYE_M - WALL_TOP_M) / (WALL_Z_M + 0.1) + 1
    if not -80 < x0 < WIDTH + 80:
        return
    left, right = max(0.0, x0 - 110), min(float(WIDTH), x0 + 90)
    if right - left < 2:
        return
    layer = Layer(3, (left, y0 - 110, right, y0 + 6))
    where, px, py = layer.window(left, y0 - 110, right, y0 + (6 if leap == 0 else -1))
    x, y = (x0 - px) / unit, (y0 - py) / unit - 0.75 * leap + 2.1 * leap**2  # cat's metres: ahead and up
    dx, dy, cos, sin = x - 0.25 * leap, y - 0.2, np.cos(pitch), np.sin(pitch)
    x, y = dx * cos + dy * sin, dy * cos - dx * sin + 0.2
    step = 2 * np.pi * place / 0.44
    bob = 0.006 * float(np.sin(2 * step)) * (1 - still)
    parts: list[tuple[Array, float]] = []

    def limb(points: list[tuple[float, float]], radii: list[float], blend: float) -> None:
        for (a, b), (ra, rb) in zip(itertools.pairwise(points), itertools.pairwise(radii), strict=False):
            parts.append((capsule(x, y, a, b, ra, rb), blend))

    for hip, phase in ((-0.155, 0.0), (-0.14, np.pi), (0.14, 1.4), (0.155, 1.4 + np.pi)):
        walking = (1 - still) * (1 - stretch)
        swing = np.sin(step + phase) * walking + (0.2 * still + stretch) * np.sign(hip)
        lift = max(0.0, float(np.cos(step + phase))) * 0.035 * walking
        foot = (hip + 0.085 * swing, 0.014 + lift)
        knee = (hip + 0.045 * swing + (-0.03 if hip < 0 else 0.012), 0.1 + lift * 0.7)
        limb([(hip, 0.2 + bob), knee, foot, (foot[0] + 0.022, foot[1])], [0.05, 0.022, 0.016, 0.014], 0.02)
    limb([(-0.17, 0.225 + bob), (0.0, 0.212 + bob), (0.16, 0.228 + bob)], [0.068, 0.066, 0.066], 0.03)
    head = (0.275 - 0.02 * still, 0.315 + bob + 0.015 * still)
    limb([(0.17, 0.245 + bob), head], [0.055, 0.04], 0.03)
    limb([head, (head[0] + 0.03 * (1 - still), head[1] - 0.012)], [0.054, 0.034 + 0.02 * still], 0.012)
    wave = float(np.sin(turn(t, 7)) * 0.5 + np.sin(turn(t, 4)) * 0.5)
    tail = [
        (-0.21 - 0.14 * k - 0.05 * np.sin(3 * k), 0.24 + bob + 0.27 * k**1.7 + 0.035 * wave * np.sin(3.2 * k))
        for k in np.linspace(0, 1, 9)
    ]
    tail = [(a - 0.03 * wave * k**2 + 0.06 * k**3, b) for (a, b), k in zip(tail, np.linspace(0, 1, 9), strict=False)]
    limb(tail, [0.028, 0.024, 0.022, 0.021, 0.02, 0.02, 0.02, 0.018, 0.014], 0.01)
    d = np.full(x.shape, 9, np.float32)
    for part, blend in parts:
        mix = np.clip(0.5 + 0.5 * (d - part) / blend, 0, 1)
        d = d + (part - d) * mix - blend * mix * (1 - mix)
    for side in (-1, 1):  # ears: both seen when it looks at us
        cx = head[0] + side * (0.012 + 0.022 * still) - 0.008
        ear = np.maximum(
            (np.abs(x - cx - side * 0.006) - 0.031 * np.clip((head[1] + 0.092 - y) / 0.06, 0, 1.2)), head[1] + 0.02 - y
        )
        d = np.minimum(d, np.maximum(ear, y - head[1] - 0.092))
    gy, gx = np.gradient(d * unit * layer.scale)
    rim = smooth(-0.05, -0.004, d)
    warm = np.clip(-gx, 0, 1) * rim * lamplight(x0, y0 - 20, 220)[0]
    fur = (
        vec(0.008, 0.007, 0.009)
        + (np.clip(-gy, 0, 1) * rim)[..., None] * vec(0.06, 0.042, 0.045)
        + warm[..., None] * vec(0.17, 0.085, 0.035)
    )
    layer.paint(where, layer.cover(d * unit), fur)
    if still > 0.05 and not 7.5 < t < 7.62:  # eyes shine, with one blink
        for side in (-1, 1):
            eye = np.hypot(x - head[0] - side * 0.021, (y - head[1] - 0.004) * 1.2) - 0.009
            layer.paint(where, layer.cover(eye * unit) * still, vec(0.75, 0.95, 0.35) * 1.1)
    image = layer.reduced()
    part = picture[layer.top : layer.top + image.shape[0], layer.left : layer.left + image.shape[1]]
    part *= 1 - image[..., 3:]
    part += image[..., :3]


class Sway:
    """The front layer, bent by the wind: more at the tips of grass and twigs, not at all at trunk and lamp."""

    def __init__(self, rgba: Array) -> None:
        self.rgba = rgba
        x, y = np.arange(WIDTH, dtype=np.float32)[None, :], np.arange(HEIGHT, dtype=np.float32)[:, None]
        grass = np.clip((HEIGHT + 10 - y) / 110, 0, 1) ** 1.5 * smooth(560, 610, y) * 6.5
        crown = smooth(330, 120, y) * smooth(40, 240, np.hypot(x - 1163, y - 400)) * smooth(860, 930, x) * 2.6
        self.reach = grass + crown
        self.x, self.y = x, y

    def at(self, t: float) -> Array:
        """The layer at a time, gusts travelling to the right."""
        wind = 0.55 * np.sin(turn(t, 2) - self.x * 0.006) + 0.3 * np.sin(turn(t, 5) - self.x * 0.017 + self.y * 0.011)
        wind = wind + 0.2 * np.sin(turn(t, 9) - self.x * 0.041 - self.y * 0.02)
        source = np.clip(self.x - self.reach * wind, 0, WIDTH - 1.001)
        xi = source.astype(np.int32)
        f = (source - xi)[..., None]
        rows = np.arange(HEIGHT)[:, None]
        return np.asarray(self.rgba[rows, xi] * (1 - f) + self.rgba[rows, xi + 1] * f, np.float32)


FLIES = [
    (
        rng.uniform(60, 1230),
        rng.uniform(400, 650),
        rng.uniform(20, 75, 2),
        rng.integers(1, 3, 4),
        rng.random(6),
        int(rng.integers(2, 5)),
    )
    for _ in range(26)
]


def add_fireflies(picture: Array, t: float) -> None:
    """Points of light that wander and blink."""
    for x0, y0, reach, counts, phase, blinks in FLIES:
        glow = max(0.0, float(np.sin(turn(t, blinks, phase[4])))) ** 2
        if glow < 0.01:
            continue
        x = x0 + reach[0] * (np.sin(turn(t, counts[0], phase[0])) + 0.4 * np.sin(turn(t, counts[1] + 1, phase[1])))
        y = y0 + 0.5 * reach[1] * (np.sin(turn(t, counts[2], phase[2])) + 0.4 * np.sin(turn(t, counts[3] + 1, phase[3])))
        size = 0.7 + 0.7 * (y - 380) / 280
        x_from, x_to, y_from, y_to = max(0, int(x) - 24), min(WIDTH, int(x) + 25), int(y) - 24, min(HEIGHT, int(y) + 25)
        if x_to <= x_from:
            continue
        gx, gy = np.arange(x_from, x_to)[None, :] + 0.5, np.arange(y_from, y_to)[:, None] + 0.5
        r2 = ((gx - x) ** 2 + (gy - y) ** 2) / size**2
        light = glow * (3.2 * np.exp(-r2 / 3) + 0.2 * np.exp(-r2 / 60))
        picture[y_from:y_to, x_from:x_to] += light[..., None].astype(np.float32) * vec(0.85, 1.0, 0.35)


class Scene:
    """The whole picture."""

    def __init__(self) -> None:
        self.sky = Sky()
        self.back = paint_back().reduced()
        self.front = Sway(paint_front().reduced())
        still = self.compose(0.0)
        bright = np.maximum(still - 0.9, 0) * (np.arange(HEIGHT)[:, None, None] > 20)
        bright[:300, 650:] *= still[:300, 650:, :1] > 2.2  # the sky does not bloom
        x, y = np.arange(WIDTH, dtype=np.float32)[None, :] + 0.5, np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5
        self.bloom = 0.35 * blur(bright, 4) + 0.45 * blur(bright, 16) + 0.5 * blur(bright, 55)
        self.halo = (0.22 / (1 + (np.hypot(x - LAMP[0], y - LAMP[1]) / 42) ** 2) ** 1.2)[..., None] * np.asarray(WARM, np.float32)
        self.vignette = (1 - 0.34 * (((x - 640) / 760) ** 2 + ((y - 360) / 520) ** 2) ** 1.2 * 0.5)[..., None]
        # Grain that stands still costs bits only in keyframes, and hides the steps of dark gradients.
        self.grain = rng.normal(0, 0.3, (HEIGHT, WIDTH)).astype(np.float32)

    def compose(self, t: float) -> Array:
        """The light that reaches the lens, without what the lens adds."""
        picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        picture[: self.sky.rows] = self.sky.at(t)
        picture *= 1 - self.back[..., 3:]
        picture += self.back[..., :3]
        add_smoke(picture, t)
        add_cat(picture, t)
        front = self.front.at(t)
        picture *= 1 - front[..., 3:]
        picture += front[..., :3]
        return picture

    def at(self, t: float) -> Array:
        """The picture at a time, gamma-encoded, 0 to 1."""
        picture = self.compose(t)
        flicker = 1 + 0.03 * np.sin(turn(t, 6)) + 0.02 * np.sin(turn(t, 11))
        picture += self.bloom + self.halo * flicker
        add_fireflies(picture, t)
        return develop(picture * self.vignette)


def develop(light: Array) -> Array:
    """Linear light to a gamma-encoded picture with a soft shoulder."""
    picture = (1 - np.exp(-1.7 * np.maximum(light, 0))) ** np.float32(1 / 2.2)
    return np.asarray(0.6 * picture + 0.4 * picture * picture * (3 - 2 * picture), np.float32)


def yuv420(rgb: Array, grain: Array) -> NDArray[np.uint8]:
    """BT.709, limited range, planes one below the other as PyAV takes them."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    planes = [16 + 219 * luma + grain]
    for chroma in ((b - luma) / 1.8556, (r - luma) / 1.5748):
        planes.append(128 + 224 * chroma.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3)))
    return np.concatenate([np.clip(p + 0.5, 0, 255).astype(np.uint8).reshape(-1, WIDTH) for p in planes])


def encode(frame_at: Callable[[int], NDArray[np.uint8]], output: Path, crf: float) -> None:
    """Write the clip."""
    # No psychovisual noise and a flat quantiser: what stands still changes least where a keyframe renews it.
    params = "bframes=0:slices=1:scenecut=0:psy=0:aq-mode=2:qcomp=0.8:colorprim=bt709:transfer=bt709:colormatrix=bt709"
    params += f":keyint={GOP}:min-keyint={GOP}"
    options = {"preset": "veryslow", "crf": str(crf), "profile": "baseline", "level": "3.1", "x264-params": params}
    with av.open(str(output), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", GOP
        stream.time_base = Fraction(1, FPS)
        context = stream.codec_context
        context.thread_count, context.max_b_frames = 1, 0
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for index in range(LENGTH_S * FPS):
            frame = av.VideoFrame.from_ndarray(frame_at(index), "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def save_picture(rgb: Array, output: Path) -> None:
    """Write one frame as PNG."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, "rgb24", Fraction(1, FPS)
    frame = av.VideoFrame.from_ndarray((rgb * 255 + 0.5).astype(np.uint8), "rgb24")
    output.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))


def main() -> None:
    """Render the clip, or one moment of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT)
    parser.add_argument("--crf", type=float, default=25.5, help="x264's quality; less is better and bigger")
    parser.add_argument("--still", type=float, action="append", metavar="SECONDS", help="write this moment as a PNG instead")
    args = parser.parse_args()
    scene = Scene()
    if args.still:
        for t in args.still:
            name = args.output if len(args.still) == 1 else args.output.with_stem(f"{args.output.stem}-{t:g}")
            save_picture(scene.at(t), name)
    else:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        encode(lambda index: yuv420(scene.at(index / FPS), scene.grain), args.output, args.crf)


if __name__ == "__main__":
    main()
