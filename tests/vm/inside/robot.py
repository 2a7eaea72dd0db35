"""An agent's side of the keeper with two motors on pins, which drives for ever: to be killed by `check_keeper`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping

from edgeagent.keeper.client import Keeper
from edgeagent.model import Value
from edgeagent.wire.keeper import KeptDevice

OPTIONS = {"left": [5, 6], "right": [13, 19]}


class Events:
    """Told on the loop; what it hears is a line of output."""

    def device(self, name: str, phase: str, text: str) -> None:
        print("device", phase, text, flush=True)

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None: ...

    def stopped(self, device: str, why: str, at: float) -> None:
        print("stopped", why, flush=True)

    def up(self, alive: bool) -> None:
        print("up", alive, flush=True)


async def main(options: Mapping[str, object], throttle: float) -> None:
    keeper = Keeper([KeptDevice(name="motors", driver="motor-pair", options=OPTIONS | dict(options))], Events())
    running = asyncio.create_task(keeper.run())
    while not running.done():
        # Long, so that it is the keeper who stops when nobody is left to send, and not the end of the last set-point.
        keeper.set({"motors": {"throttle": throttle, "steer": 0.0}}, time.monotonic() + 1.0)
        await asyncio.sleep(0.1)
    await running


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), float(sys.argv[2])))
