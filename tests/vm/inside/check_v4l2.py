"""The driver `v4l2` on a real kernel: `vivid`, a camera without hardware that can also be unplugged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from edgeagent import v4l2
from edgeagent.drivers import DeviceFault
from edgeagent.drivers.conformance import assert_conforms, record
from edgeagent.drivers.runner import CameraRunner
from edgeagent.media.encoder import make_encoder
from edgeagent.model import CameraPhase, CameraStatus, EncodedFrame
from edgeagent_devices.v4l2 import V4l2Camera

LINK = Path("/dev/v4l/by-id/usb-Virtual_Video_Test_Driver-video-index0")


def modprobe(*arguments: str) -> None:
    subprocess.run(["modprobe", "-d", os.environ["EA_KERNEL"], *arguments], check=True)


def plug(number: int) -> None:
    """Load the camera and link it, as udev would."""
    modprobe("vivid", f"vid_cap_nr={number}", "n_devs=1")
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(f"../../video{number}")


def unload() -> None:
    """Unload the camera, as soon as no look round has a node of it open."""
    never, tries = threading.Event(), 0
    while subprocess.run(["modprobe", "-d", os.environ["EA_KERNEL"], "-r", "vivid"], check=False, capture_output=True).returncode:
        tries += 1
        assert tries < 100
        never.wait(0.2)


@pytest.fixture
def plugged() -> Iterator[None]:
    plug(3)
    yield
    unload()


def camera(**options: Any) -> V4l2Camera:
    wanted = {"device": str(LINK), "size": "320x180", "fps": 15, "bitrate": "600k"} | options
    return V4l2Camera("desk", V4l2Camera.Options.model_validate(wanted))


def fault(**options: Any) -> DeviceFault:
    recording = record(camera(**options), make_encoder, lambda it: it.wait_for(1000, 30))
    assert isinstance(recording.error, DeviceFault)
    return recording.error


def brightness_of(frame: EncodedFrame) -> float:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (picture,) = decoder.decode(av.Packet(frame.data)) + decoder.decode(None)
    return float(picture.to_ndarray(format="gray").mean())


@pytest.mark.usefixtures("plugged")
def test_it_is_found_with_its_stable_name_and_sizes() -> None:
    (found,) = V4l2Camera.discover()
    assert (found.title, found.options["device"]) == ("vivid", str(LINK))
    assert "1280x720" in " ".join(found.remarks)
    assert V4l2Camera.Options.model_validate(found.options)


@pytest.mark.usefixtures("plugged")
def test_it_conforms() -> None:
    assert_conforms(camera(), make_encoder, frames=20, timeout_s=60)


@pytest.mark.usefixtures("plugged")
def test_wrong_sizes_controls_and_formats_are_sentences() -> None:
    assert "does not offer 400x300. Write as `size` one of" in fault(size="400x300").message
    assert "does not deliver H.264; it offers raw" in fault(format="h264").message
    assert "`brightness` takes a number from 0 to 255" in fault(controls={"brightness": 300}).message
    assert "takes one of 0 (75% Colorbar)" in fault(controls={"test_pattern": "Fluffy"}).message


@pytest.mark.usefixtures("plugged")
def test_controls_change_the_picture() -> None:
    brightness = []
    for pattern in ("100% Black", "100% White"):
        recording = record(
            camera(controls={"test_pattern": pattern, "osd_text_mode": "None"}), make_encoder, lambda it: it.wait_for(5, 60)
        )
        assert recording.error is None
        brightness.append(brightness_of(recording.frames[0]))
    assert brightness[0] < 30 < 220 < brightness[1]


@pytest.mark.usefixtures("plugged")
def test_a_camera_in_use_is_a_sentence() -> None:
    node = v4l2.Node(LINK)
    with contextlib.closing(node):
        node.request_buffers(v4l2.BufferType.CAPTURE, 2)
        assert "in use by another program" in fault().message


@pytest.mark.usefixtures("plugged")
def test_pictures_with_errors_are_left_out() -> None:
    def script(it: Any) -> None:
        assert it.wait_for(5, 60)
        node = v4l2.Node(LINK)
        with contextlib.closing(node):
            (button,) = [control for control in node.controls() if control.name == "inject_v4l2_buf_flag_error"]
            node.set_control(button.key, 1)
        assert it.wait_for(15, 60)

    recording = record(camera(), make_encoder, script)
    assert recording.error is None


def test_unplugged_and_replugged_under_another_number() -> None:
    """With the agent's own runner, as in a home: the sentence at once, the picture back by itself."""
    plug(3)
    asyncio.run(_unplug_and_replug())
    unload()


async def _unplug_and_replug() -> None:
    statuses: list[CameraStatus] = []
    frames: list[EncodedFrame] = []
    changed = asyncio.Event()

    def note(kept: list[Any], item: Any) -> None:
        kept.append(item)
        changed.set()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():
                changed.clear()
                await changed.wait()

    runner = CameraRunner(
        camera(),
        on_frame=lambda frame: note(frames, frame),
        on_status=lambda status: note(statuses, status),
        on_info=lambda layer, info: None,
        encoder_factory=make_encoder,
    )
    runner.start()
    await until(lambda: len(frames) > 5)
    _press_disconnect()
    await until(lambda: statuses[-1].phase is CameraPhase.RETRYING)
    assert "unplugged" in statuses[-1].text
    await asyncio.to_thread(unload)
    assert not Path("/dev/video3").exists()
    await until(lambda: "is not plugged in" in statuses[-1].text)
    await asyncio.to_thread(plug, 7)
    count = len(frames)
    await until(lambda: statuses[-1].phase is CameraPhase.LIVE and len(frames) > count + 5)
    assert LINK.resolve() == Path("/dev/video7")
    await runner.stop()


def _press_disconnect() -> None:
    node = v4l2.Node(LINK)
    with contextlib.closing(node):
        (button,) = [control for control in node.controls() if control.name == "disconnect"]
        node.set_control(button.key, 1)
