"""The site's register of boards, claims and certificates: SQLite, every change audited.

Writing is done in a transaction, together with its line in the audit log:

    with registry.transaction() as connection:
        registry.save_board(connection, board)
        registry.audit(connection, now, "add", board.name, place=board.place)

Other modules add tables by migrations of their own (`migrations/NNN_*.sql`) and query them through `transaction()` and `rows()`.
"""

from __future__ import annotations

__all__ = ["STATES", "Board", "Certificate", "Registry", "Token"]

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import audit as log
from edgeagent_provisioning import migrate

State: TypeAlias = Literal["planned", "waiting", "active", "revoked"]
STATES: tuple[str, ...] = get_args(State)
_BUSY_MS = 20_000


@dataclass(frozen=True, slots=True)
class Board:
    """A board of the site; times are Unix seconds, None where it has not come to that.

    Attributes:
        state: `planned` (a claim waits for it, or it is approved), `waiting` (came by a bulk claim, and is not approved yet),
            `active`, `revoked`.
        serial: Of the hardware, where it is known beforehand.
        cameras: As `cameras:` of the agent's configuration; `drivers`: as its `devices:`.
        wifi: `{"ssid": …, "psk": …}`.
        id_jwk: The public identity key, pinned; `id_thumbprint` its RFC 7638 thumbprint.
        enc_jwk: The public key that orders are encrypted to.
    """

    name: str
    created_at: int
    state: State = "planned"
    serial: str | None = None
    place: str = ""
    tags: tuple[str, ...] = ()
    cameras: Mapping[str, Any] = field(default_factory=dict)
    drivers: Mapping[str, Any] = field(default_factory=dict)
    wifi: Mapping[str, str] | None = field(default=None, repr=False)
    id_jwk: Mapping[str, Any] | None = None
    id_thumbprint: str | None = None
    enc_jwk: Mapping[str, Any] | None = None
    approved_at: int | None = None
    enrolled_at: int | None = None
    active_at: int | None = None
    seen_at: int | None = None
    online: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """A claim's token; `<id>.<secret>` is what a board is given.

    Attributes:
        secret: 22 characters of base64url; empty once it is of no more use.
        board: Whom a single one is for.
        uses_left: 1 of a fresh single one.
        serials: Who may come by a bulk one; empty for all.
        prefix: How boards of a bulk one are named; `template`: place, tags, cameras, drivers, wifi that they get.
        used_by: Thumbprint of the identity that took a single one.
    """

    id: str
    secret: str = field(repr=False)
    kind: Literal["single", "bulk"]
    created_at: int
    expires_at: int
    board: str | None = None
    uses_left: int = 1
    serials: tuple[str, ...] = ()
    prefix: str = ""
    template: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cancelled_at: int | None = None
    used_by: str | None = None
    used_at: int | None = None

    def valid(self, now: float) -> bool:
        """Whether a board that never came may still use it."""
        return bool(self.secret) and self.uses_left > 0 and self.cancelled_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Certificate:
    """A board's certificate as it was issued; `serial` hexadecimal, times Unix seconds."""

    serial: str
    board: str
    issued_at: int
    not_after: int
    pem: str = field(repr=False)
    issuer: str = ""
    revoked_at: int | None = None


class Registry:
    """One SQLite file in WAL mode; any number of processes, and any thread of this one.

    Args:
        path: The file; made where there is none.
        actor: Who does what follows, for the audit log.

    Raises:
        EdgeAgentError: It cannot be opened, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path, actor: str = "site") -> None:
        self.path = path
        self.actor = actor
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            migrate.apply(self._connection)
        except sqlite3.Error as error:
            raise EdgeAgentError(f"The registry {path} cannot be used: {error}. Restore it from a backup.") from None

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing (`BEGIN IMMEDIATE`): whatever is raised inside undoes it. Not to be nested; others wait meanwhile."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have undone it already, or left it open at COMMIT
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, parameters: Iterable[Any] = ()) -> list[sqlite3.Row]:
        """The result of a SELECT; inside a transaction of this thread it sees what that has written."""
        with self._lock:
            return self._connection.execute(query, tuple(parameters)).fetchall()

    def audit(self, connection: sqlite3.Connection, now: float, action: str, subject: str, **detail: Any) -> None:
        """Add a line to the audit log; secrets have no place in `detail`."""
        log.add(connection, now, self.actor, action, subject, detail)

    def board(self, name: str) -> Board | None:
        """The board so called."""
        return next(iter(self._boards("name = ?", name)), None)

    def board_of(self, thumbprint: str) -> Board | None:
        """The board with this identity key."""
        return next(iter(self._boards("id_thumbprint = ?", thumbprint)), None)

    def board_with(self, serial: str) -> Board | None:
        """The board with this hardware serial; one that was revoked does not count."""
        return next(iter(self._boards("serial = ? AND state != 'revoked'", serial)), None)

    def boards(self, tag: str | None = None, state: str | None = None) -> list[Board]:
        """Boards by name, those with this tag and in this state where asked."""
        found = self._boards("state = ?", state) if state else self._boards("1")
        return [board for board in found if tag is None or tag in board.tags]

    def denied(self) -> list[str]:
        """Names that the broker denies everything: boards that were revoked, and names whose session before is still to end."""
        return [row["name"] for row in self.rows("SELECT name FROM boards WHERE state = 'revoked' OR ending ORDER BY name")]

    def ending(self) -> list[str]:
        """Names that are given again while a session of who had them before may go on (`ending`)."""
        return [row["name"] for row in self.rows("SELECT name FROM boards WHERE ending ORDER BY name")]

    def end_session(self, connection: sqlite3.Connection, board: str) -> None:
        """Deny a name until the session of who had it is seen to have ended; where the site's broker is not ours, nothing."""
        connection.execute("UPDATE boards SET ending = 1 WHERE name = ? AND EXISTS (SELECT 1 FROM broker_settings)", (board,))

    def save_board(self, connection: sqlite3.Connection, board: Board) -> None:
        """Write a board, new or changed."""
        _save(connection, "boards", "name", board)

    def token(self, identifier: str) -> Token | None:
        """The token with this id."""
        return next(iter(self.tokens("id = ?", identifier)), None)

    def tokens(self, where: str = "1", *parameters: Any) -> list[Token]:
        """Tokens by age, the oldest first."""
        return [
            Token(**_loaded(Token, row))
            for row in self.rows(f"SELECT * FROM tokens WHERE {where} ORDER BY created_at, id", parameters)
        ]

    def claim_of(self, board: str, now: float) -> Token | None:
        """The token that still works for this board, the newest."""
        valid = [token for token in self.tokens("board = ?", board) if token.valid(now)]
        return valid[-1] if valid else None

    def save_token(self, connection: sqlite3.Connection, token: Token) -> None:
        """Write a token, new or changed."""
        _save(connection, "tokens", "id", token)

    def use_token(self, connection: sqlite3.Connection, token: Token, thumbprint: str, board: str, now: float) -> bool:
        """Let an identity take one use of a token; true also when it has taken one before (a retry), false when none is left.

        The caller has checked the MAC and `expires_at`; a retry of who has taken it may come after that.
        """
        if token.kind == "single":
            done = connection.execute(
                "UPDATE tokens SET used_by = ?, used_at = coalesce(used_at, ?), uses_left = 0"
                " WHERE id = ? AND board = ? AND cancelled_at IS NULL AND (used_by = ? OR (used_by IS NULL AND uses_left > 0))",
                (thumbprint, int(now), token.id, board, thumbprint),
            )
            return done.rowcount == 1
        if connection.execute("SELECT 1 FROM token_uses WHERE token = ? AND thumbprint = ?", (token.id, thumbprint)).fetchone():
            return True
        done = connection.execute(
            "UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ? AND cancelled_at IS NULL AND uses_left > 0", (token.id,)
        )
        if done.rowcount != 1:
            return False
        connection.execute("INSERT INTO token_uses VALUES (?, ?, ?, ?)", (token.id, thumbprint, board, int(now)))
        return True

    def used_before(self, token: Token, thumbprint: str) -> bool:
        """Whether this identity has taken a use of the token."""
        if token.kind == "single":
            return token.used_by == thumbprint
        return bool(self.rows("SELECT 1 FROM token_uses WHERE token = ? AND thumbprint = ?", (token.id, thumbprint)))

    def forget_secret(self, connection: sqlite3.Connection, identifier: str) -> None:
        """Wipe the secret of a single token whose board is active: nothing needs it any more."""
        connection.execute("UPDATE tokens SET secret = '' WHERE id = ? AND kind = 'single'", (identifier,))

    def save_certificate(self, connection: sqlite3.Connection, certificate: Certificate, tls_key: str = "") -> None:
        """Write a certificate, new or changed; `tls_key` is the hash of its key (`keyfiles.key_hash`), by which it is found."""
        _save(connection, "certificates", "serial", certificate)
        if tls_key:
            connection.execute("UPDATE certificates SET tls_key = ? WHERE serial = ?", (tls_key, certificate.serial))

    def certificate(self, serial: str) -> Certificate | None:
        """The certificate with this serial (hexadecimal)."""
        return next(iter(self.certificates("serial = ?", serial)), None)

    def certificates(self, where: str = "1", *parameters: Any) -> list[Certificate]:
        """Certificates, the one that lasts longest first."""
        found = self.rows(f"SELECT * FROM certificates WHERE {where} ORDER BY not_after DESC, issued_at DESC", parameters)
        return [Certificate(**_loaded(Certificate, row)) for row in found]

    def expiries(self) -> dict[str, int]:
        """By board the end of its longest certificate that is not revoked."""
        query = "SELECT board, max(not_after) AS end FROM certificates WHERE revoked_at IS NULL GROUP BY board"
        return {row["board"]: row["end"] for row in self.rows(query)}

    def revoke_certificates(self, connection: sqlite3.Connection, board: str, now: float) -> list[str]:
        """Mark all certificates of a board as revoked; their serials. `Site.write_crl` tells the broker."""
        found = connection.execute(
            "UPDATE certificates SET revoked_at = ? WHERE board = ? AND revoked_at IS NULL RETURNING serial", (int(now), board)
        )
        return [row["serial"] for row in found.fetchall()]

    def revoked(self, now: float) -> list[tuple[str, int]]:
        """For the CRL: serial and time of what is revoked and has not run out."""
        query = "SELECT serial, revoked_at FROM certificates WHERE revoked_at IS NOT NULL AND not_after > ? ORDER BY serial"
        return [(row["serial"], row["revoked_at"]) for row in self.rows(query, (int(now) - 86_400,))]

    def audited(self, subject: str | None = None, limit: int = -1) -> list[log.Entry]:
        """The audit log, the newest last."""
        where, parameters = ("subject = ?", [subject]) if subject else ("1", [])
        found = self.rows(f"SELECT * FROM audit WHERE {where} ORDER BY id DESC LIMIT ?", [*parameters, limit])
        return [log.entry(row) for row in reversed(found)]

    def audit_problem(self) -> str | None:
        """What is wrong with the chain of the audit log, None where it holds."""
        return log.problem(self.rows("SELECT * FROM audit ORDER BY id"))

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy while others go on writing."""
        with self._lock, contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def _boards(self, where: str, *parameters: Any) -> list[Board]:
        found = self.rows(f"SELECT * FROM boards WHERE {where} ORDER BY name", parameters)
        return [Board(**_loaded(Board, row)) for row in found]


_JSON = {"tags", "cameras", "drivers", "wifi", "id_jwk", "enc_jwk", "serials", "template"}
_LISTS = {"tags", "serials"}


def _save(connection: sqlite3.Connection, table: str, key: str, item: Board | Token | Certificate) -> None:
    values: dict[str, Any] = {}
    for column in fields(item):
        value = getattr(item, column.name)
        if column.name in _JSON and value is not None:
            value = json.dumps(list(value) if column.name in _LISTS else dict(value), ensure_ascii=False)
        values[column.name] = int(value) if isinstance(value, bool | float) else value
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != key)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        f" ON CONFLICT ({key}) DO UPDATE SET {changes}",
        tuple(values.values()),
    )


def _loaded(kind: type[Board] | type[Token] | type[Certificate], row: sqlite3.Row) -> dict[str, Any]:
    """The columns of a row that `kind` has; migrations of others may have added more."""
    values: dict[str, Any] = {}
    for column in fields(kind):
        value = row[column.name]
        if column.name in _JSON and value is not None:
            value = json.loads(value)
        values[column.name] = tuple(value) if column.name in _LISTS else bool(value) if column.name == "online" else value
    return values
