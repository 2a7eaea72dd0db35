"""What happens to leases and set-points (events, past tense) and what is to be done (effects, imperative)."""

from __future__ import annotations

__all__ = [
    "Acknowledge",
    "AgentStopping",
    "Answer",
    "Apply",
    "ArbiterConfig",
    "Asked",
    "Call",
    "Complain",
    "DeviceChanged",
    "Effect",
    "Event",
    "GroupChanged",
    "KeeperChanged",
    "KeeperStopped",
    "PowerChanged",
    "SetPointReceived",
    "SignedIn",
    "StopMoving",
    "TimePassed",
    "ViewerCame",
    "ViewerGone",
]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgeagent.model import Principal
from edgeagent.wire import control as c


@dataclass(slots=True, frozen=True, kw_only=True)
class ArbiterConfig:
    """What there is to move, and within which limits.

    Attributes:
        devices: All devices; those that move form groups.
        titles: Names of groups for people; by default that of the group's only device, or its own.
        still: Commands that move nothing, though their device moves: by device and command.
        expiry_s: Life of a set-point, in seconds.
        max_picture_age_s: The oldest picture by which one may drive, in seconds; 0 where pictures do not matter: there is no
            camera, or the owner turned it off.
        picture_grace_s: How long after the start of a lease it may be unknown which picture the operator sees.
        silent_holder_s: Whose holder has sent nothing for so long may be overtaken by any operator.
        lease_idle_s: After so long without a set-point a lease ends by itself.
        max_queue: Who may wait for one lease at the same time.
        neutral_band: How far from neutral still counts as neutral when a group is armed, as a share of the axis' longer side:
            sticks seldom rest at exactly 0. What is applied then is neutral itself.
    """

    devices: tuple[c.DeviceInfo, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    still: frozenset[tuple[str, str]] = frozenset()
    expiry_s: float = 0.3
    max_picture_age_s: float = 1.0
    picture_grace_s: float = 1.0
    silent_holder_s: float = 3.0
    lease_idle_s: float = 10.0
    max_queue: int = 8
    neutral_band: float = 0.05


@dataclass(slots=True, frozen=True)
class ViewerCame:
    """A viewer has opened the first of his channels. `channels`: False for one without, like a home automation, who can send no
    set-points and sees nothing, and so is not asked to be at neutral before a command of what moves."""

    viewer: str
    channels: bool = True


@dataclass(slots=True, frozen=True)
class SignedIn:
    """A viewer has said who he is."""

    viewer: str
    principal: Principal


@dataclass(slots=True, frozen=True)
class ViewerGone:
    """A channel of the viewer, or his connection, is gone."""

    viewer: str


@dataclass(slots=True, frozen=True)
class SetPointReceived:
    """`captured_at`: when the picture on the operator's screen was taken, None where unknown."""

    viewer: str
    message: c.SetPoint
    captured_at: float | None


@dataclass(slots=True, frozen=True)
class Asked:
    """A viewer wants something that has an answer."""

    viewer: str
    message: c.Lease | c.Halt | c.Stop | c.Reset | c.Command


@dataclass(slots=True, frozen=True)
class DeviceChanged:
    """As a supervisor tells it."""

    device: str
    phase: str
    text: str


@dataclass(slots=True, frozen=True)
class KeeperChanged:
    """The keeper works, or is gone; at first it is gone."""

    alive: bool


@dataclass(slots=True, frozen=True)
class KeeperStopped:
    """The keeper stopped a device by itself; `at` on the same clock as `now`."""

    device: str
    why: str
    at: float


@dataclass(slots=True, frozen=True)
class PowerChanged:
    """A reading that is too low to move by (a battery), as one sentence; "" when it is over."""

    source: str
    text: str


@dataclass(slots=True, frozen=True)
class TimePassed:
    """`next_deadline` is over."""


@dataclass(slots=True, frozen=True)
class AgentStopping:
    """The agent ends."""

    reason: str


@dataclass(slots=True, frozen=True)
class Apply:
    """Move a group's axes, by device; void at `until`. Axes that are not named stay as they are."""

    group: str
    values: Mapping[str, Mapping[str, float]]
    until: float


@dataclass(slots=True, frozen=True)
class StopMoving:
    """Stop these devices, or (None) everything that moves."""

    devices: tuple[str, ...] | None
    why: str


@dataclass(slots=True, frozen=True)
class GroupChanged:
    """Tell everybody how the group stands: `Arbiter.view` for each viewer."""

    group: str


@dataclass(slots=True, frozen=True)
class Acknowledge:
    """Tell the sender of a set-point what became of it."""

    viewer: str
    ack: c.Ack


@dataclass(slots=True, frozen=True)
class Answer:
    """Answer a request."""

    viewer: str
    message: c.Result | c.Refused


@dataclass(slots=True, frozen=True)
class Complain:
    """Tell a viewer, not too often, that what he sends is wrong."""

    viewer: str
    message: c.Refused


@dataclass(slots=True, frozen=True)
class Call:
    """Carry out a command and answer request `id` with what it returns; the viewer may ask for it."""

    viewer: str
    id: int
    device: str
    command: str
    args: Mapping[str, Any]


Event: TypeAlias = (
    ViewerCame
    | SignedIn
    | ViewerGone
    | SetPointReceived
    | Asked
    | DeviceChanged
    | KeeperChanged
    | KeeperStopped
    | PowerChanged
    | TimePassed
    | AgentStopping
)
Effect: TypeAlias = Apply | StopMoving | GroupChanged | Acknowledge | Answer | Complain | Call
