"""Driver `file`: a clip, looped in real time.

H.264 that browsers can show goes through untouched; everything else is decoded and encoded, with a small rendition for bad
connections. Time runs on over the loop.
"""

from __future__ import annotations

__all__ = ["FileCamera"]

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from edgeagent.drivers import (
    Bitrate,
    Camera,
    CameraIO,
    Capabilities,
    DeviceFault,
    EncodedFrame,
    ParameterSets,
    StreamInfo,
    h264,
    stream_info,
)
from edgeagent_devices._reencode import LARGEST, Reencoders, fitted, layers_of

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

T = TypeVar("T")

_log = logging.getLogger(__name__)

_SCANNED = 900  # packets looked at before a clip is passed through; a B-frame later on still ends that
_AHEAD, _AHEAD_S = 30, 0.9  # pictures handed over at once
_LATE_S = 0.25  # by which a picture may be late before it is left out
_AT_LEAST_S = 1.0  # between pictures that are shown, however late they are
_STILL_S = 1.5  # a picture that stands longer is sent again, each second: viewers take silence for a fault
_STILL = "its picture stands still for seconds"
_JUMP_S = 600.0
_LOST_S = 1.0  # by which the clip may be late (a suspended machine) before its clock is set anew


class FileCamera(Camera):
    """Plays a clip as if it were live."""

    summary: ClassVar[str] = "A video file, looped in real time"

    class Options(BaseModel, extra="forbid"):
        """The keys of a `file` camera."""

        path: Path = Field(description="The clip: MP4, Matroska, MPEG-TS, … with any codec. Relative to the configuration")
        loop: bool = Field(default=True, description="Begin again at the end")
        bitrate: Bitrate = Field(default=3_000_000, description="bit/s for a clip that has to be encoded, like 3M")

        @field_validator("path")
        @classmethod
        def _beside_the_configuration(cls, path: Path, info: ValidationInfo) -> Path:
            return Path((info.context or {}).get("folder", ".")) / path

    options: Options

    @property
    def capabilities(self) -> Capabilities:
        """Nothing can be asked of a clip that goes through; `StreamInfo` tells of one that is encoded, else takes back `low`."""
        return Capabilities(layers=("main", "low"))

    def run(self, io: CameraIO) -> None:
        """Play until `io.stopping`."""
        import av

        path = self.options.path
        with _open(path) as container:
            plan = _examine(container, path)
        _log.info("camera %s: %s, %s", self.name, path, "encoded: " + plan.reason if plan.reason else "passed through")
        player = _Player(io, plan, self.options.bitrate, self.name)
        container = _open(path)
        try:
            while not io.stopping.is_set():
                player.play(container, path)
                if not self.options.loop and not io.stopping.is_set():
                    raise DeviceFault(f"The clip {path.name} has ended.", retry=False)
                try:
                    container.seek(0)
                except av.FFmpegError:  # a raw stream cannot seek
                    container.close()
                    container = _open(path)
        finally:
            container.close()
            player.close()


@dataclass(slots=True)
class _Plan:
    """How a clip is played.

    Attributes:
        reason: Why it has to be encoded; "" where it is passed through.
        fps: Nominal.
        sets: Parameter sets from outside the stream.
        length_size: Of avcC; 0 for Annex B.
        turn: Degrees by which the pictures must be turned clockwise.
        size: Of the pictures that are encoded.
    """

    reason: str
    fps: float
    sets: ParameterSets
    length_size: int
    turn: int
    size: tuple[int, int]


class _Player:
    """Plays one pass of a clip after the other on a clock that runs on."""

    def __init__(self, io: CameraIO, plan: _Plan, bitrate: int, name: str) -> None:
        self._io, self._plan, self._bitrate, self._name = io, plan, bitrate, name
        self._began = io.now()
        self._offset = 0.0  # media time at which this pass began
        self._last = -1.0 / plan.fps
        self._timestamp = -1
        self._info: StreamInfo | None = None
        self._layers: Reencoders | None = None
        self._turner: _Turner | None = None
        self._shown_at = self._began
        if not plan.reason:
            io.describe(StreamInfo(absent=True), "low")

    def play(self, container: InputContainer, path: Path) -> None:
        """Play one pass."""
        self._offset = self._last + 1 / self._plan.fps
        before, reason = self._timestamp, self._plan.reason
        stream = _video_of(container, path)
        if reason:
            self._encode(container, stream)
        else:
            self._pass_through(container, stream)
        if self._timestamp == before and self._plan.reason == reason and not self._io.stopping.is_set():
            raise DeviceFault(f"The file {path.name} holds no picture that can be shown.")

    def close(self) -> None:
        if self._layers:
            self._layers.close()

    def _pass_through(self, container: InputContainer, stream: VideoStream) -> None:
        units = _timed(_access_units(container, stream, self._plan), self._plan.fps)
        while batch := _some(units):
            times = [self._last - self._offset, *(media_s for media_s, _ in batch)]
            if any(after - before > _STILL_S for before, after in itertools.pairwise(times)):
                self._plan.reason = _STILL
                return
            if not self._wait_for(batch[0][0]):
                return
            for place, (media_s, unit) in enumerate(batch):
                if unit.b_frames:
                    self._plan.reason = "it has B-frames"
                    return
                if place:
                    self._last = max(self._last + 0.001, self._offset + media_s)
                if unit.keyframe:
                    self._describe(stream_info(unit.data, self._plan.fps))
                due = max(self._began + self._last, self._io.now())
                self._io.emit(EncodedFrame(unit.data, unit.keyframe, self._tick(), due))
        self._io.stopping.wait(max(0.0, self._began + self._last - self._io.now()))  # a clip ends with its last picture

    def _encode(self, container: InputContainer, stream: VideoStream) -> None:
        if self._layers is None:
            size, fps = self._plan.size, self._plan.fps
            self._layers = layers_of(self._io, size, fps=fps, bitrate=self._bitrate, name=self._name)
        shown: Any = None
        for media_s, picture in _timed(_pictures(container, stream), self._plan.fps):
            while shown is not None and self._offset + media_s - self._last > _STILL_S:
                if not self._wait_for(self._last + _AT_LEAST_S - self._offset):
                    return
                self._layers.take(shown, self._tick(), self._io.now())
            if not self._wait_for(media_s):
                return
            now = self._io.now()
            if now - self._began - self._last > _LATE_S and now - self._shown_at < _AT_LEAST_S:
                self._layers.too_slow()
                continue
            self._shown_at = now
            shown = self._turn(picture)
            self._layers.take(shown, self._tick(), now)

    def _wait_for(self, media_s: float) -> bool:
        """Wait until a picture of this pass is due; false where the camera is to stop."""
        self._last = max(self._last + 0.001, self._offset + media_s)
        delay = self._began + self._last - self._io.now()
        if delay < -_LOST_S:
            self._began -= delay
        return not self._io.stopping.wait(max(0.0, delay))

    def _tick(self) -> int:
        self._timestamp = max(self._timestamp + 1, round(self._last * 90_000))
        return self._timestamp

    def _describe(self, info: StreamInfo | None) -> None:
        if info and info != self._info:
            self._info = info
            self._io.describe(info)

    def _turn(self, picture: VideoFrame) -> Any:
        if not self._plan.turn:
            return picture
        if self._turner is None:
            self._turner = _Turner(self._plan.turn)
        return self._turner(picture)


class _Turner:
    """Turns pictures that a telephone took upright."""

    def __init__(self, degrees: int) -> None:
        self._filters = {90: ["transpose=clock"], 180: ["hflip", "vflip"], 270: ["transpose=cclock"]}[degrees]
        self._graph: Any = None

    def __call__(self, picture: VideoFrame) -> Any:
        import av.filter

        if self._graph is None:
            self._graph = av.filter.Graph()
            size = {"width": picture.width, "height": picture.height}
            nodes = [self._graph.add_buffer(**size, format=picture.format, time_base=picture.time_base)]
            for text in self._filters:
                name, _, argument = text.partition("=")
                nodes.append(self._graph.add(name, argument or None))
            nodes.append(self._graph.add("buffersink"))
            for node, following in itertools.pairwise(nodes):
                node.link_to(following)
            self._graph.configure()
        self._graph.push(picture)
        return self._graph.pull()


def _open(path: Path) -> InputContainer:
    import av

    try:
        if not path.exists():
            raise DeviceFault(f"There is no file {path.name}; check `path` in the configuration.")
        if path.is_dir():
            raise DeviceFault(f"{path.name} is a folder; `path` must name a video file.")
        if not path.is_file():
            raise DeviceFault(f"{path.name} is not an ordinary file; `path` must name a video file.")
        if not path.stat().st_size:
            raise DeviceFault(f"The file {path.name} is empty.")
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
        for stream in container.streams.video:
            stream.thread_type = "AUTO"
        return container
    except PermissionError:
        raise DeviceFault(f"The agent may not read the file {path.name}; give its user the right to.") from None
    except (av.FFmpegError, ValueError, OSError) as error:
        _log.debug("%s: %s", path, error)
        raise DeviceFault(f"The file {path.name} is not a video that can be read, or it is cut off.") from None


def _video_of(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise DeviceFault(f"The file {path.name} holds no video.")


def _examine(container: InputContainer, path: Path) -> _Plan:
    """Decide how to play a clip; reads its first packets."""
    stream = _video_of(container, path)
    average = stream.average_rate if stream.start_time is not None else None  # made up where there are no time stamps
    fps = float(average or stream.guessed_rate or 25)
    plan = _Plan("", min(max(fps, 1.0), 240.0), ParameterSets(), 0, 0, (0, 0))
    first: VideoFrame | None = None
    sent: list[int] = []
    for count, packet in enumerate(_packets(container, stream)):
        if first is None:
            first = next(_decoded(packet), None)
        if packet.pts is not None:
            sent.append(packet.pts)
        if count >= _SCANNED:
            break
    if first is None:
        first = next(_decoded(None, stream), None)
    if first is None:
        raise DeviceFault(f"The file {path.name} holds no picture that can be decoded.")
    plan.turn = -round(getattr(first, "rotation", 0) / 90) * 90 % 360
    size = (first.height, first.width) if plan.turn in (90, 270) else (first.width, first.height)
    plan.size = fitted(size, LARGEST)
    plan.reason = _reason_to_encode(stream, plan, sent)
    return plan


def _reason_to_encode(stream: VideoStream, plan: _Plan, sent: list[int]) -> str:
    """Why a clip cannot be passed through; takes its parameter sets on the way."""
    context = stream.codec_context
    if context.name != "h264":
        return f"it is {context.name}"
    if plan.turn:
        return "its pictures have to be turned"
    if sent != sorted(sent):
        return "it has B-frames"
    if any(float((after - before) * (stream.time_base or 0)) > _STILL_S for before, after in itertools.pairwise(sent)):
        return _STILL
    extradata = context.extradata or b""
    try:
        if extradata[:1] == b"\x01":
            plan.sets, plan.length_size = h264.parse_avcc(extradata)
        else:
            plan.sets = ParameterSets.of(h264.split_nals(extradata))
        sps = h264.parse_sps(plan.sets.sps[0])
    except (ValueError, IndexError):
        return "it has no parameter sets"
    if sps.chroma_format_idc != 1 or sps.bit_depth != 8 or not sps.frame_mbs_only:
        return "it is not progressive 4:2:0 with 8 bits"
    return ""


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """Packets up to the end or to where the file is damaged."""
    import av

    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        _log.debug("reading ends early: %s", error)


def _decoded(packet: Any, stream: VideoStream | None = None) -> Iterator[VideoFrame]:
    import av

    try:
        yield from packet.decode() if packet is not None else stream.codec_context.decode(None) if stream else ()
    except av.FFmpegError as error:  # damaged pictures are left out
        _log.debug("a picture cannot be decoded: %s", error)


def _pictures(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float | None, VideoFrame]]:
    stream.codec_context.flush_buffers()
    base = stream.time_base
    decoded = (picture for packet in _packets(container, stream) for picture in _decoded(packet))
    for picture in itertools.chain(decoded, _decoded(None, stream)):
        # Those that the decoder gives at the end know no time base.
        yield float(picture.pts * base) if picture.pts is not None and base else None, picture


@dataclass(frozen=True, slots=True)
class _Unit:
    """An access unit in Annex B form."""

    data: bytes
    keyframe: bool
    b_frames: bool


def _some(units: Iterator[tuple[float, _Unit]]) -> list[tuple[float, _Unit]]:
    """The next ones, read and handed over together: one at a time would find every cache cold thirty times a second."""
    batch: list[tuple[float, _Unit]] = []
    for item in units:
        batch.append(item)
        if len(batch) == _AHEAD or item[0] - batch[0][0] >= _AHEAD_S:
            break
    return batch


def _access_units(container: InputContainer, stream: VideoStream, plan: _Plan) -> Iterator[tuple[float | None, _Unit]]:
    """Access units in Annex B form with their time, from the first keyframe on."""
    started = False
    base = float(stream.time_base or 0)
    for packet in _packets(container, stream):
        try:
            data = bytes(packet)
            nals = h264.split_avcc(data, plan.length_size) if plan.length_size else h264.split_nals(data)
        except ValueError:
            continue
        keyframe = h264.is_keyframe(nals)
        started = started or keyframe
        if not started:
            continue
        data = h264.join_nals(nals) if plan.length_size else data
        whole = h264.with_parameter_sets(data, plan.sets) if keyframe else data
        yield packet.pts * base if packet.pts is not None and base else None, _Unit(whole, keyframe, h264.contains_b_slice(nals))


def _timed(items: Iterator[tuple[float | None, T]], fps: float) -> Iterator[tuple[float, T]]:
    """Media time from 0 on; a raw stream has none, there the nominal rate counts."""
    first: float | None = None
    media_s = -1 / fps
    for time, item in items:
        if time is None:
            media_s += 1 / fps
        else:
            first = time if first is None else first
            if not -_JUMP_S < time - first - media_s < _JUMP_S:  # no clip stands still for so long: its stamps are broken
                first = time - media_s - 1 / fps
            media_s = max(0.0, time - first)
        yield media_s, item
