"""The kinds of value that the configuration knows, each with a parser whose errors say what to write."""

from __future__ import annotations

__all__ = [
    "HostName",
    "IpAddress",
    "Listen",
    "ListenAddress",
    "MqttUrl",
    "Origin",
    "PageUrl",
    "PortRange",
    "Rate",
    "Text",
    "TurnUrl",
    "UdpPorts",
    "WebUrl",
    "parse_listen",
    "parse_ports",
    "split_credentials",
]

import ipaddress
import re
from typing import Annotated, Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from edgeagent.drivers.options import Bitrate

Rate = Bitrate
"""bit/s: `20M`, `800k` or a number; the same as in drivers' options."""


class Listen(NamedTuple):
    """Where a server listens: a name or an address without brackets, and a port (0: any that is free)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class PortRange(NamedTuple):
    """UDP ports from `low` to `high`, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


def _text(value: Any) -> Any:
    if isinstance(value, bool | float) or value is None:
        raise ValueError("write text, in quotes where YAML would take it for something else")
    # A number in decimal digits loses nothing; YAML leaves 007 and such as text (`config.document`).
    return str(value) if isinstance(value, int) else value


Text = Annotated[str, BeforeValidator(_text), Field(max_length=200)]
"""A line of text; digits need no quotes."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= 65535 else None


def parse_listen(value: Any) -> Listen:
    """Where to listen, from `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, Listen):
        return value
    hint = ValueError("write an address and a port, like 127.0.0.1:8080, [::1]:8080, or 0.0.0.0:8080 for all of the network")
    if not isinstance(value, str):
        raise hint
    host, colon, digits = value.strip().rpartition(":")
    port = _port(digits)
    if not colon or port is None:
        raise hint
    if host.startswith("[") and host.endswith("]"):
        try:
            return Listen(str(ipaddress.IPv6Address(host[1:-1])), port)
        except ValueError:
            raise hint from None
    if not _HOST.fullmatch(host) or (re.fullmatch(r"[0-9.]+", host) and not _is_ip(host)):
        raise hint
    return Listen(host.lower(), port)


def parse_ports(value: Any) -> PortRange:
    """A range of UDP ports, from `50000-50099`.

    Raises:
        ValueError: It is written otherwise, out of order, or outside 1024 to 65535.
    """
    if isinstance(value, PortRange):
        return value
    match = re.fullmatch(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})", value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError("write one range of UDP ports, like 50000-50099")
    low, high = int(match[1]), int(match[2])
    if not 1024 <= low <= high <= 65535:
        raise ValueError("write the lower port first, both between 1024 and 65535, like 50000-50099")
    return PortRange(low, high)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _ip(text: str) -> str:
    try:
        # Without a zone: it means something on this machine only, and the address is for viewers.
        return str(ipaddress.ip_address("" if "%" in text else text))
    except ValueError:
        raise ValueError("write an IP address, like 203.0.113.7 or 2001:db8::7") from None


def _split(text: str, schemes: tuple[str, ...], hint: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(hint) from None
    if parts.scheme not in schemes or not host or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(hint)
    return parts


def _mqtt_url(text: str) -> str:
    parts = _split(
        text, ("mqtt", "mqtts", "ws", "wss"), "write the broker's address, like mqtt://192.0.2.1:1883 or wss://broker.example/mqtt"
    )
    if parts.scheme in {"mqtt", "mqtts"} and parts.path not in {"", "/"}:
        raise ValueError("leave out the path: mqtt:// and mqtts:// have none")
    return text


def _web_url(text: str) -> str:
    parts = _split(text, ("ws", "wss"), "write the address at which browsers reach the broker, like wss://broker.example/mqtt")
    if parts.username is not None:
        raise ValueError("leave out user and password: every viewer would see them")
    return text


def _origin(text: str) -> str:
    hint = "write an origin, like https://home.example or http://192.0.2.1:8080, without a path; `*` is not taken"
    parts = _split(text, ("http", "https"), hint)
    if parts.path or parts.query or "@" in parts.netloc:
        raise ValueError(hint)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _page_url(text: str) -> str:
    parts = _split(text, ("http", "https"), "write the address at which people reach the page, like http://porch.local:8080")
    if parts.username is not None:
        raise ValueError("leave out user and password: everyone would see them")
    return text


def _host_name(text: str) -> str:
    if not _HOST.fullmatch(text) and not _is_ip(text):
        raise ValueError("write a name or an address without port, like robot.example or 203.0.113.7")
    return text.lower()


_ICE = re.compile(r"(stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(:[0-9]{1,5})?(\?transport=(udp|tcp))?")


def _ice_url(text: str) -> str:
    match = _ICE.fullmatch(text)
    if not match or (match[3] and _port(match[3][1:]) is None) or (match[4] and match[1].startswith("stun")):
        raise ValueError(
            "write a server, like stun:stun.example:3478, turn:turn.example:3478?transport=udp or turns:turn.example:443"
        )
    return text


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """A URL without its user and password, and these two, unquoted; None where there are none."""
    scheme, slashes, rest = url.partition("://")
    authority = re.match(r"[^/?#]*", rest)
    userinfo, at, host = authority[0].rpartition("@") if authority else ("", "", "")
    if not slashes or not at or authority is None:
        return url, None, None
    user, colon, password = userinfo.partition(":")
    return f"{scheme}://{host}{rest[authority.end() :]}", unquote(user), unquote(password) if colon else None


ListenAddress = Annotated[Listen, PlainValidator(parse_listen), WithJsonSchema({"type": "string", "pattern": r":\d{1,5}$"})]
UdpPorts = Annotated[
    PortRange, PlainValidator(parse_ports), WithJsonSchema({"type": "string", "pattern": r"^\d{4,5}\s*-\s*\d{4,5}$"})
]
IpAddress = Annotated[Text, AfterValidator(_ip)]
HostName = Annotated[Text, AfterValidator(_host_name)]
MqttUrl = Annotated[str, Field(max_length=500), AfterValidator(_mqtt_url)]
WebUrl = Annotated[str, Field(max_length=500), AfterValidator(_web_url)]
PageUrl = Annotated[str, Field(max_length=300), AfterValidator(_page_url)]
Origin = Annotated[str, Field(max_length=300), AfterValidator(_origin)]
TurnUrl = Annotated[str, AfterValidator(_ice_url)]
