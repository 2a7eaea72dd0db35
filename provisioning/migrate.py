"""Bring a registry to the tables that this version knows: `migrations/NNN_*.sql`, each once, in the order of its number."""

from __future__ import annotations

__all__ = ["apply"]

import sqlite3
from pathlib import Path

from edgeagent.errors import EdgeAgentError

_FOLDER = Path(__file__).with_name("migrations")


def apply(connection: sqlite3.Connection, folder: Path = _FOLDER) -> list[str]:
    """Run what has not been run; the names of those. `connection` commits by itself (`isolation_level=None`).

    Numbers come in blocks, one for each module, so a smaller one may come later than a larger one.

    Raises:
        EdgeAgentError: The registry knows a migration that this version does not: it was written by a newer one.
    """
    known = {path.stem: path for path in sorted(folder.glob("[0-9][0-9][0-9]_*.sql"))}
    done: list[str] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY) STRICT")
        applied = {row[0] for row in connection.execute("SELECT name FROM migrations")}
        if unknown := sorted(applied - known.keys()):
            raise EdgeAgentError(
                f"This registry was written by a newer version of edgeagent (it has {', '.join(unknown)}): "
                "install that version here, or restore a backup from before it."
            )
        for name in sorted(known.keys() - applied):
            for statement in _statements(known[name].read_text("utf-8")):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?)", (name,))
            done.append(name)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return done


def _statements(script: str) -> list[str]:
    """One by one, since `executescript` would end the transaction."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found + ([pending] if pending.strip() else [])
