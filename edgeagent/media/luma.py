"""The brightness of a picture, for whoever reads what is before the camera."""

from __future__ import annotations

__all__ = ["Luma", "luma"]

from dataclasses import dataclass, field

import av
from av.video.codeccontext import VideoCodecContext

from edgeagent.errors import DeviceFault
from edgeagent.model import EncodedFrame


@dataclass(slots=True, frozen=True)
class Luma:
    """A grey picture: `height` rows of `width` bytes, dark to bright."""

    width: int
    height: int
    data: bytes = field(repr=False)


def luma(keyframe: EncodedFrame) -> Luma:
    """Decode one keyframe. Takes some milliseconds: call it in a thread.

    Raises:
        DeviceFault: It cannot be decoded.
    """
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    for packet in (av.Packet(keyframe.data), None):
        try:
            for picture in decoder.decode(packet):
                grey = picture if picture.format.name in ("yuv420p", "yuvj420p") else picture.reformat(format="gray")
                plane, rows = grey.planes[0], memoryview(grey.planes[0])
                width, step = grey.width, plane.line_size
                lines = (rows[row * step : row * step + width] for row in range(grey.height))
                return Luma(width, grey.height, b"".join(lines))
        except av.FFmpegError:
            break
    raise DeviceFault("The camera's picture cannot be decoded.")
