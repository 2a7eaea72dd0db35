"""When servers are asked whether they are alive, and TURN over TLS."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgeagent.rtc import servers as module
from edgeagent.rtc.private import EdgeConnection, IceOptions
from edgeagent.rtc.servers import IceServer, IceServers
from tests.rtc.test_servers import coturn, patient
from tests.support.tls import TlsDoor

__all__ = ["patient"]


class Recorded(IceServers):
    """Nobody answers before `alive_at`, seconds after the start."""

    def __init__(self, alive_at: float) -> None:
        super().__init__([IceServer("stun:192.0.2.1:3478")])
        self.alive_at, self.asked_at = alive_at, list[float]()
        self.started_at = asyncio.get_running_loop().time()

    async def probe(self) -> None:
        now = asyncio.get_running_loop().time() - self.started_at
        self.asked_at.append(now)
        self.servers[0].address = ("192.0.2.1", 3478) if now >= self.alive_at else None


async def asked_within(seconds: float, servers: Recorded) -> list[int]:
    task = asyncio.create_task(servers.run())
    await asyncio.sleep(seconds)
    task.cancel()
    return [round(at) for at in servers.asked_at]


async def test_after_a_boot_without_network_the_servers_are_found_soon() -> None:
    assert await asked_within(200, Recorded(alive_at=5)) == [0, 2, 6, 66, 126, 186]


async def test_who_never_answers_is_asked_once_a_minute_in_the_end() -> None:
    assert await asked_within(190, Recorded(alive_at=1e9)) == [0, 2, 6, 14, 30, 62, 122, 182]


@pytest.mark.realtime
async def test_a_name_that_nobody_answers_holds_up_no_thread_of_the_loop_and_is_asked_for_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answered = list[str](), threading.Event()

    def hang(host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    names = ["stun:a.example:3478", "turn:b.example:3478", "turns:c.example:5349?transport=tcp"]
    servers = IceServers([IceServer(name, "cam", "secret") for name in names])
    try:
        await servers.probe()
        await servers.probe()
        assert await asyncio.to_thread(lambda: "a page") == "a page"
    finally:
        answered.set()
    async with asyncio.timeout(60):
        while servers._asked:
            await asyncio.sleep(0.01)
    assert sorted(asked) == ["a.example", "b.example", "c.example"]
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 60.0)
    await servers.probe()
    assert len(asked) == 6 and not servers.any_alive


@pytest.mark.realtime
@pytest.mark.usefixtures("patient")
async def test_turn_over_tls_is_checked_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with coturn(tmp_path) as port:
        with TlsDoor(port, tmp_path, address=False) as door:
            monkeypatch.setenv("SSL_CERT_FILE", str(door.certificate))
            named = IceServer(f"turns:localhost:{door.port}?transport=tcp", "cam", "secret")
            numbered = IceServer(f"turns:127.0.0.1:{door.port}?transport=tcp", "cam", "secret")
            servers = IceServers([numbered, named])
            await servers.probe()
            assert numbered.address is None, "the certificate is for the name"
            assert named.address is not None
            connection = EdgeConnection(IceOptions())
            try:
                found = [one async for candidates in servers.candidates(connection) for one in candidates]
                assert [candidate.type for candidate in found] == ["relay"]
            finally:
                await connection.close()
