"""USB cameras, on a stand-in that speaks the kernel's ioctls: names, formats, pictures, faults."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import logging
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeagent import cli, v4l2
from edgeagent.core.camera_life import LifePolicy
from edgeagent.core.h264 import join_nals, nal_type, split_nals
from edgeagent.drivers import DeviceFault, EncodedFrame
from edgeagent.drivers.conformance import Recording, assert_conforms
from edgeagent.drivers.runner import CameraRunner
from edgeagent.media.encoder import X264Encoder
from edgeagent.model import CameraPhase, CameraStatus
from edgeagent_devices._v4l2_find import NO_PERMISSION, UsbCamera, UsbCameras, look, resolve
from edgeagent_devices._v4l2_modes import RAW, Mode, Offer, choose, summary
from edgeagent_devices._v4l2_stream import set_controls
from edgeagent_devices.v4l2 import V4l2Camera, raw_picture
from tests.support.components import require
from tests.support.v4l2 import CameraDevice, Control, Device, EncoderDevice, FakeNode, Format, RealTimeCamera

C920 = [
    Format("YUYV", {(640, 480): (30, 15), (1280, 720): (10,), (1920, 1080): (5,)}),
    Format("MJPG", {(640, 480): (30,), (1280, 720): (30, 24, 15), (1920, 1080): (30,)}),
]
H264 = Format("H264", {(1280, 720): (30,), (640, 480): (30,)})
BY_ID = "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_A1B2C3D4-video-index0"
BY_PATH = "/dev/v4l/by-path/platform-xhci-hcd.0-usb-0:1.3:1.0-video-index0"


class Board:
    """A folder with `dev` and the devices in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.refuses: dict[str, int] = {}
        self.devices: dict[str, Device] = {}
        (root / "dev/v4l/by-id").mkdir(parents=True)
        (root / "dev/v4l/by-path").mkdir(parents=True)
        monkeypatch.setattr(v4l2, "Node", self.open)
        monkeypatch.setattr(V4l2Camera, "root", root)

    def plug(self, number: int, device: Device, *links: str) -> None:
        self.devices[f"video{number}"] = device
        for link in links:
            (self.root / link.lstrip("/")).symlink_to(f"../../video{number}")
        (self.root / f"dev/video{number}").touch()  # last: a driver may look round at any moment

    def unplug(self, number: int) -> None:
        (self.root / f"dev/video{number}").unlink()
        self.devices.pop(f"video{number}").gone = True
        for link in (self.root / "dev/v4l").glob("*/*"):
            if not link.exists():
                link.unlink()

    def open(self, path: str | Path) -> FakeNode:
        name = Path(path).name
        if name in self.refuses:
            raise OSError(self.refuses[name], "refused")
        if name not in self.devices:
            raise FileNotFoundError(errno.ENOENT, "gone")
        device = self.devices[name]
        return device.open(str(path))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


class Run(Recording):
    """A `CameraIO` on the clock of a device, which ends the run after so many frames."""

    def __init__(self, device: CameraDevice, frames: int, on_frame: Callable[[int], None] = lambda n: None) -> None:
        super().__init__(X264Encoder)
        self.unwanted.add("low")
        self.device, self.count, self.on_frame = device, frames, on_frame

    def now(self) -> float:
        return self.device.now

    def emit(self, frame: EncodedFrame) -> None:
        super().emit(frame)
        self.on_frame(len(self.frames))
        if len(self.frames) >= self.count:
            self.stopping.set()


def camera(**options: Any) -> V4l2Camera:
    return V4l2Camera("desk", V4l2Camera.Options.model_validate(options))


def play(device: CameraDevice, frames: int = 20, on_frame: Callable[[int], None] = lambda n: None, **options: Any) -> Run:
    run = Run(device, frames, on_frame)
    camera(**options).run(run)
    assert device.opened == 0, "the device is closed"
    return run


def fault(device: CameraDevice, **options: Any) -> DeviceFault:
    with pytest.raises(DeviceFault) as caught:
        play(device, **options)
    assert device.opened == 0, "the device is closed"
    return caught.value


@functools.cache
def jpeg(width: int, height: int, number: int) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, "yuvj422p", Fraction(30)
    picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), number * 20 % 200, np.uint8), "rgb24")
    return b"".join(map(bytes, [*encoder.encode(picture.reformat(format="yuvj422p")), *encoder.encode(None)]))


@functools.cache
def h264_frames(width: int, height: int, b_frames: bool = False) -> list[bytes]:
    options = ["-bf", "2", "-x264-params", "b-adapt=0"] if b_frames else ["-tune", "zerolatency", "-bf", "0"]
    source = ["-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate=30", "-frames:v", "60", "-pix_fmt", "yuv420p"]
    command = [require("ffmpeg"), "-nostdin", "-loglevel", "error", *source, "-c:v", "libx264", "-preset", "ultrafast", *options]
    clip = subprocess.run([*command, "-g", "15", "-f", "h264", "-"], check=True, capture_output=True, timeout=60).stdout
    parser = av.CodecContext.create("h264", "r")
    return [bytes(packet) for packet in [*parser.parse(clip), *parser.parse(None)]]


def shoot(fourcc: str, width: int, height: int, number: int) -> bytes:
    if fourcc == "MJPG":
        return jpeg(width, height, number % 8)
    if fourcc == "H264":
        return h264_frames(width, height)[number % 60]
    return bytes([16 + number % 200, 128]) * (width * height)


def webcam(*formats: Format, kind: type[CameraDevice] = CameraDevice, **more: Any) -> CameraDevice:
    return kind(list(formats) or C920, picture=shoot, **more)


# Names


def test_a_camera_is_found_with_its_stable_names_and_all_its_nodes(board: Board) -> None:
    board.plug(0, EncoderDevice())
    board.plug(10, webcam(), BY_ID, BY_PATH)
    board.plug(12, webcam(H264), BY_ID.replace("index0", "index2"))
    metadata = webcam()
    metadata.flags = v4l2.CAP_STREAMING
    board.plug(11, metadata)
    board.plug(2, webcam(bus="usb-2", card="Other"))
    (board.root / "dev/video-dec9").touch()
    board.refuses["video-dec9"] = errno.EBUSY
    found = look(board.root)
    assert [(camera.card, [Path(node).name for node in camera.nodes]) for camera in found.cameras] == [
        ("Other", ["video2"]), ("HD Pro Webcam C920", ["video10", "video12"])
    ]  # fmt: skip
    assert found.cameras[1].names == (BY_ID, BY_ID.replace("index0", "index2"), BY_PATH)
    assert found.cameras[0].stable_name.endswith("/dev/video2"), "without udev there is nothing better"
    assert {Path(path).name for path in found.others} == {"video0", "video11", "video-dec9"}


def two(names: bool = True) -> UsbCameras:
    return UsbCameras(
        [
            UsbCamera("HD Pro Webcam C920", "usb-1", (BY_ID, BY_PATH) if names else (), ("/dev/video0",)),
            UsbCamera("Logitech BRIO", "usb-2", ("/dev/v4l/by-id/usb-046d_Logitech_BRIO_99-video-index0",), ("/dev/video2",)),
        ]
    )


@pytest.mark.parametrize("wanted", ["C920", "c920", "hd pro webcam", "HD_Pro_Webcam", "A1B2C3D4", BY_ID, BY_PATH, "046d_HD_Pro"])
def test_a_camera_has_many_names(wanted: str) -> None:
    assert resolve(wanted, two()).bus == "usb-1"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("046d", f"`046d` fits several cameras; write one of these as `device`: {BY_ID} (HD Pro Webcam C920), "),
        ("", "There are several USB cameras; write one of these as `device`: "),
        ("C930", f"The USB camera C930 is not plugged in. There is {BY_ID} (HD Pro Webcam C920), "),
        ("/dev/v4l/by-id/usb-gone", "The USB camera usb-gone is not plugged in."),
        ("/dev/video77", "The USB camera video77 is not plugged in."),
    ],
)
def test_names_that_say_no_camera(wanted: str, sentence: str) -> None:
    with pytest.raises(DeviceFault) as caught:
        resolve(wanted, two())
    assert caught.value.message.startswith(sentence)


def test_the_only_camera_needs_no_name() -> None:
    found = two()
    del found.cameras[1]
    assert resolve("", found).bus == "usb-1"
    with pytest.raises(DeviceFault, match="No USB camera is plugged in") as caught:
        resolve("", UsbCameras())
    assert caught.value.retry
    with pytest.raises(DeviceFault, match="group video"):
        resolve("", UsbCameras([], {"/dev/video0": NO_PERMISSION}))


def test_a_number_is_taken_with_a_warning(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    board.plug(0, webcam(), BY_ID)
    assert resolve("/dev/video0", look(board.root), board.root).names == (BY_ID,)
    assert f"write device: {BY_ID}" in caplog.text


def test_a_link_of_ones_own_is_a_name(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    board.plug(0, webcam(), BY_ID)
    (board.root / "dev/porch").symlink_to("video0")
    assert resolve("/dev/porch", look(board.root), board.root).names == (BY_ID,)
    assert not caplog.text


SAME = "/dev/v4l/by-id/usb-Sonix_USB_2.0_Camera-video-index0"
PORTS = ["/dev/v4l/by-path/platform-xhci-usb-0:1.1:1.0-video-index0", "/dev/v4l/by-path/platform-xhci-usb-0:1.2:1.0-video-index0"]


@pytest.mark.parametrize("owner", [0, 1])
def test_cameras_that_udev_cannot_tell_apart_are_known_by_their_ports(board: Board, owner: int) -> None:
    board.plug(0, webcam(bus="usb-1.1"), PORTS[0], *[SAME] * (owner == 0))
    assert look(board.root).cameras[0].stable_name == (PORTS[0] if owner else SAME), "as long as it is the only one of its kind"
    board.plug(1, webcam(bus="usb-1.2"), PORTS[1], *[SAME] * (owner == 1))
    board.plug(2, webcam(bus="usb-1.3", card="Other"), BY_PATH, BY_ID)
    found = look(board.root)
    assert [one.options["device"] for one in V4l2Camera.discover()] == [*PORTS, BY_ID]
    assert [resolve(name, found, board.root).nodes[0][-6:] for name in (*PORTS, BY_ID)] == ["video0", "video1", "video2"]
    for name in (SAME, "Sonix"):
        with pytest.raises(DeviceFault, match="several cameras") as caught:
            camera(device=name).run(Run(webcam(), 1))
        assert f"{PORTS[0]} (HD Pro Webcam C920), {PORTS[1]} (HD Pro Webcam C920)." in caught.value.message
        assert not caught.value.retry and BY_ID not in caught.value.message


def test_like_cameras_with_serial_numbers_keep_their_names(board: Board) -> None:
    names = [BY_ID, BY_ID.replace("A1B2", "E5F6")]
    for number, name in enumerate(names):
        board.plug(number, webcam(bus=f"usb-{number}"), name, PORTS[number])
    assert [camera.stable_name for camera in look(board.root).cameras] == names


def test_each_camera_of_a_device_with_several_can_be_chosen(board: Board) -> None:
    """Each has an interface and a name in by-path of its own; what names the device means the first."""
    links = [BY_PATH, BY_PATH.replace(":1.0-", ":1.2-"), BY_PATH.replace(":1.0-video-index0", ":1.2-video-index2")]
    devices = [webcam(), webcam(), webcam(H264)]
    for number, device in enumerate(devices):
        board.plug(number, device, links[number], *[SAME] * (number == 0))
    assert [found.options["device"] for found in V4l2Camera.discover()] == links[:2]
    first, second = look(board.root).cameras
    assert [len(first.nodes), len(second.nodes)] == [1, 2], "nodes of one interface are one camera"
    for name, meant in {
        links[0]: first, links[1]: second, "/dev/video0": first, "/dev/video1": second, SAME: first, "C920": first, "": first
    }.items():  # fmt: skip
        assert resolve(name, look(board.root), board.root) == meant, name
    camera(device=links[1]).run(Run(devices[2], 1))
    assert [device.set for device in devices] == [None, None, ("H264", 1280, 720)]


def test_what_is_no_camera_is_said(board: Board) -> None:
    board.plug(0, EncoderDevice())
    with pytest.raises(DeviceFault, match="is not a camera") as caught:
        resolve("/dev/video0", look(board.root), board.root)
    assert not caught.value.retry
    board.plug(1, webcam(), BY_ID)
    board.refuses["video1"] = errno.EACCES
    for wanted in (BY_ID, "", "C920", "/dev/video1"):
        with pytest.raises(DeviceFault, match="group video"):
            resolve(wanted, look(board.root), board.root)


NAMES = st.text(st.characters(codec="ascii", exclude_characters="/\0"), max_size=12)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=4), NAMES)
def test_resolving_gives_a_camera_that_fits_or_a_sentence(cards: list[tuple[str, str]], wanted: str) -> None:
    found = UsbCameras(
        [
            UsbCamera(card, f"usb-{number}", (f"/dev/v4l/by-id/{link}",) if link else (), (f"/dev/video{number}",))
            for number, (card, link) in enumerate(cards)
        ]
    )
    try:
        camera = resolve(wanted, found)
    except DeviceFault as caught:
        assert caught.message.endswith(".")
        return
    assert camera in found.cameras
    assert sum(candidate is camera for candidate in found.cameras) == 1


# Formats


def offers_of(*formats: Format) -> list[Offer]:
    return [
        Offer("/dev/video0", v4l2.fourcc(known.fourcc), *size, tuple((rate, rate) for rate in rates))
        for known in formats
        for size, rates in known.sizes.items()
    ]


def texts(modes: list[Mode]) -> list[str]:
    return [f"{mode.offer.fourcc} {mode.offer.width}x{mode.offer.height}@{mode.fps:g}" for mode in modes]


@pytest.mark.parametrize(
    ("formats", "size", "fps", "kind", "first"),
    [
        (C920, None, 30, "auto", "MJPG 1280x720@30"),
        (C920, (640, 480), 30, "auto", "YUYV 640x480@30"),
        (C920, (640, 480), 30, "mjpeg", "MJPG 640x480@30"),
        (C920, (1920, 1080), 30, "auto", "MJPG 1920x1080@30"),
        (C920, (1280, 720), 10, "auto", "YUYV 1280x720@10"),
        (C920, (1280, 720), 20, "auto", "MJPG 1280x720@24"),
        (C920, (1280, 720), 30, "yuyv", "YUYV 1280x720@10"),
        (C920, None, 30, "yuyv", "YUYV 640x480@30"),
        ([*C920, H264], None, 30, "auto", "H264 1280x720@30"),
        ([*C920, H264], (1920, 1080), 30, "auto", "MJPG 1920x1080@30"),
        ([Format("MJPG", {(1920, 1080): (30,), (2560, 1440): (30,)})], None, 30, "auto", "MJPG 1920x1080@30"),
        ([Format("YUYV", {(640, 480): ()})], None, 25, "auto", "YUYV 640x480@25"),
        ([Format("NV12", {(640, 480): (30,)}), Format("YUYV", {(640, 480): (30,)})], None, 30, "auto", "NV12 640x480@30"),
    ],
)
def test_the_best_mode(formats: list[Format], size: tuple[int, int] | None, fps: float, kind: str, first: str) -> None:
    assert texts(choose(offers_of(*formats), size, fps, kind))[0] == first


@pytest.mark.parametrize(
    ("size", "kind", "sentence"),
    [
        ((800, 600), "auto", "does not offer 800x600. Write as `size` one of 1920x1080, 1280x720, 640x480."),
        (None, "h264", "does not deliver H.264; it offers raw (YUYV), MJPEG. Write format: auto."),
    ],
)
def test_what_is_not_there_is_said(size: tuple[int, int] | None, kind: str, sentence: str) -> None:
    with pytest.raises(DeviceFault) as caught:
        choose(offers_of(*C920), size, 30, kind)
    assert sentence in caught.value.message
    assert not caught.value.retry


def test_a_summary_for_people() -> None:
    assert summary(offers_of(*C920)) == [
        "raw (YUYV): 1920x1080 at up to 5, 1280x720 at up to 10, 640x480 at up to 30 frames a second",
        "MJPEG: 1920x1080 at up to 30, 1280x720 at up to 30, 640x480 at up to 30 frames a second",
    ]


OFFERS = st.builds(
    lambda code, width, height, rates: Offer("/dev/video0", v4l2.fourcc(code), width, height, tuple((r, r) for r in rates)),
    st.sampled_from(["H264", "MJPG", "JPEG", *RAW]),
    st.integers(80, 2000).map(lambda n: 2 * n),
    st.integers(60, 1200).map(lambda n: 2 * n),
    st.lists(st.sampled_from([5.0, 10.0, 15.0, 24.0, 29.97, 30.0, 50.0, 60.0]), max_size=4),
)


@given(st.lists(OFFERS, min_size=1, max_size=12), st.floats(1, 120), st.sampled_from(["auto", "h264", "mjpeg", "yuyv"]), st.data())
def test_every_choice_is_an_offer_and_the_first_one_the_best(
    found: list[Offer], fps: float, kind: str, data: st.DataObject
) -> None:
    size = data.draw(st.none() | st.sampled_from([(offer.width, offer.height) for offer in found]))
    try:
        modes = choose(found, size, fps, kind)
    except DeviceFault:
        assert not any(kind in ("auto", offer.kind) and size in (None, (offer.width, offer.height)) for offer in found)
        return
    assert modes
    for mode in modes:
        assert mode.offer in found
        assert kind in ("auto", mode.offer.kind)
        assert size in (None, (mode.offer.width, mode.offer.height))
        assert not mode.offer.rates or (mode.fps, mode.fps) in mode.offer.rates
    reached = [mode.fps >= 0.8 * fps for mode in modes]
    assert reached == sorted(reached, reverse=True)


@pytest.mark.parametrize("size", ["100x100", "1280", "1281x720"])
def test_options_are_checked(size: str) -> None:
    with pytest.raises(ValidationError):
        camera(size=size)


# Pictures


def decoded(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    return [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)


@pytest.mark.parametrize(
    ("options", "set_to"), [({"size": "640x480"}, ("YUYV", 640, 480)), ({"format": "mjpeg"}, ("MJPG", 1280, 720))]
)
def test_pictures_are_encoded_once(board: Board, options: dict[str, Any], set_to: tuple[str, int, int]) -> None:
    device = webcam()
    board.plug(0, device, BY_ID)
    run = play(device, **options)
    assert (device.set, device.fps) == (set_to, 30)
    assert len(decoded(run.frames)) == len(run.frames) == 20
    info = run.infos["main"]
    assert (info.width, info.height, info.fps, info.encoded) == (*set_to[1:], 30, True)
    assert [round(b.captured_at - a.captured_at, 3) for a, b in itertools.pairwise(run.frames)] == [0.033] * 19
    assert [round((b.timestamp - a.timestamp) / 10) for a, b in itertools.pairwise(run.frames)] == [300] * 19


@pytest.mark.parametrize("kind", ["yuyv", "mjpeg"])
def test_pictures_of_a_camera_that_is_encoded_here_have_a_small_layer_while_somebody_wants_it(board: Board, kind: str) -> None:
    def change(count: int) -> None:
        if count == 10:
            run.unwanted.clear()
        elif count == 30:
            run.unwanted.add("main")

    device = webcam()
    board.plug(0, device)
    run = Run(device, 40, change)
    one = camera(format=kind, size="640x480", bitrate="1M")
    assert (one.capabilities.layers, one.capabilities.sizes) == (("main", "low"), ((640, 480), (320, 240)))
    one.run(run)
    layers = [frame.layer for frame in run.frames]
    assert layers == ["main"] * 10 + ["low", "main"] * 10 + ["low"] * 10
    low = [frame for frame in run.frames if frame.layer == "low"]
    assert [frame.keyframe for frame in low] == [True] + [False] * 19
    assert {(picture.width, picture.height) for picture in decoded(low)} == {(320, 240)}
    assert (run.infos["low"].width, run.infos["low"].height, run.infos["low"].encoded) == (320, 240, True)
    assert run.opened["low"] == one.capabilities.bitrates[1]


def test_what_is_certain_before_the_camera_is_open(board: Board) -> None:
    assert camera(format="h264").capabilities.layers == ("main",)
    for one in (camera(), camera(format="h264", transcode=True)):
        assert one.capabilities.layers == ("main", "low")
        assert not one.capabilities.live_bitrate and not one.capabilities.bitrates, "H.264 may come"
    assert camera(size="320x240").capabilities.layers == ("main",)
    assert camera(format="mjpeg").capabilities.sizes == ()


@pytest.mark.parametrize("formats", [[C920[0]], [C920[1]]])
def test_pictures_of_any_format_that_are_encoded_here_have_a_small_layer(board: Board, formats: list[Format]) -> None:
    device = webcam(*formats)
    board.plug(0, device)
    run = Run(device, 20)
    run.unwanted.clear()
    camera(size="640x480", bitrate="1M").run(run)
    assert [frame.layer for frame in run.frames] == ["main", "low"] * 10
    told = {layer: (info.width, info.encoded, info.bitrate) for layer, info in run.infos.items()}
    assert told == {"main": (640, True, 1_000_000), "low": (320, True, 353_553)}


def test_h264_that_goes_through_has_no_small_layer_unless_the_owner_allows_it(board: Board) -> None:
    device = webcam(H264)
    board.plug(0, device)
    run = Run(device, 20)
    run.unwanted.clear()
    camera().run(run)
    assert run.infos["low"].absent and not run.infos["main"].encoded
    assert {frame.layer for frame in run.frames} == {"main"}

    made = threading.Event()

    class Both(Run):
        def emit(self, frame: EncodedFrame) -> None:
            if frame.layer == "low":
                made.set()
            super().emit(frame)

    def give_time() -> None:
        made.wait(60)

    device.number = 0
    device.at[20] = give_time  # the stand-in's pictures come at once; the thread that decodes needs some
    both = Both(device, 40)
    both.unwanted.clear()
    camera(transcode=True).run(both)
    assert (both.infos["low"].width, both.infos["low"].encoded, both.infos["main"].encoded) == (640, True, False)
    low = [frame for frame in both.frames if frame.layer == "low"]
    assert low[0].keyframe
    assert {frame.timestamp for frame in low} <= {frame.timestamp for frame in both.frames if frame.layer == "main"}
    assert {picture.width for picture in decoded(low)} == {640}


def test_a_small_picture_of_h264_that_fails_costs_no_other(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Run):
        def encoder(self, **_: Any) -> Any:
            raise DeviceFault("The video encoder does not start.")

    def wait_for_the_end_of_its_thread() -> None:
        for thread in threading.enumerate():
            if thread.name == "camera-desk-low":
                thread.join(60)

    device = webcam(H264)
    device.at[20] = wait_for_the_end_of_its_thread
    board.plug(0, device)
    run = Refusing(device, 40)
    run.unwanted.clear()
    camera(transcode=True).run(run)
    assert [frame.layer for frame in run.frames] == ["main"] * 40
    assert run.infos["low"].absent
    assert caplog.text.count("camera desk: its small picture is left out. The video encoder does not start.") == 1


def test_h264_goes_through_untouched(board: Board) -> None:
    device = webcam(*C920)
    board.plug(0, device, BY_ID)
    second = webcam(H264)
    board.plug(2, second)
    run = play(second, frames=40)
    assert device.set is None
    assert [frame.data for frame in run.frames] == [join_nals(split_nals(data)) for data in h264_frames(1280, 720)[:40]]
    assert [index for index, frame in enumerate(run.frames) if frame.keyframe] == [0, 15, 30]
    assert not run.infos["main"].encoded
    assert run.infos["main"].profile_level_id.startswith("42")


def test_sets_apart_and_late_starts_are_put_right(board: Board) -> None:
    frames = h264_frames(1280, 720)
    sets = [nal for nal in split_nals(frames[0]) if nal_type(nal) in (7, 8)]
    bare = [join_nals([nal for nal in split_nals(data) if nal_type(nal) not in (7, 8)]) for data in frames]
    buffers = [*bare[7:15], join_nals(sets), *bare[15:60]]
    device = webcam(H264)
    device.picture = lambda fourcc, width, height, number: buffers[number]
    board.plug(0, device)
    run = play(device, frames=31)
    assert [index for index, frame in enumerate(run.frames) if frame.keyframe] == [0, 15, 30]
    for index in (0, 15, 30):
        assert [nal_type(nal) for nal in split_nals(run.frames[index].data)][:2] == [7, 8]
    assert len(decoded(run.frames)) == 31


@pytest.mark.parametrize("how", ["lost", "damaged", "empty"])
def test_after_a_lost_picture_h264_goes_on_with_a_keyframe(board: Board, how: str) -> None:
    device = webcam(H264)
    device.missing = {20} if how == "lost" else set()
    device.flaws = {20: v4l2.BUF_FLAG_ERROR} if how == "damaged" else {}
    device.picture = lambda *what: b"" if how == "empty" and what[3] == 20 else shoot(*what)
    board.plug(0, device)
    run = play(device, frames=40)
    numbers = [round((frame.timestamp - run.frames[0].timestamp) / 3000) for frame in run.frames]
    assert numbers[:22] == [*range(20), 30, 31]


def test_b_frames_are_refused_and_the_camera_is_used_otherwise(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    device = webcam(H264, *C920)
    device.picture = lambda fourcc, width, height, number: (
        h264_frames(width, height, b_frames=True)[number] if fourcc == "H264" else shoot(fourcc, width, height, number)
    )
    board.plug(0, device)
    run = play(device)
    assert device.set == ("MJPG", 1280, 720)
    assert "The camera's H.264 has B-frames" in caplog.text
    assert run.infos["main"].encoded
    device.number = 0
    assert "has B-frames" in fault(device, format="h264").message


def test_pictures_with_errors_and_spoilt_ones_are_left_out(board: Board) -> None:
    device = webcam()
    device.flaws = {3: v4l2.BUF_FLAG_ERROR}
    device.picture = lambda *what: shoot(*what)[: 200 if what[3] == 5 else None]
    board.plug(0, device)
    run = play(device, frames=10, format="mjpeg")
    numbers = [round((frame.timestamp - run.frames[0].timestamp) / 3000) for frame in run.frames]
    assert numbers[:4] == [0, 1, 2, 4]
    assert 5 not in numbers[:10] or len(decoded(run.frames)) == 10


def test_time_stamps_that_cannot_be_are_not_believed(board: Board) -> None:
    for offset, flags in ((-50.0, v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC), (0.7e9, 0), (5.0, v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC)):
        device = webcam()
        device.stamp_offset_s, device.buffer_flags = offset, flags
        board.plug(0, device)
        run = play(device, frames=5)
        assert all(100 <= frame.captured_at <= device.now for frame in run.frames)


def test_a_camera_that_runs_faster_than_wanted_is_thinned_out(board: Board) -> None:
    device = webcam(Format("MJPG", {(640, 480): (60,)}))
    board.plug(0, device)
    run = play(device, frames=10, fps=15)
    assert device.fps == 60
    assert {round((b.timestamp - a.timestamp) / 100) for a, b in itertools.pairwise(run.frames)} == {60}
    assert run.infos["main"].fps == 15


@pytest.mark.parametrize(("busy_s", "share"), [(0.01, 0.0), (0.08, 0.6), (0.4, 0.9)])
def test_a_board_that_is_too_slow_for_a_camera_is_told(board: Board, busy_s: float, share: float) -> None:
    device = webcam(Format("MJPG", {(640, 480): (30,)}))
    board.plug(0, device)
    began = device.now
    run = play(device, frames=30, on_frame=lambda n: device.pass_time(busy_s))
    left_out = run.slow.get("main", 0)
    assert left_out / (30 * (device.now - began)) == pytest.approx(share, abs=0.06)


def test_a_camera_that_is_faster_than_wanted_makes_no_board_slow(board: Board) -> None:
    device = webcam(Format("MJPG", {(640, 480): (60,)}))
    board.plug(0, device)
    run = play(device, frames=30, fps=30, on_frame=lambda n: device.pass_time(0.031))
    assert (device.fps, sum(run.slow.values())) == (60, 0)


def test_keyframes_and_rates_as_wished(board: Board) -> None:
    device = webcam()
    board.plug(0, device)

    def wish(count: int) -> None:
        if count == 10:
            run.keyframe_wanted.add("main")

    run = Run(device, 20, wish)
    camera(size="640x480").run(run)
    assert [index for index, frame in enumerate(run.frames) if frame.keyframe] == [0, 10]


def test_where_the_bus_is_full_another_format_is_taken(board: Board) -> None:
    device = webcam()
    device.no_bandwidth = {"YUYV"}
    board.plug(0, device)
    play(device, size="640x480")
    assert device.set == ("MJPG", 640, 480)
    device.no_bandwidth.add("MJPG")
    assert "not enough bandwidth" in fault(device, size="640x480").message


def test_conforms(board: Board) -> None:
    board.plug(0, webcam(kind=RealTimeCamera))
    assert_conforms(camera(size="640x480", bitrate="300k"), X264Encoder, frames=12)
    board.plug(1, webcam(H264, kind=RealTimeCamera, card="Other", bus="usb-2"))
    assert_conforms(camera(device="Other"), X264Encoder, frames=12)


@pytest.mark.parametrize("fourcc", sorted(RAW))
def test_raw_pictures_of_every_kind(fourcc: str) -> None:
    width, height, name = 64, 36, RAW[fourcc]
    ramp = np.tile(np.arange(width, dtype=np.uint8) * 3, (height, 1))
    grey = av.VideoFrame.from_ndarray(np.repeat(ramp[:, :, None], 3, axis=2), "rgb24")
    source = grey.reformat(format=name)
    offer = Offer("", v4l2.fourcc(fourcc), width, height, ())
    data, stride = b"", 0
    for index, plane in enumerate(source.planes):  # with lines that are longer than they need be, as drivers like them
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
        used = plane.line_size if index or name != "yuv420p" else width
        stride = stride or max(192 if name in ("rgb24", "bgr24") else 128, used)
        wanted = stride // 2 if index and name == "yuv420p" else stride
        padded = np.zeros((plane.height, wanted), np.uint8)
        padded[:, : min(used, wanted)] = lines[:, : min(used, wanted)]
        data += padded.tobytes()
    made = raw_picture(data, offer, stride)
    assert made
    back = made.reformat(format="rgb24").to_ndarray().astype(int)
    assert np.abs(back - source.reformat(format="rgb24").to_ndarray().astype(int)).max() <= 2
    assert raw_picture(data[: len(data) // 2], offer, stride) is None


# Faults


def test_unplugged_while_running_and_replugged_under_another_number(board: Board) -> None:
    device = webcam()
    board.plug(0, device, BY_ID)
    device.at[7] = lambda: board.unplug(0)
    usb = camera(device=BY_ID)
    run = Run(device, 100)
    with pytest.raises(DeviceFault, match="was unplugged") as caught:
        usb.run(run)
    assert caught.value.retry and len(run.frames) == 7
    assert device.opened == 0
    with pytest.raises(DeviceFault, match="is not plugged in") as caught:
        usb.run(Run(device, 1))
    assert caught.value.retry
    again = webcam()
    board.plug(4, again, BY_ID)
    run = Run(again, 5)
    usb.run(run)
    assert len(run.frames) == 5 and run.frames[0].keyframe


@pytest.mark.realtime
async def test_the_picture_returns_by_itself_when_the_camera_is_plugged_in_again(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    """With the agent's own runner, as in a home; on the kernel's own devices in tests/vm."""
    frames: list[EncodedFrame] = []
    said: list[CameraStatus] = []
    told = asyncio.Event()

    def note(kept: list[Any], item: Any) -> None:
        kept.append(item)
        told.set()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                told.clear()
                await told.wait()

    board.plug(0, webcam(H264, kind=RealTimeCamera), BY_ID)
    runner = CameraRunner(
        camera(device=BY_ID),
        on_frame=lambda frame: note(frames, frame),
        on_status=lambda status: note(said, status),
        on_info=lambda layer, info: None,
        encoder_factory=X264Encoder,
        policy=LifePolicy(start_s=60, stall_s=60, retry_min_s=0.02, retry_max_s=0.05),
    )
    runner.start()
    try:
        await until(lambda: len(frames) > 5)
        board.unplug(0)
        await until(lambda: "HD_Pro_Webcam" in said[-1].text and "is not plugged in" in said[-1].text)
        before = len(frames)
        board.plug(4, webcam(H264, kind=RealTimeCamera), BY_ID)
        await until(lambda: said[-1].phase is CameraPhase.LIVE and len(frames) > before + 5)
    finally:
        await runner.stop()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("was unplugged" in line for line in lines) == 1
    assert sum("is not plugged in" in line for line in lines) == 1, "once, not with each try"
    assert sum("the picture is back after" in line for line in lines) == 1
    assert len(lines) == 3


def test_it_stops_within_a_moment_though_the_camera_is_silent(board: Board) -> None:
    device = webcam()
    device.silent = True
    board.plug(0, device)
    began = device.now
    assert "sends no pictures" in fault(device).message
    assert device.now - began < 5

    class Impatient(Run):
        def now(self) -> float:
            if self.device.now > began + 6:
                self.stopping.set()
            return super().now()

    device.now = began + 5
    camera().run(Impatient(device, 1))
    assert device.now < began + 7


@pytest.mark.parametrize(
    ("call", "number", "sentence"),
    [
        ("s_fmt", errno.EBUSY, "in use by another program"),
        ("reqbufs", errno.EBUSY, "in use by another program"),
        ("streamon", errno.EBUSY, "in use by another program"),
        ("streamon", errno.EIO, "was unplugged, or it stopped answering"),
        ("reqbufs", errno.ENOMEM, "The USB camera failed"),
        ("enum_fmt", errno.ENODEV, "was unplugged"),
        ("qbuf", errno.EINVAL, "The USB camera failed"),
        ("dqbuf", errno.EPROTO, "was unplugged, or it stopped answering"),
    ],
)
def test_failures_are_sentences(board: Board, call: str, number: int, sentence: str) -> None:
    device = webcam()
    device.refuse[call] = number
    board.plug(0, device)
    assert sentence in fault(device).message


def test_a_camera_without_any_usable_format(board: Board) -> None:
    device = webcam(Format("BA81", {(640, 480): (30,)}))
    board.plug(0, device)
    assert "offers no format" in fault(device).message


# Controls

CONTROLS = {
    0x9A0901: Control("Auto Exposure", 0, 3, kind=v4l2.CTRL_MENU, menu={1: "Manual Mode", 3: "Aperture Priority Mode"}),
    0x9A0902: Control("Exposure Time, Absolute", 3, 2047),
    0x98090C: Control("White Balance, Automatic", 0, 1, kind=v4l2.CTRL_BOOLEAN),
    0x9A090A: Control("Focus, Absolute", 0, 250, 5),
}


def test_controls_are_set_in_order_by_name(board: Board) -> None:
    device = webcam()
    device.controls = dict(CONTROLS)
    board.plug(0, device)
    wanted = {"auto_exposure": "manual mode", "exposure_time_absolute": 200, "white_balance_automatic": False, "focus_absolute": 30}
    play(device, controls=wanted)
    assert list(device.values.items()) == [(0x9A0901, 1), (0x9A0902, 200), (0x98090C, 0), (0x9A090A, 30)]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"exposure_time": 5}, "no control `exposure_time`; did you mean `exposure_time_absolute`?"),
        ({"zzz": 5}, "no control `zzz`; it has white_balance_automatic, auto_exposure,"),
        ({"exposure_time_absolute": 1}, "takes a number from 3 to 2047."),
        ({"focus_absolute": 33}, "takes a number from 0 to 250 in steps of 5."),
        ({"focus_absolute": "near"}, "takes a number from 0 to 250 in steps of 5."),
        ({"auto_exposure": 2}, "takes one of 1 (Manual Mode), 3 (Aperture Priority Mode)."),
    ],
)
def test_wrong_controls_are_said(board: Board, wanted: dict[str, int | str], sentence: str) -> None:
    device = webcam()
    device.controls = dict(CONTROLS)
    board.plug(0, device)
    caught = fault(device, controls=wanted)
    assert sentence in caught.message
    assert not caught.retry


def test_a_control_that_is_refused_now(board: Board) -> None:
    device = webcam()
    device.controls = dict(CONTROLS)
    device.refuse["s_ctrl"] = errno.EACCES
    board.plug(0, device)
    assert "must be set to manual before it" in fault(device, controls={"focus_absolute": 30}).message


def test_a_control_that_the_camera_answers_with_an_error_is_no_sign_of_its_end(board: Board) -> None:
    device = webcam()
    device.controls = dict(CONTROLS)
    device.refuse["s_ctrl"] = errno.EIO
    board.plug(0, device)
    caught = fault(device, controls={"focus_absolute": 30})
    assert "refuses `focus_absolute: 30`" in caught.message
    assert caught.retry, "it may be going"

    class Going(CameraDevice):
        def s_ctrl(self, data: Any) -> None:
            self.gone = True
            raise OSError(errno.EIO, "it was pulled out")

    board.plug(0, going := webcam(kind=Going))
    going.controls = dict(CONTROLS)
    assert "was unplugged" in fault(going, controls={"focus_absolute": 30}).message


@pytest.mark.parametrize("unanswered", [[0x9A0901], [0x98090C, 0x9A0901, 0x9A0902], [0x9A090A]])
def test_controls_for_which_the_camera_does_not_answer_are_left_out(board: Board, unanswered: list[int]) -> None:
    device = webcam()
    device.controls = dict(CONTROLS)
    device.unanswered = dict(zip(unanswered, itertools.cycle([errno.EIO, errno.EPIPE])))
    board.plug(0, device)
    node = board.open("video0")
    assert [control.key for control in node.controls()] == sorted(set(CONTROLS) - set(unanswered))
    with pytest.raises(DeviceFault, match="no control `focus`, or does not answer for it at present") as raised:
        set_controls(node, {"focus": 30})
    assert raised.value.retry, "it may be about to be there"
    device.unanswered[0x98090C] = errno.ENODEV
    with pytest.raises(OSError, match="No such device"):
        list(node.controls())
    node.close()


# Discovery


def test_the_command_lists_what_is_plugged_in(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    board.plug(0, webcam(*C920, H264), BY_ID)
    assert cli.main(["drivers"]) == 0
    _, _, pasted = capsys.readouterr().out.partition("\ncameras:")
    assert "# MJPEG: 1920x1080 at up to 30, 1280x720 at up to 30, 640x480 at up to 30 frames a second" in pasted
    assert yaml.safe_load("cameras:" + pasted)["cameras"]["hd-pro-webcam-c920"] == {
        "driver": "v4l2", "title": "HD Pro Webcam C920", "device": BY_ID, "size": "1280x720", "fps": 30
    }  # fmt: skip


def test_what_is_plugged_in_is_listed(board: Board) -> None:
    board.plug(0, webcam(), BY_ID)
    board.plug(1, EncoderDevice())
    (found,) = V4l2Camera.discover()
    assert found.title == "HD Pro Webcam C920"
    assert found.options == {"device": BY_ID, "size": "1280x720", "fps": 30}
    assert found.remarks[0] == "at usb-0000:01:00.0-1.3"
    assert found.remarks[2].startswith("MJPEG: 1920x1080 at up to 30, ")
    V4l2Camera.Options.model_validate(found.options)
    board.refuses["video0"] = errno.EACCES
    with pytest.raises(DeviceFault, match="group video"):
        V4l2Camera.discover()
