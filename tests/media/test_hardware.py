"""The encoder of a board, on a stand-in that speaks the kernel's ioctls."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edgeagent import v4l2
from edgeagent.core.h264 import IDR, PPS, SPS, Sps, nal_type, parse_sps, slice_type, split_nals
from edgeagent.errors import DeviceFault
from edgeagent.media import hardware
from edgeagent.media.encoder import X264Encoder, make_encoder
from edgeagent.media.hardware import M2mEncoder, Refused, find_encoder
from edgeagent.model import EncodedFrame
from tests.support.v4l2 import Control, EncoderDevice, FakeNode

FPS = 30


def grainy(width: int, height: int) -> Iterator[av.VideoFrame]:
    """Pictures that cannot be predicted, so that the rate is used."""
    generator = np.random.default_rng(1)
    base = np.linspace(0, 200, width, dtype=np.uint8)
    while True:
        picture = np.zeros((height * 3 // 2, width), np.uint8)
        picture[:height] = base + generator.integers(0, 50, (height, width), dtype=np.uint8)
        picture[height:] = 128
        yield av.VideoFrame.from_ndarray(picture, "yuv420p")


class Feed:
    def __init__(self, encoder: M2mEncoder | X264Encoder, width: int = 320, height: int = 240) -> None:
        self.encoder, self.pictures, self.number = encoder, grainy(width, height), 0

    def __call__(self, count: int, keyframe_at: int = -1) -> list[EncodedFrame]:
        made = []
        for index in range(count):
            now = 100.0 + self.number
            made += self.encoder.encode(
                next(self.pictures), timestamp=self.number * 90_000 // FPS, captured_at=now, keyframe=index == keyframe_at
            )
            self.number += 1
        return made


def encoder_of(device: EncoderDevice, **settings: Any) -> M2mEncoder:
    clock = iter(range(10_000_000))
    chosen = {"width": 320, "height": 240, "fps": FPS, "bitrate": 600_000, "max_bitrate": 2_000_000} | settings
    return M2mEncoder(device.open("/dev/video11"), clock=lambda: next(clock) / 1000, **chosen)


def sps_of(frame: EncodedFrame) -> Sps:
    return parse_sps(next(nal for nal in split_nals(frame.data) if nal_type(nal) == SPS))


def decoded(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)


@pytest.fixture
def device() -> Iterator[EncoderDevice]:
    device = EncoderDevice()
    yield device
    assert device.opened == 0, "whatever happens, the device is closed"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_shunned", {})
    monkeypatch.setattr(hardware, "_said", set())


@pytest.mark.parametrize("raw", ["YU12", "NV12"])
@pytest.mark.parametrize("size", [(320, 240), (200, 114)], ids=["aligned", "odd lines"])
def test_pictures_arrive_whole(raw: str, size: tuple[int, int]) -> None:
    device = EncoderDevice(raw=raw)
    encoder = encoder_of(device, width=size[0], height=size[1])
    pictures = [next(grainy(*size)) for _ in range(3)]
    frames = [
        frame for n, picture in enumerate(pictures) for frame in encoder.encode(picture, timestamp=n * 3000, captured_at=n + 0.5)
    ]
    encoder.close()
    assert [(frame.timestamp, frame.captured_at, frame.keyframe, frame.layer) for frame in frames] == [
        (0, 0.5, True, "main"), (3000, 1.5, False, "main"), (6000, 2.5, False, "main")
    ]  # fmt: skip
    shown = decoded(frames)[0].to_ndarray(format="yuv420p").astype(int)
    assert np.abs(shown - next(grainy(*size)).to_ndarray().astype(int)).mean() < 12
    assert (sps_of(frames[0]).width, sps_of(frames[0]).height) == size
    assert device.fps == pytest.approx(FPS)


def test_every_idr_has_its_sets_and_comes_when_asked(device: EncoderDevice) -> None:
    encoder = encoder_of(device)
    frames = Feed(encoder)(30, keyframe_at=17)
    encoder.close()
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0, 17]
    for index in (0, 17):
        assert {SPS, PPS, IDR} <= {nal_type(nal) for nal in split_nals(frames[index].data)}
    assert {slice_type(split_nals(frame.data)[0]) for frame in frames if not frame.keyframe} == {"P"}


def test_settings_are_what_browsers_need(device: EncoderDevice) -> None:
    encoder = encoder_of(device, width=1280, height=720, bitrate=3_000_000)
    encoder.close()
    assert device.values[device.PROFILE] == 1
    assert device.values[device.LEVEL] == 9, "3.1"
    assert device.values[0x9909E2] == 1
    assert device.values[device.BITRATE] == 3_000_000


def test_the_rate_follows_live_and_without_an_idr(device: EncoderDevice) -> None:
    encoder = encoder_of(device)
    feed = Feed(encoder)
    feed(30)
    for bps in (300_000, 1_000_000, 400_000):
        encoder.set_bitrate(bps)
        feed(15)
        frames = feed(45)
        assert not any(frame.keyframe for frame in frames)
        assert 0.8 < sum(len(frame.data) for frame in frames) * 8 * FPS / len(frames) / bps < 1.2
    encoder.set_bitrate(1)
    assert device.values[device.BITRATE] == hardware.MIN_BITRATE
    calls = len(device.called)
    encoder.set_bitrate(1)
    assert len(device.called) == calls, "nothing is said twice"
    encoder.close()


def test_an_idr_comes_by_itself_after_ten_seconds(device: EncoderDevice) -> None:
    encoder = encoder_of(device, width=64, height=64, fps=2)
    frames = Feed(encoder, 64, 64)(45)
    encoder.close()
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0, 20, 40]


def test_a_device_that_keeps_pictures_for_a_while_loses_none() -> None:
    device = EncoderDevice(delay=2)
    encoder = encoder_of(device)
    frames = Feed(encoder)(20)
    encoder.close()
    assert [frame.timestamp for frame in frames] == [n * 3000 for n in range(18)]
    assert [frame.captured_at for frame in frames] == [100.0 + n for n in range(18)]


def test_headers_in_a_buffer_of_their_own_join_their_picture() -> None:
    device = EncoderDevice(headers_apart=True)
    encoder = encoder_of(device)
    frames = Feed(encoder)(10, keyframe_at=5)
    encoder.close()
    assert len(frames) == 10
    assert {SPS, PPS, IDR} <= {nal_type(nal) for nal in split_nals(frames[5].data)}
    assert frames[5].timestamp == 15_000


def test_a_spoilt_picture_is_left_out_and_the_next_one_is_an_idr(device: EncoderDevice) -> None:
    device.errors = {5}
    encoder = encoder_of(device)
    frames = Feed(encoder)(10)
    encoder.close()
    assert [frame.timestamp // 3000 for frame in frames] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [frame.keyframe for frame in frames] == [True, False, False, False, True, False, False, False, False]
    assert len(decoded(frames)) == 9


def test_other_sizes_and_formats_are_converted(device: EncoderDevice) -> None:
    encoder = encoder_of(device, layer="small")
    picture = av.VideoFrame.from_ndarray(np.zeros((99, 201, 3), np.uint8), "rgb24")
    (frame,) = encoder.encode(picture, timestamp=0, captured_at=0)
    encoder.close()
    assert (sps_of(frame).width, frame.layer) == (320, "small")


def test_a_device_that_hangs_is_a_fault(device: EncoderDevice) -> None:
    encoder = encoder_of(device)
    feed = Feed(encoder)
    feed(3)
    device.stuck = True
    with pytest.raises(DeviceFault, match=r"does not answer|keeps its buffers"):
        feed(200)
    encoder.close()


@pytest.mark.parametrize("call", ["qbuf", "dqbuf", "s_ctrl"])
def test_a_failure_while_running_is_a_fault_and_the_device_is_left_alone(
    device: EncoderDevice, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "find_encoder", lambda: "/dev/video11")
    monkeypatch.setattr(v4l2, "Node", device.open)
    settings = {"width": 320, "height": 240, "fps": FPS, "bitrate": 600_000}
    encoder = make_encoder(**settings)  # type: ignore[arg-type]
    assert isinstance(encoder, M2mEncoder)
    feed = Feed(encoder)
    feed(3)
    device.refuse[call] = errno.EIO
    with pytest.raises(DeviceFault, match="The board's video encoder failed"):
        feed(3, keyframe_at=1)
    encoder.close()
    device.refuse.clear()
    assert isinstance(make_encoder(**settings), X264Encoder), "for a while"  # type: ignore[arg-type]
    later = time.monotonic() + hardware.SHUNNED_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    encoder = make_encoder(**settings)  # type: ignore[arg-type]
    assert isinstance(encoder, M2mEncoder)
    encoder.close()


@pytest.mark.parametrize("call", ["s_fmt", "reqbufs", "querybuf", "qbuf", "streamon"])
def test_a_device_that_is_busy_leaves_the_work_to_x264(
    device: EncoderDevice, call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "find_encoder", lambda: "/dev/video11")
    monkeypatch.setattr(v4l2, "Node", device.open)
    device.refuse[call] = errno.EBUSY
    for _ in range(3):
        assert isinstance(make_encoder(width=320, height=240, fps=FPS, bitrate=600_000), X264Encoder)
    assert [record.getMessage() for record in caplog.records] == [
        f"the board's video encoder /dev/video11 cannot be used ({os.strerror(errno.EBUSY)}); x264 encodes instead"
    ]


def test_what_it_cannot_encode_is_refused(device: EncoderDevice) -> None:
    device.max_size = (1920, 1088)
    with pytest.raises(Refused, match="2560x1440"):
        encoder_of(device, width=2560, height=1440)
    del device.controls[device.BITRATE]
    with pytest.raises(Refused, match="cannot be controlled"):
        encoder_of(device)


def test_a_device_without_baseline_is_refused(device: EncoderDevice) -> None:
    device.controls[device.PROFILE] = Control("H264 Profile", 2, 4, kind=v4l2.CTRL_MENU)
    with pytest.raises(Refused, match="baseline"):
        encoder_of(device)


def test_a_picture_of_another_size_than_wanted_is_a_fault(device: EncoderDevice) -> None:
    encoder = encoder_of(device)
    device.encoder = X264Encoder(width=160, height=120, fps=FPS, bitrate=600_000)
    with pytest.raises(DeviceFault, match="makes 160x120 of 320x240"):
        Feed(encoder)(1)
    encoder.close()


@pytest.mark.parametrize(("size", "fps"), [((321, 240), 30.0), ((320, 0), 30.0), ((320, 240), 0.0)])
def test_impossible_settings_are_refused_before_the_device_is_asked(
    device: EncoderDevice, size: tuple[int, int], fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "find_encoder", lambda: pytest.fail("asked"))
    with pytest.raises(ValueError):
        make_encoder(width=size[0], height=size[1], fps=fps, bitrate=1000)


class NoEncoder(EncoderDevice):
    flags = v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING


def test_the_encoder_is_found_among_other_devices_and_usb_is_left_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = {"video0": EncoderDevice(), "video2": NoEncoder(), "video10": EncoderDevice(raw="BA81"), "video11": EncoderDevice()}
    (tmp_path / "dev").mkdir()
    for name in [*devices, "video-not"]:
        (tmp_path / "dev" / name).touch()
    (tmp_path / "sys/bus/usb").mkdir(parents=True)
    (tmp_path / "sys/class/video4linux/video0/device").mkdir(parents=True)
    (tmp_path / "sys/class/video4linux/video0/device/subsystem").symlink_to(tmp_path / "sys/bus/usb")
    asked = []

    def open_node(path: Path) -> FakeNode:
        asked.append(path.name)
        return devices[path.name].open(str(path))

    monkeypatch.setattr(v4l2, "Node", open_node)
    assert find_encoder(tmp_path) == str(tmp_path / "dev/video11")
    assert asked == ["video2", "video10", "video11"]
    assert not any(device.opened for device in devices.values())
    (tmp_path / "dev/video11").unlink()
    assert find_encoder(tmp_path) is None
