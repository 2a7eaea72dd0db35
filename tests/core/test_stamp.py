from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeagent.core import stamp
from edgeagent.core.stamp import Stamp


def test_format() -> None:
    assert stamp.pack(1, 0x0102030405) == bytes.fromhex("ea 000001 0102030405 85")
    assert stamp._crc8(b"123456789") == 0xF4  # the check value of CRC-8 with this polynomial
    assert stamp.encode(0, 0)[:8] == [1, 1, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(("width", "cell"), [(320, 8), (640, 8), (960, 16), (1280, 16), (1600, 16), (1920, 24), (3840, 48)])
def test_cell_size(width: int, cell: int) -> None:
    assert stamp.cell_size(width) == cell


@given(st.integers(0, 2**40), st.integers(0, 2**50))
def test_decode_undoes_encode(number: int, unix_ms: int) -> None:
    assert stamp.decode(stamp.encode(number, unix_ms)) == Stamp(number % 2**24, unix_ms % 2**40)


@given(st.integers(0, 2**24 - 1), st.integers(0, 2**40 - 1), st.integers(0, 79))
def test_one_wrong_bit_is_noticed(number: int, unix_ms: int, position: int) -> None:
    bits = stamp.encode(number, unix_ms)
    bits[position] ^= 1
    assert stamp.decode(bits) is None


@given(st.lists(st.integers(0, 1), max_size=90))
def test_noise_is_no_stamp_or_a_valid_one(bits: list[int]) -> None:
    found = stamp.decode(bits)
    assert found is None or stamp.encode(found.frame_number, found.unix_ms) == bits


def paint(luma: NDArray[np.uint8], number: int, unix_ms: int) -> None:
    height, width = luma.shape
    cell = stamp.cell_size(width)
    for bit, (x, y) in zip(stamp.encode(number, unix_ms), stamp.locate(width, height), strict=True):
        area = luma[y - cell // 2 : y + cell // 2, x - cell // 2 : x + cell // 2]
        area[:] = stamp.WHITE if bit else stamp.BLACK


@pytest.mark.parametrize("bitrate", [500_000, 3_000_000])
@pytest.mark.parametrize("size", [(640, 480), (1280, 720)])
def test_survives_the_codec(size: tuple[int, int], bitrate: int) -> None:
    width, height = size
    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    assert isinstance(encoder, av.VideoCodecContext)
    assert isinstance(decoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.bit_rate = width, height, "yuv420p", bitrate
    encoder.framerate = 30  # type: ignore[assignment]
    encoder.time_base = 1 / encoder.framerate
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "maxrate": str(bitrate), "bufsize": str(bitrate // 4)}
    noise = np.random.default_rng(1)
    for number in range(30):
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        luma = planes[:height]
        luma[:] = noise.integers(40, 200, luma.shape, np.uint8)  # the hardest neighbour that there can be
        paint(luma, number, 1_700_000_000_000 + number)
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts = number
        for packet in encoder.encode(frame):
            for decoded in decoder.decode(packet):
                seen = np.frombuffer(bytes(decoded.planes[0]), np.uint8).reshape(height, -1)
                found = stamp.read(width, height, lambda x, y, seen=seen: int(seen[y, x]))  # type: ignore[misc]
                assert found == Stamp(number, 1_700_000_000_000 % 2**40 + number)


def test_no_stamp_in_a_picture_without_room() -> None:
    assert stamp.read(200, 100, lambda x, y: 16) is None
    assert stamp.read(640, 480, lambda x, y: 16) is None
