"""Write readings to a CSV file: time, name, value, unit. Goes on by itself when the connection was away.

Needs any sensor; it only watches. Run: python log_sensor.py http://robot.local:8080 readings.csv weather rover.battery
"""

import asyncio
import csv
import os
import sys

from edgeagent.client import connect


async def main(address: str, path: str, *names: str) -> None:
    async with connect(address, token=os.environ.get("EDGEAGENT_TOKEN")) as robot:
        with open(path, "a", newline="") as file:
            writer = csv.writer(file)
            async for sample in robot.readings(*names):
                time = sample.at.isoformat(timespec="milliseconds")
                writer.writerow([time, f"{sample.device}.{sample.name}", sample.value, sample.unit])
                file.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
