"""What the driver decides without a camera; with one: tests/rootfs."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

from edgeagent.drivers import DeviceFault, registry
from edgeagent.drivers.conformance import Recording
from edgeagent.media.encoder import make_encoder
from edgeagent_devices import _picamera2_board as board
from edgeagent_devices._picamera2_controls import wishes, within
from edgeagent_devices._picamera2_encoders import CaptureClock, StreamShape, copy_picture
from edgeagent_devices.picamera2 import Picamera2Camera

PI5 = [
    {"Id": "/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a", "Model": "imx708", "Num": 0},
    {"Id": "/base/axi/pcie@120000/rp1/i2c@80000/imx219@10", "Model": "imx219", "Num": 1},
]


def options(**written: Any) -> Picamera2Camera.Options:
    return Picamera2Camera.Options.model_validate(written)


def controls(**written: Any) -> dict[str, Any]:
    return {wish.control: wish.value for wish in wishes(options(**written), {"ScalerCropMaximum": (0, 0, 4000, 2000)})}


def test_is_found_without_picamera2() -> None:
    assert registry.load("picamera2") is Picamera2Camera


def test_layers() -> None:
    def layers(**written: Any) -> tuple[tuple[str, ...], tuple[int, int] | None]:
        camera = Picamera2Camera("porch", options(**written))
        return camera.capabilities.layers, camera.options.lores_size

    assert layers() == (("main", "lores"), (640, 360))
    assert layers(size="1920x1080", lores=True) == (("main", "lores"), (640, 360))
    assert layers(size="640x480") == (("main", "lores"), (320, 240))
    assert layers(size="720x1280") == (("main", "lores"), (360, 640))
    assert layers(size="320x240") == (("main",), None), "too small for half of it"
    assert layers(lores={"size": "800x448", "bitrate": "1M"}) == (("main", "lores"), (800, 448))
    assert layers(lores=False) == layers(lores="off") == (("main",), None)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"camera": -1}, "greater than or equal to 0"),
        ({"camera": ""}, "a part of the camera's Id"),
        ({"rotation": 90}, "0 or 180"),
        ({"size": "1280x720", "lores": {"size": "1920x1080"}}, "may not exceed"),
        ({"fps": 60, "shutter": "20ms"}, "at most 50 pictures"),
        ({"shutter": "quick"}, "a time like 10ms"),
        ({"lens_position": 1, "autofocus_mode": "auto"}, "fixed focus"),
        ({"autofocus_mode": "manual", "autofocus_range": "macro"}, "do nothing"),
        ({"awb": "daylight", "awbgains": "1,1"}, "either"),
        ({"awbgains": "1"}, "awbgains"),
        ({"roi": "0.5,0.5,0.6,0.5"}, "inside the picture"),
        ({"tuning_file": "my.txt"}, "ends in .json"),
        ({"tuning_file": "nowhere/my.json"}, "no such file"),
        ({"hdr": "bright"}, "hdr"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_nonsense_is_refused(written: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        options(**written)


def test_takes_what_rpicam_apps_takes() -> None:
    """Hyphens, times with units, lists with commas, and the words that YAML makes booleans of."""
    made = options(
        **{"autofocus-mode": "continuous", "autofocus-range": "macro", "flicker-period": "10ms"},
        shutter="8.5ms", awbgains="1.8, 1.5", denoise=False, hdr=True, camera="1", ev=0.5,
    )  # fmt: skip
    assert (made.autofocus_mode, made.autofocus_range, made.flicker_period) == ("continuous", "macro", 10_000)
    assert (made.shutter, made.awbgains, made.denoise, made.hdr, made.camera) == (8500, (1.8, 1.5), "off", "auto", 1)
    assert options(lens_position=float("inf")).lens_position == options(lens_position=".inf").lens_position == 0
    assert (options(hdr="on").hdr, options(denoise="off").denoise) == ("auto", "off")
    with pytest.raises(ValidationError):
        options(**{"autofocus-mode": "auto", "autofocus_mode": "auto"})


def test_a_tuning_file_lies_beside_the_configuration_or_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    made = Picamera2Camera.Options.model_validate({"tuning_file": "mine.json"}, context={"folder": str(tmp_path)})
    assert made.tuning_file == str(tmp_path / "mine.json")
    assert options(tuning_file="imx477_noir.json").tuning_file == "imx477_noir.json"


def test_controls() -> None:
    assert controls() == {"NoiseReductionMode": ("draft", "NoiseReductionMode", "Fast"), "AfMode": ("AfMode", "Continuous")}
    assert controls(lens_position=2)["AfMode"] == ("AfMode", "Manual")
    assert controls(lens_position=2)["LensPosition"] == 2
    assert controls(autofocus_mode="auto")["AfTrigger"] == ("AfTrigger", "Start")
    assert controls(exposure="sport")["AeExposureMode"] == ("AeExposureMode", "Short")
    assert controls(metering="average")["AeMeteringMode"] == ("AeMeteringMode", "Matrix")
    assert controls(awb="tungsten")["AwbMode"] == ("AwbMode", "Tungsten")
    assert controls(flicker_period="10ms")["AeFlickerPeriod"] == 10_000
    assert controls(roi="0.25,0.5,0.5,0.25")["ScalerCrop"] == (1000, 1000, 2000, 500)
    assert controls(autofocus_window="0,0,0.5,0.5")["AfWindows"] == [(0, 0, 2000, 1000)]
    assert controls(hdr="single-exp")["HdrMode"] == ("HdrMode", "SingleExposure")


def test_numbers_stay_within_what_the_camera_offers() -> None:
    assert within(5, 0, 4) == 4
    assert within(0.1, 0.5, 4) == 0.5
    assert within(3, 0, 4) == 3
    assert within((1, 2), 0, 1) == (1, 2)
    assert within(3, 4, None) == 3


def test_chooses_by_number_and_by_part_of_the_id() -> None:
    assert board.choose(PI5, 1) == PI5[1]["Id"]
    assert board.choose(PI5, "i2c@88000") == PI5[0]["Id"]
    assert board.choose(PI5, str(PI5[1]["Id"])) == PI5[1]["Id"]
    assert board.choose(PI5, board.short_id(str(PI5[1]["Id"]))) == PI5[1]["Id"]
    with pytest.raises(DeviceFault, match="fits more than one") as fault:
        board.choose(PI5, "rp1")
    assert not fault.value.retry
    with pytest.raises(DeviceFault, match=r"no CSI camera 2; found, from 0 on: i2c@88000/imx708@1a \(imx708\) and") as fault:
        board.choose(PI5, 2)
    assert fault.value.retry
    with pytest.raises(DeviceFault, match="cable"):
        board.choose([], 0)


def test_sentences_for_what_libcamera_says() -> None:
    try:
        try:
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        except RuntimeError as error:
            raise RuntimeError("Camera __init__ sequence did not complete.") from error
    except RuntimeError as error:
        assert "in use by another program" in board.sentence_of(error)
    assert "too little memory" in board.sentence_of(OSError(12, "Cannot allocate memory"))
    assert "group video" in board.sentence_of(PermissionError(13, "Permission denied"))
    assert board.sentence_of(RuntimeError("odd")) == "The camera does not start (odd)."


@pytest.mark.skipif(importlib.util.find_spec("libcamera") is not None, reason="this Python has libcamera")
def test_without_picamera2_it_says_how_to_install_it() -> None:
    camera = Picamera2Camera("porch", options())
    camera.prepare()
    with pytest.raises(DeviceFault, match="apt install python3-picamera2") as fault:
        camera.run(Recording(make_encoder))
    assert not fault.value.retry
    with pytest.raises(DeviceFault, match="system-site-packages"):
        Picamera2Camera.discover()


def test_another_camera_that_hangs_while_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_TURN_S", 0.01)
    turn = threading.Lock()
    monkeypatch.setattr(board, "_turn", turn)
    with turn, pytest.raises(DeviceFault, match="Another camera"), board._our_turn():
        pass


def test_capture_clock() -> None:
    now, boottime_ns = 100.0, 5_000_000_000_000
    clock = CaptureClock(lambda: now, lambda: boottime_ns)
    assert list(clock.stamp(boottime_ns - 40_000_000)) == [0, pytest.approx(99.96)]
    now, boottime_ns = now + 1, boottime_ns + 1_000_000_000
    assert list(clock.stamp(boottime_ns - 40_000_000)) == [90_000, pytest.approx(100.96)]
    boottime_ns += 3600 * 1_000_000_000  # the board slept, which CLOCK_BOOTTIME counts and ours does not
    assert clock.stamp(boottime_ns - 40_000_000)[1] == pytest.approx(100.96)
    for foreign in (None, 17, boottime_ns + 5):
        assert clock.stamp(foreign)[1] == pytest.approx(now)


@pytest.mark.parametrize(("pixels", "format_name"), [("YUV420", "yuv420p"), ("NV12", "nv12")])
def test_copies_pictures_with_padded_lines(pixels: str, format_name: str) -> None:
    width, height, stride = 36, 20, 64
    shape = StreamShape("main", width, height, stride, pixels, 30, {})
    source = np.random.default_rng(1).integers(0, 255, stride * height * 3 // 2 + 100, dtype=np.uint8)
    frame = av.VideoFrame(width, height, format_name)
    copy_picture(source, shape, frame)
    packed = frame.to_ndarray()
    assert np.array_equal(packed[:height], source[: stride * height].reshape(height, stride)[:, :width])
    chroma = source[stride * height : stride * height * 3 // 2]
    if pixels == "NV12":
        assert np.array_equal(packed[height:], chroma.reshape(-1, stride)[:, :width])
    else:
        planes = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
        assert np.array_equal(packed[height:].reshape(2, height // 2, width // 2), planes)


def test_cameras_on_usb_are_left_to_their_own_driver() -> None:
    usb = ["/base/axi/pcie@120000/rp1/usb@200000-1:1.0-046d:0825", r"\_SB_.PC00.XHCI.RHUB.HS05-5.1:1.0-0bda:5634"]

    class Seen:
        class Picamera2:
            @staticmethod
            def global_camera_info() -> list[dict[str, Any]]:
                return [*({"Id": one, "Model": "webcam", "Num": 0} for one in usb), *PI5]

    assert board.find(Seen) == PI5
