"""What a PC lacks to run picamera2's own code on libcamera's virtual cameras: a few seams, and no fake camera.

Buffers come from memfd instead of /dev/dma_heap; pictures at a sensor's rhythm instead of as fast as they go; modules that only
drawing on a display and writing DNG files need are empty. `install()` comes before anything opens a camera.
"""

from __future__ import annotations

__all__ = ["CAMERAS", "MemfdAllocator", "PacedCamera", "install"]

import mmap
import os
import queue
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

CAMERAS: list[PacedCamera] = []
"""Those opened since the start of the process; the last is the newest."""


def _empty_modules() -> None:
    formats = {name: name for name in ("RGB888", "BGR888", "XRGB8888", "XBGR8888", "YUV420", "YVU420", "NV12")}
    modules: dict[str, dict[str, Any]] = {
        "pykms": {"PixelFormat": type("PixelFormat", (), formats)},
        "pidng": {},
        "pidng.camdefs": {"Picamera2Camera": object},
        "pidng.core": {"PICAM2DNG": object},
    }
    for name, members in modules.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules.setdefault(name, module)


class _Sync:
    """picamera2 wants a context manager around each use of a buffer; memory needs none."""

    def __init__(self, allocator: MemfdAllocator, buffer: Any, write: bool) -> None:
        self._memory = allocator.mapped_buffers[buffer]

    def __enter__(self) -> mmap.mmap:
        return self._memory

    def __exit__(self, *_: object) -> None:
        return None


class MemfdAllocator:
    """Stands in for picamera2's `DmaAllocator`."""

    def __init__(self) -> None:
        self.sync = _Sync
        self.mapped_buffers: dict[Any, mmap.mmap] = {}
        self._buffers: dict[Any, list[Any]] = {}
        self._descriptors: list[int] = []

    def allocate(self, config: Any, _use_case: object) -> None:
        import libcamera

        self.close()
        for stream in config:
            self._buffers[stream.stream] = []
            for _ in range(stream.buffer_count):
                descriptor = os.memfd_create("picture")
                os.ftruncate(descriptor, stream.frame_size)
                self._descriptors.append(descriptor)
                luma = stream.stride * stream.size.height
                planes = []
                for offset, length in ((0, luma), (luma, stream.frame_size - luma)):  # NV12: two planes in one descriptor
                    plane = libcamera.FrameBuffer.Plane()
                    plane.fd, plane.offset, plane.length = descriptor, offset, length
                    planes.append(plane)
                buffer = libcamera.FrameBuffer(planes)
                self._buffers[stream.stream].append(buffer)
                self.mapped_buffers[buffer] = mmap.mmap(descriptor, stream.frame_size)

    def buffers(self, stream: Any) -> list[Any]:
        return self._buffers[stream]

    def acquire(self, buffers: object) -> None:
        return None

    def release(self, buffers: object) -> None:
        return None

    def close(self) -> None:
        self._buffers = {}
        self.mapped_buffers.clear()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __del__(self) -> None:
        self.close()


class PacedCamera:
    """A libcamera `Camera` whose requests are handed over at the rate of a sensor.

    Attributes:
        run: Set to false, no more pictures come, as behind a loose cable.
        stop_hangs: While it is set and not over, `stop` does not return.
    """

    def __init__(self, camera: Any, fps: float) -> None:
        self.run, self.stop_hangs = False, threading.Event()
        self.stop_hangs.set()
        self._camera, self._interval_s = camera, 1 / fps
        self._requests: queue.Queue[Any] = queue.Queue()
        self._pump: threading.Thread | None = None
        CAMERAS.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._camera == getattr(other, "_camera", other))

    __hash__ = None  # type: ignore[assignment]

    def queue_request(self, request: Any) -> None:
        self._requests.put(request)

    def start(self, controls: Any = None) -> None:
        self._camera.start(controls or {})
        self.run = True
        self._pump = threading.Thread(target=self._deliver, daemon=True)
        self._pump.start()

    def stop(self) -> None:
        self.run = False
        if self._pump:
            self._pump.join()
        self.stop_hangs.wait()
        self._requests = queue.Queue()
        self._camera.stop()

    def _deliver(self) -> None:
        due = time.monotonic()
        while self.run:
            due = max(due + self._interval_s, time.monotonic())
            threading.Event().wait(max(0.0, due - time.monotonic()))
            try:
                request = self._requests.get_nowait()
            except queue.Empty:  # no free buffer: the picture is lost, as on a board
                continue
            self._camera.queue_request(request)


def install(fps: float = 30) -> Any:
    """Lay the seams, and return the module picamera2."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:FATAL")
    _empty_modules()
    _noise(Path("/dev/shm/noise"))
    import libcamera
    import picamera2
    import picamera2.picamera2 as inner

    grab = inner.Picamera2._grab_camera

    def raw_modes(self: Any) -> list[dict[str, Any]]:
        """The virtual cameras have no raw pictures."""
        formats = self.camera.generate_configuration([libcamera.StreamRole.VideoRecording]).at(0).formats
        return [
            {"format": str(pixel), "size": (size.width, size.height)}
            for pixel in formats.pixel_formats
            for size in formats.sizes(pixel)
        ]

    inner.DmaAllocator = MemfdAllocator
    inner.Picamera2._grab_camera = lambda self, which: PacedCamera(grab(self, which), fps)
    inner.Picamera2._get_raw_modes = raw_modes
    return picamera2


def _noise(folder: Path) -> None:
    """Pictures for the camera `Noise0`."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(12):
        coarse = rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 360)).save(folder / f"{number:02}.jpg", quality=80)
