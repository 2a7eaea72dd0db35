"""What all peers of an agent share, and how they see a camera."""

from __future__ import annotations

__all__ = ["PeerSettings", "StreamPort", "Subscriber", "make_certificate"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiortc import RTCCertificate

from edgeagent.core.bitrate import NetworkMemory
from edgeagent.core.layers import Share
from edgeagent.core.uplink import UplinkShare
from edgeagent.media.hub import Subscriber, Viewer
from edgeagent.media.packetize import Packets
from edgeagent.model import Capabilities, StreamInfo
from edgeagent.rtc.private import IceOptions
from edgeagent.rtc.servers import IceServers


class StreamPort(Protocol):
    """A camera, as a sender sees it. Implemented by `media.hub.Hub`."""

    name: str

    def attach(self, subscriber: Subscriber, layer: str = "main") -> None: ...
    def detach(self, subscriber: Subscriber, layer: str = "main") -> None: ...
    def catch_up(self, layer: str = "main") -> Sequence[Packets]: ...
    def request_keyframe(self, layer: str = "main") -> None: ...
    def info(self, layer: str = "main") -> StreamInfo: ...
    def can_ask(self, layer: str) -> bool: ...
    def slow(self, layer: str) -> bool: ...
    def best_bps(self, wish: str = "auto") -> float: ...
    def watch(self, viewer: Viewer, usable_bps: float | None, wish: str = "auto") -> Share: ...
    def unwatch(self, viewer: Viewer) -> None: ...
    def demand(self, viewer: Viewer, usable_bps: float | None, wish: str = "auto", *, at_once: bool = False) -> None: ...

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def offered(self) -> Sequence[str]: ...


@dataclass(slots=True)
class PeerSettings:
    """What all peers share.

    Attributes:
        certificate: The agent's DTLS certificate, made once.
        streams: Finds a camera by name, None where there is none.
        servers: STUN and TURN servers and what is known of them.
        ice: Ports and addresses.
        uplink: What viewers beyond the LAN share.
        memory: What each viewer's network carried last time.
    """

    certificate: RTCCertificate
    streams: Callable[[str], StreamPort | None]
    servers: IceServers
    ice: IceOptions = field(default_factory=IceOptions)
    uplink: UplinkShare = field(default_factory=UplinkShare)
    memory: NetworkMemory = field(default_factory=NetworkMemory)


def make_certificate() -> RTCCertificate:
    """A DTLS certificate for one run of the agent; browsers know it by the fingerprint in the answer, not by a CA."""
    return RTCCertificate.generateCertificate()
