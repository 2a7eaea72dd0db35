"""What the tests of the HTTP door share."""

from __future__ import annotations

__all__ = ["OFFER", "Client", "Port", "door", "https", "own", "restart_of"]

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp

from edgeagent.core.ports import ReplyTo, SignalingPort
from edgeagent.errors import DeviceFault
from edgeagent.http.door import HttpDoor, HttpOptions
from edgeagent.tls.source import OwnCertificate, Source
from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_viewer
from tests.support.sdp import CHROMIUM_OFFER
from tests.support.viewers import camera

OFFER = CHROMIUM_OFFER.replace("\n", "\r\n")
Client = aiohttp.ClientSession


class Port:
    """A `SignalingPort` that answers as told and keeps what it is given."""

    def __init__(self, script: Callable[[m.ViewerMessage, ReplyTo], None] | None = None) -> None:
        self.script = script or answer
        self.received: list[m.ViewerMessage] = []
        self.replies: list[ReplyTo] = []
        self.lost: list[str] = []

    def receive(self, raw: bytes | str, reply: ReplyTo) -> None:
        message = decode_viewer(raw)
        self.received.append(message)
        self.replies.append(reply)
        self.script(message, reply)

    def gone(self, reply: ReplyTo) -> None:
        self.lost.append(reply.key)


def answer(message: m.ViewerMessage, reply: ReplyTo) -> None:
    """Answer every offer."""
    if isinstance(message, m.Offer):
        reply.send(m.Answer(sid=message.sid, n=message.n, sdp="v=0\r\nanswer\r\n", cameras=message.cameras))


async def picture(name: str) -> bytes:
    """A snapshot of every camera but one."""
    if name == "desk":
        raise DeviceFault("The camera desk is unplugged.")
    return f"picture of {name}".encode()


def hello() -> m.Hello:
    """Two cameras, and a server with awkward credentials."""
    servers = [
        m.IceServer(urls=["stun:192.0.2.1"]),
        m.IceServer(urls=["turn:192.0.2.2?transport=udp", "turns:192.0.2.2"], username='a"b\\c', credential="d e"),
    ]
    cameras = [camera("gate", "live"), camera("desk", "failed")]
    return m.Hello(device="porch", version="1", epoch="e1", cameras=cameras, ice_servers=servers)


@contextlib.asynccontextmanager
async def door(signaling: SignalingPort | None = None, **options: Any) -> AsyncIterator[tuple[HttpDoor, Client]]:
    """A door on a free port of 127.0.0.1 and a client of it."""
    parts: dict[str, Any] = {
        name: options.pop(name) for name in ("snapshot", "health", "hello", "metrics", "ticket") if name in options
    }
    parts = {"snapshot": picture, "health": lambda: {"ok": True, "device": "porch"}, "hello": hello} | parts
    made = HttpDoor(HttpOptions(**{"port": 0} | options), device="porch", signaling=signaling or Port(), **parts)
    async with made, Client(f"http://127.0.0.1:{made.port}", cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        yield made, client


def own(folder: Path) -> OwnCertificate:
    """A certificate of the door's own, kept in a folder as `https.pem`."""
    return OwnCertificate(folder, device="porch", listen="127.0.0.1", addresses=list, clock_is_right=lambda: True)


@contextlib.asynccontextmanager
async def https(source: Source, **options: Any) -> AsyncIterator[HttpDoor]:
    """A door that speaks HTTPS, on a free port of 127.0.0.1."""
    made = HttpDoor(
        HttpOptions(port=0, tls=source, **options),
        device="porch",
        signaling=Port(),
        hello=hello,
        snapshot=picture,
        health=lambda: {"ok": True, "device": "porch"},
    )
    async with made:
        yield made


def restart_of(offer: str) -> str:
    """A fragment of another ICE generation."""
    return "a=ice-ufrag:new0\r\na=ice-pwd:new0new0new0new0new0new0\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
