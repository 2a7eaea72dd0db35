"""Stand-ins for V4L2 devices at the level of ioctl, by the kernel's layouts declared here a second time.

`EncoderDevice` is the H.264 encoder of a Raspberry Pi (`/dev/video11`) with x264 behind it, `CameraDevice` a USB camera.
A test makes a `FakeNode` of one wherever the agent would open the node.
"""

from __future__ import annotations

__all__ = ["CameraDevice", "Control", "EncoderDevice", "FakeNode", "Format", "RealTimeCamera"]

import ctypes
import errno
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from edgeagent import v4l2
from edgeagent.media.encoder import X264Encoder

U32, S32 = ctypes.c_uint32, ctypes.c_int32


def _struct(name: str, *fields: tuple[str, Any], pack: int = 0) -> Any:
    return type(name, (ctypes.Structure,), ({"_pack_": pack} if pack else {}) | {"_fields_": list(fields)})


_Capability = _struct(
    "Capability", ("driver", ctypes.c_char * 16), ("card", ctypes.c_char * 32), ("bus", ctypes.c_char * 32), ("version", U32),
    ("capabilities", U32), ("device_caps", U32), ("reserved", U32 * 3),
)  # fmt: skip
_FmtDesc = _struct(
    "FmtDesc", ("index", U32), ("type", U32), ("flags", U32), ("description", ctypes.c_char * 32), ("pixelformat", U32),
    ("mbus_code", U32), ("reserved", U32 * 3),
)  # fmt: skip
_FrameSize = _struct("FrameSize", ("index", U32), ("pixel_format", U32), ("type", U32), ("sizes", U32 * 6), ("reserved", U32 * 2))
_FrameInterval = _struct(
    "FrameInterval", ("index", U32), ("pixel_format", U32), ("width", U32), ("height", U32), ("type", U32), ("fractions", U32 * 6),
    ("reserved", U32 * 2),
)  # fmt: skip
_PlaneFormat = _struct("PlaneFormat", ("sizeimage", U32), ("bytesperline", U32), ("reserved", ctypes.c_uint16 * 6), pack=1)
_Pix = _struct(
    "Pix",
    *[(name, U32) for name in ("width", "height", "pixelformat", "field", "bytesperline", "sizeimage", "colorspace")],
    ("rest", U32 * 5),
)
_PixMp = _struct(
    "PixMp", ("width", U32), ("height", U32), ("pixelformat", U32), ("field", U32), ("colorspace", U32),
    ("planes", _PlaneFormat * 8), ("num_planes", ctypes.c_uint8), ("rest", ctypes.c_uint8 * 11), pack=1,
)  # fmt: skip
_Window = _struct("Window", ("pointer", ctypes.c_void_p))  # what gives the union its alignment


class _FormatUnion(ctypes.Union):
    _fields_ = [("pix", _Pix), ("pix_mp", _PixMp), ("win", _Window), ("raw", ctypes.c_uint8 * 200)]


_Format = _struct("Format", ("type", U32), ("fmt", _FormatUnion))
_RequestBuffers = _struct(
    "RequestBuffers", ("count", U32), ("type", U32), ("memory", U32), ("capabilities", U32), ("flags", ctypes.c_uint8 * 4)
)
_TimeVal = _struct("TimeVal", ("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))
_TimeCode = _struct("TimeCode", ("type", U32), ("flags", U32), ("rest", ctypes.c_uint8 * 8))


class _Place(ctypes.Union):
    _fields_ = [("offset", U32), ("userptr", ctypes.c_ulong), ("planes", ctypes.c_void_p), ("fd", S32)]


_Buffer = _struct(
    "Buffer", ("index", U32), ("type", U32), ("bytesused", U32), ("flags", U32), ("field", U32), ("timestamp", _TimeVal),
    ("timecode", _TimeCode), ("sequence", U32), ("memory", U32), ("m", _Place), ("length", U32), ("reserved2", U32),
    ("request", S32),
)  # fmt: skip
_Plane = _struct(
    "Plane", ("bytesused", U32), ("length", U32), ("m", _Place), ("data_offset", U32), ("reserved", U32 * 11)
)  # fmt: skip
_Parm = _struct(
    "Parm", ("type", U32), ("capability", U32), ("mode", U32), ("numerator", U32), ("denominator", U32), ("rest", U32 * 46)
)
_Ctrl = _struct("Ctrl", ("id", U32), ("value", S32))
_QueryCtrl = _struct(
    "QueryCtrl", ("id", U32), ("type", U32), ("name", ctypes.c_char * 32), ("minimum", S32), ("maximum", S32), ("step", S32),
    ("default", S32), ("flags", U32), ("reserved", U32 * 2),
)  # fmt: skip
_QueryMenu = _struct("QueryMenu", ("id", U32), ("index", U32), ("name", ctypes.c_char * 32), ("reserved", U32), pack=1)
_Int = _struct("Int", ("value", S32))

_CALLS: dict[tuple[int, int], str] = {}
for _number, _layout, _name in [
    (0, _Capability, "querycap"), (2, _FmtDesc, "enum_fmt"), (5, _Format, "s_fmt"), (8, _RequestBuffers, "reqbufs"),
    (9, _Buffer, "querybuf"), (15, _Buffer, "qbuf"), (17, _Buffer, "dqbuf"), (18, _Int, "streamon"), (19, _Int, "streamoff"),
    (22, _Parm, "s_parm"), (28, _Ctrl, "s_ctrl"), (36, _QueryCtrl, "queryctrl"), (37, _QueryMenu, "querymenu"),
    (74, _FrameSize, "enum_framesizes"), (75, _FrameInterval, "enum_frameintervals"),
]:  # fmt: skip
    _CALLS[_number, ctypes.sizeof(_layout)] = _name
_LAYOUTS = {
    "querycap": _Capability, "enum_fmt": _FmtDesc, "s_fmt": _Format, "reqbufs": _RequestBuffers, "querybuf": _Buffer,
    "qbuf": _Buffer, "dqbuf": _Buffer, "streamon": _Int, "streamoff": _Int, "s_parm": _Parm, "s_ctrl": _Ctrl,
    "queryctrl": _QueryCtrl, "querymenu": _QueryMenu, "enum_framesizes": _FrameSize, "enum_frameintervals": _FrameInterval,
}  # fmt: skip


class _Refusal(OSError):
    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


@dataclass
class Control:
    """A setting of a device; `menu` makes it one."""

    name: str
    minimum: int
    maximum: int
    step: int = 1
    kind: int = v4l2.CTRL_INTEGER
    menu: dict[int, str] = field(default_factory=dict)


@dataclass
class _Queued:
    index: int
    used: int
    time_us: int


class _Queue:
    """Buffers of one queue, in one piece of shared memory."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("buffers")
        self.base = 0
        self.length = self.count = 0
        self.queued: deque[_Queued] = deque()
        self.done: deque[tuple[_Queued, int, int]] = deque()  # with flags and sequence
        self.streaming = False
        self.memory: list[mmap.mmap] = []

    def make(self, count: int, length: int) -> None:
        self.free()
        self.count, self.length = count, -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(self.fd, max(1, self.count * self.length))
        self.memory = [
            mmap.mmap(self.fd, self.length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=index * self.length)
            for index in range(count)
        ]

    def free(self) -> None:
        while self.memory:
            self.memory.pop().close()

    def close(self) -> None:
        self.free()
        os.close(self.fd)


class Device:
    """One opened device; subclasses say what it does."""

    driver, card, bus, flags = "fake", "Fake", "platform:fake", 0
    mplane = False

    def __init__(self) -> None:
        self.queues: dict[int, _Queue] = {}
        self.controls: dict[int, Control] = {}
        self.values: dict[int, int] = {}
        self.refuse: dict[str, int] = {}
        """errno by the name of a call."""
        self.unanswered: dict[int, int] = {}
        """errno by the number of a control for which the device does not answer."""
        self.called: list[str] = []
        self.opened = 0
        self.gone = False

    def open(self, path: str) -> FakeNode:
        """What the agent gets for `v4l2.Node(path)`."""
        self.opened += 1
        return FakeNode(path, self)

    def call(self, name: str, data: Any) -> None:
        self.called.append(name)
        if self.gone:
            raise _Refusal(errno.ENODEV)
        if name in self.refuse:
            raise _Refusal(self.refuse[name])
        handler: Callable[[Any], None] | None = getattr(self, name, None)
        if handler is None:
            raise _Refusal(errno.ENOTTY)
        handler(data)

    def work(self) -> None:
        """Do what can be done with what is queued; called when somebody waits or takes."""

    def ready(self, timeout_s: float) -> bool:
        """Whether there is something to take; a stand-in may let time pass up to `timeout_s`."""
        self.work()
        return self.gone or any(queue.done for queue in self.queues.values())

    def release(self) -> None:
        """The node was closed."""
        self.opened -= 1
        for queue in self.queues.values():
            queue.close()
        self.queues.clear()

    def querycap(self, data: Any) -> None:
        data.driver, data.card, data.bus = self.driver.encode(), self.card.encode(), self.bus.encode()
        data.capabilities = v4l2.CAP_DEVICE_CAPS | 0xFFFF
        data.device_caps = self.flags

    def queryctrl(self, data: Any) -> None:
        wanted, listing = data.id & 0x7FFFFFFF, data.id & v4l2.CTRL_FLAG_NEXT
        following = sorted(key for key in self.controls if (key > wanted if listing else key == wanted))
        if not following:
            raise _Refusal(errno.EINVAL)
        if following[0] in self.unanswered:
            raise _Refusal(self.unanswered[following[0]])
        control = self.controls[following[0]]
        data.id, data.type, data.name = following[0], control.kind, control.name.encode()
        data.minimum, data.maximum, data.step = control.minimum, control.maximum, control.step

    def querymenu(self, data: Any) -> None:
        menu = self.controls[data.id].menu
        if data.index not in menu:
            raise _Refusal(errno.EINVAL)
        data.name = menu[data.index].encode()

    def s_ctrl(self, data: Any) -> None:
        control = self.controls.get(data.id)
        button = control and control.kind == v4l2.CTRL_BUTTON  # its value means nothing
        if control is None or (not button and not control.minimum <= data.value <= control.maximum):
            raise _Refusal(errno.EINVAL if control is None else errno.ERANGE)
        self.values[data.id] = data.value

    def reqbufs(self, data: Any) -> None:
        queue = self.queues.setdefault(data.type, _Queue())
        queue.make(data.count, self.buffer_length(data.type))

    def querybuf(self, data: Any) -> None:
        queue = self.queues[data.type]
        if data.index >= queue.count:
            raise _Refusal(errno.EINVAL)
        place = self._plane(data) if self.mplane else data
        place.length = queue.length
        place.m.offset = data.index * queue.length + (1 << 30 if data.type in (8, 10) else 0)

    def qbuf(self, data: Any) -> None:
        place = self._plane(data) if self.mplane else data
        stamp = data.timestamp.seconds * 1_000_000 + data.timestamp.microseconds
        self.queues[data.type].queued.append(_Queued(data.index, place.bytesused, stamp))

    def dqbuf(self, data: Any) -> None:
        self.work()
        queue = self.queues[data.type]
        if not queue.done:
            raise BlockingIOError(errno.EAGAIN, "nothing ready")
        item, flags, sequence = queue.done.popleft()
        place = self._plane(data) if self.mplane else data
        data.index, place.bytesused, place.length, data.flags, data.sequence = item.index, item.used, queue.length, flags, sequence
        data.timestamp.seconds, data.timestamp.microseconds = divmod(item.time_us, 1_000_000)

    def streamon(self, data: Any) -> None:
        self.queues[data.value].streaming = True

    def streamoff(self, data: Any) -> None:
        if data.value in self.queues:
            self.queues[data.value].streaming = False

    def buffer_length(self, kind: int) -> int:
        raise NotImplementedError

    @staticmethod
    def _plane(data: Any) -> Any:
        assert data.length == 1
        return _Plane.from_address(data.m.planes)


class FakeNode(v4l2.Node):
    """A node of a stand-in; takes the place of `v4l2.Node`."""

    def __init__(self, path: str, device: Device) -> None:
        self.path, self.device = path, device
        self._open = True

    def ioctl(self, code: int, data: bytearray) -> None:
        assert self._open
        name = _CALLS[code & 0xFF, code >> 16 & 0x3FFF]
        assert ctypes.sizeof(_LAYOUTS[name]) == len(data)
        self.device.call(name, _LAYOUTS[name].from_buffer(data))

    def map(self, length: int, offset: int) -> mmap.mmap:
        kinds = [kind for kind in self.device.queues if (kind in (8, 10)) == bool(offset >> 30)]
        queue = self.device.queues[kinds[0]]
        assert length == queue.length
        return mmap.mmap(queue.fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset & 0x3FFFFFFF)

    def wait(self, timeout_s: float, *, writable: bool = False) -> bool:
        return self.device.ready(timeout_s)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.device.release()


class EncoderDevice(Device):
    """The H.264 encoder of a Pi: constrained baseline by x264, rates and keyframes by controls."""

    driver, card = "bcm2835-codec", "bcm2835-codec-encode"
    flags = v4l2.CAP_VIDEO_M2M_MPLANE | v4l2.CAP_STREAMING
    mplane = True
    BITRATE, FORCE, PROFILE, LEVEL = 0x9909CF, 0x9909E5, 0x990A6B, 0x990A67
    IN, OUT = 10, 9

    def __init__(self, *, raw: str = "YU12", delay: int = 0, headers_apart: bool = False) -> None:
        super().__init__()
        self.raw, self.delay, self.headers_apart = raw, delay, headers_apart
        self.stuck = False
        self.line_align, self.max_size = 64, (1920, 1920)
        self.formats = {self.IN: _PixMp(), self.OUT: _PixMp()}
        self.fps = 0.0
        self.encoder: X264Encoder | None = None
        self.errors: set[int] = set()
        self.frames = 0
        self.controls = {
            self.BITRATE: Control("Video Bitrate", 25_000, 25_000_000, 25_000),
            self.FORCE: Control("Force Key Frame", 0, 0, kind=v4l2.CTRL_BUTTON),
            self.PROFILE: Control("H264 Profile", 0, 4, kind=v4l2.CTRL_MENU, menu={0: "Baseline", 1: "Constrained Baseline"}),
            self.LEVEL: Control("H264 Level", 0, 15, kind=v4l2.CTRL_MENU, menu={11: "4"}),
            0x9909E2: Control("Repeat Sequence Header", 0, 1, kind=v4l2.CTRL_BOOLEAN),
            0x9909CB: Control("Video GOP Size", 0, 0x7FFFFFFF),
        }
        self.force = False

    def release(self) -> None:
        super().release()
        self.encoder, self.frames = None, 0

    def enum_fmt(self, data: Any) -> None:
        formats = {self.IN: [self.raw], self.OUT: ["H264"]}[data.type]
        if data.index >= len(formats):
            raise _Refusal(errno.EINVAL)
        data.pixelformat = v4l2.fourcc(formats[data.index])

    def s_fmt(self, data: Any) -> None:
        made = data.fmt.pix_mp
        made.width, made.height = min(made.width, self.max_size[0]), min(made.height, self.max_size[1])
        plane = made.planes[0]
        if data.type == self.IN:
            plane.bytesperline = -(-made.width // self.line_align) * self.line_align
            plane.sizeimage = plane.bytesperline * made.height * 3 // 2
        made.num_planes = 1
        ctypes.pointer(self.formats[data.type])[0] = made

    def s_parm(self, data: Any) -> None:
        self.fps = data.denominator / data.numerator

    def s_ctrl(self, data: Any) -> None:
        super().s_ctrl(data)
        if data.id == self.FORCE:
            self.force = True
        if data.id == self.BITRATE and self.encoder:
            self.encoder.set_bitrate(data.value)

    def buffer_length(self, kind: int) -> int:
        return int(self.formats[kind].planes[0].sizeimage)

    def work(self) -> None:
        if self.stuck or not all(kind in self.queues and self.queues[kind].streaming for kind in (self.IN, self.OUT)):
            return
        inputs, outputs = self.queues[self.IN], self.queues[self.OUT]
        while len(inputs.queued) > self.delay and len(outputs.queued) > self.headers_apart:
            item = inputs.queued.popleft()
            self._encode(item, inputs.memory[item.index], outputs)
            inputs.done.append((item, 0, 0))

    def _encode(self, item: _Queued, memory: mmap.mmap, outputs: _Queue) -> None:
        made = self.formats[self.IN]
        width, height, line = made.width, made.height, made.planes[0].bytesperline
        if self.encoder is None:
            self.encoder = X264Encoder(
                width=width, height=height, fps=self.fps, bitrate=self.values[self.BITRATE], max_bitrate=8_000_000
            )  # fmt: skip
        picture = av.VideoFrame(width, height, "yuv420p" if self.raw == "YU12" else "nv12")
        position = 0
        for index, plane in enumerate(picture.planes):
            stride = line if not index or self.raw == "NV12" else line // 2
            wide = plane.width * (2 if index and self.raw == "NV12" else 1)
            rows = np.frombuffer(memory[position : position + stride * plane.height], np.uint8).reshape(plane.height, stride)
            target: Any = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
            target.reshape(plane.height, plane.line_size)[:, :wide] = rows[:, :wide]
            position += stride * plane.height
        force, self.force = self.force, False
        (frame,) = self.encoder.encode(picture, timestamp=item.time_us, captured_at=0, keyframe=force)
        data, self.frames = frame.data, self.frames + 1
        if self.headers_apart and frame.keyframe:
            start = data.index(b"\0\0\1\x65")
            self._deliver(outputs, data[:start], item.time_us, 0)
            data = data[start:]
        flags = v4l2.BUF_FLAG_ERROR if self.frames in self.errors else v4l2.BUF_FLAG_KEYFRAME if frame.keyframe else 0
        self._deliver(outputs, data, item.time_us, flags)

    @staticmethod
    def _deliver(outputs: _Queue, data: bytes, time_us: int, flags: int) -> None:
        free = outputs.queued.popleft()
        outputs.memory[free.index][: len(data)] = data
        outputs.done.append((_Queued(free.index, len(data), time_us), flags, 0))


@dataclass
class Format:
    """A pixel format of a camera: its sizes with their rates, or one range of sizes."""

    fourcc: str
    sizes: dict[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    stepwise: tuple[int, int, int, int, int, int] | None = None
    rates: tuple[float, ...] = (30.0,)


class CameraDevice(Device):
    """A USB camera on a clock of its own: waiting for a picture makes time pass.

    Args:
        formats: What it offers.
        card: Its model.
        bus: Where it is plugged in.
        picture: Gives the bytes of a picture: pixel format, width, height, number.
    """

    flags = v4l2.CAP_VIDEO_CAPTURE | v4l2.CAP_STREAMING
    driver = "uvcvideo"

    def __init__(
        self, formats: list[Format], *, card: str = "HD Pro Webcam C920", bus: str = "usb-0000:01:00.0-1.3",
        picture: Callable[[str, int, int, int], bytes] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.formats, self.card, self.bus, self.picture = formats, card, bus, picture
        self.set: tuple[str, int, int] | None = None
        self.fps = 30.0
        self.now = 100.0
        self.number = 0
        self.due = 0.0
        self.no_bandwidth: set[str] = set()
        self.silent = False
        self.flaws: dict[int, int] = {}
        """Further flags of buffers by the number of the picture."""
        self.missing: set[int] = set()
        """Numbers of pictures that get lost."""
        self.stamp_offset_s = 0.0
        self.buffer_flags = v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC
        self.at: dict[int, Callable[[], None]] = {}
        """What happens before the picture of a number."""

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def ready(self, timeout_s: float) -> bool:
        if super().ready(0):
            return True
        self.pass_time(timeout_s if self.silent else max(0.0, min(timeout_s, self.due - self.now)))
        return super().ready(0)

    def _format(self, code: int) -> Format:
        for known in self.formats:
            if v4l2.fourcc(known.fourcc) == code:
                return known
        raise _Refusal(errno.EINVAL)

    def enum_fmt(self, data: Any) -> None:
        if data.type != 1 or data.index >= len(self.formats):
            raise _Refusal(errno.EINVAL)
        data.pixelformat = v4l2.fourcc(self.formats[data.index].fourcc)

    def enum_framesizes(self, data: Any) -> None:
        known = self._format(data.pixel_format)
        if known.stepwise and data.index == 0:
            data.type = 3
            data.sizes[:] = known.stepwise
        elif data.index < len(known.sizes):
            data.type = 1
            data.sizes[:2] = list(known.sizes)[data.index]
        else:
            raise _Refusal(errno.EINVAL)

    def enum_frameintervals(self, data: Any) -> None:
        known = self._format(data.pixel_format)
        rates = known.sizes.get((data.width, data.height), known.rates if known.stepwise else ())
        if data.index >= len(rates):
            raise _Refusal(errno.EINVAL)
        data.type = 1
        data.fractions[:2] = (1000, round(rates[data.index] * 1000))

    def s_fmt(self, data: Any) -> None:
        made = data.fmt.pix
        name = v4l2.fourcc_name(made.pixelformat)
        self.set = (name, made.width, made.height)
        made.bytesperline = made.width * 2 if name in ("YUYV", "UYVY", "YVYU") else 0
        made.sizeimage = made.width * made.height * 3

    def s_parm(self, data: Any) -> None:
        self.fps = data.denominator / data.numerator

    def streamon(self, data: Any) -> None:
        if self.set and self.set[0] in self.no_bandwidth:
            raise _Refusal(errno.ENOSPC)
        super().streamon(data)
        self.due = self.now + 1 / self.fps

    def buffer_length(self, kind: int) -> int:
        assert self.set
        return self.set[1] * self.set[2] * 3

    def work(self) -> None:
        queue = self.queues.get(1)
        while queue and queue.streaming and queue.queued and self.set and self.picture and self.due <= self.now and not self.silent:
            self.at.get(self.number, lambda: None)()
            stamp, self.due = self.due + self.stamp_offset_s, self.due + 1 / self.fps
            if self.gone:
                return
            number, self.number = self.number, self.number + 1
            if number in self.missing:
                continue
            item = queue.queued.popleft()
            data = self.picture(*self.set, number)
            queue.memory[item.index][: len(data)] = data
            flags = self.buffer_flags | self.flaws.get(number, 0)
            queue.done.append((_Queued(item.index, len(data), round(stamp * 1e6)), flags, number))


class RealTimeCamera(CameraDevice):
    """The same on the real clock."""

    @property
    def now(self) -> float:
        return time.monotonic()

    @now.setter
    def now(self, _: float) -> None:
        """Time passes by itself."""

    def pass_time(self, seconds: float) -> None:
        threading.Event().wait(seconds)
