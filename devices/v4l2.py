"""Driver `v4l2`: USB cameras.

H.264 of the camera goes through untouched; MJPEG and raw pictures are encoded here, with a small rendition for bad connections;
of H.264 there is one where `transcode` allows it. The camera is found by a name that stays when it gets another number; where it
is pulled out, the agent says so and goes on when it is back.

The node is read through the kernel's interface directly, not through libav's demuxer: that probes for seconds, blocks in the
kernel where `stopping` cannot reach it, and hides the time stamps, the lost pictures and the reasons of failures.
"""

from __future__ import annotations

__all__ = ["V4l2Camera"]

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import (
    Bitrate,
    Camera,
    CameraIO,
    Capabilities,
    DeviceFault,
    EncodedFrame,
    Found,
    ParameterSets,
    PictureSize,
    Renditions,
    StreamInfo,
    h264,
    stream_info,
    v4l2,
)
from edgeagent_devices._reencode import LARGEST, Reencoder, Reencoders, fitted, layers_of, leave_out
from edgeagent_devices._v4l2_find import look, resolve
from edgeagent_devices._v4l2_modes import RAW, Mode, Offer, choose, offers, summary
from edgeagent_devices._v4l2_stream import Captured, NoBandwidth, Stream, fault_of, set_controls

if TYPE_CHECKING:
    from av import VideoFrame

_log = logging.getLogger(__name__)

_TICKS_PER_S = 90_000
_USUAL = (1280, 720)  # what is taken where the owner names no size, or a little less
_POLL_S = 0.2  # how soon `stopping` is noticed
_SILENT_S = 4.0
_NO_KEYFRAME_S = 12.0
_FASTER = 1.2  # from here on pictures of a camera that runs faster than wanted are left out


class V4l2Camera(Camera):
    """Plays a USB camera."""

    summary: ClassVar[str] = "A USB camera (H.264 passed through, MJPEG and raw pictures encoded)"

    class Options(BaseModel, extra="forbid"):
        """The keys of a `v4l2` camera."""

        device: str = Field(
            default="",
            max_length=300,
            description="Its link in /dev/v4l/by-id (of like cameras: by-path), or a part of its model; "
            "may be left out where there is one",
        )
        size: PictureSize | None = Field(
            default=None,
            description="Width and height in pixels, one that the camera offers; the best up to 1280x720 where left out",
        )
        fps: float = Field(default=30, ge=1, le=120, description="Pictures a second")
        format: Literal["auto", "h264", "mjpeg", "yuyv"] = Field(default="auto", description="What the camera shall send")
        bitrate: Bitrate = Field(default=3_000_000, description="bit/s of what is encoded here, like 3M")
        transcode: bool = Field(
            default=False,
            description="Of a camera's own H.264, also make a small picture here while somebody with a bad connection watches",
        )
        controls: dict[str, int | str] = Field(
            default_factory=dict,
            max_length=40,
            description="Settings of the camera by the names of `v4l2-ctl --list-ctrls`, set in this order",
        )

    options: Options
    root: ClassVar[Path] = Path("/")
    """Where `dev` lies."""

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._refused: set[tuple[str, str]] = set()  # kinds of nodes that turned out to be unfit

    @property
    def capabilities(self) -> Capabilities:
        """What is certain before the camera was asked; `StreamInfo` says the rest, and takes back `low` where there is none."""
        options = self.options
        if options.format == "h264" and not options.transcode:
            return Capabilities()
        can = Renditions(*fitted(options.size or _USUAL, LARGEST), options.fps, options.bitrate).capabilities
        if options.format not in ("mjpeg", "yuyv"):  # H.264 may come
            return Capabilities(layers=can.layers)
        return can if options.size else dataclasses.replace(can, sizes=())

    def run(self, io: CameraIO) -> None:
        """Deliver the camera's pictures until `io.stopping`."""
        options = self.options
        camera = resolve(options.device, look(self.root), self.root)
        modes = choose(_offers_of(camera.nodes, options.size), options.size, options.fps, options.format)
        reason = ""
        for mode in modes:
            if (mode.offer.node, mode.offer.kind) in self._refused:
                continue
            try:
                with contextlib.closing(self._open(mode)) as stream:
                    _log.info("camera %s: %s (%s), %s", self.name, camera.card, mode.offer.node, mode)
                    if mode.fps < options.fps * 0.8:
                        _log.warning("camera %s: at this size it gives only %g frames a second", self.name, mode.fps)
                    self._play(io, stream, mode)
                return
            except NoBandwidth:
                reason = "The USB bus has not enough bandwidth left; write a smaller size, or plug the camera into another port."
            except _Unfit as unfit:
                self._refused.add((mode.offer.node, mode.offer.kind))
                reason = str(unfit)
                _log.warning("camera %s: %s Another format is taken.", self.name, reason)
        if not reason:
            self._refused.clear()
        raise DeviceFault(reason or "No format of the camera works.")

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        """The USB cameras that are plugged in, with what they offer."""
        found = look(cls.root)
        if not found.cameras and (reasons := [text for text in found.others.values() if "may not open" in text]):
            raise DeviceFault(reasons[0])
        result = []
        for camera in found.cameras:
            remarks = [f"at {camera.bus}"] if camera.bus else []
            options: dict[str, Any] = {"device": camera.stable_name}
            try:
                all_offers = _offers_of(camera.nodes, None)
                best = choose(all_offers, None, 30, "auto")[0]
                options |= {"size": f"{best.offer.width}x{best.offer.height}", "fps": round(best.fps, 2)}
                remarks += summary(all_offers)
            except DeviceFault as fault:
                remarks.append(fault.message)
            result.append(Found(camera.card, options, remarks))
        return result

    def _open(self, mode: Mode) -> Stream:
        node = _open_node(mode.offer.node)
        try:
            set_controls(node, self.options.controls)
        except BaseException:
            node.close()
            raise
        return Stream(node, mode)

    def _play(self, io: CameraIO, stream: Stream, mode: Mode) -> None:
        sink = self._sink(io, stream, mode)
        heard_at = io.now()
        try:
            while not io.stopping.is_set():
                captured = stream.read(_POLL_S, io.now, newest=mode.offer.kind != "h264")
                now = io.now()
                if captured:
                    heard_at = now
                    sink.take(captured)
                elif now - heard_at > _SILENT_S:
                    raise DeviceFault("The USB camera sends no pictures; unplug it and plug it in again.")
        finally:
            sink.close()

    def _sink(self, io: CameraIO, stream: Stream, mode: Mode) -> _PassThrough | _Encoding:
        low = "low" in self.capabilities.layers
        if mode.offer.kind == "h264":
            return _PassThrough(io, mode, small=_Small(io, mode, self.options, self.name) if low else None)
        return _Encoding(io, stream, mode, self.options, self.name, low=low)


class _Unfit(Exception):
    """What a format turned out to be cannot be shown; the text is a sentence."""


class _Clock:
    """Media time by the time of capture, from 0 on."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = -1

    def __call__(self, captured_at: float) -> int:
        if self._first is None:
            self._first = captured_at
        self._last = max(self._last + 1, round((captured_at - self._first) * _TICKS_PER_S))
        return self._last


class _PassThrough:
    """H.264 as the camera encoded it."""

    def __init__(self, io: CameraIO, mode: Mode, *, small: _Small | None) -> None:
        self._io, self._fps, self._small, self._clock = io, mode.fps, small, _Clock()
        self._sets = ParameterSets()
        self._head: list[bytes] = []
        self._info: StreamInfo | None = None
        self._opened_at = io.now()
        self._playing = False

    def take(self, captured: Captured) -> None:
        """Hand over one buffer: an access unit, or what belongs before the next one."""
        nals = self._head + h264.split_nals(captured.data)
        self._sets = self._sets.merged(ParameterSets.of(nals))
        if h264.contains_b_slice(nals):
            raise _Unfit("The camera's H.264 has B-frames, which browsers do not show.")
        if not any(0 < h264.nal_type(nal) <= h264.LAST_VCL for nal in nals):
            self._head = nals[-8:]
            return
        self._head = []
        if captured.lost:
            self._playing = False  # what follows refers to what was lost
        keyframe = h264.is_keyframe(nals)
        if keyframe and self._sets:
            self._playing = True
        if not self._playing:
            if self._io.now() - self._opened_at > _NO_KEYFRAME_S:
                raise _Unfit("The camera's H.264 comes without keyframes.")
            return
        data = h264.with_parameter_sets(h264.join_nals(nals), self._sets)
        if keyframe:
            self._opened_at = self._io.now()
            self._describe(data)
        frame = EncodedFrame(data, keyframe, self._clock(captured.captured_at), captured.captured_at)
        self._io.emit(frame)
        if self._small:
            self._small.take(frame)

    def close(self) -> None:
        if self._small:
            self._small.close()

    def _describe(self, data: bytes) -> None:
        sps = h264.parse_sps(ParameterSets.of(h264.split_nals(data)).sps[-1])
        if sps.chroma_format_idc != 1 or sps.bit_depth != 8:
            raise _Unfit("The camera's H.264 is of a kind that browsers do not show.")
        info = stream_info(data, self._fps)
        if info and info != self._info:
            self._info = info
            self._io.describe(info)


class _Small:
    """The small rendition of H.264 that goes through, decoded on a thread of its own; none where the owner has not allowed it."""

    def __init__(self, io: CameraIO, mode: Mode, options: V4l2Camera.Options, name: str) -> None:
        from edgeagent_devices._transcode import Transcoder
        from edgeagent_devices._transcode_thread import TranscodeThread

        self._io, self._name = io, name
        self._thread: TranscodeThread | None = None
        can = Renditions(mode.offer.width, mode.offer.height, mode.fps, options.bitrate).capabilities
        if not options.transcode or "low" not in can.layers:
            io.describe(StreamInfo(absent=True), "low")
            return
        try:
            low = Reencoder(io, bitrate=can.bitrates[-1], fps=mode.fps, layer="low", max_size=can.sizes[-1])
            low.offer(can.sizes[-1])
            transcoder = Transcoder(io, "h264", Reencoders(io, [low], name=name), name=name)
            self._thread = TranscodeThread(transcoder, name=name, layer="low")
        except DeviceFault as fault:
            leave_out(io, self, "low", fault, name=name)

    def take(self, frame: EncodedFrame) -> None:
        """Take a frame that was passed through; a failure costs no other picture."""
        if not self._thread:
            return
        try:
            self._thread.take(frame.data, frame.timestamp, frame.captured_at, keyframe=frame.keyframe)
        except Exception as error:  # a bug there must not cost the picture that is passed through
            leave_out(self._io, self, "low", error, name=self._name)

    def close(self) -> None:
        if self._thread:
            self._thread.close()
            self._thread = None


class _Encoding:
    """MJPEG or raw pictures, encoded here, and where `low` is true in a small layer, too."""

    def __init__(self, io: CameraIO, stream: Stream, mode: Mode, options: V4l2Camera.Options, name: str, *, low: bool) -> None:
        from edgeagent_devices._transcode import Transcoder

        self._offer, self._stride, self._clock = mode.offer, stream.bytes_per_line, _Clock()
        self._interval_s = 1 / options.fps if mode.fps > options.fps * _FASTER else 0.0
        self._slack_s = 0.5 / mode.fps
        self._due = self._taken_at = float("-inf")
        self._fps = fps = min(mode.fps, options.fps) if self._interval_s else mode.fps
        size = mode.offer.width, mode.offer.height
        self._layers = layers_of(io, size, fps=fps, bitrate=options.bitrate, name=name, low=low, colorspace="smpte170m")
        self._transcoder = Transcoder(io, "mjpeg", self._layers, name=name) if mode.offer.kind == "mjpeg" else None

    def take(self, captured: Captured) -> None:
        """Encode one picture, unless the camera is faster than wanted."""
        at = captured.captured_at
        if at < self._due - self._slack_s:
            return
        self._due = (self._due if at - self._due < self._interval_s else at) + self._interval_s
        if captured.late and self._taken_at > 0:  # of a camera that is faster than wanted not all would have been taken
            self._layers.too_slow(max(0, min(captured.lost, round((at - self._taken_at) * self._fps) - 1)))
        self._taken_at = at
        timestamp = self._clock(at)
        if self._transcoder:
            self._transcoder.feed(captured.data, timestamp, at)
        elif picture := raw_picture(captured.data, self._offer, self._stride):
            self._layers.take(picture, timestamp, at)

    def close(self) -> None:
        if self._transcoder:
            self._transcoder.close()
        self._layers.close()


def raw_picture(data: bytes, offer: Offer, stride: int) -> VideoFrame | None:
    """A picture of libav from the bytes of a raw format; None where they are too few.

    Args:
        data: Planes one after the other.
        offer: Names format and size.
        stride: Bytes from line to line of the first plane; 0 where they lie close together.
    """
    import av
    import numpy as np

    picture = av.VideoFrame(offer.width, offer.height, RAW[offer.fourcc])
    source = np.frombuffer(data, np.uint8)
    position = 0
    for index, plane in enumerate(picture.planes):
        pixel = {"yuyv422": 2, "uyvy422": 2, "yvyu422": 2, "rgb24": 3, "bgr24": 3}.get(picture.format.name, 1)
        width = plane.width * (2 if picture.format.name == "nv12" and index else pixel)
        line = width
        if stride:
            line = stride if not index or picture.format.name == "nv12" else stride // 2
        if line < width or position + line * (plane.height - 1) + width > len(source):
            return None
        lines = np.lib.stride_tricks.as_strided(source[position:], (plane.height, width), (line, 1), writeable=False)
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, :width] = lines  # type: ignore[call-overload]
        position += line * plane.height
    return picture


def _offers_of(nodes: Sequence[str], size: tuple[int, int] | None) -> list[Offer]:
    found: list[Offer] = []
    for path in nodes:
        with contextlib.closing(_open_node(path)) as node:
            try:
                found += offers(node, size)
            except OSError as error:
                raise fault_of(error) from error
    return found


def _open_node(path: str) -> v4l2.Node:
    try:
        return v4l2.Node(path)
    except OSError as error:
        raise fault_of(error) from error
