"""Remote ICE candidates as they come from outside."""

from __future__ import annotations

__all__ = ["parse_candidate"]

from aioice.candidate import Candidate as IceCandidate
from aiortc import RTCIceCandidate
from aiortc.rtcicetransport import candidate_from_aioice


def parse_candidate(line: str) -> RTCIceCandidate | None:
    """A remote UDP candidate from its SDP line, or None for what cannot be used (TCP, nonsense, an empty end mark)."""
    text = line.strip().removeprefix("a=").removeprefix("candidate:")
    if not text or len(text) > 512:
        return None
    try:
        candidate = IceCandidate.from_sdp(text)
    except ValueError:
        return None
    if candidate.transport.lower() != "udp" or candidate.component != 1 or not 0 < candidate.port < 65536:
        return None
    return candidate_from_aioice(candidate)
