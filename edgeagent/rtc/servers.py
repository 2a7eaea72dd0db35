"""STUN and TURN servers from the configuration, probed in the background: only those found alive are ever asked."""

from __future__ import annotations

__all__ = ["IceServer", "IceServers"]

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aioice import stun, turn
from aioice.candidate import Candidate
from aiortc.rtcicetransport import parse_stun_turn_uri

from edgeagent.rtc.private import EdgeConnection

log = logging.getLogger(__name__)

PROBE_EVERY_S, PROBE_TIMEOUT_S, GATHER_TIMEOUT_S = 60.0, 2.0, 3.0
PROBE_AGAIN_S = 2.0
"""Until the next probe while no server is alive, as after a boot without network; doubled up to `PROBE_EVERY_S`."""


@dataclass(slots=True)
class IceServer:
    """One server URL. `address` is set while it is known to be alive: its IP address, or its name where TLS checks that."""

    url: str
    username: str = ""
    credential: str = ""
    address: tuple[str, int] | None = field(default=None)

    @property
    def parsed(self) -> dict[str, object]:
        return dict(parse_stun_turn_uri(self.url))


class IceServers:
    """The configured servers and what the last probe found. On a LAN without servers nothing is ever waited for."""

    def __init__(self, servers: Sequence[IceServer]) -> None:
        self.servers = list(servers)
        self._asked: dict[tuple[str, int], asyncio.Future[str | Exception]] = {}

    @property
    def any_alive(self) -> bool:
        return any(s.address for s in self.servers)

    async def run(self) -> None:
        """Probe for ever; cancelled at the end."""
        pause_s = PROBE_AGAIN_S
        while self.servers:
            await self.probe()
            if self.any_alive:
                pause_s = PROBE_AGAIN_S  # for the day when all fall silent
                await asyncio.sleep(PROBE_EVERY_S)
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PROBE_EVERY_S)

    async def probe(self) -> None:
        """Ask each server once, side by side."""
        await asyncio.gather(*(self._probe(server) for server in self.servers))

    async def _probe(self, server: IceServer) -> None:
        parsed = server.parsed
        address: tuple[str, int] | None = None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                host, port = str(parsed["host"]), int(str(parsed["port"]))
                found = await self._look_up(host, port)
                if parsed["scheme"] != "turns":  # its certificate is for the name, which is looked up once more
                    host = found
                if parsed["scheme"] in ("stun", "stuns"):
                    await binding_request((host, port))
                else:
                    transport, _ = await turn.create_turn_endpoint(
                        asyncio.DatagramProtocol,
                        server_addr=(host, port),
                        username=server.username,
                        password=server.credential,
                        ssl=parsed["scheme"] == "turns",
                        transport=str(parsed["transport"]),
                    )
                    transport.close()
                address = (host, port)
        except (OSError, stun.TransactionError, TimeoutError, ValueError) as error:
            log.debug("ICE server %s: %r", server.url, error)
        if (address is None) != (server.address is None):
            log.info("ICE server %s %s", server.url, "answers" if address else "is silent: left out until it answers")
        server.address = address

    async def _look_up(self, host: str, port: int) -> str:
        """An address of this server. Raises OSError or ValueError where the name has none.

        However often a name is asked for that nobody answers, one thread waits, and none of the loop's own: files and much else do.
        """
        if (answer := self._asked.get((host, port))) is None:
            answer = self._asked[host, port] = look_up(host, port)
            answer.add_done_callback(lambda _: self._asked.pop((host, port)))
        found = await asyncio.shield(answer)
        if isinstance(found, Exception):
            raise found
        return found

    async def candidates(self, connection: EdgeConnection) -> AsyncIterator[list[Candidate]]:
        """Candidates from the first live STUN and the first live TURN server, as they come."""
        work: list[asyncio.Task[list[Candidate]]] = []
        for scheme in ("stun", "turn"):
            server = next((s for s in self.servers if s.address and s.url.startswith(scheme)), None)
            if server is None or server.address is None:
                continue
            parsed = server.parsed
            if scheme == "stun":
                if ipaddress.ip_address(server.address[0]).version == 4:
                    work.append(asyncio.create_task(connection.ask_stun(server.address)))
            else:
                work.append(
                    asyncio.create_task(
                        connection.ask_turn(
                            server.address,
                            username=server.username,
                            password=server.credential,
                            tls=parsed["scheme"] == "turns",
                            transport=str(parsed["transport"]),
                        )
                    )
                )
        try:
            with contextlib.suppress(TimeoutError):
                for done in asyncio.as_completed(work, timeout=GATHER_TIMEOUT_S):
                    yield await done
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


def look_up(host: str, port: int) -> asyncio.Future[str | Exception]:
    """An address, or why there is none, by the system's resolver; on a thread that holds up nothing, even if it hangs."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | Exception] = loop.create_future()

    def ask() -> None:
        found: str | Exception
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            # IPv4 first: server-reflexive candidates over IPv6 tell nothing that host candidates do not.
            found = str(min(infos, key=lambda i: i[0] != socket.AF_INET)[4][0])
        except (OSError, ValueError) as error:  # the second for what no name can be, as by its length
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(answer.set_result, found)

    threading.Thread(target=ask, name="ice-look-up", daemon=True).start()
    return answer


class _Probe(asyncio.DatagramProtocol):
    """Waits for one STUN answer."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.address: tuple[str, int] | None = None
        self.error: Exception | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        with contextlib.suppress(ValueError, struct.error):  # aioice's for an attribute that is too short
            message = stun.parse_message(data)
            if message.message_class == stun.Class.RESPONSE and not self.settled.is_set():
                self.address = message.attributes.get("XOR-MAPPED-ADDRESS")
                self.settled.set()

    def error_received(self, exc: Exception) -> None:
        if not self.settled.is_set():
            self.error = exc
            self.settled.set()


async def binding_request(address: tuple[str, int]) -> tuple[str, int] | None:
    """One STUN binding request (RFC 8489), sent every 0.5 s until it is answered; the caller sets the time limit.

    Returns our address as the server sees it, None where it does not say. Raises OSError where nobody is there.
    """
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Probe, remote_addr=address)
    try:
        request = bytes(stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST))
        while not protocol.settled.is_set():
            transport.sendto(request)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(protocol.settled.wait(), timeout=0.5)
    finally:
        transport.close()
    if protocol.error:
        raise protocol.error
    return protocol.address
