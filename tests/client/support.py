"""What the tests of the client share."""

from __future__ import annotations

__all__ = ["ADMIN", "BEN", "CONFIG", "PATIENCE_S", "Robot", "driving", "end_of_driving", "until"]

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeagent.client import FailSafe, Lease, LeaseLost
from edgeagent_devices._sim_link import Link
from tests.support.agents import Agent
from tests.support.broker import Broker

PATIENCE_S = 60.0
ADMIN, BEN = "anna's token for tests", "ben's token for tests"

# A machine with much else to do holds set-points and pictures up for longer than a robot should bear.
CONFIG: dict[str, Any] = {
    "cameras": {"rover": {"driver": "sim-rover-camera", "size": "640x360", "fps": 10}},
    "devices": {
        "rover": {"driver": "sim-rover", "title": "Rover", "drain": 0},
        "weather": {"driver": "sim-sensor", "title": "Garden"},
        "lamp": {"driver": "led", "pin": 17},
    },
    "control": {"expiry_ms": 1500, "max_picture_age_ms": 5000},
}


@dataclass
class Robot:
    """An agent, its broker, and its rover as the world itself knows it."""

    agent: Agent
    broker: Broker
    world: Link

    def address(self, door: str) -> tuple[str, str]:
        """An address, and the token that makes an admin there."""
        return (self.agent.base, "") if door == "http" else (f"{self.broker.url}/porch", ADMIN)

    def throttle(self) -> float:
        """What the rover was told last."""
        return float(self.world.ask("state")["throttle"])

    def stands(self) -> bool:
        """Whether the rover was told to stand still, and does."""
        state = self.world.ask("state")
        return bool(state["throttle"] == 0 and abs(state["speed"]) < 0.02)

    def back_to_the_start(self) -> None:
        self.world.ask("reset")


BUSY = {"silence", "device", "keeper"}
"""Why a rover stops on a machine that is too busy; no other reason is put up with."""


async def driving(lease: Lease, throttle: float = 0.5, *, for_s: float = 30, wait: bool = False) -> None:
    """Drive, however often a busy machine stops it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if lease.error is not None:
                    await lease.rearm()
                await lease.drive(throttle, for_s=for_s, wait=wait)
                return
            except FailSafe as stopped:
                if stopped.why not in BUSY:
                    raise


async def end_of_driving(lease: Lease) -> FailSafe | LeaseLost:
    """What ends it for good."""
    while True:
        try:
            await driving(lease, wait=True)
        except (FailSafe, LeaseLost) as error:
            return error


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition()` holds."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about within {PATIENCE_S:g} s") from None
