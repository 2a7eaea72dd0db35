"""A frame as JPEG."""

from __future__ import annotations

__all__ = ["jpeg_of"]

from fractions import Fraction

from av import CodecContext, VideoFrame


def jpeg_of(frame: VideoFrame) -> bytes:
    """Encode one frame; takes some milliseconds."""
    picture = frame.reformat(format="yuvj420p")
    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, "yuvj420p"
    encoder.time_base = Fraction(1, 30)
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
