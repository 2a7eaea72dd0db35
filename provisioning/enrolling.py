"""Who is let in, and by which certificate: requests as boards send them, answered from the registry. The same for every door.

    1. whose claim or board   2. its seal, before anything is decided or written   3. the CSR
    4. one transaction: the token's use, the board's keys and its certificate, all or nothing
    5. the sealed reply, which a retry with the same keys gets again

A board is `active` only once it has shown the certificate (`here`). Names come from the registry, never from a CSR.
Wrong seals cost whoever sends them time and nobody else anything: they use up no token, and hold up no board that knows its secret.
"""

from __future__ import annotations

__all__ = ["Doors", "Enrolling", "Event", "JoiningUser", "NoHere", "joining_users"]

import dataclasses
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgeagent.core.ratelimit import KeyedBuckets, Rate
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal
from edgeagent.wire.orders import SITE, Here, decode_report
from edgeagent_provisioning import claims
from edgeagent_provisioning.authority import BOARD_LIFE_S
from edgeagent_provisioning.issuing import Issuing, key_of
from edgeagent_provisioning.joining_users import JoiningUser, joining_users
from edgeagent_provisioning.registry import Board, Certificate, Token
from edgeagent_provisioning.site import Site

Doors: TypeAlias = Literal["https", "mqtt"]
_WRONG = Rate(1, 10)  # wrong seals of one source: so many a second, so many at once
_LINES = Rate(0.2, 20)
_APPROVAL_S, _ENDING_S = 30.0, 5.0
_NOTED = 4  # certificates of one board that it says it has and nobody knows
_ASK_NEW = "ask the installer for a new claim (edgeagent provision add --new-claim)"
_ASK_END = "ask the installer, who ends whoever did (edgeagent provision revoke NAME, then add NAME --replace)"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for the screen. `kind`: enrolled, again, waiting, active, renewed, refused, guessed."""

    kind: str
    board: str
    text: str
    at: float


class NoHere(PeerError):
    """Sealed by that board, but not a `Here`, or one that came before."""


class Enrolling:
    """Decides and writes; keeps nothing but the limits. Calls may come from any thread.

    Args:
        site: The open site.
        clock: Seconds of a clock that does not go back, for the limits.
        settings: The first settings of a board, as the order `settings` wants them; None where it has none yet.
        told: Called for each event, after what it tells of is on disk.
        changed: Called when what the broker must know has changed (revoked certificates, joining users), after it is on disk.
    """

    def __init__(
        self,
        site: Site,
        clock: Callable[[], float],
        *,
        settings: Callable[[Board], Mapping[str, object] | None] = lambda board: None,
        told: Callable[[Event], None] = lambda event: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._site = site
        self._clock = clock
        self._issuing = Issuing(site, clock, settings)
        self._told = told
        self._changed = changed
        self._sources = KeyedBuckets(_WRONG)
        self._tokens = KeyedBuckets(_WRONG)
        self._lines = KeyedBuckets(_LINES)
        self._lock = threading.Lock()
        self._nobody = secrets.token_urlsafe(16)
        self._sig = seal.p256(site.keys["sig"])
        self._enc = seal.p256(site.keys["enc"])

    def handle(self, text: str | bytes, now: float, *, source: str = "", door: Doors = "https") -> str:
        """Answer one request to enrol or to renew.

        Args:
            text: As it came.
            now: Unix time.
            source: Who shares one limit of wrong seals: an address, or a user of the broker.
            door: By what it came.

        Returns:
            The reply, sealed where the request was. Never raises for anything in `text`.

        Raises:
            EdgeAgentError, OSError, sqlite3.Error: The site itself is out of order; nothing was written.
        """
        # A seal costs microseconds, less than TLS did: it is proved for everybody, or a stranger behind the same address, in the
        # same network of IPv6 or with the same bulk claim could hold up every board there.
        try:
            kind, whose = e.what_is(text)
        except PeerError as error:
            return e.plain_refusal(error.code, error.message)
        if kind == "enrol":
            return self._enrol(text, whose, now, source, door)
        return self._renew(text, whose, now, source)

    def here(self, text: str | bytes, board_name: str, now: float, *, serial: str | None = None) -> Board:
        """A board has shown its certificate, to the service or to the broker, and says what it is: it is `active`.

        Args:
            text: A sealed `Here`.
            board_name: Whom the certificate names, as TLS or the broker have proved.
            serial: The certificate's serial (hexadecimal), where it was seen here; None where the broker has seen it, which may
                say anything: then that counts which the board itself tells, in an envelope that is not older than what it said
                before.

        Raises:
            PeerError: 401 not sealed by that board, 403 no such certificate, 410 revoked, 400 cannot be read.
            NoHere: It is something else that the board tells its site, or came before.
        """
        registry = self._site.registry
        board = registry.board(board_name)
        if board is None or board.id_jwk is None:
            raise PeerError(403, "No board of this site is called so.")
        if board.state == "revoked":
            raise PeerError(410, f"{board_name} has been revoked.")
        opened = seal.unseal(text, with_enc=self._enc, from_sig=board.id_jwk, issuer=board_name, audience=SITE, typ=seal.ANSWER)
        told = decode_report(opened.body)
        if not isinstance(told, Here) or told.device != board_name:
            raise NoHere(400, "This is not what a board says of itself.")
        if serial is None and opened.number <= self._heard(board):
            raise NoHere(409, "This board has said that before.")
        return self.seen(board_name, now, serial=serial, told=told.certificate, release=told.release, model=told.model)

    def _heard(self, board: Board) -> int:
        """The highest number of what this board has said on the broker (`site_orders`)."""
        query = "SELECT heard FROM fleet WHERE board = ? AND thumbprint = ?"
        return max((row["heard"] for row in self._site.registry.rows(query, (board.name, board.id_thumbprint))), default=0)

    def seen(
        self, board_name: str, now: float, *, serial: str | None = None, told: str = "", release: str = "", model: str = ""
    ) -> Board:
        """As `here`, for a caller that has opened the envelope itself.

        Args:
            told: The serial that the board itself tells, where `serial` is None; "" marks none as used, and one that is not known
                is noted, to be revoked with the others.

        Raises:
            PeerError: As `here`.
        """
        registry, first, changed = self._site.registry, False, False
        with registry.transaction() as connection:
            board = registry.board(board_name)
            if board is None or board.enrolled_at is None:
                raise PeerError(403, "No board of this site is called so.")
            if board.state not in ("planned", "active"):
                raise PeerError(410, f"{board_name} is {board.state}.")
            certificate = registry.certificate(told if serial is None else serial)
            if certificate is None and serial is None and told:
                self._unknown(connection, board, told, now)
            if certificate and (certificate.board != board_name or certificate.revoked_at is not None):
                certificate = None
            if certificate is None and serial is not None:
                raise PeerError(403, "This certificate is not one that this site knows for that board.")
            if certificate:
                connection.execute(
                    "UPDATE certificates SET used_at = coalesce(used_at, ?) WHERE serial = ?", (int(now), certificate.serial)
                )
                changed = self._rotated(connection, certificate, now)
            first = board.state != "active"
            board = dataclasses.replace(
                board,
                state="active",
                active_at=int(now) if first else board.active_at,
                seen_at=int(now),
                version=release or board.version,
            )
            registry.save_board(connection, board)
            if model:
                connection.execute("UPDATE boards SET model = ? WHERE name = ?", (model, board_name))
            if first:
                registry.audit(connection, now, "activate", board_name, serial=certificate.serial if certificate else None)
                claims.cancel(registry, connection, board_name, now)  # one made while this board was on its way
                for token in registry.tokens("board = ? AND secret != ''", board_name):
                    registry.forget_secret(connection, token.id)
        if first:
            self._told(Event("active", board_name, f"{board_name} has shown its certificate and is active.", now))
        if changed:
            self._site.write_crl(now)
        if first or changed:
            self._changed()
        return board

    def _unknown(self, connection: sqlite3.Connection, board: Board, told: str, now: float) -> None:
        """Note a certificate that this registry, restored from a backup, does not know: or nobody could revoke it any more.

        When, and by which CA, it was issued is not known: it counts as from before whatever was changed since.
        """
        registry = self._site.registry
        noted = registry.certificates("board = ? AND pem = '' AND revoked_at IS NULL AND not_after > ?", board.name, int(now))
        number = int(told, 16)
        if len(noted) >= _NOTED or told != f"{number:x}" or not 0 < number < 2**159:  # a board says what it likes
            return
        since = board.enrolled_at or int(now)
        registry.save_certificate(connection, Certificate(told, board.name, since, int(now) + BOARD_LIFE_S, ""))
        connection.execute("UPDATE certificates SET used_at = ? WHERE serial = ?", (int(now), told))
        registry.audit(connection, now, "note", board.name, certificate=told)

    # Enrolment

    def _enrol(self, text: str | bytes, token_id: str, now: float, source: str, door: Doors) -> str:
        registry = self._site.registry
        token = registry.token(token_id)
        if token is not None and not token.secret:
            gone = f"been cancelled; {_ASK_NEW}" if token.cancelled_at is not None else f"been used already; {_ASK_END}"
            return self._wrong(source, token_id, now, e.plain_refusal(409, f"This claim has {gone}."))
        try:
            # An unknown token costs as much time as a wrong secret.
            request = e.open_enrol(text, token.secret if token else self._nobody)
        except e.Unproved:
            return self._wrong(source, token_id, now)
        except PeerError as error:
            return e.plain_refusal(error.code, error.message)
        if token is None:  # somebody has guessed what this process made up for nobody
            return self._wrong(source, token_id, now)
        try:
            key = key_of(request.csr, token.board)
            reply, event, changed = self._admitted(token_id, request, key, now, door)
        except _NotYet as wait:
            self._say(wait.event)
            refused = e.Refused(nonce=request.nonce, code=202, message=str(wait), retry_s=_APPROVAL_S)
            return e.reply_to_enrol(refused, token.secret)
        except PeerError as error:
            self._say(Event("refused", token.board or token.prefix, error.message, now))
            retry_s = _ENDING_S if error.code == 503 else None
            refused = e.Refused(nonce=request.nonce, code=error.code, message=error.message, retry_s=retry_s)
            return e.reply_to_enrol(refused, token.secret)
        if changed:
            self._site.write_crl(now)
            self._changed()
        self._say(event)
        return e.reply_to_enrol(reply, token.secret)

    def _admitted(
        self, token_id: str, request: e.EnrolRequest, key: object, now: float, door: Doors
    ) -> tuple[e.Enrolled, Event, bool]:
        """The one transaction of an enrolment: the reply, what to tell, and whether the broker must know."""
        registry = self._site.registry
        id_jwk, enc_jwk = request.id.model_dump(), request.enc.model_dump()
        thumbprint = seal.thumbprint(id_jwk)
        waits = None
        with registry.transaction() as connection:
            token = registry.token(token_id)  # again: it may have been used since
            if token is None or token.cancelled_at is not None:
                raise PeerError(410, f"This claim has been cancelled; {_ASK_NEW}.")
            again = registry.used_before(token, thumbprint)
            if token.kind == "single" and token.used_by is not None and not again:
                raise PeerError(409, f"This claim has been used by another board; {_ASK_END}.")
            if not again and now >= token.expires_at:
                raise PeerError(410, f"This claim has run out; {_ASK_NEW}.")
            if token.kind == "bulk":
                board = claims.admit(registry, connection, token, thumbprint, id_jwk, enc_jwk, request.serial, now)
            else:
                board = self._planned(connection, token, thumbprint, request.serial, now)
            if board.state == "revoked":
                raise PeerError(410, f"{board.name} has been turned away by its site.")
            if board.name in registry.ending():
                raise PeerError(
                    503,
                    f"The broker still has to end the session of the board that was {board.name} before: seconds, while "
                    "`edgeagent provision serve` runs (without --no-broker) and reaches the broker; `provision doctor` says more.",
                )
            connection.execute(
                "UPDATE boards SET door = ?, model = ?, told_serial = ? WHERE name = ?",
                (door, request.model, request.serial, board.name),
            )
            if board.state == "waiting":
                waits = board
            else:
                changed = False
                if board.id_thumbprint not in (None, thumbprint):
                    changed = bool(registry.revoke_certificates(connection, board.name, now))
                board = dataclasses.replace(
                    board, id_jwk=id_jwk, id_thumbprint=thumbprint, enc_jwk=enc_jwk, enrolled_at=board.enrolled_at or int(now)
                )
                certificate, chain, fresh = self._issuing.certificate(connection, board, key, now)
                registry.save_board(connection, board)
                if fresh:
                    registry.audit(
                        connection, now, "enrol", board.name, token=token.id, id=thumbprint, certificate=certificate.serial
                    )
        if waits is not None:
            who = f"serial {request.serial or 'not told'}, model {request.model or 'not told'}"
            raise _NotYet(
                "The site knows of this board and waits for somebody to approve it.",
                Event("waiting", waits.name, f"{waits.name} waits ({who}): edgeagent provision approve {waits.name}", now),
            )
        reply = self._issuing.reply(board, certificate, chain, request.nonce)
        what = f"{board.name} has its certificate, by {'HTTPS' if door == 'https' else 'MQTT'}."
        return reply, Event("enrolled" if fresh else "again", board.name, what, now), changed

    def _planned(self, connection: sqlite3.Connection, token: Token, thumbprint: str, serial: str, now: float) -> Board:
        registry = self._site.registry
        board = registry.board(token.board or "")
        if board is None:
            raise PeerError(410, f"The board of this claim is no longer planned; {_ASK_NEW}.")
        if board.state == "revoked":
            raise PeerError(
                410, f"{board.name} has been revoked; ask the installer for a new claim (edgeagent provision add --replace)."
            )
        if board.id_thumbprint not in (None, thumbprint) and (token.used_by is not None or board.state == "active"):
            # No retry, however late, exchanges who a board is; only the first use of a claim that was made since does.
            raise PeerError(409, f"{board.name} has been taken by another board since; {_ASK_END}.")
        other = registry.board_of(thumbprint)
        if other is not None and other.name != board.name:
            raise PeerError(409, f"This board is {other.name} already: reset it first (edgeagent reset), then use a new claim.")
        told = serial.strip().lower()
        if board.serial and board.serial != told:
            this = f"has {told[:64]!a}" if told else "tells none"
            raise PeerError(403, f"This claim is for the board with the serial number {board.serial}; this one {this}.")
        if not registry.use_token(connection, token, thumbprint, board.name, now):
            raise PeerError(409, f"This claim has been used by another board; {_ASK_END}.")
        return board

    # Renewal

    def _renew(self, text: str | bytes, name: str, now: float, source: str) -> str:
        registry = self._site.registry
        board = registry.board(name)
        if board is None or board.id_jwk is None:
            return self._wrong(source, "", now, e.plain_refusal(401, "No board of this site is called so, or not with this key."))
        try:
            request = e.open_renew(text, board.id_jwk)
        except e.Unproved:
            return self._wrong(source, "", now, e.plain_refusal(401, "No board of this site is called so, or not with this key."))
        except PeerError as error:
            return e.plain_refusal(error.code, error.message)
        try:
            key = key_of(request.csr, name)
            with registry.transaction() as connection:
                board = registry.board(name)
                if board is None or board.state == "revoked":
                    raise PeerError(410, f"{name} has been revoked by its site: `edgeagent reset`, then enrol it with a new claim.")
                if board.state == "waiting":
                    raise PeerError(202, "The site waits for somebody to approve this board.")
                certificate, chain, fresh = self._issuing.certificate(connection, board, key, now)
                registry.save_board(connection, dataclasses.replace(board, seen_at=int(now)))
                if fresh:
                    registry.audit(connection, now, "renew", name, certificate=certificate.serial)
        except PeerError as error:
            self._say(Event("refused", name, error.message, now))
            return e.reply_to_renew(e.Refused(nonce=request.nonce, code=error.code, message=error.message), self._sig)
        if fresh:
            self._told(Event("renewed", name, f"{name} has a new certificate.", now))
        return e.reply_to_renew(self._issuing.reply(board, certificate, chain, request.nonce), self._sig)

    def _rotated(self, connection: sqlite3.Connection, used: Certificate, now: float) -> bool:
        """Revoke what `rotate` was about, now that a newer certificate is in use."""
        found = connection.execute("SELECT rotate_at FROM boards WHERE name = ?", (used.board,)).fetchone()
        if found is None or found["rotate_at"] is None or used.issued_at < found["rotate_at"]:
            return False
        # Keys of before, of which a recorded request may have got another certificate since.
        keys = "SELECT tls_key FROM certificates WHERE board = ? AND tls_key IS NOT NULL AND issued_at < ?"
        parts = (used.board, found["rotate_at"])
        old = f"SELECT 1 FROM certificates WHERE serial = ? AND tls_key IN ({keys})"
        if connection.execute(old, (used.serial, *parts)).fetchone():
            return False
        done = connection.execute(
            "UPDATE certificates SET revoked_at = ? WHERE board = ? AND revoked_at IS NULL AND serial != ?"
            f" AND (issued_at < ? OR tls_key IN ({keys}))",
            (int(now), used.board, used.serial, found["rotate_at"], *parts),
        )
        connection.execute("UPDATE boards SET rotate_at = NULL WHERE name = ?", (used.board,))
        self._site.registry.audit(connection, now, "rotated", used.board, certificate=used.serial, revoked=done.rowcount)
        return done.rowcount > 0

    # Limits

    def _say(self, event: Event) -> None:
        """Tell of it, unless much was told of that board lately: whoever has a claim may ask as often as he likes."""
        with self._lock:
            silent = self._lines.take(event.board, self._clock())
        if not silent:
            self._told(event)

    def _wrong(self, source: str, token_id: str, now: float, answer: str = "") -> str:
        """Note a wrong seal, and what to answer it with."""
        clock = self._clock()
        with self._lock:
            wait_s = max(self._sources.take(source, clock), self._tokens.take(token_id, clock) if token_id else 0.0)
            silent = self._lines.take("", clock)
        if not silent and not wait_s:
            self._told(Event("guessed", "", f"A claim or key that is not known here came from {source or 'somewhere'}.", now))
        if wait_s:
            return e.plain_refusal(429, "Too many wrong claims came from there; wait a moment.", wait_s)
        return answer or e.plain_refusal(401, f"This claim is not known here, or is misspelt; {_ASK_NEW}.")


class _NotYet(EdgeAgentError):
    def __init__(self, message: str, event: Event) -> None:
        super().__init__(message)
        self.event = event
