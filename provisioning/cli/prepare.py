"""`edgeagent provision prepare` and `wheelhouse`: cards that install the agent themselves."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent_provisioning.cli import common
from edgeagent_provisioning.cli.common import Commands

if TYPE_CHECKING:
    from edgeagent_provisioning.prepare import Card, Order
    from edgeagent_provisioning.site import Site


def add(commands: Commands) -> None:
    """Add both."""
    prepare = common.command(
        commands,
        "prepare",
        _prepare,
        help="write what a board's first boot needs onto its card",
        description="Write what a first boot needs onto the boot partition of a card with a fresh Raspberry Pi OS (64-bit). "
        "The board then installs the agent, joins the site, and wipes its claim.",
        example="edgeagent provision prepare --boot /media/you/bootfs porch\n"
        "  edgeagent provision prepare --boot /media/you/bootfs --wheelhouse wheelhouse --country GB porch\n"
        "  edgeagent provision prepare --out cards porch gate",
        json=True,
    )
    prepare.add_argument("boards", nargs="+", metavar="BOARD", help="a planned board; several only with --out")
    where = prepare.add_mutually_exclusive_group()
    where.add_argument("--boot", type=Path, metavar="DIR", help="where the card's boot partition (`bootfs`) is mounted")
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="make a folder for each card in DIR, to be copied (default: cards/ of the site)"
    )
    prepare.add_argument(
        "--wheelhouse", type=Path, metavar="DIR", help="copy these wheels, so that the board needs no package index"
    )
    prepare.add_argument(
        "--system",
        choices=("trixie", "bookworm"),
        default="trixie",
        help="with --out: Raspberry Pi OS on the card (default: trixie)",
    )
    prepare.add_argument("--machine", choices=("aarch64", "x86_64"), default="aarch64", help=argparse.SUPPRESS)
    prepare.add_argument("--country", default="", metavar="XX", help="country of the Wi-Fi, two letters like GB")
    prepare.add_argument("--timezone", default="", metavar="ZONE", help="like Europe/Zurich")
    prepare.add_argument("--ssh-user", default="", metavar="NAME", help="who may log in, and become root")
    prepare.add_argument(
        "--ssh-key", type=Path, action="append", default=[], metavar="FILE", help="his public key; may be repeated"
    )
    prepare.add_argument("--force", action="store_true", help="also on a card that was prepared for another board, or by Imager")

    wheelhouse = common.command(
        commands,
        "wheelhouse",
        _wheelhouse,
        help="fetch all that boards install, for cards and for boards without a package index",
        example="edgeagent provision wheelhouse --out wheelhouse\n  edgeagent provision wheelhouse --out wheelhouse --python 3.13",
        json=True,
        site=False,
    )
    wheelhouse.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to fill")
    wheelhouse.add_argument(
        "--python",
        action="append",
        choices=("3.11", "3.13"),
        help="of the boards: 3.13 for Trixie, 3.11 for Bookworm; may be repeated (default: both)",
    )
    wheelhouse.add_argument("--machine", choices=("aarch64", "x86_64"), default="aarch64", help="of the boards (default: aarch64)")
    wheelhouse.add_argument(
        "--index-only", action="store_true", help="only our own wheel; boards take the rest from the package index"
    )


def _prepare(options: argparse.Namespace) -> int:
    import contextlib

    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import prepare, rights

    names: Sequence[str] = options.boards
    if options.boot and len(names) > 1:
        raise EdgeAgentError("A card is for one board: give one name with --boot, or all of them with --out DIR.")
    keys = [_public_key(path) for path in options.ssh_key]
    with common.open_site(options) as site:
        base = options.out or site.folder / "cards"
        told = []
        for name in names:
            order = _order(site, name, options, keys)
            say = (lambda line: print(line, file=sys.stderr)) if sys.stderr.isatty() else lambda line: None
            with rights.as_root() if options.boot or options.out else contextlib.nullcontext():
                card = _card(options, base, name)
                done = prepare.prepare(card, order, wheels=options.wheelhouse, machine=options.machine, say=say)
            now = time.time()
            with site.registry.transaction() as connection:
                site.registry.audit(connection, now, "prepare", name, token=order.token_id, way=card.way, wheels=done.wheels)
            told.append(
                {"board": name, "folder": str(card.folder), "way": card.way, "wheels": done.wheels, "files": dict(done.files)}
            )
            if not options.json:
                _show(done, order, mounted=options.boot is not None)
    if options.json:
        common.print_json(told)
    return 0


def _order(site: Site, name: str, options: argparse.Namespace, keys: Sequence[str]) -> Order:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import claims
    from edgeagent_provisioning.prepare import Order

    board = site.registry.board(name)
    if board is None:
        raise EdgeAgentError(f"There is no board {name[:80]!r}: `edgeagent provision add {name[:80]}` plans one.")
    token = site.registry.claim_of(name, time.time())
    if token is None:
        raise EdgeAgentError(claims.no_claim(board))
    claim = dataclasses.replace(claims.claim_for(site, token), ssid="", wifi_key="")  # the Wi-Fi has a file of its own
    config = {"title": board.place} if board.place else {}
    return Order(
        board=name,
        claim=claim.text(),
        token_id=token.id,
        config=config | {"cameras": dict(board.cameras), "devices": dict(board.drivers)},
        wifi=board.wifi,
        country=options.country.upper(),
        ssh_user=options.ssh_user,
        ssh_keys=keys,
        timezone=options.timezone,
    )


def _card(options: argparse.Namespace, base: Path, name: str) -> Card:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning.prepare import Card, recognise

    if options.boot is None:
        folder = base / name
        old = options.system == "bookworm"
        return Card(folder, "firstrun" if old else "cloud-init", "3.11" if old else "3.13")
    card = recognise(options.boot)
    if options.force:
        return card
    if card.prepared_for not in ("", name):
        raise EdgeAgentError(f"This card was prepared for {card.prepared_for}: take another one, or give --force.")
    if card.foreign:
        raise EdgeAgentError(
            "This card has settings of its own in user-data, as Raspberry Pi Imager writes them: flash it without them, or give "
            "--force to replace them (--ssh-user, --ssh-key, --timezone and --country say here what you need of them)."
        )
    return card


def _public_key(path: Path) -> str:
    from edgeagent.errors import EdgeAgentError

    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise EdgeAgentError(f"{path} cannot be read: {error}") from None


def _show(done: object, order: Order, *, mounted: bool) -> None:
    from edgeagent_provisioning.prepare import Prepared

    assert isinstance(done, Prepared)
    for name, text in done.files.items():
        lines = text.rstrip("\n").splitlines()
        print(f"── {name}")
        print("\n".join(lines[:40] if not name.endswith(".sh") else lines[:2]))
        if len(lines) > 40 or name.endswith(".sh"):
            print(f"   ({len(lines)} lines)")
    print(f"── edgeagent/wheelhouse: {done.wheels} wheels, {done.size / 1e6:.0f} MB")
    where = "Put the card into the board" if mounted else "Copy this to the card"
    print(f"\n{order.board}: {done.card.folder} is ready. {where}, and power it on: the board joins the site in some minutes.")
    print("The claim works once, and is wiped from the card when the board has joined.", end=" ")
    print("The key of the Wi-Fi stays on it." if order.wifi else "No Wi-Fi: the board needs a cable.")
    if not order.ssh_user:
        print("Nobody can log in to it over the network (--ssh-user, --ssh-key).")


def _wheelhouse(options: argparse.Namespace) -> int:
    from edgeagent_provisioning import wheelhouse

    pythons = options.python or list(wheelhouse.PYTHONS)
    made = wheelhouse.make(options.out, machine=options.machine, pythons=pythons, index_only=options.index_only)
    if options.json:
        common.print_json({"folder": str(options.out), "version": made.version, "wheels": made.wheels, "bytes": made.size})
    else:
        systems = ", ".join(f"{python} ({wheelhouse.PYTHONS[python]})" for python in pythons)
        print(f"{options.out}: edgeagent {made.version}, {made.wheels} wheels, {made.size / 1e6:.0f} MB, for Python {systems}.")
    return 0
