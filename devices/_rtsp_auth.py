"""How a client answers a server's challenge: Digest with MD5 or SHA-256, or Basic (RFC 7616, RFC 7617). Sans-IO."""

from __future__ import annotations

__all__ = ["authorize", "is_stale", "parse_challenges"]

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# A line break in a name or a challenge must not split the header.
_NO_CONTROL = dict.fromkeys(range(32))
# A scheme, and after it or a comma: name=value, the value perhaps quoted. One header may hold several challenges.
_PART = re.compile(r'(?:([\w-]+)[ \t]+)?([\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([\w-]+)')


@dataclass(slots=True)
class Challenge:
    """One challenge; names are lower case, values as they stand between the quotes."""

    scheme: str
    values: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges in these values of `WWW-Authenticate`; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        before = len(found)
        for scheme, name, quoted, plain, alone in _PART.findall(header[:4096]):
            if scheme or alone:
                found.append(Challenge((scheme or alone).lower()))
            if name and len(found) > before:
                found[-1].values.setdefault(name.lower(), quoted or plain)
    return found


def is_stale(headers: Iterable[str]) -> bool:
    """Whether the server only wants a newer nonce and has no complaint about name or password (RFC 7616, section 3.3)."""
    return any(one.scheme == "digest" and one.values.get("stale", "").lower() == "true" for one in parse_challenges(headers))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_HASHES = {"MD5": _md5, "MD5-SESS": _md5, "SHA-256": _sha256, "SHA-256-SESS": _sha256}


def authorize(challenges: Iterable[str], method: str, url: str, user: str, password: str, *, count: int, nonce: str) -> str:
    """The value of `Authorization` that answers a server's challenges, "" where none is understood.

    The first Digest that is understood is answered, Basic only where there is none.

    Args:
        challenges: The values of `WWW-Authenticate`.
        method: Of the request.
        url: Of the request.
        user: Name.
        password: In the clear.
        count: How often this challenge was answered, from 1.
        nonce: Random text of our own.
    """
    known = parse_challenges(challenges)
    for values in (one.values for one in known if one.scheme == "digest"):
        algorithm = values.get("algorithm", "MD5").upper()
        qualities = [part.strip().lower() for part in values.get("qop", "").split(",") if part.strip()]
        if algorithm not in _HASHES or "nonce" not in values or (qualities and "auth" not in qualities):
            continue
        return _digest(values, method, url, user, password, algorithm, count if qualities else 0, nonce)
    if any(one.scheme == "basic" for one in known):
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return ""


def _digest(values: dict[str, str], method: str, url: str, user: str, password: str, algorithm: str, count: int, nonce: str) -> str:
    """Section 3.4; `count` 0 answers a server without `qop`, as RFC 2069 had it."""
    digest = _HASHES[algorithm]
    realm, theirs = values.get("realm", ""), values["nonce"]
    secret = digest(f"{user}:{realm}:{password}")
    if algorithm.endswith("-SESS"):
        secret = digest(f"{secret}:{theirs}:{nonce}")
    asked = digest(f"{method}:{url}")
    name = user.replace("\\", "\\\\").replace('"', '\\"')
    fields = {"username": name, "realm": realm, "nonce": theirs, "uri": url}
    bare = ""
    if count:
        fields |= {"response": digest(f"{secret}:{theirs}:{count:08x}:{nonce}:auth:{asked}"), "cnonce": nonce}
        bare = f", qop=auth, nc={count:08x}"
    else:
        fields["response"] = digest(f"{secret}:{theirs}:{asked}")
        if algorithm.endswith("-SESS"):
            fields["cnonce"] = nonce
    if "opaque" in values:
        fields["opaque"] = values["opaque"]
    if "algorithm" in values:
        bare += f", algorithm={algorithm}"
    reply = "Digest " + ", ".join(f'{key}="{value}"' for key, value in fields.items()) + bare
    return reply.translate(_NO_CONTROL)
