"""The driver on real picamera2 and real libcamera, encoded by x264: what a Pi 5 does."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.drivers import DeviceFault, EncodedFrame
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.media.encoder import make_encoder
from edgeagent_devices import _picamera2_board
from edgeagent_devices._picamera2_controls import wishes
from edgeagent_devices.picamera2 import Picamera2Camera, _looked_up
from tests.rootfs.inside import board
from tests.rootfs.inside.helpers import camera, kbit_s, layer_rests, of, wait_until


def opened() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_conforms() -> None:
    assert_conforms(camera(camera="Noise0", bitrate="1M"), make_encoder, frames=20)


def test_two_layers_of_one_picture() -> None:
    it = record(camera(size="1280x720"), make_encoder, lambda it: it.wait_for(20, 30, "main"))
    assert it.error is None
    assert [(info.width, info.height, info.profile_level_id[:4]) for _, info in sorted(it.infos.items())] == [
        (640, 360, "42c0"),
        (1280, 720, "42c0"),
    ]
    main, lores = ({frame.timestamp: frame.captured_at for frame in of(it, layer)} for layer in ("main", "lores"))
    both = main.keys() & lores.keys()
    assert len(both) >= 2, "one sensor, one clock: pictures of both layers carry the same time"
    assert all(main[when] == lores[when] for when in both)


def test_capture_time_is_on_the_agents_clock() -> None:
    began = time.monotonic()
    it = record(camera(lores=False), make_encoder, lambda it: it.wait_for(15, 30))
    taken = [frame.captured_at for frame in it.frames]
    assert all(began < moment < time.monotonic() for moment in taken)
    ticks = [frame.timestamp for frame in it.frames]
    assert ticks[0] == 0
    assert (ticks[-1] - ticks[0]) / 90_000 == pytest.approx(taken[-1] - taken[0], abs=0.1)


def test_keyframes_by_intra() -> None:
    frames = of(record(camera(intra=12, lores=False), make_encoder, lambda it: it.wait_for(27, 30)))
    assert [number for number, frame in enumerate(frames) if frame.keyframe][:3] == [0, 12, 24]


def test_live_bitrate() -> None:
    def script(it: Recording) -> None:
        it.wait_for(40, 40, "main")
        it.bitrate = 300_000
        it.wait_for(len(of(it)) + 60, 40, "main")

    frames = of(record(camera(camera="Noise0", lores=False, bitrate="1500k"), make_encoder, script))
    assert kbit_s(frames[15:40]) > 1000
    assert kbit_s(frames[-30:]) < 0.5 * kbit_s(frames[15:40])
    assert not any(frame.keyframe for frame in frames[1:])


def test_a_layer_rests_while_nobody_wants_it() -> None:
    layer_rests(make_encoder)


def test_no_layer_wanted_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    alives: list[object] = []

    def count(it: Recording) -> None:
        alives.append(it)

    monkeypatch.setattr(Recording, "alive", count)

    def script(it: Recording) -> None:
        it.unwanted |= {"main", "lores"}
        wait_until(lambda: board.CAMERAS and board.CAMERAS[-1].run, "the camera to run")
        assert not it.stopping.wait(1)

    it = record(camera(), make_encoder, script)
    assert it.error is None
    assert it.frames == []
    assert len(alives) >= 2


def test_what_the_camera_lacks_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    one = camera(autofocus_mode="auto", brightness=0.2, shutter="10ms", awbgains="1.5,1.2", roi="0,0,.5,.5", hdr="sensor", fps=25)
    for _ in range(2):
        assert record(one, make_encoder, lambda it: it.wait_for(3, 30)).error is None
    told = [entry.getMessage().removeprefix("camera porch: ") for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(told) == len(set(told))
    for words in ("`autofocus_mode`", "`brightness`", "`shutter`", "`awbgains`", "`roi`", "`hdr: sensor`", "30 pictures a second"):
        assert any(words in sentence for sentence in told), words


def test_rotation(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The virtual cameras take any orientation, though they do not turn their pictures."""
    import libcamera
    from picamera2 import Picamera2, utils

    def look(it: Recording) -> None:
        it.wait_for(1, 30)
        made.extend(cam.camera_configuration()["transform"] for cam in Picamera2._cm.cameras.values())

    made: list[Any] = []
    for options in ({"rotation": 180}, {"rotation": 180, "hflip": True}, {"vflip": True}, {}):
        record(camera(lores=False, **options), make_encoder, look)
    transforms = [libcamera.Transform(**flips) for flips in ({"hflip": 1, "vflip": 1}, {"vflip": 1}, {"vflip": 1}, {})]
    assert all(one == other for one, other in zip(made, transforms, strict=True))
    assert not [entry for entry in caplog.records if "rotation" in entry.getMessage()]
    monkeypatch.setattr(utils, "orientation_to_transform", lambda _: libcamera.Transform())
    assert record(camera(lores=False, rotation=180), make_encoder, lambda it: it.wait_for(1, 30)).error is None
    assert [entry for entry in caplog.records if "`rotation`" in entry.getMessage()]


def test_a_size_that_the_camera_lacks(caplog: pytest.LogCaptureFixture) -> None:
    it = record(camera(size="1920x1080", lores={"size": "600x300"}), make_encoder, lambda it: it.wait_for(3, 30, "lores"))
    assert it.error is None
    assert any("delivers" in entry.getMessage() for entry in caplog.records)
    assert (it.infos["main"].width, it.infos["main"].height) != (1920, 1080)


def test_every_control_is_one_of_libcameras() -> None:
    from libcamera import controls

    options = Picamera2Camera.Options.model_validate(
        {
            **{
                "autofocus_mode": "auto",
                "autofocus_range": "macro",
                "autofocus_speed": "fast",
                "autofocus_window": "0.2,0.2,0.5,0.5",
            },
            **{"exposure": "sport", "shutter": "5ms", "gain": 2, "ev": 1, "metering": "centre", "flicker_period": "10ms"},
            **{"awb": "daylight", "brightness": 0.1, "contrast": 1, "saturation": 1, "sharpness": 1, "denoise": "cdn_hq"},
            **{"hdr": "single-exp", "roi": "0,0,1,1"},
        }
    )
    made = wishes(options, {"ScalerCropMaximum": (0, 0, 4608, 2592)})
    made += wishes(Picamera2Camera.Options(lens_position=2, awbgains=(1, 2)), {})
    for wish in made:
        assert hasattr(controls, wish.control) or hasattr(controls.draft, wish.control), wish
        _looked_up(wish.value)


def test_two_cameras_at_once_and_one_twice() -> None:
    first, second, again = camera(lores=False), camera(camera="Virtual1", lores=False), camera(lores=False)
    inner: list[Recording] = []

    def beside(it: Recording) -> None:
        it.wait_for(3, 30)
        inner.append(record(second, make_encoder, lambda it: it.wait_for(10, 30)))
        open_before = opened()
        for _ in range(3):
            inner.append(record(again, make_encoder, lambda it: it.wait_for(1, 30)))
        assert opened() <= open_before, "each attempt closes what it opened"
        before = len(it.frames)
        assert it.wait_for(before + 5, 30), "the first one goes on"

    assert record(first, make_encoder, beside).error is None
    assert inner[0].error is None
    assert len(inner[0].frames) >= 10
    assert "in use by another program" in str(inner[1].error)


def test_tuning_file_counts_before_libcamera_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is for the pipelines of a board; here it is seen to be set in time, and taken away again."""
    seen: list[str | None] = []
    (tmp_path / "mine.json").write_text("{}")
    tuned = camera(lores=False, tuning_file=str(tmp_path / "mine.json"))

    def look(it: Recording) -> None:
        it.wait_for(1, 30)
        seen.append(os.environ.get("LIBCAMERA_RPI_TUNING_FILE"))
        if len(seen) == 2:  # beside a camera without
            record(tuned, make_encoder, lambda it: it.wait_for(1, 30))

    for one in (tuned, camera(camera="Virtual1", lores=False)):
        assert record(one, make_encoder, look).error is None
    assert seen == [str(tmp_path / "mine.json"), None]
    assert [entry for entry in caplog.records if "to all cameras of the board" in entry.getMessage()]


def test_discovers() -> None:
    found = Picamera2Camera.discover()
    assert {entry.options["camera"] for entry in found} == {"Virtual0", "Virtual1", "Noise0"}
    assert record(camera(camera=1, lores=False), make_encoder, lambda it: it.wait_for(1, 30)).error is None


def test_no_such_camera() -> None:
    assert "No CSI camera has `imx708`" in str(record(camera(camera="imx708"), make_encoder, lambda it: it.wait_for(1, 30)).error)
    assert "no CSI camera 7" in str(record(camera(camera=7), make_encoder, lambda it: it.wait_for(1, 30)).error)
    assert "no tuning file" in str(record(camera(tuning_file="x.json"), make_encoder, lambda it: it.wait_for(1, 30)).error)


def test_a_camera_that_falls_silent_is_closed_and_opened_again() -> None:
    one = camera(lores=False)

    def script(it: Recording) -> None:
        it.wait_for(5, 30)
        board.CAMERAS[-1].run = False  # a loose cable
        wait_until(lambda: it.error, "the fault")

    fault = record(one, make_encoder, script).error
    assert isinstance(fault, DeviceFault)
    assert fault.retry
    assert "cable" in fault.message
    assert record(one, make_encoder, lambda it: it.wait_for(5, 30)).error is None


def test_a_camera_whose_event_loop_died_is_closed_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from picamera2 import Picamera2

    one = camera(lores=False)

    def dies(*_: object) -> None:
        raise RuntimeError("as an encoder of picamera2 does with a keyframe under PyAV 14")

    def script(it: Recording) -> None:
        it.wait_for(3, 30)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        monkeypatch.setattr(Picamera2, "process_requests", dies)
        wait_until(lambda: it.error, "the fault")
        monkeypatch.undo()

    assert isinstance(record(one, make_encoder, script).error, DeviceFault)
    assert record(one, make_encoder, lambda it: it.wait_for(5, 30)).error is None


def test_a_camera_that_hangs_is_given_up_in_time() -> None:
    one = camera(lores=False)
    kernel: list[threading.Event] = []

    def script(it: Recording) -> None:
        it.wait_for(3, 30)
        kernel.append(board.CAMERAS[-1].stop_hangs)
        kernel[0].clear()

    fault = record(one, make_encoder, script, stop_s=30).error
    assert isinstance(fault, DeviceFault)
    assert "does not let itself be closed" in fault.message
    assert fault.restart
    again = record(one, make_encoder, lambda it: it.wait_for(1, 30)).error
    assert isinstance(again, DeviceFault)
    assert again.message == fault.message and again.restart
    kernel[0].set()
    closers = [thread for thread in threading.enumerate() if thread.name == "edgeagent-csi-close"]
    for closer in closers:
        closer.join(20)
    assert record(one, make_encoder, lambda it: it.wait_for(3, 30)).error is None


@pytest.fixture
def slow_encoder() -> Iterator[Any]:
    """An encoder that takes longer than the camera from picture to picture."""

    def make(**wanted: Any) -> Any:
        encoder = make_encoder(**wanted)
        encode = encoder.encode

        def slowly(*arguments: Any, **more: Any) -> Any:
            threading.Event().wait(0.12)
            return encode(*arguments, **more)

        encoder.encode = slowly  # type: ignore[method-assign]
        return encoder

    yield make


def test_a_slow_encoder_leaves_pictures_out_and_stays_live(slow_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[float] = []
    emit = Recording.emit

    def watched(self: Recording, frame: EncodedFrame) -> None:
        emitted.append(time.monotonic())
        emit(self, frame)

    monkeypatch.setattr(Recording, "emit", watched)
    it = record(camera(lores=False), slow_encoder, lambda it: it.wait_for(12, 30))
    assert it.error is None
    spans = [after.timestamp - before.timestamp for before, after in itertools.pairwise(it.frames)]
    assert sorted(spans)[len(spans) // 2] >= 2 * 3000, "pictures were left out"
    taken = [frame.captured_at for frame in it.frames]
    # Most: a busy machine may take the processor away between a picture's being encoded and its being handed over.
    prompt = [later > earlier for later, earlier in zip(taken[2:], emitted, strict=False)]
    assert sum(prompt) > len(prompt) // 2, "they do not wait in a queue"


def test_an_encoder_that_fails_is_a_fault() -> None:
    def broken(**_: Any) -> Any:
        raise DeviceFault("The video encoder does not start.", retry=False)

    fault = record(camera(), broken, lambda it: it.wait_for(1, 20)).error
    assert isinstance(fault, DeviceFault)
    assert not fault.retry


def test_stops_in_any_state_and_leaves_nothing_open() -> None:
    one = camera()
    assert record(one, make_encoder, lambda it: it.stopping.set()).error is None
    before = opened()
    for frames in (0, 0, 1, 2):
        it = record(one, make_encoder, lambda it, frames=frames: it.wait_for(frames, 30) if frames else it.stopping.wait(0.05))  # type: ignore[misc]
        assert it.error is None
        assert not it.hangs
        assert not it.late
    with pytest.raises(DeviceFault):
        _picamera2_board.open_camera(_picamera2_board.load(), Picamera2Camera.Options(), "nothing", print)
    assert opened() <= before
