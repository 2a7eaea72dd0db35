from __future__ import annotations

import random
import threading
import time
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.h264 import split_nals
from edgeagent.drivers import DeviceFault, EncodedFrame, VideoEncoder
from edgeagent.drivers.conformance import Recording
from edgeagent.media.encoder import make_encoder
from edgeagent_devices._rtp import AccessUnit
from edgeagent_devices._rtp_h264 import Depacketizer
from edgeagent_devices._rtsp_sinks import Encoding, NeedsEncoding, PassThrough, Rendition, Tick, has_picture
from edgeagent_devices._rtsp_wire import Video
from tests.devices.test_rtp_h264 import PT, feed, packets

STEP = 3000
S = 90_000
VIDEO = Video("H264", PT, "", "", {}, 30.0)


def ticks_of(stamps: list[int], *, reorder_s: float = 0.0, every_s: float = 1 / 30) -> list[int]:
    tick = Tick()
    tick.begin(reorder_s)
    return [tick.of(stamp, number * every_s) for number, stamp in enumerate(stamps)]


def test_time_begins_at_zero_and_keeps_the_cameras_steps() -> None:
    assert ticks_of([777, 3777, 6000, 9777]) == [0, 3000, 5223, 9000]


@pytest.mark.parametrize("jump", [-3600 * S, -2 * S, -3000, 4 * S, 3600 * S, 2**40])
def test_time_goes_on_evenly_when_the_camera_sets_its_clock(jump: int) -> None:
    ticks = ticks_of([n * STEP for n in range(10)] + [n * STEP + jump for n in range(10, 20)])
    assert ticks == [n * STEP for n in range(20)]


@pytest.mark.parametrize("jump", [S // 2, 2 * S, 29 * S // 10])
def test_time_does_not_run_ahead_step_by_step(jump: int) -> None:
    ticks = ticks_of([n * STEP + n // 200 * jump for n in range(1200)])
    assert ticks == [n * STEP for n in range(1200)]


def test_time_does_not_run_away_with_a_clock_that_is_too_fast() -> None:
    ticks = ticks_of([n * STEP * 2 for n in range(3600)])
    assert all(n * STEP <= tick < n * STEP + 6 * S for n, tick in enumerate(ticks))


@pytest.mark.parametrize("ppm", [-5000, -100, 100, 5000])
def test_a_clock_that_is_a_little_wrong_is_followed_evenly(ppm: int) -> None:
    chance = random.Random(1)
    stamps = [n * 18_000 + n * 18_000 * ppm // 1_000_000 for n in range(3000)]  # ten minutes
    tick = Tick()
    tick.begin()
    assert [tick.of(stamp, n / 5 + chance.random() * 0.25) for n, stamp in enumerate(stamps)] == stamps


@pytest.mark.parametrize("every_s", [0.5, 1, 4])
def test_a_recorder_that_sends_in_bursts_keeps_its_time(every_s: float) -> None:
    tick = Tick()
    tick.begin()
    stamps = [n * STEP for n in range(3000)]
    assert [tick.of(stamp, (stamp / S // every_s + 1) * every_s) for stamp in stamps] == stamps


def test_what_comes_late_and_in_a_burst_keeps_its_time() -> None:
    tick = Tick()
    arrivals = [0.0, 0.033, 3.0, 3.0, 3.0, 3.01]
    assert [tick.of(n * STEP, at) for n, at in enumerate(arrivals)] == [n * STEP for n in range(6)]


def test_a_silent_time_without_stamps_is_made_up_for() -> None:
    tick = Tick()
    assert tick.of(0, 0.0) == 0
    assert tick.of(STEP, 60.0) == 60 * S


def test_reordered_pictures_keep_their_time() -> None:
    stamps = [n * STEP for n in (0, 3, 1, 2, 6, 4, 5, 9, 7, 8)]
    assert ticks_of(stamps, reorder_s=1.0) == stamps


def test_a_new_session_goes_on_where_the_old_one_ended() -> None:
    tick = Tick()
    assert [tick.of(n * STEP, n / 30) for n in range(30)][-1] == 29 * STEP
    tick.begin()
    assert tick.of(5, 31 / 30) == 31 * STEP
    assert tick.of(5 + STEP, 32 / 30) == 32 * STEP


@given(st.lists(st.tuples(st.integers(-(2**33), 2**33), st.floats(0, 100)), max_size=50), st.booleans())
def test_time_never_goes_back_nor_leaves_the_clock(steps: list[tuple[int, float]], small: bool) -> None:
    tick, now, stamp, last = Tick(), 0.0, 0, -1
    for step, wait in steps:
        now += wait
        stamp += step % 20_000 if small else step
        at = tick.of(stamp, now)
        assert at > last
        assert at <= last + max(wait, 0) * S + 3 * S + 1 or last < 0
        last = at


@given(st.integers(0, 2**32 - 1), st.integers(0, 65_535), st.integers(2, 40))
def test_whatever_number_rtp_begins_with_time_is_even(base: int, first: int, count: int) -> None:
    items = [(bytes((0x65 if n == 0 else 0x41, 0x88)) + b"\x55" * 20, n * STEP, True) for n in range(count)]
    units = feed(Depacketizer(PT), packets(items, first=first, base=base))
    assert ticks_of([unit.timestamp for unit in units]) == [n * STEP for n in range(count)]


def test_a_camera_that_begins_anew_goes_on() -> None:
    """A new SSRC with other numbers, as after a reboot behind a recorder."""
    items = [(bytes((0x65, 0x88)) + b"\x55" * 20, n * STEP, True) for n in range(5)]
    depacketizer = Depacketizer(PT)
    units = feed(depacketizer, packets(items, base=1_000_000) + packets(items, ssrc=99, first=7, base=4_000_000_000))
    ticks = ticks_of([unit.timestamp for unit in units])
    assert ticks == [n * STEP for n in range(10)]


def test_a_camera_that_counts_anew_goes_on() -> None:
    """The same SSRC and a sequence number far behind."""
    items = [(bytes((0x65, 0x88)) + b"\x55" * 20, n * STEP, True) for n in range(6)]
    units = feed(Depacketizer(PT), packets(items, first=30_000) + packets(items, first=10, base=900_000))
    assert len(units) == 6 + 5, "the first one might be a late stray"


def encoded(codec: str, count: int, **options: str) -> list[AccessUnit]:
    """A moving picture as access units in decoding order, with time stamps of presentation."""
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 320, 240, "yuv420p", Fraction(1, S)
    context.framerate = Fraction(30)
    context.options = {"preset": "ultrafast", **options}
    made = []
    for number in range(count):
        shade = np.full((240, 320, 3), 40, np.uint8)
        shade[:, number * 4 % 300 : number * 4 % 300 + 20] = 220
        picture = av.VideoFrame.from_ndarray(shade, format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = number * STEP, Fraction(1, S)
        made += context.encode(picture)
    made += context.encode(None)
    return [AccessUnit(split_nals(bytes(packet)), packet.pts or 0, packet.is_keyframe) for packet in made]


def hand(sink: Encoding | PassThrough, unit: AccessUnit, codec: str = "H264") -> None:
    """As `Stream` does, with time stamps that need no correction."""
    sink.take(unit, unit.timestamp if has_picture(codec, unit.nals) else None, time.monotonic())


def test_b_frames_are_not_passed_through() -> None:
    units = encoded("libx264", 20, bf="2", **{"x264-params": "b-adapt=0"})
    recording = Recording(make_encoder)
    sink = PassThrough(recording, VIDEO, "main")
    with pytest.raises(NeedsEncoding, match="B-frames"):
        for unit in units:
            hand(sink, unit)


@pytest.mark.parametrize(
    ("codec", "name", "params"),
    [
        ("libx265", "H265", {"x265-params": "log-level=none:bframes=2:b-adapt=0"}),
        ("libx264", "H264", {"bf": "2", "x264-params": "b-adapt=0"}),
    ],
)
def test_reordered_pictures_are_encoded_in_their_order(codec: str, name: str, params: dict[str, str]) -> None:
    units = encoded(codec, 40, **params)
    assert any(after.timestamp < before.timestamp for before, after in pairwise(units)), "there are B-frames"
    recording = Recording(make_encoder)
    video = Video(name, PT, "", "", {}, 30.0)
    sink = Encoding(recording, video, {"main": Rendition((640, 360), 60.0, 500_000)}, name="gate", extradata=b"")
    try:
        for number, unit in enumerate(units):
            hand(sink, unit, name)
            recording.wait_for(number - 6, 10)  # no faster than it can be encoded
        recording.wait_for(30, 10)
    finally:
        sink.close()
    stamps = [frame.timestamp for frame in recording.frames]
    assert len(stamps) >= 30
    assert {after - before for before, after in pairwise(stamps)} == {STEP}
    times = [frame.captured_at for frame in recording.frames]
    assert times == sorted(times)
    assert recording.infos["main"].encoded


def test_parameter_sets_that_come_alone_reach_the_decoder_of_a_newcomer() -> None:
    units = [
        AccessUnit(part, unit.timestamp, unit.keyframe and part is not sets)
        for unit in encoded("libx264", 30, bf="0")
        for sets in [[nal for nal in unit.nals if nal[0] & 0x1F in (7, 8)]]
        for part in (sets, [nal for nal in unit.nals if nal not in sets])
        if part
    ]
    assert [nal[0] & 0x1F for nal in units[0].nals] == [7, 8]
    recording = Recording(make_encoder)
    recording.unwanted.add("low")
    sink = Encoding(recording, VIDEO, {"low": Rendition((320, 240), 30.0, 100_000)}, name="gate", extradata=b"")
    try:
        for unit in units[:15]:
            hand(sink, unit)
        recording.unwanted.clear()
        for unit in units[15:]:
            hand(sink, unit)
        assert recording.wait_for(10, 20)
    finally:
        sink.close()


class Stuck:
    """An encoder that takes its time."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def encode(self, frame: object, *, timestamp: int, captured_at: float, keyframe: bool = False) -> list[EncodedFrame]:
        self.go.wait(20)
        return []

    def set_bitrate(self, bps: int) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_slow_encoder_holds_no_more_than_it_may_and_the_session_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    units = encoded("libx264", 4, bf="0")
    keyframe, rest = units[0], units[1]
    stuck = Stuck()
    recording = Recording(lambda **_: stuck)
    sink = Encoding(recording, VIDEO, {"low": Rendition((320, 240), 30.0, 100_000)}, name="gate", extradata=b"")
    try:
        hand(sink, keyframe)
        for number in range(1000):
            hand(sink, AccessUnit(rest.nals, (number + 1) * STEP, False))
        assert len(sink._thread._waiting) <= 300
        assert caplog.text.count("the encoder is too slow for its low picture") == 1
    finally:
        stuck.go.set()
        sink.close()


def test_a_failure_of_the_encoder_is_raised_where_the_session_is() -> None:
    def refuses(**_: object) -> VideoEncoder:
        raise DeviceFault("The video encoder does not start.")

    recording = Recording(refuses)
    sink = Encoding(recording, VIDEO, {"low": Rendition((320, 240), 30.0, 100_000)}, name="gate", extradata=b"")
    (unit, *_) = encoded("libx264", 4, bf="0")
    hand(sink, unit)
    sink._thread._thread.join(20)
    with pytest.raises(DeviceFault, match="does not start"):
        hand(sink, unit)
    sink.close()
