"""The machine-readable stamp in a picture's pixels: frame number and capture time, by which a viewer measures the delay.

Version 1: 80 bits, row by row and most significant bit first, in a grid of 40 columns and 2 rows of square cells of
`cell_size` pixels; black (luma 16) is 0, white (luma 235) is 1, chroma is neutral (128). The grid stands in the bottom left
corner: its first column begins at x = 0, its second row ends at the picture's lower edge.

    8 bits magic 0xEA | 24 bits frame number mod 2**24 | 40 bits Unix time in ms mod 2**40 | 8 bits CRC-8 (0x07, init 0) of these
"""

from __future__ import annotations

__all__ = ["BITS", "BLACK", "COLUMNS", "ROWS", "WHITE", "Stamp", "cell_size", "decode", "encode", "locate", "pack", "read"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

COLUMNS, ROWS = 40, 2
BITS = COLUMNS * ROWS
BLACK, WHITE = 16, 235
_MAGIC = 0xEA
_THRESHOLD = (BLACK + WHITE) // 2


@dataclass(slots=True, frozen=True)
class Stamp:
    """What a stamp says: frame number mod 2**24 and capture time, Unix time in ms mod 2**40."""

    frame_number: int
    unix_ms: int


def cell_size(width: int) -> int:
    """Side of a cell in pixels for a picture of `width` pixels."""
    return max(8, 8 * round(width / 640))  # halves to even, as in the viewer's `stamp.js`


def encode(frame_number: int, unix_ms: int) -> list[int]:
    """The 80 bits, row by row."""
    value = int.from_bytes(pack(frame_number, unix_ms), "big")
    return [value >> shift & 1 for shift in range(BITS - 1, -1, -1)]


def pack(frame_number: int, unix_ms: int) -> bytes:
    """The 80 bits as 10 bytes, five to a row."""
    body = bytes([_MAGIC]) + (frame_number % 2**24).to_bytes(3, "big") + (unix_ms % 2**40).to_bytes(5, "big")
    return body + bytes([_crc8(body)])


def decode(bits: Sequence[int | bool]) -> Stamp | None:
    """What 80 bits say; None where magic or CRC is wrong."""
    if len(bits) != BITS:
        return None
    value = 0
    for bit in bits:
        value = value << 1 | bool(bit)
    body = (value >> 8).to_bytes(9, "big")
    if body[0] != _MAGIC or _crc8(body) != value & 0xFF:
        return None
    return Stamp(int.from_bytes(body[1:4], "big"), int.from_bytes(body[4:9], "big"))


def locate(width: int, height: int) -> list[tuple[int, int]]:
    """The centre (x, y) of each cell, in the order of the bits."""
    cell = cell_size(width)
    top = height - ROWS * cell
    return [(column * cell + cell // 2, top + row * cell + cell // 2) for row in range(ROWS) for column in range(COLUMNS)]


def read(width: int, height: int, luma: Callable[[int, int], int]) -> Stamp | None:
    """Read the stamp of a picture; `luma(x, y)` gives a pixel's luma. None where the picture has none or is too small.

    Each cell is the mean of a cross of five pixels around its centre, which compression leaves alone best.
    """
    cell = cell_size(width)
    if width < COLUMNS * cell or height < ROWS * cell:
        return None
    step = cell // 4
    bits = []
    for x, y in locate(width, height):
        total = luma(x, y) + luma(x - step, y) + luma(x + step, y) + luma(x, y - step) + luma(x, y + step)
        bits.append(total > 5 * _THRESHOLD)
    return decode(bits)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
