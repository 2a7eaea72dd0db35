"""What a device says of itself on a broker, and when: retained `hello` and `up`, without IO.

event                        effects
──────────────────────────── ──────────────────────────────────────────────────────────────────────────────
BrokerConnected              PublishHello, PublishUp(1)
BrokerLost                   (none until the next BrokerConnected)
60 s since the last up       PublishUp(1)
UpSeen, not ours or 0        PublishUp(1), at most once a second: a late will, of this run or an earlier one
HelloChanged                 PublishHello, at most every 2 s
Leaving                      PublishUp(0), then silence
"""

from __future__ import annotations

__all__ = [
    "BrokerConnected",
    "BrokerLost",
    "HelloChanged",
    "Leaving",
    "Presence",
    "PresenceEffect",
    "PresenceEvent",
    "PublishHello",
    "PublishUp",
    "TimePassed",
    "UpSeen",
]

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(slots=True, frozen=True)
class BrokerConnected:
    """Connected and subscribed."""


@dataclass(slots=True, frozen=True)
class BrokerLost:
    """The connection is gone."""


@dataclass(slots=True, frozen=True)
class UpSeen:
    """The broker delivered this device's own presence."""

    up: int
    epoch: str


@dataclass(slots=True, frozen=True)
class HelloChanged:
    """`hello` would read differently now."""


@dataclass(slots=True, frozen=True)
class Leaving:
    """The agent ends."""


@dataclass(slots=True, frozen=True)
class TimePassed:
    """`next_deadline` is over."""


@dataclass(slots=True, frozen=True)
class PublishHello:
    """Publish the hello of now, retained."""


@dataclass(slots=True, frozen=True)
class PublishUp:
    """Publish presence, retained."""

    up: Literal[0, 1]


PresenceEvent: TypeAlias = BrokerConnected | BrokerLost | UpSeen | HelloChanged | Leaving | TimePassed
PresenceEffect: TypeAlias = PublishHello | PublishUp


class Presence:
    """One device's presence on one broker; `now` is any monotonic clock in seconds.

    Args:
        epoch: Names this run of the agent.
        heartbeat_s: The longest time between two `up`.
        hello_interval_s: The shortest time between two `hello`.
        repair_interval_s: The shortest time between an `up` and one that overwrites a stranger.
    """

    def __init__(
        self, epoch: str, *, heartbeat_s: float = 60.0, hello_interval_s: float = 2.0, repair_interval_s: float = 1.0
    ) -> None:
        self._epoch = epoch
        self._heartbeat_s = heartbeat_s
        self._hello_interval_s = hello_interval_s
        self._repair_interval_s = repair_interval_s
        self._connected = self._left = False
        self._up_at = self._hello_at = -math.inf
        self._up_due = self._hello_due = math.inf

    def next_deadline(self) -> float | None:
        """When `TimePassed` is due; None for never."""
        due = min(self._up_due, self._hello_due)
        return None if due == math.inf else due

    def handle(self, event: PresenceEvent, now: float) -> list[PresenceEffect]:
        """Take one event; never raises."""
        out: list[PresenceEffect] = []
        match event:
            case Leaving():
                if self._connected:
                    out.append(PublishUp(0))
                self._left, self._connected = True, False
            case BrokerConnected():
                self._connected = not self._left
                self._up_due = self._hello_due = now
            case BrokerLost():
                self._connected = False
            case UpSeen(up, epoch):
                if not (up and epoch == self._epoch):
                    self._up_due = min(self._up_due, self._up_at + self._repair_interval_s)
            case HelloChanged():
                self._hello_due = min(self._hello_due, max(now, self._hello_at + self._hello_interval_s))
            case TimePassed():
                pass
        if not self._connected:
            self._up_due = self._hello_due = math.inf
        if self._hello_due <= now:
            self._hello_at, self._hello_due = now, math.inf
            out.append(PublishHello())
        if self._up_due <= now:
            self._up_at, self._up_due = now, now + self._heartbeat_s
            out.append(PublishUp(1))
        return out
