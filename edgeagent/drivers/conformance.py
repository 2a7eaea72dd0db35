"""Tests that every driver should pass; for the author of a driver to call from a test of his own.

    from edgeagent.drivers.conformance import assert_conforms, assert_device_conforms
    from edgeagent.media.encoder import make_encoder

    def test_my_camera() -> None:
        assert_conforms(MyCamera("porch", MyCamera.Options()), make_encoder)

    def test_my_sensor() -> None:
        assert_device_conforms(MySensor, {"address": 0x76})

The driver runs for real, on a thread as in the agent.
"""

from __future__ import annotations

__all__ = [
    "Recording",
    "assert_conforms",
    "assert_device_conforms",
    "device_problems",
    "driver_file",
    "problems_of",
    "record",
]

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeagent.core.h264 import ParameterSets, contains_b_slice, is_keyframe, parse_sps, split_nals
from edgeagent.drivers.camera import Camera, VideoEncoder
from edgeagent.drivers.conformance_device import assert_device_conforms, device_problems, driver_file
from edgeagent.drivers.runner import EncoderFactory
from edgeagent.model import EncodedFrame, StreamInfo

_TICKS_PER_S = 90_000
_OTHER_LAYERS = 5  # frames of each further layer to look at
_OTHER_LAYERS_S = 30.0  # that they may take beyond the best one: another connection, on a machine that stalls
_KEYFRAME_WITHIN = 5  # frames from a request to the keyframe
_RATES = (1.0, 1.25, 1.0)  # one after the other, as shares of the first
_RATE_FRAMES = 10  # to look at after each
_CLOCK_SLACK_S = 1.0  # by which media time and capture time may drift apart while recording


@dataclass
class Recording:
    """What a camera did in one run, as its `CameraIO`.

    Attributes:
        frames: In order of arrival.
        infos: The newest description of each layer.
        late: Frames that came after `run` had returned.
        slow: How many pictures of a layer it was too slow for.
        error: What `run` raised.
        hangs: Whether `run` did not return in time after `stopping` was set.
    """

    encoder_factory: EncoderFactory
    stopping: threading.Event = field(default_factory=threading.Event)
    frames: list[EncodedFrame] = field(default_factory=list)
    infos: dict[str, StreamInfo] = field(default_factory=dict)
    late: int = 0
    slow: dict[str, int] = field(default_factory=dict)
    error: BaseException | None = None
    hangs: bool = False
    keyframe_wanted: set[str] = field(default_factory=set)
    opened: dict[str, int] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)
    bitrate: int | None = None
    bitrate_of: str | None = None  # the layer that `bitrate` is for; None: all
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _done: bool = False

    def emit(self, frame: EncodedFrame) -> None:
        with self._changed:
            if self._done:
                self.late += 1
            self.frames.append(frame)
            self._changed.notify_all()

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        self.infos[layer] = info

    def offered(self, camera: Camera) -> list[str]:
        """The camera's layers without those that it has called absent."""
        return [name for name in camera.capabilities.layers if name not in self.infos or not self.infos[name].absent]

    def take_keyframe_request(self, layer: str = "main") -> bool:
        asked = layer in self.keyframe_wanted
        self.keyframe_wanted.discard(layer)
        return asked

    def target_bitrate(self, layer: str = "main") -> int | None:
        return self.bitrate if self.bitrate_of in (None, layer) else None

    def wanted(self, layer: str = "main") -> bool:
        return layer not in self.unwanted

    def alive(self) -> None:
        pass

    def too_slow(self, layer: str = "main", pictures: int = 1) -> None:
        self.slow[layer] = self.slow.get(layer, 0) + pictures

    def encoder(
        self, *, width: int, height: int, fps: float, bitrate: int, layer: str = "main", options: dict[str, str] | None = None
    ) -> VideoEncoder:
        self.opened[layer] = bitrate
        begin = min(bitrate, self.target_bitrate(layer) or bitrate)
        return self.encoder_factory(
            width=width, height=height, fps=fps, bitrate=begin, layer=layer, options=options, max_bitrate=bitrate
        )

    def now(self) -> float:
        return time.monotonic()

    def wait_for(self, count: int, timeout_s: float, layer: str | None = None) -> bool:
        """Wait until `count` frames (of one layer) have come; false where time or the camera ends before."""

        def enough() -> bool:
            return self._done or sum(layer in (None, frame.layer) for frame in self.frames) >= count

        with self._changed:
            return self._changed.wait_for(enough, timeout_s) and not self._done

    def _run(self, camera: Camera) -> None:
        try:
            camera.run(self)
        except BaseException as error:
            self.error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()


def record(
    camera: Camera, encoder_factory: EncoderFactory, script: Callable[[Recording], object], *, stop_s: float = 5.0
) -> Recording:
    """Run a camera while `script` looks at its recording, then stop it.

    Args:
        camera: A camera that does not run.
        encoder_factory: `edgeagent.media.encoder.make_encoder`, as a rule.
        script: Waits (`Recording.wait_for`) and asks (`keyframe_wanted`, `bitrate`).
        stop_s: How long `run` may take to return.
    """
    recording = Recording(encoder_factory)
    thread = threading.Thread(target=recording._run, args=(camera,), name=f"camera-{camera.name}", daemon=True)
    thread.start()
    try:
        script(recording)
    finally:
        recording.stopping.set()
        thread.join(stop_s)
        recording.hangs = thread.is_alive()
    return recording


def assert_conforms(camera: Camera, encoder_factory: EncoderFactory, *, frames: int = 60, timeout_s: float = 30.0) -> None:
    """Fail with every sentence of `problems_of`."""
    problems = problems_of(camera, encoder_factory, frames=frames, timeout_s=timeout_s)
    assert not problems, "\n".join(problems)


def problems_of(camera: Camera, encoder_factory: EncoderFactory, *, frames: int = 60, timeout_s: float = 30.0) -> list[str]:
    """Run a camera twice and list what is wrong with it, each a sentence; empty for a good one.

    Args:
        camera: A camera that does not run and whose device is there.
        encoder_factory: `edgeagent.media.encoder.make_encoder`, as a rule.
        frames: How many of the best layer to look at.
        timeout_s: How long they may take.
    """
    problems: list[str] = []
    layer = camera.capabilities.layers[0]

    def script(recording: Recording) -> None:
        if not recording.wait_for(frames, timeout_s, layer):
            reason = f": {recording.error}" if recording.error else ""
            problems.append(f"It delivered {len(recording.frames)} frames in {timeout_s:g} s, not {frames}{reason}.")
            return
        for name in recording.offered(camera)[1:]:
            recording.wait_for(_OTHER_LAYERS, min(timeout_s, _OTHER_LAYERS_S), name)
        for name in recording.offered(camera):
            if not any(frame.layer == name for frame in recording.frames):
                continue  # which is said at the end
            encoded = name in recording.infos and recording.infos[name].encoded
            if encoded or (camera.capabilities.live_bitrate and name == layer):
                problems.extend(f"Layer {name}: {text}" for text in _check_bitrate(recording, name, timeout_s))
            if encoded or (camera.capabilities.keyframe_on_demand and name == layer):
                problems.extend(f"Layer {name}: {text}" for text in _check_keyframe_request(recording, name, timeout_s))

    for turn in ("first", "second"):
        recording = record(camera, encoder_factory, script)
        problems += _check_end(recording)
        for name in camera.capabilities.layers:
            own = [frame for frame in recording.frames if frame.layer == name]
            if name in recording.offered(camera):
                problems += [f"Layer {name}: {text}" for text in _check_frames(own, recording.infos.get(name))]
            elif own:
                problems.append(f"Layer {name}: It delivers although it is said to be absent.")
        if unknown := {frame.layer for frame in recording.frames} - set(camera.capabilities.layers):
            problems.append(f"It delivers layers that its capabilities do not name: {', '.join(sorted(unknown))}.")
        if problems:
            return [f"In the {turn} run: {text}" for text in dict.fromkeys(problems)]
    return []


def _check_end(recording: Recording) -> list[str]:
    problems = []
    if recording.hangs:
        problems.append("run() does not return in time once io.stopping is set; wait on it instead of sleeping.")
    if recording.late:
        problems.append("It emits frames after run() has returned.")
    if recording.error:
        problems.append(f"run() raised {type(recording.error).__name__}: {recording.error}")
    return problems


def _check_frames(frames: Sequence[EncodedFrame], info: StreamInfo | None) -> list[str]:
    if not frames:
        return ["It delivers nothing."]
    problems = []
    if not frames[0].keyframe:
        problems.append("The first frame is no keyframe.")
    for frame in frames:
        problems += _check_frame(frame)
    pairs = list(itertools.pairwise(frames))
    if any(before.timestamp >= after.timestamp for before, after in pairs):
        problems.append("Time stamps do not increase from frame to frame.")
    if any(before.captured_at > after.captured_at for before, after in pairs):
        problems.append("captured_at goes back.")
    if frames[-1].captured_at > time.monotonic() + 1.0:
        problems.append("captured_at lies in the future: take it from io.now(), or what is recorded at most a second ahead.")
    ahead_s = [frame.captured_at - frame.timestamp / _TICKS_PER_S for frame in frames]
    half = (len(frames) + 1) // 2
    # By the quickest of each half: a machine that stood still for a moment makes frames late, which is not the camera's doing.
    if abs(min(ahead_s[half:], default=ahead_s[0]) - min(ahead_s[:half])) > _CLOCK_SLACK_S / 2:
        problems.append("Time stamps do not run at 90,000 a second of captured_at.")
    if not info or not info.width or not info.height:
        problems.append("It never says its size by io.describe().")
    else:
        newest = next((frame for frame in reversed(frames) if frame.keyframe), None)
        sets = ParameterSets.of(split_nals(newest.data)) if newest else ParameterSets()
        if sets.sps:
            sps = parse_sps(sets.sps[0])
            if (sps.width, sps.height) != (info.width, info.height):
                problems.append(f"It says {info.width}x{info.height} and delivers {sps.width}x{sps.height}.")
            if sps.chroma_format_idc != 1 or sps.bit_depth != 8:
                problems.append("The pictures are not 4:2:0 with 8 bits, which browsers need.")
    return list(dict.fromkeys(problems))


def _check_frame(frame: EncodedFrame) -> list[str]:
    nals = split_nals(frame.data)
    problems = []
    if not nals or not frame.data.startswith((b"\0\0\1", b"\0\0\0\1")):
        return ["A frame is not in Annex B form, with start codes."]
    if frame.keyframe != is_keyframe(nals):
        problems.append("The keyframe flag and the IDR slices do not agree.")
    if is_keyframe(nals) and not ParameterSets.of(nals):
        problems.append("A keyframe comes without its SPS and PPS.")
    if contains_b_slice(nals):
        problems.append("There are B-frames, which browsers do not show over WebRTC.")
    return problems


def _count(recording: Recording, layer: str) -> int:
    return sum(frame.layer == layer for frame in list(recording.frames))


def _check_keyframe_request(recording: Recording, layer: str, timeout_s: float) -> list[str]:
    before = _count(recording, layer)
    recording.keyframe_wanted.add(layer)
    if not recording.wait_for(_count(recording, layer) + _KEYFRAME_WITHIN + 1, timeout_s, layer):
        return ["It stopped delivering when a keyframe was asked for."]
    after = [frame for frame in recording.frames if frame.layer == layer][before:]
    if not any(frame.keyframe for frame in after):
        return [f"No keyframe came in {_KEYFRAME_WITHIN} frames although it was asked for."]
    return []


def _check_bitrate(recording: Recording, layer: str, timeout_s: float) -> list[str]:
    frames = [frame for frame in recording.frames if frame.layer == layer]
    ticks = max(1, frames[-1].timestamp - frames[0].timestamp)
    measured = sum(len(frame.data) for frame in frames) * 8 * _TICKS_PER_S // ticks
    # A picture with little in it stays far below the rate set: a leap to half of that is more than an encoder must bear.
    rate = max(100_000, measured // 2, recording.opened.get(layer, 0) // 4)
    with_keyframe: list[bool] = []
    # A keyframe that was due anyway does not follow each of them. Where one does, rates that stay tell whether it is the change's
    # doing: a slow machine, or a camera with few pictures, has a keyframe in each such stretch of its own accord.
    for again in (*_RATES, *[_RATES[-1]] * len(_RATES)):
        before = _count(recording, layer)
        recording.bitrate, recording.bitrate_of = int(rate * again), layer
        if not recording.wait_for(_count(recording, layer) + _RATE_FRAMES, timeout_s, layer):  # this thread may have stood still
            return ["It stopped delivering when its rate was changed."]
        after = [frame for frame in recording.frames if frame.layer == layer][before:]
        with_keyframe.append(any(frame.keyframe for frame in after))
        if not all(with_keyframe[: len(_RATES)]):
            return []
    if sum(with_keyframe[len(_RATES) :]) > 1:
        return []
    return ["A change of the rate makes a keyframe, which costs more than it saves."]
