from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import av
import numpy as np
import pytest

from edgeagent.core.h264 import IDR, PPS, SLICE, SPS, Sps, nal_type, parse_sps, slice_type, split_nals
from edgeagent.drivers import VideoEncoder
from edgeagent.errors import DeviceFault
from edgeagent.media.encoder import MIN_BITRATE, X264Encoder, make_encoder
from edgeagent.model import EncodedFrame

FPS = 30


def grainy(width: int, height: int) -> Iterator[av.VideoFrame]:
    """Pictures that no encoder can predict."""
    noise = np.random.default_rng(1)
    chroma = np.full((height // 2, width), 128, np.uint8)
    while True:
        yield av.VideoFrame.from_ndarray(np.vstack([noise.integers(90, 140, (height, width), np.uint8), chroma]), "yuv420p")


class Feed:
    """Encodes grain; each call goes on where the last one ended."""

    def __init__(self, encoder: VideoEncoder, width: int = 320, height: int = 240) -> None:
        self.encoder, self.pictures, self.number = encoder, grainy(width, height), 0

    def __call__(self, count: int, keyframe_at: int = -1) -> list[EncodedFrame]:
        made = []
        for index in range(count):
            frames = self.encoder.encode(
                next(self.pictures),
                timestamp=self.number * 90_000 // FPS,
                captured_at=100.0 + self.number,
                keyframe=index == keyframe_at,
            )
            assert len(frames) == 1, "a picture comes out of the call that brought it"
            assert frames[0].timestamp == self.number * 90_000 // FPS
            assert frames[0].captured_at == 100.0 + self.number
            made += frames
            self.number += 1
        return made


def rate_of(frames: list[EncodedFrame]) -> float:
    return sum(len(frame.data) for frame in frames) * 8 * FPS / len(frames)


def sps_of(frame: EncodedFrame) -> Sps:
    return parse_sps(next(nal for nal in split_nals(frame.data) if nal_type(nal) == SPS))


@pytest.fixture
def feed() -> Feed:
    return Feed(make_encoder(width=320, height=240, fps=FPS, bitrate=600_000, max_bitrate=2_000_000))


def test_stream_is_what_browsers_play(feed: Feed) -> None:
    frames = feed(40)
    assert [frame.keyframe for frame in frames] == [True] + [False] * 39
    assert [nal_type(nal) for nal in split_nals(frames[0].data) if nal_type(nal) != 6] == [SPS, PPS, IDR]
    for frame in frames[1:]:
        assert [nal_type(nal) for nal in split_nals(frame.data)] == [SLICE]
        assert slice_type(split_nals(frame.data)[0]) == "P"
    sps = sps_of(frames[0])
    assert sps.profile_level_id.startswith("42c0")
    assert (sps.width, sps.height, sps.may_reorder) == (320, 240, False)
    assert frames[0].layer == "main"


@pytest.mark.parametrize(
    ("size", "bitrate", "level"), [((640, 480), 1_000_000, 30), ((1280, 720), 3_000_000, 31), ((1920, 1080), 6_000_000, 40)]
)
def test_level_is_what_the_size_demands(size: tuple[int, int], bitrate: int, level: int) -> None:
    (frame,) = Feed(X264Encoder(width=size[0], height=size[1], fps=30, bitrate=bitrate), *size)(1)
    assert sps_of(frame).level_idc == level


def test_rate_follows_live_and_without_an_idr(feed: Feed) -> None:
    feed(30)
    for bps in (300_000, 1_000_000, 400_000):
        feed.encoder.set_bitrate(bps)
        feed(15)
        frames = feed(60)
        assert not any(frame.keyframe for frame in frames)
        assert 0.9 < rate_of(frames) / bps < 1.1


def test_rate_above_the_ceiling_opens_anew(feed: Feed) -> None:
    feed(10)
    feed.encoder.set_bitrate(3_000_000)
    frames = feed(75)
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0]
    assert 0.9 < rate_of(frames[15:]) / 3_000_000 < 1.1


def test_keyframe_comes_with_the_very_picture_that_asks(feed: Feed) -> None:
    frames = feed(30, keyframe_at=17)
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0, 17]
    assert {SPS, PPS, IDR} <= {nal_type(nal) for nal in split_nals(frames[17].data)}


@pytest.mark.parametrize("bps", [150_000, 600_000, 2_000_000])
def test_an_idr_holds_up_a_link_for_a_fraction_of_a_second(feed: Feed, bps: int) -> None:
    feed(20)
    feed.encoder.set_bitrate(bps)
    feed(20, keyframe_at=0)
    idr = feed(1, keyframe_at=0)[0]
    assert len(idr.data) * 8 / bps < 0.3


def test_an_idr_is_no_larger_where_the_rate_has_fallen_by_a_third_before() -> None:
    blocks = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    feed = Feed(X264Encoder(width=640, height=360, fps=FPS, bitrate=800_000, max_bitrate=1_060_000))
    feed.pictures = (av.VideoFrame.from_ndarray(np.roll(blocks, 2 * n, 1), "rgb24") for n in range(99))
    feed(12)
    feed.encoder.set_bitrate(520_000)
    assert not any(frame.keyframe for frame in feed(15))
    idr = feed(1, keyframe_at=0)[0]
    assert len(idr.data) * 8 / 520_000 < 0.33


def test_the_stream_decodes_across_rates_keyframes_and_reopening(feed: Feed) -> None:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoded = 0
    for bps, keyframe_at in ((600_000, -1), (200_000, 3), (200_000, -1), (2_500_000, -1), (400_000, 9)):
        feed.encoder.set_bitrate(bps)
        for frame in feed(12, keyframe_at):
            decoded += len(decoder.decode(av.Packet(frame.data)))
    assert decoded + len(decoder.decode(None)) == 60


def test_an_idr_comes_by_itself_after_ten_seconds() -> None:
    frames = Feed(make_encoder(width=320, height=240, fps=2, bitrate=100_000))(45)
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0, 20, 40]


def test_other_sizes_formats_and_types_are_converted() -> None:
    encoder = make_encoder(width=160, height=120, fps=10, bitrate=200_000, layer="small")
    picture = av.VideoFrame.from_ndarray(np.zeros((99, 201, 3), np.uint8), "rgb24")
    picture.pict_type = av.video.frame.PictureType.I
    frames = [frame for number in range(3) for frame in encoder.encode(picture, timestamp=number * 9000, captured_at=number)]
    assert (sps_of(frames[0]).width, sps_of(frames[0]).height) == (160, 120)
    assert [frame.keyframe for frame in frames] == [True, False, False]
    assert {frame.layer for frame in frames} == {"small"}


def test_rates_below_the_floor_are_lifted(feed: Feed) -> None:
    feed.encoder.set_bitrate(1)
    feed(30)
    assert rate_of(feed(60)) > MIN_BITRATE / 2


def test_colours_are_named_where_wanted() -> None:
    encoder = make_encoder(width=160, height=120, fps=10, bitrate=200_000, options={"colorspace": "bt709", "color_range": "tv"})
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    picture = next(grainy(160, 120))
    packets = [av.Packet(frame.data) for frame in encoder.encode(picture, timestamp=0, captured_at=0)]
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert decoded[0].colorspace == 1


@pytest.mark.parametrize(
    ("size", "fps", "bitrate"), [((321, 240), 30, 1000), ((0, 240), 30, 1000), ((320, 240), 0, 1000), ((16_000, 16_000), 60, 1000)]
)
def test_impossible_settings_are_refused(size: tuple[int, int], fps: float, bitrate: int) -> None:
    with pytest.raises(ValueError):
        make_encoder(width=size[0], height=size[1], fps=fps, bitrate=bitrate)


def test_unknown_options_are_a_fault() -> None:
    with pytest.raises(DeviceFault, match="does not start") as caught:
        make_encoder(width=320, height=240, fps=30, bitrate=100_000, options={"preset": "no such"})
    assert not caught.value.retry
    assert "tune" not in caught.value.message, "a reason, not all settings"


def test_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    create = av.CodecContext.create

    def short_of_memory(*arguments: Any) -> Any:
        context = create(*arguments)
        proxy = MagicMock(wraps=context)
        proxy.__class__ = type(context)
        proxy.open.side_effect = av.FFmpegError(errno.ENOMEM, "Cannot allocate memory")
        return proxy

    monkeypatch.setattr(av.CodecContext, "create", short_of_memory)
    with pytest.raises(DeviceFault, match=r"does not start \(Cannot allocate memory\)") as caught:
        X264Encoder(width=320, height=240, fps=30, bitrate=100_000)
    assert caught.value.retry
