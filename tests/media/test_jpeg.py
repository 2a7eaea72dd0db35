from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.core.h264 import join_nals, split_nals
from edgeagent.errors import DeviceFault
from edgeagent.media.encoder import make_encoder
from edgeagent.media.jpeg import snapshot, still
from edgeagent.model import EncodedFrame

WIDTH, HEIGHT = 320, 240
NAMED = {"colorspace": "bt709", "color_range": "tv"}


def gop(count: int = 8, options: dict[str, str] | None = None) -> list[EncodedFrame]:
    """Pictures that grow brighter: luma 16 at first, 235 at last; the left half is red (BT.709)."""
    encoder = make_encoder(width=WIDTH, height=HEIGHT, fps=10, bitrate=2_000_000, options=options)
    frames = []
    for number in range(count):
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        planes[:HEIGHT] = 16 + 219 * number // max(1, count - 1)
        planes[:HEIGHT, : WIDTH // 2] = 63
        chroma = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
        chroma[0, :, : WIDTH // 4], chroma[1, :, : WIDTH // 4] = 102, 240
        frames += encoder.encode(av.VideoFrame.from_ndarray(planes, "yuv420p"), timestamp=number * 9000, captured_at=number)
    return frames


GOP = gop()


def pixels(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """RGB, as another decoder of JPEG reads it."""
    assert jpeg.startswith(b"\xff\xd8")
    assert jpeg.endswith(b"\xff\xd9")
    with av.open(io.BytesIO(jpeg), "r", format="mjpeg") as container:
        picture = next(container.decode(video=0))
    return np.array(picture.to_ndarray(format="rgb24"), np.uint8)


def test_shows_the_newest_picture() -> None:
    rgb = pixels(snapshot(GOP))
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert rgb[120, 300].min() > 245, "limited white becomes full white"
    assert pixels(snapshot(GOP[:1]))[120, 300].max() < 10, "limited black becomes full black"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_frames(count: int) -> None:
    level = 255 * (count - 1) / 7
    assert abs(int(pixels(snapshot(GOP[:count]))[120, 300, 1]) - level) < 10


def test_the_newest_of_a_long_gop_decoded_by_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.media.jpeg._MANY", 3)
    assert pixels(snapshot(GOP))[120, 300].min() > 245


def test_colours_are_right() -> None:
    red = pixels(snapshot(gop(3, NAMED)))[120, 60]
    assert red[0] > 240
    assert red[1:].max() < 25


def test_a_damaged_frame_in_the_middle_is_survived() -> None:
    frames = list(GOP)
    frames[3] = EncodedFrame(frames[3].data[: len(frames[3].data) // 2], False, frames[3].timestamp, 0.0)
    assert pixels(snapshot(frames)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [EncodedFrame(b"", True, 0, 0.0)],
        [EncodedFrame(b"no video at all", True, 0, 0.0)],
        [EncodedFrame(join_nals(split_nals(GOP[0].data)[:2]), True, 0, 0.0)],
        GOP[1:4],
    ],
    ids=["none", "empty", "nonsense", "no picture", "no keyframe"],
)
def test_what_cannot_be_decoded_is_a_fault(frames: list[EncodedFrame]) -> None:
    with pytest.raises(DeviceFault, match="cannot be decoded"):
        snapshot(frames)


def test_a_still_picture_is_small_whatever_it_shows() -> None:
    noise = np.random.default_rng(1)
    encoder = make_encoder(width=1280, height=720, fps=10, bitrate=20_000_000)
    picture = av.VideoFrame.from_ndarray(noise.integers(16, 235, (1080, 1280), np.uint8), "yuv420p")
    frames = encoder.encode(picture, timestamp=0, captured_at=0.0)
    assert len(snapshot(frames)) > 65_536
    small = still(frames)
    assert len(small) <= 60_000
    assert pixels(small).shape == (360, 640, 3)
    assert pixels(still(GOP)).shape == (HEIGHT, WIDTH, 3), "nothing is made larger"
    with pytest.raises(DeviceFault, match="cannot be decoded"):
        still([])


@settings(max_examples=40)
@given(st.data())
def test_noise_is_a_picture_or_a_fault(data: st.DataObject) -> None:
    broken = bytearray(GOP[0].data)
    for _ in range(data.draw(st.integers(1, 20))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert snapshot([EncodedFrame(bytes(broken), True, 0, 0.0)]).startswith(b"\xff\xd8")
    except DeviceFault:
        return
