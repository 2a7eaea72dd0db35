"""The board's own H.264 encoder: a memory-to-memory device of the kernel (Pi 4, 3 and Zero 2 W; not the Pi 5, which has none).

libav's `h264_v4l2m2m` sets the bitrate only when it opens the device and shows its descriptor to nobody; a live picture needs
new rates and keyframes at any time. Hence our own small class on the kernel's stateful encoder interface: raw pictures into one
queue, access units out of the other, settings by controls while it runs.
"""

from __future__ import annotations

__all__ = ["M2mEncoder", "Refused", "find_encoder", "open_encoder"]

import contextlib
import errno
import logging
import mmap
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from edgeagent import v4l2
from edgeagent.core import h264
from edgeagent.errors import DeviceFault
from edgeagent.model import EncodedFrame

_log = logging.getLogger(__name__)

IN, OUT = v4l2.BufferType.OUTPUT_MPLANE, v4l2.BufferType.CAPTURE_MPLANE  # named by the kernel from the program's point of view
H264 = v4l2.fourcc("H264")
RAW = {v4l2.fourcc("YU12"): "yuv420p", v4l2.fourcc("NV12"): "nv12"}

GOP_S = 10.0
"""Seconds between IDRs that nobody asked for."""
MIN_BITRATE = 150_000
"""Below it the firmware of a Raspberry Pi leaves out pictures or stalls."""
STUCK_S = 2.0
"""Without an answer of the device."""
SHUNNED_S = 60.0
"""How long a device that failed while running is left alone: the camera is opened again with x264 meanwhile."""
_BUFFERS = 4

# linux/v4l2-controls.h
_CODEC = 0x990900
_B_FRAMES, _GOP_SIZE, _BITRATE_MODE, _BITRATE = _CODEC + 202, _CODEC + 203, _CODEC + 206, _CODEC + 207
_HEADER_MODE, _REPEAT_SEQ_HEADER, _FORCE_KEY_FRAME = _CODEC + 216, _CODEC + 226, _CODEC + 229
_I_PERIOD, _LEVEL, _PROFILE = _CODEC + 358, _CODEC + 359, _CODEC + 363
_CBR, _JOINED_WITH_FRAME = 1, 1
_CONSTRAINED_BASELINE, _BASELINE = 1, 0
_LEVELS = (10, 9, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51)  # 9: level 1b


class Refused(Exception):
    """The device cannot encode this; the text says why."""


class M2mEncoder:
    """An H.264 encoder of raw pictures on a V4L2 device; it is what `VideoEncoder` of `edgeagent.drivers` describes.

    Args:
        node: The device, open; `close` closes it, and so does a failure here.
        width: Pixels, even.
        height: Pixels, even.
        fps: Nominal frames a second.
        bitrate: bit/s to begin with.
        max_bitrate: The highest rate expected; the level allows it.
        layer: Goes into the frames.
        on_fault: Called when the device fails while running.
        clock: Seconds, monotonic.

    Raises:
        Refused: The device cannot do it now.
    """

    def __init__(
        self,
        node: v4l2.Node,
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        max_bitrate: int | None = None,
        layer: str = "main",
        on_fault: Callable[[str], None] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._width, self._height, self._fps, self._layer = node, width, height, fps, layer
        self._on_fault, self._clock = on_fault, clock
        self._bitrate = 0
        self._gop = max(1, round(GOP_S * fps))
        self._since_idr = 0
        self._memory: dict[tuple[v4l2.BufferType, int], mmap.mmap] = {}
        self._free: list[int] = []
        self._pending: dict[int, tuple[int, float]] = {}
        self._since = 0.0  # the device has owed a picture since then
        self._head: list[bytes] = []
        self._sets = h264.ParameterSets()
        self._checked = False
        try:
            self._open(bitrate, max(bitrate, max_bitrate or 0))
        except OSError as error:
            self.close()
            raise Refused(f"{error.strerror or error}") from error
        except ValueError as error:
            self.close()
            raise Refused(str(error)) from error
        except BaseException:
            self.close()
            raise

    def encode(self, frame: av.VideoFrame, *, timestamp: int, captured_at: float, keyframe: bool = False) -> list[EncodedFrame]:
        """Encode one picture of any size and pixel format (scaled and converted where it differs).

        Waits up to two frame times for what the device makes of it; what takes longer comes from a later call.

        Args:
            frame: The picture.
            timestamp: 90 kHz, above that of the picture before.
            captured_at: `time.monotonic()` of the picture.
            keyframe: Make it an IDR.

        Raises:
            DeviceFault: The device failed, or libav refuses the picture.
        """
        try:
            done = self._drain()
            until = self._clock() + STUCK_S
            while not self._free:
                if self._clock() >= until:
                    raise OSError(errno.EIO, "it keeps its buffers")
                done += self._wait(until - self._clock())
            index = self._free.pop()
            self._fill(self._memory[IN, index], frame)
            if keyframe or self._since_idr >= self._gop:
                self._node.set_control(_FORCE_KEY_FRAME, 1)
                self._since_idr = 0
            time_us = timestamp * 100 // 9
            self._node.queue(IN, v4l2.Buffer(index, used=self._image_size, length=self._in_length, time_us=time_us))
            if not self._pending:
                self._since = self._clock()
            self._pending[time_us] = (timestamp, captured_at)
            self._since_idr += 1
            deadline = self._clock() + 2 / self._fps
            while time_us in self._pending and self._clock() < deadline:
                done += self._wait(deadline - self._clock())
            return done
        except OSError as error:
            raise self._fault(error.strerror or str(error)) from error
        except (av.FFmpegError, ValueError) as error:
            raise DeviceFault(f"The video encoder refused a picture ({error}).") from error

    def set_bitrate(self, bps: int) -> None:
        """Change the rate from the next picture on, without an IDR."""
        bps = min(max(bps, self._rates[0]), self._rates[1])
        if bps == self._bitrate:
            return
        try:
            self._node.set_control(_BITRATE, bps)
        except OSError as error:
            raise self._fault(error.strerror or str(error)) from error
        self._bitrate = bps

    def close(self) -> None:
        """Drop what is in flight and free the device; the encoder cannot be used afterwards."""
        for queue in (IN, OUT):
            with contextlib.suppress(OSError):
                self._node.stream(queue, False)
        while self._memory:
            with contextlib.suppress(BufferError):  # a picture that failed to be copied; freed with it
                self._memory.popitem()[1].close()
        self._pending.clear()
        self._node.close()

    def _open(self, bitrate: int, ceiling: int) -> None:
        node, size = self._node, (self._width, self._height)
        code = next((known for known in RAW if known in _codes(node, IN)), None)
        if code is None:
            raise Refused("it takes no raw pictures in planes")
        self._pixels = RAW[code]
        # A picture never needs more than its raw size; a device that finds that too little says how much it wants.
        out = node.set_format(OUT, v4l2.PixelFormat(H264, *size, size=max(512 << 10, size[0] * size[1] * 3 // 2)))
        made = node.set_format(IN, v4l2.PixelFormat(code, *size))
        if (made.code, made.width) != (code, self._width) or made.height != self._height or out.code != H264:
            raise Refused(f"it cannot encode {self._width}x{self._height}")
        self._line, self._image_size = made.bytes_per_line, made.size
        if self._line < self._width or self._image_size < self._line * self._height * 3 // 2:
            raise Refused("its picture buffers are too small")
        self._configure(bitrate, ceiling)
        with contextlib.suppress(OSError):  # a device that does not ask for the rate reads the time stamps
            node.set_rate(IN, self._fps)
        for queue in (IN, OUT):
            for index in range(node.request_buffers(queue, _BUFFERS)):
                buffer = node.buffer(queue, index)
                self._memory[queue, index] = node.map(buffer.length, buffer.offset)
                if queue is IN:
                    self._in_length = buffer.length
                    self._free.append(index)
                else:
                    node.queue(OUT, buffer)
        if not self._free or (OUT, 0) not in self._memory:
            raise Refused("it has no memory left")
        if self._in_length < self._image_size:
            raise Refused("its picture buffers are too small")
        for queue in (IN, OUT):
            node.stream(queue, True)

    def _configure(self, bitrate: int, ceiling: int) -> None:
        controls = {control.key: control for control in self._node.controls()}
        if _BITRATE not in controls or _FORCE_KEY_FRAME not in controls:
            raise Refused("its rate or its keyframes cannot be controlled")
        self._rates = (max(MIN_BITRATE, controls[_BITRATE].minimum), controls[_BITRATE].maximum)
        level = _LEVELS.index(h264.level_for(self._width, self._height, self._fps, ceiling))
        for key, values in {
            _PROFILE: (_CONSTRAINED_BASELINE, _BASELINE),
            _LEVEL: (level,),
            _B_FRAMES: (0,),
            _BITRATE_MODE: (_CBR,),
            _GOP_SIZE: (10 * self._gop,),  # counted here
            _I_PERIOD: (10 * self._gop,),
            _HEADER_MODE: (_JOINED_WITH_FRAME,),
            _REPEAT_SEQ_HEADER: (1,),
        }.items():
            if key in controls and not any(self._accepts(key, min(value, controls[key].maximum)) for value in values):
                if key == _PROFILE:
                    raise Refused("it knows no baseline profile")
                _log.debug("%s: control %s is refused", self._node.path, controls[key].name)
        self.set_bitrate(bitrate)

    def _accepts(self, key: int, value: int) -> bool:
        try:
            self._node.set_control(key, value)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ERANGE, errno.EACCES):
                raise
            return False
        return True

    def _wait(self, timeout_s: float) -> list[EncodedFrame]:
        """Wait until something is ready and take it."""
        self._node.wait(max(0.0, min(timeout_s, STUCK_S)), writable=True)
        done = self._drain()
        if done:
            self._since = self._clock()
        elif self._pending and self._clock() - self._since >= STUCK_S:
            raise OSError(errno.EIO, "it does not answer")
        return done

    def _drain(self) -> list[EncodedFrame]:
        """Take back whatever is ready in both queues."""
        while buffer := self._node.dequeue(IN):
            self._free.append(buffer.index)
        done = []
        while buffer := self._node.dequeue(OUT):
            data = b"" if buffer.flags & v4l2.BUF_FLAG_ERROR else self._memory[OUT, buffer.index][: buffer.used]
            self._node.queue(OUT, v4l2.Buffer(buffer.index, length=buffer.length))
            if buffer.flags & v4l2.BUF_FLAG_ERROR:  # what refers to it would be damaged
                self._since_idr = self._gop
            if frame := self._frame_of(data, buffer.time_us):
                done.append(frame)
        return done

    def _frame_of(self, data: bytes, time_us: int) -> EncodedFrame | None:
        nals = self._head + h264.split_nals(data)
        self._sets = self._sets.merged(h264.ParameterSets.of(nals))
        if not any(0 < h264.nal_type(nal) <= h264.LAST_VCL for nal in nals):  # headers alone, or a picture that was left out
            self._head = nals[-8:]
            return None
        self._head = []
        if time_us not in self._pending and self._pending:  # a device that does not keep time stamps does keep the order
            time_us = next(iter(self._pending))
        known = self._pending.pop(time_us, None)
        for older in [key for key in self._pending if key < time_us]:
            del self._pending[older]
        if known is None:
            return None
        keyframe = h264.is_keyframe(nals)
        if keyframe:
            self._check()
        elif not self._checked:
            raise OSError(errno.EPROTO, "its first picture is no keyframe")
        return EncodedFrame(h264.with_parameter_sets(h264.join_nals(nals), self._sets), keyframe, *known, self._layer)

    def _check(self) -> None:
        """Believe what the device makes only after a look at it."""
        if self._checked:
            return
        try:
            sps = h264.parse_sps(self._sets.sps[-1])
        except (IndexError, ValueError):
            raise OSError(errno.EPROTO, "its parameter sets cannot be read") from None
        if (sps.width, sps.height) != (self._width, self._height):
            raise OSError(errno.EPROTO, f"it makes {sps.width}x{sps.height} of {self._width}x{self._height}")
        self._checked = True

    def _fill(self, memory: mmap.mmap, frame: av.VideoFrame) -> None:
        """Copy a picture's planes to where the device wants them."""
        if (frame.width, frame.height, frame.format.name) != (self._width, self._height, self._pixels):
            frame = frame.reformat(width=self._width, height=self._height, format=self._pixels)
        import numpy as np  # here: 12 MB that an agent without such an encoder does without

        target = np.frombuffer(memory, np.uint8)
        position = 0
        for index, plane in enumerate(frame.planes):
            line = self._line if not index or self._pixels == "nv12" else self._line // 2
            width = plane.width * (2 if index and self._pixels == "nv12" else 1)
            source = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[call-overload]
            end = position + line * plane.height
            target[position:end].reshape(plane.height, line)[:, :width] = source[:, :width]
            position = end

    def _fault(self, reason: str) -> DeviceFault:
        self._on_fault(self._node.path)
        return DeviceFault(f"The board's video encoder failed ({reason}).")


def _codes(node: v4l2.Node, queue: v4l2.BufferType) -> set[int]:
    return {info.code for info in node.formats(queue)}


_shunned: dict[str, float] = {}
_said: set[tuple[str, str]] = set()


def find_encoder(root: Path = Path("/")) -> str | None:
    """The path of a device that encodes H.264, like `/dev/video11`; None where this board has none that may be used.

    Args:
        root: Where `dev` and `sys` lie.
    """
    for path in sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        if not re.fullmatch(r"video\d+", path.name):
            continue
        if (root / "sys/class/video4linux" / path.name / "device/subsystem").resolve().name == "usb":
            continue  # opening a USB camera wakes it
        with contextlib.suppress(OSError):
            node = v4l2.Node(path)
            try:
                flags = node.capability().flags
                if flags & v4l2.CAP_VIDEO_M2M_MPLANE and H264 in _codes(node, OUT) and RAW.keys() & _codes(node, IN):
                    return str(path)
            finally:
                node.close()
    return None


def open_encoder(*, layer: str = "main", **settings: Any) -> M2mEncoder | None:
    """The board's encoder for these settings of `M2mEncoder`; None where there is none, or it cannot do it now (logged once)."""
    path = find_encoder()
    if path is None or time.monotonic() < _shunned.get(path, 0.0):
        return None
    try:
        return M2mEncoder(v4l2.Node(path), layer=layer, on_fault=_shun, **settings)
    except (Refused, OSError) as error:
        reason = str(error)
        if (path, reason) not in _said:
            _said.add((path, reason))
            _log.warning("the board's video encoder %s cannot be used (%s); x264 encodes instead", path, reason)
        return None


def _shun(path: str) -> None:
    _shunned[path] = time.monotonic() + SHUNNED_S
    _log.warning("the board's video encoder %s failed; x264 encodes for the next %.0f s", path, SHUNNED_S)
