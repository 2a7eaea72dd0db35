"""Opens, polls, isolates, restarts and closes the drivers of sensors and of what is switched; what moves is the keeper's.

    phase      what is awaited                          next
    starting   `open` returned                          live
    starting   `open` raised                            retrying, or failed where only the owner can mend it
    live       the interval passed, or the driver woke  live (`read`)
    live       anything raised DeviceFault or failed    retrying or failed (`stop`, `close`)
    starting, live   a call takes longer than it may    failed: hangs (`stop` from another thread)
    failed: hangs    the call returned                  retrying (`stop`, `close`)
    retrying   the back-off passed                      starting (`open`)
    failed     ten minutes passed                       starting (`open`)
    any        `Supervisor.close`                       gone (`stop`, `close`); what hangs is left behind

A driver object is used by one thread at a time (its own; a quick sensor is read by one that many share) and opened once at a time,
so one that hangs is not tried again before it has returned.
"""

from __future__ import annotations

__all__ = ["Supervisor", "SupervisorEvents", "SupervisorPolicy"]

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeagent.drivers.device import Driver
from edgeagent.drivers.polling import Poller
from edgeagent.drivers.supervised import SupervisedDevice, SupervisorEvents, SupervisorPolicy
from edgeagent.errors import PeerError
from edgeagent.model import DevicePhase


class Supervisor:
    """Keeps drivers open from `start` to `close`. Its methods belong to the event loop.

    Args:
        drivers: By the devices' names; nothing else may use them meanwhile.
        events: Told on the loop.
        intervals: Seconds from read to read, by device; the driver's own `interval_s` by default.
        clock: `time.monotonic` or its stand-in.
        policy: Time-outs and back-off.
        random01: Random numbers from 0 to 1 for the back-off.
    """

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        events: SupervisorEvents,
        *,
        intervals: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        policy: SupervisorPolicy | None = None,
        random01: Callable[[], float] = random.random,
    ) -> None:
        policy, intervals = policy or SupervisorPolicy(), intervals or {}
        self._poller = Poller(clock, events.readings)
        self._devices = {
            name: SupervisedDevice(name, driver, events, intervals.get(name), self._poller, clock, policy, random01)
            for name, driver in drivers.items()
        }

    def start(self) -> None:
        """Open all devices, and again after each failure with a back-off, until `close`."""
        self._poller.start()
        for device in self._devices.values():
            device.start()

    async def close(self) -> None:
        """Stop and close all; returns when each has ended or was given up (`SupervisorPolicy.close_s`)."""
        self._poller.close()
        await asyncio.gather(*(device.close() for device in self._devices.values()))

    def phase(self, device: str) -> DevicePhase:
        """Where a device is in its life."""
        return self._devices[device].phase

    async def command(self, device: str, command: str, args: Mapping[str, Any]) -> Any:
        """Call a command on the driver's thread; returns its result as plain JSON values. A sensor is read right after it.

        Raises:
            PeerError: 400 wrong arguments, 404 no such device or command, 429 too many wait, 503 not live, 504 too slow, 500 a
                bug of the driver, or what the driver refuses.
            DeviceFault: The device failed; it is closed and opened again.
        """
        if device not in self._devices:
            raise PeerError(404, "There is no such device.")
        return await self._devices[device].command(command, args)
