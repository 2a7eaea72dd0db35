"""Rays against the upright faces of the simulated world: what is seen in each column of a picture.

Depth is measured along the line of sight, so that straight walls stay straight; its inverse is kept, which changes evenly
across a picture.
"""

from __future__ import annotations

__all__ = ["EYE_M", "Faces", "Layer"]

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent_devices._sim_colour import Floats
from edgeagent_devices._sim_map import Ground
from edgeagent_devices._sim_walls import KINDS

EYE_M = 0.42
"""Height of the camera."""
_NEAR = 0.01
_SEAM = 0.01  # by which the fence's sides overlap in the corners
_LAYERS = 4
_SHADES = (1.0, 0.76, 0.80, 0.93)  # of faces that look to x+, x-, y+, y-: the sun comes from x+ and y-


@dataclass(frozen=True, slots=True)
class Layer:
    """What one face, the nearest or the next above it, shows in each column; depths as their inverse, rows at half size."""

    which: NDArray[np.intp]
    near: Floats
    along: Floats
    top: Floats
    bottom: Floats
    limit: Floats
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Faces:
    """All upright faces: those at one x first, then those at one y."""

    at: Floats
    start: Floats
    end: Floats
    outward: Floats
    at_x: int
    heights: Floats
    textures: NDArray[np.int32]
    shades: Floats

    @classmethod
    def of(cls, ground: Ground) -> Faces:
        width, depth = ground.width, ground.depth
        at_x: list[tuple[float, float, float, float, float, int]] = [
            (0.0, -_SEAM, depth + _SEAM, 1, 0.9, 0),
            (width, -_SEAM, depth + _SEAM, -1, 0.9, 0),
        ]
        at_y: list[tuple[float, float, float, float, float, int]] = [
            (0.0, -_SEAM, width + _SEAM, 1, 0.9, 0),
            (depth, -_SEAM, width + _SEAM, -1, 0.9, 0),
        ]
        for box in ground.boxes:
            kind = KINDS.index(box.kind)
            at_x += [(box.left, box.bottom, box.top, -1, box.height, kind), (box.right, box.bottom, box.top, 1, box.height, kind)]
            at_y += [(box.bottom, box.left, box.right, -1, box.height, kind), (box.top, box.left, box.right, 1, box.height, kind)]
        table = np.array(at_x + at_y, np.float32)
        shades = [_SHADES[0 if face[3] > 0 else 1] for face in at_x] + [_SHADES[2 if face[3] > 0 else 3] for face in at_y]
        return cls(
            table[:, 0],
            table[:, 1],
            table[:, 2],
            table[:, 3],
            len(at_x),
            table[:, 4],
            table[:, 5].astype(np.int32),
            np.array(shades, np.float32),
        )

    def meet(self, eye: tuple[float, float], towards_x: Floats, towards_y: Floats) -> tuple[Floats, Floats]:
        """For each face and column: the inverse of the depth at which they meet (0: they do not), and how far along the face."""
        near = np.zeros((len(self.at), len(towards_x)), np.float32)
        along = np.zeros_like(near)
        for first, last, here, there, forward, sideways in (
            (0, self.at_x, eye[0], eye[1], towards_x, towards_y),
            (self.at_x, len(self.at), eye[1], eye[0], towards_y, towards_x),
        ):
            looking = first + np.flatnonzero((self.at[first:last] - here) * self.outward[first:last] < -1e-6)
            away = (self.at[looking] - np.float32(here))[:, None]
            inverse = forward / away
            place = np.float32(there) + away * (sideways / np.where(forward == 0, np.float32(1e-9), forward))
            hit = (inverse > 0) & (inverse < 1 / _NEAR)
            hit &= (place >= self.start[looking][:, None]) & (place < self.end[looking][:, None])
            inverse *= hit
            place -= self.start[looking][:, None]
            near[looking] = inverse
            along[looking] = place
        return near, along

    def layers(self, near: Floats, along: Floats, horizon: float, focal: float) -> list[Layer]:
        """What is seen in each column: the nearest face, then what looks over it, and so on."""
        columns = np.arange(near.shape[1])
        tops = horizon - focal * (self.heights - np.float32(EYE_M))[:, None] * near
        layers: list[Layer] = []
        ceiling = np.full(near.shape[1], np.inf, np.float32)
        for _ in range(_LAYERS):
            which = near.argmax(axis=0)
            best = near[which, columns]
            if not best.any():
                break
            seen = best > 0
            top = np.where(seen, tops[which, columns], np.minimum(ceiling, np.float32(horizon)))
            bottom = horizon + focal * EYE_M * best
            layers.append(Layer(which, best, along[which, columns], top, bottom, np.minimum(bottom, ceiling), seen))
            ceiling = np.where(seen, top, ceiling)
            near = np.where(tops < ceiling, near, 0)
        return layers
