"""A script that drives for ever, to be killed, halted and held up by tests.

    python -m tests.client.script ADDRESS TOKEN [BLOCK_S]

Prints `driving` once it does; with BLOCK_S its loop is then held up for so long, a second later. Prints the error that ends it.
"""

from __future__ import annotations

__all__: list[str] = []

import asyncio
import sys
import time

from edgeagent.client import ClientError, connect


async def main(address: str, token: str, block_s: float = 0.0) -> None:
    async with connect(address, token=token or None, timeout_s=60) as robot, robot.lease():
        await robot.drive(0.5, for_s=30)
        print("driving", flush=True)
        if block_s:
            await asyncio.sleep(1)
            time.sleep(block_s)
        try:
            while True:
                await robot.drive(0.5, for_s=30)
                await asyncio.sleep(0.02)
        except ClientError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])))
