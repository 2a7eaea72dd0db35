"""Decoding once and encoding once: no picture held back, bounded delay, nothing done while nobody watches."""

from __future__ import annotations

import functools
import io
import itertools
import random
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.h264 import contains_b_slice, parse_sps, split_nals
from edgeagent.drivers import DeviceFault, EncodedFrame, picture_rate
from edgeagent.drivers.conformance import Recording
from edgeagent.media.encoder import X264Encoder
from edgeagent_devices._reencode import Reencoder, Reencoders, layers_of
from edgeagent_devices._transcode import Lag, Transcoder, starts_here
from tests.support.components import require

FPS = 30
FRAME = 90_000 // FPS

CODECS: dict[str, tuple[str, list[str]]] = {
    "h265": ("hevc", ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "bframes=0:keyint=15:log-level=error"]),
    "h265 b-frames": ("hevc", ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "bframes=2:keyint=15:log-level=error"]),
    "h264 b-frames": ("h264", ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "15", "-pix_fmt", "yuv420p"]),
    "mjpeg": ("mjpeg", ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p"]),
}  # fmt: skip


class Rig(Recording):
    """A `CameraIO` whose clock the test sets."""

    def __init__(self) -> None:
        super().__init__(X264Encoder)
        self.time = 100.0
        self.made: list[tuple[int, int, float, int]] = []
        self.alives = 0

    def alive(self) -> None:
        self.alives += 1

    def now(self) -> float:
        return self.time

    def encoder(
        self, *, width: int, height: int, fps: float, bitrate: int, layer: str = "main", options: dict[str, str] | None = None
    ) -> X264Encoder:
        self.made.append((width, height, fps, bitrate))
        made = super().encoder(width=width, height=height, fps=fps, bitrate=bitrate, layer=layer, options=options)
        assert isinstance(made, X264Encoder)
        return made


@functools.cache
def units(kind: str, size: str = "320x240", count: int = 45) -> list[tuple[bytes, int]]:
    """Access units in decoding order, with their time of presentation."""
    codec, options = CODECS[kind]
    source = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={FPS}", "-frames:v", str(count)]
    options = options if codec == "mjpeg" else [*options, "-bsf:v", "dump_extra"]
    command = [require("ffmpeg"), "-nostdin", "-loglevel", "error", *source, *options, "-f", "nut", "-"]
    clip = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    with av.open(io.BytesIO(clip), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [(bytes(packet), round((packet.pts or 0) * float(packet.time_base or 0) * 90_000)) for packet in packets]


def transcoder_of(rig: Rig, codec: Any, *, bitrate: int = 600_000, fps: float = FPS, name: str = "") -> Transcoder:
    return Transcoder(rig, codec, Reencoders(rig, [Reencoder(rig, bitrate=bitrate, fps=fps)], name=name), name=name)


def feed(transcoder: Transcoder, rig: Rig, items: list[tuple[bytes, int]], offset: int = 0) -> Iterator[int]:
    for data, timestamp in items:
        rig.time += 1 / FPS
        yield transcoder.feed(data, timestamp + offset, rig.time)


def decoded(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)


@pytest.mark.parametrize(("kind", "held"), [("h265", 0), ("mjpeg", 0), ("h265 b-frames", 2), ("h264 b-frames", 2)])
def test_no_picture_is_held_back_beyond_its_b_frames(kind: str, held: int) -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, CODECS[kind][0])
    done = 0
    for fed, count in enumerate(feed(transcoder, rig, units(kind)), 1):
        done += count
        assert fed - done <= held
    transcoder.close()
    frames = rig.frames
    assert len(frames) >= 43
    assert [frame.timestamp for frame in frames] == sorted({frame.timestamp for frame in frames})
    assert {after.timestamp - before.timestamp for before, after in itertools.pairwise(frames)} == {FRAME}
    assert frames[0].keyframe
    assert not any(contains_b_slice(split_nals(frame.data)) for frame in frames)
    assert len(decoded(frames)) == len(frames)
    info = rig.infos["main"]
    assert (info.width, info.height, info.fps, info.encoded) == (320, 240, FPS, True)


@pytest.mark.parametrize("kind", ["h264 b-frames", "h265 b-frames"])
def test_b_frames_that_are_stamped_in_order_of_decoding_keep_their_rate(kind: str) -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, CODECS[kind][0], fps=0)
    stamps = [FRAME * number for number in range(90)]
    items = [(data, stamp) for (data, _), stamp in zip(units(kind) * 2, stamps, strict=True)]
    assert sum(feed(transcoder, rig, items)) >= 86
    transcoder.close()
    assert {made[2] for made in rig.made} == {FPS}, "the encoder is told the true rate"
    steps = [after.timestamp - before.timestamp for before, after in itertools.pairwise(rig.frames)]
    assert min(steps) > 0
    assert steps[5:] == [FRAME] * len(steps[5:]), "once it is found out"


def test_the_capture_time_stays_with_its_picture() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "h264")
    captured = {}
    for data, timestamp in units("h264 b-frames"):
        rig.time += 1 / FPS
        captured[timestamp] = rig.time
        transcoder.feed(data, timestamp, rig.time)
    latest = 0.0  # what a picture refers to came before it, though it is shown later
    for frame in rig.frames:
        latest = max(latest, captured[frame.timestamp])
        assert frame.captured_at == latest


def test_keyframes_and_rates_as_wished() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "hevc")
    list(feed(transcoder, rig, units("h265")[:20]))
    rig.keyframe_wanted.add("main")
    list(feed(transcoder, rig, units("h265")[20:]))
    assert [index for index, frame in enumerate(rig.frames) if frame.keyframe] == [0, 20]
    rig.bitrate = 100_000
    before = sum(len(frame.data) for frame in rig.frames[-20:])
    list(feed(transcoder, rig, units("h265"), 45 * FRAME))
    assert sum(len(frame.data) for frame in rig.frames[-20:]) < before / 2


def test_damage_is_concealed() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "h264")
    items = units("h264 b-frames")
    broken = [(data[: len(data) // 2] if index % 7 == 3 else data, at) for index, (data, at) in enumerate(items) if index % 11 != 5]
    list(feed(transcoder, rig, broken))
    assert len(rig.frames) > 30
    assert len(decoded(rig.frames)) == len(rig.frames)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_rubbish_does_no_harm(items: list[bytes]) -> None:
    rig = Rig()
    for codec in ("h264", "hevc", "mjpeg"):
        transcoder = transcoder_of(rig, codec, fps=0)
        list(feed(transcoder, rig, [(data, index * FRAME) for index, data in enumerate(items)]))
        transcoder.close()
    assert not rig.frames


def test_what_can_never_be_decoded_is_a_fault() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "hevc", fps=0)
    with pytest.raises(DeviceFault, match="cannot be decoded"):
        list(feed(transcoder, rig, [(b"\0\0\0\1\x02\x01rubbish", index * FRAME) for index in range(11 * FPS)]))


def test_nothing_is_done_while_nobody_watches_and_then_the_newest_picture_comes_at_once() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "hevc")
    rig.unwanted.add("main")
    list(feed(transcoder, rig, units("h265")[:25]))
    assert not rig.frames and not rig.made
    assert rig.alives == 25, "a camera that rests is no camera that hangs"
    rig.unwanted.clear()
    data, timestamp = units("h265")[25]
    assert transcoder.feed(data, timestamp, rig.time) == 2
    assert [frame.timestamp for frame in rig.frames] == [24 * FRAME, 25 * FRAME]
    assert rig.frames[0].keyframe
    assert [frame.width for frame in decoded(rig.frames)] == [320, 320]


def test_who_comes_again_begins_with_a_keyframe() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "mjpeg")
    list(feed(transcoder, rig, units("mjpeg")[:5]))
    rig.unwanted.add("main")
    list(feed(transcoder, rig, units("mjpeg")[5:10]))
    rig.unwanted.clear()
    list(feed(transcoder, rig, units("mjpeg")[10:15]))
    assert [frame.keyframe for frame in rig.frames] == [True] + [False] * 4 + [True] + [False] * 4


def test_a_slow_board_leaves_out_pictures_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "hevc", name="gate")
    items = [(data, at + lap * 45 * FRAME) for lap in range(4) for data, at in units("h265")]
    list(feed(transcoder, rig, items[:30]))
    assert len(rig.frames) == 30
    rig.time += 0.7  # late: decoded, one in a second shown
    list(feed(transcoder, rig, items[30:60]))
    assert 30 < len(rig.frames) <= 32
    rig.time += 1.3  # hopeless: keyframes only
    list(feed(transcoder, rig, items[60:90]))
    assert 32 <= len(rig.frames) <= 35
    assert "camera gate: this board is too slow" in caplog.text
    rig.time -= 2.0  # it has caught up
    list(feed(transcoder, rig, items[90:150]))
    assert [frame.timestamp for frame in rig.frames[-40:]] == [(150 - 40 + index) * FRAME for index in range(40)]
    assert len(decoded(rig.frames)) == len(rig.frames)


def test_what_waited_here_is_told_and_what_came_late_is_not() -> None:
    rig = Rig()
    transcoder = transcoder_of(rig, "mjpeg")
    items = [(data, at + lap * 45 * FRAME) for lap in range(2) for data, at in units("mjpeg")]
    list(feed(transcoder, rig, items[:30]))
    rig.time += 0.7  # on its way here
    list(feed(transcoder, rig, items[30:40]))
    assert len(rig.frames) == 31 and rig.slow == {}
    for data, at in items[40:50]:
        rig.time += 1 / FPS
        transcoder.feed(data, at, rig.time - 0.7)  # in the queue
    assert len(rig.frames) == 31 and rig.slow == {"main": 10}
    transcoder.close()


def grey(width: int, height: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 90, np.uint8), "yuv420p")


@pytest.mark.parametrize(
    ("size", "encoded"),
    [((3840, 2160), (1920, 1080)), ((1080, 1920), (1080, 1920)), ((2160, 3840), (1080, 1920)), ((640, 480), (640, 480))],
)
def test_large_pictures_are_made_smaller(size: tuple[int, int], encoded: tuple[int, int]) -> None:
    rig = Rig()
    Reencoder(rig, bitrate=600_000, fps=FPS).take(grey(*size), 0, 100)
    assert rig.made[0][:2] == encoded
    sps = parse_sps(next(nal for nal in split_nals(rig.frames[0].data) if nal[0] & 31 == 7))
    assert (sps.width, sps.height) == encoded


def test_another_size_or_a_rate_that_lasts_makes_another_encoder() -> None:
    rig = Rig()
    encoder = Reencoder(rig, bitrate=600_000, fps=FPS)
    for index in range(130):  # in the dark a webcam halves its rate
        encoder.take(grey(320, 240), index * 2 * FRAME, 100)
    assert [(made[0], round(made[2])) for made in rig.made] == [(320, 30), (320, 15)]
    assert [index for index, frame in enumerate(rig.frames) if frame.keyframe] == [0, 120]
    encoder.take(grey(640, 480), 260 * FRAME, 100)
    assert rig.made[-1][:2] == (640, 480)
    assert (rig.infos["main"].width, rig.infos["main"].fps) == (640, 15)
    encoder.close()


def test_where_a_keyframe_is_due_anyway_the_encoder_is_made_for_the_rate_at_once() -> None:
    rig = Rig()
    encoder = Reencoder(rig, bitrate=600_000, fps=FPS)
    for index in range(60):
        if index == 50:
            rig.keyframe_wanted.add("main")
        encoder.take(grey(320, 240), index * 2 * FRAME, 100)
    assert [round(made[2]) for made in rig.made] == [30, 15]
    assert [index for index, frame in enumerate(rig.frames) if frame.keyframe] == [0, 50]


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_that_stalls_costs_no_keyframe(seed: int) -> None:
    rig, chance = Rig(), random.Random(seed)
    encoder = Reencoder(rig, bitrate=600_000, fps=FPS)
    at = 0
    for _ in range(250):
        at += FRAME + (round(chance.uniform(0.1, 4) * 90_000) if chance.random() < 0.1 else 0)
        encoder.take(grey(32, 32), at, 100)
    assert [frame.keyframe for frame in rig.frames].count(True) == 1
    assert len(rig.made) == 1


def test_the_bitrate_is_kept_whatever_number_of_pictures_comes() -> None:
    told: list[int] = []

    class Told(X264Encoder):
        def set_bitrate(self, bps: int) -> None:
            told.append(bps)
            super().set_bitrate(bps)

    rig = Rig()
    rig.encoder = Told  # type: ignore[method-assign]
    rig.bitrate = 300_000
    encoder = Reencoder(rig, bitrate=1_000_000, fps=FPS)
    for index in range(60):
        encoder.take(grey(64, 64), index * FRAME, 100)
    assert told == [300_000], "an encoder is told nothing twice"
    for index in range(60):  # half as many: each may take twice as much
        encoder.take(grey(64, 64), (60 + index * 2) * FRAME, 100)
    assert 540_000 < told[-1] <= 600_000
    rig.bitrate = 900_000
    encoder.take(grey(64, 64), 181 * FRAME, 100)
    assert told[-1] == 1_000_000, "and no more than the encoder was made for"
    assert [frame.keyframe for frame in rig.frames].count(True) == 1


def test_a_rate_that_climbs_makes_no_keyframe() -> None:
    rig = Rig()
    rig.bitrate = 200_000
    encoder = Reencoder(rig, bitrate=3_000_000, fps=FPS)
    for index in range(60):
        rig.bitrate = 200_000 + 10_000 * index
        encoder.take(grey(64, 64), index * FRAME, 100)
    assert [frame.keyframe for frame in rig.frames].count(True) == 1


def test_too_low_a_rate_for_all_pictures_takes_fewer_and_so_does_a_limit() -> None:
    rig = Rig()
    rig.bitrate = 100_000
    encoder = Reencoder(rig, bitrate=3_000_000, fps=FPS)
    for index in range(90):
        encoder.take(grey(640, 480), index * FRAME, 100)
    enough = picture_rate(640, 480, FPS, 100_000)
    assert enough < FPS
    assert len(rig.frames) == pytest.approx(3 * enough, abs=3)
    rig = Rig()
    encoder = Reencoder(rig, bitrate=3_000_000, fps=FPS, max_fps=10)
    for index in range(90):
        encoder.take(grey(64, 64), index * FRAME, 100)
    assert len(rig.frames) == pytest.approx(30, abs=3)
    assert [made[2] for made in rig.made] == [10]


def test_a_small_layer_that_fails_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    layers = layers_of(rig, (640, 480), fps=FPS, bitrate=600_000, name="gate")
    assert {layer: (info.width, info.encoded) for layer, info in rig.infos.items()} == {"main": (640, True), "low": (320, True)}
    make = rig.encoder

    def refuses(*, layer: str, **how: Any) -> X264Encoder:
        if layer == "low":
            raise DeviceFault("The video encoder does not start.")
        return make(layer=layer, **how)

    rig.encoder = refuses  # type: ignore[method-assign,assignment]
    for index in range(3):
        layers.take(grey(640, 480), index * FRAME, 100)
    assert [frame.layer for frame in rig.frames] == ["main"] * 3
    assert rig.infos["low"].absent
    assert caplog.text.count("camera gate: its small picture is left out. The video encoder does not start.") == 1


def test_a_small_picture_has_no_smaller_one() -> None:
    rig = Rig()
    layers_of(rig, (320, 240), fps=FPS, bitrate=600_000, name="gate").take(grey(320, 240), 0, 100)
    assert rig.infos["low"].absent and not rig.infos["main"].absent
    assert [made[:2] for made in rig.made] == [(320, 240)]


def test_full_range_becomes_what_browsers_expect() -> None:
    rig = Rig()
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 320, 240, "yuvj422p", Fraction(30)
    halves = np.zeros((240, 320, 3), np.uint8)
    halves[:, 160:] = 255
    picture = av.VideoFrame.from_ndarray(halves, "rgb24").reformat(format="yuvj422p")
    jpeg = b"".join(map(bytes, [*encoder.encode(picture), *encoder.encode(None)]))
    transcoder_of(rig, "mjpeg", bitrate=1_000_000).feed(jpeg, 0, 100)
    (shown,) = decoded(rig.frames)
    luma = shown.to_ndarray(format="yuv420p")
    assert abs(int(luma[120, 80]) - 16) <= 2 and abs(int(luma[120, 240]) - 235) <= 2
    assert shown.color_range == 1 and shown.colorspace in (5, 6), "and it says so; 5 and 6 are both BT.601"


@given(st.lists(st.integers(-(10**6), 10**9), max_size=20))
def test_time_stamps_increase_whatever_comes(stamps: list[int]) -> None:
    rig = Rig()
    encoder = Reencoder(rig, bitrate=100_000, fps=FPS)
    for stamp in stamps:
        encoder.take(grey(32, 32), stamp, 100)
    out = [frame.timestamp for frame in rig.frames]
    assert len(out) == len(stamps)
    assert all(before < after for before, after in itertools.pairwise(out))


@given(st.integers(0, 10**6), st.lists(st.floats(0, 0.3), min_size=1, max_size=50))
def test_lag_is_how_much_later_than_the_best(start: int, jitters: list[float]) -> None:
    lag, best = Lag(), 9.0
    for index, jitter in enumerate(jitters):
        best = min(best, jitter)
        assert lag.of((start + index) * FRAME, (start + index) / FPS + jitter) == pytest.approx(jitter - best, abs=0.01)


def test_a_clock_that_was_set_is_no_lag() -> None:
    lag = Lag()
    assert lag.of(10**9, 5.0) == 0
    assert lag.of(0, 5.1) == 0
    assert lag.of(10**9, 5.2) == 0


def test_where_decoding_starts() -> None:
    assert starts_here("h264", b"\0\0\1\x65") and not starts_here("h264", b"\0\0\1\x41")
    assert starts_here("hevc", b"\0\0\1\x26\1") and not starts_here("hevc", b"\0\0\1\x02\1")
