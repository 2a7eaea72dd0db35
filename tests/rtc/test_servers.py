"""STUN and TURN with a real coturn on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from edgeagent.rtc import servers as module
from edgeagent.rtc.peer import Peer
from edgeagent.rtc.servers import IceServer, IceServers
from tests.rtc.test_peer import Events, cameras, client, clip, offer_to, settings, size_of
from tests.support.components import require
from tests.support.ports import free_port
from tests.support.sdp import CHROMIUM_OFFER

pytestmark = pytest.mark.realtime


@asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[int]:
    """A TURN server for user `cam`, password `secret`; gives its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        require("turnserver"), "-n", "--no-cli", "--no-tls", "--no-dtls", "-L", "127.0.0.1", "-p", str(port), "-r", "test", "-a",
        "-u", "cam:secret", "--allow-loopback-peers", "--min-port", "49200", "--max-port", "49400", "--simple-log",
        "-l", str(folder / "turn.log"), "--pidfile", str(folder / "turn.pid"), "--db", str(folder / "turn.db"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        servers = IceServers([IceServer(f"stun:127.0.0.1:{port}")])
        async with asyncio.timeout(60):
            while not servers.any_alive:
                assert process.returncode is None, (folder / "turn.log").read_text()
                await servers.probe()
                await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture(scope="module", autouse=True)
def clips() -> None:
    clip("320x240")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is alive may take its time on a busy machine."""
    for name in ("PROBE_TIMEOUT_S", "GATHER_TIMEOUT_S"):
        monkeypatch.setattr(module, name, 60.0)


async def test_a_silent_server_is_left_out_and_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        servers = IceServers([IceServer(f"stun:127.0.0.1:{mute.getsockname()[1]}"), IceServer("turn:192.0.2.77:9", "a", "b")])
        await servers.probe()
    assert not servers.any_alive
    async with cameras(gate="320x240") as hubs:
        shared = settings(hubs)
        shared.servers = servers
        events = Events()
        async with client(Peer, events, shared) as (peer, pc):
            video = pc.addTransceiver("video", direction="recvonly")
            answer = await offer_to(peer, pc, {"0": "gate"})
            assert "a=end-of-candidates" in answer
            assert await size_of(video) == (320, 240)


async def test_wrong_credentials_and_names_that_do_not_resolve_count_as_silent(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port:
        servers = IceServers([IceServer(f"turn:127.0.0.1:{port}", "cam", "wrong"), IceServer("stun:no-such-host.invalid:3478")])
        await servers.probe()
        assert not servers.any_alive


@pytest.mark.usefixtures("patient")
async def test_server_candidates_follow_the_answer_or_are_in_it(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port, cameras(gate="320x240") as hubs:
        shared = settings(hubs)
        shared.servers = IceServers([IceServer(f"stun:127.0.0.1:{port}"), IceServer(f"turn:127.0.0.1:{port}", "cam", "secret")])
        await shared.servers.probe()
        events = Events()
        async with client(Peer, events, shared) as (peer, pc):
            pc.addTransceiver("video", direction="recvonly")
            answer = await offer_to(peer, pc, {"0": "gate"})
            assert " relay " not in answer and "a=end-of-candidates" not in answer
            async with asyncio.timeout(60):
                while not any(" relay " in c.candidate for c in events.candidates) or pc.connectionState != "connected":
                    await asyncio.sleep(0.01)
        peer = Peer("testpeer", Events(), shared)
        assert " relay " in await peer.negotiate(CHROMIUM_OFFER, {"0": "gate"}, wait_for_servers=60)
        await peer.close()


@pytest.mark.usefixtures("patient")
async def test_the_picture_comes_over_a_relay(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port, cameras(gate="320x240") as hubs:
        shared = settings(hubs)
        shared.servers = IceServers([IceServer(f"turn:127.0.0.1:{port}", "cam", "secret")])
        await shared.servers.probe()
        peer = Peer("testpeer", Events(), shared)
        pc = RTCPeerConnection(RTCConfiguration([RTCIceServer(f"turn:127.0.0.1:{port}", "cam", "secret")]))
        try:
            video = pc.addTransceiver("video", direction="recvonly")
            await pc.setLocalDescription(await pc.createOffer())
            only_relay = "\r\n".join(
                line for line in pc.localDescription.sdp.splitlines() if "typ host" not in line and "typ srflx" not in line
            )
            answer = await peer.negotiate(only_relay, {"0": "gate"}, wait_for_servers=60)
            answer = "\r\n".join(line for line in answer.splitlines() if "typ host" not in line) + "\r\n"
            await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            assert await size_of(video) == (320, 240)
            assert "relay" in peer.stats.path
        finally:
            await pc.close()
            await peer.close()
