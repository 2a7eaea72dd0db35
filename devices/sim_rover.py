"""Driver `sim-rover`: a rover to drive without any hardware, in a small world (`_sim_world.py`) that `sim-rover-camera` shows."""

from __future__ import annotations

__all__ = ["SimRover"]

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, Axis, DeviceFault, Reading, Readings, Sensor, command
from edgeagent_devices._sim_link import Link, connect
from edgeagent_devices._sim_map import MAX_SIZE, MIN_SIZE, TARGETS
from edgeagent_devices._sim_physics import PAN_DEG, RANGE_M, TILT_DEG, TOP_SPEED

_READINGS = {
    "battery": Reading(
        "Battery", unit="%", digits=0, minimum=0, maximum=100, warn_below=20, stop_below=5, dead_band=0.5, device_class="battery"
    ),
    "speed": Reading("Speed", unit="m/s", digits=2, minimum=-TOP_SPEED, maximum=TOP_SPEED, dead_band=0.02, device_class="speed"),
    "range": Reading("Free ahead", unit="m", digits=2, minimum=0, maximum=RANGE_M, dead_band=0.03, device_class="distance"),
    "heading": Reading("Heading", unit="°", digits=0, minimum=0, maximum=360, dead_band=1),
    "targets": Reading("Targets reached", digits=0, minimum=0, maximum=TARGETS, dead_band=0.5),
    "bumps": Reading("Bumps", digits=0, minimum=0, dead_band=0.5),
    "charging": Reading("Charging", kind="flag", device_class="battery_charging"),
    "pan": Reading("Camera to the side", unit="°", digits=0, minimum=-PAN_DEG, maximum=PAN_DEG, dead_band=0.5),
    "tilt": Reading("Camera up and down", unit="°", digits=0, minimum=-TILT_DEG, maximum=TILT_DEG, dead_band=0.5),
}
_AXES = {
    "throttle": Axis("Throttle", role="throttle"),
    "steer": Axis("Steering", role="steer"),
    "pan": Axis("Camera to the side", minimum=-PAN_DEG, maximum=PAN_DEG, unit="°", role="pan", position=True),
    "tilt": Axis("Camera up and down", minimum=-TILT_DEG, maximum=TILT_DEG, unit="°", role="tilt", position=True),
}


class SimRover(Actuator, Sensor):
    """A rover with two driven wheels, a camera on a mast that turns, and a battery. Steering and pan are to the right above 0."""

    summary: ClassVar[str] = "A simulated rover in a small world: drive it without any hardware"
    wiring: ClassVar[str] = "None. Its picture comes from a camera with `driver: sim-rover-camera` and `rover: NAME`."
    icon: ClassVar[str] = "motor"
    interval_s: ClassVar[float] = 0.1

    class Options(BaseModel, extra="forbid"):
        """The keys of a `sim-rover`."""

        size: int = Field(default=16, ge=MIN_SIZE, le=MAX_SIZE, description="Width of its world in metres")
        seed: int = Field(default=1, ge=0, le=2**31, description="Another number makes another world")
        drain: float = Field(default=1.0, ge=0, le=1000, description="How much faster than usual the battery empties; 0: never")

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._link: Link | None = None

    @property
    def axes(self) -> Mapping[str, Axis]:
        """Throttle and steering, and the mast's two angles in degrees."""
        return _AXES

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Battery, speed, what is ahead, heading, how far the game is, and where the mast looks."""
        return _READINGS

    def open(self) -> None:
        """Find the world, or start it, and stop the rover, which may still do what somebody told it before."""
        self.close()
        self._link = connect(self.name)
        self._link.send("stop")
        self._link.ask("setup", seed=self.options.seed, size=self.options.size, drain=self.options.drain)

    def close(self) -> None:
        """Stop and let go; the world ends a few seconds later unless somebody else is there."""
        link, self._link = self._link, None
        if link:
            try:
                link.send("stop")
            except DeviceFault:
                pass  # it is gone, or hangs: no more can be done
            finally:
                link.close()

    def apply(self, values: Mapping[str, float]) -> None:
        """Move, until told otherwise."""
        self._world.send("set", **values)

    def stop(self) -> None:
        """Brake. The mast stays where it is."""
        self._world.send("stop")

    def read(self) -> Readings:
        """What its instruments show now."""
        state = self._world.ask("state")
        return {
            "battery": state["battery"],
            "speed": state["speed"],
            "range": state["range"],
            "heading": (90 - math.degrees(state["heading"])) % 360,
            "targets": len(state["reached"]),
            "bumps": state["bumps"],
            "charging": state["charging"],
            "pan": state["pan_to"],  # as it was told, which is what the next word goes on from
            "tilt": state["tilt_to"],
        }

    @command(title="Back to the start", danger=True, moves=False)
    def reset_world(self) -> None:
        """Put the rover on its pad with a full battery, and all targets out: like `charge`, the way out of an empty one."""
        self._world.ask("reset")

    @command(title="Fresh battery", moves=False)
    def charge(self) -> None:
        """Fill the battery where it stands."""
        self._world.ask("charge")

    @command(title="Lights")
    def lights(self, on: bool, colour: Literal["white", "amber", "blue"] = "white") -> None:
        """Switch the head lights."""
        self._world.ask("lights", on=on, colour=colour)

    @command(title="Horn")
    def horn(self, seconds: Annotated[float, Field(ge=0.1, le=3.0)] = 0.6) -> None:
        """Toot; one sees it in the picture."""
        self._world.ask("horn", seconds=seconds)

    @property
    def _world(self) -> Link:
        if self._link is None:
            raise DeviceFault("The simulated rover is not open.")
        return self._link
