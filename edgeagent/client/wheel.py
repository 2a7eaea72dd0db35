"""The set-points of one lease, as decisions only: what is sent when, and when it is over. Time is an argument.

arming    nothing but neutral set-points      → armed    the agent says so
armed     what was set, each value for its    → halted   the agent disarms, or what we send comes too late: values are void
          time, then neutral
halted    nothing but neutral set-points      → arming   `rearm`
any                                           → lost     the lease is another's, or the connection has ended: nothing is sent
"""

from __future__ import annotations

__all__ = ["Picture", "Wheel"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeagent.client.errors import ClientError, FailSafe, LeaseLost
from edgeagent.wire import control as c

_HALTS = {
    "disarmed": "It was stopped, and waits to be armed again.",
    "picture": "The picture to drive by is too old.",
    "latched": "Somebody has pressed the emergency stop.",
    "fault": "Something that moves does not work.",
}
MIN_HOLD_S, MAX_HOLD_S = 0.0, 60.0


@dataclass(slots=True, frozen=True)
class Picture:
    """The newest picture that was received: its video's mid and its RTP time stamp."""

    mid: str
    rtp: int


class Wheel:
    """One lease of one group.

    Args:
        group: As the agent told it together with the lease.
        devices: Those of the group.
    """

    def __init__(self, group: c.Group, devices: Sequence[c.DeviceInfo]) -> None:
        assert group.lease is not None
        self.group, self.lease = group.group, group.lease
        self.expiry_s = group.expiry_ms / 1000
        self.state: Literal["arming", "armed", "halted", "lost"] = "arming"
        self.error: ClientError | None = None
        self.explained = False
        self.taken = -1
        self.round_trip_s: float | None = None
        self._axes = {device.name: {axis.name: axis for axis in device.axes} for device in devices if device.axes}
        self._wishes: dict[tuple[str, str], tuple[float, float]] = {}
        self._silent = False
        self._seq = -1
        self._armed_seq = 0
        self._sent_at = -math.inf
        self._agent_armed = False
        self.told(group)

    # What the script wants

    def set(self, values: Mapping[str, Mapping[str, float]], now: float, for_s: float) -> None:
        """Values by device and axis, each in its axis' unit, until `for_s` seconds from now.

        Raises ValueError with a sentence for what does not move here, a value out of range, and a time beyond `MAX_HOLD_S`.
        """
        if not MIN_HOLD_S < for_s <= MAX_HOLD_S:
            raise ValueError(f"for_s is above 0 and at most {MAX_HOLD_S:g} seconds")
        wishes: dict[tuple[str, str], tuple[float, float]] = {}
        for device, given in values.items():
            for name, value in given.items():
                axis = self._axes.get(device, {}).get(name)
                if axis is None:
                    known = ", ".join(f"{device}.{name}" for device, axes in self._axes.items() for name in axes)
                    raise ValueError(f"nothing called {device}.{name} moves in the group {self.group}; it has {known}")
                if not axis.minimum <= value <= axis.maximum:  # nor NaN
                    raise ValueError(f"{device}.{name} goes from {axis.minimum:g} to {axis.maximum:g}, not to {value:g}")
                wishes[device, name] = (float(value), now + for_s)
        self._wishes.update(wishes)

    def shares(self, roles: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Shares of -1 to 1 by an axis' role, as values in its unit; raises ValueError out of range, or without such an axis."""
        values: dict[str, dict[str, float]] = {}
        for role, share in roles.items():
            if not -1 <= share <= 1:
                raise ValueError(f"{role} goes from -1 to 1, not to {share:g}")
            found = [(device, axis) for device, axes in self._axes.items() for axis in axes.values() if axis.role == role]
            if not found and share:
                raise ValueError(f"nothing in the group {self.group} has a {role}; use Lease.set")
            for device, axis in found:
                end = axis.maximum - axis.neutral if share >= 0 else axis.neutral - axis.minimum
                values.setdefault(device, {})[axis.name] = axis.neutral + share * end
        return values

    def commanded(self, device: str) -> None:
        """A command of the device goes out, which may turn it: no earlier value calls it back to a place."""
        places = {(device, name) for name, axis in self._axes.get(device, {}).items() if axis.position}
        self._wishes = {key: wish for key, wish in self._wishes.items() if key not in places}

    def neutral(self) -> None:
        """Let everything go."""
        self._wishes.clear()

    def rearm(self) -> None:
        """Go on after a halt."""
        if self.state == "halted":
            self.neutral()
            # While halted, neutral set-points went on: it may be armed already.
            self.state, self._armed_seq = "armed" if self._agent_armed else "arming", self._seq + 1
            self.error, self.explained = None, False

    def hush(self, silent: bool) -> None:
        """An emergency stop of our own is on its way: nothing is sent meanwhile, neutral alone after it, should it fail, too."""
        if silent and self.state in ("arming", "armed"):
            self._halt(FailSafe("stop", "This program has asked for the emergency stop."), told=False)
        self._silent = silent

    # What is sent

    def point(self, now: float, picture: Picture | None) -> c.SetPoint | None:
        """The set-point to send now."""
        if self.state == "lost" or self._silent:
            return None
        if self.state == "armed" and now - self._sent_at > self.expiry_s:
            # Whatever held us up, what was wanted before it is over; the agent has stopped by itself.
            self._halt(
                FailSafe("silence", f"Nothing was sent for {now - self._sent_at:.1f} s: was the program held up?"), told=True
            )
        self._sent_at = now
        self._seq += 1
        self._wishes = {key: wish for key, wish in self._wishes.items() if wish[1] > now}
        values: dict[str, dict[str, float]] = {device: {} for device in self._axes}
        if self.state == "armed":
            for (device, axis), (value, _) in self._wishes.items():
                values[device][axis] = value
        return c.SetPoint(
            group=self.group,
            lease=self.lease,
            seq=self._seq,
            at=round(now * 1000, 3),
            rtp=picture.rtp if picture else None,
            mid=picture.mid if picture else None,
            values=values,
        )

    @property
    def seq(self) -> int:
        """Number of the last set-point."""
        return self._seq

    # What the agent says

    def told(self, group: c.Group) -> None:
        """How the group stands now."""
        if group.group != self.group or self.state == "lost":
            return
        self._agent_armed = group.state == "armed"
        if group.lease != self.lease:
            self.lose(LeaseLost(group.why or "lease", group.text or "The lease is another's now."))
        elif group.state == "armed":
            if self.state == "arming":
                self.state, self._armed_seq = "armed", self._seq + 1
        elif self.state == "armed" or (self.state == "halted" and not self.explained) or group.state == "stopped":
            self._halt(FailSafe(group.why or "silence", group.text or _HALTS["disarmed"]), told=True)

    def acknowledged(self, ack: c.Ack, now: float) -> None:
        """What became of a set-point."""
        if ack.group != self.group or ack.lease != self.lease or self.state == "lost":
            return
        self.round_trip_s = now - ack.at / 1000
        if ack.taken:
            self.taken = max(self.taken, ack.seq)
        elif self.state == "armed" and ack.seq >= self._armed_seq and ack.why in _HALTS:
            # Its sentence comes on another channel.
            self._agent_armed = False
            self._halt(FailSafe(ack.why, _HALTS[ack.why]), told=False)

    def unanswered(self) -> None:
        """Nothing has been acknowledged for too long."""
        if self.state == "armed":
            self._halt(FailSafe("silence", "The agent does not answer."), told=True)

    def lose(self, error: ClientError) -> None:
        """The lease is gone."""
        if self.state != "lost":
            self.neutral()
            self.state, self.error, self.explained = "lost", error, True

    def _halt(self, error: FailSafe, *, told: bool) -> None:
        self.neutral()
        self.state, self.error, self.explained = "halted", error, told
