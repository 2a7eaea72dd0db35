"""The clip that every sender sends, encoded once and kept in `build/clips` (which git ignores)."""

from __future__ import annotations

__all__ = ["clip", "raw"]

import fcntl
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "clips"


def clip(width: int, height: int, *, fps: int = 30, kbps: int = 4000, seconds: int = 60, gop_s: float = 2.0) -> Path:
    """A clip of motion and grain at a constant rate: H.264 baseline without B-frames, one slice, an IDR every `gop_s` seconds."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f"{width}x{height}-{fps}-{kbps}k-{seconds}s-{gop_s:g}.mp4"
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _encode(
                target, f"testsrc2=size={width}x{height}:rate={fps},noise=alls=12:allf=t", fps, kbps, seconds, round(gop_s * fps)
            )
    return target


def raw(source: Path) -> Path:
    """A clip as `tests.support.rtsp.RtspServer` plays it: H.264 in Annex B with access unit delimiters."""
    target = source.with_suffix(".h264")
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = source.with_suffix(".part.h264")
            command = f"ffmpeg -nostdin -loglevel error -y -i {source} -c copy -bsf:v h264_mp4toannexb,h264_metadata=aud=insert"
            subprocess.run([*command.split(), str(unfinished)], check=True)
            unfinished.rename(target)
    return target


def _encode(target: Path, source: str, fps: int, kbps: int, seconds: int, gop: int) -> None:
    unfinished = target.with_suffix(".part.mp4")
    command = f"ffmpeg -nostdin -loglevel error -y -f lavfi -i {source} -t {seconds} -r {fps} -c:v libx264 -preset veryfast"
    command += f" -profile:v baseline -pix_fmt yuv420p -bf 0 -g {gop} -keyint_min {gop} -sc_threshold 0"
    command += (
        f" -b:v {kbps}k -minrate {kbps}k -maxrate {kbps}k -bufsize {kbps // 2}k -x264-params nal-hrd=cbr:slices=1:sliced-threads=0"
    )
    subprocess.run([*command.split(), "-movflags", "+faststart", str(unfinished)], check=True)
    unfinished.rename(target)
