"""What all peers of an agent share, and how they see a camera."""

from __future__ import annotations

__all__ = ["PeerSettings", "StreamPort", "Subscriber", "make_certificate"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiortc import RTCCertificate

from edgeagent.core.uplink import UplinkShare
from edgeagent.media.hub import Subscriber
from edgeagent.media.packetize import Packets
from edgeagent.model import StreamInfo
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


@dataclass(slots=True)
class PeerSettings:
    """What all peers share.

    Attributes:
        certificate: The agent's DTLS certificate, made once.
        streams: Finds a camera by name, None where there is none.
        servers: STUN and TURN servers and what is known of them.
        ice: Ports and addresses.
        uplink: What viewers beyond the LAN share.
    """

    certificate: RTCCertificate
    streams: Callable[[str], StreamPort | None]
    servers: IceServers
    ice: IceOptions = field(default_factory=IceOptions)
    uplink: UplinkShare = field(default_factory=UplinkShare)


def make_certificate() -> RTCCertificate:
    """A DTLS certificate for one run of the agent; browsers know it by the fingerprint in the answer, not by a CA."""
    return RTCCertificate.generateCertificate()
