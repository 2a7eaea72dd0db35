"""How fast this board encodes."""

from __future__ import annotations

__all__ = ["frames_per_second"]

import time
from typing import Any, Protocol

import av
import numpy as np

_PICTURES = 8
_FEWEST = 5


class _Encoder(Protocol):
    def encode(self, frame: Any, *, timestamp: int, captured_at: float, keyframe: bool = False) -> object: ...


def frames_per_second(encoder: _Encoder, width: int, height: int, fps: float, *, seconds: float = 0.6) -> float:
    """Encode moving pictures as fast as it goes for about `seconds`, and return how many a second were done.

    Other work of the board at the same time lowers the figure, as it would for a camera.

    Args:
        encoder: A new one, as of `make_encoder`, made for pictures of this size and rate.
        width: Pixels.
        height: Pixels.
        fps: The rate that the encoder was made for.
        seconds: How long to measure.

    Raises:
        DeviceFault: The encoder refuses the pictures.
    """
    pictures = [_picture(width, height, step) for step in range(_PICTURES)]
    # The first picture opens what is opened late, and is an IDR.
    encoder.encode(pictures[0], timestamp=0, captured_at=0.0, keyframe=True)
    began, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds or done < _FEWEST:
        done += 1
        encoder.encode(pictures[done % _PICTURES], timestamp=round(done * 90_000 / fps), captured_at=0.0)
    return done / elapsed


def _picture(width: int, height: int, step: int) -> av.VideoFrame:
    """Slanting bands that move, with grain: about as hard as what a camera sees by day."""
    random = np.random.default_rng(step)
    y, x = np.ogrid[0:height, 0:width]
    luma = 128 + 80 * np.sin((x + y / 3 + 7 * step) / 40) + random.integers(-6, 7, (height, width))
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = luma.clip(16, 235)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")
