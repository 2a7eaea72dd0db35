"""The audit log: rows of which each holds the hash of the one before, so that none can be changed or taken out unnoticed.

Whoever can write the whole file can write a new chain; noting the newest hash elsewhere (`edgeagent provision audit` prints it)
shows that, too.
"""

from __future__ import annotations

__all__ = ["Entry", "add", "entry", "problem"]

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SECRET = {"secret", "psk", "password", "passphrase", "key", "token_secret", "claim", "wifi"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Attributes:
        at: When, Unix seconds.
        actor: Who: a user of the machine, `service`, or a board's name.
        action: What, like `add`, `approve`, `enrol`.
        subject: To what; mostly a board's name.
    """

    id: int
    at: int
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    hash: str


def add(connection: sqlite3.Connection, now: float, actor: str, action: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Add a row, inside a transaction.

    Raises:
        ValueError: `detail` holds a secret; whether there is one may be told.
    """
    if secret := [name for name in detail if name in _SECRET and not isinstance(detail[name], bool | int | None)]:
        raise ValueError(f"{secret} may not be in the audit log")
    last = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    identifier, previous = (last[0] + 1, last[1]) if last else (1, "")
    text = json.dumps(detail, ensure_ascii=False, sort_keys=True)
    digest = _hash(previous, identifier, int(now), actor, action, subject, text)
    values = (identifier, int(now), actor, action, subject, text, previous, digest)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def entry(row: sqlite3.Row) -> Entry:
    """A row of the table `audit`."""
    detail = json.loads(row["detail"])
    return Entry(row["id"], row["at"], row["actor"], row["action"], row["subject"], detail, row["hash"])


def problem(rows: Sequence[sqlite3.Row]) -> str | None:
    """What is wrong with the chain, given all rows by number; None where it holds."""
    previous = ""
    for number, row in enumerate(rows, 1):
        if row["id"] != number:
            return f"Line {number} of the audit log is missing."
        found = _hash(previous, number, row["at"], row["actor"], row["action"], row["subject"], row["detail"])
        if row["previous"] != previous or row["hash"] != found:
            return f"Line {number} of the audit log was changed after it was written."
        previous = found
    return None


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()
