"""The seams between the parts that meet in `app`: small protocols, so that no part imports another."""

from __future__ import annotations

__all__ = ["PeerEvents", "PeerFactory", "PeerPort", "ReplyTo", "SignalingPort"]

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgeagent.wire.messages import AgentMessage, Candidate, Flow


class ReplyTo(Protocol):
    """Where a viewer is reached: one MQTT inbox, one WHEP resource, or one data channel.

    Attributes:
        key: Unique name of the way back, e.g. `mqtt:alice`, `whep:3f…`, `channel:<sid>`.
        trickles: Whether candidates may follow the answer (false for WHEP).
        principal: Who this is, for rights and limits; "" while nobody has signed in.
        origin: Who shares one limit of offers: a viewer's name on the broker, an address at the HTTP door.
    """

    key: str
    trickles: bool
    principal: str
    origin: str

    def send(self, message: AgentMessage) -> None:
        """Send, never blocking; a way back that is gone swallows the message."""


class SignalingPort(Protocol):
    """What a door (MQTT, HTTP) calls. Implemented by `rtc.sessions.Sessions`."""

    def receive(self, raw: bytes | str, reply: ReplyTo) -> None:
        """Take one message as it came from outside. Never raises: nonsense is answered with `error`."""

    def gone(self, reply: ReplyTo) -> None:
        """The way back is lost for good: sessions that have no data channel yet end."""


class PeerEvents(Protocol):
    """What a peer tells its session, on the loop."""

    def local_candidates(self, candidates: Sequence[Candidate], end: bool) -> None: ...
    def connected(self) -> None: ...
    def channel_opened(self) -> None: ...
    def channel_message(self, text: str) -> None: ...
    def flows(self, flows: Sequence[Flow]) -> None:
        """How each video is sent, for the page; when it changes, at most once a second."""

    def closed(self, reason: str) -> None:
        """The peer is gone by itself: DTLS closed, consent lost, no RTCP. Not called after `close`."""


class PeerPort(Protocol):
    """One peer connection, as its session sees it. Implemented by `rtc.peer.Peer`."""

    async def negotiate(self, sdp: str, cameras: Mapping[str, str], *, wait_for_servers: float) -> str:
        """Take an offer (the first or a later one) and return the answer; `cameras` names the camera of each video mid.

        `wait_for_servers`: seconds that live STUN and TURN servers may delay the answer (0 where candidates can follow).
        Raises PeerError(406) without H.264 in packetization-mode 1, 400 for an SDP that cannot be used.
        """

    def add_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        """Take remote candidates; never blocks, `.local` names are resolved aside."""

    def switch(self, mid: str, camera: str) -> None:
        """Show another camera on `mid`; SSRC, sequence numbers and time stamps run on. Raises PeerError(404)."""

    def quality(self, mid: str, layer: str) -> None:
        """Wish a layer, `auto` or `off` for `mid`. Raises PeerError(404)."""

    def send(self, text: str) -> bool:
        """Send over the data channel `session`; false where it is not open."""

    async def close(self, reason: str = "") -> None:
        """End the connection and free everything; may be called more than once, also after `PeerEvents.closed`."""


class PeerFactory(Protocol):
    """Makes a peer that reports to `events`."""

    def __call__(self, sid: str, events: PeerEvents) -> PeerPort: ...
