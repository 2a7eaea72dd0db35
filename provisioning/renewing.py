"""New certificates: which run out, and `rotate`, a new key now. The renewals themselves are answered by `enrolling`."""

from __future__ import annotations

__all__ = ["rotate", "running_out"]

from collections.abc import Sequence

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site


def rotate(site: Site, names: Sequence[str], now: float) -> list[Board]:
    """Have these boards make new keys `tls`: their certificates of today are revoked as soon as each shows a newer one.

    The caller sends the order to renew; a board that is away renews when it comes, by its identity key.

    Raises:
        EdgeAgentError: One of them is not known, or not a member; nothing was written.
    """
    with site.registry.transaction() as connection:
        boards = []
        for name in dict.fromkeys(names):
            board = site.registry.board(name)
            if board is None or board.enrolled_at is None or board.state not in ("active", "planned"):
                what = "There is no board" if board is None else f"It is {board.state}:"
                raise EdgeAgentError(
                    f"{what} {name}: only a board that is enrolled has a key to rotate (edgeagent provision list)."
                )
            # The second from now on: a certificate that was issued in this one is from before.
            connection.execute("UPDATE boards SET rotate_at = ? WHERE name = ?", (int(now) + 1, name))
            site.registry.audit(connection, now, "rotate", name)
            boards.append(board)
    return boards


def running_out(site: Site, now: float, within_s: float) -> dict[str, int]:
    """Boards whose last certificate ends within that time, or has ended, with its end in Unix seconds: they have not renewed."""
    members = {board.name for board in site.registry.boards(state="active")}
    return {name: end for name, end in sorted(site.registry.expiries().items()) if name in members and end < now + within_s}
