"""A program with a keeper that drives two motors for ever, as an agent does: to be killed, halted and blocked by tests.

    python -m tests.support.driving FOLDER [NAME=VALUE …]

Every event is a line of JSON on standard output. `life` is the life of a set-point in seconds (default 0.3), `period` the time
between two (0.02), `for` how long set-points are sent (inf), `block` how long the loop is then held up once (0).
"""

from __future__ import annotations

__all__: list[str] = []

import asyncio
import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from edgeagent.keeper.client import Keeper
from edgeagent.model import Value
from edgeagent.wire.keeper import KeptDevice
from tests.support.recorder import options


def say(what: str, **more: object) -> None:
    print(json.dumps({"at": time.monotonic(), "event": what, **more}), flush=True)


class Events:
    def device(self, name: str, phase: str, text: str) -> None:
        say("device", name=name, phase=phase, text=text)

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None: ...

    def stopped(self, device: str, why: str, at: float) -> None:
        say("stopped", name=device, why=why)

    def up(self, alive: bool) -> None:
        say("up", alive=alive)


async def main(folder: Path, life: float = 0.3, period: float = 0.02, block: float = 0.0, **more: float) -> None:
    devices = [KeptDevice(name=name, driver="recorder", options=options(folder)) for name in ("left", "right")]
    keeper = Keeper(devices, Events())
    running = asyncio.create_task(keeper.run())
    while not keeper.alive:
        await asyncio.sleep(0.01)
    say("started", guard=keeper.pid)
    end = time.monotonic() + more.get("for", math.inf)
    while time.monotonic() < end:
        keeper.set({"left": {"throttle": 0.5}, "right": {"throttle": 0.5}}, time.monotonic() + life)
        await asyncio.sleep(period)
    say("silent")
    if block:
        time.sleep(block)
    await running


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    asyncio.run(main(Path(sys.argv[1]), **{key: float(value) for key, _, value in (word.partition("=") for word in sys.argv[2:])}))
