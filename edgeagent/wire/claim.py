"""A claim: what a board needs to join a site, once. The same JSON in a file on its card, in a QR code, and as an argument.

    {"v":1,"u":"https://host:8443","c":"<pin>","t":"<id>.<secret>","m":"mqtts://host:8884","s":"<SSID>","p":"<Wi-Fi key>"}

`c` is the SHA-256 of the SubjectPublicKeyInfo of the site's root certificate in base64url: by it the board knows its site before
it trusts anything. `u` is the site's service, `m` the broker, for boards that reach nothing else; one of them is there. `s` and `p`
are optional. The secret has 128 bits, so that no PAKE is needed; it is never sent, only keys derived from it are used.
"""

from __future__ import annotations

__all__ = [
    "MAX_CLAIM",
    "Claim",
    "back_password",
    "back_user",
    "is_token_id",
    "joining_password",
    "joining_user",
    "mac_key",
    "site_keys",
]

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from edgeagent.errors import PeerError

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

MAX_CLAIM: Final = 2048
"""Bytes of a claim in JSON."""

_TOKEN = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{22})", re.ASCII)
_TOKEN_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_PIN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_KEYS = {"v", "u", "c", "t", "m", "s", "p"}
_ASK = "ask the installer for a new one (edgeagent provision add)"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim whose every part has been checked. `repr` shows no secret.

    Attributes:
        url: `https://host[:port]` of the site's service, without a path; "" where only the broker is reached.
        root_pin: SHA-256 of the root's SubjectPublicKeyInfo, base64url, 43 characters.
        token_id: Names the token; 16 hex digits, no secret.
        secret: 22 characters of base64url (128 bits).
        mqtt: `mqtts:` or `wss:` address of the broker, without credentials; "" where there is none.
        ssid: Name of a Wi-Fi network; "" for none.
        wifi_key: Its key; "" for an open one.
    """

    url: str
    root_pin: str
    token_id: str
    secret: str = field(repr=False)
    mqtt: str = ""
    ssid: str = ""
    wifi_key: str = field(default="", repr=False)

    @property
    def token(self) -> str:
        """`<id>.<secret>`."""
        return f"{self.token_id}.{self.secret}"

    @classmethod
    def parse(cls, text: str | bytes, *, url: str = "", root_pin: str = "", mqtt: str = "") -> Claim:
        """Read a claim's JSON, or a bare token, for which the rest is given here.

        Raises:
            PeerError: 400 (413 above `MAX_CLAIM` bytes), with a sentence that says what to do and repeats no secret.
                Nothing else is ever raised, whatever `text` is.
        """
        try:
            data = text.encode() if isinstance(text, str) else text
            plain = data.decode().strip().removeprefix("\ufeff")
        except UnicodeError:
            raise PeerError(400, f"The claim is not text in UTF-8; {_ASK}.") from None
        if len(data) > MAX_CLAIM:
            raise PeerError(413, f"The claim has {len(data)} bytes, more than {MAX_CLAIM}: this is another file.")
        if _TOKEN.fullmatch(plain):
            fields: dict[str, Any] = {"v": 1, "u": url, "c": root_pin, "t": plain, "m": mqtt}
            if not root_pin or not (url or mqtt):
                raise PeerError(
                    400, "A token alone does not tell where the site is: give its address and pin too, or the whole claim."
                )
        else:
            fields = _object(plain)
        return cls(**_checked(fields))

    def text(self) -> str:
        """The shortest JSON."""
        parts = {"u": self.url, "c": self.root_pin, "t": self.token, "m": self.mqtt, "s": self.ssid, "p": self.wifi_key}
        found = {"v": 1, **{key: value for key, value in parts.items() if value}}
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def is_token_id(text: str) -> bool:
    """Whether `text` may name a token."""
    return _TOKEN_ID.fullmatch(text) is not None


def mac_key(secret: str) -> bytes:
    """The 32 bytes that seal requests and replies of an enrolment (HS256): HKDF-SHA256 of the secret, `ea-enrol-1`."""
    return _derived(secret.encode(), b"ea-enrol-1")


def joining_user(token_id: str) -> str:
    """The broker's user, client id and device name of a board that joins by this token over MQTT."""
    return f"j-{token_id}"


def joining_password(secret: str) -> str:
    """That user's password, 64 hex digits: HKDF-SHA256 of the secret, `ea-join-1`. It tells nothing of the secret."""
    return _derived(secret.encode(), b"ea-join-1").hex()


def back_user(id_thumbprint: str) -> str:
    """The joining user by which an enrolled board comes back over MQTT once its certificate has run out."""
    return f"j-{hashlib.sha256(id_thumbprint.encode()).hexdigest()[:16]}"


def back_password(own_enc: ECKey, their_enc: Mapping[str, Any]) -> str:
    """That user's password, 64 hex digits, the same at both ends: HKDF-SHA256 of the static ECDH of the keys `enc`, `ea-back-1`.

    Raises:
        ValueError: A key is none of P-256.
    """
    from edgeagent.wire.seal import p256

    return _derived(p256(own_enc).exchange_derive_key(p256(their_enc)), b"ea-back-1").hex()


def site_keys(sig: Mapping[str, Any], enc: Mapping[str, Any]) -> str:
    """A URI among the names of a board's certificate, by which the site's authority vouches for the site's public keys: who knows
    a claim, and holds the broker besides, can give out no others. RFC 7638 thumbprints.

    Raises:
        ValueError: A key is none of P-256.
    """
    from edgeagent.wire.seal import thumbprint

    return f"ea:s:{thumbprint(sig)}:{thumbprint(enc)}"


def _derived(secret: bytes, info: bytes) -> bytes:
    """HKDF (RFC 5869) with SHA-256, no salt, one block of output."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _object(text: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError
        return found

    try:
        fields = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise PeerError(400, f'This is no claim, which begins with {{"v":1; {_ASK}.') from None
    if not isinstance(fields, dict):
        raise PeerError(400, f'This is no claim, which begins with {{"v":1; {_ASK}.')
    version = fields.get("v")
    if version != 1 or isinstance(version, bool):
        raise PeerError(426, "The claim is of another version of edgeagent; upgrade this board, or the site.")
    if unknown := set(fields) - _KEYS:
        raise PeerError(400, f"The claim holds `{min(unknown)[:20]!a}`, which no claim has; {_ASK}.")
    return fields


def _checked(fields: dict[str, Any]) -> dict[str, str]:
    found = {}
    for key in ("u", "c", "t", "m", "s", "p"):
        value = fields.get(key, "")
        if not isinstance(value, str):
            raise PeerError(400, f"The claim's `{key}` is no text; {_ASK}.")
        found[key] = value
    token = _TOKEN.fullmatch(found["t"])
    if token is None:
        raise PeerError(400, f"The claim's token is cut off or misspelt; {_ASK}.")
    if not _PIN.fullmatch(found["c"]):
        raise PeerError(400, f"The claim's pin of the site is cut off or misspelt; {_ASK}.")
    if not found["u"] and not found["m"]:
        raise PeerError(400, f"The claim tells no address of the site; {_ASK}.")
    _address(found["u"], "u", ("https",))
    _address(found["m"], "m", ("mqtts", "wss"))
    ssid, key = found["s"].encode("utf-8", "surrogatepass"), found["p"]
    if len(ssid) > 32 or any(byte < 32 for byte in ssid):
        raise PeerError(400, "The name of the Wi-Fi network in the claim is longer than 32 bytes, or no plain text.")
    if key and not (found["s"] and 8 <= len(key) <= 64 and key.isprintable()):
        raise PeerError(400, "The Wi-Fi key in the claim is not 8 to 63 characters, or there is no network for it.")
    try:
        (found["s"] + key).encode()
    except UnicodeEncodeError:
        raise PeerError(400, "The Wi-Fi network in the claim is not text in UTF-8.") from None
    return {
        "url": found["u"].rstrip("/"),
        "root_pin": found["c"],
        "token_id": token[1],
        "secret": token[2],
        "mqtt": found["m"],
        "ssid": found["s"],
        "wifi_key": key,
    }


def _address(text: str, key: str, schemes: tuple[str, ...]) -> None:
    if not text:
        return
    wanted = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if usable and text.isascii() and text.isprintable() and " " not in text and len(text) <= 300:
        plain = parts.username is None and parts.password is None and not parts.query and not parts.fragment
        if plain and (parts.scheme == "wss" or parts.path in ("", "/")):
            return
    raise PeerError(400, f"The claim's address `{key}` is not {wanted}; {_ASK}.")
