"""Offer in, answer out: SDP (RFC 8866) as WebRTC uses it (RFC 9429), reduced to what an agent that only sends needs.

Pure functions on text. An offer that cannot be used raises `PeerError` with a sentence; nothing else escapes.
"""

from __future__ import annotations

__all__ = ["AnswerMedia", "Codec", "Media", "Offer", "VideoFormat", "choose_h264", "make_answer", "parse_offer"]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeagent.errors import PeerError

ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
MAX_LINES, MAX_MEDIA = 4000, 32
TOKEN = re.compile(r"^[A-Za-z0-9_.~+/-]{1,64}$")
ICE_CHARS = re.compile(r"^[A-Za-z0-9+/=_-]{4,256}$")
RTPMAP = re.compile(r"^[A-Za-z0-9_.+-]{1,32}/[0-9]{1,9}(/[0-9]{1,2})?$")
FINGERPRINT = re.compile(r"^(sha-256|sha-384|sha-512|sha-1|sha-224|md5|md2) ([0-9A-F]{2}(?::[0-9A-F]{2})+)$", re.I)
STRONG = ("sha-256", "sha-384", "sha-512")
PROFILES = ("constrained-baseline", "baseline", "main", "constrained-high", "high")
"""H.264 profiles by what they can do: the nearest to a stream's own is answered."""


@dataclass(slots=True)
class Codec:
    """One payload type of an m-section."""

    payload_type: int
    name: str = ""
    clock_rate: int = 0
    rtpmap: str = ""
    fmtp: dict[str, str] = field(default_factory=dict)
    feedback: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Media:
    """One m-section of an offer."""

    kind: str
    protocol: str
    formats: list[str]
    port: int
    mid: str = ""
    direction: str = "sendrecv"
    codecs: dict[int, Codec] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)
    rtcp_rsize: bool = False
    sctp_port: int = 5000
    max_message_size: int = 65536

    @property
    def wants_video(self) -> bool:
        return self.kind == "video" and self.direction in ("recvonly", "sendrecv") and (self.port != 0 or self.bundle_only)

    bundle_only: bool = False


@dataclass(slots=True)
class Offer:
    """A parsed offer. ICE and DTLS attributes are those of its first live m-section: everything is bundled (RFC 9143)."""

    media: list[Media]
    bundle: list[str]
    ufrag: str
    password: str
    fingerprints: list[tuple[str, str]]
    setup: str
    ice_lite: bool
    candidates: list[str]
    end_of_candidates: bool


@dataclass(slots=True, frozen=True)
class VideoFormat:
    """What was agreed on for one video m-section. Numbers are 0 where the extension or RTX was not offered."""

    payload_type: int
    rtx_payload_type: int
    abs_send_time_id: int
    remb: bool
    nack: bool
    fmtp: str
    feedback: tuple[str, ...]
    transport_cc_id: int = 0
    playout_delay_id: int = 0


@dataclass(slots=True, frozen=True)
class AnswerMedia:
    """How one m-section is answered: video in a `format` (or `idle`: agreed on, nothing is sent), or as the data channels'
    transport, else refused (port 0)."""

    media: Media
    format: VideoFormat | None = None
    ssrc: int = 0
    rtx_ssrc: int = 0
    label: str = ""
    data: bool = False
    idle: bool = False


def bad(message: str) -> PeerError:
    return PeerError(400, f"The offer cannot be used: {message}.")


def number(text: str, low: int, high: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise bad(f"{what} is {text[:20]!r}, not a number from {low} to {high}")
    return int(text)


def parse_offer(text: str) -> Offer:
    """Parse an SDP offer.

    Raises:
        PeerError: 400 with a sentence that names what is wrong.
    """
    if not text.startswith("v=0"):
        raise bad("it does not begin with v=0")
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise bad(f"it has over {MAX_LINES} lines")
    media: list[Media] = []
    shared: dict[str, str] = {}
    per_media: list[dict[str, str]] = []
    session_prints: list[tuple[str, str]] = []
    prints: list[list[tuple[str, str]]] = []
    candidates: list[str] = []
    bundle: list[str] = []
    ice_lite = ended = False
    for line in lines:
        kind, equals, value = line.strip().partition("=")
        if not equals or len(kind) != 1:
            if line.strip():
                raise bad(f"the line {line[:40]!r} is not of the form x=value")
            continue
        if kind == "m":
            if len(media) >= MAX_MEDIA:
                raise bad(f"it has over {MAX_MEDIA} m-lines")
            media.append(parse_media_line(value))
            per_media.append({})
            prints.append([])
        elif kind == "a":
            name, _, argument = value.partition(":")
            attributes = per_media[-1] if media else shared
            if name in ("ice-ufrag", "ice-pwd", "setup"):
                attributes[name] = argument.strip()
            elif name == "fingerprint":
                match = FINGERPRINT.match(argument.strip())
                if not match:
                    raise bad("its fingerprint is malformed")
                (prints[-1] if media else session_prints).append((match[1].lower(), match[2].upper()))
            elif name == "ice-lite":
                ice_lite = True
            elif name == "group" and argument.startswith("BUNDLE"):
                bundle = argument.split()[1:]
            elif name == "candidate" and media:
                if len(candidates) < 64:  # more than any browser gathers; the rest is ignored
                    candidates.append("candidate:" + argument.strip())
            elif name == "end-of-candidates":
                ended = True
            elif media:
                parse_attribute(media[-1], name, argument.strip())
    if not media:
        raise bad("it has no m-line")
    if len({m.mid for m in media}) != len(media):
        raise bad("two m-lines have the same mid, or more than one has none")
    live = next((i for i, m in enumerate(media) if m.port or m.bundle_only), 0)
    found = {**shared, **per_media[live]}
    ufrag, password, setup = found.get("ice-ufrag", ""), found.get("ice-pwd", ""), found.get("setup", "actpass")
    if not ICE_CHARS.match(ufrag) or not ICE_CHARS.match(password) or len(password) < 22:
        raise bad("a=ice-ufrag or a=ice-pwd is missing or malformed")
    if setup not in ("actpass", "active", "passive"):
        raise bad(f"a=setup:{setup[:20]} is not actpass, active or passive")
    fingerprints = [p for p in prints[live] or session_prints if p[0] in STRONG]
    if not fingerprints:
        raise bad("it has no a=fingerprint of sha-256 or stronger")
    return Offer(media, bundle, ufrag, password, fingerprints, setup, ice_lite, candidates, ended)


def parse_media_line(value: str) -> Media:
    parts = value.split()
    if len(parts) < 4:
        raise bad(f"the m-line {value[:40]!r} is too short")
    kind, port, protocol, *formats = parts
    media = Media(kind, protocol, formats, number(port.partition("/")[0], 0, 65535, "a port"))
    if not TOKEN.match(kind) or not TOKEN.match(protocol) or len(formats) > 128 or not all(map(TOKEN.match, formats)):
        raise bad("an m-line is malformed")
    if kind in ("audio", "video"):
        for text in formats:
            payload_type = number(text, 0, 127, "a payload type")
            media.codecs[payload_type] = Codec(payload_type)
    return media


def parse_attribute(media: Media, name: str, argument: str) -> None:
    if name in ("sendrecv", "sendonly", "recvonly", "inactive"):
        media.direction = name
    elif name == "mid":
        if not TOKEN.match(argument):
            raise bad("a mid is malformed")
        media.mid = argument
    elif name == "bundle-only":
        media.bundle_only = True
    elif name == "rtcp-rsize":
        media.rtcp_rsize = True
    elif name == "sctp-port":
        media.sctp_port = number(argument, 1, 65535, "a=sctp-port")
    elif name == "max-message-size":
        media.max_message_size = number(argument, 0, 2**31, "a=max-message-size")
    elif name == "extmap":
        head, _, uri = argument.partition(" ")
        identifier = number(head.partition("/")[0], 1, 255, "an extmap id")
        if identifier <= 14:  # the one-byte form of RFC 8285 only
            media.extensions[uri.split(" ")[0]] = identifier
    elif name in ("rtpmap", "fmtp", "rtcp-fb"):
        head, _, rest = argument.partition(" ")
        if head == "*" and name == "rtcp-fb":
            for codec in media.codecs.values():
                codec.feedback.add(rest.strip())
            return
        codec_found = media.codecs.get(number(head, 0, 127, "a payload type"))
        if codec_found is None:
            return
        if name == "rtpmap":
            if RTPMAP.match(rest):
                codec_found.rtpmap = rest
            encoding, _, clock = rest.partition("/")
            codec_found.name = encoding.strip().upper()
            codec_found.clock_rate = number(clock.partition("/")[0].strip(), 1, 10**9, "a clock rate")
        elif name == "fmtp":
            for part in rest.split(";"):
                key, _, value = part.strip().partition("=")
                codec_found.fmtp[key.lower()] = value.strip()
        else:
            codec_found.feedback.add(rest.strip())


def profile_of(profile_level_id: str) -> str | None:
    """The profile that six hex digits name (RFC 6184, table 5), or None."""
    if not re.fullmatch(r"[0-9a-fA-F]{6}", profile_level_id):
        return None
    idc, iop = int(profile_level_id[:2], 16), int(profile_level_id[2:4], 16)
    if idc == 0x42:
        return "constrained-baseline" if iop & 0x40 else "baseline"
    if idc == 0x4D:
        return "constrained-baseline" if iop & 0x80 else "main"
    if idc == 0x58:
        return "constrained-baseline" if iop & 0xC0 == 0xC0 else "baseline"
    if idc == 0x64:
        return "constrained-high" if iop & 0x0C == 0x0C else "high"
    return None


def choose_h264(media: Media, profile_level_id: str = "42e01f") -> VideoFormat | None:
    """The H.264 payload type of packetization-mode 1 whose profile is nearest to the stream's, wherever it stands; else None.

    Args:
        media: A video m-section.
        profile_level_id: That of the camera's SPS; constrained baseline where it is not known yet.
    """
    wanted = PROFILES.index(profile_of(profile_level_id) or PROFILES[0])
    best: tuple[int, Codec] | None = None
    for codec in media.codecs.values():
        if codec.name != "H264" or codec.clock_rate != 90000 or codec.fmtp.get("packetization-mode") != "1":
            continue
        profile = profile_of(codec.fmtp.get("profile-level-id", "42000a"))  # the default of RFC 6184, 8.1
        if profile is None:
            continue
        away = PROFILES.index(profile) - wanted
        distance = away * 2 if away >= 0 else -away * 2 + 1  # a more capable decoder before a lesser one
        if best is None or distance < best[0]:
            best = (distance, codec)
    if best is None:
        return None
    codec = best[1]
    rtx = next(
        (c.payload_type for c in media.codecs.values() if c.name == "RTX" and c.fmtp.get("apt") == str(codec.payload_type)), 0
    )
    supported = ["nack", "nack pli", "ccm fir", "goog-remb"]
    if TRANSPORT_CC in media.extensions:
        supported.append("transport-cc")
    feedback = tuple(f for f in supported if f in codec.feedback)
    remb = "goog-remb" in feedback
    profile_id = codec.fmtp.get("profile-level-id", "42000a")
    return VideoFormat(
        payload_type=codec.payload_type,
        rtx_payload_type=rtx if "nack" in feedback else 0,
        abs_send_time_id=media.extensions.get(ABS_SEND_TIME, 0) if remb else 0,
        transport_cc_id=media.extensions[TRANSPORT_CC] if "transport-cc" in feedback else 0,
        playout_delay_id=media.extensions.get(PLAYOUT_DELAY, 0),
        remb=remb,
        nack="nack" in feedback,
        fmtp=f"level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile_id}",
        feedback=feedback,
    )


def make_answer(
    sections: Sequence[AnswerMedia],
    *,
    session_id: int,
    version: int,
    ufrag: str,
    password: str,
    fingerprint: str,
    setup: str,
    cname: str,
    candidates: Sequence[str],
    end_of_candidates: bool,
    sctp_port: int = 5000,
) -> str:
    """Write the answer. `candidates` are `candidate:…` lines, put into the first accepted section."""
    accepted = [s for s in sections if s.format is not None or s.data]
    lines = ["v=0", f"o=- {session_id} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    if accepted:
        lines.append("a=group:BUNDLE " + " ".join(s.media.mid for s in accepted))
    lines.append("a=msid-semantic: WMS *")
    for section in sections:
        media, chosen = section.media, section.format
        if section not in accepted:
            known = next((c for c in media.codecs.values() if c.rtpmap), None)
            first = str(known.payload_type) if known else media.formats[0]
            lines += [f"m={media.kind} 0 {media.protocol} {first}", "c=IN IP4 0.0.0.0", "a=inactive"]
            if media.mid:
                lines.append(f"a=mid:{media.mid}")
            # Of no meaning in a refused section (RFC 3264, 6), but some parsers (Pion's) look every format up.
            lines += [f"a=rtpmap:{first} {known.rtpmap}"] if known else []
            continue
        if chosen is None:
            lines.append(f"m=application 9 {media.protocol} webrtc-datachannel")
        else:
            payload_types = [chosen.payload_type] + ([chosen.rtx_payload_type] if chosen.rtx_payload_type else [])
            lines.append(f"m=video 9 {media.protocol} " + " ".join(map(str, payload_types)))
        lines += ["c=IN IP4 0.0.0.0"]
        if section is accepted[0]:
            lines += [f"a={c}" for c in candidates]
            if end_of_candidates:
                lines.append("a=end-of-candidates")
        lines += [
            f"a=ice-ufrag:{ufrag}",
            f"a=ice-pwd:{password}",
            "a=ice-options:trickle",
            f"a=fingerprint:sha-256 {fingerprint}",
            f"a=setup:{setup}",
            f"a=mid:{media.mid}",
        ]
        if chosen is None:
            lines += [f"a=sctp-port:{sctp_port}", "a=max-message-size:65536"]
            continue
        if chosen.abs_send_time_id:
            lines.append(f"a=extmap:{chosen.abs_send_time_id} {ABS_SEND_TIME}")
        if chosen.transport_cc_id:
            lines.append(f"a=extmap:{chosen.transport_cc_id} {TRANSPORT_CC}")
        if chosen.playout_delay_id:
            lines.append(f"a=extmap:{chosen.playout_delay_id} {PLAYOUT_DELAY}")
        lines += ["a=inactive"] if section.idle else ["a=sendonly", f"a=msid:{section.label} {section.label}-video"]
        lines.append("a=rtcp-mux")
        if media.rtcp_rsize:
            lines.append("a=rtcp-rsize")
        lines.append(f"a=rtpmap:{chosen.payload_type} H264/90000")
        lines += [f"a=rtcp-fb:{chosen.payload_type} {f}" for f in chosen.feedback]
        lines.append(f"a=fmtp:{chosen.payload_type} {chosen.fmtp}")
        if chosen.rtx_payload_type:
            lines += [
                f"a=rtpmap:{chosen.rtx_payload_type} rtx/90000",
                f"a=fmtp:{chosen.rtx_payload_type} apt={chosen.payload_type}",
            ]
        if section.idle:
            continue
        if chosen.rtx_payload_type:
            lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
        lines.append(f"a=ssrc:{section.ssrc} cname:{cname}")
        if chosen.rtx_payload_type:
            lines.append(f"a=ssrc:{section.rtx_ssrc} cname:{cname}")
    return "\r\n".join(lines) + "\r\n"


def is_data(media: Media) -> bool:
    """Whether this m-section is a data channel transport (RFC 8841) that can be accepted."""
    return media.kind == "application" and "SCTP" in media.protocol and "webrtc-datachannel" in media.formats
