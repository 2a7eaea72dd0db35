"""Patrol: straight on, and to the right wherever something stands in the way. After a fail-safe it waits and goes on.

Needs wheels, and a reading of the free distance ahead in metres. Run: python patrol.py http://robot.local:8080 rover.range
"""

import asyncio
import os
import sys

from edgeagent.client import FailSafe, connect


async def main(address: str, ahead: str) -> None:
    async with connect(address, token=os.environ.get("EDGEAGENT_TOKEN")) as robot, robot.lease(wait_s=60) as lease:
        while True:
            try:
                if lease.error:
                    await lease.rearm()
                free = robot.value(*ahead.split("."))
                if free is None:  # the sensor has failed: stand still
                    await asyncio.sleep(0.2)
                else:
                    await (robot.drive(0.5, for_s=0.2, wait=True) if free > 1 else robot.drive(0, 0.5, for_s=0.7, wait=True))
            except FailSafe as stopped:
                print(f"stopped: {stopped}")
                await asyncio.sleep(2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
