"""A board and its site, whatever the way between them: what is asked, and what is made of the answer."""

from __future__ import annotations

__all__ = ["BoardFacts", "Turned", "Waiting", "activate", "join", "renew"]

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent import __version__
from edgeagent.core.renewal import clock_is_sane
from edgeagent.enrol import client, keys, over_mqtt
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, Pending
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import claim as c
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal
from edgeagent.wire.orders import SITE, Here, SetSettings, decode_order

_NOT_NOW = {202, 429, 503}


class Waiting(EdgeAgentError):
    """The site, proved, says: not yet. `retry_s`: ask again after so many seconds."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class Turned(EdgeAgentError):
    """The site, proved, says no: only a person can change something. `code` as in `wire.enrolment.Refused`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What a board says of itself. `serial`: as its maker gives it."""

    model: str = ""
    serial: str = ""
    release: str = __version__

    @classmethod
    def read(cls, root: Path = Path("/")) -> BoardFacts:
        """Those of this board, where its firmware tells them."""

        def told(name: str) -> str:
            try:
                return (root / "proc/device-tree" / name).read_bytes().rstrip(b"\0").decode()[:200]
            except (OSError, UnicodeDecodeError):
                return ""

        return cls(told("model"), told("serial-number"))


async def join(claim: c.Claim, state: Path, facts: BoardFacts, now: float) -> Identity:
    """Ask once to be taken in: over HTTPS, and over the broker where the claim names one and the service is not reached.

    Raises:
        Waiting: A person has to approve first, or the site is busy.
        Turned: The claim is used, expired, or for another board.
        Unreachable: Neither way works, or whoever answers cannot prove to be the site; trying again may help.
        EdgeAgentError: The state folder cannot be written.
    """
    if not clock_is_sane(now):
        raise Unreachable("The clock of this board is not set yet; it waits for the time.")
    try:
        return await _join(claim, state, facts, now, fresh=False)
    except Turned as error:
        if error.code != 409:
            raise
    # A reply that never came may have held a certificate, which a new claim has revoked with its key: once more, with another.
    return await _join(claim, state, facts, now, fresh=True)


async def _join(claim: c.Claim, state: Path, facts: BoardFacts, now: float, *, fresh: bool) -> Identity:
    pending = await client.aside(lambda: Pending(state, fresh=fresh))
    request = e.EnrolRequest(
        nonce=e.new_nonce(secrets.token_bytes),
        csr=keys.certificate_request(pending.tls),
        id=e.PublicJwk.model_validate(seal.public_jwk(pending.id)),
        enc=e.PublicJwk.model_validate(seal.public_jwk(pending.enc)),
        model=facts.model,
        serial=facts.serial,
        release=facts.release,
    )
    text = e.seal_enrol(request, token_id=claim.token_id, secret=claim.secret, id_key=pending.id)

    def opened(answer: str | bytes) -> e.Enrolled | e.Refused:
        return e.open_enrol_reply(answer, secret=claim.secret, nonce=request.nonce)

    reply, door = await _joined(claim, text, opened, now)
    enrolled = _taken(reply)
    _check_site(enrolled, claim.root_pin, pending)
    settings = _first_settings(enrolled, pending)
    return await client.aside(lambda: pending.accept(enrolled, pin=claim.root_pin, door=door, now=now, settings=settings))


def _check_site(enrolled: e.Enrolled, pin: str, pending: Pending) -> None:
    """What all boards of a claim for many know proves no site: its authority does, below the root of the claim."""
    try:
        pinned = "".join(pem for pem, found in keys.pin_of(enrolled.roots) if found == pin)
        if not pinned:
            raise Unreachable("The site that answered has another root than this claim: ask the installer for a new one.")
        keys.check_issued(enrolled.certificate, enrolled.chain, pinned, name=enrolled.device, tls=pending.tls)
    except PeerError as error:
        raise Unreachable(error.message) from None
    if not keys.vouches(enrolled.certificate, enrolled.sig.model_dump(), enrolled.enc.model_dump()):
        raise Unreachable(
            "The keys that were given as the site's are not those that its authority vouches for: somebody stands between, "
            "or the site must be upgraded first."
        )


async def renew(identity: Identity, state: Path, now: float, *, fresh: bool = False) -> Identity:
    """Ask once for the next certificate, with a new key; works after the old one's end as well.

    Args:
        fresh: Whether a key that a try before has left behind is thrown away; so it is where the site does not take it.

    Raises:
        Waiting, Turned, Unreachable, EdgeAgentError: As `join`; `Turned` with 410 where the site has revoked this board.
    """
    try:
        return await _renew(identity, state, now, fresh=fresh)
    except Turned as error:
        if error.code != 409 or fresh:
            raise
    return await _renew(identity, state, now, fresh=True)


async def _renew(identity: Identity, state: Path, now: float, *, fresh: bool) -> Identity:
    if not clock_is_sane(now, identity.not_before):
        raise Unreachable("The clock of this board is not set yet; it waits for the time.")
    pending = await client.aside(lambda: Pending(state, identity, fresh=fresh))
    request = e.RenewRequest(
        nonce=e.new_nonce(secrets.token_bytes),
        device=identity.name,
        csr=keys.certificate_request(pending.tls),
        at=int(now),
        release=__version__,
    )
    text = e.seal_renew(request, id_key=pending.id)

    def opened(answer: str | bytes) -> e.Enrolled | e.Refused:
        return e.open_renew_reply(answer, site_sig=identity.site_sig, nonce=request.nonce)

    enrolled = _taken(await _renewed(identity, text, opened, now))
    if enrolled.device != identity.name:
        raise Unreachable("The site's answer is for another board.")
    return await client.aside(lambda: pending.accept(enrolled, pin=identity.pin, door=identity.door, now=now))


async def activate(identity: Identity, now: float, facts: BoardFacts) -> bool:
    """Show the new certificate to the service, which makes the board `active`; False where that must wait for the broker.

    The agent tells the same at each connection with the broker, so this only makes it sooner.
    """
    here = Here(device=identity.name, certificate=identity.serial, model=facts.model, release=facts.release)
    text = seal.seal(
        here.model_dump(),
        to_enc=identity.site_enc,
        by_sig=identity.id_key,
        issuer=identity.name,
        audience=SITE,
        epoch=f"enrol-{identity.serial[:16]}",
        number=1,
        at=int(now),
        typ=seal.ANSWER,
    )
    cert, key, roots = str(identity.cert_file), str(identity.key_file), identity.root_file.read_text()
    for url in identity.services:
        try:
            answer = await client.aside(
                lambda url=url: client.post(url, "/here", text, roots, now, cert_file=cert, key_file=key)  # type: ignore[misc]
            )
            return answer.startswith('{"state":"active"')
        except Unreachable:
            continue
    return False


async def _joined(
    claim: c.Claim, text: str, opened: Callable[[str | bytes], e.Enrolled | e.Refused], now: float
) -> tuple[e.Enrolled | e.Refused, str]:
    problems = []
    if claim.url:
        try:

            def over_https() -> str:
                root = client.fetch_roots(claim.url, claim.root_pin)
                return client.post(claim.url, "/enrol", text, root, now)

            return _opened(opened, await client.aside(over_https)), "https"
        except (Unreachable, PeerError) as error:
            problems.append(str(error))
    if claim.mqtt:
        user, password = c.joining_user(claim.token_id), c.joining_password(claim.secret)
        try:
            root = await client.aside(lambda: over_mqtt.root_of(claim.mqtt, claim.root_pin))
            answer = await over_mqtt.ask(claim.mqtt, user, password, text, lambda data: _ours(opened, data), now, roots=root)
            return _opened(opened, answer), "mqtt"
        except (Unreachable, PeerError) as error:
            problems.append(str(error))
    raise Unreachable(" ".join(dict.fromkeys(problems)))


async def _renewed(
    identity: Identity, text: str, opened: Callable[[str | bytes], e.Enrolled | e.Refused], now: float
) -> e.Enrolled | e.Refused:
    problems = []
    roots = identity.root_file.read_text()
    for url in identity.services:
        try:
            answer = await client.aside(lambda url=url: client.post(url, "/renew", text, roots, now))  # type: ignore[misc]
            return _opened(opened, answer)
        except Unreachable as error:
            problems.append(str(error))
    user = c.back_user(identity.id_thumbprint)
    password = c.back_password(identity.enc_key, identity.site_enc)
    for url in identity.joining:
        try:
            reply = await over_mqtt.ask(
                url, user, password, text, lambda data: _ours(opened, data), now, root_file=str(identity.root_file)
            )
            return _opened(opened, reply)
        except Unreachable as error:
            problems.append(str(error))
    raise Unreachable(" ".join(dict.fromkeys(problems)) or "The site has told no address for renewals.")


def _first_settings(enrolled: e.Enrolled, pending: Pending) -> Mapping[str, Any] | None:
    """The settings in a reply, sealed for this board; where they cannot be read, the site orders them anew."""
    if not enrolled.settings:
        return None
    sig = enrolled.sig.model_dump()
    try:
        opened = seal.unseal(enrolled.settings, with_enc=pending.enc, from_sig=sig, issuer=SITE, audience=enrolled.device)
        order = decode_order(opened.body)
    except PeerError:
        return None
    return order.settings if isinstance(order, SetSettings) and opened.epoch == enrolled.nonce else None


def _opened(opened: Callable[[str | bytes], e.Enrolled | e.Refused], answer: str | bytes) -> e.Enrolled | e.Refused:
    try:
        return opened(answer)
    except e.Unproved as error:
        # Whoever stands between could have said so: it is shown, and tried again.
        raise Unreachable(str(error)) from None


def _ours(opened: Callable[[str | bytes], e.Enrolled | e.Refused], data: bytes) -> bool:
    """An answer to this request, or one that proves nothing and may be meant for us."""
    try:
        opened(data)
    except e.Unproved:
        return data[:1] == b"{"
    return True


def _taken(reply: e.Enrolled | e.Refused) -> e.Enrolled:
    if isinstance(reply, e.Enrolled):
        return reply
    if reply.code in _NOT_NOW:
        raise Waiting(reply.message, 30.0 if reply.retry_s is None else reply.retry_s)
    raise Turned(reply.code, reply.message)
