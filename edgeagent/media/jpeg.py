"""A JPEG of the newest picture of a camera."""

from __future__ import annotations

__all__ = ["snapshot", "still"]

from collections.abc import Sequence
from fractions import Fraction

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from edgeagent.errors import DeviceFault
from edgeagent.model import EncodedFrame

_QUANTISER = 3  # of 1 (best) to 31
_MANY = 60  # pictures: from a camera with a keyframe each few seconds, and the newest is wanted while it is new
_STILL_WIDTH = 640
_STILL_BYTES = 60_000
_STILL_QUANTISERS = (6, 14, 31)


def snapshot(frames: Sequence[EncodedFrame]) -> bytes:
    """Decode a keyframe and what follows it, and return the last picture as a JPEG (JFIF: BT.601, full range).

    Takes some milliseconds for each frame: call it in a thread.

    Args:
        frames: Of one layer, from a keyframe to the newest frame.

    Raises:
        DeviceFault: No picture can be decoded from them.
    """
    return _made(_last_picture(frames), _QUANTISER)


def still(frames: Sequence[EncodedFrame]) -> bytes:
    """As `snapshot`, at most 640 pixels wide and 60 kB long: coarser where it must be.

    Raises:
        DeviceFault: No picture can be decoded from them, or it cannot be made so small.
    """
    picture = _last_picture(frames)
    for quantiser in _STILL_QUANTISERS:
        if len(made := _made(picture, quantiser, _STILL_WIDTH)) <= _STILL_BYTES:
            return made
    raise DeviceFault("The camera's picture cannot be made small enough.")


def _made(picture: VideoFrame, quantiser: int, width: int | None = None) -> bytes:
    try:
        return _jpeg(picture, quantiser, width)
    except (av.FFmpegError, ValueError) as error:
        raise DeviceFault(f"The camera's picture cannot be made a JPEG ({error}).") from error


def _last_picture(frames: Sequence[EncodedFrame]) -> VideoFrame:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    if len(frames) > _MANY:  # else threads only delay
        decoder.thread_type, decoder.thread_count = "AUTO", 0
    else:
        decoder.thread_count = 1
    last: VideoFrame | None = None
    for packet in [*(av.Packet(frame.data) for frame in frames if frame.data), None]:
        try:
            for picture in decoder.decode(packet):
                if last is None or not picture.is_corrupt:
                    last = picture
        except av.FFmpegError:  # a damaged frame: those before and after may do
            continue
    if last is None:
        raise DeviceFault("The camera's picture cannot be decoded.")
    return last


def _jpeg(picture: VideoFrame, quantiser: int, width: int | None) -> bytes:
    # A stream that names no colours is BT.709 from 720 lines on, BT.601 below, as browsers take it.
    unnamed = Colorspace.ITU709 if picture.height >= 720 else Colorspace.ITU601
    scale = min(1.0, width / picture.width) if width else 1.0
    full = picture.reformat(
        width=round(picture.width * scale),
        height=max(2, round(picture.height * scale / 2) * 2) if scale < 1 else picture.height,
        format="yuvj420p",
        src_colorspace=Colorspace.ITU709 if picture.colorspace == Colorspace.ITU709 else unnamed,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if picture.color_range == ColorRange.JPEG else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = full.width, full.height, "yuvj420p"
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    encoder.time_base = Fraction(1, 25)  # it wants one
    full.pts = None
    return b"".join(bytes(packet) for packet in [*encoder.encode(full), *encoder.encode(None)])
