"""`edgeagent provision labels|qr|discover`: codes on paper and on the screen, and boards that wait in this network."""

from __future__ import annotations

__all__ = ["add", "kind_of"]

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent_provisioning.cli import common
from edgeagent_provisioning.cli.common import Commands, command

if TYPE_CHECKING:
    from edgeagent.wire.wifi import Wifi
    from edgeagent_provisioning.labels import Page
    from edgeagent_provisioning.registry import Board
    from edgeagent_provisioning.site import Site

_SHEETS = ("a4", "a4-8", "a4-14", "a4-21", "a4-24", "letter", "letter-6", "letter-10", "letter-30")


def add(commands: Commands) -> None:
    """Add the commands."""
    labels = command(
        commands,
        "labels",
        _labels,
        help="write sheets of labels to print: name, QR and place of each board",
        description=(
            "Write sheets of labels to print: name, QR and place of each board. While a board is planned, its QR is its claim, to\n"
            "be held before its camera; whoever photographs it first can be that board. Afterwards it is the board's name.\n"
            "A camera with a fixed focus reads a large label from further away, and so better: take --sheet a4-8."
        ),
        example=(
            "edgeagent provision labels --sheet a4-21 --out labels.pdf\n"
            "  edgeagent provision labels --without-claims --tag outside --sheet letter-30 --first 4"
        ),
        json=True,
    )
    labels.add_argument("names", nargs="*", metavar="NAME", help="only these boards (default: all but revoked ones)")
    labels.add_argument("--tag", metavar="NAME", help="only those with this tag")
    labels.add_argument(
        "--sheet", choices=_SHEETS, default="a4", help="paper and grid (default: a4, plain paper to cut); see --sheets"
    )
    labels.add_argument("--sheets", action="store_true", help="list the sheets and end")
    labels.add_argument("--first", type=int, default=1, metavar="N", help="begin at the Nth label of the first sheet (default: 1)")
    labels.add_argument("--without-claims", action="store_true", help="no claims: labels that may stay on the boards")
    labels.add_argument("--wifi", action="store_true", help="put the Wi-Fi key into the claims too, in the clear")
    labels.add_argument(
        "--format", choices=("pdf", "svg"), help="default: as --out ends, else pdf; svg has one file for each sheet"
    )
    labels.add_argument("--out", type=Path, metavar="FILE", help="default: labels/ of the site")

    qr = command(
        commands,
        "qr",
        _qr,
        help="show the QR that is held before a board's camera: its claim, or new Wi-Fi",
        description=(
            "Show the QR that is held before a board's own camera. A new board takes its claim, with the Wi-Fi that it is planned\n"
            "with. A board of the site that has been offline for five minutes takes Wi-Fi signed by the site, and goes back to\n"
            "what it had if the broker is not reached. Show it large: a fixed focus sees nothing sharp nearer than half a metre."
        ),
        example=(
            "edgeagent provision qr gate-1\n"
            "  edgeagent provision qr gate-1 --out gate-1.png\n"
            "  edgeagent provision qr --wifi 'New network'\n"
            "  edgeagent provision qr gate-1 --wifi-file new-wifi.txt"
        ),
        json=True,
    )
    qr.add_argument(
        "name", nargs="?", metavar="NAME", help="a board, or the prefix of a bulk claim; with Wi-Fi: for this board alone"
    )
    qr.add_argument("--wifi", metavar="SSID", help="signed Wi-Fi instead of a claim; its key is asked for")
    qr.add_argument("--wifi-file", type=Path, metavar="FILE", help="the same from a file (0600) with SSID:key in one line")
    qr.add_argument("--without-wifi", action="store_true", help="leave the Wi-Fi out of a claim")
    qr.add_argument("--out", type=Path, metavar="FILE", help="write a picture, .png or .svg, instead of showing it here")

    discover = command(
        commands,
        "discover",
        _discover,
        help="find boards in this network that wait to be taken in",
        description=(
            "Find boards in this network that wait to be taken in (mDNS). What they say of themselves is not proved: only a claim\n"
            "lets a board in."
        ),
        example="edgeagent provision discover --wait 8",
        json=True,
        site=False,
    )
    discover.add_argument("--wait", type=float, default=4.0, metavar="S", help="seconds to wait for answers (default: 4)")
    discover.add_argument(
        "--interface", action="append", default=[], metavar="ADDRESS", help="ask from this address of this machine"
    )


def _labels(options: argparse.Namespace) -> int:
    common.needs("segno")
    from edgeagent_provisioning import codes, labels

    if options.sheets:
        print(common.table(("SHEET", "WHAT IT IS"), [(name, sheet.title) for name, sheet in labels.SHEETS.items()]))
        return 0
    kind = kind_of(options.out, options.format)
    now = time.time()
    with common.open_site(options) as site:
        boards = _chosen(site, options.names, options.tag)
        made = [codes.label_of(site, board, now, claim=not options.without_claims, wifi=options.wifi) for board in boards]
        pages = labels.lay_out([label for label, _ in made], labels.SHEETS[options.sheet], options.first)
        out = options.out or site.folder / "labels" / f"labels-{options.sheet}.{kind}"
        written = _written(pages, out, kind, f"Labels of {site.name}", named=options.out is not None)
        with site.registry.transaction() as connection:
            for label, code in made:
                if code is not None:
                    site.registry.audit(connection, now, "label", label.name, token=code.token, network=code.ssid)
    secret = sum(code is not None for _, code in made)
    keys = any(code is not None and code.ssid for _, code in made)
    if options.json:
        common.print_json({"files": [str(path) for path in written], "labels": len(made), "sheets": len(pages), "claims": secret})
        return 0
    print(f"{_count(len(made), 'label')} on {_count(len(pages), 'sheet')}: {', '.join(map(str, written))}")
    print("Print them at 100 %, without fitting them to the page.")
    if secret:
        print(f"Claims are on {secret} of them: whoever reads one first can be that board. Keep them until the boards are active.")
    if keys:
        print("They hold the key of the Wi-Fi, too, also after that.")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _chosen(site: Site, names: Sequence[str], tag: str | None) -> list[Board]:
    from edgeagent.errors import EdgeAgentError

    boards = {board.name: board for board in site.registry.boards(tag=tag) if board.state != "revoked"}
    if missing := [name for name in names if name not in boards]:
        raise EdgeAgentError(f"There is no board {missing[0]} here: `edgeagent provision list` shows them.")
    if not boards:
        raise EdgeAgentError("There is no such board: `edgeagent provision add` plans some, `edgeagent provision list` shows them.")
    return [boards[name] for name in dict.fromkeys(names)] if names else list(boards.values())


def kind_of(out: Path | None, wanted: str | None) -> str:
    """`pdf` or `svg`, as it was asked for, or as the file is called.

    Raises:
        EdgeAgentError: It is neither.
    """
    from edgeagent.errors import EdgeAgentError

    kind = wanted or (out.suffix.lstrip(".").lower() if out else "pdf")
    if kind not in ("pdf", "svg"):
        raise EdgeAgentError(f"Labels are written as .pdf or .svg, not {out.name if out else kind}.")
    return kind


def _written(pages: Sequence[Page], out: Path, kind: str, title: str, *, named: bool) -> list[Path]:
    import contextlib

    from edgeagent_provisioning import held, labels, rights

    if kind == "pdf":
        files = {out: labels.pdf(pages, title)}
    elif len(pages) == 1:
        files = {out: labels.svg(pages[0]).encode()}
    else:
        files = {out.with_stem(f"{out.stem}-{number}"): labels.svg(page).encode() for number, page in enumerate(pages, 1)}
    with rights.as_root() if named else contextlib.nullcontext():
        for path, data in files.items():
            held.write_private(path, data, make=not named)
    return list(files)


def _qr(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError

    common.needs("segno")
    from edgeagent_provisioning import codes, held, rights

    kind = options.out.suffix.lower() if options.out else ""
    if options.out and kind not in (".png", ".svg"):
        raise EdgeAgentError(f"A QR is written as .png or .svg: give --out {options.out.stem or 'qr'}.png.")
    wifi = _wifi(options)
    if wifi is None and not options.name:
        raise EdgeAgentError("Write a board's name for its claim, or --wifi SSID: `edgeagent provision qr gate-1`.")
    now = time.time()
    with common.open_site(options) as site:
        if wifi is None:
            code = codes.claim_code(site, options.name, now, wifi=not options.without_wifi)
        else:
            code = codes.wifi_code(site, wifi, now, options.name or "")
        with site.registry.transaction() as connection:
            if wifi is None:
                site.registry.audit(connection, now, "show claim", options.name, token=code.token, network=code.ssid)
            else:
                site.registry.audit(connection, now, "sign wifi", options.name or site.name, network=wifi.ssid)
    if options.out:
        with rights.as_root():
            picture = codes.picture(code.text, "png" if kind == ".png" else "svg")
            held.write_private(options.out, picture, make=False)
        print(f"{options.out} holds the QR.", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        common.print_json({"text": code.text, "until": code.until, "network": code.ssid})
    elif not options.out:
        sys.stdout.write(codes.picture(code.text, "terminal").decode())
    print(_what(code.until, code.ssid, options.name, signed=wifi is not None), file=sys.stderr)
    return 0


def _what(until: int, ssid: str, name: str | None, *, signed: bool) -> str:
    if signed:
        who = f"{name} takes" if name else "every board of the site takes"
        return f"Wi-Fi {ssid}: {who} it once it has been offline for five minutes. Whoever reads the QR reads the key of the Wi-Fi."
    also = f", and reads the key of the Wi-Fi {ssid}" if ssid else ""
    return f"Claim of {name}, works until {common.shown_time(until)}. Whoever reads the QR first can be that board{also}."


def _wifi(options: argparse.Namespace) -> Wifi | None:
    from edgeagent.errors import EdgeAgentError
    from edgeagent.wire.wifi import Wifi
    from edgeagent_provisioning import keyfiles

    if options.wifi and options.wifi_file:
        raise EdgeAgentError("Write --wifi SSID or --wifi-file FILE, not both.")
    if options.wifi_file:
        line = keyfiles.read_private(options.wifi_file).decode("utf-8", "replace").split("\n")[0].rstrip("\r")
        ssid, colon, key = line.partition(":")
        if not colon:
            raise EdgeAgentError(
                f"{options.wifi_file} must hold SSID:key in one line; for an open network SSID: with nothing after it."
            )
    elif options.wifi is not None:
        ssid = options.wifi
        prompt = f"Key of {ssid} (nothing for an open network)"
        key = common.passphrase(None, prompt, option="--wifi-file", what="The key of the Wi-Fi", holds="SSID:key in one line ")
    else:
        return None
    try:
        return Wifi(ssid, key)
    except ValueError as error:
        raise EdgeAgentError(f"{error} A file for --wifi-file holds SSID:key.") from None


def _discover(options: argparse.Namespace) -> int:
    import asyncio
    import dataclasses

    from edgeagent.errors import EdgeAgentError

    if not 0 < options.wait <= 120:
        raise EdgeAgentError("Waiting takes 0 to 120 seconds: give another number with --wait.")
    common.needs("zeroconf")
    from edgeagent_provisioning.discover import discover

    boards = asyncio.run(discover(options.wait, options.interface))
    if options.json:
        common.print_json([dataclasses.asdict(board) for board in boards])
        return 0
    if not boards:
        print("No board in this network waits for a site. Does it run the agent, and is it in this network?")
        return 0
    rows = [(b.name, b.model, b.serial, b.release, " ".join(b.addresses[:2]), b.state) for b in boards]
    print(common.table(("NAME", "MODEL", "SERIAL", "RELEASE", "ADDRESS", "STATE"), rows))
    return 0
