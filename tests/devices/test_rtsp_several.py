"""Several streams of one camera, on stand-ins for the streams: what viewers can take meanwhile, and how silence is judged."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagent.drivers import CameraIO, DeviceFault, EncodedFrame, StreamInfo
from edgeagent.drivers.conformance import Recording
from edgeagent.media.encoder import make_encoder
from edgeagent_devices import _rtsp_several, _rtsp_stream
from edgeagent_devices._rtsp_session import Trust
from edgeagent_devices._rtsp_several import play_together
from edgeagent_devices._rtsp_stream import Settings, Stream
from edgeagent_devices._rtsp_wire import Address, Video
from edgeagent_devices.rtsp import RtspCamera
from tests.devices.test_rtp_h264 import PPS, PT, SPS, aggregate, fragments, packets, slice_of

WAIT_S = 60.0
INFO = StreamInfo(640, 360, 30)
REFUSED = "The camera at 10.0.0.9 refuses the user name or password."


class Told(Recording):
    """Keeps what the camera said, in order."""

    def __init__(self) -> None:
        super().__init__(make_encoder)
        self.said: list[StreamInfo | str] = []
        self._told = threading.Condition()

    def note(self, item: StreamInfo | str) -> None:
        with self._told:
            self.said.append(item)
            self._told.notify_all()

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        super().describe(info, layer)
        self.note(info)

    def emit(self, frame: EncodedFrame) -> None:
        self.note(frame.layer)

    def until(self, condition: Callable[[], object]) -> None:
        with self._told:
            assert self._told.wait_for(condition, WAIT_S)


class Fake:
    """A stream that does what the test says, in each of its runs."""

    def __init__(self, layers: tuple[str, ...], play: Callable[[int, CameraIO], None]) -> None:
        self.layer, self.layers, self._play, self.runs = layers[0], layers, play, 0

    def play(self, io: CameraIO) -> None:
        self.runs += 1
        self._play(self.runs, io)


def frame(layer: str, keyframe: bool = True) -> EncodedFrame:
    return EncodedFrame(b"\0\0\0\1\x65", keyframe, 0, 0.0, layer)


def start(io: Told, *streams: Any) -> threading.Thread:
    thread = threading.Thread(target=play_together, args=(streams, io, "gate"))
    thread.start()
    return thread


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("dead", ["main", "sub"])
def test_what_is_made_of_a_dead_stream_is_absent_until_it_plays_again(
    dead: str, retry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rtsp_several, "RETRY_S", (0.01, 0.02))
    monkeypatch.setattr(_rtsp_several, "FAILED_S", 0.01)
    monkeypatch.setattr(_rtsp_several, "_SURE_S", 0.0)
    io, opened, go = Told(), threading.Event(), threading.Event()

    def fails_once(run: int, own: CameraIO) -> None:
        own.describe(INFO, dead)
        if run == 1:
            own.emit(frame(dead))
            raise DeviceFault(REFUSED, retry=retry)
        opened.set()
        assert go.wait(WAIT_S)
        own.emit(frame(dead))
        assert io.stopping.wait(WAIT_S)

    def plays(run: int, own: CameraIO) -> None:
        assert io.stopping.wait(WAIT_S)

    layers = [("main",), ("sub", "low")]
    thread = start(io, *(Fake(made, fails_once if dead in made else plays) for made in layers))
    try:
        assert opened.wait(WAIT_S)
        absent = dataclasses.replace(INFO, absent=True, fault=REFUSED)
        assert io.infos[dead] == absent, "and not there as soon as it opens: it may still give no picture"
        if dead == "sub":
            assert io.infos["low"] == StreamInfo(absent=True, fault=REFUSED)
        go.set()
        io.until(lambda: io.said.count(dead) == 2)
        assert [item for item in io.said if item in (INFO, absent, dead)] == [INFO, dead, absent, INFO, dead]
    finally:
        go.set()
        io.stopping.set()
        thread.join(WAIT_S)


def test_a_stream_that_fails_after_each_keyframe_stays_absent_until_it_plays_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one with B-frames does: its viewers would go to and fro."""
    monkeypatch.setattr(_rtsp_several, "RETRY_S", (0.01, 0.02))
    clock = itertools.count()
    monkeypatch.setattr(_rtsp_several, "time", SimpleNamespace(monotonic=lambda: 0.3 * next(clock)))
    io = Told()

    def fails(run: int, own: CameraIO) -> None:
        own.describe(INFO)
        for keyframe in (True, False) if run < 5 else (True, False, True, False, False, True, False):
            own.emit(frame("main", keyframe))
        if run < 5:
            raise DeviceFault(REFUSED)
        assert io.stopping.wait(WAIT_S)

    def plays(run: int, own: CameraIO) -> None:
        assert io.stopping.wait(WAIT_S)

    thread = start(io, Fake(("main",), fails), Fake(("sub",), plays))
    try:
        io.until(lambda: io.said.count(INFO) == 2 and io.said[-2:] == ["main", "main"])
        absent = dataclasses.replace(INFO, absent=True, fault=REFUSED)
        first, missing, again = [INFO, "main", "main"], [absent] * 4, [INFO, "main", "main"]
        assert io.said == first + missing + again, "from its third keyframe on, 1.5 s after the first"
    finally:
        io.stopping.set()
        thread.join(WAIT_S)


def test_where_the_whole_camera_is_away_nothing_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rtsp_several, "RETRY_S", (WAIT_S, WAIT_S))
    monkeypatch.setattr(_rtsp_several, "_GRACE_S", WAIT_S)
    first = threading.Event()

    def one(run: int, own: CameraIO) -> None:
        first.set()
        raise DeviceFault("It is gone.")

    def other(run: int, own: CameraIO) -> None:
        assert first.wait(WAIT_S)
        raise DeviceFault("It is gone, too.")

    io = Told()
    with pytest.raises(DeviceFault, match=r"It is gone\."):
        play_together([Fake(("main",), one), Fake(("sub",), other)], io, "gate")  # type: ignore[list-item]
    assert not io.infos


def test_the_small_picture_belongs_to_the_smallest_stream() -> None:
    options = {"url": "rtsp://h/1", "sub": "rtsp://h/2", "transcode": True}
    assert [stream.layers for stream in RtspCamera("gate", RtspCamera.Options.model_validate(options))._streams] == [
        ("main",),
        ("sub", "low"),
    ]


def test_a_silence_that_is_allowed_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the agent's measure, which is a little longer, so that the session says why, nor for want of pictures."""
    one = RtspCamera("gate", RtspCamera.Options(url="rtsp://h/1", timeout_s=60))
    assert one.stall_s > 60
    now = 0.0
    later = [(part, 9000, number == 2) for number, part in enumerate(fragments(slice_of(1, 1000)))]
    raw = packets([(aggregate(SPS, PPS), 0, False), (slice_of(5), 0, True), *later])

    class Quiet:
        def __init__(self, *_: object, **__: object) -> None: ...
        def open(self) -> Video:
            nonlocal now
            now = 0.0
            return Video("H264", PT, "", "", {}, 30.0)

        def packets(self) -> Iterator[bytes]:
            nonlocal now
            for number, packet in enumerate(raw):
                now = 0.0 if number < 2 else 59.0
                yield packet

        def close(self) -> None: ...

    monkeypatch.setattr(_rtsp_stream, "Session", Quiet)
    monkeypatch.setattr("edgeagent_devices._rtsp_stream.PassThrough._describe", lambda _: None)  # of an SPS that is none
    monkeypatch.setattr(_rtsp_stream, "time", SimpleNamespace(monotonic=lambda: now))
    io = Recording(make_encoder)
    url = Address.parse("rtsp://h/1")
    Stream("gate", "main", url, Settings(udp=False, timeout_s=60.0, trust=Trust()))._play(io)
    assert len(io.frames) == 2
    with pytest.raises(DeviceFault, match="no whole picture for 12 seconds"):
        Stream("gate", "main", url, Settings(udp=False, timeout_s=5.0, trust=Trust()))._play(io)
    del raw[:1]  # the parameter sets, without which it is none
    with pytest.raises(DeviceFault, match="keyframe"):  # what to set, before the agent says that there was none for 15 seconds
        Stream("gate", "main", url, Settings(udp=False, timeout_s=60.0, trust=Trust()))._play(io)
