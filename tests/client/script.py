"""A script that drives for ever, to be killed, halted and held up by tests.

    python -m tests.client.script ADDRESS TOKEN [BLOCK_S]

Prints `driving` once it does; with BLOCK_S it prints `held up` a second later, and its loop is for so long. Prints what stops it,
and goes on.
"""

from __future__ import annotations

__all__: list[str] = []

import asyncio
import sys
import time

from edgeagent.client import ClientError, Device, FailSafe, Lease, connect


async def main(address: str, token: str, block_s: float = 0.0) -> None:
    async with connect(address, token=token or None, timeout_s=60) as robot:
        while True:
            try:
                async with robot.lease() as lease:
                    await drive(robot, lease, block_s)
            except FailSafe as error:  # as where a busy machine has shown no picture for a while
                print(f"not armed: {error}", flush=True)


async def drive(robot: Device, lease: Lease, block_s: float) -> None:
    while True:
        try:
            if lease.error:
                await lease.rearm()
            await robot.drive(0.5, for_s=30)
            print("driving", flush=True)
            await robot.drive(0.5, for_s=1, wait=True)
            if block_s:
                await robot.drive(0.5, for_s=30)
                print("held up", flush=True)
                time.sleep(block_s)
        except ClientError as error:
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])))
