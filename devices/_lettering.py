"""A small stroke font: letters as lines and arcs, drawn with round pens at any size, without a font file."""

from __future__ import annotations

__all__ = ["CAP", "draw", "measure"]

import functools
import itertools
import math
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CAP = 7.0
"""Height of capitals in units of the glyphs below; lower case is 5, what hangs below the line 2."""
_ASCENT, _DESCENT = 7.8, 2.6
_SPACING = 1.5
_WORD = 2.6
_LARGE = 40  # from this height in pixels on, arcs are drawn in finer steps
_DOT = 1.35  # dots are wider than strokes, or they look too light

# Glyph: width, then strokes. `M x y` sets the pen down, `L x y` draws a line, `A cx cy rx ry from to` an arc in degrees
# (counter-clockwise where `to` is larger); an arc goes on from where the pen is if it begins there.
_GLYPHS = {
    "0": "4.4 A 2.2 3.5 2.2 3.5 0 360",
    "1": "4.4 M .8 5.7 L 2.5 7 L 2.5 0",
    "2": "4.4 A 2.2 4.9 2.1 2.1 170 -35 L .1 0 L 4.3 0",
    "3": "4.4 A 2.1 5.25 1.85 1.75 155 -90 A 2.1 1.75 2.15 1.75 90 -155",
    "4": "4.4 M 3.3 0 L 3.3 7 L -.1 2 L 4.5 2",
    "5": "4.4 M 3.9 7 L .9 7 L .57 3.9 A 2.1 2.25 2.25 2.25 133 -150",
    "6": "4.4 A 2.2 2.2 2.2 2.2 0 360 M 0 2.2 A 4 2.2 4 4.8 180 100",
    "7": "4.4 M .1 7 L 4.3 7 L 1.5 0",
    "8": "4.4 A 2.2 5.3 1.85 1.7 0 360 A 2.2 1.8 2.2 1.8 0 360",
    "9": "4.4 A 2.2 4.8 2.2 2.2 0 360 M 4.4 4.8 A .4 4.8 4 4.8 0 -80",
    ":": ".6 M .3 .7 L .3 .7 M .3 4.4 L .3 4.4",
    ",": ".7 M .6 .1 L .1 -1.3",
    ".": ".6 M .3 .05 L .3 .05",
    "·": ".6 M .3 2.7 L .3 2.7",
    "-": "2.4 M 0 2.6 L 2.4 2.6",
    "_": "4 M 0 -1 L 4 -1",
    "/": "3 M 0 -.8 L 3 7.6",
    "(": "1.4 A 2.4 3.2 2.4 4.8 125 235",
    ")": "1.4 A -1 3.2 2.4 4.8 55 -55",
    "'": ".6 M .3 7 L .3 5.4",
    "+": "4 M 0 2.8 L 4 2.8 M 2 .8 L 2 4.8",
    "×": "3.2 M 0 1.1 L 3.2 4.3 M 0 4.3 L 3.2 1.1",
    "?": "3.6 A 1.8 5.2 1.8 1.8 165 -60 L 1.8 2.2 M 1.8 .05 L 1.8 .05",
    "!": ".6 M .3 7 L .3 2 M .3 .05 L .3 .05",
    "&": "5 M 5 0 L 1 5 A 2.1 5.7 1.3 1.3 215 -40 L .7 2.9 A 1.8 1.75 1.8 1.75 130 300 L 4.8 3",
    "A": "5.4 M 0 0 L 2.7 7 L 5.4 0 M .95 2.4 L 4.45 2.4",
    "B": "4.7 M 0 0 L 0 7 L 2.5 7 A 2.5 5.3 1.75 1.7 90 -90 L 0 3.6 M 2.5 3.6 A 2.6 1.8 2.1 1.8 90 -90 L 0 0",
    "C": "5.5 A 3.2 3.5 3.2 3.5 48 312",
    "D": "5.2 M 0 0 L 0 7 L 2 7 A 2 3.5 3.2 3.5 90 -90 L 0 0",
    "E": "4.1 M 4 7 L 0 7 L 0 0 L 4.1 0 M 0 3.6 L 3.5 3.6",
    "F": "4 M 4 7 L 0 7 L 0 0 M 0 3.5 L 3.4 3.5",
    "G": "6.3 A 3.2 3.5 3.2 3.5 45 355 M 3.7 3.2 L 6.38 3.2",
    "H": "5 M 0 0 L 0 7 M 5 0 L 5 7 M 0 3.6 L 5 3.6",
    "I": ".6 M .3 0 L .3 7",
    "J": "3.2 M 3.2 7 L 3.2 2 A 1.6 2 1.6 2 0 -170",
    "K": "4.6 M 0 0 L 0 7 M 4.4 7 L 0 2.6 M 1.5 4.1 L 4.6 0",
    "L": "3.8 M 0 7 L 0 0 L 3.8 0",
    "M": "6 M 0 0 L 0 7 L 3 2 L 6 7 L 6 0",
    "N": "5 M 0 0 L 0 7 L 5 0 L 5 7",
    "O": "6.6 A 3.3 3.5 3.3 3.5 0 360",
    "P": "4.5 M 0 0 L 0 7 L 2.5 7 A 2.5 5 2 2 90 -90 L 0 3",
    "Q": "6.6 A 3.3 3.5 3.3 3.5 0 360 M 4 1.7 L 6.2 -.6",
    "R": "4.6 M 0 0 L 0 7 L 2.5 7 A 2.5 5 2 2 90 -90 L 0 3 M 2.4 3 L 4.6 0",
    "S": "4.6 A 2.3 5.25 2.05 1.75 35 270 A 2.3 1.75 2.25 1.75 90 -145",
    "T": "5 M 0 7 L 5 7 M 2.5 7 L 2.5 0",
    "U": "5 M 0 7 L 0 2.5 A 2.5 2.5 2.5 2.5 180 360 L 5 7",
    "V": "5.2 M 0 7 L 2.6 0 L 5.2 7",
    "W": "7.6 M 0 7 L 1.9 0 L 3.8 6.2 L 5.7 0 L 7.6 7",
    "X": "4.8 M 0 7 L 4.8 0 M 4.8 7 L 0 0",
    "Y": "5 M 0 7 L 2.5 3.2 L 5 7 M 2.5 3.2 L 2.5 0",
    "Z": "4.7 M 0 7 L 4.6 7 L 0 0 L 4.7 0",
    "a": "4.2 A 2.1 2.5 2.1 2.5 0 360 M 4.2 5 L 4.2 0",
    "b": "4.2 M 0 7.3 L 0 0 M 4.2 2.5 A 2.1 2.5 2.1 2.5 0 360",
    "c": "3.9 A 2.3 2.5 2.3 2.5 48 312",
    "d": "4.2 A 2.1 2.5 2.1 2.5 0 360 M 4.2 7.3 L 4.2 0",
    "e": "4.3 M .05 2.6 L 4.3 2.6 A 2.15 2.5 2.15 2.5 2 315",
    "f": "2.3 M .8 0 L .8 5.7 A 2.2 5.7 1.4 1.6 180 75 M 0 4.7 L 2.3 4.7",
    "g": "4.2 A 2.1 2.5 2.1 2.5 0 360 M 4.2 5 L 4.2 -.3 A 2.1 -.3 2.1 1.9 0 -150",
    "h": "4 M 0 7.3 L 0 0 M 0 3 A 2 3 2 2 180 0 L 4 0",
    "i": ".6 M .3 5 L .3 0 M .3 6.9 L .3 6.9",
    "j": "1.2 M .9 5 L .9 -.7 A -.2 -.7 1.1 1.4 0 -100 M .9 6.9 L .9 6.9",
    "k": "3.8 M 0 7.3 L 0 0 M 3.6 5 L 0 1.8 M 1.3 3 L 3.8 0",
    "l": ".6 M .3 7.3 L .3 0",
    "m": "6.8 M 0 5 L 0 0 M 0 3.2 A 1.7 3.2 1.7 1.8 180 0 L 3.4 0 M 3.4 3.2 A 5.1 3.2 1.7 1.8 180 0 L 6.8 0",
    "n": "4 M 0 5 L 0 0 M 0 3 A 2 3 2 2 180 0 L 4 0",
    "o": "4.4 A 2.2 2.5 2.2 2.5 0 360",
    "p": "4.2 M 0 5 L 0 -2.1 M 4.2 2.5 A 2.1 2.5 2.1 2.5 0 360",
    "q": "4.2 A 2.1 2.5 2.1 2.5 0 360 M 4.2 5 L 4.2 -2.1",
    "r": "2.3 M 0 5 L 0 0 M 0 3.1 A 1.9 3.1 1.9 1.9 180 78",
    "s": "3.6 A 1.8 3.75 1.65 1.25 35 270 A 1.8 1.25 1.8 1.25 90 -145",
    "t": "2.5 M .9 6.6 L .9 1.4 A 2.2 1.4 1.3 1.4 180 280 M 0 4.7 L 2.4 4.7",
    "u": "4 M 0 5 L 0 2 A 2 2 2 2 180 360 M 4 5 L 4 0",
    "v": "4 M 0 5 L 2 0 L 4 5",
    "w": "6 M 0 5 L 1.5 0 L 3 4.4 L 4.5 0 L 6 5",
    "x": "3.8 M 0 5 L 3.8 0 M 3.8 5 L 0 0",
    "y": "4 M 0 5 L 2 0 M 4 5 L 1.4 -1.6 A .6 -1.3 .9 .8 -20 -100",
    "z": "3.7 M .1 5 L 3.6 5 L 0 0 L 3.7 0",
}
_Segment = tuple[float, float, float, float]


def measure(text: str, cap_px: float) -> float:
    """Width in pixels of a line whose capitals are `cap_px` high."""
    return sum(_advances(_fold(text))) * cap_px / CAP


def draw(text: str, cap_px: float, pen_px: float) -> tuple[NDArray[np.float32], int]:
    """A line of text as coverage from 0 to 1, and the row of its base line in there.

    Letters that the font lacks are drawn as their nearest plain letter, or `?`.

    Args:
        text: One line.
        cap_px: Height of capitals in pixels.
        pen_px: Width of the strokes in pixels.
    """
    import numpy as np

    scale = cap_px / CAP
    text = _fold(text)
    base = math.ceil(_ASCENT * scale + pen_px)
    height = base + math.ceil(_DESCENT * scale + pen_px)
    canvas = np.zeros((height, math.ceil(sum(_advances(text)) * scale + 2 * pen_px) + 2), np.float32)
    x = pen_px + 1.0
    for char, advance in zip(text, _advances(text), strict=True):
        for x0, y0, x1, y1 in _segments(char, 10 if cap_px > _LARGE else 20):
            _stroke(
                canvas,
                x + x0 * scale,
                base - y0 * scale,
                x + x1 * scale,
                base - y1 * scale,
                pen_px / 2 * (1 if x0 != x1 or y0 != y1 else _DOT),
            )
        x += advance * scale
    return canvas, base


def _stroke(canvas: NDArray[np.float32], x0: float, y0: float, x1: float, y1: float, radius: float) -> None:
    """Draw a line with round ends: coverage falls over one pixel at the distance `radius`."""
    import numpy as np

    reach = radius + 1
    left, right = max(0, int(min(x0, x1) - reach)), min(canvas.shape[1], int(max(x0, x1) + reach) + 2)
    top, bottom = max(0, int(min(y0, y1) - reach)), min(canvas.shape[0], int(max(y0, y1) + reach) + 2)
    xs = np.arange(left - x0, right - x0, dtype=np.float32)[None, :]
    ys = np.arange(top - y0, bottom - y0, dtype=np.float32)[:, None]
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    if length2:
        along = xs * (dx / length2) + ys * (dy / length2)
        np.minimum(np.maximum(along, 0, out=along), 1, out=along)
        distance = np.hypot(xs - along * dx, ys - along * dy)
    else:
        distance = np.hypot(xs, ys)
    coverage = np.minimum(radius + 0.5 - distance, 1)
    area = canvas[top:bottom, left:right]
    np.maximum(area, coverage, out=area)


def _advances(text: str) -> list[float]:
    return [(_WORD if char == " " else float(_GLYPHS[char].split(" ", 1)[0]) + _SPACING) for char in text]


def _fold(text: str) -> str:
    plain = text if all(char in _GLYPHS or char == " " for char in text) else unicodedata.normalize("NFKD", text)
    return "".join(
        char if char in _GLYPHS or char == " " else "?" for char in plain.replace("ß", "ss") if not unicodedata.combining(char)
    )


@functools.cache
def _segments(char: str, degrees: int) -> list[_Segment]:
    if char == " ":
        return []
    words = iter(_GLYPHS[char].split()[1:])
    segments: list[_Segment] = []
    x = y = 0.0
    down = False
    for word in words:
        if word == "A":
            cx, cy, rx, ry, start, end = (float(next(words)) for _ in range(6))
            steps = max(4, math.ceil(abs(end - start) / degrees))
            angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
            points = [(cx + rx * math.cos(angle), cy + ry * math.sin(angle)) for angle in angles]
            for (ax, ay), (bx, by) in itertools.pairwise(points):
                segments.append((ax, ay, bx, by))
            x, y = points[-1]
            down = True
            continue
        to_x, to_y = float(next(words)), float(next(words))
        if word == "L" and down:
            segments.append((x, y, to_x, to_y))
        x, y, down = to_x, to_y, True
    return segments
