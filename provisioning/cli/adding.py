"""`edgeagent provision add`: boards are planned, and get their claims."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent_provisioning.cli.common import (
    Commands,
    command,
    duration,
    needs,
    open_site,
    print_json,
    shown_time,
    tell_broker,
    with_site,
)

if TYPE_CHECKING:
    from edgeagent_provisioning.csv_import import Check, Problem, Row
    from edgeagent_provisioning.planning import Done
    from edgeagent_provisioning.site import Site


def add(commands: Commands) -> None:
    """Add the command."""
    adding = command(
        commands,
        "add",
        _add,
        help="plan boards and make their claims: one, a list, or any number of them at once",
        description=(
            "Plan boards and make their claims. A list (--csv) is checked as a whole before anything is done; run again, it\n"
            "goes on where it stopped. Its first row names the columns: name, and where wanted serial, cameras\n"
            "(front:picamera2), drivers (lamp:led), wifi (SSID:key), place, tags. Of one NAME that is planned already, or was\n"
            "before it was revoked, what is not given stays. With --bulk one claim is for many boards, each waits for `approve`."
        ),
        example=(
            "edgeagent provision add gate-1 --place 'North gate' --cameras front:picamera2\n"
            "  edgeagent provision add gate-1 --new-claim --claims claims\n"
            "  edgeagent provision add --csv boards.csv\n"
            "  edgeagent provision add --csv boards.csv --cards --labels labels.pdf\n"
            "  edgeagent provision add --bulk 50 --prefix cam --expires 24h"
        ),
        json=True,
    )
    adding.add_argument("name", nargs="?", metavar="NAME", help="a-z, 0-9 and inner hyphens")
    adding.add_argument("--csv", type=Path, metavar="FILE", help="a list of boards; `-` reads it from the standard input")
    adding.add_argument("--bulk", type=int, metavar="N", help="one claim for up to N boards, which then wait for `approve`")
    adding.add_argument("--prefix", metavar="NAME", help="how boards of --bulk are named: NAME-1, NAME-2 … (default: board)")
    adding.add_argument(
        "--serials", type=Path, metavar="FILE", help="with --bulk: only boards with these serial numbers, one in a line"
    )
    adding.add_argument(
        "--serial", metavar="TEXT", help="serial number of the hardware: no other board may use the claim; empty for any"
    )
    adding.add_argument("--cameras", metavar="TEXT", help="like front:picamera2, or JSON as in the agent's configuration")
    adding.add_argument("--drivers", metavar="TEXT", help="sensors and actuators, like lamp:led, or JSON")
    adding.add_argument("--wifi-file", type=Path, metavar="FILE", help="file (0600) with SSID:key in one line")
    adding.add_argument("--place", metavar="TEXT", help="where it is, for lists and labels")
    adding.add_argument("--tags", metavar="TEXT", help="names, with spaces between")
    adding.add_argument("--expires", type=duration, metavar="TIME", help="how long claims work, like 24h or 30d (default: 7d)")
    adding.add_argument("--update", action="store_true", help="change boards that are planned already")
    adding.add_argument("--replace", action="store_true", help="give names of revoked boards to new ones")
    adding.add_argument("--new-claim", action="store_true", help="make a new claim, and end the old ones and who joined by one")
    adding.add_argument("--any-driver", action="store_true", help="take cameras and drivers that are not installed here")
    adding.add_argument("--claims", type=Path, metavar="DIR", help="write each claim to DIR/NAME.json (0600)")
    adding.add_argument("--cards", action="store_true", help="make the folder of each card, as `provision prepare` does")
    adding.add_argument(
        "--labels", type=Path, metavar="FILE", help="write labels with QR codes, as `provision labels` does (.pdf, .svg)"
    )
    adding.add_argument("--show-claim", action="store_true", help="print the claims; whoever reads one can be that board")
    adding.add_argument("--check", action="store_true", help="only check, and change nothing")


def _add(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import csv_import, held, planning, rights

    if [options.name is not None, options.csv is not None, options.bulk is not None].count(True) != 1:
        raise EdgeAgentError("Write a board's name, or --csv FILE, or --bulk N.")
    _refuse_what_would_be_ignored(options)
    if options.labels:
        from edgeagent_provisioning.cli import labels

        needs("segno")
        labels.kind_of(options.labels, None)
        with rights.as_root(), held.Held(options.labels.parent, make=False):
            pass  # a stick that is not mounted is said before a board is planned
    if options.claims and not options.check:
        _put_claims(options.claims, {})  # said before a board is planned
    check = None if options.any_driver else csv_import.configured()
    with open_site(options) as site:
        if options.bulk is not None:
            return _bulk(site, options, check)
        if options.csv is not None:
            data = sys.stdin.buffer.read() if str(options.csv) == "-" else _read(options.csv)
            rows, problems = csv_import.parse(data, check)
        else:
            cells = _cells(options, name=options.name)
            row, problems = csv_import.row_of(0, cells, check)
            rows = [planning.as_planned(site.registry, row, cells)] if not problems else []
            if not problems and (options.new_claim or options.claims or options.show_claim):
                _refuse_without_claim(site, options)
        return _plan(site, options, rows, problems)


_OF_ONE = ("serial", "cameras", "drivers", "wifi_file", "place", "tags")
_OF_BULK = ("prefix", "serials")
_NOT_OF_BULK = ("serial", "update", "replace", "new_claim", "cards", "labels", "check")


def _refuse_what_would_be_ignored(options: argparse.Namespace) -> None:
    from edgeagent.errors import EdgeAgentError

    what = "--bulk" if options.bulk is not None else "--csv" if options.csv is not None else "one board"
    ignored: tuple[str, ...] = {"--bulk": _NOT_OF_BULK, "--csv": (*_OF_ONE, *_OF_BULK), "one board": _OF_BULK}[what]
    if given := [f"--{name.replace('_', '-')}" for name in ignored if getattr(options, name) not in (None, False)]:
        hint = " The list has columns for it." if what == "--csv" and "--prefix" not in given and "--serials" not in given else ""
        hint = " --serials FILE says which boards may come." if given == ["--serial"] and what == "--bulk" else hint
        them = "that" if len(given) == 1 else "them"
        raise EdgeAgentError(f"{', '.join(given)} cannot be given with {what}: leave {them} out.{hint}")


def _refuse_without_claim(site: Site, options: argparse.Namespace) -> None:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import claims

    board = site.registry.board(options.name)
    if board is None:
        return
    taken = bool(site.registry.tokens("board = ? AND cancelled_at IS NULL AND used_by IS NOT NULL", board.name))
    taken = taken or board.id_thumbprint is not None
    if board.state == "active" or (board.state == "planned" and taken and not options.new_claim):
        raise EdgeAgentError(claims.no_claim(board))


def _plan(site: Site, options: argparse.Namespace, rows: list[Row], problems: list[Problem]) -> int:
    from edgeagent_provisioning import claims, planning

    problems = sorted(
        [*problems, *planning.conflicts(site.registry, rows, update=options.update, replace=options.replace)],
        key=lambda problem: problem.row,
    )
    if problems:
        if options.json:
            print_json({"problems": [{"row": found.row, "column": found.column, "message": found.message} for found in problems]})
        else:
            for found in problems:
                print(found if options.csv else f"{found.column}: {found.message}", file=sys.stderr)
            print("Nothing was done: mend this and run it again.", file=sys.stderr)
        return 1
    if options.check:
        print_json({"problems": []}) if options.json else print(f"{len(rows)} boards: all is right.")
        return 0
    done = []
    bound, out = "", False
    for row in rows:
        known = site.registry.board(row.name)
        if options.name and options.serial is None and row.serial and known is not None and known.state == "revoked":
            bound = f"Its claim is for the serial number {row.serial}, as before; for other hardware give --serial, empty for any."
        life_s = options.expires or claims.LIFE_S
        done.append(planning.plan(site, row, time.time(), life_s, new_claim=options.new_claim, replace=options.replace))
        out |= done[-1].result in ("new claim", "updated") and bool(done[-1].message)
        if not options.json:
            print(_line(done[-1]), flush=True)
    if bound and not options.json:
        print(bound)
    told = True
    if out and site.authority.signs and not site.crl_is_whole(time.time()):
        site.write_crl(time.time())
    if out or (site.joining and any(found.token for found in done)):
        told = tell_broker(site)  # of the users by which these boards may join, and of who is shut out
    if out and not told:
        print("Until the broker knows, whoever is shut out stays connected.", file=sys.stderr)
    written = _write_claims(site, options, done)
    cards = _make_cards(site, done) if options.cards else {}
    if options.labels:
        _run(site, "labels", done, "--out", str(options.labels))
    if options.json:
        print_json({"boards": [_of(found, written.get(found.row.name), cards.get(found.row.name)) for found in done]})
    else:
        _summary(site, options, done, written)
    return 1 if any(found.result == "failed" for found in done) or (out and not told) else 0


def _line(done: Done) -> str:
    where = f"row {done.row.number}: " if done.row.number else ""
    until = f", claim until {shown_time(done.token.expires_at)}" if done.token else ""
    told = "; ".join(text for text in (f"{done.result}{until}", done.message) if text)
    return f"{where}{done.row.name}: {done.message if done.result == 'failed' else told}"


def _of(done: Done, claim: str | None, card: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"row": done.row.number, "name": done.row.name, "result": done.result}
    if done.token:
        found |= {"token": done.token.id, "expires_at": done.token.expires_at}
    found |= {"card": card} if card else {}
    return found | ({"claim": claim} if claim else {}) | ({"message": done.message} if done.message else {})


def _write_claims(site: Site, options: argparse.Namespace, done: Sequence[Done]) -> dict[str, str]:
    """Claims by board: written where asked, and returned where they may be shown."""
    from edgeagent_provisioning import claims

    if not (options.claims or options.show_claim):
        return {}
    texts = {found.row.name: claims.claim_for(site, found.token).text() for found in done if found.token}
    if options.claims:
        _put_claims(options.claims, texts)
    return texts if options.show_claim else {}


def _put_claims(folder: Path, texts: Mapping[str, str]) -> None:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import keyfiles, rights
    from edgeagent_provisioning.held import Held

    with rights.as_root(), Held(folder) as place:
        for name, text in texts.items():
            try:
                keyfiles.write_private(place.path / f"{name}.json", text + "\n")
            except OSError as error:
                raise EdgeAgentError(
                    f"{folder / name}.json cannot be written: {error.strerror or error}. What was planned stays: "
                    "the same command again, with another folder, writes the claims."
                ) from None


def _make_cards(site: Site, done: Sequence[Done]) -> dict[str, str]:
    """The folder of each board's card."""
    import json

    told = _run(site, "prepare", done)
    return {card["board"]: card["folder"] for card in json.loads(told)} if told else {}


def _run(site: Site, command: str, done: Sequence[Done], *words: str) -> str:
    """Run another command for the boards that have a claim, and return what it prints; "" where there are none."""
    import contextlib
    import io

    from edgeagent_provisioning import cli

    names = [found.row.name for found in done if found.token]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        done_well = bool(names) and cli.run([command, "--site", str(site.folder), "--json", *words, *names]) == 0
    return told.getvalue() if done_well else ""


def _summary(site: Site, options: argparse.Namespace, done: Sequence[Done], shown: dict[str, str]) -> None:
    for board, text in shown.items():
        print(f"\n{board}:\n{text}")
    results = [found.result for found in done]
    if len(done) > 1:
        print(", ".join(f"{results.count(result)} {result}" for result in dict.fromkeys(results)) + ".")
    if options.claims and any(found.token for found in done):
        print(f"The claims are in {options.claims}; whoever reads one can be that board until it is used.")
    name = next((found.row.name for found in done if found.token), None)
    if name and options.cards:
        print(f"The cards are in {site.folder / 'cards'}.")
    if name and options.labels:
        print(f"The labels are in {options.labels}.")
    where = with_site(options)
    if name and not (options.cards or options.labels):
        print(f"Next: `edgeagent provision prepare{where} --boot DIR {name}` for its card,")
        print(f"or `edgeagent provision labels{where}` for QR codes.")
        again = "" if options.claims else f"`edgeagent provision add{where} {name} --claims DIR` here, and "
        print(f"By hand: {again}`sudo edgeagent enrol {name}.json --wait` on the board.")
    if not site.urls and not site.joining:
        print(f"The site has no address yet: edgeagent provision site set{where} --url https://HOST:8443")


def _bulk(site: Site, options: argparse.Namespace, check: Check | None) -> int:
    from edgeagent_provisioning import claims, csv_import

    prefix = "board" if options.prefix is None else options.prefix
    row, problems = csv_import.row_of(0, _cells(options, name=prefix), check)
    if problems:
        for found in problems:
            print(f"{'prefix' if found.column == 'name' else found.column}: {found.message}", file=sys.stderr)
        return 1
    template = {"place": row.place, "tags": list(row.tags), "cameras": row.cameras, "drivers": row.drivers, "wifi": row.wifi}
    serials = _read(options.serials).decode("utf-8", "replace").split() if options.serials else []
    token = claims.mint_bulk(
        site,
        time.time(),
        options.bulk,
        prefix=prefix,
        serials=serials,
        template={key: value for key, value in template.items() if value},
        life_s=options.expires or claims.LIFE_S,
    )
    if site.joining:
        tell_broker(site)
    claim = claims.claim_for(site, token).text() if options.claims or options.show_claim else ""
    if options.claims:
        _put_claims(options.claims, {prefix: claim})
    if options.json:
        told = {"token": token.id, "uses": token.uses_left, "expires_at": token.expires_at}
        print_json(told | ({"claim": claim} if options.show_claim else {}))
        return 0
    print(
        f"The claim {token.id} takes {token.uses_left} boards until {shown_time(token.expires_at)}; "
        "let them in with `edgeagent provision approve`."
    )
    if options.show_claim:
        print(claim)
    elif not options.claims:
        print(f"`edgeagent provision qr {prefix}` shows it. It ends by `edgeagent provision revoke {prefix}`.")
    return 0


def _cells(options: argparse.Namespace, name: str) -> dict[str, str]:
    """What was given, by column."""
    from edgeagent_provisioning import keyfiles, rights

    given = {column: getattr(options, column) for column in ("serial", "cameras", "drivers", "place", "tags")}
    if options.wifi_file:
        with rights.as_root():
            given["wifi"] = keyfiles.read_private(options.wifi_file).decode("utf-8", "replace").split("\n")[0].rstrip("\r")
    return {"name": name} | {column: text for column, text in given.items() if text is not None}


def _read(path: Path) -> bytes:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import rights

    try:
        with rights.as_root():
            return path.read_bytes()
    except OSError as error:
        raise EdgeAgentError(f"{path} cannot be read: {error.strerror or error}.") from None
