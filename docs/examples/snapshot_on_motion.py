"""Keep a picture of whatever moves: one JPEG each time a detector says so, named by the time.

Needs a camera and a yes-or-no reading (a motion detector, a button); it only watches.
Run: python snapshot_on_motion.py http://robot.local:8080 weather.motion rover pictures
"""

import asyncio
import os
import sys
from pathlib import Path

from edgeagent.client import ClientError, connect


async def main(address: str, detector: str, camera: str, folder: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    async with connect(address, token=os.environ.get("EDGEAGENT_TOKEN")) as robot:
        async for sample in robot.readings(detector):
            if sample.value:
                try:
                    path = Path(folder, f"{sample.at:%Y%m%d-%H%M%S}.jpg")
                    path.write_bytes(await robot.snapshot(camera))
                except ClientError as error:
                    print(f"no picture: {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
