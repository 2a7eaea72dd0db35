"""Driver `picamera2`: cameras on the CSI port of a Raspberry Pi, through libcamera and picamera2.

The camera makes one picture in two sizes, `main` and `lores`; each layer has an encoder. picamera2's event loop brings the
pictures; this driver's thread looks on, changes bitrates, notices when nothing comes any more, and closes all in bounded time.
"""

from __future__ import annotations

__all__ = ["Picamera2Camera"]

import contextlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, Found, StreamInfo
from edgeagent_devices import _picamera2_board as board
from edgeagent_devices._picamera2_controls import Wish, wishes, within
from edgeagent_devices._picamera2_encoders import CaptureClock, HardwareLayer, Layer, SoftwareLayer, StreamShape
from edgeagent_devices._picamera2_options import Picamera2Options

_log = logging.getLogger(__name__)

_LOOK_S = 0.03
_FIRST_S = 8.0  # a camera may take to its first picture
_SILENT_S = 3.0  # and may be silent later on; below the limits of the agent, which knows less about it
_STILL = "The board's video encoder stands still."
_CODEC = "/dev/video11"
_COLOURS = {
    "rec709": ("bt709", "bt709", "bt709"),
    "smpte170m": ("smpte170m", "smpte170m", "smpte170m"),
}  # libcamera's colour space: matrix, primaries, transfer; both of limited range


class Picamera2Camera(Camera):
    """A CSI camera."""

    summary: ClassVar[str] = "A camera on the CSI port of a Raspberry Pi; needs apt's python3-picamera2"

    class Options(Picamera2Options):
        """The keys of a `picamera2` camera."""

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._camera_id: str | None = None  # the one that was opened stays ours, whatever number it has later
        self._said: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        """Keyframes and rates as asked, for one layer or two."""
        lores = self.options.lores_size
        layers, sizes = ("main", "lores") if lores else ("main",), (self.options.size, lores) if lores else (self.options.size,)
        return Capabilities(keyframe_on_demand=True, live_bitrate=True, layers=layers, sizes=sizes)

    def prepare(self) -> None:
        """Load picamera2: a second or two on a board."""
        with contextlib.suppress(DeviceFault):  # `run` tells it
            board.load()

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        """The board's CSI cameras."""
        picamera2 = board.load()
        try:
            cameras = board.find(picamera2)
        except Exception as error:
            raise DeviceFault(board.sentence_of(error)) from error
        return [
            Found(f"{info.get('Model', 'camera')} on {board.short_id(info['Id'])}", {"camera": board.short_id(info["Id"])})
            for info in cameras
        ]

    def run(self, io: CameraIO) -> None:
        """Open the camera, deliver until `io.stopping`, close it."""
        picamera2 = board.load()
        device = board.open_camera(picamera2, self.options, self._camera_id or self.options.camera, self._say)
        self._camera_id = device.camera_id
        layers: list[Layer] = []
        try:
            self._deliver(io, picamera2, device.cam, layers)
        except DeviceFault:
            raise
        except Exception as error:
            _log.debug("camera %s", self.name, exc_info=True)
            raise DeviceFault(board.sentence_of(error)) from error
        finally:
            for layer in layers:
                layer.muted = True
            device.close([layer.stop for layer in layers])

    def _deliver(self, io: CameraIO, picamera2: Any, cam: Any, layers: list[Layer]) -> None:
        for shape in self._configure(cam):
            io.describe(StreamInfo(shape.width, shape.height, shape.fps), shape.name)
            layers.append(self._layer(io, picamera2, shape))
        clock = CaptureClock(io.now)
        seen_at, silent_s = io.now(), _FIRST_S

        def picture(request: Any) -> None:
            nonlocal seen_at, silent_s
            seen_at, silent_s = io.now(), _SILENT_S + 2 / self.options.fps
            timestamp, captured_at = clock.stamp(_sensor_ns(request))
            for layer in layers:
                try:
                    layer.feed(request, timestamp, captured_at)
                except Exception as error:  # out of here it would end picamera2's event loop
                    layer.fail(error)

        for layer in layers:
            layer.start(cam)
        cam.pre_callback = picture
        cam.start()
        while not io.stopping.wait(_LOOK_S):
            for layer in layers:
                layer.tend()
            now = io.now()
            if now - seen_at > silent_s:
                if any(layer.held > 1 for layer in layers):
                    raise DeviceFault(_STILL)
                raise DeviceFault(
                    "The camera sends no pictures any more; its cable may be loose. Check that it sits straight at both ends."
                )
            if all(layer.resting for layer in layers):
                io.alive()
            elif now - max(layer.arrived_at for layer in layers if not layer.resting) > silent_s + 1:
                raise DeviceFault(_STILL)

    def _configure(self, cam: Any) -> list[StreamShape]:
        """Tell libcamera what is wanted, and read back what it made of it."""
        import libcamera

        options = self.options
        lores = options.lores_size
        half_turn = options.rotation == 180
        transform = libcamera.Transform(hflip=options.hflip != half_turn, vflip=options.vflip != half_turn)
        config = cam.create_video_configuration(
            main={"size": options.size, "format": "YUV420"},
            lores={"size": lores, "format": "YUV420"} if lores else None,
            transform=transform,
            buffer_count=4 if max(options.size) > 1280 else 6,  # the camera's memory is small
            queue=False,
            display=None,
            encode="main",
        )  # fmt: skip
        config["controls"] = {}  # picamera2's own; ours are set below, those that the camera has
        cam.configure(config)
        made = cam.camera_configuration()
        if made["transform"] != transform:
            self._say("This camera cannot turn or mirror its pictures: `rotation`, `hflip` and `vflip` are left out.")
        fps = self._set_controls(cam)
        colours = _colours(made.get("colour_space"))
        shapes = []
        for name, wanted in (("main", options.size), ("lores", lores)):
            if wanted is None:
                continue
            stream = made[name]
            width, height = stream["size"]
            if (width, height) != tuple(wanted):
                self._say(f"This camera delivers {width}x{height} instead of {wanted[0]}x{wanted[1]} as `{name}`.")
            shapes.append(StreamShape(name, width, height, stream["stride"], stream["format"], fps, colours))
        return shapes

    def _set_controls(self, cam: Any) -> float:
        """Set what the options wish and the camera has, and return the frame rate that it manages."""
        offered: Mapping[str, tuple[Any, Any, Any]] = cam.camera_controls
        made = wishes(self.options, cam.camera_properties)
        if (
            self.options.hdr == "auto"
            and "HdrMode" in offered
            and not str(cam.camera_properties.get("Model", "")).startswith("imx708")
        ):
            made.append(Wish("hdr", "HdrMode", ("HdrMode", "SingleExposure")))
        values: dict[str, Any] = {}
        for wish in made:
            if wish.control not in offered:
                if wish.option:
                    self._say(f"This camera cannot do what `{wish.option}` asks for: it is left out.")
                continue
            low, high, _ = offered[wish.control]
            value = within(_looked_up(wish.value), low, high)
            if value != _looked_up(wish.value):
                self._say(f"`{wish.option}` goes from {low} to {high} on this camera: {value} is taken.")
            values[wish.control] = value
        fps = self.options.fps
        if "FrameDurationLimits" in offered:
            shortest, longest, _ = offered["FrameDurationLimits"]
            duration = within(round(1e6 / fps), shortest, longest)
            values["FrameDurationLimits"] = (duration, duration)
            if not math.isclose(fps, 1e6 / duration, rel_tol=0.01):
                fps = round(1e6 / duration, 3)
                self._say(f"This camera manages {fps:g} pictures a second at this size.")
        cam.set_controls(values)
        return fps

    def _layer(self, io: CameraIO, picamera2: Any, shape: StreamShape) -> Layer:
        options = self.options
        bitrate = options.bitrate if shape.name == "main" or options.lores is None else options.lores.bitrate
        hardware = _has_encoder(picamera2)
        if hardware and not options.fits_hardware:
            hardware = False
            self._say("The board's encoder takes at most 1920 pixels a side: the processor encodes pictures of this size, slowly.")
        return (HardwareLayer if hardware else SoftwareLayer)(io, shape, bitrate, options.intra)

    def _say(self, sentence: str) -> None:
        """Tell the owner, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            _log.warning("camera %s: %s", self.name, sentence)


def _has_encoder(picamera2: Any) -> bool:
    """Whether the board encodes H.264 itself: all before the Pi 5, whose /dev/video11 would be something else."""
    from picamera2.platform import Platform

    return picamera2.Picamera2.platform == Platform.VC4 and os.path.exists(_CODEC)


def _sensor_ns(request: Any) -> int | None:
    from libcamera import controls

    value = request.request.metadata.get(controls.SensorTimestamp)
    return None if value is None else int(value)


def _looked_up(value: Any) -> Any:
    """`("AfMode", "Auto")` as the member of libcamera's enumeration."""
    if not (isinstance(value, tuple) and value and isinstance(value[0], str)):
        return value
    from libcamera import controls

    *groups, member = value
    here = controls
    for group in groups[:-1]:
        here = getattr(here, group)
    return getattr(getattr(here, f"{groups[-1]}Enum"), member)


def _colours(space: Any) -> dict[str, str]:
    """What the encoder writes into the stream about colours."""
    matrix, primaries, transfer = _COLOURS["rec709" if "709" in str(space) else "smpte170m"]
    return {"colorspace": matrix, "color_primaries": primaries, "color_trc": transfer, "color_range": "tv"}
