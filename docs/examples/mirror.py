"""Mirror one robot to another board: a lamp there is on while something is so here.

Needs a yes-or-no reading (a button, a motion detector, a lamp) and a lamp or relay on another board (or on the same).
Run: python mirror.py http://robot.local:8080 button.pressed mqtt://broker/porch lamp
"""

import asyncio
import os
import sys

from edgeagent.client import ClientError, connect


async def main(leader: str, reading: str, follower: str, lamp: str) -> None:
    token = os.environ.get("EDGEAGENT_TOKEN")
    async with connect(leader, token=token) as here, connect(follower, token=token) as there:
        async for sample in here.readings(reading):
            try:
                await there.command(lamp, "switch", on=bool(sample.value))
            except ClientError as error:
                print(f"{lamp} was not switched: {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
