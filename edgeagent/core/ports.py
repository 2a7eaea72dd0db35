"""The seams between the parts that meet in `app`: small protocols, so that no part imports another."""

from __future__ import annotations

__all__ = [
    "CapturedAt",
    "DeviceEvents",
    "DevicePort",
    "KeeperEvents",
    "KeeperPort",
    "PeerEvents",
    "PeerFactory",
    "PeerPort",
    "ReplyTo",
    "SignalingPort",
    "ViewerChannels",
    "ViewerEvents",
]

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgeagent.model import Value
from edgeagent.wire.messages import AgentMessage, Candidate, Delay, Flow


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

    def data_opened(self, label: str) -> None:
        """A channel of `wire.control` has opened: `control`, `events` or `telemetry`."""

    def data_message(self, label: str, text: str) -> None: ...
    def data_closed(self, label: str) -> None:
        """One of these has been closed by the viewer, while the peer goes on."""

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

    def quality(self, mid: str, layer: str, delay: Delay = "smooth", sooner_ms: int = 0) -> None:
        """Wish a layer, `auto` or `off` for `mid`, and that it is shown at once or evenly. Raises PeerError(404).

        `sooner_ms`: the viewer takes pictures for so much too early and holds them back; draw their time stamps forward by that.
        """

    def send(self, text: str) -> bool:
        """Send over the data channel `session`; false where it is not open."""

    def send_data(self, label: str, text: str) -> bool:
        """Send over `control`, `events` or `telemetry`; false where it is not open, or more than `MAX_QUEUED` bytes would wait."""

    def captured_at(self, mid: str, timestamp: int) -> float | None:
        """When the picture with this RTP time stamp on `mid` was captured, in seconds of the loop's clock; None where unknown."""

    async def close(self, reason: str = "") -> None:
        """End the connection and free everything; may be called more than once, also after `PeerEvents.closed`."""


class PeerFactory(Protocol):
    """Makes a peer that reports to `events`."""

    def __call__(self, sid: str, events: PeerEvents) -> PeerPort: ...


class ViewerChannels(Protocol):
    """From the desk to viewers, over the data channels of `wire.control`. Implemented by `rtc.sessions.Sessions`."""

    def send_data(self, viewer: str, label: str, text: str) -> bool:
        """Send one message, never blocking; false where that channel is not open or more than `MAX_QUEUED` bytes would wait."""


class ViewerEvents(Protocol):
    """What viewers' data channels tell, on the loop. Implemented by `desk.Desk`.

    `viewer` is unique in this run of the agent, whatever the viewer calls himself: his `sid`, which he chooses, will not do.
    """

    def opened(self, viewer: str, label: str) -> None: ...
    def message(self, viewer: str, label: str, text: bytes | str) -> None:
        """One message, as it came from outside. Never raises."""

    def closed(self, viewer: str) -> None:
        """One of his channels, or all of them, are gone: what he operates stops. He may open them all again."""

    def drives(self, viewer: str) -> bool:
        """Whether he has the lease of a group, or waits for one."""


class CapturedAt(Protocol):
    """Tells when a picture was captured, by what a viewer says of it."""

    def __call__(self, viewer: str, mid: str, rtp: int, /) -> float | None:
        """In seconds of the loop's clock; None where unknown."""


class DevicePort(Protocol):
    """Commands to devices. Implemented by `drivers.supervisor.Supervisor`, and by the keeper's client for those that move."""

    async def command(self, device: str, command: str, args: Mapping[str, Any]) -> Any:
        """Carry out one command; returns what it returns, in JSON's types. Raises PeerError or DeviceFault."""


class DeviceEvents(Protocol):
    """What is told of devices, on the loop. Implemented by `desk.Desk`."""

    def device(self, name: str, phase: str, text: str) -> None:
        """`phase` is `starting`, `live`, `retrying` or `failed`; `text` one sentence for people where it is not live."""

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        """What was just read: of each of these devices all readings that are known; `at` in seconds of the loop's clock."""


class KeeperPort(DevicePort, Protocol):
    """The keeper, as the desk sees it. Implemented by `keeper.client`."""

    def set(self, values: Mapping[str, Mapping[str, float]], until: float) -> None:
        """Move the axes, by device; the keeper stops them by itself at `until` (seconds of CLOCK_MONOTONIC). Never blocks."""

    def stop(self, devices: Sequence[str] | None = None) -> None:
        """Stop these devices, or (None) everything that moves. Never blocks."""


class KeeperEvents(DeviceEvents, Protocol):
    """What the keeper tells, on the loop. Implemented by `desk.Desk`."""

    def stopped(self, device: str, why: str, at: float) -> None:
        """The keeper stopped a device by itself, `at` seconds of CLOCK_MONOTONIC; `why` in one word."""

    def up(self, alive: bool) -> None:
        """The keeper works, or has died. Everything stands still in both cases."""
