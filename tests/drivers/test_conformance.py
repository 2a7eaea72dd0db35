"""The conformance kit finds what it is made to find."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable

import av
import numpy as np
import pytest

from edgeagent.core.h264 import IDR, join_nals, nal_type, split_nals
from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, EncodedFrame, StreamInfo, conformance
from edgeagent.drivers.conformance import assert_conforms, problems_of
from edgeagent.media.encoder import make_encoder

Change = Callable[[int, EncodedFrame], Iterable[EncodedFrame]]

FPS = 100


class Rig(Camera):
    """A good camera, spoilt by the test."""

    def __init__(self, change: Change = lambda _, frame: [frame], can: Capabilities | None = None) -> None:
        super().__init__("rig", None)
        self.change, self.can = change, can or Capabilities()
        self.info: StreamInfo | None = StreamInfo(64, 64, FPS)
        self.absent: tuple[str, ...] = ()
        self.obeys = True
        self.due: list[int] = []  # keyframes so many frames after the rate was first changed
        self.returns = True
        self.raises: Exception | None = None
        self.let_go = threading.Event()

    @property
    def capabilities(self) -> Capabilities:
        return self.can

    def run(self, io: CameraIO) -> None:
        if self.info:
            io.describe(self.info)
        for layer in self.absent:
            io.describe(StreamInfo(absent=True), layer)
        encoder = io.encoder(width=64, height=64, fps=FPS, bitrate=200_000)
        picture = av.VideoFrame.from_ndarray(np.full((96, 64), 90, np.uint8), "yuv420p")
        number, changed_for, rate, began = 0, 0, None, io.now()
        while not io.stopping.wait(1 / FPS):
            at = io.now()
            wanted = io.take_keyframe_request() and self.obeys
            if (bps := io.target_bitrate()) is not None:
                encoder.set_bitrate(bps)
                changed_for += 1
                wanted = wanted or (bps != rate and not self.obeys) or changed_for in self.due
                rate = bps
            for frame in encoder.encode(picture, timestamp=round((at - began) * 90_000), captured_at=at, keyframe=wanted):
                for changed in self.change(number, frame):
                    io.emit(changed)
            number += 1
            if self.raises and number > 40:
                raise self.raises
        if not self.returns:
            self.let_go.wait(60)


def problems(camera: Camera) -> str:
    return "\n".join(problems_of(camera, make_encoder, frames=30, timeout_s=60))


def with_nals(frame: EncodedFrame, keep: Callable[[bytes], bool]) -> EncodedFrame:
    return dataclasses.replace(frame, data=join_nals([nal for nal in split_nals(frame.data) if keep(nal)]))


def test_a_good_camera_passes() -> None:
    assert_conforms(Rig(can=Capabilities(keyframe_on_demand=True, live_bitrate=True)), make_encoder, frames=30)


def test_a_keyframe_that_was_due_anyway_is_no_change_of_the_rate_s_fault() -> None:
    rig = Rig(can=Capabilities(live_bitrate=True))
    rig.due = [5]
    assert_conforms(rig, make_encoder, frames=30)
    rig.due = list(range(0, 10_000, 5))  # one in every stretch of its own accord
    assert_conforms(rig, make_encoder, frames=30)


def test_a_layer_may_turn_out_not_to_be_there() -> None:
    rig = Rig(can=Capabilities(layers=("main", "low")))
    rig.absent = ("low",)
    assert_conforms(rig, make_encoder, frames=30)
    rig.absent = ("main",)
    assert "Layer main: It delivers although it is said to be absent." in problems(rig)


SPOILT: dict[str, tuple[Change, str]] = {
    "late start": (lambda n, f: [f] if n else [], "first frame is no keyframe"),
    "no sets": (lambda n, f: [with_nals(f, lambda nal: nal_type(nal) in (1, IDR))], "without its SPS and PPS"),
    "flag": (lambda n, f: [dataclasses.replace(f, keyframe=True)], "flag and the IDR slices do not agree"),
    "b-frames": (lambda n, f: [f if f.keyframe else dataclasses.replace(f, data=b"\0\0\0\1\x41\x9c\x80")], "There are B-frames"),
    "avcc": (lambda n, f: [dataclasses.replace(f, data=b"\0\0\0\x09\x65" + f.data)], "not in Annex B form"),
    "time back": (lambda n, f: [dataclasses.replace(f, timestamp=max(0, 5 - n))], "stamps do not increase"),
    "milliseconds": (lambda n, f: [dataclasses.replace(f, timestamp=n * 10 * 90_000)], "do not run at 90,000 a second"),
    "captured back": (lambda n, f: [dataclasses.replace(f, captured_at=f.captured_at - n / 10)], "captured_at goes back"),
    "future": (lambda n, f: [dataclasses.replace(f, captured_at=f.captured_at + 1e6)], "lies in the future"),
    "layer": (lambda n, f: [f, dataclasses.replace(f, layer="tiny")], "capabilities do not name: tiny"),
    "nothing": (lambda n, f: [], "delivered 0 frames"),
}


@pytest.mark.parametrize("kind", list(SPOILT))
def test_a_spoilt_camera_is_told_what_is_wrong(kind: str) -> None:
    change, sentence = SPOILT[kind]
    found = "\n".join(problems_of(Rig(change), make_encoder, frames=30, timeout_s=60 if kind != "nothing" else 0.5))
    assert sentence in found
    assert found.startswith("In the first run: ")


@pytest.mark.parametrize(
    ("info", "sentence"), [(None, "never says its size"), (StreamInfo(32, 32), "says 32x32 and delivers 64x64")]
)
def test_descriptions(info: StreamInfo | None, sentence: str) -> None:
    rig = Rig()
    rig.info = info
    assert sentence in problems(rig)


@pytest.mark.parametrize(
    ("can", "sentence"),
    [
        (Capabilities(keyframe_on_demand=True), "No keyframe came"),
        (Capabilities(live_bitrate=True), "A change of the rate makes a keyframe"),
        (Capabilities(layers=("main", "small")), "Layer small: It delivers nothing"),
    ],
)
def test_promises_not_kept(can: Capabilities, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_OTHER_LAYERS_S", 0.5)
    rig = Rig(can=can)
    rig.obeys = False
    assert sentence in problems(rig)


def test_errors_and_hanging() -> None:
    failing = Rig()
    failing.raises = DeviceFault("The lens fell off.")
    assert "run() raised DeviceFault: The lens fell off." in "\n".join(
        problems_of(failing, make_encoder, frames=10_000, timeout_s=60)
    )
    hanging = Rig()
    hanging.returns = False
    assert "does not return in time" in problems(hanging)
    hanging.let_go.set()
