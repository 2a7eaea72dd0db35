"""Several streams, encryption and transcoding, against real RTSP servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from edgeagent.drivers import DeviceFault, EncodedFrame, VideoEncoder
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.media.encoder import make_encoder
from edgeagent_devices import _rtsp_several, _transcode
from edgeagent_devices.rtsp import RtspCamera
from tests.support.rtsp import RtspServer, raw_clip
from tests.support.tls import TlsDoor

B_FRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "30", "-pix_fmt", "yuv420p"]
H265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:bframes=0:keyint=30"]
MJPEG = ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-huffman", "default"]
WAIT_S = 60.0


def camera(url: str, **options: Any) -> RtspCamera:
    return RtspCamera("gate", RtspCamera.Options.model_validate({"url": url, **options}))


def run(one: RtspCamera, script: Callable[[Recording], object]) -> Recording:
    recording = record(one, make_encoder, script, stop_s=60)
    assert not recording.hangs
    assert not recording.late
    return recording


def of(recording: Recording, layer: str) -> list[EncodedFrame]:
    return [frame for frame in recording.frames if frame.layer == layer]


def decoded(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)


def increases(frames: list[EncodedFrame]) -> bool:
    return all(before.timestamp < after.timestamp for before, after in pairwise(frames))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "main": raw_clip(folder / "main.h264", size="640x360"),
        "sub": raw_clip(folder / "sub.h264", fps=15),
        "b-frames": raw_clip(folder / "b.h264", *B_FRAMES),
        "h265": raw_clip(folder / "plain.h265", *H265, fps=10, seconds=3),
        "mjpeg": raw_clip(folder / "plain.mjpeg", *MJPEG, fps=10, seconds=3),
    }


@pytest.fixture(scope="module")
def main(clips: dict[str, Path]) -> Iterator[RtspServer]:
    with RtspServer(clips["main"]) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rtsp_several, "RETRY_S", (0.05, 0.2))


def test_two_streams_are_two_layers(clips: dict[str, Path], main: RtspServer) -> None:
    with RtspServer(clips["sub"], options=("--fps", "15")) as small:
        one = camera(main.url, sub=small.url)
        assert one.capabilities.layers == ("main", "sub")
        assert one.capabilities.always_on

        def script(it: Recording) -> None:
            it.wait_for(40, WAIT_S, "main")
            it.wait_for(20, WAIT_S, "sub")

        recording = run(one, script)
    assert recording.error is None
    for layer, width in (("main", 640), ("sub", 320)):
        frames = of(recording, layer)
        assert frames[0].keyframe
        assert increases(frames)
        assert recording.infos[layer].width == width
        assert not recording.infos[layer].encoded
        assert {picture.width for picture in decoded(frames)} == {width}


@pytest.mark.parametrize("dead", ["sub", "main"])
def test_a_dead_stream_leaves_the_other_and_comes_back(
    clips: dict[str, Path], dead: str, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    alive = {"main": "sub", "sub": "main"}[dead]
    seen: list[int] = []

    with RtspServer(clips["main"]) as one, RtspServer(clips["sub"]) as other, caplog.at_level(logging.INFO):
        servers = {dead: one, alive: other}

        def script(it: Recording) -> None:
            it.wait_for(5, WAIT_S, "main")
            it.wait_for(5, WAIT_S, "sub")
            servers[dead].stop()
            it.wait_for(len(of(it, alive)) + 30, WAIT_S, alive)
            servers[dead].start()
            seen.append(len(of(it, dead)))
            it.wait_for(seen[0] + 10, WAIT_S, dead)

        recording = run(camera(servers["main"].url, sub=servers["sub"].url), script)
    assert recording.error is None
    assert len(of(recording, dead)) >= seen[0] + 10
    assert f"its {dead} stream: The camera at 127.0.0.1 closed the connection. It is tried again; the others go on." in caplog.text
    assert f"its {dead} stream plays again" in caplog.text


def test_when_no_stream_plays_the_first_says_why(main: RtspServer) -> None:
    nowhere = main.url.replace("gate", "garden")
    recording = run(camera(nowhere, sub="rtsp://127.0.0.1:9/"), lambda it: it.wait_for(1, WAIT_S))
    assert isinstance(recording.error, DeviceFault)
    assert "has no stream at this address" in recording.error.message
    assert recording.error.retry


def test_a_missing_sub_stream_costs_no_picture(main: RtspServer, quick: None, caplog: pytest.LogCaptureFixture) -> None:
    one = camera(main.url, sub=main.url.replace("gate", "garden"))
    recording = run(one, lambda it: it.wait_for(60, WAIT_S, "main"))
    assert recording.error is None
    assert len(of(recording, "main")) >= 60
    told = [r for r in caplog.records if "its sub stream: The camera at 127.0.0.1 has no stream at this address" in r.getMessage()]
    assert len(told) == 1, "once, not with each try"


def test_the_sub_stream_logs_in_as_the_main_one() -> None:
    one = camera("rtsp://admin:s%2Fcret@h/1", sub="rtsp://h/2")
    assert [(a.user, a.password) for a in one._addresses().values()] == [("admin", "s/cret")] * 2
    other = camera("rtsp://admin:s%2Fcret@h/1", sub="rtsp://guest:easy@h/2")
    assert {"s/cret", "easy"} <= set(other.secrets())


# Encryption


@pytest.fixture(scope="module")
def door(main: RtspServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDoor]:
    with TlsDoor(main.port, tmp_path_factory.mktemp("tls")) as door:
        yield door


def test_an_encrypted_camera_plays_with_its_certificate(door: TlsDoor) -> None:
    one = camera(f"rtsps://127.0.0.1:{door.port}/gate", ca=str(door.certificate))
    recording = run(one, lambda it: it.wait_for(40, WAIT_S))
    assert recording.error is None
    assert len(decoded(recording.frames)) == len(recording.frames) >= 40


def test_any_certificate_will_do_where_the_owner_says_so(door: TlsDoor, caplog: pytest.LogCaptureFixture) -> None:
    one = camera(f"rtsps://127.0.0.1:{door.port}/gate", insecure=True)
    recording = run(one, lambda it: it.wait_for(5, WAIT_S))
    assert recording.error is None
    assert len(recording.frames) >= 5
    assert "its certificate is not checked" in caplog.text


def test_a_certificate_that_nobody_vouches_for_is_refused(door: TlsDoor) -> None:
    recording = run(camera(f"rtsps://127.0.0.1:{door.port}/gate"), lambda it: it.wait_for(1, WAIT_S))
    assert "Write the file with its certificate as `ca`" in str(recording.error)


def test_a_certificate_of_another_name_is_refused(door: TlsDoor) -> None:
    one = camera(f"rtsps://localhost:{door.port}/gate", ca=str(door.certificate))
    recording = run(one, lambda it: it.wait_for(1, WAIT_S))
    assert "is not trusted (Hostname mismatch" in str(recording.error)


def test_a_camera_without_tls_is_said(main: RtspServer) -> None:
    recording = run(camera(main.url.replace("rtsp:", "rtsps:"), insecure=True), lambda it: it.wait_for(1, WAIT_S))
    assert f"does not speak RTSP over TLS on port {main.port}" in str(recording.error)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url": "rtsp://h/", "insecure": True}, "write rtsps://"),
        ({"url": "rtsps://h/", "ca": "/no/such/file"}, "there is no such file"),
        ({"url": "rtsps://h/", "insecure": True, "ca": __file__}, "not both"),
        ({"url": "rtsps://h/", "transport": "udp"}, "needs `transport: tcp`"),
        ({"url": "rtsp://h/", "sub": "http://h/"}, "write an address like"),
        ({"url": "rtsp://h/", "transcode": {"size": "2x2"}}, "between 320x180"),
        ({"url": "rtsp://h/", "transcode": "maybe"}, "write true, false, or settings"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RtspCamera.Options.model_validate(options)


# Transcoding


def test_h265_is_encoded_here_by_all_the_rules(clips: dict[str, Path]) -> None:
    # At the rate that is taken where a stream names none: another one, once it was measured, makes the encoders begin anew.
    with RtspServer(clips["h265"]) as server:
        one = camera(server.url, transcode=True)
        assert one.capabilities.layers == ("main", "low")
        assert_conforms(one, make_encoder, frames=15)


@pytest.mark.parametrize("clip", ["h265", "mjpeg"])
def test_what_browsers_cannot_show_is_encoded_here(clips: dict[str, Path], clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders: list[str] = []
    opened = _transcode._open_decoder

    def count(codec: str, extradata: bytes) -> Any:
        decoders.append(codec)
        return opened(codec, extradata)

    monkeypatch.setattr(_transcode, "_open_decoder", count)

    def script(it: Recording) -> None:
        it.wait_for(10, WAIT_S, "main")
        it.wait_for(10, WAIT_S, "low")

    with RtspServer(clips[clip], options=("--fps", "10")) as server:
        recording = run(camera(server.url, transcode=True), script)
    assert recording.error is None
    assert len(decoders) == 1, "one for both layers"
    assert len(of(recording, "low")) >= 10
    assert recording.infos["main"].encoded and recording.infos["low"].encoded
    pictures = decoded(of(recording, "main"))
    assert len(pictures) >= 10
    assert {(picture.width, picture.height) for picture in pictures} == {(320, 240)}


def test_b_frames_are_found_out_and_encoded_from_then_on(clips: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    with RtspServer(clips["b-frames"]) as server, caplog.at_level(logging.INFO):
        one = camera(server.url, transcode=True)
        for _ in range(2):
            recording = run(one, lambda it: it.wait_for(30, WAIT_S, "main"))
            assert recording.error is None
            assert increases(of(recording, "main"))
            assert recording.infos["main"].encoded
    assert caplog.text.count("its main stream is transcoded. The camera sends B-frames") == 1


def test_good_h264_is_passed_through_and_made_small_while_wanted(main: RtspServer) -> None:
    one = camera(main.url, transcode={"low": {"size": "320x180", "fps": 10, "bitrate": "100k"}})
    counts: list[int] = []

    def script(it: Recording) -> None:
        it.unwanted.add("low")
        it.wait_for(40, WAIT_S, "main")
        counts.append(len(of(it, "low")))
        it.unwanted.clear()
        it.wait_for(20, WAIT_S, "low")
        it.unwanted.add("low")
        it.wait_for(len(of(it, "main")) + 20, WAIT_S, "main")
        counts.append(len(of(it, "low")))
        it.wait_for(len(of(it, "main")) + 20, WAIT_S, "main")
        counts.append(len(of(it, "low")))

    recording = run(one, script)
    assert recording.error is None
    assert counts[0] == 0
    assert counts[1] >= 20
    assert counts[2] <= counts[1] + 1, "but for one that was on its way"
    low = of(recording, "low")
    assert low[0].keyframe
    assert increases(low)
    assert not recording.infos["main"].encoded
    assert (recording.infos["low"].encoded, recording.infos["low"].width) == (True, 320)
    ticks = (low[-1].timestamp - low[0].timestamp) / (len(low) - 1)
    assert ticks > 90_000 / 10.5, "no more pictures than asked for"


@pytest.mark.parametrize("error", [DeviceFault("The video encoder does not start."), ZeroDivisionError("bug")])
def test_a_small_picture_that_fails_costs_no_other(main: RtspServer, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def refuses(**_: Any) -> VideoEncoder:
        raise error

    recording = record(camera(main.url, transcode=True), refuses, lambda it: it.wait_for(60, WAIT_S, "main"))
    assert recording.error is None
    assert len(of(recording, "main")) >= 60
    assert caplog.text.count("its small picture is left out") == 1


def test_the_low_picture_is_made_of_the_sub_stream(clips: dict[str, Path], main: RtspServer) -> None:
    with RtspServer(clips["sub"], options=("--fps", "15")) as small:
        one = camera(main.url, sub=small.url, transcode=True)
        assert one.capabilities.layers == ("main", "sub", "low")
        recording = run(one, lambda it: it.wait_for(10, WAIT_S, "low"))
    assert recording.error is None
    assert recording.infos["low"].width == 320, "that of the sub stream"
