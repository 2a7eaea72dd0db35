"""The driver against a real RTSP server."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from pydantic import ValidationError

from edgeagent.core.camera_life import LifePolicy
from edgeagent.core.h264 import ParameterSets, split_nals
from edgeagent.drivers import DeviceFault
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.model import CameraPhase
from edgeagent_devices.rtsp import RtspCamera
from tests.drivers.test_runner import running
from tests.support.ports import free_port
from tests.support.rtsp import RtspServer, raw_clip

X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30"]
B_FRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-x264-params", "b-adapt=0", "-g", "30", "-pix_fmt", "yuv420p"]


def camera(url: str, **options: Any) -> RtspCamera:
    return RtspCamera("gate", RtspCamera.Options(url=url, **options))


def no_encoder(**_: Any) -> Any:
    raise AssertionError("nothing is encoded here")


def play(url: str, count: int = 20, **options: Any) -> Recording:
    recording = record(camera(url, **options), no_encoder, lambda it: it.wait_for(count, 60), stop_s=60)
    assert recording.error is None
    assert not recording.hangs
    assert len(recording.frames) >= count
    return recording


def fault_of(url: str, **options: Any) -> DeviceFault:
    recording = record(camera(url, **options), no_encoder, lambda it: it.wait_for(10_000, 60), stop_s=60)
    assert isinstance(recording.error, DeviceFault), recording.error
    return recording.error


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "plain": raw_clip(folder / "plain.h264"),
        "large": raw_clip(folder / "large.h264", size="640x480"),
        "b-frames": raw_clip(folder / "b.h264", *B_FRAMES),
        "10 bit": raw_clip(folder / "ten.h264", *X264, "-pix_fmt", "yuv420p10le"),
        "slices": raw_clip(folder / "slices.h264", *X264, "-x264-params", "sliced-threads=0:slices=4", "-pix_fmt", "yuv420p"),
        "h265": raw_clip(folder / "plain.h265", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
        "mjpeg": raw_clip(folder / "plain.mjpeg", *["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-huffman", "default"]),
    }


@pytest.fixture(scope="module")
def plain(clips: dict[str, Path]) -> Iterator[RtspServer]:
    with RtspServer(clips["plain"], clips["large"]) as server:
        yield server


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_conforms(plain: RtspServer, transport: str) -> None:
    assert_conforms(camera(plain.url, transport=transport), no_encoder, frames=45)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_are_those_of_the_camera(clips: dict[str, Path], plain: RtspServer, transport: str) -> None:
    own = {nal for nal in split_nals(clips["plain"].read_bytes()) if nal[0] & 0x1F in (1, 5)}
    recording = play(plain.url, 40, transport=transport)
    for frame in recording.frames:
        assert {nal for nal in split_nals(frame.data) if nal[0] & 0x1F in (1, 5)} <= own
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoded = [p for frame in recording.frames for p in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)
    assert len(decoded) == len(recording.frames)
    info = recording.infos["main"]
    assert (info.width, info.height, info.profile_level_id[:4], info.fps) == (320, 240, "42c0", 30)


def test_capabilities_follow_on_demand() -> None:
    assert camera("rtsp://h/").capabilities.always_on
    assert not camera("rtsp://h/", on_demand=True).capabilities.always_on
    assert not camera("rtsp://h/").capabilities.keyframe_on_demand


def test_a_picture_of_several_slices_stays_one(clips: dict[str, Path]) -> None:
    with RtspServer(clips["slices"]) as server:
        for frame in play(server.url, 40).frames:
            assert len([nal for nal in split_nals(frame.data) if nal[0] & 0x1F in (1, 5)]) == 4


def test_parameter_sets_of_the_sdp_are_put_before_keyframes(clips: dict[str, Path], tmp_path: Path) -> None:
    bare = raw_clip(tmp_path / "bare.h264")
    data = bare.read_bytes()
    first_idr = data.index(b"\0\0\1\x65")
    units = [nal for nal in split_nals(data[first_idr - 1 :]) if nal[0] & 0x1F not in (7, 8)]
    bare.write_bytes(data[: first_idr - 1] + b"".join(b"\0\0\0\1" + nal for nal in units))
    with RtspServer(bare, options=("--config", "0")) as server:
        keys = [frame for frame in play(server.url, 70).frames if frame.keyframe]
        assert len(keys) >= 2
        assert all(ParameterSets.of(split_nals(frame.data)) for frame in keys)


def test_another_resolution_is_described(plain: RtspServer) -> None:
    sizes = []

    def script(it: Recording) -> None:
        it.wait_for(20, 20)
        sizes.append(it.infos["main"].width)
        plain.say("clip 1")
        it.wait_for(len(it.frames) + 60, 20)
        sizes.append(it.infos["main"].width)
        plain.say("clip 0")

    recording = record(camera(plain.url), no_encoder, script)
    assert recording.error is None
    assert sizes == [320, 640]
    assert all(before.timestamp < after.timestamp for before, after in pairwise(recording.frames))


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        ("b-frames", "sends B-frames, which browsers do not show. Set B-frames to 0 or off"),
        ("h265", "sends H.265, which browsers do not show. Set its video codec to H.264, without B-frames, or `transcode: true`"),
        ("mjpeg", "sends MJPEG, which browsers do not show. Set its video codec to H.264, without B-frames, or `transcode: true`"),
        ("10 bit", "Set its profile to Main or Baseline"),
    ],
)
def test_what_browsers_cannot_show_is_said(clips: dict[str, Path], clip: str, sentence: str) -> None:
    with RtspServer(clips[clip]) as server:
        fault = fault_of(server.url)
    assert sentence in fault.message
    assert fault.retry, "once it is set right, the picture comes by itself"


def test_sound_alone_is_no_camera() -> None:
    with RtspServer() as server:
        assert "offers no video" in fault_of(server.url).message


@pytest.mark.parametrize("digest", [(), ("--digest",)], ids=["basic", "digest"])
def test_user_and_password(clips: dict[str, Path], digest: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cret/ü@:1"
    options = ("--user", "admin", "--password", secret, *digest)
    with caplog.at_level(logging.DEBUG), RtspServer(clips["plain"], options=options) as server:
        play(server.url, 5, username="admin", password=secret)
        play(server.url.replace("//", "//admin:s3cret%2F%C3%BC%40%3A1@"), 5)
        wrong = fault_of(server.url, username="admin", password="guess")
        assert "refuses the user name or password" in wrong.message
        assert not wrong.retry, "cameras lock out whoever keeps guessing"
        none = fault_of(server.url)
        assert "asks for a user name and password; add `username` and `password`" in none.message
        assert not none.retry
    assert secret not in caplog.text
    assert "guess" not in wrong.message + caplog.text


def test_secrets_are_named() -> None:
    one = camera("rtsp://admin:a%2Fb@h/s?user=x&password=in+query&channel=1")
    assert {"a/b", "a%2Fb", "in query"} <= set(one.secrets())
    assert not {"", "1", "x"} & set(one.secrets())
    assert "geheim" not in repr(camera("rtsp://h/", password="geheim").options)


def test_a_wrong_path_is_said(plain: RtspServer) -> None:
    fault = fault_of(plain.url.replace("gate", "garden?password=x1y2"))
    assert fault.message == "The camera at 127.0.0.1 has no stream at this address; check the path in `url`."
    assert fault.retry, "a camera that starts up answers so too"


def test_nobody_there_is_said() -> None:
    port = free_port()
    assert f"refuses the connection to port {port}" in fault_of(f"rtsp://127.0.0.1:{port}/").message
    assert "The name no-such-camera.invalid is not known" in fault_of("rtsp://no-such-camera.invalid/").message


class Answering:
    """A server that answers each request with the next of its texts, and then with nothing."""

    def __init__(self, *texts: bytes, close: bool = False) -> None:
        self._texts, self._close = texts, close
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._connection: socket.socket | None = None
        self.heard: list[bytes] = []

    def _serve(self) -> None:
        try:
            self._connection, _ = self._listener.accept()
            for text in self._texts:
                self.heard.append(self._connection.recv(2000))
                self._connection.sendall(text)
        except OSError:
            return
        if self._close:
            self._connection.close()

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        if self._connection:
            self._connection.close()


def answer(cseq: int, status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"RTSP/1.0 {status}", f"CSeq: {cseq}", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


OK = answer(1, "200 OK")
SDP = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\nServer: web\r\n\r\n"], "is no camera with RTSP; check the port"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "is no camera with RTSP"),
        ([b""], "closed the connection"),
        ([OK.replace(b": 0", b": 99999999999")], "is no camera with RTSP"),
        ([answer(1, "403 Forbidden")], "does not allow this user"),
        ([OK, answer(2, "454 Session Not Found")], "refused DESCRIBE with error 454"),
        ([answer(1, "501 Not Implemented"), answer(2, "453 Not Enough Bandwidth")], "is busy; it may have too many viewers"),
        ([OK, answer(2, "302 Found", "Location: nowhere")], "redirects to an address that is none"),
        ([OK, answer(2, "200 OK", body="v=0\r\n")], "offers no video"),
        ([OK, answer(2, "401 Unauthorized", "WWW-Authenticate: Digest realm")], "add `username` and `password`"),
        (
            [OK, answer(2, "200 OK", body="m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n"), answer(3, "461 x")],
            "set `transport: udp`",
        ),
    ],
    ids=["web", "ssh", "hangs up", "huge", "forbidden", "refuses", "busy", "redirects", "empty sdp", "asks", "udp only"],
)
def test_strange_servers_are_said(texts: list[bytes], sentence: str) -> None:
    with Answering(*texts, close=True) as server:
        assert sentence in fault_of(server.url, timeout_s=30).message


def test_a_mute_server_is_said() -> None:
    with Answering() as server:
        assert "does not answer; is it switched on" in fault_of(server.url, timeout_s=1).message


def test_a_redirection_is_followed(plain: RtspServer) -> None:
    with Answering(OK, answer(2, "302 Moved", f"Location: {plain.url}")) as server:
        play(server.url, 5)


@pytest.mark.parametrize("same", [True, False])
def test_a_redirection_takes_the_password_to_the_same_host_only(same: bool) -> None:
    asks = 'WWW-Authenticate: Basic realm="gate"'
    with (
        Answering(answer(4, "401 Unauthorized", asks), answer(5, "401 Unauthorized", asks), close=True) as other,
        Answering(
            answer(1, "401 Unauthorized", asks), answer(2, "200 OK"), answer(3, "302 Found", f"Location: {other.url}")
        ) as first,
    ):
        url = first.url if same else first.url.replace("127.0.0.1", "localhost")
        fault = fault_of(url, username="admin", password="geheim", timeout_s=30)
    assert b"Authorization: Basic" in first.heard[1]
    assert any(b"Authorization" in request for request in other.heard) is same
    assert ("refuses the user name" if same else "write that address as `url`") in fault.message


def test_silence_is_said(plain: RtspServer) -> None:
    def script(it: Recording) -> None:
        it.wait_for(10, 20)
        plain.say("stall")
        it.wait_for(10_000, 20)
        plain.say("go")

    over_tcp = record(camera(plain.url, timeout_s=1), no_encoder, script)
    assert "has sent nothing for 1 seconds" in str(over_tcp.error)
    over_udp = record(camera(plain.url, timeout_s=1, transport="udp"), no_encoder, script)
    assert "set `transport: tcp`" in str(over_udp.error)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_stops_at_once_although_the_camera_is_silent(plain: RtspServer, transport: str) -> None:
    def script(it: Recording) -> None:
        it.wait_for(10, 20)
        plain.say("stall")

    recording = record(camera(plain.url, transport=transport, timeout_s=60), no_encoder, script, stop_s=50)
    plain.say("go")
    assert not recording.hangs
    assert recording.error is None


def test_stops_at_once_while_connecting() -> None:
    with Answering() as server:
        recording = record(camera(server.url, timeout_s=60), no_encoder, lambda it: it.wait_for(1, 0.3), stop_s=50)
    assert not recording.hangs
    assert recording.error is None


@pytest.fixture
def unplugged(clips: dict[str, Path]) -> Iterator[RtspServer]:
    with RtspServer(clips["plain"]) as server:
        yield server


@pytest.mark.realtime
async def test_a_camera_unplugged_and_back_is_picked_up_again(unplugged: RtspServer) -> None:
    policy = LifePolicy(retry_min_s=0.05, retry_max_s=0.2)
    async with running(camera(unplugged.url), policy) as (_, watch):
        await watch.until(lambda: len(watch.frames) > 10)
        await asyncio.to_thread(unplugged.stop)
        await watch.until(lambda: CameraPhase.RETRYING in watch.phases)
        told = next(status.text for status in watch.statuses if status.phase is CameraPhase.RETRYING)
        assert told.startswith("The camera at 127.0.0.1 closed the connection. Trying again.")
        await watch.until(lambda: "refuses the connection" in watch.statuses[-1].text)
        await asyncio.to_thread(unplugged.start)
        await watch.until(lambda: watch.phases[-1] is CameraPhase.LIVE)
        seen = len(watch.frames)
        await watch.until(lambda: len(watch.frames) > seen + 10)
    await asyncio.to_thread(unplugged.stop)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://camera/"},
        {"url": "rtsp://"},
        {"url": "rtsp://camera:99999/"},
        {"url": "rtsp://camera\r\nX: y/"},
        {"url": "rtsp://camera/", "transport": "carrier pigeon"},
        {"url": "rtsp://camera/", "timeout_s": 0},
        {"url": "rtsp://camera/", "pasword": "x"},
        {},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RtspCamera.Options(**options)


def test_a_refused_address_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        RtspCamera.Options(url="rtsp://admin:hunter2@camera:99999/")
    assert "hunter2" not in str(caught.value)
