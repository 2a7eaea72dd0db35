"""The layers of a camera that is encoded here, with the real encoder."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import av
import numpy as np
import pytest

from edgeagent.core.h264 import ParameterSets, split_nals
from edgeagent.drivers.renditions import Renditions
from edgeagent.media.encoder import X264Encoder
from edgeagent.model import EncodedFrame, StreamInfo

FPS = 30


class IO:
    """A `CameraIO` whose wishes the test sets."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.wishes: set[str] = {"main"}
        self.keyframes: set[str] = set()
        self.rates: dict[str, int] = {}
        self.infos: dict[str, StreamInfo] = {}
        self.beats = 0
        self.slow: list[tuple[str, int]] = []
        self.opened: list[str] = []

    def emit(self, frame: EncodedFrame) -> None:
        raise AssertionError("renditions hand their frames to the driver")

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        self.infos[layer] = info

    def take_keyframe_request(self, layer: str = "main") -> bool:
        asked = layer in self.keyframes
        self.keyframes.discard(layer)
        return asked

    def target_bitrate(self, layer: str = "main") -> int | None:
        return self.rates.get(layer)

    def wanted(self, layer: str = "main") -> bool:
        return layer in self.wishes

    def alive(self) -> None:
        self.beats += 1

    def too_slow(self, layer: str = "main", pictures: int = 1) -> None:
        self.slow.append((layer, pictures))

    def encoder(self, *, layer: str = "main", **settings: Any) -> X264Encoder:
        self.opened.append(layer)
        return X264Encoder(layer=layer, **settings)

    def now(self) -> float:
        return 0.0


PATTERN = np.random.default_rng(1).integers(60, 190, (540, 640), np.uint8)
PATTERN = np.kron(PATTERN[::4, ::4], np.ones((4, 4), np.uint8))  # coarse, or no rate would be enough


class Camera:
    """640x360 at 30 pictures a second, all of which moves a little."""

    def __init__(self, bitrate: int = 1_000_000) -> None:
        self.io, self.number = IO(), 0
        self.renditions = Renditions(640, 360, FPS, bitrate)

    def run(self, seconds: float) -> dict[str, list[EncodedFrame]]:
        frames: dict[str, list[EncodedFrame]] = {"main": [], "low": []}
        for _ in range(round(seconds * FPS)):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(PATTERN, self.number, 1)), "yuv420p")
            at = self.number / FPS
            for frame in self.renditions.encode(self.io, picture, number=self.number, timestamp=self.number * 3000, captured_at=at):
                frames[frame.layer].append(frame)
            self.number += 1
        return frames


def rate(frames: list[EncodedFrame], seconds: float) -> float:
    return sum(len(frame.data) for frame in frames) * 8 / seconds


def test_what_it_can() -> None:
    can = Camera().renditions.capabilities
    assert (can.layers, can.bitrates) == (("main", "low"), (1_000_000, 353_553))
    assert can.sizes == ((640, 360), (320, 180))
    assert can.keyframe_on_demand and can.live_bitrate and not can.always_on
    assert Renditions(320, 240, 30, 400_000).capabilities.layers == ("main",)


def test_the_small_layer_is_encoded_only_while_it_is_wanted_and_begins_with_a_keyframe() -> None:
    camera = Camera()
    frames = camera.run(0.5)
    assert (len(frames["main"]), frames["low"]) == (15, [])
    assert camera.io.infos["main"].width == 640 and "low" not in camera.io.infos
    camera.io.wishes.add("low")
    frames = camera.run(0.5)
    assert len(frames["main"]) == len(frames["low"]) == 15
    assert frames["low"][0].keyframe and ParameterSets.of(split_nals(frames["low"][0].data))
    assert not any(frame.keyframe for frame in [*frames["main"], *frames["low"][1:]])
    assert (camera.io.infos["low"].width, camera.io.infos["low"].height) == (320, 180)
    camera.io.wishes = {"low"}
    assert camera.run(0.2)["main"] == []
    camera.io.wishes = set()
    assert camera.run(0.2) == {"main": [], "low": []}
    assert camera.io.beats == 6
    camera.io.wishes = {"main", "low"}
    frames = camera.run(0.2)
    assert frames["main"][0].keyframe and frames["low"][0].keyframe
    assert camera.io.opened == ["main", "low", "main", "low"]
    camera.renditions.close()


def test_a_keyframe_that_is_asked_for_comes_at_once_and_in_its_layer_only() -> None:
    camera = Camera()
    camera.io.wishes.add("low")
    camera.run(0.3)
    camera.io.keyframes.add("low")
    frames = camera.run(0.3)
    assert [frame.keyframe for frame in frames["low"]] == [True] + [False] * 8
    assert not any(frame.keyframe for frame in frames["main"])


@pytest.mark.parametrize("target", [800_000, 400_000, 200_000])
def test_the_rate_asked_for_is_kept(target: int) -> None:
    camera = Camera()
    camera.run(0.5)
    camera.io.rates["main"] = target
    camera.run(1.5)
    frames = camera.run(3)["main"]
    assert 0.75 < rate(frames, 3) / target < 1.25
    assert not any(frame.keyframe for frame in frames)


def test_numbers_that_are_left_out_are_pictures_that_the_board_was_too_slow_for() -> None:
    camera = Camera()
    camera.number = 7
    camera.run(0.1)
    assert camera.io.slow == [], "none before the first"
    camera.number += 3
    camera.run(0.1)
    assert camera.io.slow == [("main", 3)]
    camera.io.wishes.add("low")
    camera.number += 2
    camera.run(0.1)
    camera.io.wishes.remove("main")
    camera.number += 1
    camera.run(0.1)
    assert camera.io.slow[1:] == [("main", 2), ("low", 1)], "only of layers that are being encoded"


def test_where_bits_are_few_pictures_are_left_out() -> None:
    camera = Camera()
    camera.io.rates["main"] = 69_120  # half of what 30 pictures need
    camera.run(3)
    frames = camera.run(4)["main"]
    assert len(frames) == pytest.approx(60, abs=3)
    assert 0.75 < rate(frames, 4) / 69_120 < 1.25
    gaps = {second.timestamp - first.timestamp for first, second in itertools.pairwise(frames)}
    assert gaps <= {3000, 6000, 9000}
    camera.io.keyframes.add("main")
    assert camera.run(1 / FPS)["main"][0].keyframe  # out of turn
    camera.io.rates["main"] = 1_000_000
    camera.run(0.5)
    assert len(camera.run(1)["main"]) == 30
