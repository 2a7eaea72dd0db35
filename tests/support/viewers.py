"""Ways back and messages of made-up viewers, for tests of sessions and doors."""

from __future__ import annotations

__all__ = ["Reply", "bye", "camera", "candidate", "ice", "offer"]

from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_agent, encode

T = TypeVar("T")


@dataclass
class Reply:
    """A way back that keeps what was sent, as it reads after the wire."""

    key: str = "mqtt:alice"
    trickles: bool = True
    principal: str = ""
    origin: str = ""
    sent: list[m.AgentMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.origin = self.origin or self.key

    def send(self, message: m.AgentMessage) -> None:
        self.sent.append(decode_agent(encode(message)))

    def take(self, kind: type[T]) -> T:
        """The only message that was sent since the last `take`, which must be of this kind."""
        (message,) = self.sent
        assert isinstance(message, kind), message
        self.sent.clear()
        return message


def offer(sid: str = "session-1".replace("-", ""), n: int = 1, sdp: str = "v=0 offer", **fields: Any) -> m.Offer:
    return m.Offer(**{"sid": sid, "n": n, "sdp": f"{sdp} {n}", "cameras": {"0": "gate"}} | fields)


def ice(sid: str = "session1", *candidates: str, end: bool = False) -> m.Ice:
    return m.Ice(sid=sid, candidates=[candidate(text) for text in candidates], end=end)


def candidate(text: str = "candidate:1 1 udp 1 192.0.2.1 9 typ host") -> m.Candidate:
    return m.Candidate(candidate=text, sdpMid="0")


def bye(sid: str = "session1") -> m.Bye:
    return m.Bye(sid=sid)


def camera(name: str = "gate", phase: Any = "off", **fields: Any) -> m.CameraState:
    return m.CameraState(name=name, phase=phase, **fields)
