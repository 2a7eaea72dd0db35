"""What browsers cannot be shown as it comes is decoded once and encoded once: H.265, H.264 with B-frames, MJPEG, raw pictures.

No picture is held back that could be shown: the decoder has one thread and is fed whole access units. A board that is too
slow leaves out pictures: first decoded ones are not encoded, then only keyframes are decoded; the delay stays bounded. While nobody
watches, nothing is decoded: the access units since the last keyframe are kept, and whoever comes sees the newest picture at once.
"""

from __future__ import annotations

__all__ = ["Reencoder", "Transcoder"]

import dataclasses
import logging
import statistics
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgeagent.drivers import CameraIO, DeviceFault, StreamInfo, VideoEncoder, h264, stream_info

if TYPE_CHECKING:
    from av import VideoFrame

_log = logging.getLogger(__name__)

_TICKS_PER_S = 90_000
_FPS_UNKNOWN = 30.0
_MEASURED = 30  # intervals that a frame rate is measured by
_FPS_FIT = 1.25  # by which the rate may leave the one that the encoder was made for
_LATE_S = 0.4  # behind by more: pictures are decoded and not encoded
_HOPELESS_S = 1.5  # behind by more: only keyframes are decoded
_CAUGHT_UP_S = 0.15
_JUMP_S = 10.0  # behind by more: the source's clock was set
_CREEP = 0.002  # seconds a second by which the source's clock may go slow
_AT_LEAST_S = 1.0  # between pictures that are shown, however late they are
_SAY_AGAIN_S = 600.0
_BLIND_S = 10.0  # of units without one picture
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_COLORSPACES = {1: "bt709", 5: "bt470bg", 6: "smpte170m"}  # AVColorSpace, as libav's option writes it
_MAX_KEPT_BYTES = 8 << 20
_MAX_KEPT = 900
_MAX_REORDERED = 17  # pictures a decoder holds back at most, and one


class Reencoder:
    """Encodes the pictures of one layer: size, rate, keyframes and bitrate as the agent wishes.

    Args:
        io: The camera's.
        bitrate: bit/s while the agent has no wish.
        fps: Nominal frames a second, 0 where unknown. Measured anyway; the encoder is made anew where it was wrong.
        layer: Name of the layer.
        max_size: Larger pictures are scaled down into this box, upright ones into the turned box.
        colorspace: What pictures are in that do not say it, as libav writes it; "" leaves it to the browser.
    """

    def __init__(
        self,
        io: CameraIO,
        *,
        bitrate: int,
        fps: float = 0.0,
        layer: str = "main",
        max_size: tuple[int, int] = (1920, 1080),
        colorspace: str = "",
    ) -> None:
        self._io, self._bitrate, self._layer, self._max_size = io, bitrate, layer, max_size
        self._colorspace = colorspace
        self._fps = fps or _FPS_UNKNOWN
        self._intervals: deque[int] = deque(maxlen=_MEASURED)
        self._seen: int | None = None
        self._last = -1
        self._size = (0, 0)
        self._encoder: VideoEncoder | None = None
        self._rested = False
        self._info: StreamInfo | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody watches."""
        return self._io.wanted(self._layer)

    def take(self, picture: VideoFrame, timestamp: int, captured_at: float) -> int:
        """Encode and hand over one picture, unless nobody watches; returns how many frames were handed over.

        Args:
            picture: Of any size and pixel format.
            timestamp: 90 kHz; lifted where it does not increase.
            captured_at: `CameraIO.now()` of the picture.
        """
        self._measure(timestamp)
        if not self.wanted:
            self._io.alive()
            self.rest()
            return 0
        encoder = self._fitting_encoder(picture)
        encoder.set_bitrate(self._io.target_bitrate(self._layer) or self._bitrate)
        keyframe = self._io.take_keyframe_request(self._layer) or self._rested
        self._rested = False
        self._last = max(self._last + 1, timestamp)
        picture = _limited(picture, self._size)
        frames = encoder.encode(picture, timestamp=self._last, captured_at=captured_at, keyframe=keyframe)
        for frame in frames:
            if frame.keyframe:
                self._describe(frame.data)
            self._io.emit(frame)
        return len(frames)

    def rest(self) -> None:
        """Nobody watches; the next picture begins with a keyframe."""
        self._rested = True

    def close(self) -> None:
        """End the encoder; `take` makes another."""
        if self._encoder:
            self._encoder.close()
            self._encoder = None

    def _fitting_encoder(self, picture: VideoFrame) -> VideoEncoder:
        size = fitted((picture.width, picture.height), self._max_size)
        measured = self._measured_fps()
        misfit = measured and not 1 / _FPS_FIT < measured / self._fps < _FPS_FIT
        if misfit:
            self._fps = measured
        if self._encoder and (misfit or size != self._size):
            self.close()
        if self._encoder is None:
            self._size = size
            bitrate = self._io.target_bitrate(self._layer) or self._bitrate
            colorspace = _COLORSPACES.get(int(picture.colorspace), self._colorspace)
            self._encoder = self._io.encoder(
                width=size[0],
                height=size[1],
                fps=self._fps,
                bitrate=bitrate,
                layer=self._layer,
                options={"color_range": "tv"} | ({"colorspace": colorspace} if colorspace else {}),
            )
        return self._encoder

    def _measure(self, timestamp: int) -> None:
        if self._seen is not None and timestamp > self._seen:
            self._intervals.append(timestamp - self._seen)
        self._seen = timestamp

    def _measured_fps(self) -> float:
        if len(self._intervals) < _MEASURED:
            return 0.0
        return min(120.0, max(1.0, _TICKS_PER_S / statistics.fmean(self._intervals)))

    def _describe(self, data: bytes) -> None:
        info = stream_info(data, round(self._fps, 2))
        info = dataclasses.replace(info, encoded=True) if info else None
        if info and info != self._info:
            self._info = info
            self._io.describe(info, self._layer)


class Transcoder:
    """Decodes access units and encodes the pictures; arguments beyond these as for `Reencoder`.

    Args:
        io: The camera's.
        codec: What comes.
        extradata: Parameter sets from outside the stream, in Annex B form.
        name: The camera's, for the log.
        others: Further layers of the same pictures.

    Raises:
        DeviceFault: This installation cannot decode it.
    """

    def __init__(
        self,
        io: CameraIO,
        codec: Literal["h264", "hevc", "mjpeg"],
        *,
        bitrate: int,
        fps: float = 0.0,
        extradata: bytes = b"",
        layer: str = "main",
        name: str = "",
        max_size: tuple[int, int] = (1920, 1080),
        others: Sequence[Reencoder] = (),
    ) -> None:
        self._io, self._codec, self._name = io, codec, name
        self._decoder = _open_decoder(codec, extradata)
        colorspace = "smpte170m" if codec == "mjpeg" else ""
        main = Reencoder(io, bitrate=bitrate, fps=fps, layer=layer, max_size=max_size, colorspace=colorspace)
        self._encoders = (main, *others)
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
        if not any(encoder.wanted for encoder in self._encoders):
            self._keep(data, timestamp, captured_at, keyframe)
            return 0
        count = self._catch_up(keyframe)
        self._judge(lag_s, keyframe)
        if self._keyframes_only and not keyframe:
            return count
        for picture, at, captured in self._pictures(data, timestamp, captured_at):
            now = self._io.now()
            self._pictured_at = now
            if self._holding and now - self._emitted_at < _AT_LEAST_S:
                continue
            self._emitted_at = now
            count += self._encode(picture, at, captured)
        if self._io.now() - self._pictured_at > _BLIND_S:
            raise DeviceFault("The camera's video cannot be decoded.")
        return count

    def close(self) -> None:
        """Drop what is in flight."""
        self._kept.clear()
        for encoder in self._encoders:
            encoder.close()

    def _encode(self, picture: VideoFrame, timestamp: int, captured_at: float) -> int:
        return sum(encoder.take(picture, timestamp, captured_at) for encoder in self._encoders)

    def _keep(self, data: bytes, timestamp: int, captured_at: float, keyframe: bool) -> None:
        """Nobody watches: keep what the next picture depends on."""
        self._io.alive()
        for encoder in self._encoders:
            encoder.rest()
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
        return sum(self._encode(*picture) for picture in newest)

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


def _limited(picture: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """The picture with the levels that video has, 16 to 235: JPEG has all 256, and browsers would show too much contrast."""
    if picture.color_range != _FULL_RANGE and not picture.format.name.startswith("yuvj"):
        return picture
    return picture.reformat(*size, "yuv420p", src_color_range="JPEG", dst_color_range="MPEG")


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """An even size of the same shape within the box, the box turned for an upright picture."""
    (width, height), (long, short) = size, (max(box), min(box))
    scale = min(1.0, long / max(width, height), short / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
