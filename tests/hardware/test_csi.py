"""Every CSI camera of this board, with the board's own encoder where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from edgeagent.drivers import Camera, DeviceFault, registry
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.media.encoder import make_encoder

pytestmark = [pytest.mark.hardware, pytest.mark.timeout(300)]


def cameras(**options: Any) -> list[Camera]:
    """One of each, opened by its Id; none is a reason to skip, said in a sentence."""
    driver = registry.load("picamera2")
    try:
        found: list[Mapping[str, Any]] = [entry.options for entry in driver.discover()]
    except DeviceFault as fault:
        pytest.skip(fault.message)
    if not found:
        pytest.skip("no CSI camera is connected")
    return [driver(f"csi-{i}", driver.Options.model_validate({**own, **options})) for i, own in enumerate(found)]


def run(camera: Camera, script: Any) -> Recording:
    recording = record(camera, make_encoder, script, stop_s=8)
    assert recording.error is None
    assert not recording.hangs
    return recording


@pytest.mark.parametrize("size", ["640x480", "1280x720", "1920x1080"])
def test_conforms(size: str) -> None:
    for camera in cameras(size=size):
        assert_conforms(camera, make_encoder)


def test_both_layers_deliver_and_agree_on_time() -> None:
    for camera in cameras():
        recording = run(camera, lambda it: it.wait_for(60, 30, "main"))
        main, lores = ({f.timestamp: f.captured_at for f in recording.frames if f.layer == layer} for layer in ("main", "lores"))
        assert len(main.keys() & lores.keys()) > 10
        assert all(main[when] == lores[when] for when in main.keys() & lores.keys())


def test_the_rate_follows() -> None:
    def script(it: Recording) -> None:
        it.wait_for(90, 30, "main")
        it.bitrate = 500_000
        it.wait_for(300, 30, "main")

    for camera in cameras(bitrate="4M", lores=False):
        frames = run(camera, script).frames
        before, after = (sum(len(frame.data) for frame in part) / len(part) for part in (frames[30:90], frames[-90:]))
        assert after < before / 2, "point the camera at something that moves"
        assert not any(frame.keyframe for frame in frames[91:-90])


def test_options_that_the_camera_has_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    wanted = {
        "rotation": 180,
        "shutter": "8ms",
        "gain": 2,
        "awbgains": "1.8,1.5",
        "denoise": "cdn_hq",
        "sharpness": 1.5,
        "metering": "spot",
    }
    for camera in cameras(**wanted):
        run(camera, lambda it: it.wait_for(10, 30, "main"))
    assert not [entry.getMessage() for entry in caplog.records if "left out" in entry.getMessage()]


def test_is_opened_and_closed_many_times() -> None:
    """Buffers of the camera come from a small pool: what is not given back is missed after a few times."""
    for camera in cameras(size="1920x1080"):
        for _ in range(15):
            run(camera, lambda it: it.wait_for(2, 30, "main"))


def test_all_at_once() -> None:
    together = cameras(lores=False)
    if len(together) < 2:
        pytest.skip("one CSI camera only")

    def beside(it: Recording) -> None:
        it.wait_for(5, 30)
        run(together[1], lambda it: it.wait_for(60, 30))
        before = len(it.frames)
        it.wait_for(before + 10, 30)

    run(together[0], beside)
