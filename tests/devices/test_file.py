from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from edgeagent.core.h264 import is_keyframe, split_nals
from edgeagent.drivers import DeviceFault, EncodedFrame
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.media.encoder import make_encoder
from edgeagent_devices.file import FileCamera
from tests.support.clips import READY, make_clip
from tests.support.components import require


def camera(path: Path, **options: Any) -> FileCamera:
    return FileCamera("desk", FileCamera.Options(path=path, **options))


def no_encoder(**_: Any) -> Any:
    raise AssertionError("this clip needs no encoder")


def frames_of(path: Path, count: int, factory: Callable[..., Any] = make_encoder, **options: Any) -> Recording:
    recording = record(camera(path, **options), factory, lambda it: it.wait_for(count, 60), stop_s=60)
    assert recording.error is None
    assert len(recording.frames) >= count
    return recording


def pictures(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return [p for frame in frames for p in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)


def fault_of(path: Path, **options: Any) -> DeviceFault:
    recording = record(camera(path, **options), make_encoder, lambda it: it.wait_for(10_000, 60), stop_s=60)
    assert isinstance(recording.error, DeviceFault)
    return recording.error


class Quick(Recording):
    """Waits for no picture: its clock goes on instead. Ends after `count` pictures."""

    def __init__(self, count: int) -> None:
        super().__init__(make_encoder)
        self._count, self._now = count, 0.0

        class Skips(threading.Event):
            def wait(skips, timeout: float | None = None) -> bool:
                self._now += timeout or 0.0
                return skips.is_set()

        self.stopping = Skips()

    def now(self) -> float:
        return self._now

    def emit(self, frame: EncodedFrame) -> None:
        super().emit(frame)
        if len(self.frames) >= self._count:
            self.stopping.set()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "h264"])
def test_ready_h264_is_passed_through_and_loops_without_a_jump(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / f"clip.{suffix}", seconds=0.5)
    recording = frames_of(clip, 40, no_encoder)
    steps = [after.timestamp - before.timestamp for before, after in pairwise(recording.frames)]
    assert all(abs(step - 3000) <= 90 for step in steps)
    assert [index for index, frame in enumerate(recording.frames) if frame.keyframe][:3] == [0, 15, 30]
    assert recording.frames[0].data == recording.frames[15].data
    assert len(pictures(recording.frames[:40])) == 40
    info = recording.infos["main"]
    assert (info.width, info.height, info.fps, info.profile_level_id[:4]) == (320, 240, 30, "42c0")


def test_plays_in_real_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5)
    began = time.monotonic()
    recording = frames_of(clip, 40)
    for frame in recording.frames:
        due = began + (frame.timestamp - recording.frames[0].timestamp) / 90_000
        assert frame.captured_at >= due, "never before its time; how much later is the machine's affair, with the first one, too"


def test_passing_through_conforms(tmp_path: Path) -> None:
    assert_conforms(camera(make_clip(tmp_path / "clip.mp4")), no_encoder)


NOT_READY = {
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "mpeg4": ["-c:v", "mpeg4"],
    "b-frames": ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-x264-params", "b-adapt=0", "-pix_fmt", "yuv420p"],
    "4:4:4": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p"],
    "10 bit": ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"],
    "interlaced": ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p"],
    "mjpeg": ["-c:v", "mjpeg", "-strict", "unofficial"],
}


@pytest.mark.parametrize("kind", list(NOT_READY))
def test_anything_else_is_encoded(tmp_path: Path, kind: str) -> None:
    clip = make_clip(tmp_path / "clip.mkv", *NOT_READY[kind], seconds=1)
    recording = frames_of(clip, 45)
    assert recording.infos["main"].profile_level_id.startswith("42c0")
    assert all(before.timestamp < after.timestamp for before, after in pairwise(recording.frames))
    assert len(pictures(recording.frames)) == len(recording.frames)


def test_encoding_conforms(tmp_path: Path) -> None:
    assert_conforms(camera(make_clip(tmp_path / "clip.mkv", *NOT_READY["mpeg4"])), make_encoder)


def test_what_is_encoded_has_a_small_layer_and_the_owners_rate(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", *NOT_READY["mjpeg"], size="640x480", seconds=1)
    assert camera(clip).capabilities.layers == ("main", "low")
    asked: dict[str, Any] = {}

    def factory(**settings: Any) -> Any:
        asked[settings["layer"]] = settings
        return make_encoder(**settings)

    recording = frames_of(clip, 10, factory, bitrate="700k")
    assert {layer: (how["width"], how["fps"], how["max_bitrate"]) for layer, how in asked.items()} == {
        "main": (640, 30, 700_000), "low": (320, 30, 247_487)
    }  # fmt: skip
    for layer, width in (("main", 640), ("low", 320)):
        frames = [frame for frame in recording.frames if frame.layer == layer]
        assert {picture.width for picture in pictures(frames)} == {width}
        assert (recording.infos[layer].encoded, recording.infos[layer].bitrate) == (True, asked[layer]["max_bitrate"])


def test_what_goes_through_or_is_small_has_no_small_layer(tmp_path: Path) -> None:
    ready = frames_of(make_clip(tmp_path / "clip.mp4", size="640x480"), 5, no_encoder)
    small = frames_of(make_clip(tmp_path / "clip.mkv", *NOT_READY["mpeg4"]), 5)
    for recording in (ready, small):
        assert recording.infos["low"].absent and not recording.infos["main"].absent
        assert {frame.layer for frame in recording.frames} == {"main"}


@pytest.mark.parametrize(("size", "shown"), [("321x241", (320, 240)), ("2560x1440", (1920, 1080)), ("1088x2400", (870, 1920))])
def test_sizes_that_cannot_be_are_scaled(tmp_path: Path, size: str, shown: tuple[int, int]) -> None:
    clip = make_clip(tmp_path / "clip.mkv", "-c:v", "mjpeg", "-strict", "unofficial", size=size, fps=5, seconds=1)
    info = frames_of(clip, 2).infos["main"]
    assert (info.width, info.height) == shown


@pytest.mark.parametrize(("degrees", "shown"), [(90, (240, 320)), (180, (320, 240)), (270, (240, 320))])
def test_upright_clips_of_telephones_are_turned(tmp_path: Path, degrees: int, shown: tuple[int, int]) -> None:
    # White at the top left as stored; ffmpeg's `rotate` counts counter-clockwise.
    plain = make_clip(tmp_path / "plain.mp4", "-vf", "drawbox=c=black:t=fill,drawbox=w=60:h=60:c=white:t=fill", *READY, seconds=0.5)
    clip = tmp_path / "turned.mp4"
    command = [require("ffmpeg"), "-nostdin", "-loglevel", "error", "-i", str(plain), "-c", "copy"]
    subprocess.run([*command, "-metadata:s:v:0", f"rotate={degrees}", str(clip)], check=True)
    recording = frames_of(clip, 3)
    info = recording.infos["main"]
    assert (info.width, info.height) == shown
    corner = {90: (30, -30), 180: (-30, -30), 270: (-30, 30)}[degrees]
    picture = pictures(recording.frames)[0]
    plane = picture.planes[0]
    luma = bytes(plane)
    x, y = corner[0] % picture.width, corner[1] % picture.height
    assert luma[y * plane.line_size + x] > 200
    others = [(30, 30), (-30, 30), (30, -30), (-30, -30)]
    dark = [luma[oy % picture.height * plane.line_size + ox % picture.width] for ox, oy in others if (ox, oy) != corner]
    assert max(dark) < 40


def test_a_late_b_frame_changes_over_to_encoding(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "a.ts", seconds=1)
    mixed = make_clip(tmp_path / "b.ts", *NOT_READY["b-frames"], seconds=1)
    clip = tmp_path / "clip.h264"  # raw, so that no time stamps tell beforehand
    for part in (plain, mixed):
        command = [require("ffmpeg"), "-nostdin", "-loglevel", "error", "-i", str(part), "-c", "copy", "-f", "h264", "-"]
        with clip.open("ab") as out:
            subprocess.run(command, check=True, stdout=out)
    recording = frames_of(clip, 60)
    assert recording.frames[-1].timestamp > 0
    assert all(before.timestamp < after.timestamp for before, after in pairwise(recording.frames))
    assert len(pictures(recording.frames)) == len(recording.frames)


@pytest.mark.parametrize("scanned", [900, 3], ids=["seen before", "seen on the way"])
def test_a_picture_that_stands_for_seconds_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: int) -> None:
    """Slides, or a screen recorded with a variable rate: silence would be taken for a fault, and the clip begin anew for ever."""
    moves, stands = make_clip(tmp_path / "moves.mp4", seconds=0.4), tmp_path / "stands.mp4"
    times = r"setts=pts=PTS+gte(N\,6)*6/TB:dts=DTS+gte(N\,6)*6/TB"
    subprocess.run(["ffmpeg", "-v", "error", "-i", moves, "-c", "copy", "-bsf:v", times, stands], check=True)
    monkeypatch.setattr("edgeagent_devices.file._SCANNED", scanned)
    quick = Quick(18)
    camera(stands).run(quick)
    gaps = [(b.timestamp - a.timestamp) / 90_000 for a, b in pairwise(quick.frames)]
    assert max(gaps) <= 1.5, gaps
    assert sum(gaps[:17]) > 6.0
    assert all(gap > 0.03 for gap in gaps), "the decoder's last pictures have their time, too"


def test_a_stamp_hours_ahead_is_no_stop(tmp_path: Path) -> None:
    moves, broken = make_clip(tmp_path / "moves.mp4", seconds=0.4), tmp_path / "broken.ts"
    times = r"setts=pts=PTS+gte(N\,6)*36000/TB:dts=DTS+gte(N\,6)*36000/TB"
    subprocess.run(["ffmpeg", "-v", "error", "-copyts", "-i", moves, "-c", "copy", "-bsf:v", times, broken], check=True)
    quick = Quick(12)
    camera(broken).run(quick)
    assert quick.now() < 1.0
    assert all(b.timestamp > a.timestamp for a, b in pairwise(quick.frames))


def test_without_loop_it_ends_once(tmp_path: Path) -> None:
    fault = fault_of(make_clip(tmp_path / "clip.mp4", seconds=0.3), loop=False)
    assert fault.message == "The clip clip.mp4 has ended."
    assert not fault.retry


def test_a_clip_cut_off_plays_what_is_there(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", seconds=2)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    recording = frames_of(clip, 70)
    assert sum(frame.keyframe for frame in recording.frames) >= 2
    assert all(is_keyframe(split_nals(frame.data)) for frame in recording.frames if frame.keyframe)


def make_bad(folder: Path, kind: str) -> Path:
    path = folder / "bad.mp4"
    match kind:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "text":
            path.write_text("no video\n" * 1000)
        case "pipe":
            os.mkfifo(path)
        case "cut off":
            path.write_bytes(make_clip(folder / "whole.mp4").read_bytes()[:-2000])
        case "sound":
            subprocess.run(
                [
                    require("ffmpeg"),
                    "-nostdin",
                    "-loglevel",
                    "error",
                    "-f",
                    "lavfi",
                    "-i",
                    "sine=duration=1",
                    "-c:a",
                    "aac",
                    str(path),
                ],
                check=True,
            )
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "There is no file bad.mp4"),
        ("folder", "bad.mp4 is a folder"),
        ("empty", "The file bad.mp4 is empty"),
        ("text", "not a video that can be read"),
        ("pipe", "not an ordinary file"),
        ("cut off", "or it is cut off"),
        ("sound", "holds no video"),
    ],
)
def test_what_is_no_clip_is_said_in_words(tmp_path: Path, kind: str, sentence: str) -> None:
    fault = fault_of(make_bad(tmp_path, kind))
    assert sentence in fault.message
    assert str(tmp_path) not in fault.message, "viewers need not know the board's folders"
    assert fault.retry


def test_options() -> None:
    with pytest.raises(ValidationError):
        FileCamera.Options()  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        FileCamera.Options(path=Path("a"), speed=2)  # type: ignore[call-arg]


def test_a_relative_path_is_taken_from_the_configurations_folder(tmp_path: Path) -> None:
    options = FileCamera.Options.model_validate({"path": "clip.mp4"}, context={"folder": tmp_path})
    assert options.path == tmp_path / "clip.mp4"
    assert FileCamera.Options.model_validate({"path": "/a/clip.mp4"}, context={"folder": tmp_path}).path == Path("/a/clip.mp4")
