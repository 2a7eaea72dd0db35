"""Enrolment and renewal: what a board asks of its site, and the replies. The same text over HTTPS and over MQTT.

    enrol    board → site   JWS HS256 (`kid`: token's id; key: `claim.mac_key`) around a JWS ES256 by the board's id key (`kid`: the
                            same, so that nobody joins with it by another claim), around `EnrolRequest`
             site → board   JWS HS256 by the same key, around `Enrolled` or `Refused`
    renew    board → site   JWS ES256 by the board's id key (`kid`: board's name), around `RenewRequest`
             site → board   JWS ES256 by the site's pinned key `sig`, around `Enrolled` or `Refused`

A reply repeats the request's nonce. What cannot be authenticated is refused in plain JSON (`Refused` alone): the board may show it
and wait, and decides nothing by it. Headers hold the members above and `alg`, `typ`; algorithms are pinned here.
"""

from __future__ import annotations

__all__ = [
    "MAX_REPLY",
    "MAX_REQUEST",
    "EnrolRequest",
    "Enrolled",
    "PublicJwk",
    "Refused",
    "RenewRequest",
    "Reply",
    "Unproved",
    "new_nonce",
    "open_enrol",
    "open_enrol_reply",
    "open_renew",
    "open_renew_reply",
    "plain_refusal",
    "reply_to_enrol",
    "reply_to_renew",
    "seal_enrol",
    "seal_renew",
    "what_is",
]

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from joserfc import jws
from joserfc.jwk import ECKey, OctKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgeagent.errors import PeerError
from edgeagent.wire import claim
from edgeagent.wire.messages import Name
from edgeagent.wire.orders import one_line
from edgeagent.wire.seal import p256

MAX_REQUEST: Final = 16_384
"""Bytes of a request."""
MAX_REPLY: Final = 65_536
"""Bytes of a reply."""

_M = TypeVar("_M", bound=BaseModel)
_HS, _ES = "HS256", "ES256"
_REGISTRY = jws.JWSRegistry(algorithms=[_HS, _ES])
_REGISTRY.max_payload_length = MAX_REPLY * 2  # what is too large is refused by us, before
_ENROL, _PROOF, _ENROLLED = "ea-enrol+jwt", "ea-id+jwt", "ea-enrolled+jwt"
_RENEW, _RENEWED = "ea-renew+jwt", "ea-renewed+jwt"
_MAX_HEADER = 512

Coordinate = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
Nonce = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
Pem = Annotated[str, Field(max_length=4096, pattern=r"^-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n -]+\n?$")]
Bundle = Annotated[str, Field(max_length=16_384, pattern=r"^-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n -]+\n?$")]
Told = Annotated[str, Field(max_length=200), AfterValidator(one_line)]
Address = Annotated[str, Field(max_length=300, pattern=r"^(https|mqtts|wss)://[^\s\"'<>@]+$")]


class Unproved(PeerError):
    """A request or a reply is not sealed by whom it should be: nothing in it may be believed."""

    def __init__(self, message: str, code: int = 401) -> None:
        super().__init__(code, message)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1


class PublicJwk(BaseModel):
    """The public half of a key of P-256, as RFC 7638 wants it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"
    x: Coordinate
    y: Coordinate


class EnrolRequest(_Model):
    """A board asks to be taken in. Its name is not asked for: the site knows whom a token is for.

    `csr` (PKCS #10, PEM) is for the key `tls`; only its public key and its signature count. `model`, `serial` (of the board, as its
    maker gives it) and `release` are what the board says of itself.
    """

    nonce: Nonce
    csr: Pem
    id: PublicJwk
    enc: PublicJwk
    model: Told = ""
    serial: Told = ""
    release: Told = ""


class RenewRequest(_Model):
    """An enrolled board asks for a new certificate. `at`: its clock, Unix seconds; for people."""

    nonce: Nonce
    device: Name
    csr: Pem
    at: Annotated[int, Field(ge=0, lt=2**53)] = 0
    release: Told = ""


class Enrolled(_Model):
    """The board belongs to the site, as `device`.

    Attributes:
        certificate: For the key of the request, PEM.
        chain: The authorities between it and a root, PEM, nearest first.
        roots: Every root to be trusted from now on, PEM; while the site changes its root, the old and the new one.
        brokers: Where the broker is, best first.
        services: Where the site's service is, best first.
        joining: Where the broker takes joining users (`wire.claim`), for boards that reach no service.
        sig: The site's key for signatures.
        enc: The site's key for encryption.
        settings: An order `settings`, sealed for this board (`wire.seal`, `ep`: the nonce); "" where there are none yet.
    """

    t: Literal["enrolled"] = "enrolled"
    nonce: Nonce
    device: Name
    certificate: Pem
    chain: Annotated[str, Field(max_length=16_384)] = ""
    roots: Bundle
    brokers: Annotated[list[Address], Field(max_length=8)]
    services: Annotated[list[Address], Field(max_length=8)] = []
    joining: Annotated[list[Address], Field(max_length=8)] = []
    sig: PublicJwk
    enc: PublicJwk
    settings: Annotated[str, Field(max_length=49_152)] = ""


class Refused(_Model):
    """Not now, or never. `code` as in `edgeagent.errors.PeerError`: 202 wait until a person has approved, 401 not proved, 403
    not for you, 409 used by another board, or the key of a revoked certificate, 410 expired or revoked, 422 the request is not
    acceptable, 429 too many, 503 not now.

    `retry_s`: ask again after so many seconds; None where only a person can change something.
    """

    t: Literal["refused"] = "refused"
    nonce: str = ""
    code: Annotated[int, Field(ge=200, le=599)]
    message: Annotated[str, Field(max_length=500)]
    retry_s: Annotated[float, Field(ge=0, le=86_400)] | None = None


Reply = Annotated[Enrolled | Refused, Field(discriminator="t")]
_REPLY: TypeAdapter[Enrolled | Refused] = TypeAdapter(Reply)


def new_nonce(random_bytes: Callable[[int], bytes]) -> str:
    """A fresh nonce, given a source of randomness such as `secrets.token_bytes`."""
    return urlsafe_b64encode(random_bytes(16)).rstrip(b"=").decode()


# Requests


def seal_enrol(request: EnrolRequest, *, token_id: str, secret: str, id_key: ECKey) -> str:
    """A request to enrol, as a board sends it; `id_key` is the private half of `request.id`."""
    signed = {"alg": _ES, "typ": _PROOF, "kid": token_id}
    proof = jws.serialize_compact(signed, request.model_dump_json(), id_key, registry=_REGISTRY)
    return jws.serialize_compact({"alg": _HS, "typ": _ENROL, "kid": token_id}, proof, _mac(secret), registry=_REGISTRY)


def seal_renew(request: RenewRequest, *, id_key: ECKey) -> str:
    """A request to renew, as a board sends it."""
    return jws.serialize_compact(
        {"alg": _ES, "typ": _RENEW, "kid": request.device}, request.model_dump_json(), id_key, registry=_REGISTRY
    )


def what_is(text: str | bytes) -> tuple[Literal["enrol", "renew"], str]:
    """Which kind of request this is and whose: the id of a token, or the name of a board. Nothing is proved yet.

    Raises:
        PeerError: 413 above `MAX_REQUEST` bytes, 400 for what is no request. Nothing else, whatever `text` is.
    """
    data = _bytes(text, MAX_REQUEST)
    header = _header(data)
    kid = header.get("kid")
    if set(header) == {"alg", "typ", "kid"} and isinstance(kid, str):
        if (header["alg"], header["typ"]) == (_HS, _ENROL) and claim.is_token_id(kid):
            return "enrol", kid
        if (header["alg"], header["typ"]) == (_ES, _RENEW) and 0 < len(kid) <= 64:
            return "renew", kid
    raise PeerError(400, "This is no request to enrol or to renew.")


def open_enrol(text: str | bytes, secret: str) -> EnrolRequest:
    """Prove a request by the token's secret, then by the id key that it names.

    Raises:
        Unproved: The MAC is wrong: whoever sent it does not know the secret.
        PeerError: 400 or 422, of somebody who knows it; 413.
    """
    data = _bytes(text, MAX_REQUEST)
    proof = _verified(data, _mac(secret), _HS, _ENROL)
    header = _header(proof)
    if not set(header) <= {"alg", "typ", "kid"}:
        raise PeerError(400, "The request is signed in another way than this one takes.")
    if "kid" in header and header["kid"] != _header(data).get("kid"):  # boards of earlier releases sign none
        raise PeerError(422, "The request was made for another claim: somebody has seen it, and repeats it by this one.")
    request = _model(_json(_payload(proof)), EnrolRequest)
    try:
        _verified(proof, p256(request.id.model_dump()), _ES, _PROOF)
        p256(request.enc.model_dump())
    except ValueError:
        raise PeerError(422, "A key in the request is not on the curve P-256.") from None
    except Unproved:
        raise PeerError(422, "The request is not signed by the id key that it names.") from None
    return request


def open_renew(text: str | bytes, id_jwk: ECKey | Mapping[str, Any]) -> RenewRequest:
    """Prove a request by the id key of the board that it names.

    Raises:
        Unproved: It is signed by another key.
        PeerError: 400, 413.
    """
    data = _bytes(text, MAX_REQUEST)
    _, name = what_is(data)
    request = _model(_json(_verified(data, p256(id_jwk), _ES, _RENEW)), RenewRequest)
    if request.device != name:
        raise PeerError(400, "The request names two boards.")
    return request


# Replies


def reply_to_enrol(reply: Enrolled | Refused, secret: str) -> str:
    """Seal a reply to whoever knows the token's secret."""
    return jws.serialize_compact({"alg": _HS, "typ": _ENROLLED}, _dump(reply), _mac(secret), registry=_REGISTRY)


def reply_to_renew(reply: Enrolled | Refused, site_sig: ECKey) -> str:
    """Seal a reply to an enrolled board."""
    return jws.serialize_compact({"alg": _ES, "typ": _RENEWED}, _dump(reply), site_sig, registry=_REGISTRY)


def plain_refusal(code: int, message: str, retry_s: float | None = None) -> str:
    """What is told to somebody who has proved nothing."""
    return _dump(Refused(code=code, message=message[:500], retry_s=retry_s))


def open_enrol_reply(text: str | bytes, *, secret: str, nonce: str) -> Enrolled | Refused:
    """Prove a reply and that it is one to our request. Raises Unproved; `message` then tells what a plain refusal said."""
    return _reply(text, _mac(secret), _HS, _ENROLLED, nonce)


def open_renew_reply(text: str | bytes, *, site_sig: ECKey | Mapping[str, Any], nonce: str) -> Enrolled | Refused:
    """Prove a reply by the site's pinned key and that it is one to our request. Raises Unproved, as `open_enrol_reply`."""
    return _reply(text, p256(site_sig), _ES, _RENEWED, nonce)


def _reply(text: str | bytes, key: OctKey | ECKey, algorithm: str, typ: str, nonce: str) -> Enrolled | Refused:
    try:
        data = _bytes(text, MAX_REPLY)
        if data[:1] == b"{":
            refused = _model(_json(data), Refused)
            raise Unproved(refused.message, refused.code)
        reply = _REPLY.validate_python(_json(_verified(data, key, algorithm, typ)), strict=True)
    except Unproved:
        raise
    except (PeerError, ValidationError):
        raise Unproved("The reply is none that a site gives.", 502) from None
    if reply.nonce != nonce:
        raise Unproved("The reply is one to another request.", 502)
    return reply


# Shared


def _mac(secret: str) -> OctKey:
    return OctKey.import_key(claim.mac_key(secret))


def _dump(reply: BaseModel) -> str:
    return reply.model_dump_json(exclude_none=True)


def _bytes(text: str | bytes, limit: int) -> bytes:
    if len(text) > limit:
        raise PeerError(413, f"The message has more than {limit} bytes.")
    try:
        return (
            text.encode("ascii")
            if isinstance(text, str) and not text.startswith("{")
            else text.encode()
            if isinstance(text, str)
            else text
        )
    except UnicodeEncodeError:
        raise PeerError(400, "The message is not ASCII.") from None


def _verified(data: bytes, key: OctKey | ECKey, algorithm: str, typ: str) -> bytes:
    """The payload, once the signature has been checked; Unproved otherwise, whatever `data` is."""
    try:
        header = _header(data)
        if header.get("alg") != algorithm or header.get("typ") != typ or not set(header) <= {"alg", "typ", "kid"}:
            raise ValueError
        payload = jws.deserialize_compact(data, key, algorithms=[algorithm], registry=_REGISTRY).payload
    except Exception:  # the library raises many
        raise Unproved("The message is not sealed by whom it should be.") from None
    return bytes(payload)


def _header(data: bytes) -> dict[str, Any]:
    """The protected header, each member once (RFC 7515, 4)."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError
        return found

    segment = data.split(b".", 1)[0]
    try:
        if len(segment) > _MAX_HEADER or data.count(b".") != 2:
            raise ValueError
        header = json.loads(_unbase64(segment), object_pairs_hook=once)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise PeerError(400, "This is no sealed message.")
    return header


def _payload(data: bytes) -> bytes:
    try:
        return _unbase64(data.split(b".")[1])
    except (ValueError, IndexError):
        raise PeerError(400, "The request holds nothing signed.") from None


def _unbase64(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise PeerError(400, "What was sealed is not JSON.") from None


def _model(fields: Any, model: type[_M]) -> _M:
    if isinstance(fields, dict) and fields.get("v", 1) != 1:
        raise PeerError(426, "The message is of another version of edgeagent; upgrade the older of the two.")
    try:
        return model.model_validate(fields, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        raise PeerError(400, f"The message cannot be read, at {place or 'its top'}: {first['msg'][:200]}") from None
