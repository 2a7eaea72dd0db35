"""What happens to viewers' sessions (events, past tense) and what is to be done (effects, imperative)."""

from __future__ import annotations

__all__ = [
    "AddCandidates",
    "BoardChanged",
    "CamerasChanged",
    "CandidatesFound",
    "ChannelOpened",
    "ClosePeer",
    "DoorGone",
    "Effect",
    "Event",
    "NonsenseReceived",
    "OpenPeer",
    "PeerAnswered",
    "PeerClosed",
    "PeerConnected",
    "PeerCrashed",
    "PeerEvent",
    "PeerRefused",
    "Received",
    "Renegotiate",
    "Send",
    "SendPong",
    "SessionConfig",
    "Stopped",
    "SwitchCamera",
    "TimePassed",
    "Way",
    "WishDone",
    "WishQuality",
    "WishRefused",
]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from edgeagent.core.ports import ReplyTo
from edgeagent.core.ratelimit import Rate
from edgeagent.wire.messages import AgentMessage, CameraState, Candidate, Delay, IceServer, ViewerMessage

Way: TypeAlias = ReplyTo | int
"""A way to a viewer: through a door, or the data channel of the peer with this number."""


@dataclass(slots=True, frozen=True, kw_only=True)
class SessionConfig:
    """Limits and names of one device's sessions.

    Attributes:
        device: The device's name.
        epoch: Names this run of the agent; an offer made for another run is refused.
        version: The agent's version, for `hello`.
        title: The device's name for people.
        ice_servers: What viewers may use, for `hello`.
        devices: How many sensors and actuators there are, for `hello`.
        max_viewers: Sessions at once.
        max_per_viewer: Sessions at once on one way back; one more replaces the oldest.
        offers_per_origin: Offers from one origin (`ReplyTo.origin`).
        offers: Offers from all origins together.
        messages: Other messages within one session.
        complaints: Errors that are pushed to viewers, all together; more are dropped and counted.
        answer_timeout_s: How long a peer may take for an answer.
        connect_timeout_s: How long from the offer to the connection.
        evict_after_s: When every place is taken, a session that is not connected after this time gives way.
        wait_for_servers_s: How long STUN and TURN may delay an answer that no candidates can follow.
        state_interval_s: The shortest time between two `state` messages.
        max_candidates: Remote candidates of one session, and candidates kept for later, each way.
    """

    device: str
    epoch: str
    version: str
    title: str = ""
    ice_servers: tuple[IceServer, ...] = ()
    devices: int = 0
    max_viewers: int = 64
    max_per_viewer: int = 4
    offers_per_origin: Rate = field(default=Rate(5, 80))
    offers: Rate = field(default=Rate(20, 100))
    messages: Rate = field(default=Rate(50, 200))
    complaints: Rate = field(default=Rate(50, 200))
    answer_timeout_s: float = 10.0
    connect_timeout_s: float = 30.0
    evict_after_s: float = 3.0
    wait_for_servers_s: float = 0.3
    state_interval_s: float = 0.5
    max_candidates: int = 100


@dataclass(slots=True, frozen=True)
class Received:
    """A viewer sent a message; on a data channel, `way` is its peer."""

    message: ViewerMessage
    way: Way


@dataclass(slots=True, frozen=True)
class NonsenseReceived:
    """A viewer sent something that is no message; `sid` as far as it could be read."""

    way: Way
    code: int
    message: str
    sid: str | None = None


@dataclass(slots=True, frozen=True)
class DoorGone:
    """The way back with this key is lost for good."""

    key: str


@dataclass(slots=True, frozen=True)
class PeerAnswered:
    """Offer `n` was negotiated."""

    peer: int
    n: int
    sdp: str


@dataclass(slots=True, frozen=True)
class PeerRefused:
    """Offer `n` cannot be answered, and the viewer is told why; a running peer goes on as before."""

    peer: int
    n: int
    code: int
    message: str


@dataclass(slots=True, frozen=True)
class PeerCrashed:
    """The peer failed by a fault of ours."""

    peer: int


@dataclass(slots=True, frozen=True)
class CandidatesFound:
    """The peer has local candidates to trickle."""

    peer: int
    candidates: tuple[Candidate, ...]
    end: bool


@dataclass(slots=True, frozen=True)
class PeerConnected:
    """ICE and DTLS are through."""

    peer: int


@dataclass(slots=True, frozen=True)
class ChannelOpened:
    """The data channel `session` is open."""

    peer: int


@dataclass(slots=True, frozen=True)
class PeerClosed:
    """The peer ended by itself."""

    peer: int
    reason: str


@dataclass(slots=True, frozen=True)
class CamerasChanged:
    """The state of all cameras, as it is now."""

    cameras: tuple[CameraState, ...]


@dataclass(slots=True, frozen=True)
class BoardChanged:
    """What ails the board, as it is now; "" while nothing does."""

    text: str


@dataclass(slots=True, frozen=True)
class TimePassed:
    """`next_deadline` is over."""


@dataclass(slots=True, frozen=True)
class Stopped:
    """The agent ends; every viewer is told `reason`."""

    reason: str


@dataclass(slots=True, frozen=True)
class Send:
    """Send `message`; a way that is gone swallows it."""

    way: Way
    message: AgentMessage


@dataclass(slots=True, frozen=True)
class SendPong:
    """Send a `Pong` with the wall clock as late as possible."""

    way: Way
    sid: str
    id: int
    at: float


@dataclass(slots=True, frozen=True)
class OpenPeer:
    """Make peer number `peer` and negotiate its first offer; ends with `ClosePeer` or with the event `PeerClosed`."""

    peer: int
    sid: str
    n: int
    sdp: str
    cameras: Mapping[str, str]
    wait_for_servers_s: float


@dataclass(slots=True, frozen=True)
class Renegotiate:
    """Negotiate a later offer, after the one before."""

    peer: int
    n: int
    sdp: str
    cameras: Mapping[str, str]


@dataclass(slots=True, frozen=True)
class AddCandidates:
    """Hand remote candidates to the peer."""

    peer: int
    candidates: tuple[Candidate, ...]
    end: bool


@dataclass(slots=True, frozen=True)
class SwitchCamera:
    """Show `camera` on `mid`; comes back as `WishDone` or `WishRefused`."""

    peer: int
    way: Way
    id: int
    mid: str
    camera: str


@dataclass(slots=True, frozen=True)
class WishQuality:
    """Ask for `layer` on `mid`, shown with `delay` and `sooner_ms` sooner. Comes back as `WishDone` or `WishRefused`."""

    peer: int
    way: Way
    id: int
    mid: str
    layer: str
    delay: Delay = "smooth"
    sooner_ms: int = 0


@dataclass(slots=True, frozen=True)
class ClosePeer:
    """End the peer, whatever it does at the moment."""

    peer: int
    reason: str


@dataclass(slots=True, frozen=True)
class WishDone:
    """The wish was carried out."""

    wish: SwitchCamera | WishQuality


@dataclass(slots=True, frozen=True)
class WishRefused:
    """The peer refused the wish."""

    wish: SwitchCamera | WishQuality
    code: int
    message: str


PeerEvent: TypeAlias = PeerAnswered | PeerRefused | PeerCrashed | CandidatesFound | PeerConnected | ChannelOpened | PeerClosed
Event: TypeAlias = (
    Received
    | NonsenseReceived
    | DoorGone
    | PeerEvent
    | WishDone
    | WishRefused
    | CamerasChanged
    | BoardChanged
    | TimePassed
    | Stopped
)
Effect: TypeAlias = Send | SendPong | OpenPeer | Renegotiate | AddCandidates | SwitchCamera | WishQuality | ClosePeer
