"""Short clips, made by ffmpeg: what cameras and files deliver, and what they should not."""

from __future__ import annotations

__all__ = ["READY", "make_clip"]

import subprocess
from pathlib import Path

from tests.support.components import require

READY = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-profile:v",
    "baseline",
    "-g",
    "30",
    "-pix_fmt",
    "yuv420p",
]


def make_clip(
    path: Path, *codec: str, size: str = "320x240", fps: int = 30, seconds: float = 2.0, source: str = "testsrc2"
) -> Path:
    """Make a clip of a moving test picture.

    Args:
        path: Where; its suffix is the format.
        codec: ffmpeg's options of the output; `READY` where none are given.
        size: Width x height.
        fps: Frames a second.
        seconds: Length.
    """
    lavfi = f"testsrc2=size={size}:rate={fps}:duration={seconds}"
    command = [require("ffmpeg"), "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", lavfi, *(codec or READY), str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path
