"""The simulated rover as a driver, what its camera shows, and the simulated sensor."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from edgeagent.core import stamp
from edgeagent.drivers import DeviceFault, commands, registry
from edgeagent.drivers.conformance import assert_conforms, assert_device_conforms, record
from edgeagent.media.encoder import make_encoder
from edgeagent_devices import _sim_link
from edgeagent_devices._sim_link import connect
from edgeagent_devices._sim_map import TARGETS, make_ground
from edgeagent_devices._sim_picture import Picture
from edgeagent_devices.sim_rover import SimRover
from edgeagent_devices.sim_rover_camera import SimRoverCamera
from edgeagent_devices.sim_sensor import SimSensor
from tests.support.procs import wait_until

Luma = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Worlds of this test alone; those that are left at its end are ended."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for patience in ("_ANSWER_S", "_START_S"):  # on a machine that stands still for a while the world does, too
        monkeypatch.setattr(_sim_link, patience, 60.0)
    yield tmp_path
    for path in (tmp_path / "edgeagent-sim").glob("*.sock"):
        with contextlib.suppress(DeviceFault, ProcessLookupError):
            link = connect(path.stem)
            pid = link.ask("state")["pid"]
            link.close()
            os.kill(pid, signal.SIGKILL)


def rover(**options: Any) -> SimRover:
    return SimRover("rover", SimRover.Options(**options))


def state_of(**values: Any) -> dict[str, Any]:
    """What the world tells of a rover on its pad, with other values."""
    x, y = make_ground(1, 8).start
    state: dict[str, Any] = {"x": x, "y": y, "heading": 0.0, "pan": 0.0, "tilt": 0.0, "reached": []}
    return state | {"lights": False, "colour": "white", "horn": False} | values


def luma_of(picture: Picture, state: Mapping[str, Any], bits: bytes = bytes(10)) -> Luma:
    picture.draw(state, 0.0, bits)
    plane = picture.frame.planes[0]
    return np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()


# The rover


def test_rover_conforms() -> None:
    assert registry.load("sim-rover") is SimRover
    assert_device_conforms(SimRover, {"size": 8})


@pytest.mark.parametrize("options", [{"size": 7}, {"size": 33}, {"seed": -1}, {"drain": float("nan")}, {"pin": 3}])
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimRover.Options(**options)


def test_drives_to_the_first_target_and_stops() -> None:
    driver = rover(size=8)
    driver.open()
    try:
        assert driver.read()["targets"] == 0
        assert driver.read()["heading"] == 90, "east"
        driver.apply({"throttle": 1.0, "steer": 0.0})
        wait_until(lambda: driver.read()["targets"] == 1, "it goes on without another word")
        driver.stop()
        wait_until(lambda: driver.read()["speed"] == 0, "it stands")
        commands.call(driver, "reset_world", {})
        assert driver.read()["targets"] == 0
        assert driver.read()["charging"]
    finally:
        driver.close()


def test_stops_when_it_is_opened_or_closed() -> None:
    driver, watcher = rover(), connect("rover")
    try:
        watcher.send("set", throttle=1.0)
        assert watcher.ask("state")["throttle"] == 1
        driver.open()
        assert watcher.ask("state")["throttle"] == 0, "somebody may have left it running"
        driver.apply({"steer": 1.0})
        wait_until(lambda: watcher.ask("state")["steer"] == 1, "it turns")
        driver.close()
        wait_until(lambda: watcher.ask("state")["steer"] == 0, "it was stopped")
        driver.close()
        with pytest.raises(DeviceFault):
            driver.stop()
    finally:
        watcher.close()
        driver.close()


def test_commands_reach_the_world() -> None:
    driver, watcher = rover(size=8, drain=500.0), connect("rover")
    try:
        driver.open()
        commands.call(driver, "lights", {"on": True, "colour": "amber"})
        commands.call(driver, "horn", {"seconds": 3.0})
        state = watcher.ask("state")
        assert (state["lights"], state["colour"], state["horn"], state["drain"]) == (True, "amber", True, 500.0)
        driver.apply({"throttle": 1.0})
        wait_until(lambda: float(driver.read()["battery"]) < 99, "it drains")
        assert (driver.read()["pan"], driver.read()["tilt"]) == (0, 0)
        driver.apply({"pan": 40.0, "tilt": -5.0})
        assert (driver.read()["pan"], driver.read()["tilt"]) == (40, -5), "where it is on its way to"
        commands.call(driver, "charge", {})
        driver.stop()
        assert float(driver.read()["battery"]) > 90
    finally:
        watcher.close()
        driver.close()


# What the camera shows


def test_camera_conforms() -> None:
    assert registry.load("sim-rover-camera") is SimRoverCamera
    assert SimRoverCamera.stamped
    assert_conforms(SimRoverCamera("eye", SimRoverCamera.Options(size="320x180", bitrate="300k")), make_encoder, frames=30)


def test_the_picture_follows_the_rover_and_is_stamped() -> None:
    """As a viewer sees it: pictures differ while the rover moves, and each says when it was taken."""
    camera = SimRoverCamera("eye", SimRoverCamera.Options(size="640x360", fps=15))
    driver = rover(size=8)
    driver.open()
    driver.apply({"throttle": 0.0, "steer": 1.0})
    recording = record(camera, make_encoder, lambda it: it.wait_for(10, 30, "main"))
    driver.close()
    frames = [frame for frame in recording.frames if frame.layer == "main"]
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))] + decoder.decode(None)
    lumas = [picture.to_ndarray()[:360] for picture in pictures]
    stamps = [stamp.read(640, 360, lambda x, y, luma=luma: int(luma[y, x])) for luma in lumas]  # type: ignore[misc]
    assert [found.frame_number for found in stamps if found] == [frame.timestamp // 6000 for frame in frames]
    assert len(stamps) >= 10
    change = np.abs(lumas[-1][:300].astype(int) - lumas[0][:300]).mean()
    assert change > 4, "the world turns"


def test_a_rover_that_is_gone_is_a_fault_that_is_tried_again() -> None:
    camera = SimRoverCamera("eye", SimRoverCamera.Options(size="320x180", fps=10))
    link = connect("rover")
    pid = link.ask("state")["pid"]
    link.close()

    def script(it: Any) -> None:
        it.wait_for(2, 30)
        os.kill(pid, signal.SIGKILL)
        it.wait_for(10_000, 30)

    recording = record(camera, make_encoder, script)
    assert isinstance(recording.error, DeviceFault)
    assert recording.error.retry


@pytest.fixture(scope="module")
def picture() -> Picture:
    return Picture(make_ground(1, 8), 640, 360, show_map=False)


def test_same_place_same_picture(picture: Picture) -> None:
    first = luma_of(picture, state_of(), stamp.pack(7, 7000))
    moved = luma_of(picture, state_of(x=2.5, heading=1.0, pan=40.0, tilt=-20.0, lights=True, horn=True, reached=[1, 2]))
    again = luma_of(picture, state_of(), stamp.pack(7, 7000))
    assert np.array_equal(first, again), "nothing is left of what was drawn before"
    assert (first != moved).mean() > 0.7
    assert stamp.read(640, 360, lambda x, y: int(first[y, x])) == stamp.Stamp(7, 7000)
    for plane in picture.frame.planes[1:]:
        assert np.all(np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[-8:, :160] == 128)


def test_what_is_told_is_seen(picture: Picture) -> None:
    plain = luma_of(picture, state_of())

    def changed(**values: Any) -> NDArray[np.bool_]:
        different: NDArray[np.bool_] = luma_of(picture, state_of(**values)) != plain
        return different

    ahead = changed(reached=[1])[:200, 260:380]
    assert 0.05 < ahead.mean() < 0.9, "the target lights up, straight ahead"
    assert not changed(reached=[1])[:, :150].any()
    assert changed(lights=True)[200:].mean() > 0.1
    assert not changed(lights=True)[:150].any(), "the sky stays as it was"
    assert 0.005 < changed(horn=True).mean() < 0.1
    assert changed(pan=30.0).mean() > 0.5
    assert changed(tilt=20.0).mean() > 0.5


def test_looking_to_the_right_moves_the_picture_to_the_left(picture: Picture) -> None:
    """By the first target's post, the one thing straight ahead."""
    x, y = make_ground(1, 8).start

    def middle(**values: Any) -> float:
        plain, lit = luma_of(picture, state_of(**values)), luma_of(picture, state_of(reached=[1], **values))
        return float(np.flatnonzero((plain != lit)[:200].any(axis=0)).mean())

    assert middle() == pytest.approx(320, abs=6)
    assert middle(pan=10.0) < 270
    assert middle(heading=-0.15) < 280, "and so does turning to the right"
    assert middle(x=x, y=y - 0.4) < 310, "from the right of it, it stands to the left"


@pytest.mark.parametrize("size", [(320, 180), (402, 600)])
def test_any_size_from_any_place(size: tuple[int, int]) -> None:
    ground = make_ground(3, 8)
    picture = Picture(ground, *size)
    box = ground.boxes[0]
    places = [(0.22, 0.22), (ground.width - 0.22, ground.depth - 0.22), (box.left - 0.22, box.bottom), *ground.targets]
    for index, (x, y) in enumerate(places):
        for tilt in (-30.0, 0.0, 30.0):
            state = state_of(x=x, y=y, heading=index * 1.1, pan=(-100.0, 0.0, 63.0)[index % 3], tilt=tilt, lights=True, horn=True)
            seen = luma_of(picture, state | {"reached": list(range(1, TARGETS + 1))[: index % 6]})
            assert seen.shape == (size[1], size[0])
            assert seen.std() > 5


# The sensor


def test_sensor_conforms() -> None:
    assert registry.load("sim-sensor") is SimSensor
    assert_device_conforms(SimSensor)


def sensor(**options: Any) -> tuple[SimSensor, list[float]]:
    """A sensor and its clock."""
    made, clock = SimSensor("weather", SimSensor.Options(**options)), [1000.0]
    made.clock = lambda: clock[0]
    return made, clock


def test_values_are_smooth_plausible_and_always_the_same() -> None:
    (one, clock), (other, other_clock) = sensor(), sensor()
    one.open()
    other.open()
    before: Mapping[str, Any] = {}
    seen = set()
    for _ in range(600):
        values = one.read()
        assert values == other.read()
        for name, reading in one.readings.items():
            if reading.kind == "number":
                assert reading.minimum is not None
                assert reading.maximum is not None
                assert reading.minimum <= float(values[name]) <= reading.maximum
                if before:
                    assert abs(float(values[name]) - before[name]) < (reading.maximum - reading.minimum) / 30
        seen.add(values["motion"])
        before = values
        clock[0] += 0.5
        other_clock[0] += 0.5
    assert seen == {False, True}


def test_tells_what_it_is_asked_for() -> None:
    one, _ = sensor(readings=["light"])
    one.open()
    assert set(one.read()) == set(one.readings) == {"light"}
    with pytest.raises(ValidationError):
        SimSensor.Options.model_validate({"readings": ["gravity"]})
    with pytest.raises(ValidationError):
        SimSensor.Options.model_validate({"readings": []})


def test_fails_when_it_was_told_to() -> None:
    one, clock = sensor(faults={"every_s": 10, "for_s": 2})
    one.open()
    one.read()
    clock[0] += 10.5
    with pytest.raises(DeviceFault):
        one.read()
    one.close()
    with pytest.raises(DeviceFault):
        one.open()
    with pytest.raises(DeviceFault):
        one.read()
    clock[0] += 1.6
    one.open()
    assert one.read()
    clock[0] += 10
    with pytest.raises(DeviceFault):
        one.read()
