"""Peers that follow a script instead of connecting, and that notice when they are used against their protocol."""

from __future__ import annotations

__all__ = ["ScriptedPeer", "ScriptedPeers"]

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeagent.core.ports import PeerEvents
from edgeagent.errors import PeerError
from edgeagent.wire.codec import decode_agent
from edgeagent.wire.messages import AgentMessage, Candidate, Delay

Script = Callable[["ScriptedPeer", str], Awaitable[str]]


async def at_once(peer: ScriptedPeer, sdp: str) -> str:
    """Answer without delay."""
    return f"answer to {sdp}"


@dataclass
class ScriptedPeer:
    """Implements `PeerPort`; keeps what was asked of it."""

    sid: str
    events: PeerEvents
    script: Script
    offers: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    remote: list[Candidate] = field(default_factory=list)
    remote_ended: bool = False
    wishes: list[tuple[str, str]] = field(default_factory=list)
    sent: list[AgentMessage] = field(default_factory=list)
    data: list[tuple[str, str]] = field(default_factory=list)
    open: bool = False
    closed: list[str] = field(default_factory=list)
    close_s: float = 0.0
    busy: bool = False

    async def negotiate(self, sdp: str, cameras: Mapping[str, str], *, wait_for_servers: float) -> str:
        assert not self.closed, "negotiate after close"
        assert not self.busy, "two negotiations at a time"
        self.offers.append((sdp, dict(cameras), wait_for_servers))
        self.busy = True
        try:
            return await self.script(self, sdp)
        finally:
            self.busy = False

    def add_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        assert self.offers, "candidates before the offer"
        assert not self.closed, "candidates after close"
        self.remote += candidates
        self.remote_ended |= end

    def switch(self, mid: str, camera: str) -> None:
        self._wish(mid, camera)

    def quality(self, mid: str, layer: str, delay: Delay = "smooth", sooner_ms: int = 0) -> None:
        words = (layer, delay if delay != "smooth" else "", f"sooner {sooner_ms}" if sooner_ms else "")
        self._wish(mid, " ".join(filter(None, words)))

    def _wish(self, mid: str, what: str) -> None:
        if mid == "missing":
            raise PeerError(404, "There is no such line.")
        if what == "broken":
            raise RuntimeError("a bug")
        self.wishes.append((mid, what))

    def send(self, text: str) -> bool:
        if self.open:
            self.sent.append(decode_agent(text))
        return self.open

    def send_data(self, label: str, text: str) -> bool:
        if self.open:
            self.data.append((label, text))
        return self.open

    def captured_at(self, mid: str, timestamp: int) -> float | None:
        return timestamp / 90_000 if mid == "0" else None

    async def close(self, reason: str = "") -> None:
        await asyncio.sleep(self.close_s)
        self.open = False
        self.closed.append(reason)

    # What the viewer's side does

    def connect(self) -> None:
        self.events.connected()
        self.open = True
        self.events.channel_opened()


class ScriptedPeers:
    """A `PeerFactory`; `made` are all peers so far. `script` is taken by each new peer."""

    def __init__(self, script: Script = at_once) -> None:
        self.script = script
        self.made: list[ScriptedPeer] = []

    def __call__(self, sid: str, events: PeerEvents) -> ScriptedPeer:
        self.made.append(ScriptedPeer(sid, events, self.script))
        return self.made[-1]

    @property
    def alive(self) -> list[ScriptedPeer]:
        return [peer for peer in self.made if not peer.closed]
