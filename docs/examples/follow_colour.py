"""Follow something red: turn until it is in the middle, drive towards it, and search where there is none.

Needs a robot with a camera and wheels (throttle and steering). Run: python follow_colour.py http://robot.local:8080 rover
"""

import asyncio
import os
import sys

from edgeagent.client import connect


async def main(address: str, camera: str) -> None:
    async with connect(address, token=os.environ.get("EDGEAGENT_TOKEN")) as robot, robot.lease(wait_s=60):
        async for picture in robot.frames(camera, as_array=True):
            middle = picture[picture.shape[0] // 5 : picture.shape[0] * 3 // 4 : 2, ::2].astype("int16")
            red, green, blue = middle[..., 0], middle[..., 1], middle[..., 2]
            columns = ((red > 140) & (green < 90) & (blue < 100) & (red > 2 * green)).nonzero()[1]
            if len(columns) < 20:
                await robot.drive(0, 0.25)  # none in sight: look around
                continue
            side = 2 * columns.mean() / middle.shape[1] - 1  # -1: at the left edge, 1: at the right edge
            near = len(columns) > 0.1 * middle[..., 0].size
            await robot.drive(0 if near else 0.4, max(-1, min(1, 0.8 * side)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
