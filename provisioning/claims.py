"""Tokens for boards that are to come: single-use ones, each for a planned board, and bulk ones, whose boards wait for approval."""

from __future__ import annotations

__all__ = [
    "LIFE_S",
    "admit",
    "approve",
    "cancel",
    "cancel_bulk",
    "claim_for",
    "mint",
    "mint_bulk",
    "no_claim",
    "refuse",
    "serial_of",
    "turn_away",
]

import dataclasses
import re
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import topics
from edgeagent.wire.claim import Claim
from edgeagent_provisioning.broker.names import reserved
from edgeagent_provisioning.registry import Board, Registry, Token
from edgeagent_provisioning.site import Site

LIFE_S = 7 * 86_400
MAX_USES = 10_000
_SERIAL = re.compile(r"[0-9a-z][0-9a-z._-]{0,63}", re.ASCII)


def mint(registry: Registry, connection: sqlite3.Connection, board: str, now: float, life_s: int = LIFE_S) -> Token:
    """A single-use token for a planned board, inside a transaction. Those before it end, and so does whoever has joined by one and
    has not shown the certificate yet: it is not asked whose board that was.

    Raises:
        EdgeAgentError: There is no such board, or it needs none.
    """
    known = registry.board(board)
    if known is None:
        raise EdgeAgentError(f"There is no board {board}: `edgeagent provision add {board}` plans one.")
    if known.state != "planned":
        raise EdgeAgentError(f"{board} is {known.state}: only a planned board takes a claim.")
    cancel(registry, connection, board, now, used=True)
    if known.id_thumbprint is not None:
        _turn_out(registry, connection, known, now)
    token = Token(secrets.token_hex(8), secrets.token_urlsafe(16), "single", int(now), int(now) + life_s, board)
    registry.save_token(connection, token)
    registry.audit(connection, now, "claim", board, token=token.id, expires_at=token.expires_at)
    return token


def mint_bulk(
    site: Site,
    now: float,
    uses: int,
    *,
    prefix: str,
    serials: Sequence[str] = (),
    template: Mapping[str, Any] | None = None,
    life_s: int = LIFE_S,
) -> Token:
    """A token for up to `uses` boards, which are named `<prefix>-1` and so on and wait for `approve`.

    Args:
        serials: Who may come; empty for every board.
        template: place, tags, cameras, drivers, wifi of the boards.

    Raises:
        EdgeAgentError: Something of it cannot be used.
    """
    if not 1 <= uses <= MAX_USES:
        raise EdgeAgentError(f"A bulk claim is for 1 to {MAX_USES} boards: give another number.")
    if not topics.is_name(f"{prefix}-{MAX_USES}") or reserved(f"{prefix}-{MAX_USES}"):
        raise EdgeAgentError(
            f"{prefix[:80]!r} cannot begin the names of boards: use a-z, 0-9 and inner hyphens, like `cam`, "
            "and not the name of one of the broker's own users."
        )
    token = Token(
        secrets.token_hex(8),
        secrets.token_urlsafe(16),
        "bulk",
        int(now),
        int(now) + life_s,
        uses_left=uses,
        serials=tuple(serial_of(serial) for serial in serials),
        prefix=prefix,
        template=dict(template or {}),
    )
    with site.registry.transaction() as connection:
        site.registry.save_token(connection, token)
        site.registry.audit(
            connection, now, "bulk claim", prefix, token=token.id, uses=uses, serials=len(serials), expires_at=token.expires_at
        )
    return token


def claim_for(site: Site, token: Token) -> Claim:
    """What a board is given: the site's address and pin, the token, and the Wi-Fi that it is planned with.

    Raises:
        EdgeAgentError: The site has no address yet, or the token is of no more use.
    """
    if not token.secret:
        raise EdgeAgentError(
            f"The claim of {token.board or token.prefix} has been used or cancelled: `edgeagent provision add` makes another."
        )
    if not site.urls and not site.joining:
        raise EdgeAgentError("The site has no address yet: `edgeagent provision site set --url https://HOST:8443`.")
    board = site.registry.board(token.board) if token.board else None
    wifi: Mapping[str, str] = (board.wifi if board else token.template.get("wifi")) or {}
    return Claim(
        url=site.urls[0] if site.urls else "",
        root_pin=site.authority.root_pin,
        token_id=token.id,
        secret=token.secret,
        mqtt=site.joining,
        ssid=wifi.get("ssid", ""),
        wifi_key=wifi.get("psk", ""),
    )


def no_claim(board: Board) -> str:
    """Why no claim works for a board, and what to do."""
    if board.state == "planned" and board.id_thumbprint is not None:
        return (
            f"{board.name} has been taken by a board that has not shown its certificate yet: wait for it. If that is not yours, "
            f"`edgeagent provision revoke {board.name}`, then `edgeagent provision add {board.name} --replace`."
        )
    if board.state == "planned":
        return f"The claim of {board.name} has ended: `edgeagent provision add {board.name} --new-claim` makes another."
    if board.state == "waiting":
        return f"{board.name} waits already: `edgeagent provision approve {board.name}`."
    why = "was revoked" if board.state == "revoked" else "is active and needs no claim"
    first = "" if board.state == "revoked" else f"`edgeagent provision revoke {board.name}`, then "
    again = f"{first}`edgeagent provision add {board.name} --replace`, and `edgeagent reset` on the board"
    return f"{board.name} {why}. To take it in anew: {again}."


def cancel_bulk(registry: Registry, connection: sqlite3.Connection, prefix: str, now: float) -> list[Token]:
    """End the bulk claims whose boards are named so, inside a transaction: nobody comes in by them any more; which they were."""
    found = [token for token in registry.tokens("kind = 'bulk' AND prefix = ? AND cancelled_at IS NULL", prefix) if token.secret]
    for token in found:
        connection.execute("UPDATE tokens SET cancelled_at = ?, secret = '' WHERE id = ?", (int(now), token.id))
    return found


def turn_away(
    registry: Registry, connection: sqlite3.Connection, tokens: Sequence[Token], now: float
) -> tuple[list[str], list[str]]:
    """Refuse the boards that wait by these tokens, which end, inside a transaction.

    Returns:
        Their names; and those of boards that were approved and have not fetched their certificate: they cannot any more.
    """
    away, stranded = [], []
    for token in tokens:
        for row in registry.rows("SELECT board FROM token_uses WHERE token = ? ORDER BY at, board", (token.id,)):
            board = registry.board(row["board"])
            if board is not None and board.state == "waiting":
                registry.save_board(connection, dataclasses.replace(board, state="revoked"))
                registry.audit(connection, now, "refuse", board.name, id=board.id_thumbprint, serial=board.serial)
                away.append(board.name)
            elif board is not None and board.state == "planned":
                stranded.append(board.name)
    return away, stranded


def cancel(registry: Registry, connection: sqlite3.Connection, board: str, now: float, *, used: bool = False) -> int:
    """Cancel those claims of a board that nobody has used (`used`: all of them), inside a transaction; how many."""
    query = "UPDATE tokens SET cancelled_at = ?, secret = '' WHERE board = ? AND cancelled_at IS NULL"
    return connection.execute(query if used else f"{query} AND used_by IS NULL", (int(now), board)).rowcount


def admit(
    registry: Registry,
    connection: sqlite3.Connection,
    token: Token,
    thumbprint: str,
    id_jwk: Mapping[str, Any],
    enc_jwk: Mapping[str, Any],
    serial: str,
    now: float,
) -> Board:
    """The board that came with a bulk token, inside a transaction: new and `waiting`, or as it is where it came before.

    The caller has checked the MAC and the time. It may be given a certificate once its state is `planned` (approved) or `active`.

    Raises:
        PeerError: 403 the serial is not on the token's list; 410 the token is used up; 409 the serial belongs to another board.
    """
    known = registry.board_of(thumbprint)
    if known is not None and registry.used_before(token, thumbprint):
        return known
    serial = serial.strip().lower()
    if token.serials and serial not in token.serials:
        raise PeerError(403, "This board's serial number is not on the list of this claim: ask the installer.")
    if known is not None or (serial and registry.board_with(serial)):
        raise PeerError(409, "This board is known to the site already: ask the installer for a claim of its own.")
    name = _free_name(registry, token.prefix)
    usual = {key: value for key, value in token.template.items() if key in ("place", "cameras", "drivers", "wifi")}
    board = Board(
        name,
        int(now),
        "waiting",
        serial=serial or None,
        tags=tuple(token.template.get("tags", ())),
        id_jwk=id_jwk,
        id_thumbprint=thumbprint,
        enc_jwk=enc_jwk,
        **usual,
    )
    registry.save_board(connection, board)
    if not registry.use_token(connection, token, thumbprint, name, now):
        raise PeerError(410, "This claim has been used by as many boards as it is for: ask the installer for another.")
    registry.audit(connection, now, "wait", name, token=token.id, serial=serial, id=thumbprint)
    return board


def approve(site: Site, name: str, now: float) -> Board:
    """Let a waiting board in.

    Raises:
        EdgeAgentError: There is none so called, or it does not wait.
    """
    with site.registry.transaction() as connection:
        board = _waiting(site.registry, name)
        board = dataclasses.replace(board, state="planned", approved_at=int(now))
        site.registry.save_board(connection, board)
        site.registry.audit(connection, now, "approve", name, id=board.id_thumbprint, serial=board.serial)
    return board


def refuse(site: Site, name: str, now: float) -> Board:
    """Turn a waiting board away; the use of the claim that it took stays taken.

    Raises:
        EdgeAgentError: There is none so called, or it does not wait.
    """
    with site.registry.transaction() as connection:
        board = dataclasses.replace(_waiting(site.registry, name), state="revoked")
        site.registry.save_board(connection, board)
        site.registry.audit(connection, now, "refuse", name, id=board.id_thumbprint, serial=board.serial)
    return board


def _turn_out(registry: Registry, connection: sqlite3.Connection, board: Board, now: float) -> None:
    """Forget the identity that a planned board was given, and revoke what it was certified by."""
    serials = registry.revoke_certificates(connection, board.name, now)
    registry.save_board(
        connection,
        dataclasses.replace(
            board, id_jwk=None, id_thumbprint=None, enc_jwk=None, enrolled_at=None, seen_at=None, online=False, version=""
        ),
    )
    if board.enrolled_at is not None:
        registry.end_session(connection, board.name)
    registry.audit(connection, now, "revoke", board.name, id=board.id_thumbprint, certificates=serials)


def serial_of(text: str) -> str:
    """A hardware's serial number as it is stored and compared: lower case.

    Raises:
        EdgeAgentError: It is none.
    """
    serial = text.strip().lower()
    if not _SERIAL.fullmatch(serial):
        raise EdgeAgentError(
            f"{text[:80]!r} is no serial number: use letters, digits, `.`, `_` and `-`, at most 64, like 10000000a1b2c3d4."
        )
    return serial


def _waiting(registry: Registry, name: str) -> Board:
    board = registry.board(name)
    if board is None:
        waiting = ", ".join(found.name for found in registry.boards(state="waiting")) or "none"
        raise EdgeAgentError(f"There is no board {name[:80]!r}; waiting: {waiting}.")
    if board.state != "waiting":
        raise EdgeAgentError(f"{name} does not wait: it is {board.state}.")
    return board


def _free_name(registry: Registry, prefix: str) -> str:
    taken = {row["name"] for row in registry.rows("SELECT name FROM boards WHERE name GLOB ?", (f"{prefix}-[0-9]*",))}
    number = len(taken) + 1
    while f"{prefix}-{number}" in taken:
        number += 1
    return f"{prefix}-{number}"
