"""The driver with the hardware encoder of a Pi 4 and older: picamera2's V4L2 code, against a stand-in for the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import videodev2 as v4l2

from edgeagent.drivers import DeviceFault
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from tests.rootfs.inside import codec
from tests.rootfs.inside.helpers import camera, kbit_s, layer_rests, of, wait_until


def no_software(**_: Any) -> NoReturn:
    raise AssertionError("the board's encoder is to be used")


@pytest.fixture
def board_codec() -> Iterator[codec.CodecRules]:
    device = Path("/dev/video11")  # on this image's own /dev
    device.touch()
    with codec.install() as rules:
        yield rules
    device.unlink()


def test_conforms(board_codec: codec.CodecRules) -> None:
    assert_conforms(camera(camera="Noise0", bitrate="1M"), no_software, frames=20)
    assert all(device.closed for device in board_codec.opened)


def test_asks_for_what_browsers_show(board_codec: codec.CodecRules) -> None:
    it = record(
        camera(fps=30, bitrate="2M", intra=33, lores={"bitrate": "50k"}), no_software, lambda it: it.wait_for(5, 30, "lores")
    )
    assert it.error is None
    main, lores = board_codec.opened
    assert main.controls[v4l2.V4L2_CID_MPEG_VIDEO_H264_PROFILE] == v4l2.V4L2_MPEG_VIDEO_H264_PROFILE_CONSTRAINED_BASELINE
    assert main.controls[v4l2.V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER] == 1
    assert main.controls[v4l2.V4L2_CID_MPEG_VIDEO_H264_I_PERIOD] == 33
    assert main.controls[v4l2.V4L2_CID_MPEG_VIDEO_BITRATE] == 2_000_000
    assert lores.controls[v4l2.V4L2_CID_MPEG_VIDEO_BITRATE] == 150_000, "the firmware gives up pictures below"
    assert (main.fps, lores.fps) == (30, 30)
    assert {(info.width, info.height) for info in it.infos.values()} == {(640, 360), (320, 180)}


def test_keyframe_and_bitrate_while_it_runs(board_codec: codec.CodecRules) -> None:
    def script(it: Recording) -> None:
        it.wait_for(30, 40, "main")
        it.bitrate = 400_000
        it.wait_for(len(of(it)) + 40, 40, "main")
        lowered.append(len(of(it)))
        it.keyframe_wanted.add("main")
        it.wait_for(len(of(it)) + 5, 40, "main")

    lowered: list[int] = []
    frames = of(record(camera(camera="Noise0", bitrate="1500k", lores=False), no_software, script))
    assert kbit_s(frames[10:30]) > 1000
    assert kbit_s(frames[lowered[0] - 20 : lowered[0]]) < 0.5 * kbit_s(frames[10:30])
    assert not any(frame.keyframe for frame in frames[1 : lowered[0]])
    assert any(frame.keyframe for frame in frames[lowered[0] : lowered[0] + 4])
    assert board_codec.opened[0].keyframes_asked == 1
    drift = [frame.timestamp / 90_000 - frame.captured_at for frame in frames]
    assert max(drift) - min(drift) < 0.01, "media time and capture time go together"


def test_a_layer_rests_while_nobody_wants_it(board_codec: codec.CodecRules) -> None:
    layer_rests(no_software)


def test_an_encoder_that_stalls_is_closed_and_opened_again(board_codec: codec.CodecRules) -> None:
    one = camera()

    def script(it: Recording) -> None:
        it.wait_for(5, 30, "main")
        board_codec.stalled = True
        wait_until(lambda: it.error, "the fault")

    fault = record(one, no_software, script).error
    assert isinstance(fault, DeviceFault)
    assert "encoder" in fault.message
    board_codec.stalled = False
    assert record(one, no_software, lambda it: it.wait_for(5, 30)).error is None


def test_an_encoder_that_fails_is_told_and_opened_again(board_codec: codec.CodecRules) -> None:
    one = camera()

    def script(it: Recording) -> None:
        it.wait_for(3, 30, "main")
        board_codec.broken = True
        wait_until(lambda: it.error, "the fault")

    fault = record(one, no_software, script).error
    assert isinstance(fault, DeviceFault)
    assert "video encoder failed" in fault.message
    board_codec.broken = False
    board_codec.absent = PermissionError(13, "Permission denied")
    fault = record(one, no_software, lambda it: it.wait_for(1, 30)).error
    assert "group video" in str(fault)
    board_codec.absent = None
    assert record(one, no_software, lambda it: it.wait_for(5, 30)).error is None
