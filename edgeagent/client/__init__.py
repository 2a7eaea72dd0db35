"""The client for scripts: see what a robot sees, read its sensors, switch its lamps, and drive it, by the same rules as the page.

    import asyncio
    from edgeagent.client import connect

    async def main():
        async with connect("http://robot.local:8080", token="…") as robot:
            print(robot.value("weather", "temperature"))
            await robot.command("lamp", "switch", on=True)
            async with robot.lease():
                await robot.drive(0.4, 0.1, for_s=2, wait=True)

    asyncio.run(main())

Everything happens on the script's own event loop, on purpose: a script that hangs sends nothing, and its robot stops. What takes
longer than 0.1 s, such as a neural network, belongs in `asyncio.to_thread`.
"""

from __future__ import annotations

__all__ = [
    "Busy",
    "ClientError",
    "ConnectionLost",
    "Device",
    "FailSafe",
    "Lease",
    "LeaseLost",
    "NoLease",
    "Refused",
    "Sample",
    "connect",
]

from edgeagent.client.address import parse_address
from edgeagent.client.device import Device, Sample
from edgeagent.client.errors import Busy, ClientError, ConnectionLost, FailSafe, LeaseLost, NoLease, Refused
from edgeagent.client.lease import Lease
from edgeagent.client.pin import parse_fingerprint


def connect(
    address: str,
    *,
    token: str | None = None,
    ca_file: str | None = None,
    fingerprint: str | None = None,
    timeout_s: float = 20.0,
) -> Device:
    """An agent, for `async with connect(…) as robot:`.

    Args:
        address: `http://HOST:PORT` of the agent, or `mqtt://BROKER/DEVICE` (also `https`, `mqtts`, `ws`, `wss`; user name and
            password of the broker may stand before it).
        token: Of an operator (`control.operators`), or the one that watching needs (`http.token`). On the agent's own machine
            none is needed over HTTP.
        ca_file: PEM file that vouches for the agent's or the broker's certificate; the system's own by default.
        fingerprint: Instead of it, for an agent with a certificate of its own (`http.tls: true`): the SHA-256 of that certificate,
            as the agent says it at its start and `edgeagent doctor` does; or that of its key, which `edgeagent doctor --json` calls
            `key_sha256`, and which stays when the certificate is renewed.
        timeout_s: How long to try at first.

    Raises:
        ValueError: The address or the fingerprint cannot be read, or they do not go together.
    """
    where = parse_address(address)
    if fingerprint is not None and (ca_file is not None or not where.base.startswith("https:")):
        raise ValueError("a fingerprint goes with an address that begins with https://, and without ca_file")
    pin = parse_fingerprint(fingerprint) if fingerprint is not None else None
    return Device(where, token=token, ca_file=ca_file, pin=pin, timeout_s=timeout_s)
