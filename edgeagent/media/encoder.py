"""The software encoder behind `CameraIO.encoder`: x264 through PyAV, made for live pictures.

Constrained baseline, one slice, no B-frames, no look-ahead: each picture comes out of the call that brought it. x264
changes its rate live only if it was opened at a constant rate, and never above that one; hence it is opened for a ceiling
and at once told the wanted rate. Its buffer (VBV) bounds the size of an IDR and cannot be changed live: where the rate
has moved away from it, the context is opened anew at the next IDR, which costs little because decoding starts there anyway.
"""

from __future__ import annotations

__all__ = ["X264Encoder", "make_encoder"]

from fractions import Fraction
from typing import Any

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from edgeagent.core.h264 import level_for
from edgeagent.errors import DeviceFault
from edgeagent.media.hardware import M2mEncoder, open_encoder
from edgeagent.model import EncodedFrame

GOP_S = 10.0
"""Seconds between IDRs that nobody asked for."""
VBV_S = 0.3
"""Size of the rate buffer in seconds of the rate, up to twice that where it has room to rise; an IDR takes two thirds at most."""
_VBV_FRAMES = 5  # x264 reserves half of the buffer for the pictures after an IDR only from this size on
_FIT = 1.2  # by how much the rate may leave the one the buffer was made for before the next IDR opens anew
_LIMIT_FIT = 8.0  # from here on the next picture is made an IDR for it
MIN_BITRATE = 30_000
_TIME_BASE = Fraction(1, 90_000)


class X264Encoder:
    """An H.264 encoder of raw pictures; it is what `VideoEncoder` of `edgeagent.drivers` describes.

    Args:
        width: Pixels, even.
        height: Pixels, even.
        fps: Nominal frames a second, above 0; the rate control counts frames, not time.
        bitrate: bit/s to begin with.
        max_bitrate: The highest rate expected; the level in the SPS allows it. At least `bitrate`.
        layer: Goes into the frames.
        options: Further options of libav's encoder (`preset`, `colorspace`, …).

    Raises:
        ValueError: Sizes or rates cannot be.
        DeviceFault: libav refuses the settings.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        max_bitrate: int | None = None,
        layer: str = "main",
        options: dict[str, str] | None = None,
    ) -> None:
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise ValueError(f"{width}x{height}: width and height must be even and above 0")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps {fps:g} must be above 0 and at most 1000")
        self._width, self._height, self._fps, self._layer = width, height, fps, layer
        self._options = options or {}
        self._bitrate = max(MIN_BITRATE, bitrate)
        self._ceiling = max(self._bitrate, max_bitrate or 0)
        self._gop = max(1, round(GOP_S * fps))
        self._since_idr = 0
        self._captured: dict[int, float] = {}
        self._context = self._open()

    def encode(self, frame: av.VideoFrame, *, timestamp: int, captured_at: float, keyframe: bool = False) -> list[EncodedFrame]:
        """Encode one picture of any size and pixel format (scaled and converted where it differs).

        Args:
            frame: The picture; its own time stamp and type are overwritten.
            timestamp: 90 kHz, above that of the picture before.
            captured_at: `time.monotonic()` of the picture.
            keyframe: Make it an IDR.

        Raises:
            DeviceFault: libav refuses the picture.
        """
        keyframe = keyframe or self._since_idr >= self._gop or self._misfit > _LIMIT_FIT
        try:
            if keyframe and self._since_idr and self._misfit > _FIT:
                self._context = self._open()
            if (frame.width, frame.height, frame.format.name) != (self._width, self._height, "yuv420p"):
                frame = frame.reformat(width=self._width, height=self._height, format="yuv420p")
            frame.pts, frame.time_base = timestamp, _TIME_BASE
            # A decoded picture carries the type it had in its file, and x264 would obey.
            frame.pict_type = PictureType.I if keyframe else PictureType.NONE
            self._captured[timestamp] = captured_at
            packets = self._context.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise DeviceFault(f"The video encoder refused a picture ({error}).") from error
        return [self._frame_of(packet) for packet in packets]

    def set_bitrate(self, bps: int) -> None:
        """Change the rate from the next picture on, without an IDR (but for a leap of more than eight times)."""
        self._bitrate = max(MIN_BITRATE, bps)
        if self._bitrate <= self._opened_for[1]:
            self._context.bit_rate = self._bitrate
        else:
            self._context.bit_rate = self._opened_for[1]

    def close(self) -> None:
        """Drop what is in flight; the encoder cannot be used afterwards."""
        self._captured.clear()

    @property
    def _misfit(self) -> float:
        """How far the rate has left the one that the buffer was made for, as a ratio from 1 on."""
        made_for, ceiling = self._opened_for
        return max(made_for / self._bitrate, self._bitrate / made_for, _LIMIT_FIT + 1 if self._bitrate > ceiling else 1)

    def _open(self) -> VideoCodecContext:
        self._ceiling = max(self._ceiling, self._bitrate)
        self._opened_for = (self._bitrate, self._ceiling)
        # Room to rise without a new context: a small buffer keeps x264 below a rate that has risen since. An IDR takes half of it.
        room = min(2 * VBV_S * self._bitrate, 0.2 * self._ceiling)
        buffer = max(VBV_S * self._bitrate, room, _VBV_FRAMES * self._bitrate / self._fps, self._ceiling / self._fps * 1.05)
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = self._width, self._height, "yuv420p"
        context.time_base = _TIME_BASE
        context.framerate = Fraction(self._fps).limit_denominator(1001)
        context.bit_rate = self._ceiling
        context.thread_count = 1
        level = level_for(self._width, self._height, self._fps, self._ceiling)
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "maxrate": str(self._ceiling),
            "bufsize": str(round(buffer)),
            "g": "1000000",  # counted here, so that an IDR of its own can open the context anew
            "bf": "0",
            "forced-idr": "1",
            # Baseline and level in words of x264: the FFmpeg of PyPI's PyAV 14.0 to 14.2 refuses its own `profile` and `level`.
            "x264-params": "sliced-threads=0:threads=1:scenecut=0:log-level=error"
            f":cabac=0:8x8dct=0:weightp=0:bframes=0:level={level}",
            **self._options,
        }
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            why = getattr(error, "strerror", None) or error  # PyAV's own text lists all settings
            # EINVAL: these settings never will do; anything else, as too little memory, may pass.
            raise DeviceFault(f"The video encoder does not start ({why}).", retry=not isinstance(error, ValueError)) from error
        context.bit_rate = self._bitrate
        return context

    def _frame_of(self, packet: av.Packet[Any]) -> EncodedFrame:
        timestamp = packet.pts or 0
        captured_at = self._captured.pop(timestamp, 0.0)
        for stale in [pts for pts in self._captured if pts < timestamp]:  # pictures that the encoder swallowed
            del self._captured[stale]
        self._since_idr = 1 if packet.is_keyframe else self._since_idr + 1
        return EncodedFrame(bytes(packet), packet.is_keyframe, timestamp, captured_at, self._layer)


def make_encoder(
    *,
    width: int,
    height: int,
    fps: float,
    bitrate: int,
    layer: str = "main",
    options: dict[str, str] | None = None,
    max_bitrate: int | None = None,
) -> M2mEncoder | X264Encoder:
    """The best encoder that this board has for raw pictures; arguments and errors as for `X264Encoder`.

    The one place that chooses: the board's own encoder first (`options` are libav's and mean nothing to it), else x264.
    """
    if width % 2 == 0 and height % 2 == 0 and min(width, height) > 0 and 0 < fps <= 1000:
        hardware = open_encoder(width=width, height=height, fps=fps, bitrate=bitrate, max_bitrate=max_bitrate, layer=layer)
        if hardware:
            return hardware
    return X264Encoder(width=width, height=height, fps=fps, bitrate=bitrate, max_bitrate=max_bitrate, layer=layer, options=options)
