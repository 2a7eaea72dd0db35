"""RTSP 1.0 as a client speaks it (RFC 2326), sans-IO: addresses, messages, and the video line of an SDP."""

from __future__ import annotations

__all__ = ["Address", "Interleaved", "Reader", "Response", "Transport", "Video", "find_video", "request"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

_MAX_HEAD, _MAX_BODY = 16_384, 262_144
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
# The last @ before the path ends the password, so that one may hold an @.
_URL = re.compile(
    r"(?P<scheme>rtsps?)://(?:(?P<auth>[^/?#\s]*)@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?P<path>[/?][^#\s]*)?",
    re.IGNORECASE,
)
_RANK = ("H264", "H265", "JPEG")
_STATIC = {26: "JPEG", 32: "MPV", 33: "MP2T", 34: "H263"}  # payload types that need no rtpmap (RFC 3551)


@dataclass(slots=True, frozen=True)
class Address:
    """Where a camera is, and as whom to ask.

    Attributes:
        host: Name or address, IPv6 without brackets.
        port: TCP.
        url: For the requests: without user and password.
        user: "" for nobody.
        password: In the clear.
    """

    host: str
    port: int
    url: str
    user: str = ""
    password: str = ""

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("rtsps:")

    @classmethod
    def parse(cls, url: str, user: str = "", password: str = "") -> Address:
        """Read `rtsp://user:password@host:port/path?query`, or rtsps; `user` and `password` win over those in it.

        Raises:
            ValueError: It is no such address. The text never repeats the address, which may hold a password.
        """
        found = _URL.fullmatch(url.strip())
        if not found:
            raise ValueError(
                "write an address like rtsp://192.168.1.20:554/stream1; a password with special characters belongs under `password`"
            )
        scheme = found["scheme"].lower()
        port = int(found["port"] or _DEFAULT_PORTS[scheme])
        if not 0 < port < 65_536:
            raise ValueError("the port must be a number from 1 to 65535")
        host = found["host"]
        place = host if found["port"] is None else f"{host}:{port}"
        in_url = (found["auth"] or "").partition(":")
        path = quote(found["path"] or "/", safe="/?=&%:;,+@!~*()$-_.")
        return cls(host.strip("[]"), port, f"{scheme}://{place}{path}", user or unquote(in_url[0]), password or unquote(in_url[2]))


@dataclass(slots=True, frozen=True)
class Response:
    """What a server answered; header names are lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    challenges: tuple[str, ...] = ()
    body: bytes = b""

    @property
    def cseq(self) -> int:
        """The number of the request that it answers, -1 for none."""
        text = self.headers.get("cseq", "")
        return int(text) if text.isdecimal() and len(text) < 10 else -1


@dataclass(slots=True, frozen=True)
class Interleaved:
    """A packet of RTP or RTCP inside the RTSP connection (section 10.12)."""

    channel: int
    data: bytes


def request(method: str, url: str, cseq: int, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request without body."""
    lines = [f"{method} {url} RTSP/1.0", f"CSeq: {cseq}", "User-Agent: edgeagent", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


class Reader:
    """Cuts what comes over the connection into responses and interleaved packets; requests of the server are left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Response | Interleaved]:
        """Take bytes.

        Raises:
            ValueError: This is not RTSP.
        """
        buffer = self._buffer
        buffer += data
        found: list[Response | Interleaved] = []
        position = 0
        while len(buffer) - position >= 4:
            if buffer[position] == 0x24:  # $
                end = position + 4 + (buffer[position + 2] << 8 | buffer[position + 3])
                if end > len(buffer):
                    break
                found.append(Interleaved(buffer[position + 1], bytes(buffer[position + 4 : end])))
                position = end
            elif buffer[position] in b"\r\n":  # between messages
                position += 1
            else:
                message, end = _message(buffer, position)
                if end == 0:
                    break
                position = end
                if message:
                    found.append(message)
        del buffer[:position]
        return found


def _message(buffer: bytearray, start: int) -> tuple[Response | None, int]:
    """A response (None for a server's request) and where it ends; 0 where it is not complete."""
    end = buffer.find(b"\r\n\r\n", start, start + _MAX_HEAD)
    if end < 0:
        if len(buffer) - start >= _MAX_HEAD:
            raise ValueError("a header that does not end")
        if len(buffer) - start >= 16 and not re.match(rb"RTSP/|[A-Z_]+ ", bytes(buffer[start : start + 16])):
            raise ValueError("not RTSP")
        return None, 0
    lines = buffer[start:end].decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    challenges = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "www-authenticate":
            challenges.append(value)
        headers[name] = value
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 9 or int(length) > _MAX_BODY:
        raise ValueError("a body of impossible length")
    body_start = end + 4
    if len(buffer) < body_start + int(length):
        return None, 0
    stop = body_start + int(length)
    status = re.fullmatch(r"RTSP/\d\.\d (\d{3})(?: (.*))?", lines[0].strip())
    if not status:
        if re.fullmatch(r"[A-Z_]+ \S+ RTSP/\d\.\d", lines[0].strip()):
            return None, stop
        raise ValueError("not RTSP")
    return Response(int(status[1]), status[2] or "", headers, tuple(challenges), bytes(buffer[body_start:stop])), stop


@dataclass(slots=True, frozen=True)
class Video:
    """The video line of an SDP.

    Attributes:
        codec: Encoding name in capitals: `H264`, `H265`, `JPEG`, or another.
        payload_type: Of its RTP packets.
        control: URL for SETUP.
        aggregate: URL for PLAY and TEARDOWN.
        fmtp: Format parameters, names in lower case.
        fps: 0 where the SDP does not say.
    """

    codec: str
    payload_type: int
    control: str
    aggregate: str
    fmtp: Mapping[str, str] = field(default_factory=dict)
    fps: float = 0.0


def find_video(sdp: bytes, base: str) -> Video | None:
    """The first video line of an SDP, H.264 before H.265, and that before others; None where there is none.

    Args:
        sdp: As `DESCRIBE` gave it.
        base: `Content-Base`, `Content-Location` or the URL that was asked.
    """
    session_control, blocks = "*", []
    for raw in sdp.decode("utf-8", "replace").splitlines():
        kind, _, value = raw.strip().partition("=")
        if kind == "m":
            blocks.append([value])
        elif kind == "a" and blocks:
            blocks[-1].append(value)
        elif kind == "a" and value.lower().startswith("control:"):
            session_control = value[8:].strip()
    aggregate = _join(base, session_control)
    videos = [_video(block, base, aggregate) for block in blocks if block[0].startswith("video ")]
    known = [video for video in videos if video]
    ranked = sorted(known, key=lambda video: _RANK.index(video.codec) if video.codec in _RANK else len(_RANK))
    return ranked[0] if ranked else None


def _video(block: list[str], base: str, aggregate: str) -> Video | None:
    words = block[0].split()
    if len(words) < 4 or not words[3].isdecimal() or not 0 <= int(words[3]) < 128:
        return None
    number = int(words[3])
    codec, control, fps, fmtp = _STATIC.get(number, ""), "", 0.0, {}
    for attribute in block[1:]:
        name, _, value = attribute.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "control":
            control = value
        elif name == "framerate":
            fps = _number(value)
        elif name in ("rtpmap", "fmtp") and value.split(" ", 1)[0] == words[3]:
            rest = value.partition(" ")[2].strip()
            if name == "rtpmap":
                codec = rest.split("/")[0].strip().upper()
                codec = "H265" if codec == "HEVC" else codec
            else:
                fmtp = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest.split(";"))}
    return Video(codec, number, _join(base, control or "*"), aggregate, fmtp, fps)


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text) else 0.0


def _join(base: str, control: str) -> str:
    """A control URL as servers mean it: appended, not resolved (RFC 2326, C.1.1, and practice)."""
    if control.lower().startswith(("rtsp://", "rtsps://")):
        return control
    if control in ("", "*"):
        return base
    return base + control if base.endswith("/") else f"{base}/{control}"


@dataclass(slots=True, frozen=True)
class Transport:
    """The server's answer to SETUP: its ports (UDP) or channels (TCP) of RTP and RTCP; -1 where it does not say."""

    rtp: int
    rtcp: int

    @classmethod
    def parse(cls, value: str) -> Transport:
        """Read the header `Transport` of a response."""
        found = re.search(r"(?:interleaved|server_port)\s*=\s*(\d{1,5})(?:-(\d{1,5}))?", value)
        if not found:
            return cls(-1, -1)
        return cls(int(found[1]), int(found[2] or int(found[1]) + 1))
