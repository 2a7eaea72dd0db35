"""Numbers of the kernel's interface, as `linux/videodev2.h` gives them on 64-bit machines."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent import v4l2

CODES = {
    "QUERYCAP": 0x80685600, "ENUM_FMT": 0xC0405602, "S_FMT": 0xC0D05605, "REQBUFS": 0xC0145608, "QUERYBUF": 0xC0585609,
    "QBUF": 0xC058560F, "DQBUF": 0xC0585611, "STREAMON": 0x40045612, "STREAMOFF": 0x40045613, "S_PARM": 0xC0CC5616,
    "S_CTRL": 0xC008561C, "QUERYCTRL": 0xC0445624, "QUERYMENU": 0xC02C5625, "ENUM_FRAMESIZES": 0xC02C564A,
    "ENUM_FRAMEINTERVALS": 0xC034564B,
}  # fmt: skip


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the numbers hold the sizes of pointers")
def test_codes() -> None:
    assert {name: getattr(v4l2, name) for name in CODES} == CODES


@pytest.mark.parametrize("name", ["MJPG", "H264", "YU12"])
def test_pixel_formats(name: str) -> None:
    assert v4l2.fourcc_name(v4l2.fourcc(name)) == name
    assert v4l2.fourcc_name(v4l2.fourcc(name) | 0x80000000) == name, "the flag of the other byte order"


@given(st.integers(0, 2**32 - 1))
def test_any_pixel_format_can_be_printed(code: int) -> None:
    assert len(v4l2.fourcc_name(code)) == 4
    assert v4l2.fourcc_name(code).isprintable()


@pytest.mark.parametrize(
    ("fps", "fraction"), [(30, (1, 30)), (30000 / 1001, (1001, 30000)), (29.97, (1001, 30000)), (7.5, (1000, 7500)), (1, (1, 1))]
)
def test_rates_are_exact(fps: float, fraction: tuple[int, int]) -> None:
    assert v4l2._fraction(1 / fps) == fraction
