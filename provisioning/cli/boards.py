"""`edgeagent provision list|approve|audit`: the boards of the site, and what was done to them."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from edgeagent_provisioning.cli.common import Commands, command, hint_of_days, open_site, print_json, shown_time, table

if TYPE_CHECKING:
    from edgeagent_provisioning.registry import Board

_STATES = ("planned", "waiting", "active", "revoked")


def add(commands: Commands) -> None:
    """Add the commands."""
    listing = command(
        commands,
        "list",
        _list,
        help="list the boards: planned, waiting, active, online, with version and end of their certificates",
        example="edgeagent provision list --state active",
        json=True,
    )
    listing.add_argument("--tag", metavar="NAME", help="only those with this tag")
    listing.add_argument("--state", choices=_STATES, help="only those in this state")

    approving = command(
        commands,
        "approve",
        _approve,
        help="let boards in that came by a bulk claim, or turn them away",
        example="edgeagent provision approve cam-1 cam-2",
        json=True,
    )
    approving.add_argument("names", nargs="*", metavar="NAME")
    approving.add_argument("--all", action="store_true", help="all that wait")
    approving.add_argument("--refuse", action="store_true", help="turn them away instead")

    auditing = command(
        commands,
        "audit",
        _audit,
        help="show who did what and when, and check that nobody changed the record",
        example="edgeagent provision audit gate-1",
        json=True,
    )
    auditing.add_argument("subject", nargs="?", metavar="NAME", help="only what was done to this board")
    auditing.add_argument("-n", type=int, default=50, metavar="N", help="the last N lines (default: 50; 0 for all)")


def _list(options: argparse.Namespace) -> int:
    now = time.time()
    with open_site(options) as site:
        boards = site.registry.boards(tag=options.tag, state=options.state)
        ends = site.registry.expiries()
        claims = {board.name: site.registry.claim_of(board.name, now) for board in boards if board.state == "planned"}
        if options.json:
            print_json([_board(board, ends.get(board.name), claims.get(board.name)) for board in boards])
            return 0
        rows = []
        for board in boards:
            token = claims.get(board.name)
            claim = f"claim {hint_of_days(token.expires_at, now)}" if token else "no claim" if board.name in claims else ""
            if board.name in claims and board.id_thumbprint:
                claim = "enrolling"
            rows.append(
                [
                    board.name,
                    f"{board.state} ({claim})" if claim else board.state,
                    "online" if board.online else shown_time(board.seen_at) or "-",
                    board.version or "-",
                    hint_of_days(ends.get(board.name), now) or "-",
                    board.place,
                    " ".join(board.tags),
                ]
            )
    if not rows:
        print(
            "There are no such boards."
            if options.tag or options.state
            else "There are no boards yet: `edgeagent provision add NAME`."
        )
        return 0
    print(table(["BOARD", "STATE", "SEEN", "VERSION", "CERTIFICATE", "PLACE", "TAGS"], rows))
    return 0


def _board(board: Board, end: int | None, token: object) -> dict[str, Any]:
    return {
        "name": board.name,
        "state": board.state,
        "serial": board.serial,
        "place": board.place,
        "tags": list(board.tags),
        "online": board.online,
        "seen_at": board.seen_at,
        "version": board.version,
        "certificate_not_after": end,
        "claim_expires_at": getattr(token, "expires_at", None),
        "created_at": board.created_at,
        "enrolled_at": board.enrolled_at,
        "active_at": board.active_at,
        "id": board.id_thumbprint,
    }


def _approve(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import claims

    failed = False
    results = []
    with open_site(options) as site:
        waiting = site.registry.boards(state="waiting")
        if not options.names and not options.all:
            if options.json:
                print_json([{"name": board.name, "serial": board.serial, "id": board.id_thumbprint} for board in waiting])
            elif waiting:
                print("These wait; let them in by name, or with --all:")
                rows = [
                    [board.name, board.serial or "-", shown_time(board.created_at), board.id_thumbprint or ""] for board in waiting
                ]
                print(table(["BOARD", "SERIAL", "CAME", "IDENTITY"], rows))
            else:
                print("No board waits.")
            return 0
        for name in [board.name for board in waiting] if options.all else options.names:
            try:
                (claims.refuse if options.refuse else claims.approve)(site, name, time.time())
                results.append({"name": name, "result": "refused" if options.refuse else "approved"})
            except EdgeAgentError as error:
                failed = True
                results.append({"name": name, "result": "failed", "message": str(error)})
    if options.json:
        print_json(results)
    else:
        for found in results:
            print(found.get("message") or f"{found['name']}: {found['result']}")
    return 1 if failed else 0


def _audit(options: argparse.Namespace) -> int:
    import json

    with open_site(options) as site:
        entries = site.registry.audited(options.subject, options.n or -1)
        problem = site.registry.audit_problem()
        last = site.registry.audited(limit=1)
    if options.json:
        lines = [
            {"id": e.id, "at": e.at, "actor": e.actor, "action": e.action, "subject": e.subject, "detail": e.detail}
            for e in entries
        ]
        print_json({"entries": lines, "problem": problem, "newest_hash": last[0].hash if last else None})
        return 1 if problem else 0
    for e in entries:
        detail = " ".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in e.detail.items() if value not in (None, "", [], {})
        )
        print(f"{shown_time(e.at)}  {e.actor}  {e.action}  {e.subject}  {detail}".rstrip())
    if problem:
        print(problem, file=sys.stderr)
        return 1
    if options.subject and not entries:
        print(f"Nothing is written about {options.subject[:80]!r}: boards, the site, and browsers' users have lines of their own.")
    print(f"The record is unbroken; its newest line has the hash {last[0].hash if last else '-'}. Note it elsewhere to be sure.")
    return 0
