"""Video4Linux2 as the kernel speaks it: its structures as bytes, and an open device node.

Standard library only; the cameras of the driver `v4l2` and the hardware encoder both stand on it. Layouts follow the kernel's
`linux/videodev2.h` for the machine that this runs on (32 or 64 bits). What a device answers is checked where it is used.
"""

from __future__ import annotations

__all__ = [
    "Buffer",
    "BufferType",
    "Capability",
    "Control",
    "FormatInfo",
    "Node",
    "PixelFormat",
    "fourcc",
    "fourcc_name",
]

import contextlib
import enum
import errno
import fcntl
import mmap
import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MEMORY_MMAP = 1
FIELD_NONE = 1
CAP_VIDEO_CAPTURE, CAP_VIDEO_M2M_MPLANE, CAP_VIDEO_M2M = 0x1, 0x4000, 0x8000
CAP_STREAMING, CAP_DEVICE_CAPS, CAP_TIMEPERFRAME = 0x4000000, 0x80000000, 0x1000
BUF_FLAG_KEYFRAME, BUF_FLAG_ERROR = 0x8, 0x40
BUF_FLAG_TIMESTAMP_MASK, BUF_FLAG_TIMESTAMP_MONOTONIC = 0xE000, 0x2000
CTRL_FLAG_DISABLED, CTRL_FLAG_READ_ONLY, CTRL_FLAG_INACTIVE, CTRL_FLAG_NEXT = 0x1, 0x4, 0x10, 0x80000000
CTRL_INTEGER, CTRL_BOOLEAN, CTRL_MENU, CTRL_BUTTON, CTRL_INTEGER_MENU = 1, 2, 3, 4, 9
_USB_CONTROLS = (*range(0x980900, 0x980940), *range(0x9A0900, 0x9A0940))  # what uvcvideo makes of the standard's controls
_UNANSWERED = {errno.EIO, errno.EPIPE, errno.EBUSY, errno.EACCES, errno.EREMOTE, errno.ERANGE}  # of uvcvideo, for one control
_FRAME_DISCRETE = 1
_MAX_ENTRIES = 256  # of any list that a device gives: a broken one must not keep us for ever

_CAPABILITY = struct.Struct("=16s32s32s3I12x")
_FMTDESC = struct.Struct("=3I32sI16x")
_FRMSIZE = struct.Struct("=3I6I8x")
_FRMIVAL = struct.Struct("=5I6I8x")
_FORMAT_AT = struct.calcsize("@I0P")  # the union holds pointers and is aligned for them
_FORMAT_SIZE = _FORMAT_AT + 200
_PIX = struct.Struct("=12I")
_PIX_MP = struct.Struct("=7I")  # up to the first plane's sizes
_NUM_PLANES_AT = 20 + 8 * 20
_REQBUFS = struct.Struct("=4I4x")
_BUFFER = struct.Struct("@5Ill2I8s2IP3I0P")
_PLANE = struct.Struct("@2IP12I")
_PARM = struct.Struct("=7I176x")
_CTRL = struct.Struct("=Ii")
_QUERYCTRL = struct.Struct("=2I32s4iI8x")
_QUERYMENU = struct.Struct("=2I32s4x")
_INT = struct.Struct("=i")
_FRACTIONS = 1001


class BufferType(enum.IntEnum):
    """The queues of a device (`enum v4l2_buf_type`)."""

    CAPTURE = 1
    CAPTURE_MPLANE = 9
    OUTPUT_MPLANE = 10

    @property
    def mplane(self) -> bool:
        return self is not BufferType.CAPTURE


_READ, _WRITE = 2, 1


def _code(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _code(_READ, 0, _CAPABILITY.size)
ENUM_FMT = _code(_READ | _WRITE, 2, _FMTDESC.size)
S_FMT = _code(_READ | _WRITE, 5, _FORMAT_SIZE)
REQBUFS = _code(_READ | _WRITE, 8, _REQBUFS.size)
QUERYBUF = _code(_READ | _WRITE, 9, _BUFFER.size)
QBUF = _code(_READ | _WRITE, 15, _BUFFER.size)
DQBUF = _code(_READ | _WRITE, 17, _BUFFER.size)
STREAMON = _code(_WRITE, 18, _INT.size)
STREAMOFF = _code(_WRITE, 19, _INT.size)
S_PARM = _code(_READ | _WRITE, 22, _PARM.size)
S_CTRL = _code(_READ | _WRITE, 28, _CTRL.size)
QUERYCTRL = _code(_READ | _WRITE, 36, _QUERYCTRL.size)
QUERYMENU = _code(_READ | _WRITE, 37, _QUERYMENU.size)
ENUM_FRAMESIZES = _code(_READ | _WRITE, 74, _FRMSIZE.size)
ENUM_FRAMEINTERVALS = _code(_READ | _WRITE, 75, _FRMIVAL.size)


def fourcc(name: str) -> int:
    """The code of a pixel format by its four characters, like `MJPG`."""
    return int.from_bytes(name.encode("ascii"), "little")


def fourcc_name(code: int) -> str:
    """The four characters of a pixel format, what cannot be printed as dots."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in (code & 0x7FFFFFFF).to_bytes(4, "little"))


def _text(raw: bytes) -> str:
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    return "".join(character for character in text if character.isprintable())


@dataclass(frozen=True, slots=True)
class Capability:
    """Who a device is (`struct v4l2_capability`).

    Attributes:
        driver: Of the kernel, like `uvcvideo`.
        card: The model, like `HD Pro Webcam C920`.
        bus: Where it is plugged in, like `usb-0000:01:00.0-1.3`.
        flags: What this node can do, `CAP_…`.
    """

    driver: str
    card: str
    bus: str
    flags: int


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """One pixel format that a queue offers."""

    code: int
    description: str


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The format of a queue.

    Attributes:
        code: Pixel format, see `fourcc`.
        width: Pixels.
        height: Pixels.
        bytes_per_line: Of the first plane; 0 where compressed.
        size: Bytes of a buffer.
    """

    code: int
    width: int
    height: int
    bytes_per_line: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Buffer:
    """What the kernel says of a buffer (`struct v4l2_buffer`).

    Attributes:
        index: Which one.
        used: Bytes that hold data.
        flags: `BUF_FLAG_…`.
        time_us: Time stamp in microseconds; of CLOCK_MONOTONIC where the flags say so.
        sequence: Counts pictures, also those that were lost.
        length: Bytes in all.
        offset: For `mmap`.
    """

    index: int
    used: int = 0
    flags: int = 0
    time_us: int = 0
    sequence: int = 0
    length: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Control:
    """A setting of a device (`struct v4l2_queryctrl`).

    Attributes:
        key: Its number.
        name: As `v4l2-ctl` writes it, like `exposure_time_absolute`.
        kind: `CTRL_…`.
        minimum: Lowest value.
        maximum: Highest value.
        step: Between values.
        default: At power on.
        flags: `CTRL_FLAG_…`.
        menu: Names by value, for menus.
    """

    key: int
    name: str
    kind: int
    minimum: int
    maximum: int
    step: int
    default: int
    flags: int
    menu: dict[int, str]


class Node:
    """An open device node, not blocking.

    Every method raises OSError as the kernel gives it; ENODEV means that the device has gone.

    Attributes:
        unanswered: Whether it did not answer for one of its settings when these were listed.

    Args:
        path: Like `/dev/video0`.
    """

    unanswered = False

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, code: int, data: bytearray) -> None:
        """One request; the answer is in `data`."""
        while True:
            try:
                fcntl.ioctl(self._fd, code, data, True)
                return
            except InterruptedError:
                continue

    def map(self, length: int, offset: int) -> mmap.mmap:
        """The memory of a buffer."""
        return mmap.mmap(self._fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def wait(self, timeout_s: float, *, writable: bool = False) -> bool:
        """Wait until a captured buffer (or also an output one) can be taken back; false where time has passed."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | select.POLLRDNORM | (select.POLLOUT | select.POLLWRNORM if writable else 0))
        return bool(poll.poll(max(0, round(timeout_s * 1000))))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def capability(self) -> Capability:
        data = bytearray(_CAPABILITY.size)
        self.ioctl(QUERYCAP, data)
        driver, card, bus, _, all_flags, flags = _CAPABILITY.unpack(data)
        return Capability(_text(driver), _text(card), _text(bus), flags if all_flags & CAP_DEVICE_CAPS else all_flags)

    def formats(self, queue: BufferType) -> list[FormatInfo]:
        """The pixel formats that a queue offers."""
        found = []
        for index in range(_MAX_ENTRIES):
            data = bytearray(_FMTDESC.pack(index, queue, 0, b"", 0))
            if not self._listed(ENUM_FMT, data):
                break
            _, _, _, description, code = _FMTDESC.unpack(data)
            found.append(FormatInfo(code, _text(description)))
        return found

    def sizes(self, code: int) -> list[tuple[int, int, int, int, int, int]]:
        """Sizes of a pixel format: smallest width, largest width, step, the same of the height."""
        found = []
        for index in range(_MAX_ENTRIES):
            data = bytearray(_FRMSIZE.pack(index, code, 0, *[0] * 6))
            if not self._listed(ENUM_FRAMESIZES, data):
                break
            _, _, kind, *rest = _FRMSIZE.unpack(data)
            if kind == _FRAME_DISCRETE:
                found.append((rest[0], rest[0], 1, rest[1], rest[1], 1))
            else:
                found.append((rest[0], rest[1], max(1, rest[2]), rest[3], rest[4], max(1, rest[5])))
                break
        return found

    def rates(self, code: int, width: int, height: int) -> list[tuple[float, float]]:
        """Frame rates of a size, each as lowest and highest (the same for a single one)."""
        found = []
        for index in range(_MAX_ENTRIES):
            data = bytearray(_FRMIVAL.pack(index, code, width, height, 0, *[0] * 6))
            if not self._listed(ENUM_FRAMEINTERVALS, data):
                break
            _, _, _, _, kind, n, d, max_n, max_d, _, _ = _FRMIVAL.unpack(data)
            if kind == _FRAME_DISCRETE:
                max_n, max_d = n, d
            if n and max_n:
                found.append((max_d / max_n, d / n))
            if kind != _FRAME_DISCRETE:
                break
        return found

    def set_format(self, queue: BufferType, wanted: PixelFormat) -> PixelFormat:
        """Set the format of a queue; the answer is what the device makes of it."""
        data = bytearray(_FORMAT_SIZE)
        struct.pack_into("=I", data, 0, queue)
        if queue.mplane:
            _PIX_MP.pack_into(
                data, _FORMAT_AT, wanted.width, wanted.height, wanted.code, FIELD_NONE, 0, wanted.size, wanted.bytes_per_line
            )
            data[_FORMAT_AT + _NUM_PLANES_AT] = 1
        else:
            _PIX.pack_into(data, _FORMAT_AT, wanted.width, wanted.height, wanted.code, FIELD_NONE, *[0] * 8)
        self.ioctl(S_FMT, data)
        if queue.mplane:
            width, height, code, _, _, size, line = _PIX_MP.unpack_from(data, _FORMAT_AT)
        else:
            width, height, code, _, line, size, *_ = _PIX.unpack_from(data, _FORMAT_AT)
        return PixelFormat(code, width, height, line, size)

    def set_rate(self, queue: BufferType, fps: float) -> float:
        """Set the frames a second; the answer is what the device makes of it, 0 where it does not say."""
        data = bytearray(_PARM.pack(queue, 0, 0, *_fraction(1 / fps), 0, 0))
        self.ioctl(S_PARM, data)
        _, _, _, numerator, denominator, _, _ = _PARM.unpack(data)
        return denominator / numerator if numerator else 0.0

    def request_buffers(self, queue: BufferType, count: int) -> int:
        """Have buffers made; the answer is how many there are. 0 frees them."""
        data = bytearray(_REQBUFS.pack(count, queue, MEMORY_MMAP, 0))
        self.ioctl(REQBUFS, data)
        made: int = _REQBUFS.unpack(data)[0]
        return made

    def buffer(self, queue: BufferType, index: int) -> Buffer:
        """Length and place of a buffer."""
        return self._buffer_call(QUERYBUF, queue, Buffer(index))

    def queue(self, queue: BufferType, buffer: Buffer) -> None:
        """Give a buffer to the device."""
        self._buffer_call(QBUF, queue, buffer)

    def dequeue(self, queue: BufferType) -> Buffer | None:
        """Take a buffer back; None where none is ready."""
        try:
            return self._buffer_call(DQBUF, queue, Buffer(0))
        except BlockingIOError:
            return None

    def stream(self, queue: BufferType, on: bool) -> None:
        """Start or stop a queue."""
        self.ioctl(STREAMON if on else STREAMOFF, bytearray(_INT.pack(queue)))

    def controls(self) -> Iterator[Control]:
        """The settings that the device has, menus with their entries; not those for which it does not answer."""
        key, self.unanswered = 0, False
        for _ in range(_MAX_ENTRIES):
            data = self._control_after(key)
            if data is None:
                return
            key, kind, name, minimum, maximum, step, default, flags = _QUERYCTRL.unpack(data)
            if flags & CTRL_FLAG_DISABLED or kind not in (
                CTRL_INTEGER, CTRL_BOOLEAN, CTRL_MENU, CTRL_BUTTON, CTRL_INTEGER_MENU
            ):  # fmt: skip
                continue
            menu = self._menu(key, minimum, maximum, kind) if kind in (CTRL_MENU, CTRL_INTEGER_MENU) else {}
            yield Control(key, _control_name(_text(name)), kind, minimum, maximum, step, default, flags, menu)

    def set_control(self, key: int, value: int) -> None:
        self.ioctl(S_CTRL, bytearray(_CTRL.pack(key, value)))

    def _control_after(self, key: int) -> bytearray | None:
        """The next setting. The kernel's list ends where a USB camera does not answer for one: then each later one is asked."""
        data = bytearray(_QUERYCTRL.pack(key | CTRL_FLAG_NEXT, 0, b"", 0, 0, 0, 0, 0))
        try:
            return data if self._listed(QUERYCTRL, data) else None
        except OSError as error:
            if error.errno not in _UNANSWERED:
                raise
        self.unanswered = True
        for later in _USB_CONTROLS:
            data = bytearray(_QUERYCTRL.pack(later, 0, b"", 0, 0, 0, 0, 0))
            try:
                if later > key and self._listed(QUERYCTRL, data):
                    return data
            except OSError as error:
                if error.errno not in _UNANSWERED:
                    raise
        return None

    def _menu(self, key: int, minimum: int, maximum: int, kind: int) -> dict[int, str]:
        entries = {}
        for index in range(max(0, minimum), min(maximum, _MAX_ENTRIES) + 1):
            data = bytearray(_QUERYMENU.pack(key, index, b""))
            with contextlib.suppress(OSError):  # a menu may have holes
                self.ioctl(QUERYMENU, data)
                raw = _QUERYMENU.unpack(data)[2]
                entries[index] = _text(raw) if kind == CTRL_MENU else str(int.from_bytes(raw[:8], "little", signed=True))
        return entries

    def _listed(self, code: int, data: bytearray) -> bool:
        """Whether a list of the device goes on; a device may also not have the list."""
        try:
            self.ioctl(code, data)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
                return False
            raise
        return True

    def _buffer_call(self, code: int, queue: BufferType, buffer: Buffer) -> Buffer:
        seconds, microseconds = divmod(buffer.time_us, 1_000_000)
        if not queue.mplane:
            data = self._pack_buffer(queue, buffer, seconds, microseconds, buffer.used, 0, 0)
            self.ioctl(code, data)
            index, _, used, flags, _, seconds, microseconds, _, _, _, sequence, _, offset, length, _, _ = _BUFFER.unpack(data)
            return Buffer(index, used, flags, seconds * 1_000_000 + microseconds, sequence, length, offset & 0xFFFFFFFF)
        import ctypes

        plane = bytearray(_PLANE.pack(buffer.used, buffer.length, 0, *[0] * 12))
        pinned = (ctypes.c_char * len(plane)).from_buffer(plane)
        data = self._pack_buffer(queue, buffer, seconds, microseconds, 0, ctypes.addressof(pinned), 1)
        self.ioctl(code, data)
        index, _, _, flags, _, seconds, microseconds, _, _, _, sequence, *_ = _BUFFER.unpack(data)
        used, length, offset, *_ = _PLANE.unpack(plane)
        return Buffer(index, used, flags, seconds * 1_000_000 + microseconds, sequence, length, offset & 0xFFFFFFFF)

    @staticmethod
    def _pack_buffer(
        queue: BufferType, buffer: Buffer, seconds: int, microseconds: int, used: int, pointer: int, length: int
    ) -> bytearray:
        return bytearray(
            _BUFFER.pack(
                buffer.index, queue, used, 0, FIELD_NONE if queue is BufferType.OUTPUT_MPLANE else 0, seconds, microseconds,
                0, 0, b"", 0, MEMORY_MMAP, pointer, length, 0, 0,
            )
        )  # fmt: skip


def _fraction(seconds: float) -> tuple[int, int]:
    """An interval as the kernel wants it: exact for whole rates and for 30000/1001 and its like."""
    fps = 1 / seconds
    if abs(fps - round(fps)) < 1e-3:
        return 1, round(fps)
    if abs(fps * _FRACTIONS / 1000 - round(fps * _FRACTIONS / 1000)) < 1e-3:
        return _FRACTIONS, round(fps * _FRACTIONS)
    return 1000, round(fps * 1000)


def _control_name(name: str) -> str:
    """`Exposure Time, Absolute` as `exposure_time_absolute`, the way v4l2-ctl writes it."""
    words = "".join(character if character.isalnum() else " " for character in name.lower()).split()
    return "_".join(words)
