"""Boards are planned: a list against what the site knows, and then one row after the other, each whole or not at all."""

from __future__ import annotations

__all__ = ["Done", "as_planned", "conflicts", "plan"]

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import claims
from edgeagent_provisioning.csv_import import Problem, Row
from edgeagent_provisioning.registry import Board, Registry, Token
from edgeagent_provisioning.site import Site

_PLANNED = ("serial", "place", "tags", "cameras", "drivers", "wifi")


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a row.

    Attributes:
        result: `added`, `updated`, `new claim` (the old one had run out), `unchanged` (a run before has done it), `failed`.
        token: The claim that works for it now; None for a board that needs none.
        message: Why it failed, or what else it did.
    """

    row: Row
    result: Literal["added", "updated", "new claim", "unchanged", "failed"]
    token: Token | None = None
    message: str = ""


def conflicts(registry: Registry, rows: Sequence[Row], *, update: bool = False, replace: bool = False) -> list[Problem]:
    """What of these rows contradicts what the site knows.

    Args:
        update: A planned board may be changed.
        replace: The name of a revoked board may be given to another one.
    """
    problems = []
    for row in rows:
        other = registry.board_with(row.serial) if row.serial else None
        if other and other.name != row.name:
            problems.append(Problem(row.number, "serial", f"{row.serial} belongs to {other.name} already"))
        board = registry.board(row.name)
        if board is None:
            continue
        if board.state == "revoked":
            if not replace:
                problems.append(
                    Problem(row.number, "name", f"{row.name} was revoked: take another name, or give it again with --replace")
                )
            continue
        if board.state == "waiting":
            problems.append(Problem(row.number, "name", f"{row.name} waits already: `edgeagent provision approve {row.name}`"))
            continue
        for column in changed(board, row):
            if not update or board.state != "planned":
                hint = "give --update to change it" if board.state == "planned" else "it is active: use `edgeagent provision set`"
                problems.append(Problem(row.number, column, f"{row.name} is planned with another value; {hint}"))
    return problems


def as_planned(registry: Registry, row: Row, given: Collection[str]) -> Row:
    """A row from the command line: what was not given stays as the board of that name is planned, or was.

    Args:
        given: The columns that were.
    """
    board = registry.board(row.name)
    if board is None:
        return row
    return dataclasses.replace(row, **{column: getattr(board, column) for column in _PLANNED if column not in given})


def plan(site: Site, row: Row, now: float, life_s: int = claims.LIFE_S, *, new_claim: bool = False, replace: bool = False) -> Done:
    """Plan one board and make its claim, in one transaction; again, that changes nothing while its claim works."""
    try:
        return _plan(site, row, now, life_s, new_claim, replace)
    except EdgeAgentError as error:
        return Done(row, "failed", None, str(error))


def changed(board: Board, row: Row) -> list[str]:
    """Columns in which a row differs from the board as it is planned."""
    return [column for column in _PLANNED if getattr(board, column) != getattr(row, column)]


def _plan(site: Site, row: Row, now: float, life_s: int, new_claim: bool, replace: bool) -> Done:
    registry = site.registry
    values = {column: getattr(row, column) for column in _PLANNED}
    with registry.transaction() as connection:
        if problems := conflicts(registry, [row], update=True, replace=replace):
            raise EdgeAgentError("; ".join(f"{problem.column}: {problem.message}" for problem in problems))
        board = registry.board(row.name)
        if board is None or board.state == "revoked":
            claims.cancel(registry, connection, row.name, now, used=True)
            registry.save_board(connection, Board(row.name, int(now), **values))
            if board is not None and board.enrolled_at is not None:
                registry.end_session(connection, row.name)
            registry.audit(connection, now, "add", row.name, **_told(row))
            waits = (
                "it can be used once `edgeagent provision serve` (without --no-broker) has ended the session of the board before"
                if row.name in registry.ending()
                else ""
            )
            return Done(row, "added", claims.mint(registry, connection, row.name, now, life_s), waits)
        differs = changed(board, row)
        if differs:
            registry.save_board(connection, dataclasses.replace(board, **values))
            registry.audit(connection, now, "update", row.name, columns=differs, **_told(row))
        if board.state != "planned":
            return Done(row, "unchanged")
        token = registry.claim_of(row.name, now)
        used = bool(registry.tokens("board = ? AND cancelled_at IS NULL AND used_by IS NOT NULL", row.name))
        taken = board.id_thumbprint is not None
        if new_claim or (token is None and not used and not taken):
            token = claims.mint(registry, connection, row.name, now, life_s)
            out = f"the board that had taken {row.name}, and has not shown its certificate, is shut out" if taken else ""
            return Done(row, "updated" if differs else "new claim", token, out)
        return Done(row, "updated" if differs else "unchanged", token)


def _told(row: Row) -> dict[str, object]:
    """Of a row for the audit log: no Wi-Fi key, no options of cameras, which may hold passwords."""
    return {
        "serial": row.serial,
        "place": row.place,
        "tags": list(row.tags),
        "cameras": {name: camera.get("driver") for name, camera in row.cameras.items()},
        "drivers": {name: device.get("driver") for name, device in row.drivers.items()},
        "network": row.wifi["ssid"] if row.wifi else None,
    }
