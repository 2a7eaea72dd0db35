"""A QR as a camera sees it: turned, tilted, out of focus, dim and noisy; and a clip of it for a camera to play."""

from __future__ import annotations

__all__ = ["Held", "clip_of", "scene"]

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import segno
from av.video.stream import VideoStream

WIDTH, HEIGHT = 1280, 720


@dataclass(frozen=True, slots=True)
class Held:
    """How a QR is held before the camera.

    Attributes:
        turn: Degrees.
        side: Of its square with the quiet zone, in pixels.
        tilt: How much nearer its left edge is than its right one: 0 none, 0.3 much.
        blur: Width of the blur in pixels, 1 for none.
        noise: Standard deviation of the grain, of 255.
        light: Brightness of white, and of black.
    """

    turn: float = 0.0
    side: int = 480
    tilt: float = 0.0
    blur: int = 1
    noise: float = 0.0
    light: tuple[int, int] = (230, 20)


def scene(text: str, held: Held) -> Any:
    """A grey picture of 1280x720: the QR on a screen in a room."""
    rows = [list(row) for row in segno.make(text, error="m", micro=False).matrix_iter(border=4)]
    code = np.array(rows, dtype=np.float32)
    modules = code.shape[0]
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    angle = np.deg2rad(held.turn)
    u, v = (x - WIDTH / 2) / held.side, (y - HEIGHT / 2) / held.side
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    depth = 1 + held.tilt * u * 2
    u, v = u * depth + 0.5, v * depth + 0.5
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    dark = code[np.clip(v * modules, 0, modules - 1).astype(int), np.clip(u * modules, 0, modules - 1).astype(int)]
    white, black = held.light
    room = 70 + 40 * np.sin(x / 97) * np.cos(y / 61)
    picture = np.where(inside, white - (white - black) * dark, room)
    for axis in (0, 1) if held.blur > 1 else ():
        picture = sum(np.roll(picture, shift, axis) for shift in range(-(held.blur // 2), held.blur // 2 + 1)) / (
            held.blur // 2 * 2 + 1
        )
    grain = np.random.default_rng(7).normal(0, held.noise, picture.shape) if held.noise else 0
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def clip_of(path: Path, picture: Any, *, seconds: float = 1.0, fps: int = 10, bitrate: int = 2_000_000) -> Path:
    """The picture, standing still, as H.264 of a camera's usual rate."""
    height, width = picture.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bitrate
        stream.time_base = Fraction(1, fps)
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
        for number in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
