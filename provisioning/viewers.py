"""Browsers that may use the site's broker: one user for each, so that one can be shut out without the others."""

from __future__ import annotations

__all__ = ["BrowserUser", "add", "active", "link", "listed", "revoke"]

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning.broker import mosquitto
from edgeagent_provisioning.broker.names import new_viewer
from edgeagent_provisioning.site import Site

_LABEL = 80


@dataclass(frozen=True, slots=True)
class BrowserUser:
    """A user of the broker.

    Attributes:
        name: User, and the viewer's name in topics.
        label: Whose browser it is.
        boards: Whom it may watch; empty for all.
        password: Hashed; "" once revoked.
        created_at, revoked_at: Unix seconds.
    """

    name: str
    label: str
    boards: tuple[str, ...]
    password: str = field(repr=False)
    created_at: int = 0
    revoked_at: int | None = None


def add(site: Site, label: str, now: float, boards: Sequence[str] = ()) -> tuple[BrowserUser, str]:
    """Let a browser in; `broker.files.update` tells the broker.

    Args:
        label: Whose it is; no two that count have the same.
        boards: Whom it may watch; empty for all, those to come included.

    Returns:
        The user, and its password, which is not kept.

    Raises:
        EdgeAgentError: The label is taken or empty, or a board is unknown.
    """
    label = " ".join(label.split())
    if not label or len(label) > _LABEL or not label.isprintable():
        raise EdgeAgentError(f'Say whose browser it is in 1 to {_LABEL} characters, like "Anna\'s phone".')
    known = {board.name for board in site.registry.boards()}
    if unknown := [name for name in boards if name not in known]:
        raise EdgeAgentError(f"There is no board {unknown[0][:80]}: `edgeagent provision list` shows all.")
    password = secrets.token_urlsafe(16)
    made = BrowserUser(new_viewer(), label, tuple(dict.fromkeys(boards)), mosquitto.hashed(password), int(now))
    with site.registry.transaction() as connection:
        if any(viewer.label == label for viewer in active(site)):
            raise EdgeAgentError(f"{label!r} has a user already: revoke that one first, or choose another name.")
        connection.execute(
            "INSERT INTO viewers VALUES (?, ?, ?, ?, ?, NULL)",
            (made.name, made.label, json.dumps(made.boards), made.password, made.created_at),
        )
        site.registry.audit(connection, now, "viewer add", made.name, label=label, boards=list(made.boards))
    return made, password


def listed(site: Site) -> list[BrowserUser]:
    """All that there ever were, the oldest first."""
    rows = site.registry.rows("SELECT * FROM viewers ORDER BY created_at, name")
    return [BrowserUser(**{**dict(row), "boards": tuple(json.loads(row["boards"]))}) for row in rows]


def active(site: Site) -> list[BrowserUser]:
    """Those who are let in."""
    return [viewer for viewer in listed(site) if viewer.revoked_at is None]


def revoke(site: Site, who: str, now: float) -> BrowserUser:
    """Shut a browser out, by its name or its label; `broker.files.update` tells the broker, which ends its connection.

    Raises:
        EdgeAgentError: There is none so called.
    """
    with site.registry.transaction() as connection:
        found = next((viewer for viewer in active(site) if who in (viewer.name, viewer.label)), None)
        if found is None:
            raise EdgeAgentError(f"No viewer {who[:80]!r} is let in: `edgeagent provision viewer ls` shows who is.")
        connection.execute("UPDATE viewers SET revoked_at = ?, password = '' WHERE name = ?", (int(now), found.name))
        site.registry.audit(connection, now, "viewer revoke", found.name, label=found.label)
    return found


def link(page: str, broker: str, name: str, password: str, board: str) -> str:
    """What to open in that browser once: the page; the fragment, which no server sees, tells the broker and who this is."""
    fields = {"device": board, "broker": broker, "user": name, "password": password}
    return f"{page}#" + "&".join(f"{key}={quote(value, safe=':/')}" for key, value in fields.items())
