"""Driver `sim-rover-camera`: what a `sim-rover` sees, drawn right before it is encoded, and stamped as `test-pattern`."""

from __future__ import annotations

__all__ = ["SimRoverCamera"]

import math
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from edgeagent.drivers import Bitrate, Camera, CameraIO, Capabilities, PictureSize, Renditions, stamp
from edgeagent_devices._sim_link import connect
from edgeagent_devices._sim_map import make_ground
from edgeagent_devices._sim_physics import TOP_SPEED

if TYPE_CHECKING:
    from edgeagent_devices._sim_picture import Picture

_SHAKE_S = 0.35


class SimRoverCamera(Camera):
    """The camera on the mast of a simulated rover."""

    summary: ClassVar[str] = "What a simulated rover (sim-rover) sees"
    stamped: ClassVar[bool] = True

    class Options(BaseModel, extra="forbid"):
        """The keys of a `sim-rover-camera`."""

        rover: str = Field(
            default="rover", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="Name of the device with `driver: sim-rover`"
        )
        size: PictureSize = Field(default=(1280, 720), description="Width and height in pixels, like 1280x720")
        fps: float = Field(default=30, ge=1, le=60, description="Pictures a second")
        bitrate: Bitrate = Field(default=4_000_000, description="bit/s, like 4M")
        map: bool = Field(default=True, description="Whether a small map stands in the corner")

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._picture: Picture | None = None
        self._painting = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """Keyframes and rates as asked, and a small layer for slow networks."""
        return self._renditions().capabilities

    def prepare(self) -> None:
        """Paint the world that a `sim-rover` has by itself: about two seconds on a PC."""
        self._paint(1, 16)

    def run(self, io: CameraIO) -> None:
        """Draw, encode and hand over until `io.stopping`."""
        fps, renditions = self.options.fps, self._renditions()
        link = connect(self.options.rover)
        number = 0
        began = io.now()
        try:
            while not io.stopping.is_set():
                state = link.ask("state")
                now, unix_s = io.now(), time.time()
                picture = self._paint(state["seed"], state["size"])
                picture.draw(state, _shake(state), stamp.pack(number, int(unix_s * 1000)))
                timestamp = round(number * 90_000 / fps)
                for frame in renditions.encode(io, picture.frame, number=number, timestamp=timestamp, captured_at=now):
                    io.emit(frame)
                # The next tick of the grid, leaving out those that have passed: late pictures never pile up.
                number = max(number + 1, int((io.now() - began) * fps))
                io.stopping.wait(max(0.0, began + number / fps - io.now()))
        finally:
            link.close()
            renditions.close()

    def _paint(self, seed: int, size: int) -> Picture:
        with self._painting:
            ground = make_ground(seed, size)
            if self._picture is None or self._picture.ground != ground:
                from edgeagent_devices._sim_picture import Picture

                self._picture = Picture(ground, *self.options.size, self.options.map)
            return self._picture

    def _renditions(self) -> Renditions:
        (width, height), fps, bitrate = self.options.size, self.options.fps, self.options.bitrate
        colours = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
        return Renditions(width, height, fps, bitrate, colours)


def _shake(state: Mapping[str, Any]) -> float:
    """Degrees by which the mast nods: it trembles while the rover goes, and jerks when it runs into something."""
    at, speed, bumped_at = float(state["at"]), float(state["speed"]), state["bumped_at"]
    nod = 0.12 * math.sin(31 * at) * abs(speed) / TOP_SPEED
    since = at - float(bumped_at) if bumped_at is not None else math.inf
    return nod + (2.2 * math.sin(40 * since) * (1 - since / _SHAKE_S) if 0 <= since < _SHAKE_S else 0.0)
