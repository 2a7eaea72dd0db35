"""What browsers cannot be shown as it comes is decoded once, for all layers: H.265, H.264 with B-frames, MJPEG.

No picture is held back that could be shown: the decoder has one thread and is fed whole access units. A board that is too
slow leaves out pictures: first decoded ones are not encoded, then only keyframes are decoded; the delay stays bounded. While nobody
watches, nothing is decoded: the access units since the last keyframe are kept, and whoever comes sees the newest picture at once.
"""

from __future__ import annotations

__all__ = ["Codec", "Transcoder"]

import logging
from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgeagent.drivers import CameraIO, DeviceFault, h264
from edgeagent_devices._reencode import Reencoders

if TYPE_CHECKING:
    from av import VideoFrame

_log = logging.getLogger(__name__)

Codec: TypeAlias = Literal["h264", "hevc", "mjpeg"]

_TICKS_PER_S = 90_000
_LATE_S = 0.4  # behind by more: pictures are decoded and not encoded
_HOPELESS_S = 1.5  # behind by more: only keyframes are decoded
_CAUGHT_UP_S = 0.15
_JUMP_S = 10.0  # behind by more: the source's clock was set
_CREEP = 0.002  # seconds a second by which the source's clock may go slow
_AT_LEAST_S = 1.0  # between pictures that are shown, however late they are
_SAY_AGAIN_S = 600.0
_BLIND_S = 10.0  # of units without one picture
_MAX_KEPT_BYTES = 8 << 20
_MAX_KEPT = 900
_MAX_REORDERED = 17  # pictures a decoder holds back at most, and one


class Transcoder:
    """Decodes access units and encodes the pictures.

    Args:
        io: The camera's.
        codec: What comes.
        layers: That are made of the pictures.
        extradata: Parameter sets from outside the stream, in Annex B form.
        name: The camera's, for the log.

    Raises:
        DeviceFault: This installation cannot decode it.
    """

    def __init__(self, io: CameraIO, codec: Codec, layers: Reencoders, *, extradata: bytes = b"", name: str = "") -> None:
        self._io, self._codec, self._layers, self._name = io, codec, layers, name
        self._decoder = _open_decoder(codec, extradata)
        self._lag = Lag()
        self._stamps = _Stamps()
        self._kept: list[tuple[bytes, int, float]] = []
        self._kept_bytes = 0
        self._holding = self._keyframes_only = False
        self._emitted_at = self._pictured_at = io.now()
        self._said_at = float("-inf")

    def feed(self, data: bytes, timestamp: int, captured_at: float) -> int:
        """Take one access unit, in decoding order; returns how many frames were handed over.

        Args:
            data: Annex B, or one JPEG.
            timestamp: 90 kHz, of presentation; with B-frames it may go back from unit to unit.
            captured_at: `CameraIO.now()` when it came.

        Raises:
            DeviceFault: Nothing could be decoded for ten seconds, or the encoder failed.
        """
        lag_s = self._lag.of(timestamp, self._io.now())
        keyframe = self._codec == "mjpeg" or starts_here(self._codec, data)
        if not self._layers.wanted:
            self._keep(data, timestamp, captured_at, keyframe)
            return 0
        count = self._catch_up(keyframe)
        self._judge(lag_s, keyframe)
        if self._keyframes_only and not keyframe:
            self._leave_out(captured_at)
            return count
        for picture, at, captured in self._pictures(data, timestamp, captured_at):
            now = self._io.now()
            self._pictured_at = now
            if self._holding and now - self._emitted_at < _AT_LEAST_S:
                self._leave_out(captured_at)
                continue
            self._emitted_at = now
            count += self._layers.take(picture, at, captured)
        if self._io.now() - self._pictured_at > _BLIND_S:
            raise DeviceFault("The camera's video cannot be decoded.")
        return count

    def close(self) -> None:
        """Drop what is in flight."""
        self._kept.clear()
        self._layers.close()

    def _keep(self, data: bytes, timestamp: int, captured_at: float, keyframe: bool) -> None:
        """Nobody watches: keep what the next picture depends on."""
        self._io.alive()
        self._layers.rest()
        self._pictured_at = self._io.now()
        if keyframe:
            self._kept, self._kept_bytes = [], 0
        elif not self._kept:
            return
        self._kept.append((data, timestamp, captured_at))
        self._kept_bytes += len(data)
        if self._kept_bytes > _MAX_KEPT_BYTES or len(self._kept) > _MAX_KEPT:
            self._kept = []

    def _catch_up(self, keyframe: bool) -> int:
        """Somebody watches again: run through what was kept and show its last picture."""
        kept, self._kept = self._kept, []
        if not kept or keyframe:
            return 0
        newest = deque((picture for unit in kept for picture in self._pictures(*unit)), maxlen=1)
        return sum(self._layers.take(*picture) for picture in newest)

    def _judge(self, lag_s: float, keyframe: bool) -> None:
        """Decide what to leave out."""
        if lag_s < _CAUGHT_UP_S:
            self._holding = False
        elif lag_s > _LATE_S:
            self._holding = True
        if lag_s > _HOPELESS_S and not self._keyframes_only:
            self._keyframes_only = True
            now = self._io.now()
            if now - self._said_at > _SAY_AGAIN_S:
                self._said_at = now
                _log.warning(
                    "camera %s: this board is too slow to transcode it; only some of its pictures are shown. "
                    "A smaller size or H.264 without B-frames in the camera's settings mends that",
                    self._name,
                )
        elif keyframe and lag_s < _LATE_S:
            self._keyframes_only = False

    def _leave_out(self, captured_at: float) -> None:
        """Tell of it, unless the picture was late already when it came: then its way here is slow, and not this board."""
        if self._io.now() - captured_at > _CAUGHT_UP_S:
            self._layers.too_slow()

    def _pictures(self, data: bytes, timestamp: int, captured_at: float) -> Iterator[tuple[VideoFrame, int, float]]:
        import av

        packet: Any = av.Packet(data)
        packet.pts = timestamp
        self._stamps.went_in(timestamp, captured_at)
        try:
            pictures = self._decoder.decode(packet)
        except (av.FFmpegError, ValueError) as error:  # damaged; the next one may be whole
            _log.debug("camera %s: a unit cannot be decoded: %s", self._name, error)
            return
        for picture in pictures:
            yield picture, *self._stamps.of(timestamp if picture.pts is None else picture.pts, captured_at)


class _Stamps:
    """Time stamps of pictures that come out, which is in order of presentation, from those of the units that went in.

    A picture has the stamp of its unit. But some cameras with B-frames stamp in order of decoding, and by those time would run
    back: from the first time on that it does, each picture gets the least stamp that is still out.
    """

    def __init__(self) -> None:
        self._out: list[tuple[int, float]] = []
        self._captured: dict[int, float] = {}
        self._fed, self._given = 0, -1
        self._by_decoding = False

    def went_in(self, timestamp: int, captured_at: float) -> None:
        if abs(timestamp - self._fed) > _JUMP_S * _TICKS_PER_S:  # another clock
            self._out, self._given = [], -1
        self._fed = timestamp
        self._captured[timestamp] = captured_at
        insort(self._out, (timestamp, captured_at))
        while len(self._out) > _MAX_REORDERED:  # units that gave no picture
            del self._out[0]
        while len(self._captured) > 64:
            del self._captured[next(iter(self._captured))]

    def of(self, timestamp: int, captured_at: float) -> tuple[int, float]:
        """Stamp and capture time for the picture of the unit that came with `timestamp`; where none is known, these."""
        self._by_decoding |= timestamp < self._given
        least = self._out.pop(0) if self._out else (timestamp, captured_at)
        own = timestamp, self._captured.pop(timestamp, captured_at)
        given = least if self._by_decoding else own
        self._given = given[0]
        return given


class Lag:
    """How far pictures are behind the earliest of them, by their time stamps and the time when they come."""

    def __init__(self) -> None:
        self._best: float | None = None
        self._at = 0.0

    def of(self, timestamp: int, now: float) -> float:
        """Seconds, 0 for the best one; follows a source whose clock goes slow."""
        offset = now - timestamp / _TICKS_PER_S
        best = offset if self._best is None else self._best + _CREEP * (now - self._at)
        if offset < best or offset - best > _JUMP_S:
            best = offset
        self._best, self._at = best, now
        return offset - best


def starts_here(codec: str, data: bytes) -> bool:
    """Whether decoding can start with this access unit: IDR of H.264; IRAP (types 16 to 23) of H.265 (table 7-1 of ITU-T H.265)."""
    nals = h264.split_nals(data)
    if codec == "hevc":
        return any(16 <= (nal[0] >> 1 & 0x3F) <= 23 for nal in nals)
    return h264.is_keyframe(nals)


def _open_decoder(codec: str, extradata: bytes) -> Any:
    import av

    try:
        decoder: Any = av.CodecContext.create(codec, "r")
        # Frame threads would hold back a picture each; slice threads gain nothing for cameras, which send one slice, and with
        # PyAV 14 freeing an H.265 decoder that has them never returns.
        decoder.thread_count = 1
        if extradata:
            decoder.extradata = extradata
        decoder.open()
    except (av.FFmpegError, ValueError) as error:
        raise DeviceFault(f"This installation cannot decode {codec.upper()} ({error}).", retry=False) from error
    return decoder
