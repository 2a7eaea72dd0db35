"""The end of a board's membership: `revoke`, and `transfer` to another site.

In this order, so that whatever is interrupted is interrupted safely: the registry (no renewal from then on), the CRL (no new
connection), the broker's deny block and its reload (the live session loses its rights at once).
"""

from __future__ import annotations

__all__ = ["Revoked", "denied", "revoke"]

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import claims
from edgeagent_provisioning.site import Site


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was taken from a board.

    Attributes:
        board: Its name, or the prefix of a bulk claim.
        serials: Certificates that are in the CRL now, or as soon as the service runs (`Authority.signs`).
        again: It had been revoked before.
        uses: Of a bulk claim: how many boards it still took; None for a board.
        away: Of a bulk claim: boards that waited, and are turned away.
        stranded: Of a bulk claim: boards that were approved, and have not fetched their certificate.
    """

    board: str
    serials: tuple[str, ...] = ()
    again: bool = False
    uses: int | None = None
    away: tuple[str, ...] = ()
    stranded: tuple[str, ...] = ()


def revoke(
    site: Site,
    names: Sequence[str],
    now: float,
    *,
    reason: Literal["revoke", "transfer"] = "revoke",
    kind: Literal["board", "bulk", ""] = "",
    refresh: Callable[[], None] = lambda: None,
) -> list[Revoked]:
    """End the membership of these boards, all or none; again, that changes nothing and tells the broker what it was not told yet.

    Where the issuing key is the service's alone, the service writes the CRL, some seconds later; the broker denies them at once.

    Args:
        names: Boards; or prefixes of bulk claims, which then take no board any more.
        reason: What the audit log says.
        kind: What the names are; "" for what there is.
        refresh: Brings the broker's files in line with the registry, and tells it.

    Raises:
        EdgeAgentError: One of them is not known, or is both a board and a prefix (nothing was written), or the broker could not be
            told (the rest is done).
    """
    registry = site.registry
    done = []
    with registry.transaction() as connection:
        for name in dict.fromkeys(names):
            board = registry.board(name) if kind != "bulk" else None
            if kind != "board" and (ended := claims.cancel_bulk(registry, connection, name, now)):
                if board is not None:
                    raise EdgeAgentError(
                        f"{name} is a board, and the prefix of a bulk claim: say with --board or --bulk which one is meant. "
                        "Nothing was revoked."
                    )
                away, stranded = claims.turn_away(registry, connection, ended, now)
                registry.audit(connection, now, reason, name, tokens=[token.id for token in ended])
                uses = sum(token.uses_left for token in ended)
                done.append(Revoked(name, uses=uses, away=tuple(away), stranded=tuple(stranded)))
                continue
            if kind == "bulk":
                raise EdgeAgentError(f"There is no bulk claim {name[:80]!r} that still works. Nothing was revoked.")
            if board is None:
                raise EdgeAgentError(
                    f"There is no board {name[:80]!r}: `edgeagent provision list` shows what there is. Nothing was revoked."
                )
            again = board.state == "revoked"
            claims.cancel(registry, connection, name, now, used=True)
            serials = registry.revoke_certificates(connection, name, now)
            if not again or serials:
                registry.save_board(connection, dataclasses.replace(board, state="revoked", online=False))
                registry.audit(connection, now, reason, name, certificates=serials)
            done.append(Revoked(name, tuple(serials), again))
    problem: Exception | None = None

    def listed() -> None:
        if site.authority.signs and not site.crl_is_whole(now):
            site.write_crl(now)

    for tell in (listed, refresh):  # each without the other, too: the deny block cuts, the CRL keeps out
        try:
            tell()
        except (EdgeAgentError, OSError) as error:
            problem = problem or error
    if problem is not None:
        raise EdgeAgentError(
            f"Revoked, but the broker could not be told ({str(problem).rstrip('.')}): a live session goes on until it is. "
            "Mend that, then run the same command again."
        )
    return done


def denied(site: Site) -> list[str]:
    """Names that the broker denies everything: boards that were revoked, and names whose session before is still to end."""
    return site.registry.denied()
