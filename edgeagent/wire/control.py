"""Messages of control and telemetry, between a viewer and the agent, on three data channels.

    control     unordered, no retransmission   viewer → agent: set          agent → viewer: ack
    events      reliable, ordered              viewer → agent: sign_in, listen, lease, halt, stop, reset, command
                                               agent → viewer: devices, group, result, refused, alarm
    telemetry   unordered, no retransmission   agent → viewer: readings

JSON objects in UTF-8, at most `MAX_CONTROL` bytes, told apart by `t`; at most `MAX_QUEUED` bytes wait on a channel, since
aiortc's SCTP lets one large reliable message hold up all others. What is larger goes by HTTP. Unknown keys are refused.
The decoders are in `edgeagent.wire.codec`.
"""

from __future__ import annotations

__all__ = [
    "MAX_AXES",
    "MAX_CONTROL",
    "MAX_QUEUED",
    "MAX_TOGETHER",
    "Ack",
    "Alarm",
    "AxisInfo",
    "Command",
    "CommandInfo",
    "ControlFromAgent",
    "ControlMessage",
    "DeviceInfo",
    "Devices",
    "EventFromAgent",
    "EventFromViewer",
    "Group",
    "Halt",
    "Lease",
    "Listen",
    "ReadingInfo",
    "ReadingsMessage",
    "Refused",
    "Reset",
    "Result",
    "SetPoint",
    "SignIn",
    "Stop",
    "Values",
    "Waiting",
]

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from edgeagent.wire.messages import Message, Mid, Name, RequestId

MAX_CONTROL = 4096
"""Bytes of one message on these channels."""
MAX_QUEUED = 8192
"""Bytes that may wait on one channel."""

Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""Name of an axis, a reading, a command or an argument."""
MAX_TOGETHER, MAX_AXES = 8, 16
"""Devices with axes in one group, and axes of one device: what a set-point has room for."""
Values = Annotated[dict[Name, Annotated[dict[Key, FiniteFloat], Field(max_length=MAX_AXES)]], Field(max_length=MAX_TOGETHER)]
"""By device, by axis."""


class SetPoint(Message):
    """Where the operator wants the axes to be, sent 20 to 50 times a second while he holds a lease, moving or not. It expires.

    `lease` is the number that `group` told; `seq` grows by at least one with each set-point of a lease. `at` is the sender's
    monotonic clock in ms, of any origin: its delay above the smallest seen lately is the lateness. `rtp` is the RTP time stamp
    (32 bit, as `requestVideoFrameCallback` tells) of the picture on the operator's screen and `mid` its video; left out while
    none is shown. An axis that is left out is at neutral, but for one whose value is a place (`AxisInfo.position`): that one
    stays where it is. A value out of its axis' range makes the whole set-point void.
    """

    t: Literal["set"] = "set"
    group: Name
    lease: Annotated[int, Field(ge=1, lt=2**53)]
    seq: Annotated[int, Field(ge=0, lt=2**53)]
    at: Annotated[FiniteFloat, Field(ge=-1e15, le=1e15)]
    rtp: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    mid: Mid | None = None
    values: Values


class Ack(Message):
    """The newest set-point of the viewer that was looked at; `at` comes back unchanged, for the round trip.

    `taken`: whether it moves something. `why` in one word where it does not: `late`, `order`, `disarmed`, `lease`, `picture`,
    `latched`, `fault`. `late_ms`: its delay above the smallest seen lately. `age_ms`: age of the picture on the operator's
    screen when it arrived, None where unknown.
    """

    t: Literal["ack"] = "ack"
    group: str
    lease: int
    seq: int
    at: float
    taken: bool
    why: str = ""
    late_ms: float = 0
    age_ms: float | None = None


class SignIn(Message):
    """Say who one is: an operator's token, or the page's ticket (`PageConfig.ticket`). Answered by `result` and by `devices`."""

    t: Literal["sign_in"] = "sign_in"
    id: RequestId
    token: Annotated[str, Field(min_length=1, max_length=400)]


class Listen(Message):
    """Whether readings are told on `telemetry`, as they are from its opening on: a page that nobody sees wants none. Answered by
    `result`; who wants them again is told the newest of all."""

    t: Literal["listen"] = "listen"
    id: RequestId
    on: bool


class Lease(Message):
    """Wish about the lease of a group. Answered by `result` or `refused`; everybody is told by `group`.

    `request` it, or wait in the queue while another has it (the result's value is `yours` or `waiting`); `cancel` the waiting;
    `release` it; `take` it from its holder (by right `admin`, or from one who has sent nothing for some seconds); `hand` it to
    the viewer `to`, who waits in the queue.
    """

    t: Literal["lease"] = "lease"
    id: RequestId
    group: Name
    do: Literal["request", "cancel", "release", "take", "hand"]
    to: Annotated[str, Field(max_length=64)] | None = None


class Halt(Message):
    """The operator's own page cannot drive now: stand still, and move again only after a neutral set-point. Not latched."""

    t: Literal["halt"] = "halt"
    id: RequestId
    group: Name
    why: Literal["hidden", "gamepad", "picture", "person"]


class Stop(Message):
    """Emergency stop of everything that moves, by anyone, signed in or not; latched until an operator resets it."""

    t: Literal["stop"] = "stop"
    id: RequestId


class Reset(Message):
    """End an emergency stop; needs the right to operate."""

    t: Literal["reset"] = "reset"
    id: RequestId


class Command(Message):
    """Call a command of a device with arguments as its schema says. Answered by `result` or `refused`.

    A device that moves obeys whoever has the lease of its group while that is armed, but for commands that move nothing, as its
    driver says; any other obeys whoever may operate.
    """

    t: Literal["command"] = "command"
    id: RequestId
    device: Name
    command: Key
    args: Annotated[dict[Key, Any], Field(max_length=16, default_factory=dict)]


class Result(Message):
    """Request `id` was carried out; `value` is what a command returned."""

    t: Literal["result"] = "result"
    id: int
    value: Any = None


class Refused(Message):
    """Request `id` was refused, or (without `id`) a message could not be read. `code` as in `edgeagent.errors.PeerError`."""

    t: Literal["refused"] = "refused"
    id: int | None = None
    code: int
    message: str


class Alarm(Message):
    """Something a person should know, in one sentence; `on` false when it is over."""

    t: Literal["alarm"] = "alarm"
    device: str
    key: str
    on: bool = True
    level: Literal["warning", "danger"] = "warning"
    text: str


class AxisInfo(BaseModel):
    """As `edgeagent.drivers.Axis`, with its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    minimum: float = -1
    maximum: float = 1
    neutral: float = 0
    unit: str = ""
    role: Literal["throttle", "steer", "pan", "tilt", "other"] = "other"
    position: bool = False


class ReadingInfo(BaseModel):
    """As `edgeagent.drivers.Reading`, with its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    kind: Literal["number", "flag", "text"] = "number"
    unit: str = ""
    digits: int = 1
    minimum: float | None = None
    maximum: float | None = None
    warn_below: float | None = None
    warn_above: float | None = None
    stop_below: float | None = None
    dead_band: float = 0


class CommandInfo(BaseModel):
    """A command: its name, the button's words, and the JSON Schema (an object) of its arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    danger: bool = False
    arguments: dict[str, Any] = {}


class DeviceInfo(BaseModel):
    """One device. `moves`: set-points under the lease of `group` drive it. `text` says why where it is not `live`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = ""
    icon: str = ""
    moves: bool = False
    group: str = ""
    phase: Literal["starting", "live", "retrying", "failed"] = "starting"
    text: str = ""
    axes: list[AxisInfo] = []
    readings: list[ReadingInfo] = []
    commands: list[CommandInfo] = []


class Devices(Message):
    """Who you are and devices that are new or changed; all of them first on every events channel, in as many messages as
    `MAX_CONTROL` asks, and again (maybe without devices) when your rights have changed.

    `you` is this viewer's name in `Group.holder` and `Group.queue`; `rights` of `watch`, `operate`, `admin`.
    """

    t: Literal["devices"] = "devices"
    you: str
    name: str = ""
    rights: list[Literal["watch", "operate", "admin"]]
    devices: list[DeviceInfo]
    gone: list[str] = Field(default_factory=list)


class Waiting(BaseModel):
    """One who waits for the lease."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    viewer: str
    name: str = ""


class Group(Message):
    """How a group of devices that move together stands; first on every events channel, and whenever it changes.

    `lease` is the number of the receiver's own lease, None where he has none. `state`: `free`: nobody has the lease; `disarmed`:
    waits for a neutral set-point; `armed`: set-points move it; `stopped`: latched by an emergency stop; `fault`: something that
    belongs to it does not work. `why` it stands still, in one word (`lease`, `connection`, `silence`, `hidden`, `gamepad`,
    `picture`, `person`, `battery`, `device`, `keeper`, `stop`, `taken`, or nothing), `text` the same in one sentence; who lost
    the lease is told why he did. `stopped_by` is the viewer who pressed the emergency stop, the first where several did; None
    while there is none. `expiry_ms` is the life of a set-point, `max_age_ms` the oldest picture by which one may drive (0:
    pictures do not matter).
    """

    t: Literal["group"] = "group"
    group: str
    title: str = ""
    holder: str | None = None
    holder_name: str = ""
    lease: int | None = None
    state: Literal["free", "disarmed", "armed", "stopped", "fault"]
    why: str = ""
    text: str = ""
    stopped_by: str | None = None
    queue: list[Waiting] = Field(default_factory=list)
    expiry_ms: int
    max_age_ms: int


class ReadingsMessage(Message):
    """Readings that changed, by device; `at` is the agent's Unix time in ms. Newest wins: one lost is followed by another."""

    t: Literal["readings"] = "readings"
    at: float
    values: dict[str, dict[str, float | bool | str]]


ControlMessage = SetPoint
EventFromViewer = Annotated[SignIn | Listen | Lease | Halt | Stop | Reset | Command, Field(discriminator="t")]
EventFromAgent = Annotated[Devices | Group | Result | Refused | Alarm, Field(discriminator="t")]
ControlFromAgent = Annotated[Ack | Devices | Group | Result | Refused | Alarm | ReadingsMessage, Field(discriminator="t")]
"""What an agent sends on any of the three channels."""
