"""What is told to `core.keeping`, and what it wants done."""

from __future__ import annotations

__all__ = [
    "Alive",
    "Apply",
    "Carried",
    "Commanded",
    "Effect",
    "End",
    "Event",
    "Failed",
    "Held",
    "InputEnded",
    "KeepPolicy",
    "Kept",
    "Opened",
    "Seen",
    "SetPoint",
    "Stop",
    "StopAsked",
    "Terminated",
    "Told",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeagent.core.shaping import AxisRange, Limits


@dataclass(slots=True, frozen=True)
class KeepPolicy:
    """Times in seconds.

    Attributes:
        silence_s: The agent says `Alive` every 0.1 s; so long without means that it hangs.
        step_s: Period of a ramp: 50 Hz.
        max_life_s: No set-point lives longer, whatever it says.
        leave_s: After `Terminated` the agent has so long to close its end.
    """

    silence_s: float = 0.5
    step_s: float = 0.02
    max_life_s: float = 2.0
    leave_s: float = 1.0


@dataclass(slots=True, frozen=True)
class Kept:
    """One device that moves: its group, its axes and the owner's settings of them."""

    group: str
    axes: Mapping[str, AxisRange]
    limits: Mapping[str, Limits] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class SetPoint:
    """Move: by device, by axis. An axis of a device that is left out goes to neutral, or stays where it holds a position."""

    run: int
    halts: int
    until: float
    values: Mapping[str, Mapping[str, float]]


@dataclass(slots=True, frozen=True)
class StopAsked:
    """The agent wants these devices stopped; None: all."""

    devices: Sequence[str] | None = None


@dataclass(slots=True, frozen=True)
class Commanded:
    """A command of the device is called, or waits to be, which may turn what holds a position."""

    device: str


@dataclass(slots=True, frozen=True)
class Carried:
    """Commands of the device are over, `count` of those that were told by `Commanded`, whatever became of them; where its axes are
    now, by axis and in its unit: as the last of them said, else as was read behind it, else as one before it said."""

    device: str
    count: int = 1
    places: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Seen:
    """What the device reads. A position of which nobody knows where a command, or whatever came before the device was opened, has
    left it is there, by a reading of its axis' name; but for one that came before its commands were over, and may be older."""

    device: str
    values: Mapping[str, object]


@dataclass(slots=True, frozen=True)
class Alive:
    """The agent's loop turned at this time."""

    at: float


@dataclass(slots=True, frozen=True)
class InputEnded:
    """The agent closed its end, or died."""


@dataclass(slots=True, frozen=True)
class Terminated:
    """The system wants this process to end."""


@dataclass(slots=True, frozen=True)
class Held:
    """The keeper's own loop did not turn for too long."""


@dataclass(slots=True, frozen=True)
class Opened:
    """A device is open, and was stopped."""

    device: str


@dataclass(slots=True, frozen=True)
class Failed:
    """A device failed; its own thread has stopped and closed it, as far as it could."""

    device: str


@dataclass(slots=True, frozen=True)
class Apply:
    """Give the driver these values, in the axes' units; void from `until` on."""

    device: str
    values: Mapping[str, float]
    until: float


@dataclass(slots=True, frozen=True)
class Stop:
    """Stop this device, ahead of everything, forgetting what waits for it."""

    device: str


@dataclass(slots=True, frozen=True)
class Told:
    """Tell the agent that the keeper stopped something by itself.

    `why`: `expired` its set-points stopped coming, `silence` of the agent, `device` one of the group failed, `held` the keeper
    itself was held up, `ending` it was told to end.
    """

    devices: tuple[str, ...]
    why: str
    at: float
    halts: int


@dataclass(slots=True, frozen=True)
class End:
    """Close everything and end the process."""


Event = SetPoint | StopAsked | Commanded | Carried | Seen | Alive | InputEnded | Terminated | Held | Opened | Failed
Effect = Apply | Stop | Told | End
