"""What the arbiter knows of one viewer and of one group of devices that move together."""

from __future__ import annotations

__all__ = ["ArbiterGroup", "ArbiterViewer"]

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeagent.core.lateness import Lateness
from edgeagent.errors import PeerError
from edgeagent.model import Principal
from edgeagent.wire import control as c


@dataclass(slots=True, eq=False)
class ArbiterViewer:
    """`name` tells viewers apart, `principal` says who one is."""

    name: str
    lateness: Lateness
    channels: bool = True
    principal: Principal = field(default_factory=Principal)

    @property
    def called(self) -> str:
        """His name for people."""
        return self.principal.name or "Somebody"

    def may(self, right: Literal["operate", "admin"]) -> bool:
        return right in self.principal.rights


@dataclass(slots=True, eq=False)
class ArbiterGroup:
    """One group: its axes by device, its holder with what is known of his lease, and who waits.

    Attributes:
        faults: Why devices of it do not work, each as one sentence.
        since: When the lease began.
        heard: When its holder last sent something.
        seq: Number of his last set-point.
        commanded: Whether a command may have set something in motion while not armed.
        until: While armed or commanded: when that ends by itself.
        lost: Why a viewer has the lease no more, one word and one sentence.
    """

    name: str
    title: str
    axes: dict[str, dict[str, c.AxisInfo]]
    faults: dict[str, str]
    holder: ArbiterViewer | None = None
    lease: int = 0
    since: float = -math.inf
    heard: float = -math.inf
    seq: int = -1
    armed: bool = False
    armed_at: float = -math.inf
    commanded: bool = False
    until: float = math.inf
    why: str = ""
    text: str = ""
    queue: list[ArbiterViewer] = field(default_factory=list)
    lost: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.axes)

    @property
    def may_move(self) -> bool:
        """Whether silence must stop it."""
        return self.armed or self.commanded

    def check(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Raises PeerError: 404 for a device or axis that is not of the group, 400 for a value that is out of range."""
        for device, given in values.items():
            axes = self.axes.get(device)
            if axes is None:
                raise PeerError(404, f"Nothing called {device} moves in the group {self.name}.")
            for name, value in given.items():
                axis = axes.get(name)
                if axis is None:
                    raise PeerError(404, f"{device} has no axis {name}.")
                if not axis.minimum <= value <= axis.maximum:  # nor NaN
                    raise PeerError(400, f"{device}.{name} goes from {axis.minimum:g} to {axis.maximum:g}, not to {value:g}.")

    def disarm(self) -> None:
        """From now on nothing moves until it is armed anew."""
        self.armed = self.commanded = False
        self.until = math.inf

    def whole(self, values: Mapping[str, Mapping[str, float]], *, neutral: bool = False) -> dict[str, dict[str, float]]:
        """All axes: what is left out is at neutral, or, for a place, left out; `neutral` puts what was given there as well."""
        return {
            device: {
                name: axis.neutral if neutral else values.get(device, {}).get(name, axis.neutral)
                for name, axis in axes.items()
                if not axis.position or name in values.get(device, {})
            }
            for device, axes in self.axes.items()
            if axes
        }

    def at_neutral(self, values: Mapping[str, Mapping[str, float]], band: float) -> bool:
        """Whether all axes that are given are at neutral, or within `band` of their longer side."""
        for device, given in values.items():
            for name, value in given.items():
                axis = self.axes[device][name]
                if abs(value - axis.neutral) > band * max(axis.maximum - axis.neutral, axis.neutral - axis.minimum):
                    return False
        return True
