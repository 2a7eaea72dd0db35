"""The layers of a CSI camera, each with an encoder of its own.

Boards with a hardware encoder (Pi 4, 3, Zero 2 W) use picamera2's `H264Encoder`, which hands the camera's buffers to the
kernel without a copy. Elsewhere pictures go to the agent's own x264 rather than to picamera2's `LibavH264Encoder`. That one dies,
and the camera's event loop with it, when a keyframe is asked for under PyAV 14 and later; delays pictures by up to five, because
it switches x264's frame threads on again; ignores a change of its rate; and trips over buffers of `LibcameraAllocator`, which are
unmapped under it. Here a picture is copied, a millisecond's work, and encoded on a thread of the layer, while the camera has its
buffer back; where that is too slow, the newest picture wins.

All that picamera2 calls (`feed`, `arrived`) neither raises nor blocks: an exception would end its event loop for good.
"""

from __future__ import annotations

__all__ = ["CaptureClock", "HardwareLayer", "Layer", "SoftwareLayer", "StreamShape", "copy_picture"]

import abc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeagent.drivers import CameraIO, DeviceFault, EncodedFrame, ParameterSets, StreamInfo, VideoEncoder, h264, stream_info

if TYPE_CHECKING:
    import av

_log = logging.getLogger(__name__)

GOP_S = 10.0
"""Seconds between keyframes that nobody asked for."""
_FOREIGN_S = 10.0  # a sensor's time stamp older than that is of another clock
_MIN_HARDWARE_BPS, _MAX_HARDWARE_BPS = 150_000, 25_000_000  # below, the firmware gives up pictures; above is beyond the driver
_JOIN_S = 1.0
_PENDING = 64
_BITRATE_CID = 0x009909CF  # V4L2_CID_MPEG_VIDEO_BITRATE
_PIXELS = {"YUV420": "yuv420p", "NV12": "nv12"}


@dataclass(frozen=True, slots=True)
class StreamShape:
    """What a stream of the camera is like, as libcamera made it.

    Attributes:
        name: `main` or `lores`.
        width: Pixels.
        height: Pixels.
        stride: Bytes from line to line.
        pixels: libcamera's name of the pixel format.
        fps: Nominal.
        colours: Options for libav that name the colour space.
    """

    name: str
    width: int
    height: int
    stride: int
    pixels: str
    fps: float
    colours: dict[str, str]


class CaptureClock:
    """From a sensor's time stamps (CLOCK_BOOTTIME, nanoseconds) to media time and the agent's clock."""

    def __init__(self, now: Callable[[], float], boottime_ns: Callable[[], int] | None = None) -> None:
        self._now = now
        self._boottime_ns = boottime_ns or (lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        self._first_ns: int | None = None
        self._offset_s = float("inf")

    def stamp(self, sensor_ns: int | None) -> tuple[int, float]:
        """Media time in ticks of 90 kHz since the first picture, and the capture time on the agent's clock.

        A picture without a usable time stamp counts as taken now.
        """
        boottime_ns = self._boottime_ns()
        # A thread held up between the two clocks makes it larger, sleep of the board smaller: the smallest is right.
        self._offset_s = min(self._offset_s, self._now() - boottime_ns / 1e9)
        if sensor_ns is None or not 0 <= boottime_ns - sensor_ns < _FOREIGN_S * 1e9:
            sensor_ns = boottime_ns
        if self._first_ns is None:
            self._first_ns = sensor_ns
        return (sensor_ns - self._first_ns) * 9 // 100_000, sensor_ns / 1e9 + self._offset_s


class Layer(abc.ABC):
    """One rendition of the camera.

    Args:
        io: The agent.
        shape: Of the camera's stream.
        bitrate: bit/s while the hub has no wish.
        intra: Pictures from keyframe to keyframe, None for ten seconds.
    """

    def __init__(self, io: CameraIO, shape: StreamShape, bitrate: int, intra: int | None) -> None:
        self.name = shape.name
        self.arrived_at = io.now()
        """When the newest encoded picture came, on the agent's clock."""
        self.muted = False
        """Set once the driver returns: nothing is delivered any more, whatever still runs."""
        self._io, self._shape, self._bitrate = io, shape, bitrate
        self._intra = intra or max(1, round(GOP_S * shape.fps))
        self._failure: BaseException | None = None
        self.resting = False
        """Whether pictures are left out because nobody wants the layer."""
        self._sets = ParameterSets()
        self._info: StreamInfo | None = None
        self._last = (-1, float("-inf"))

    @abc.abstractmethod
    def start(self, cam: Any) -> None:
        """Make ready, before the camera is started. Raises DeviceFault where the encoder does not start."""

    @abc.abstractmethod
    def feed(self, request: Any, timestamp: int, captured_at: float) -> None:
        """Take a completed request of picamera2, on its event loop."""

    @property
    def held(self) -> int:
        """Buffers of the camera that the encoder has not given back. Once it has them all, no pictures come."""
        return 0

    @abc.abstractmethod
    def stop(self) -> None:
        """End, once no more requests come; bounded."""

    def tend(self) -> None:
        """Look after the encoder, on the driver's thread, every few hundredths of a second. Raises what went wrong elsewhere."""
        if self._failure:
            if isinstance(self._failure, DeviceFault):
                raise self._failure
            raise DeviceFault(f"The video encoder failed ({self._failure}).") from self._failure

    def _woken(self) -> bool:
        """Look whether the layer is wanted; true for the first picture after a rest, which has to be a keyframe."""
        rested, self.resting = self.resting, not self._io.wanted(self.name)
        if self.resting:
            self.arrived_at = self._io.now()
        return rested and not self.resting

    def fail(self, error: BaseException) -> None:
        """Remember the first thing that went wrong, for `tend`."""
        self._failure = self._failure or error

    def _deliver(self, data: bytes, keyframe: bool, timestamp: int, captured_at: float) -> None:
        self.arrived_at = self._io.now()
        if keyframe:
            own = ParameterSets.of(h264.split_nals(data))
            self._sets = self._sets.merged(own)
            data = data if own else h264.with_parameter_sets(data, self._sets)
            info = stream_info(data, self._shape.fps)
            if info and info != self._info:
                self._info = info
                self._io.describe(info, self.name)
        if self._info is None or self.muted:  # nothing can be decoded yet, or nobody listens any more
            return
        self._last = (max(timestamp, self._last[0] + 1), max(captured_at, self._last[1]))
        self._io.emit(EncodedFrame(data, keyframe, *self._last, self.name))


class SoftwareLayer(Layer):
    """A layer encoded by x264, or whatever `CameraIO.encoder` has, on a thread of its own."""

    def __init__(self, io: CameraIO, shape: StreamShape, bitrate: int, intra: int | None) -> None:
        super().__init__(io, shape, bitrate, intra)
        self._changed = threading.Condition()
        self._free: list[av.VideoFrame] = []
        self._waiting: tuple[av.VideoFrame, int, float, bool] | None = None
        self._stopped = False
        self._since_keyframe = 0
        self._thread = threading.Thread(target=self._work, name=f"edgeagent-csi-{self.name}", daemon=True)
        self.left_out = 0
        """Pictures that came while the encoder was busy with older ones."""

    def start(self, cam: Any) -> None:
        import av

        if self._shape.pixels not in _PIXELS:
            raise DeviceFault(f"The camera delivers pictures as {self._shape.pixels}, which cannot be encoded.", retry=False)
        pixels = _PIXELS[self._shape.pixels]
        self._free = [av.VideoFrame(self._shape.width, self._shape.height, pixels) for _ in range(2)]
        self._thread.start()

    def feed(self, request: Any, timestamp: int, captured_at: float) -> None:
        from picamera2 import MappedArray

        woke = self._woken()
        if self.resting:
            return
        with self._changed:
            if self._waiting:  # the encoder is behind: the newest picture takes the place of the one that waits
                self.left_out += 1
                self._io.too_slow(self.name)
                frame, _, _, waited = self._waiting
                woke, self._waiting = woke or waited, None
            elif self._free:
                frame = self._free.pop()
            else:
                return
        with MappedArray(request, self.name, reshape=False, write=False) as mapped:
            copy_picture(mapped.array, self._shape, frame)
        with self._changed:
            self._waiting = (frame, timestamp, captured_at, woke)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _work(self) -> None:
        encoder: VideoEncoder | None = None
        try:
            shape = self._shape
            encoder = self._io.encoder(
                width=shape.width, height=shape.height, fps=shape.fps, bitrate=self._bitrate, layer=self.name, options=shape.colours
            )
            while (taken := self._take()) is not None:
                frame, timestamp, captured_at, woke = taken
                encoder.set_bitrate(self._io.target_bitrate(self.name) or self._bitrate)
                keyframe = self._io.take_keyframe_request(self.name) or woke or self._since_keyframe >= self._intra
                self._since_keyframe += 1
                for encoded in encoder.encode(frame, timestamp=timestamp, captured_at=captured_at, keyframe=keyframe):
                    if encoded.keyframe:
                        self._since_keyframe = 1
                    self._deliver(encoded.data, encoded.keyframe, encoded.timestamp, encoded.captured_at)
                with self._changed:
                    self._free.append(frame)
        except Exception as error:
            self.fail(error)
        finally:
            if encoder:
                encoder.close()

    def _take(self) -> tuple[av.VideoFrame, int, float, bool] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            taken, self._waiting = self._waiting, None
            return None if self._stopped else taken


class HardwareLayer(Layer):
    """A layer encoded by the board (V4L2), through picamera2's `H264Encoder`."""

    def __init__(self, io: CameraIO, shape: StreamShape, bitrate: int, intra: int | None) -> None:
        super().__init__(io, shape, bitrate, intra)
        self._encoder: Any = None
        self._rate = 0
        self._stamps: dict[int, tuple[int, float]] = {}

    def start(self, cam: Any) -> None:
        from picamera2.encoders.h264_encoder import H264Encoder
        from picamera2.outputs import Output

        layer = self

        class AccessUnits(Output):  # type: ignore[misc]
            """Where picamera2 delivers; one call is one access unit."""

            def outputframe(
                self, frame: Any, keyframe: bool = True, timestamp: Any = None, packet: Any = None, audio: bool = False
            ) -> None:
                try:
                    layer.arrived(frame, keyframe, timestamp)
                except Exception as error:
                    layer.fail(error)

        class Encoder(H264Encoder):  # type: ignore[misc]
            """An encoder whose failure does not end picamera2's event loop."""

            def _encode(self, stream: Any, request: Any) -> None:
                if layer.resting or layer._failure:
                    return
                try:
                    super()._encode(stream, request)
                except Exception as error:
                    layer.fail(error)

        self._rate = self._wished_rate()
        # The rate control of the firmware goes by the nominal frame rate, and that it learns only with the flag.
        self._encoder = Encoder(
            bitrate=self._rate, repeat=True, iperiod=self._intra, framerate=self._shape.fps, enable_sps_framerate=True,
            profile="constrained baseline",
        )  # fmt: skip
        try:
            cam.start_encoder(self._encoder, AccessUnits(), name=self.name)
        except Exception as error:
            _log.debug("the hardware encoder does not start", exc_info=True)
            raise DeviceFault(
                f"The board's video encoder does not start ({error}). Give the agent's user the group video, and end other "
                "programs that encode."
            ) from error

    def feed(self, request: Any, timestamp: int, captured_at: float) -> None:
        """Only what belongs to the picture: picamera2 encodes it right afterwards."""
        woke = self._woken()
        if self.resting:
            return
        if self._io.take_keyframe_request(self.name) or woke:
            self._encoder.force_key_frame()
        sensor_us = _sensor_us(request)
        if sensor_us is not None:
            self._stamps[sensor_us] = (timestamp, captured_at)
            while len(self._stamps) > _PENDING:
                del self._stamps[next(iter(self._stamps))]

    def arrived(self, frame: Any, keyframe: bool, timestamp_us: int) -> None:
        """Take an access unit, on picamera2's thread for the encoder."""
        sensor_us = timestamp_us + (self._encoder.firsttimestamp or 0)
        timestamp, captured_at = self._stamps.pop(sensor_us, (self._last[0] + 1, self._io.now()))
        self._deliver(bytes(frame), keyframe, timestamp, captured_at)

    @property
    def held(self) -> int:
        return self._encoder.buf_frame.qsize() if self._encoder is not None and self._encoder.running else 0

    def tend(self) -> None:
        super().tend()
        rate = self._wished_rate()
        encoder = self._encoder
        if rate == self._rate or not encoder.running or encoder.vd is None or encoder.vd.closed:
            return
        # picamera2 has no call for it; its maintainers advise the ioctl.
        from picamera2.encoders import v4l2_encoder

        control = v4l2_encoder.v4l2_control()
        control.id, control.value = _BITRATE_CID, rate
        try:
            v4l2_encoder.fcntl.ioctl(encoder.vd, v4l2_encoder.VIDIOC_S_CTRL, control)
        except OSError as error:
            raise DeviceFault(f"The board's video encoder refuses another rate ({error}).") from error
        self._rate = encoder.bitrate = rate

    def stop(self) -> None:
        if self._encoder is not None and self._encoder.running:
            self._encoder.stop()

    def _wished_rate(self) -> int:
        return min(max(self._io.target_bitrate(self.name) or self._bitrate, _MIN_HARDWARE_BPS), _MAX_HARDWARE_BPS)


def _sensor_us(request: Any) -> int | None:
    """The picture's time stamp as picamera2's encoders reckon it."""
    from libcamera import controls

    sensor_ns = request.request.metadata.get(controls.SensorTimestamp)
    return None if sensor_ns is None else int(sensor_ns / 1000)


def copy_picture(data: Any, shape: StreamShape, frame: av.VideoFrame) -> None:
    """Copy a camera's buffer into a frame of libav.

    Args:
        data: The buffer, a numpy array of bytes: planes one after the other, lines `stride` bytes apart (half of it for U and V).
        shape: What the buffer holds.
        frame: As large, `yuv420p` for YUV420, `nv12` for NV12.
    """
    import numpy as np

    at = 0
    for index, plane in enumerate(frame.planes):
        lines = shape.height if index == 0 else shape.height // 2
        stride = shape.stride if index == 0 or shape.pixels == "NV12" else shape.stride // 2
        wide = shape.width if index == 0 or shape.pixels == "NV12" else shape.width // 2
        source = data[at : at + lines * stride].reshape(lines, stride)
        target = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        target[:lines, :wide] = source[:, :wide]
        at += lines * stride
