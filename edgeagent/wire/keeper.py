"""Messages between the agent and its keeper: one JSON object a packet on a socket pair (SOCK_SEQPACKET), told apart by `t`.

    agent → keeper   open (the first), alive, set, stop, order
    keeper → agent   ready, pulse, device, read, stopped, done, say

Times are seconds of CLOCK_MONOTONIC, which is one clock for both. The end of either side is the end of its process. This module is
for the keeper's sake independent of the other messages: it is loaded anew when a keeper is, and must not take long.
"""

from __future__ import annotations

__all__ = [
    "MAX_PACKET",
    "Alive",
    "AxisLimits",
    "Device",
    "Done",
    "FromAgent",
    "FromKeeper",
    "KeptDevice",
    "Open",
    "Order",
    "Pulse",
    "Read",
    "Ready",
    "Say",
    "Set",
    "Stop",
    "Stopped",
    "decode_agent",
    "decode_keeper",
    "encode",
]

import functools
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from edgeagent.errors import PeerError

MAX_PACKET = 65_536
"""Bytes of one packet, either way."""

M = TypeVar("M")
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Message(BaseModel):
    """What every message and its parts have."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # each side builds only what it uses


class AxisLimits(Message):
    """The owner's settings of one axis; meaning and ranges as of `core.shaping.Limits`."""

    top: Annotated[FiniteFloat, Field(ge=0.01, le=1)] = 1.0
    expo: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    dead_zone: Annotated[FiniteFloat, Field(ge=0, le=0.9)] = 0.0
    slew: Annotated[FiniteFloat, Field(ge=0.01, le=1000)] | None = None
    invert: bool = False
    trim: Annotated[FiniteFloat, Field(ge=-0.5, le=0.5)] = 0.0
    reverse_delay_s: Annotated[FiniteFloat, Field(ge=0, le=5)] = 0.0


class KeptDevice(Message):
    """One device that moves, as configured. `options` are the driver's own and validated again by its model."""

    name: Name
    driver: Annotated[str, Field(min_length=1, max_length=100)]
    options: dict[str, Any] = {}
    group: Name = "drive"
    limits: dict[Key, AxisLimits] = {}
    interval_s: Annotated[FiniteFloat, Field(gt=0)] | None = None


class Open(Message):
    """Open these devices and stop them. `drivers_dir` as in the configuration."""

    t: Literal["open"] = "open"
    devices: Annotated[list[KeptDevice], Field(min_length=1, max_length=64)]
    drivers_dir: str | None = None


class Alive(Message):
    """The agent's loop turned at `at`; every 0.1 s."""

    t: Literal["alive"] = "alive"
    at: FiniteFloat


class Set(Message):
    """Move; see `core.keeping_events.SetPoint`."""

    t: Literal["set"] = "set"
    run: Count
    halts: Count
    until: FiniteFloat
    values: dict[Name, dict[Key, FiniteFloat]]


class Stop(Message):
    """Stop these devices, or all."""

    t: Literal["stop"] = "stop"
    devices: list[Name] | None = None


class Order(Message):
    """Call a command of a device; answered by `done` with the same `id`. `halts`: of the last stop that its sender was told of; one
    sent before he knew that the keeper had stopped its device is refused."""

    t: Literal["order"] = "order"
    run: Count
    halts: Count = 0
    id: Count
    device: Name
    command: Key
    args: dict[str, Any] = {}


class Ready(Message):
    """A run of the keeper has begun; what was on its way to an earlier one is void. `why` the run before it ended, in two words."""

    t: Literal["ready"] = "ready"
    run: Count
    pid: int
    why: str = ""


class Pulse(Message):
    """The keeper's loop turned at `at`; every 0.1 s. `refused`: set-points that moved nothing since this run began, by reason."""

    t: Literal["pulse"] = "pulse"
    at: FiniteFloat
    refused: dict[str, int] = {}


class Device(Message):
    """A device's phase, and one sentence where it is not live."""

    t: Literal["device"] = "device"
    device: str
    phase: Literal["starting", "live", "retrying", "failed"]
    text: str = ""


class Read(Message):
    """Readings of a device, taken at `at`. One with the name of an axis that holds a position tells the agent which set-point leads
    there (`core.shaping.Shaper.wanted`)."""

    t: Literal["read"] = "read"
    device: str
    at: FiniteFloat
    values: dict[str, bool | FiniteFloat | str]


class Stopped(Message):
    """The keeper stopped these devices by itself; see `core.keeping_events.Told`."""

    t: Literal["stopped"] = "stopped"
    devices: list[str]
    why: Literal["expired", "silence", "device", "held", "ending"]
    at: FiniteFloat
    halts: Count


class Done(Message):
    """What became of order `id`: its `value`, or (`code` above 0) why not; `fault`: the device's, not the caller's."""

    t: Literal["done"] = "done"
    id: Count
    value: Any = None
    code: int = 0
    message: str = ""
    fault: bool = False


class Say(Message):
    """A line for the log."""

    t: Literal["say"] = "say"
    level: Literal["debug", "info", "warning", "error"]
    text: str


FromAgent = Annotated[Open | Alive | Set | Stop | Order, Field(discriminator="t")]
FromKeeper = Annotated[Ready | Pulse | Device | Read | Stopped | Done | Say, Field(discriminator="t")]


@functools.cache
def _agent() -> TypeAdapter[FromAgent]:
    return TypeAdapter(FromAgent)


@functools.cache
def _keeper() -> TypeAdapter[FromKeeper]:
    return TypeAdapter(FromKeeper)


def decode_agent(packet: bytes) -> FromAgent:
    """Check what the agent sent. Raises PeerError(400)."""
    return _decode(packet, _agent())


def decode_keeper(packet: bytes) -> FromKeeper:
    """Check what the keeper sent. Raises PeerError(400)."""
    return _decode(packet, _keeper())


def encode(message: BaseModel) -> bytes:
    """One packet.

    Raises:
        PeerError: 413, it would be above `MAX_PACKET`; 400, it holds what is no JSON.
    """
    try:
        packet = message.model_dump_json().encode()
    except ValueError as error:
        raise PeerError(400, f"It cannot be written as JSON ({type(error).__name__}).") from None
    if len(packet) > MAX_PACKET:
        raise PeerError(413, f"It has {len(packet)} bytes; at most {MAX_PACKET} are taken.")
    return packet


def _decode(packet: bytes, adapter: TypeAdapter[M]) -> M:
    try:
        return adapter.validate_json(packet, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "itself"
        raise PeerError(400, f"The packet is wrong at {where}: {first['msg']}.") from None
