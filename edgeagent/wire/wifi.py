"""Wi-Fi for boards: a network's name and key, and the same signed by the site, so that an enrolled board takes it from nobody else.

Signed, it is a compact JWS (RFC 7515, ES256) by the site's `sig` key. Whoever reads it reads the key of the Wi-Fi: it is shown to a
camera, on paper or on a screen, and not sent anywhere. The claims are

    s     the network's name (SSID)         b     the board it is meant for, or `*`
    p     its key, "" for an open one       iat   when it was signed, Unix seconds
"""

from __future__ import annotations

__all__ = ["ANY_BOARD", "MAX_SIGNED_WIFI", "SignedWifi", "Wifi", "looks_signed", "open_wifi", "sign_wifi"]

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc import jws

from edgeagent.errors import PeerError
from edgeagent.wire.seal import ECKey, p256
from edgeagent.wire.topics import is_name

ANY_BOARD: Final = "*"
MAX_SIGNED_WIFI: Final = 1024
"""Characters; a QR that a camera reads from a hand holds about half."""

_TYP = "ea-wifi+jwt"
_HEADER = {"alg": "ES256", "typ": _TYP}
_JWS = jws.JWSRegistry(algorithms=["ES256"])
_CLAIMS = {"s", "p", "b", "iat"}
_MAX_TIME = 2**53 - 1
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wifi:
    """A network to join.

    Attributes:
        ssid: Its name, 1 to 32 bytes of UTF-8 (IEEE 802.11, 9.4.2.2).
        key: 8 to 63 characters of ASCII, or 64 hex digits; "" for an open network.

    Raises:
        ValueError: One of them can be none, with a sentence.
    """

    ssid: str
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.ssid.encode("utf-8", "replace")) <= 32 or not self.ssid.isprintable():
            raise ValueError("The name of a Wi-Fi network has 1 to 32 bytes.")
        passphrase = 8 <= len(self.key) <= 63 and self.key.isascii() and self.key.isprintable()
        if self.key and not passphrase and not _HEX_KEY.fullmatch(self.key):
            raise ValueError(
                "The key of a Wi-Fi network has 8 to 63 characters (letters, digits and signs of ASCII), or 64 hex digits."
            )


@dataclass(frozen=True, slots=True)
class SignedWifi:
    """What `open_wifi` proved: the network, and when the site signed it (Unix seconds)."""

    wifi: Wifi
    at: int


def sign_wifi(wifi: Wifi, key: ECKey | Mapping[str, Any], *, board: str = ANY_BOARD, at: int) -> str:
    """The network, signed by the site.

    Args:
        wifi: The network.
        key: The site's private `sig` key.
        board: For this board alone; `ANY_BOARD` for every board of the site.
        at: Unix time in seconds; a board takes nothing that was signed before what it took last.
    """
    if board != ANY_BOARD and not is_name(board):
        raise ValueError(f"{board!r} is no board's name")
    claims = {"s": wifi.ssid, "p": wifi.key, "b": board, "iat": at}
    payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode()
    return jws.serialize_compact(_HEADER, payload, p256(key), registry=_JWS)


def looks_signed(text: str) -> bool:
    """Whether `text` claims to be signed Wi-Fi, of whatever site; proves nothing."""
    if len(text) > MAX_SIGNED_WIFI or not _COMPACT.fullmatch(text):
        return False
    try:
        return bool(json.loads(_decoded(text.partition(".")[0])) == _HEADER)
    except (ValueError, RecursionError):
        return False


def open_wifi(text: str, key: ECKey | Mapping[str, Any], *, board: str, after: int = 0) -> SignedWifi:
    """Prove that the site signed this network for this board.

    Args:
        text: What was read.
        key: The site's public `sig` key, as pinned when the board enrolled.
        board: This board's name.
        after: When that was signed which this board took last; older is refused, since an old key may be known to many.

    Raises:
        PeerError: 413 too large, 401 not signed by this site, 403 for another board, 409 older than what was taken,
            400 it holds no network. Nothing else is raised, whatever `text` is.
    """
    if len(text) > MAX_SIGNED_WIFI:
        raise PeerError(413, "The QR holds too much to be a Wi-Fi network.")
    if not looks_signed(text):
        raise PeerError(
            401, "The QR is not signed: this board takes a Wi-Fi network only from its site (`edgeagent provision qr --wifi`)."
        )
    try:
        claims = json.loads(jws.deserialize_compact(text, p256(key), registry=_JWS).payload)
    except Exception:  # the library raises many; whatever it was, our site has not signed it
        raise PeerError(401, "The QR is signed by another site than the one that this board belongs to.") from None
    if not isinstance(claims, dict) or set(claims) != _CLAIMS or not all(isinstance(claims[name], str) for name in "spb"):
        raise PeerError(400, "The QR is of another version than this agent understands.")
    at = claims["iat"]
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= _MAX_TIME:
        raise PeerError(400, "The QR is of another version than this agent understands.")
    if claims["b"] not in (ANY_BOARD, board):
        raise PeerError(403, f"The QR is meant for the board {claims['b'][:64]}, and this is {board}.")
    if at < after:
        raise PeerError(
            409, "The QR is older than the one that this board took last: make a new one with `edgeagent provision qr --wifi`."
        )
    try:
        return SignedWifi(Wifi(claims["s"], claims["p"]), at)
    except ValueError as error:
        raise PeerError(400, str(error)) from None


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
