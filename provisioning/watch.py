"""How the boards of a site are, as rows of a live table; read from the registry, which `provision serve` keeps up to date."""

from __future__ import annotations

__all__ = ["Row", "rows", "table"]

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagent.wire.orders import settings_version
from edgeagent_provisioning import settings as desired
from edgeagent_provisioning.site import Site

if TYPE_CHECKING:
    from rich.table import Table

_SOON_S = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Row:
    """One board.

    Attributes:
        settings: `in force`, `changed` (what is wanted was not applied), `waiting` (applied, not in force), `refused`, "" for none.
        order: What is under way, as `settings: begun`; "" for nothing.
        note: What it says is wrong.
        expires_s: Seconds until its certificate ends; None where it has none.
        seen_s: Seconds since it was last seen; None where never.
    """

    name: str
    place: str
    state: str
    online: bool
    version: str
    settings: str
    order: str
    note: str
    expires_s: float | None
    seen_s: float | None


def rows(site: Site, now: float, tag: str | None = None) -> list[Row]:
    """All boards by name, or those with this tag."""
    registry = site.registry
    ends = registry.expiries()
    fleet = {row["board"]: row for row in registry.rows("SELECT * FROM fleet")}
    open_ = {
        row["board"]: f"{row['kind']}: {row['state']}"
        for row in registry.rows("SELECT * FROM orders WHERE state IN ('waiting', 'sent', 'begun') ORDER BY id DESC")
    }
    found = []
    for board in registry.boards(tag=tag):
        row = fleet.get(board.name)
        wanted = desired.of_board(site, board)
        version = settings_version(wanted) if wanted is not None else ""
        if not version and (row is None or not row["effect"]):
            how = ""
        elif row is not None and row["effect"] == version:
            how = "in force"
        elif row is not None and row["refused"] == version:
            how = "refused"
        else:
            how = "waiting" if row is not None and row["released_version"] == version else "changed"
        end = ends.get(board.name)
        found.append(
            Row(
                name=board.name,
                place=board.place,
                state=board.state,
                online=board.online,
                version=board.version,
                settings=how,
                order=open_.get(board.name, ""),
                note=(row["note"] if row is not None else "").split("\n")[0][:120],
                expires_s=None if end is None else end - now,
                seen_s=None if board.seen_at is None else now - board.seen_at,
            )
        )
    return found


def table(found: list[Row]) -> Table:
    """The same for a terminal."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=f"{sum(row.online for row in found)} of {len(found)} boards online", expand=True)
    for head in ("board", "place", "state", "seen", "release", "settings", "order", "certificate", "note"):
        shown.add_column(head, no_wrap=head != "note")
    colours = {"in force": "green", "changed": "yellow", "waiting": "yellow", "refused": "red", "": "dim"}
    for row in found:
        seen = "online" if row.online else "never" if row.seen_s is None else f"{_ago(row.seen_s)} ago"
        end = "" if row.expires_s is None else "over" if row.expires_s <= 0 else _ago(row.expires_s)
        shown.add_row(
            *(Text(text) for text in (row.name, row.place)),
            Text(row.state, "green" if row.state == "active" else "red" if row.state == "revoked" else "yellow"),
            Text(seen, "green" if row.online else "red" if row.state == "active" else "dim"),
            Text(row.version),
            Text(row.settings, colours[row.settings]),
            Text(row.order),
            Text(end, "red" if row.expires_s is not None and row.expires_s < _SOON_S else ""),
            Text(row.note, "red"),
        )
    return shown


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
