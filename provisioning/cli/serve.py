"""`edgeagent provision serve|revoke|rotate|transfer|reset`: the site's service, and the end of memberships."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import sys
from typing import TYPE_CHECKING, Literal

from edgeagent_provisioning.cli.common import Commands, command, open_site, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeagent.mqtt.connection import BrokerOptions
    from edgeagent_provisioning.enrolling import Event
    from edgeagent_provisioning.fleet import Order
    from edgeagent_provisioning.service import Service
    from edgeagent_provisioning.site import Site


_PATIENCE_S = 60.0
_LOOK_S = 2.0


def add(commands: Commands) -> None:
    """Add the commands."""
    serve = command(
        commands,
        "serve",
        _serve,
        help="the site's service: boards enrol and renew here; progress on the screen",
        description=(
            "Run the site's service until it is ended (Ctrl-C, SIGTERM): boards enrol and renew their certificates here, over\n"
            "HTTPS and over the broker. It may be ended and started at any moment: nothing is lost, or issued twice."
        ),
        example="edgeagent provision serve\n  edgeagent provision serve --listen 192.0.2.10:8443 --json",
        json=True,
    )
    serve.add_argument(
        "--listen",
        type=_place,
        metavar="[HOST]:PORT",
        help="where to listen (default: all addresses, at the port of the site's address)",
    )
    serve.add_argument(
        "--no-broker", action="store_true", help="leave the broker alone: HTTPS only; a name that is given again then waits"
    )

    revoke = command(
        commands,
        "revoke",
        _revoke,
        help="end the membership of boards: at once, and for good",
        description=(
            "End the membership of boards: their certificates go into the CRL, the broker denies them everything, which cuts a\n"
            "live session, their claims are void, and they get no certificate any more. The prefix of a bulk claim, where no\n"
            "board is called so (else --bulk), ends that claim: boards that have joined by it stay, those that wait are turned\n"
            "away. Ends with 1 where the broker was not told."
        ),
        example="edgeagent provision revoke gate\n  edgeagent provision revoke gate door --yes",
        json=True,
    )
    revoke.add_argument("names", nargs="+", metavar="NAME", help="boards, or the prefix of a bulk claim")
    kind = revoke.add_mutually_exclusive_group()
    kind.add_argument("--board", dest="kind", action="store_const", const="board", help="NAME is a board")
    kind.add_argument("--bulk", dest="kind", action="store_const", const="bulk", help="NAME is the prefix of a bulk claim")
    revoke.add_argument("--yes", action="store_true", help="do not ask")

    rotate = command(
        commands,
        "rotate",
        _rotate,
        help="have boards make a new key and certificate now",
        description=(
            "Have boards make a new key for TLS and get a certificate for it. The older certificates are revoked as soon as the\n"
            "new one is in use. This is not enough after others have seen a board's files: beside that key lies the one by which\n"
            "it renews. Then `revoke NAME`, and take it in anew: `add NAME --replace`, and a reset on the board."
        ),
        example="edgeagent provision rotate gate\n  edgeagent provision rotate --all",
        json=True,
    )
    rotate.add_argument("names", nargs="*", metavar="NAME", help="boards")
    rotate.add_argument("--tag", action="append", default=[], metavar="TAG", help="all active boards with this tag")
    rotate.add_argument("--all", action="store_true", help="all active boards")

    transfer = command(
        commands,
        "transfer",
        _transfer,
        help="give boards away: each forgets this site, and this site revokes it",
        description=(
            "Give boards away. Each is ordered to forget this site, its keys and settings, and is then revoked here. With a claim\n"
            "of the new site (its `provision add`) it can be enrolled there. A board that is away cannot hear the order: reset it\n"
            "by hand (`edgeagent reset`) and give --offline here."
        ),
        example="edgeagent provision transfer gate\n  edgeagent provision transfer gate --offline --yes",
        json=True,
    )
    resetting = command(
        commands,
        "reset",
        _reset,
        help="have boards forget this site and all their data, and revoke them here",
        description=(
            "Have boards forget this site, its keys and settings, and all else that the agent has kept on them, as\n"
            "`edgeagent reset --all` there does; they are then revoked here. `add NAME --replace` makes a claim by which one\n"
            "comes back as new.\n"
            "A board that is away cannot hear the order: reset it by hand and give --offline here."
        ),
        example="edgeagent provision reset gate\n  edgeagent provision reset gate --offline --yes",
        json=True,
    )
    for leaving in (transfer, resetting):
        leaving.add_argument("names", nargs="+", metavar="NAME", help="boards")
        leaving.add_argument("--offline", action="store_true", help="do not wait for the boards: only revoke them here")
        leaving.add_argument("--yes", action="store_true", help="do not ask")


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError("write an address and a port, like 192.0.2.10:8443, or :8443 for all addresses")
    return host.strip("[]"), int(port)


def _serve(options: argparse.Namespace) -> int:
    import asyncio
    import logging

    from edgeagent_provisioning import rights

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    with open_site(options) as site:
        rights.for_good()
        return asyncio.run(_serving(options, site))


async def _serving(options: argparse.Namespace, site: Site) -> int:
    import asyncio
    import signal
    import time

    from edgeagent_provisioning import settings
    from edgeagent_provisioning.broker import files
    from edgeagent_provisioning.service import Service

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    host, port = options.listen or ("", _default_port(site))
    show = _shown(options, site)

    def reach() -> BrokerOptions:
        return files.client_options(site, time.time())

    service = Service(
        site,
        host,
        port,
        settings=lambda board: settings.of_board(site, board),
        told=show,
        refresh=(lambda: None) if options.no_broker else _refreshing(site),
    )
    async with service:
        if options.json:
            print(_line({"event": "listening", "site": site.name, "port": service.port, "at": int(time.time())}), flush=True)
        else:
            where = ", ".join(site.urls) or f"port {service.port}"
            print(f"{site.name} is served at {where}. {_counts(site)} End it with Ctrl-C.", flush=True)
        tasks = [asyncio.create_task(service.run(), name="site-chores")]
        if not options.no_broker:
            tasks.append(asyncio.create_task(_on_the_broker(service, site, reach), name="site-broker"))
        waiting = asyncio.create_task(ended.wait(), name="site-end")
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
        for task in done - {waiting}:
            task.result()  # a bug of ours, to be seen
    return 0


def _refreshing(site: Site) -> Callable[[], None]:
    """Brings the broker's files in line, and says what is left to do by hand: once, and again whenever something was written."""
    import time

    from edgeagent_provisioning.broker import files

    advised = ""

    def refresh() -> None:
        nonlocal advised
        done = files.update(site, time.time())
        if done.advice and (done.changed or done.advice != advised):
            print(done.advice, file=sys.stderr, flush=True)
        advised = done.advice

    return refresh


async def _on_the_broker(service: Service, site: Site, reach: Callable[[], BrokerOptions]) -> None:
    """The service on the broker, from when the site has one: it may be given its first while this runs."""
    import asyncio
    import contextlib
    import sqlite3

    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning.broker_side import BrokerSide

    there = False
    while not there:
        with contextlib.suppress(EdgeAgentError, OSError, sqlite3.Error):  # the disk is full: later
            there = await service.on_thread(lambda: _has_broker(site))
        if not there:
            await asyncio.sleep(_LOOK_S)
    await BrokerSide(service, site, reach).run()


def _has_broker(site: Site) -> bool:
    """Whether the site has a broker by now, also where another process has given it one."""
    from edgeagent_provisioning.broker.settings import Settings

    if not site.brokers and Settings.load(site) is not None:
        site.update()  # reads what that process has written: boards are told of it
    return bool(site.brokers)


def _default_port(site: Site) -> int:
    from urllib.parse import urlsplit

    return next((urlsplit(url).port or 443 for url in site.urls), 8443)


def _shown(options: argparse.Namespace, site: Site) -> Callable[[Event], None]:
    import dataclasses
    import time

    def show(event: Event) -> None:
        if options.json:
            text = dataclasses.asdict(event)
            print(_line({"event": text.pop("kind"), **text, "at": int(event.at)}), flush=True)
        else:
            counts = f" {_counts(site)}" if event.kind in ("active", "waiting", "enrolled") else ""
            print(f"{time.strftime('%H:%M:%S', time.localtime(event.at))}  {event.text}{counts}", flush=True)

    return show


def _counts(site: Site) -> str:
    rows = site.registry.rows("SELECT state, count(*) AS number FROM boards WHERE state != 'revoked' GROUP BY state")
    found = {row["state"]: row["number"] for row in rows}
    total = sum(found.values())
    if not total:
        return "No boards are planned yet (edgeagent provision add)."
    waiting = f", {found['waiting']} to approve" if "waiting" in found else ""
    return f"({found.get('active', 0)} of {total} boards active{waiting})"


def _line(data: dict[str, object]) -> str:
    import json

    return json.dumps(data, ensure_ascii=False)


def _confirmed(question: str, yes: bool) -> bool:
    from edgeagent.errors import EdgeAgentError

    if yes:
        return True
    if not sys.stdin.isatty():
        raise EdgeAgentError("Nobody is here to confirm: give --yes.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _refresh(site: Site) -> Callable[[], None]:
    import time

    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning.broker import files

    def refresh() -> None:
        done = files.update(site, time.time())
        if done.advice and not done.told:
            raise EdgeAgentError(done.advice)
        if done.advice:
            print(done.advice, file=sys.stderr)

    return refresh


def _revoke(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning.revoking import revoke

    with open_site(options) as site:
        if not _confirmed(f"End the membership of {', '.join(options.names)} for good?", options.yes or options.json):
            return 1
        done = revoke(site, options.names, time.time(), kind=options.kind or "", refresh=_refresh(site))
        if options.json:
            told = [{"board": gone.board, "certificates": list(gone.serials), "again": gone.again} for gone in done]
            print_json(
                [
                    line | ({} if gone.uses is None else {"bulk_uses": gone.uses, "away": gone.away, "stranded": gone.stranded})
                    for line, gone in zip(told, done, strict=True)
                ]
            )
        else:
            goes = (
                "went into the CRL"
                if site.authority.signs
                else "go into the CRL within seconds of the service's running, which has the key"
            )
            for gone in done:
                if gone.uses is not None:
                    print(f"The bulk claim {gone.board} is ended; it would have taken {gone.uses} more boards.")
                    if gone.away:
                        print(f"Turned away, since they still waited: {', '.join(gone.away)}.")
                    for name in gone.stranded:
                        print(f"{name} was approved and has not joined: `edgeagent provision add {name} --new-claim` for it.")
                    continue
                what = "was revoked before" if gone.again else "is revoked"
                print(f"{gone.board} {what}; {len(gone.serials)} certificate(s) {goes}.")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    import time

    from edgeagent.wire.orders import one_line
    from edgeagent_provisioning import fleet
    from edgeagent_provisioning.renewing import rotate

    now = time.time()
    with open_site(options) as site:
        meant = fleet.boards_of(site, options.names, options.tag, options.all)
        boards = rotate(site, [board.name for board in meant], now)
        # By whole seconds: a certificate of this one would count as one from before.
        time.sleep(max(0.0, min(1.0, int(now) + 1 - time.time())))
        # Who is away is told by the next command; it renews by itself at two thirds of the life of its certificate anyway.
        ids = fleet.give(site, {board.name: {"v": 1, "t": "renew"} for board in boards}, now, _PATIENCE_S)
        orders = _carried(site, ids)
        failed = [order for order in orders if order.state != "done"]
        if options.json:
            print_json([{"board": order.board, "told": order.state == "done", "text": order.text} for order in orders])
        else:
            for order in orders:
                done = f"{order.board} makes a new key; the old certificate is revoked once the new one is in use."
                left = f"{order.board} could not be told ({one_line(order.text)}): run this again when it is there."
                print(done if order.state == "done" else left)
    return 1 if failed else 0


def _transfer(options: argparse.Namespace) -> int:
    return _leave(options, "transfer")


def _reset(options: argparse.Namespace) -> int:
    return _leave(options, "reset")


def _leave(options: argparse.Namespace, how: Literal["transfer", "reset"]) -> int:
    """Boards forget this site, and are revoked."""
    import time

    from edgeagent.errors import EdgeAgentError
    from edgeagent.wire.orders import one_line
    from edgeagent_provisioning import fleet
    from edgeagent_provisioning.revoking import revoke

    now = time.time()
    with open_site(options) as site:
        names = ", ".join(options.names)
        asked = f"Give {names} away?" if how == "transfer" else f"Have {names} forget this site and all data?"
        if not _confirmed(f"{asked} This site cannot take that back.", options.yes or options.json):
            return 1
        told: dict[str, str] = dict.fromkeys(options.names, "")
        if not options.offline:
            boards = fleet.boards_of(site, options.names)
            ids = fleet.give(site, {board.name: {"v": 1, "t": how} for board in boards}, now, _PATIENCE_S)
            told = {
                order.board: "" if order.state == "done" else one_line(order.text) or order.state for order in _carried(site, ids)
            }
        gone = [name for name, problem in told.items() if not problem]
        untold: EdgeAgentError | None = None
        if gone:
            try:
                reason: Literal["transfer", "revoke"] = "transfer" if how == "transfer" else "revoke"
                revoke(site, gone, time.time(), reason=reason, kind="board", refresh=_refresh(site))
            except EdgeAgentError as error:  # said last: what became of the boards cannot be asked for again
                untold = error
        if options.json:
            done = "transferred" if how == "transfer" else "reset"
            print_json([{"board": name, done: not problem, "text": problem} for name, problem in told.items()])
        else:
            for name in gone:
                again = f"edgeagent provision add {name} --replace makes a claim by which it comes back as new."
                if how == "transfer":
                    again = "Enrol it at the other one with a claim from there (edgeagent provision add)."
                print(f"{name} is of this site no more. {again}")
        if left := [name for name in told if name not in gone]:
            raise EdgeAgentError(
                f"Not {'transferred' if how == 'transfer' else 'reset'}: {', '.join(f'{name} ({told[name]})' for name in left)}. "
                "Try again when they are there, or reset them by hand (edgeagent reset) and give --offline."
                + (f" {untold}" if untold else "")
            )
        if untold:
            raise untold
    return 0


def _carried(site: Site, ids: list[int]) -> list[Order]:
    import asyncio

    from edgeagent_provisioning import fleet

    return asyncio.run(fleet.carry_out(site, ids))
