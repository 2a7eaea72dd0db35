"""Envelopes of `ea/1`: whatever passes a broker that shall learn and forge nothing. Standard JOSE, nothing of our own.

A JWE (RFC 7516, compact; ECDH-ES with A256GCM) around a JWS (RFC 7515, compact; ES256), signed and then encrypted, so that the
signature hides with the rest. The signed claims are

    iss   who seals                      n     counts upward, per sender and receiver
    aud   for whom alone it is meant     iat   the sender's clock in seconds; how long an order counts (`core.orders`)
    ep    the board's run (`epoch`)      body  the message

Who receives pins the sender's key, and this module the algorithms: headers may hold what these need and nothing else, so there is
no `zip`, `crit`, `jku`, `x5u` or `jwk` to be tricked by. Nothing is parsed before its size is known, and a header is read only as
far as it must be before something is proved. All keys are P-256.
"""

from __future__ import annotations

__all__ = [
    "ANSWER",
    "MAX_BODY",
    "MAX_NUMBER",
    "MAX_SEALED",
    "ORDER",
    "ECKey",
    "Opened",
    "SealError",
    "StaleError",
    "new_key",
    "open_sealed",
    "p256",
    "public_jwk",
    "seal",
    "thumbprint",
    "unseal",
]

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwe, jws
from joserfc.jwk import ECKey

from edgeagent.errors import PeerError

MAX_SEALED: Final = 65_536
"""Bytes of an envelope."""
MAX_BODY: Final = 36_000
"""Bytes of a message in JSON that fit into an envelope, with the longest names."""
MAX_NUMBER: Final = 2**53 - 1
ORDER: Final = "ea-order+jwt"
"""`typ` of what a site wants of a board."""
ANSWER: Final = "ea-answer+jwt"
"""`typ` of what a board tells its site: neither is ever taken for the other."""

_SIGN, _AGREE, _ENCRYPT = "ES256", "ECDH-ES", "A256GCM"
_JWE = jwe.JWERegistry(algorithms=[_AGREE, _ENCRYPT])
_JWS = jws.JWSRegistry(algorithms=[_SIGN])
_MAX_HEADER = 512
_OUTER_KEYS = {"alg", "enc", "cty", "epk"}
_INNER_KEYS = {"alg", "typ"}
_CLAIMS = {"iss", "aud", "ep", "n", "iat", "body"}
_COORDINATES = ("kty", "crv", "x", "y")


class SealError(PeerError):
    """An envelope was not sealed by the right one for us. The sentence names which check failed, nothing of what is inside."""

    def __init__(self, message: str, code: int = 401) -> None:
        super().__init__(code, message)


class StaleError(SealError):
    """Sealed by the right one for us, but for another run or behind what is known already.

    Attributes:
        opened: What was inside, for an answer that says so; it must not be obeyed.
    """

    def __init__(self, message: str, opened: Opened) -> None:
        super().__init__(message, 409)
        self.opened = opened


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope held, its signature, sender and receiver proved. `epoch` and `number` are still to be judged."""

    issuer: str
    epoch: str
    number: int
    at: int
    body: dict[str, Any]


def seal(
    payload: Mapping[str, Any],
    *,
    to_enc: ECKey | Mapping[str, Any],
    by_sig: ECKey | Mapping[str, Any],
    issuer: str,
    audience: str,
    epoch: str,
    number: int,
    at: int = 0,
    typ: str = ORDER,
) -> str:
    """An envelope for `audience` alone.

    Args:
        payload: The message; at most `MAX_BODY` bytes of JSON are sure to fit.
        to_enc: The receiver's public key for encryption.
        by_sig: The sender's private key for signatures.
        issuer: The sender's name.
        audience: The receiver's name.
        epoch: The board's run.
        number: Above all that this sender has sent to this receiver, 1 to `MAX_NUMBER`.
        at: Unix time in seconds, where known.
        typ: `ORDER` or `ANSWER`.

    Raises:
        PeerError: 413, it is too large.
        ValueError: `number` is out of range, or a key is none of P-256.
    """
    if not 1 <= number <= MAX_NUMBER:
        raise ValueError("the number of an envelope is 1 to 2^53-1")
    claims = {"iss": issuer, "aud": audience, "ep": epoch, "n": number, "iat": at, "body": payload}
    text = json.dumps(claims, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_SEALED:
        raise PeerError(413, "The message is too large to be sealed.")
    signed = jws.serialize_compact({"alg": _SIGN, "typ": typ}, text.encode(), _private(by_sig), registry=_JWS)
    header = {"alg": _AGREE, "enc": _ENCRYPT, "cty": "JWT"}
    sealed = jwe.encrypt_compact(header, signed, p256(to_enc), registry=_JWE)
    if len(sealed) > MAX_SEALED:
        raise PeerError(413, "The message is too large to be sealed.")
    return sealed


def unseal(
    text: str | bytes,
    *,
    with_enc: ECKey | Mapping[str, Any],
    from_sig: ECKey | Mapping[str, Any],
    issuer: str,
    audience: str,
    typ: str = ORDER,
) -> Opened:
    """Open an envelope and prove who sealed it for whom; its epoch and number are for the caller to judge.

    Args:
        text: As it came; at most `MAX_SEALED` bytes.
        with_enc: The receiver's private key for encryption.
        from_sig: The sender's public key for signatures, as pinned.
        issuer: The sender's name, as pinned.
        audience: The receiver's own name.
        typ: `ORDER` or `ANSWER`.

    Raises:
        SealError: 413 too large, 401 anything else. Nothing else is ever raised, whatever `text` is.
        ValueError: A key is none of P-256, or not private.
    """
    opening, signing = _private(with_enc), p256(from_sig)
    if len(text) > MAX_SEALED:
        raise SealError("The envelope is too large.", 413)
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
        parts = data.split(b".")
        if len(parts) != 5:
            raise SealError("This is no envelope.")
        _check_outer(_header(parts[0]))
        signed = jwe.decrypt_compact(data, opening, registry=_JWE).plaintext or b""
        if signed.count(b".") != 2:
            raise SealError("The envelope holds nothing signed.")
        header = _header(signed.split(b".", 1)[0])
        if set(header) != _INNER_KEYS or header["alg"] != _SIGN or header["typ"] != typ:
            raise SealError("The envelope is signed in another way than this one takes.")
        claims = json.loads(jws.deserialize_compact(signed, signing, registry=_JWS).payload)
    except SealError:
        raise
    except Exception:  # the libraries raise many; whatever it was, the envelope is not sealed for us by whom we know
        raise SealError("The envelope does not open with our key, or is not signed by whom it should be.") from None
    return _opened(claims, issuer, audience)


def open_sealed(
    text: str | bytes,
    *,
    with_enc: ECKey | Mapping[str, Any],
    from_sig: ECKey | Mapping[str, Any],
    issuer: str,
    audience: str,
    epoch: str | None,
    after: int,
    typ: str = ORDER,
) -> Opened:
    """`unseal`, and judge its freshness: of this `epoch` (any where None), with a number above `after`.

    Raises:
        SealError: As `unseal`.
        StaleError: 409, of another epoch, or not above `after`: replayed, or overtaken.
    """
    opened = unseal(text, with_enc=with_enc, from_sig=from_sig, issuer=issuer, audience=audience, typ=typ)
    if epoch is not None and opened.epoch != epoch:
        raise StaleError("It was sealed for another run of this board.", opened)
    if opened.number <= after:
        raise StaleError(f"Its number is not above {after}: it came before, or too late.", opened)
    return opened


def p256(source: ECKey | Mapping[str, Any] | str | bytes) -> ECKey:
    """A key from a JWK or from PEM (a string or bytes), reduced to what its curve needs.

    Raises:
        ValueError: It is no key of P-256, or its point is not on the curve.
    """
    if isinstance(source, ECKey):
        key = source
    else:
        try:
            if isinstance(source, str | bytes):
                key = ECKey.import_key(source)
            else:
                if source.get("kty") != "EC":
                    raise ValueError("of another kind")
                wanted = {name: source[name] for name in (*_COORDINATES, "d") if name in source}
                key = ECKey.import_key(wanted)
                _ = key.public_key  # reads the point, and refuses one that is not on the curve
        except Exception:
            raise ValueError("this is no key of the curve P-256") from None
    if key.curve_name != "P-256":
        raise ValueError("this key is not of the curve P-256")
    return key


def new_key() -> ECKey:
    """A fresh private key, for signatures or for encryption, never for both."""
    return ECKey.generate_key("P-256", private=True)


def public_jwk(key: ECKey | Mapping[str, Any] | str | bytes) -> dict[str, str]:
    """The public half as a JWK with the members of RFC 7638 only: `crv`, `kty`, `x`, `y`."""
    told = p256(key).as_dict(private=False)
    return {name: str(told[name]) for name in sorted(_COORDINATES)}


def thumbprint(key: ECKey | Mapping[str, Any] | str | bytes) -> str:
    """RFC 7638, SHA-256, base64url: the name of a key."""
    return p256(public_jwk(key)).thumbprint()


def _private(key: ECKey | Mapping[str, Any]) -> ECKey:
    found = p256(key)
    if not found.is_private:
        raise ValueError("the private half of this key is needed")
    return found


def _header(segment: bytes) -> dict[str, Any]:
    """A protected header; each member once (RFC 7515, 4)."""
    if len(segment) > _MAX_HEADER:
        raise SealError("The envelope's header is too large.")
    header = json.loads(urlsafe_b64decode(segment + b"=" * (-len(segment) % 4)), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise SealError("This is no envelope.")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SealError("The envelope's header names something twice.")
    return found


def _check_outer(header: dict[str, Any]) -> None:
    if set(header) != _OUTER_KEYS or (header["alg"], header["enc"], header["cty"]) != (_AGREE, _ENCRYPT, "JWT"):
        raise SealError("The envelope is encrypted in another way than this one takes.")
    point = header["epk"]
    if not isinstance(point, dict) or set(point) != set(_COORDINATES) or point["kty"] != "EC" or point["crv"] != "P-256":
        raise SealError("The envelope is encrypted in another way than this one takes.")


def _opened(claims: Any, issuer: str, audience: str) -> Opened:
    """From here on a known key has signed: what is wrong is meant for somebody else, or of another version."""
    if not isinstance(claims, dict) or set(claims) != _CLAIMS:
        raise SealError("The envelope's claims are of another version.")
    number, at, body = claims["n"], claims["iat"], claims["body"]
    if claims["iss"] != issuer:
        raise SealError("The envelope names another sender.")
    if claims["aud"] != audience:
        raise SealError("The envelope is meant for another receiver.")
    whole = all(isinstance(part, int) and not isinstance(part, bool) for part in (number, at))
    if not whole or not 1 <= number <= MAX_NUMBER or not isinstance(claims["ep"], str) or not isinstance(body, dict):
        raise SealError("The envelope's claims are of another version.")
    return Opened(issuer, claims["ep"], number, at, body)
