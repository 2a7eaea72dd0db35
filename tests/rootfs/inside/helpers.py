"""Short words for the checks."""

from __future__ import annotations

__all__ = ["camera", "kbit_s", "layer_rests", "of", "wait_until"]

import threading
import time
from collections.abc import Callable
from typing import Any

from edgeagent.drivers import EncodedFrame
from edgeagent.drivers.conformance import Recording, record
from edgeagent.drivers.runner import EncoderFactory
from edgeagent_devices.picamera2 import Picamera2Camera


def camera(**options: Any) -> Picamera2Camera:
    return Picamera2Camera("porch", Picamera2Camera.Options.model_validate({"camera": "Virtual0", "size": "640x360", **options}))


def of(recording: Recording, layer: str = "main") -> list[EncodedFrame]:
    return [frame for frame in recording.frames if frame.layer == layer]


def kbit_s(frames: list[EncodedFrame], fps: float = 30) -> float:
    """The rate, counted in pictures, so that a busy machine, which leaves some out, is not blamed on the encoder."""
    return sum(len(frame.data) for frame in frames) * 8 * fps / len(frames) / 1000


def layer_rests(make_encoder: EncoderFactory) -> None:
    """Check that a layer gives nothing while nobody wants it, and begins again with a keyframe."""

    def script(it: Recording) -> None:
        it.wait_for(5, 30, "lores")
        it.unwanted.add("lores")
        it.wait_for(len(of(it)) + 8, 30, "main")  # what was on its way
        rested.append(len(of(it, "lores")))
        it.wait_for(len(of(it)) + 15, 30, "main")
        rested.append(len(of(it, "lores")))
        it.unwanted.clear()
        it.wait_for(rested[-1] + 3, 30, "lores")

    rested: list[int] = []
    it = record(camera(), make_encoder, script)
    assert rested[0] == rested[1]
    assert of(it, "lores")[rested[1]].keyframe


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    never = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"waited {deadline_s:g} s for {what}"
        never.wait(0.01)
