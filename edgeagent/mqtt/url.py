"""The address of a broker, taken apart; imports nothing heavy."""

from __future__ import annotations

__all__ = ["BrokerAddress", "parse_url"]

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(slots=True, frozen=True)
class BrokerAddress:
    """Where a broker listens and who we are there. `str()` never shows the credentials."""

    host: str
    port: int
    tls: bool
    websocket_path: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str) -> BrokerAddress:
    """Take `mqtt:`, `mqtts:`, `ws:` or `wss:` apart; user name and password may be percent-encoded.

    Raises ValueError with a sentence that does not repeat the credentials.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the broker's address cannot be read: {error}") from None
    if parts.scheme not in _PORTS:
        raise ValueError("the broker's address begins with mqtt://, mqtts://, ws:// or wss://")
    if not parts.hostname:
        raise ValueError(f"the broker's address lacks a host: write {parts.scheme}://HOST:{_PORTS[parts.scheme]}")
    if port == 0:
        raise ValueError("the broker's port cannot be 0")
    websocket = parts.scheme.startswith("ws")
    if not websocket and (parts.path.strip("/") or parts.query):
        raise ValueError(f"an address with {parts.scheme}:// takes no path")
    if parts.fragment:
        raise ValueError("the broker's address takes no fragment (#); write %23 in a password")
    path = (parts.path or "/mqtt") + (f"?{parts.query}" if parts.query else "")
    return BrokerAddress(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls=parts.scheme in ("mqtts", "wss"),
        websocket_path=path if websocket else None,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )
