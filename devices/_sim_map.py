"""The ground of the simulated world: an arena with walls, hedges, crates and towers, and the targets to reach.

Pure, and the same for the same seed and size, so that the process that moves the rover and the camera that draws it agree.

Metres; x to the right and y up on the map; angles in radians, counter-clockwise from x.
"""

from __future__ import annotations

__all__ = ["MAX_SIZE", "MIN_SIZE", "RADIUS", "START", "TARGETS", "Box", "Ground", "make_ground"]

import functools
import math
import random
from dataclasses import dataclass

RADIUS = 0.22
"""Of the rover, a circle."""
START = 1.6
"""Distance of the charging pad, where the rover starts, from the left wall."""
TARGETS = 5
MIN_SIZE, MAX_SIZE = 8, 32
FIRST_TARGET = 4.0  # straight ahead of the start: a newcomer only has to go forward
_GAP = 0.95  # between obstacles: the rover fits through everywhere, so everything can be reached
_HEIGHTS = {"fence": 0.9, "wall": 1.0, "hedge": 0.72, "crate": 0.7, "tower": 1.9}
_TRIES = 600


@dataclass(frozen=True, slots=True)
class Box:
    """Something that stands in the way."""

    left: float
    bottom: float
    right: float
    top: float
    kind: str

    @property
    def height(self) -> float:
        """Above the ground."""
        return _HEIGHTS[self.kind]

    def distance(self, x: float, y: float) -> float:
        """From a point; 0 inside."""
        return math.hypot(max(self.left - x, 0.0, x - self.right), max(self.bottom - y, 0.0, y - self.top))


@dataclass(frozen=True)
class Ground:
    """One arena: `width` by `depth`, its corner at the origin; `start` is where the rover stands and looks along x."""

    seed: int
    width: float
    depth: float
    boxes: tuple[Box, ...]
    targets: tuple[tuple[float, float], ...]

    @property
    def start(self) -> tuple[float, float]:
        return START, self.depth / 2

    def clearance(self, x: float, y: float) -> float:
        """Distance of a point from the nearest box or outer wall; 0 or below inside one."""
        edges = min(x, y, self.width - x, self.depth - y)
        return min([edges, *(box.distance(x, y) for box in self.boxes)])

    def look(self, x: float, y: float, angle: float, limit: float) -> float:
        """How far one sees from a point before something stands there, at most `limit`."""
        dx, dy = math.cos(angle) or 1e-12, math.sin(angle) or 1e-12
        nearest = min(limit, (self.width - x if dx > 0 else x) / abs(dx), (self.depth - y if dy > 0 else y) / abs(dy))
        for box in self.boxes:
            tx = sorted(((box.left - x) / dx, (box.right - x) / dx))
            ty = sorted(((box.bottom - y) / dy, (box.top - y) / dy))
            enter, leave = max(tx[0], ty[0]), min(tx[1], ty[1])
            if 0 <= enter <= leave:
                nearest = min(nearest, enter)
        return max(0.0, nearest)


@functools.lru_cache(maxsize=8)
def make_ground(seed: int, size: int) -> Ground:
    """The arena of a seed, `size` metres wide and three quarters of that deep."""
    chance = random.Random(seed)
    width, depth = float(size), size * 0.75
    ground = Ground(seed, width, depth, (), ((START + FIRST_TARGET, depth / 2),))
    wanted = round(width * depth / 13)
    boxes: list[Box] = []
    for _ in range(_TRIES):
        if len(boxes) == wanted:
            break
        kind = ("wall", "hedge", "crate", "hedge", "wall", "tower")[len(boxes) % 6]
        across, along = {
            "wall": (0.3, chance.uniform(1.6, 3.6)),
            "hedge": (0.55, chance.uniform(1.0, 2.6)),
            "crate": (0.8, 0.8),
            "tower": (0.9, 0.9),
        }[kind]
        if chance.random() < 0.5:
            across, along = along, across
        x, y = chance.uniform(_GAP, width - _GAP - across), chance.uniform(_GAP, depth - _GAP - along)
        box = Box(x, y, x + across, y + along, kind)
        if not _in_the_way(box, depth) and all(_apart(box, other) >= _GAP for other in boxes):
            boxes.append(box)
    ground = Ground(seed, width, depth, tuple(boxes), ground.targets)
    return Ground(seed, width, depth, ground.boxes, _place_targets(chance, ground))


def _in_the_way(box: Box, depth: float) -> bool:
    """Whether it narrows the first straight metres."""
    return box.left < START + FIRST_TARGET + 1.2 and box.bottom < depth / 2 + 1.1 and box.top > depth / 2 - 1.1


def _apart(one: Box, other: Box) -> float:
    return math.hypot(
        max(one.left - other.right, 0.0, other.left - one.right), max(one.bottom - other.top, 0.0, other.bottom - one.top)
    )


def _place_targets(chance: random.Random, ground: Ground) -> tuple[tuple[float, float], ...]:
    """Each in sight of the one before, so that a straight path leads there, and apart from all others."""
    targets = list(ground.targets)
    distance = min(ground.width / 4, 4.0)
    while len(targets) < TARGETS:
        for _ in range(_TRIES):
            x, y = chance.uniform(0.8, ground.width - 0.8), chance.uniform(0.8, ground.depth - 0.8)
            away = min(math.dist((x, y), other) for other in [*targets, ground.start])
            if away >= distance and ground.clearance(x, y) >= 0.6 and _straight(ground, targets[-1], (x, y)):
                targets.append((x, y))
                break
        else:
            distance *= 0.8  # too full: let them stand closer
    return tuple(targets)


def _straight(ground: Ground, start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether the rover can go straight from one to the other."""
    steps = math.ceil(math.dist(start, end) / 0.2)
    return all(
        ground.clearance(start[0] + (end[0] - start[0]) * step / steps, start[1] + (end[1] - start[1]) * step / steps) > 0.4
        for step in range(steps + 1)
    )
