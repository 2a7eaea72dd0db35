"""Where an agent is: at its own HTTP door, or behind a broker."""

from __future__ import annotations

__all__ = ["Address", "parse_address"]

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from edgeagent.mqtt.url import BrokerAddress, parse_url
from edgeagent.wire.topics import is_name

_HTTP, _MQTT = ("http", "https"), ("mqtt", "mqtts", "ws", "wss")


@dataclass(slots=True, frozen=True)
class Address:
    """An agent's address. `str()` never shows credentials.

    Attributes:
        base: `http://host:port` without a final slash; "" for a broker.
        broker: The broker; None for HTTP.
        device: The device's name at the broker; "" for HTTP.
    """

    base: str = field(default="", repr=False)
    broker: BrokerAddress | None = None
    device: str = ""

    @property
    def host(self) -> str:
        """Of the agent where that is known: a broker may be anywhere."""
        return (urlsplit(self.base).hostname or "") if self.base else ""

    def __str__(self) -> str:
        return f"{self.device} at the broker {self.broker}" if self.broker else self.base


def parse_address(text: str) -> Address:
    """Take `http://host:port` or `mqtt://broker/device-name` (also https, mqtts, ws, wss) apart.

    Raises ValueError with a sentence that does not repeat credentials.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"the address cannot be read: {error}") from None
    if parts.scheme not in _HTTP + _MQTT or not host:
        raise ValueError("an address reads http://HOST:PORT or mqtt://BROKER/DEVICE")
    if parts.scheme in _HTTP:
        if parts.username is not None:
            raise ValueError("an address with http takes no user name; give the token with connect(…, token=…)")
        return Address(base=urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")))
    path, _, device = parts.path.rpartition("/")
    if not is_name(device):
        raise ValueError("an address of a broker ends with the device's name: mqtt://BROKER/DEVICE")
    return Address(broker=parse_url(urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))), device=device)
