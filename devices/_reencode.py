"""Pictures encoded here for one layer or several: size, rate, keyframes and bitrate as the agent wishes."""

from __future__ import annotations

__all__ = ["LARGEST", "Reencoder", "Reencoders", "fitted", "layers_of", "leave_out"]

import dataclasses
import logging
import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from edgeagent.drivers import CameraIO, DeviceFault, Renditions, StreamInfo, VideoEncoder, picture_rate, stream_info

if TYPE_CHECKING:
    from av import VideoFrame

_log = logging.getLogger(__name__)

_TICKS_PER_S = 90_000
_FPS_UNKNOWN = 30.0
_MEASURED = 30  # intervals that a frame rate is measured by
_LONGEST = 2.0  # times the usual interval: a longer one is a machine or a network that stood still, and no rate
_FPS_FIT = 1.25  # by which the rate may leave the one that the encoder was made for
_LASTING = 90  # pictures for which it has to, before that is worth a keyframe
_SAME = 1.1  # bitrates that differ by less, because the frame rate wavers, are one
_ENOUGH = 0.75  # of a token: what comes a little early is on time
_MAX_TOKENS = 4.0  # stamps may come in steps of some pictures
LARGEST = (1920, 1080)
"""Of what is encoded here where nobody says otherwise; larger pictures are scaled down."""
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_COLORSPACES = {1: "bt709", 5: "bt470bg", 6: "smpte170m"}  # AVColorSpace, as libav's option writes it


class Closable(Protocol):
    def close(self) -> None: ...


class Reencoder:
    """Encodes the pictures of one layer.

    An encoder counts pictures, not time. Its rate is therefore set by how many really come, and it is made anew, at the price of a
    keyframe, only where it was made for another number for good, or when a keyframe is due anyway.

    Args:
        io: The camera's.
        bitrate: bit/s while the agent has no wish, and the highest that it can wish.
        fps: Nominal frames a second, 0 where unknown. Measured anyway.
        layer: Name of the layer.
        max_size: Larger pictures are scaled down into this box, upright ones into the turned box.
        max_fps: Most frames a second; others are left out, as they are where the bitrate is too low for all of them.
        colorspace: What pictures are in that do not say it, as libav writes it; "" leaves it to the browser.
    """

    def __init__(
        self,
        io: CameraIO,
        *,
        bitrate: int,
        fps: float = 0.0,
        layer: str = "main",
        max_size: tuple[int, int] = LARGEST,
        max_fps: float = math.inf,
        colorspace: str = "",
    ) -> None:
        self.layer = layer
        self._io, self._bitrate, self._max_size, self._max_fps = io, bitrate, max_size, max_fps
        self._colorspace = colorspace
        self._fps = min(fps or _FPS_UNKNOWN, max_fps)
        self._intervals: deque[int] = deque(maxlen=_MEASURED)
        self._seen: int | None = None
        self._last = -1
        self._captured_at = 0.0
        self._tokens = 1.0
        self._misfits = 0
        self._rate, self._told = 0, 1  # bit/s that are wished, and that the encoder was told
        self._size = (0, 0)
        self._encoder: VideoEncoder | None = None
        self._keyframe = False
        self._info: StreamInfo | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody watches."""
        return self._io.wanted(self.layer)

    def offer(self, size: tuple[int, int] = (0, 0)) -> None:
        """Say that there is this layer and that it is encoded here, before somebody wants it; its size where that is known."""
        self._tell(StreamInfo(*size, round(self._fps, 2), encoded=True, bitrate=self._bitrate))

    def take(self, picture: VideoFrame, timestamp: int, captured_at: float) -> int:
        """Encode and hand over one picture, unless nobody watches or it is left out; returns how many frames were handed over.

        Args:
            picture: Of any size and pixel format.
            timestamp: 90 kHz; lifted where it does not increase.
            captured_at: `CameraIO.now()` of the picture.
        """
        elapsed = max(0, timestamp - self._seen) if self._seen is not None else 0
        if elapsed:
            self._intervals.append(elapsed)
        self._seen = timestamp
        # A picture that others refer to came before those it is shown after.
        self._captured_at = max(self._captured_at, captured_at)
        if not self.wanted:
            self._io.alive()
            self.rest()
            return 0
        self._keyframe |= self._io.take_keyframe_request(self.layer)
        fps = self._incoming_fps()
        size = fitted((picture.width, picture.height), self._max_size)
        rate = min(self._bitrate, self._io.target_bitrate(self.layer) or self._bitrate)
        shown = picture_rate(*size, fps, rate)
        if not self._may_pass(elapsed, shown if shown < fps else self._max_fps):
            return 0
        encoder = self._fitting_encoder(picture, size, fps)
        self._set_rate(encoder, rate, shown)
        keyframe, self._keyframe = self._keyframe, False
        self._last = max(self._last + 1, timestamp)
        frames = encoder.encode(
            _limited(picture, self._size), timestamp=self._last, captured_at=self._captured_at, keyframe=keyframe
        )
        for frame in frames:
            if frame.keyframe:
                self._describe(frame.data)
            self._io.emit(frame)
        return len(frames)

    def rest(self) -> None:
        """Nobody watches; the next picture begins with a keyframe."""
        self._keyframe = True

    def close(self) -> None:
        """End the encoder; `take` makes another."""
        if self._encoder:
            self._encoder.close()
            self._encoder = None

    def _may_pass(self, elapsed: int, most_fps: float) -> bool:
        """Whether this picture is shown where there may be so many a second on average: each takes a token, time brings them."""
        if most_fps == math.inf:
            return True
        self._tokens = min(_MAX_TOKENS, self._tokens + elapsed * most_fps / _TICKS_PER_S)
        if self._tokens < _ENOUGH and not self._keyframe:
            return False
        self._tokens -= 1
        return True

    def _set_rate(self, encoder: VideoEncoder, rate: int, shown: float) -> None:
        """Set the rate by how many pictures really are shown; each change costs the encoder a little, so small ones wait."""
        bps = min(self._bitrate, round(rate * self._fps / shown))
        if rate != self._rate or not 1 / _SAME < bps / self._told < _SAME:
            self._rate, self._told = rate, bps
            encoder.set_bitrate(bps)

    def _fitting_encoder(self, picture: VideoFrame, size: tuple[int, int], fps: float) -> VideoEncoder:
        misfit = not 1 / _FPS_FIT < fps / self._fps < _FPS_FIT
        self._misfits = self._misfits + 1 if misfit else 0
        if self._misfits > _LASTING or (misfit and (self._keyframe or self._encoder is None)):
            self._fps, self._misfits = fps, 0
            self.close()
        if size != self._size:
            self.close()
        if self._encoder is None:
            self._size = size
            colorspace = _COLORSPACES.get(int(picture.colorspace), self._colorspace)
            self._encoder = self._io.encoder(
                width=size[0],
                height=size[1],
                fps=self._fps,
                bitrate=self._bitrate,
                layer=self.layer,
                options={"color_range": "tv"} | ({"colorspace": colorspace} if colorspace else {}),
            )
            self._keyframe, self._rate = True, 0
        return self._encoder

    def _incoming_fps(self) -> float:
        """Pictures a second that come and are not too many; the nominal rate while too few have come to tell."""
        if len(self._intervals) < _MEASURED:
            return self._fps
        longest = _LONGEST * statistics.median(self._intervals)
        mean = statistics.fmean(min(interval, longest) for interval in self._intervals)
        return min(120.0, self._max_fps, max(1.0, _TICKS_PER_S / mean))

    def _describe(self, data: bytes) -> None:
        info = stream_info(data, round(self._fps, 2))
        if info:
            self._tell(dataclasses.replace(info, encoded=True, bitrate=self._bitrate))

    def _tell(self, info: StreamInfo) -> None:
        if info != self._info:
            self._info = info
            self._io.describe(info, self.layer)


class Reencoders:
    """The layers that are made of the same pictures. One beyond the first that fails is left out; the others go on.

    Args:
        io: The camera's.
        layers: Best first.
        name: The camera's, for the log.
    """

    def __init__(self, io: CameraIO, layers: Sequence[Reencoder], *, name: str = "") -> None:
        self._io, self._layers, self._name = io, list(layers), name

    @property
    def wanted(self) -> bool:
        """Whether somebody watches any of them."""
        return any(layer.wanted for layer in self._layers)

    def take(self, picture: VideoFrame, timestamp: int, captured_at: float) -> int:
        """As `Reencoder.take`, for each layer.

        Raises:
            DeviceFault: The encoder of the first one failed.
        """
        first, *others = self._layers
        count = first.take(picture, timestamp, captured_at)
        for other in others:
            try:
                count += other.take(picture, timestamp, captured_at)
            except Exception as error:  # a bug there must not cost the better picture
                self._layers.remove(other)
                leave_out(self._io, other, other.layer, error, name=self._name)
        return count

    def too_slow(self, pictures: int = 1) -> None:
        """Say that so many pictures are left out because this board is too slow."""
        for layer in self._layers:
            if layer.wanted:
                self._io.too_slow(layer.layer, pictures)

    def rest(self) -> None:
        """Nobody watches; each layer goes on with a keyframe."""
        for layer in self._layers:
            layer.rest()

    def close(self) -> None:
        """End the encoders."""
        for layer in self._layers:
            layer.close()


def leave_out(io: CameraIO, maker: Closable, layer: str, error: Exception, *, name: str) -> None:
    """Do without a layer beside the best one: its maker has failed with `error`. The log says why, and the agent that it is gone.

    Args:
        io: The camera's.
        maker: Is closed.
        layer: Name of the layer.
        error: A DeviceFault is a sentence; of anything else, a bug, the traceback is kept.
        name: The camera's, for the log.
    """
    if isinstance(error, DeviceFault):
        _log.warning("camera %s: its small picture is left out. %s", name, error)
    else:
        _log.error("camera %s: its small picture is left out", name, exc_info=error)
    maker.close()
    io.describe(StreamInfo(absent=True), layer)


def layers_of(
    io: CameraIO, size: tuple[int, int], *, fps: float, bitrate: int, name: str, low: bool = True, colorspace: str = ""
) -> Reencoders:
    """The layers `main` and `low` of pictures that all are encoded here; says which there are.

    Args:
        io: The camera's.
        size: Of the pictures, and of `main` up to `LARGEST`.
        fps: Nominal frames a second.
        bitrate: The highest of `main`.
        name: The camera's, for the log.
        low: Whether the camera's capabilities name such a layer; there is none of a picture that is small itself, all the same.
        colorspace: As for `Reencoder`.
    """
    can = Renditions(*fitted(size, LARGEST), fps, bitrate).capabilities
    layers = []
    for layer, box, rate in list(zip(can.layers, can.sizes, can.bitrates, strict=True))[: 2 if low else 1]:
        layers.append(Reencoder(io, bitrate=rate, fps=fps, layer=layer, max_size=box, colorspace=colorspace))
        layers[-1].offer(box)
    if low and len(layers) == 1:
        io.describe(StreamInfo(absent=True), "low")
    return Reencoders(io, layers, name=name)


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """An even size of the same shape within the box, the box turned for an upright picture."""
    (width, height), (long, short) = size, (max(box), min(box))
    scale = min(1.0, long / max(width, height), short / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _limited(picture: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """The picture with the levels that video has, 16 to 235: JPEG has all 256, and browsers would show too much contrast."""
    if picture.color_range != _FULL_RANGE and not picture.format.name.startswith("yuvj"):
        return picture
    return picture.reformat(*size, "yuv420p", src_color_range="JPEG", dst_color_range="MPEG")
