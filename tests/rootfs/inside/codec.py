"""What stands in for /dev/video11, the encoder of a Pi 4 and older: the ioctls that picamera2 uses of it, answered by x264.

`install()` puts it where picamera2's module looks for `open`, `fcntl` and `select`; the rest of picamera2's V4L2 code is its own,
buffers and `mmap` are real. It works as a kernel driver does: asynchronously, on a thread of its own.
"""

from __future__ import annotations

__all__ = ["Codec", "CodecRules", "install"]

import contextlib
import errno
import mmap
import os
import queue
import select
import threading
import types
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from edgeagent.core import h264
from edgeagent.media.encoder import X264Encoder

_CAPTURE_BYTES = 512 << 10
_LIMIT = 1920


@dataclass
class CodecRules:
    """How the device behaves.

    Attributes:
        absent: Opening it fails so.
        stalled: It takes pictures and gives nothing back.
        broken: Queueing a picture fails.
        opened: Every device opened, the newest last.
    """

    absent: OSError | None = None
    stalled: bool = False
    broken: bool = False
    opened: list[Codec] = field(default_factory=list)


class Codec:
    """One open device: its settings, its two queues, its x264.

    Attributes:
        controls: What was set, by control id.
        fps: The frame rate that was declared; 0 where none was.
        keyframes_asked: How often one was forced.
    """

    def __init__(self, rules: CodecRules) -> None:
        import videodev2

        self.controls: dict[int, int] = {}
        self.fps = 0.0
        self.keyframes_asked = 0
        self.closed = False
        self._v, self._rules = videodev2, rules
        self._memory = os.memfd_create("codec")
        self._capture: mmap.mmap | None = None
        self._size, self._stride, self._pixels = (0, 0), 0, ""
        self._work: queue.Queue[tuple[int, int, int, tuple[int, int]] | None] = queue.Queue()
        self.changed = threading.Condition()
        self.taken: deque[int] = deque()  # indices of pictures that are done with
        self.coded: deque[tuple[int, int, bool, tuple[int, int]]] = deque()
        self._empty: deque[int] = deque()
        self._streaming: set[int] = set()
        self._encoder: X264Encoder | None = None
        self._since_keyframe = 0
        self._thread = threading.Thread(target=self._encode_all, name="edgeagent-codec", daemon=True)

    def fileno(self) -> int:
        return self._memory

    def close(self) -> None:
        assert not self._streaming, "closed while it streams"
        self.closed = True
        os.close(self._memory)

    def ioctl(self, request: int, argument: Any) -> int:
        """Answer one call; raises OSError as the kernel does."""
        v = self._v
        handlers = {
            v.VIDIOC_QUERYCAP: lambda _: None,
            v.VIDIOC_S_CTRL: lambda control: self._control(control.id, control.value),
            v.VIDIOC_S_EXT_CTRLS: self._many_controls,
            v.VIDIOC_S_FMT: self._format,
            v.VIDIOC_S_PARM: self._parameters,
            v.VIDIOC_REQBUFS: self._request_buffers,
            v.VIDIOC_QUERYBUF: self._query_buffer,
            v.VIDIOC_QBUF: self._queue,
            v.VIDIOC_DQBUF: self._dequeue,
            v.VIDIOC_STREAMON: self._stream_on,
            v.VIDIOC_STREAMOFF: self._stream_off,
        }
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        handlers[request](argument)
        return 0

    def _control(self, control: int, value: int) -> None:
        if control == self._v.V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME:
            self.keyframes_asked += 1
        if control == self._v.V4L2_CID_MPEG_VIDEO_BITRATE and not 25_000 <= value <= 25_000_000:
            raise OSError(errno.ERANGE, "bitrate")
        self.controls[control] = value

    def _many_controls(self, asked: Any) -> None:
        for index in range(asked.count):
            self._control(asked.controls[index].id, asked.controls[index].value)

    def _format(self, asked: Any) -> None:
        if asked.type == self._v.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE:
            return
        pixels = asked.fmt.pix_mp
        if max(pixels.width, pixels.height) > _LIMIT:
            raise OSError(errno.EINVAL, "too large")
        self._size, self._stride = (pixels.width, pixels.height), pixels.plane_fmt[0].bytesperline
        self._pixels = {self._v.V4L2_PIX_FMT_NV12: "nv12", self._v.V4L2_PIX_FMT_YUV420: "yuv420p"}[pixels.pixelformat]

    def _parameters(self, asked: Any) -> None:
        interval = asked.parm.output.timeperframe
        self.fps = interval.denominator / interval.numerator

    def _request_buffers(self, asked: Any) -> None:
        if asked.type == self._v.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE and asked.count:
            os.ftruncate(self._memory, asked.count * _CAPTURE_BYTES)
            self._capture = mmap.mmap(self._memory, asked.count * _CAPTURE_BYTES)

    def _query_buffer(self, buffer: Any) -> None:
        buffer.m.planes[0].length = _CAPTURE_BYTES
        buffer.m.planes[0].m.mem_offset = buffer.index * _CAPTURE_BYTES

    def _queue(self, buffer: Any) -> None:
        if buffer.type == self._v.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE:
            with self.changed:
                self._empty.append(buffer.index)
                self.changed.notify_all()
            return
        if self._rules.broken:
            raise OSError(errno.EIO, "the encoder failed")
        plane = buffer.m.planes[0]
        # The kernel holds the memory, whatever happens to the caller's descriptor.
        self._work.put((buffer.index, os.dup(plane.m.fd), plane.length, (buffer.timestamp.tv_sec, buffer.timestamp.tv_usec)))

    def _dequeue(self, buffer: Any) -> None:
        with self.changed:
            if buffer.type == self._v.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE:
                if not self.taken:
                    raise OSError(errno.EAGAIN, "nothing taken")
                buffer.index = self.taken.popleft()
                return
            if not self.coded:
                raise OSError(errno.EAGAIN, "nothing coded")
            buffer.index, used, keyframe, stamp = self.coded.popleft()
        buffer.m.planes[0].bytesused, buffer.m.planes[0].length = used, _CAPTURE_BYTES
        buffer.flags = self._v.V4L2_BUF_FLAG_KEYFRAME if keyframe else 0
        buffer.timestamp.tv_sec, buffer.timestamp.tv_usec = stamp

    def _stream_on(self, kind: Any) -> None:
        if not self._streaming:
            self._thread.start()
        self._streaming.add(kind.value)

    def _stream_off(self, kind: Any) -> None:
        self._streaming.discard(kind.value)
        if not self._streaming:
            self._work.put(None)
            with self.changed:
                self.changed.notify_all()
            self._thread.join(10)

    def _encode_all(self) -> None:
        while (work := self._work.get()) is not None:
            index, descriptor, length, stamp = work
            try:
                if not self._rules.stalled:
                    self._encode(index, descriptor, length, stamp)
            finally:
                os.close(descriptor)
        if self._encoder:
            self._encoder.close()
        if self._capture:
            self._capture.close()

    def _encode(self, index: int, descriptor: int, length: int, stamp: tuple[int, int]) -> None:
        v, (width, height) = self._v, self._size
        bitrate = self.controls[v.V4L2_CID_MPEG_VIDEO_BITRATE]
        if self._encoder is None:
            self._encoder = X264Encoder(width=width, height=height, fps=self.fps or 30, bitrate=bitrate, max_bitrate=8_000_000)
        self._encoder.set_bitrate(bitrate)
        frame = av.VideoFrame(width, height, self._pixels)
        with mmap.mmap(descriptor, length) as picture:
            at = 0
            for number, plane in enumerate(frame.planes):
                lines = height if number == 0 else height // 2
                stride = self._stride if number == 0 or self._pixels == "nv12" else self._stride // 2
                source = np.frombuffer(bytes(picture[at : at + lines * stride]), np.uint8).reshape(lines, stride)
                target = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
                shared = min(stride, plane.line_size)
                target[:lines, :shared] = source[:, :shared]
                at += lines * stride
        self._since_keyframe += 1
        keyframe = self._since_keyframe > self.controls.get(v.V4L2_CID_MPEG_VIDEO_H264_I_PERIOD, 60)
        keyframe = bool(self.controls.pop(v.V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME, 0)) or keyframe
        (coded,) = self._encoder.encode(frame, timestamp=stamp[0] * 1_000_000 + stamp[1] + 1, captured_at=0.0, keyframe=keyframe)
        data = coded.data
        if coded.keyframe:
            self._since_keyframe = 1
            if not self.controls.get(v.V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER):
                data = h264.join_nals(nal for nal in h264.split_nals(data) if h264.nal_type(nal) not in (7, 8))
        with self.changed:
            self.taken.append(index)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self._empty or not self._streaming)
            if not self._streaming:
                return
            place = self._empty.popleft()
            assert self._capture
            self._capture[place * _CAPTURE_BYTES : place * _CAPTURE_BYTES + len(data)] = data
            self.coded.append((place, len(data), coded.keyframe, stamp))
            self.changed.notify_all()


class _Poll:
    """`select.poll()` for one device."""

    def __init__(self) -> None:
        self._codec: Codec | None = None

    def register(self, codec: Codec, _events: int) -> None:
        self._codec = codec

    def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
        codec = self._codec
        assert codec
        with codec.changed:
            codec.changed.wait_for(lambda: codec.taken or codec.coded, timeout_ms / 1000)
            events = (select.POLLOUT if codec.taken else 0) | (select.POLLIN if codec.coded else 0)
        return [(codec.fileno(), events)] if events else []


@contextlib.contextmanager
def install() -> Any:
    """Let picamera2 find the device while the block lasts; gives its `CodecRules`."""
    from picamera2.encoders import v4l2_encoder

    rules = CodecRules()

    def opened(path: str, *_: object, **__: object) -> Codec:
        assert path == "/dev/video11"
        if rules.absent:
            raise rules.absent
        rules.opened.append(Codec(rules))
        return rules.opened[-1]

    module: Any = v4l2_encoder
    saved = module.fcntl, module.select
    module.open = opened
    module.fcntl = types.SimpleNamespace(ioctl=lambda codec, request, argument: codec.ioctl(request, argument))
    module.select = types.SimpleNamespace(poll=_Poll, POLLIN=select.POLLIN, POLLOUT=select.POLLOUT)
    try:
        yield rules
    finally:
        del module.open
        module.fcntl, module.select = saved
