"""A camera driver that fails when it is told to: by files that a test puts into its folder, each named for a fault.

`install` makes it a distribution of its own, found by its entry point as any hobbyist's driver is.
"""

from __future__ import annotations

__all__ = ["FAULTS", "FaultyCamera", "install"]

import asyncio
import threading
from pathlib import Path

from pydantic import BaseModel

from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault

FAULTS = {
    "unplugged": "the device is gone, as when its plug is pulled",
    "encoder-breaks": "libav refuses the pictures in the middle of the stream",
    "encoder-frozen": "the encoder does not give back the picture that it was given, as long as this is there",
    "hangs": "the driver does not return, whatever it is told",
    "loop-blocked": "a callback of the driver's holds the event loop for ever",
    "hub-stuck": "no frame gets through the hub",
    "prepare-hangs": "`prepare` does not return",
}
_FPS, _WIDTH, _HEIGHT = 30, 320, 240
_never = threading.Event()


class FaultyCamera(Camera):
    """Grey pictures, 320x240 at 30 frames a second, until a fault is there."""

    class Options(BaseModel, extra="forbid"):
        folder: Path

    def has(self, fault: str) -> bool:
        assert fault in FAULTS
        return Path(self.options.folder, fault).exists()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(keyframe_on_demand=True)

    def prepare(self) -> None:
        if self.has("prepare-hangs"):
            _never.wait()

    def run(self, io: CameraIO) -> None:
        from av import VideoFrame

        if self.has("unplugged"):
            raise DeviceFault("The camera is not plugged in.")
        encoder = io.encoder(width=_WIDTH, height=_HEIGHT, fps=_FPS, bitrate=200_000)
        try:
            began, number = io.now(), 0
            while not io.stopping.wait(max(0.0, began + number / _FPS - io.now())):
                number += 1
                self._fail(io)
                size = (0, 0) if self.has("encoder-breaks") else (_WIDTH, _HEIGHT)  # a picture without one point
                frame = VideoFrame(*size, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([number * 5 % 256]) * plane.buffer_size)
                for encoded in encoder.encode(
                    frame, timestamp=number * 3000, captured_at=io.now(), keyframe=number == 1 or io.take_keyframe_request()
                ):
                    while self.has("encoder-frozen") and not io.stopping.wait(0.02):
                        pass
                    io.emit(encoded)
        finally:
            encoder.close()

    def _fail(self, io: CameraIO) -> None:
        if self.has("unplugged"):
            raise DeviceFault("The camera was unplugged.")
        if self.has("hangs"):
            _never.wait()
        if self.has("loop-blocked"):
            loop: asyncio.AbstractEventLoop = vars(io)["_loop"]
            loop.call_soon_threadsafe(where_the_loop_hangs)
        if self.has("hub-stuck"):
            vars(vars(io)["_drain"].__self__)["_on_frame"] = lambda frame: None


def where_the_loop_hangs() -> None:
    """Holds whoever calls it for good."""
    _never.wait()


def install(folder: Path) -> dict[str, str]:
    """Put the driver `faulty` into a folder; returns the environment by which an agent finds it."""
    (folder / "faulty.py").write_text(Path(__file__).read_text())
    information = folder / "faulty-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[edgeagent.drivers]\nfaulty = faulty:FaultyCamera\n")
    return {"PYTHONPATH": str(folder)}
