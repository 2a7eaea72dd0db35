"""As much of SDP as the WHEP door reads: which video lines want pictures, ICE credentials, and trickled fragments (RFC 8840)."""

from __future__ import annotations

__all__ = ["NO_VIDEO", "Fragment", "OfferOutline", "outline", "parse_fragment"]

import re
from dataclasses import dataclass

from pydantic import ValidationError

from edgeagent.errors import PeerError
from edgeagent.wire.messages import Candidate

MAX_CANDIDATES = 64
_LINE = re.compile(r"[a-z]=.*")
_MID = re.compile(r"[A-Za-z0-9_.~-]{1,32}", re.ASCII)
_DIRECTIONS = ("sendrecv", "recvonly", "sendonly", "inactive")

NO_VIDEO = "The offer has no video line that can receive: add one with a=recvonly."


@dataclass(slots=True, frozen=True)
class OfferOutline:
    """What the door must know of an offer.

    Attributes:
        video: Mids of the video lines that can receive, in order.
        first_mid: Mid of the first line, "" without any.
        credentials: Every pair of ICE user name fragment and password in it.
    """

    video: tuple[str, ...]
    first_mid: str
    credentials: frozenset[tuple[str, str]]


@dataclass(slots=True, frozen=True)
class Fragment:
    """A trickled fragment: the pair of ICE credentials where it has one, candidates, and whether they are the last."""

    credentials: tuple[str, str] | None
    candidates: tuple[Candidate, ...]
    end: bool


@dataclass(slots=True)
class _Section:
    kind: str = ""
    mid: str = ""
    port: str = "9"
    direction: str = ""
    ufrag: str = ""
    password: str = ""
    bundle_only: bool = False


def outline(sdp: str) -> OfferOutline:
    """Read an offer; raises PeerError: 400 for what is no SDP, 406 where it has neither a video line that can receive nor data."""
    if not sdp.startswith("v=0"):
        raise PeerError(400, "The body is not an SDP offer: it begins with v=0.")
    sections = [_Section()]
    for line in _lines(sdp):
        if line.startswith("m="):
            fields = line[2:].split()
            sections.append(_Section(kind=fields[0] if fields else "", port=fields[1] if len(fields) > 1 else ""))
        else:
            _take(sections[-1], line)
    session, media = sections[0], sections[1:]
    video = []
    for section in media:
        direction = section.direction or session.direction or "sendrecv"
        offered = section.port != "0" or section.bundle_only
        if section.kind == "video" and offered and direction in ("sendrecv", "recvonly"):
            if not _MID.fullmatch(section.mid):
                raise PeerError(400, "A video line of the offer has no usable a=mid.")
            video.append(section.mid)
    if len(set(video)) < len(video):
        raise PeerError(400, "Two video lines of the offer have the same a=mid.")
    if not video and all(section.kind != "application" for section in media):
        raise PeerError(406, NO_VIDEO)
    pairs = frozenset(
        (s.ufrag or session.ufrag, s.password or session.password) for s in sections if s.ufrag or s.password or s is session
    )
    return OfferOutline(tuple(video), media[0].mid, pairs - {("", "")})


def parse_fragment(text: str, default_mid: str = "") -> Fragment:
    """Read a body of `application/trickle-ice-sdpfrag`; candidates before any a=mid belong to `default_mid`.

    Raises PeerError(400).
    """
    section, mid = _Section(), default_mid
    candidates: list[Candidate] = []
    end = False
    lines = _lines(text)
    if not lines:
        raise PeerError(400, "The SDP fragment is empty.")
    for line in lines:
        if line.startswith("m="):
            mid = default_mid
        elif line.startswith("a=mid:"):
            mid = line[6:].strip()
        elif line.startswith("a=candidate:"):
            candidates.append(_candidate(line[2:].strip(), mid))
        elif line == "a=end-of-candidates":
            end = True
        else:
            _take(section, line)
    if len(candidates) > MAX_CANDIDATES:
        raise PeerError(400, f"The SDP fragment has {len(candidates)} candidates; at most {MAX_CANDIDATES} are taken at once.")
    credentials = (section.ufrag, section.password) if section.ufrag or section.password else None
    return Fragment(credentials, tuple(candidates), end)


def _candidate(text: str, mid: str) -> Candidate:
    try:
        return Candidate(candidate=text, sdpMid=mid or None)
    except ValidationError:
        raise PeerError(400, "A candidate or a=mid of the SDP fragment is too long.") from None


def _lines(text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    found = [line for line in lines if line]
    for line in found:
        if not _LINE.fullmatch(line):
            raise PeerError(400, "The body is not SDP: every line is a letter, = and a value.")
    return found


def _take(section: _Section, line: str) -> None:
    key, _, value = line[2:].partition(":")
    if not line.startswith("a="):
        return
    if key == "mid":
        section.mid = value.strip()
    elif key == "ice-ufrag":
        section.ufrag = value.strip()
    elif key == "ice-pwd":
        section.password = value.strip()
    elif key == "bundle-only":
        section.bundle_only = True
    elif key in _DIRECTIONS:
        section.direction = key
