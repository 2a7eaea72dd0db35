"""The test card of `test_pattern.py`: drawn once into the planes of a YUV picture, then kept moving by small copies."""

from __future__ import annotations

__all__ = ["TestCard"]

import math
from typing import TYPE_CHECKING, Any

from edgeagent.drivers import stamp
from edgeagent_devices._lettering import draw, measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Bytes = NDArray[np.uint8]

_INK, _DIM, _ACCENT = 0xF4F6FF, 0x8E97B8, 0x5EEAD4
_BARS = (0xBFBFBF, 0xBFBF00, 0x00BFBF, 0x00BF00, 0xBF00BF, 0xBF0000, 0x0000BF)  # 75 % colour bars
_TURN_S, _PLAYHEAD_S = 3.0, 4.0
_GRAIN = 34  # largest deviation of the grain, in steps of luma
_GRAIN_SIGMA = 12.0
_GRAIN_SHIFT = 128  # pixels by which it jumps about


class TestCard:
    """A card of one size. `update` turns it into the picture of one instant, `picture` holds it.

    Args:
        width: Pixels, even.
        height: Pixels, even.
        title: Large, below what a page writes over the top of a picture.
        caption: Small, at the bottom.
    """

    __test__ = False  # its name makes pytest look for tests in it

    def __init__(self, width: int, height: int, title: str, caption: str) -> None:
        import av
        import numpy as np

        self._np: Any = np
        self._width, self._height = width, height
        self._unit = min(width / 1280, height / 720)
        painter = _Painter(width, height)
        self._draw_still(painter, title, caption)
        self.picture = av.VideoFrame(width, height, "yuv420p")
        self._y, *chroma = (self._plane(index) for index in range(3))
        painter.finish(self._y, *chroma)
        cell = stamp.cell_size(width)
        cells = self._y[height - stamp.ROWS * cell :, : stamp.COLUMNS * cell]
        self._cells = cells.reshape(stamp.ROWS, cell, stamp.COLUMNS, cell)  # a view: only axes are split
        for plane in chroma:
            plane[(height - stamp.ROWS * cell) // 2 :, : stamp.COLUMNS * cell // 2] = 128  # neutral behind the stamp
        self._prepare_ring()
        self._prepare_grain()
        self._prepare_playhead()
        self._clock = _Line(self._y, self._px(56), round(self._height * 0.585), self._px(100), 8.6 * self._unit)
        self._date = _Line(self._y, self._px(58), round(self._height * 0.38), self._px(27), 2.7 * self._unit)
        digits = "frame 00000000"
        cap = self._px(17)
        self._counter = _Line(
            self._y,
            width - self._px(56) - round(measure(digits, cap)),
            round(self._height * 0.918),
            cap,
            max(1.1, 1.9 * self._unit),
        )

    def update(self, number: int, elapsed_s: float, date: str, clock: str, stamp_bits: bytes) -> None:
        """Draw one instant.

        Args:
            number: Of the frame, shown in digits.
            elapsed_s: Seconds by which the motion advances.
            date: One line of words.
            clock: Hours, minutes, seconds.
            stamp_bits: 10 bytes of `stamp.pack`.
        """
        self._move_grain(number)  # first: its square reaches below the ring
        self._move_ring(elapsed_s)
        self._move_playhead(elapsed_s)
        self._date.show(date)
        self._clock.show(clock)
        self._counter.show(f"frame {number % 10**8:08d}")
        np = self._np
        bits = np.unpackbits(np.frombuffer(stamp_bits, np.uint8)).reshape(stamp.ROWS, 1, stamp.COLUMNS, 1)
        self._cells[...] = stamp.BLACK + bits * (stamp.WHITE - stamp.BLACK)  # last: nothing may cover it

    def _plane(self, index: int) -> Bytes:
        """A plane of the picture itself; what is written there will be encoded."""
        plane = self.picture.planes[index]
        rows: Bytes = self._np.frombuffer(memoryview(plane), self._np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : plane.width]

    def _px(self, units: float) -> int:
        """Pixels for a length on a card of 1280x720."""
        return max(1, round(units * self._unit))

    @property
    def _centre(self) -> tuple[int, int]:
        return round(self._width * 0.758), round(self._height * 0.385)

    def _draw_still(self, painter: _Painter, title: str, caption: str) -> None:
        np, u = self._np, self._unit
        width, height, margin = self._width, self._height, self._px(56)
        painter.gradient(0x0A0E1A, 0x211A4D)
        cx, cy = self._centre
        x, y = painter.offsets(cx, cy)
        painter.paint(np.exp(-((x / (330 * u)) ** 2)) * np.exp(-((y / (330 * u)) ** 2)) * np.float32(0.55), 0x1D4F8C)
        reach = self._px(218)
        left, top = (cx - reach) & ~1, max(0, cy - reach) & ~1
        x, y = x[:, left : cx + reach], y[top : cy + reach]
        radius = np.hypot(x, y)
        angle = np.arctan2(y, x)
        nearest = np.abs((angle / math.tau * 60 + 0.5) % 1 - 0.5) * math.tau / 60 * radius
        ticks = np.clip(u * 1.1 + 0.5 - nearest, 0, 1) * _band(np, radius, 206 * u, 216 * u)
        painter.paint(ticks * 0.55, _DIM, left, top)
        painter.paint(_band(np, radius, 172 * u, 186 * u), 0x134048, left, top)
        light = np.clip(1.08 - np.hypot(x + 45 * u, y + 55 * u) / (250 * u), 0, 1)
        inside = np.clip(150 * u + 0.5 - radius, 0, 1)
        painter.paint(inside, 0x31417F, left, top)
        painter.paint(inside * light, 0xC9D6FF, left, top)
        painter.write(title, margin, round(height * 0.275), self._fit(title, 40, cx - 216 * u - margin), 3.8 / 40, _INK)
        painter.write(caption, margin, round(height * 0.918), self._px(17), 1.9 / 17, _DIM)
        top, bottom, right = round(height * 0.762), round(height * 0.832), width - margin
        edges = [margin + round((right - margin) * index / len(_BARS)) for index in range(len(_BARS) + 1)]
        for colour, left, end in zip(_BARS, edges[:-1], edges[1:], strict=True):
            painter.box(left, top, end, bottom, colour)
        for step in range(16):
            left, end = (margin + round((right - margin) * index / 16) for index in (step, step + 1))
            painter.box(left, bottom + self._px(4), end, bottom + self._px(14), 0x111111 * step)
        painter.box(margin, round(height * 0.73), right, round(height * 0.73) + self._px(2), 0x3A4470)

    def _fit(self, text: str, cap: float, room: float) -> int:
        return max(6, min(self._px(cap), int(self._px(cap) * room / max(1.0, measure(text, self._px(cap))))))

    def _prepare_ring(self) -> None:
        np, u = self._np, self._unit
        (cx, cy), reach = self._centre, self._px(188)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        radius = np.hypot(x, y)
        rows, columns = np.nonzero(_band(np, radius, 173.5 * u, 184.5 * u) >= 1)
        plane = self.picture.planes[0]
        self._flat = np.frombuffer(memoryview(plane), np.uint8)
        self._ring = (rows + cy - reach) * plane.line_size + columns + cx - reach
        angle = np.arctan2(y[rows, columns], x[rows, columns])
        self._ring_phase = (angle / math.tau % 1 * 1024).astype(np.int32)
        behind = np.arange(1024) / 1024
        low = float(self._y[cy, cx + round(179 * u)])
        self._glow = (low + (218 - low) * np.exp(-((1 - behind) * 5.5)) * np.clip((1 - behind) * 60, 0, 1)).astype(np.uint8)

    def _move_ring(self, elapsed_s: float) -> None:
        shift = int(elapsed_s % _TURN_S / _TURN_S * 1024)
        self._flat[self._ring] = self._glow[(self._ring_phase - shift) & 1023]

    def _prepare_grain(self) -> None:
        np = self._np
        (cx, cy), reach = self._centre, self._px(147)
        self._lens = self._y[cy - reach : cy + reach, cx - reach : cx + reach]
        y, x = np.mgrid[-reach:reach, -reach:reach]
        mask = np.hypot(x, y) < reach
        self._lens_mask = np.where(mask, 255, 0).astype(np.uint8)
        self._lens_base = np.where(mask, np.clip(self._lens, _GRAIN, 235 - _GRAIN) - _GRAIN, self._lens).astype(np.uint8)
        noise = np.random.default_rng(7).standard_normal((2 * reach + _GRAIN_SHIFT,) * 2, np.float32) * _GRAIN_SIGMA + _GRAIN
        self._noise = np.clip(noise, 0, 2 * _GRAIN).astype(np.uint8)
        self._grain = np.empty_like(self._lens_mask)

    def _move_grain(self, number: int) -> None:
        np, size = self._np, self._lens.shape[0]
        # Ranges that share no factor: the same piece of grain comes back after thousands of pictures.
        top, left = number * 7919 % _GRAIN_SHIFT, number * 5477 % (_GRAIN_SHIFT - 1)
        np.bitwise_and(self._noise[top : top + size, left : left + size], self._lens_mask, out=self._grain)
        np.add(self._lens_base, self._grain, out=self._lens)

    def _prepare_playhead(self) -> None:
        middle, size = round(self._height * 0.73) + self._px(2) // 2, self._px(9)
        self._track = self._y[middle - size : middle + size + 1]
        self._track_still = self._track.copy()
        y, x = self._np.mgrid[-size : size + 1, -size : size + 1]
        self._dot = self._np.clip(size - 0.5 - self._np.hypot(x, y), 0, 1)
        self._dot_left = 0

    def _move_playhead(self, elapsed_s: float) -> None:
        size, margin = self._dot.shape[1], self._px(56)
        old = slice(self._dot_left, self._dot_left + size)
        self._track[:, old] = self._track_still[:, old]
        there = abs(elapsed_s % _PLAYHEAD_S / _PLAYHEAD_S * 2 - 1)
        self._dot_left = left = margin + round((1 - there) * (self._width - 2 * margin - size))
        still = self._track_still[:, left : left + size]
        self._track[:, left : left + size] = still + (225 - still) * self._dot


class _Line:
    """One line of changing text on a still, darker background; drawn again from the first character that changed."""

    def __init__(self, luma: Bytes, x: int, base_y: int, cap_px: int, pen_px: float) -> None:
        import numpy as np

        self._np: Any = np
        self._x, self._cap_px, self._pen_px = x, cap_px, pen_px
        blank, base = draw(" ", cap_px, pen_px)
        top = max(0, base_y - base)
        self._skip = top - (base_y - base)
        self._band = luma[top : base_y - base + blank.shape[0]]
        self._still = self._band.copy()
        self._glyphs: dict[str, tuple[Plane, float]] = {}
        self._shown = ""
        self._end = x

    def show(self, text: str) -> None:
        if text == self._shown:
            return
        same = next((i for i, (old, new) in enumerate(zip(self._shown, text, strict=False)) if old != new), 0)
        edges = [float(self._x)]
        for char in text:
            edges.append(edges[-1] + self._glyph(char)[1])
        gone = slice(round(edges[same]), self._end)
        self._band[:, gone] = self._still[:, gone]
        for index in range(max(0, same - 1), len(text)):  # the one before may reach over
            coverage, left = self._glyph(text[index])[0], round(edges[index])
            columns = slice(left, left + coverage.shape[1])
            still, area = self._still[:, columns], self._band[:, columns]
            inked = still + (_INK_LUMA - still) * coverage[:, : still.shape[1]]
            area[...] = self._np.maximum(area, inked.astype(self._np.uint8))
            self._end = min(columns.stop, self._band.shape[1])
        self._shown = text

    def _glyph(self, char: str) -> tuple[Plane, float]:
        if char not in self._glyphs:
            coverage, _ = draw(char, self._cap_px, self._pen_px)
            self._glyphs[char] = (coverage[self._skip : self._skip + self._band.shape[0]], measure(char, self._cap_px))
        return self._glyphs[char]


class _Painter:
    """Paints shapes, given as coverage, into luma and half-size chroma planes (BT.709, limited range)."""

    def __init__(self, width: int, height: int) -> None:
        import numpy as np

        self._np: Any = np
        self._width, self._height = width, height
        self._y: Plane = np.zeros((height, width), np.float32)
        self._chroma: Plane = np.zeros((2, height // 2, width // 2), np.float32)

    def offsets(self, cx: int, cy: int) -> tuple[Plane, Plane]:
        """Distances of all columns and of all rows from a point, to be broadcast."""
        np = self._np
        return np.arange(self._width, dtype=np.float32)[None, :] - cx, np.arange(self._height, dtype=np.float32)[:, None] - cy

    def gradient(self, start: int, end: int) -> None:
        """Fill everything, from the top left to the bottom right corner."""
        x, y = self.offsets(0, 0)
        for plane, low, high in zip((self._y, *self._chroma), _yuv(start), _yuv(end), strict=True):
            step = self._width // plane.shape[1]
            across, down = x[:, ::step] * (0.45 * (high - low) / self._width), y[::step] * (0.55 * (high - low) / self._height)
            self._np.add(across, down + low, out=plane)

    def paint(self, coverage: Plane, colour: int, left: int = 0, top: int = 0) -> None:
        """Blend a colour by a coverage from 0 to 1 whose top left corner stands at even `left`, `top`."""
        bottom, right = min(self._height, top + coverage.shape[0]), min(self._width, left + coverage.shape[1])
        coverage = coverage[: bottom - top, : right - left]
        luma, *chroma = _yuv(colour)
        area = self._y[top:bottom, left:right]
        change = luma - area
        change *= coverage
        area += change
        quarter = coverage[: coverage.shape[0] & ~1, : coverage.shape[1] & ~1]
        quarter = (quarter[::2, ::2] + quarter[1::2, ::2] + quarter[::2, 1::2] + quarter[1::2, 1::2]) * self._np.float32(0.25)
        for plane, value in zip(self._chroma, chroma, strict=True):
            part = plane[top // 2 : top // 2 + quarter.shape[0], left // 2 : left // 2 + quarter.shape[1]]
            part += (value - part) * quarter

    def box(self, left: int, top: int, right: int, bottom: int, colour: int) -> None:
        """Fill a rectangle."""
        x0, y0 = left & ~1, top & ~1
        coverage = self._np.zeros((bottom - y0 + 1, right - x0 + 1), self._np.float32)
        coverage[top - y0 : bottom - y0, left - x0 : right - x0] = 1
        self.paint(coverage, colour, x0, y0)

    def write(self, text: str, x: int, base_y: int, cap_px: int, pen: float, colour: int) -> None:
        """Write a line; `pen` is the strokes' width as a share of the capitals' height."""
        coverage, base = draw(text, cap_px, max(1.1, cap_px * pen))
        left, top = x & ~1, (base_y - base) & ~1
        if top < 0:
            coverage, top = coverage[-top:], 0
        self.paint(coverage, colour, left, top)

    def finish(self, luma: Bytes, blue: Bytes, red: Bytes) -> None:
        """Write the planes; luma is dithered, because dark gradients show steps otherwise."""
        np = self._np
        luma[...] = self._y + np.random.default_rng(3).random(self._y.shape, np.float32)
        blue[...], red[...] = np.rint(self._chroma)


def _band(np: Any, radius: Plane, inner: float, outer: float) -> Plane:
    """Coverage of a ring."""
    coverage: Plane = np.clip(radius - inner + 0.5, 0, 1) * np.clip(outer + 0.5 - radius, 0, 1)
    return coverage


def _yuv(rgb: int) -> tuple[float, float, float]:
    red, green, blue = (rgb >> shift & 255 for shift in (16, 8, 0))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return 16 + luma * 219 / 255, 128 + (blue - luma) / 1.8556 * 224 / 255, 128 + (red - luma) / 1.5748 * 224 / 255


_INK_LUMA = _yuv(_INK)[0]
