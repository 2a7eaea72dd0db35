"""`edgeagent provision set|diff|apply|logs|restart|snapshot|doctor|upgrade|watch`: boards that have come, and what they run by."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent_provisioning.cli.common import Commands, command, open_site, print_json

if TYPE_CHECKING:
    from edgeagent_provisioning.broker.public import Finding
    from edgeagent_provisioning.fleet import Order
    from edgeagent_provisioning.registry import Board
    from edgeagent_provisioning.settings import Scope
    from edgeagent_provisioning.site import Site


_NO_ANSWER = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def add(commands: Commands) -> None:
    """Add the commands."""
    setting = command(
        commands,
        "set",
        _set,
        help="change what boards are to run by: for the site, a tag or a board; `apply` tells them",
        description=(
            "Change settings, as in the agent's configuration file. What is set for a tag goes before the site's, what is set\n"
            "for a board before both; keys are merged one by one. VALUE is YAML, `@FILE` the text of a file, `-` is typed\n"
            "unseen, `null` takes out what a lower layer says. Boards are told by `apply`, not before. Without KEY=VALUE it\n"
            "prints what is set."
        ),
        example=(
            "edgeagent provision set log.level=warning\n"
            "  edgeagent provision set --tag garden limits.viewers=8\n"
            "  edgeagent provision set --board gate cameras.front.driver=picamera2 http.token=-\n"
            "  edgeagent provision set --board gate --file gate.yaml\n"
            "  edgeagent provision set --board gate --remove http.token"
        ),
        json=True,
    )
    setting.add_argument("values", nargs="*", metavar="KEY=VALUE", help="like cameras.front.driver=picamera2")
    where = setting.add_mutually_exclusive_group()
    where.add_argument("--tag", default="", metavar="TAG", help="for boards with this tag; by default for all of the site")
    where.add_argument("--board", default="", metavar="NAME", help="for this board")
    setting.add_argument("--file", type=Path, metavar="FILE", help="YAML that replaces the whole layer, before KEY=VALUE")
    setting.add_argument("--remove", action="append", default=[], metavar="KEY", help="take this key out of the layer")
    setting.add_argument("--anyway", action="store_true", help="keep what some boards could not run by")

    _boards(
        commands,
        "diff",
        _diff,
        help="show what `apply` would change on boards; secrets are masked",
        example="edgeagent provision diff --all\n  edgeagent provision diff gate --tag garden",
        everyone=True,
    )
    applying = _boards(
        commands,
        "apply",
        _apply,
        help="let boards run by their settings; each tries them and goes back by itself if they do not work",
        description=(
            "Let boards run by their settings. They are checked first, and shown as a diff. Each board begins anew with them,\n"
            "and keeps them only if it is well and on the broker within a minute; else it goes back by itself. Boards that are\n"
            "away get them when they come. Exit code 1 if any board did not take them."
        ),
        example="edgeagent provision apply gate\n  edgeagent provision apply --all --yes --wait 2m",
    )
    applying.add_argument("--yes", action="store_true", help="do not ask")
    applying.add_argument("--force", action="store_true", help="also order what is in force already, or was refused")
    _wait(applying, 180)

    logs = _boards(
        commands, "logs", _logs, help="show the last lines of boards' logs", example="edgeagent provision logs gate -n 50"
    )
    logs.add_argument("-n", "--lines", type=_lines, default=200, metavar="N", help="how many, up to 2000 (default: 200)")
    _wait(logs, 30)
    restarting = _boards(
        commands, "restart", _restart, help="have boards begin anew", example="edgeagent provision restart --tag garden"
    )
    _wait(restarting, 30)
    taking = _boards(
        commands,
        "snapshot",
        _snapshot,
        help="take a picture with a camera of each board",
        example="edgeagent provision snapshot gate --camera front --out pictures",
    )
    taking.add_argument("--camera", default="", metavar="NAME", help="which one (default: the board's first)")
    taking.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder for BOARD.jpg (default: here)")
    _wait(taking, 60)
    examining = _boards(
        commands,
        "doctor",
        _doctor,
        help="look at this site's broker, and have boards look at themselves: what is wrong, and what to do",
        example="edgeagent provision doctor\n  edgeagent provision doctor gate",
    )
    _wait(examining, 30)
    showing = _boards(
        commands, "identify", _identify, help="have boards blink, to find them", example="edgeagent provision identify gate"
    )
    _wait(showing, 30)
    upgrading = _boards(
        commands,
        "upgrade",
        _upgrade,
        help="install a release on boards; each goes back by itself if it is not well with it",
        description=(
            "Install the release of a wheelhouse on boards. Each fetches it from the site's service, checks the hash that this\n"
            "order signs, installs it beside the one that runs, tries it, and goes back by itself if it is not well. With\n"
            "--first N the rest follows only once N boards run it."
        ),
        example=(
            "edgeagent provision wheelhouse --out release\n  edgeagent provision upgrade --wheelhouse release --all --first 2"
        ),
    )
    upgrading.add_argument("--wheelhouse", type=Path, required=True, metavar="DIR", help="from `edgeagent provision wheelhouse`")
    upgrading.add_argument("--url", default="", metavar="URL", help="where boards find the archive instead (its hash is checked)")
    upgrading.add_argument("--first", type=_lines, default=0, metavar="N", help="try it on so many boards before the rest")
    upgrading.add_argument("--yes", action="store_true", help="do not ask")
    _wait(upgrading, 3_600)

    watching = command(
        commands,
        "watch",
        _watch,
        help="show all boards in a live table",
        example="edgeagent provision watch --tag garden",
        json=True,
    )
    watching.add_argument("--tag", metavar="TAG", help="only boards with this tag")
    watching.add_argument("--once", action="store_true", help="print it once and end")


def _boards(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], *, everyone: bool = False, **words: str
) -> argparse.ArgumentParser:
    """A command on boards; `words` are those of `command`."""
    parser = command(commands, name, run, json=True, site=True, **words)
    parser.add_argument("names", nargs="*", metavar="NAME", help="boards")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="all boards with this tag")
    parser.add_argument("--all", action="store_true", dest="everyone", help="all boards")
    parser.set_defaults(everyone_else=everyone)
    return parser


def _wait(parser: argparse.ArgumentParser, seconds: int) -> None:
    from edgeagent_provisioning.cli.common import duration

    parser.add_argument(
        "--wait",
        type=duration,
        default=seconds,
        metavar="TIME",
        help=f"how long to wait for boards that are away, like 2m (default: {seconds} s)",
    )


def _lines(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 2000:
        raise argparse.ArgumentTypeError("write a number from 1 to 2000")
    return int(text)


def _chosen(options: argparse.Namespace, site: Site) -> list[Board]:
    from edgeagent_provisioning.fleet import boards_of

    nobody = not options.names and not options.tag
    return boards_of(site, options.names, options.tag, options.everyone or (nobody and options.everyone_else))


# Settings


def _set(options: argparse.Namespace) -> int:
    import time

    from edgeagent.config import document
    from edgeagent.errors import ConfigError, ConfigProblem, EdgeAgentError
    from edgeagent_provisioning import rights
    from edgeagent_provisioning import settings as desired

    scope: Scope = "board" if options.board else "tag" if options.tag else "site"
    name: str = options.board or options.tag
    with open_site(options) as site:
        if options.board and site.registry.board(name) is None:
            raise EdgeAgentError(f"There is no board {name[:80]!r}: `edgeagent provision list` shows all.")
        if options.tag and not site.registry.boards(tag=name):
            print(f"No board has the tag {name[:80]} yet.", file=sys.stderr)
        before = desired.read(site, scope, name)
        if not (options.values or options.file or options.remove):
            return _print_layer(options, before)
        after = before
        if options.file:
            try:
                with rights.as_root():
                    text = options.file.read_text("utf-8")
                after = document.parse(text)
            except (OSError, UnicodeDecodeError) as error:
                raise EdgeAgentError(f"{options.file} cannot be read: {error}") from None
        for path in options.remove:
            after = desired.without(after, path)
        for text in options.values:
            path, equals, value = text.partition("=")
            if not equals:
                raise ConfigError([ConfigProblem(path[:80], "write KEY=VALUE, like log.level=warning")])
            after = desired.with_value(after, path, _value(path, value))
        problems = _problems(site, scope, name, after)
        for line in problems:
            print(line, file=sys.stderr)
        if problems and not options.anyway:
            print("Nothing was changed. Mend this, or give --anyway.", file=sys.stderr)
            return 1
        keys = desired.write(site, scope, name, after, time.time())
        lines = desired.shown_diff(before, after)
        if options.json:
            print_json({"scope": scope, "name": name, "changed": keys})
        else:
            print("\n".join(lines) or "That is how it was already.")
            if lines:
                print("Boards run by it after `edgeagent provision apply`.")
    return 0


def _value(path: str, text: str) -> Any:
    from edgeagent.config import document
    from edgeagent.errors import EdgeAgentError

    if text == "-":
        import getpass

        return getpass.getpass(f"{path}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if text.startswith("@"):
        from edgeagent_provisioning import rights

        try:
            with rights.as_root():
                return Path(text[1:]).expanduser().read_text("utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise EdgeAgentError(f"{text[1:]} cannot be read: {error}") from None
    return document.parse_value(text)


def _print_layer(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    from edgeagent_provisioning import settings as desired

    lines = [line.removeprefix("+ ") for line in desired.shown_diff({}, settings)]
    if options.json:
        print_json({key: value for key, _, value in (line.partition(": ") for line in lines)})
    else:
        print("\n".join(lines) or "Nothing is set there.")
    return 0


def _problems(site: Site, scope: Scope, name: str, after: dict[str, Any]) -> list[str]:
    """What boards that are meant could not run by."""
    from edgeagent_provisioning import settings as desired

    found = []
    boards = [site.registry.board(name)] if scope == "board" else site.registry.boards(tag=name or None)
    for board in boards:
        if board is None or board.state == "revoked":
            continue
        wanted = desired.of_board(site, board, instead=(scope, name, after))
        wrong, _ = desired.check(wanted) if wanted is not None else ([], [])
        found += [f"{board.name}: {problem}" for problem in wrong]
    return found


def _diff(options: argparse.Namespace) -> int:
    from edgeagent_provisioning import settings as desired
    from edgeagent_provisioning.fleet import released

    with open_site(options) as site:
        told: dict[str, list[str]] = {}
        for board in _chosen(options, site):
            before, effect = released(site, board.name)
            told[board.name] = desired.shown_diff(before or {}, desired.of_board(site, board) or {})
            if not options.json:
                _print_diff(board.name, told[board.name], effect)
        if options.json:
            print_json(told)
    return 0


def _print_diff(name: str, lines: Sequence[str], effect: str) -> None:
    print(f"{name}: {'no change' if not lines else ''}".rstrip())
    for line in lines:
        print(f"  {line}")


def _apply(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning import fleet
    from edgeagent_provisioning import settings as desired

    with open_site(options) as site:
        boards = _chosen(options, site)
        chosen = boards if options.force else fleet.stale_boards(site, boards)
        wrong = 0
        for board in chosen:
            problems, left = desired.check(desired.of_board(site, board) or {})
            for line in (*map(str, problems), *left):
                print(f"{board.name}: {line}", file=sys.stderr)
            wrong += bool(problems)
        if wrong:
            print(f"Nothing was applied: the settings of {wrong} boards are wrong.", file=sys.stderr)
            return 1
        if not chosen:
            return _report(options, [], "Everything is in force already.")
        if not options.yes and not options.json:
            for board in chosen:
                before, effect = fleet.released(site, board.name)
                _print_diff(board.name, desired.shown_diff(before or {}, desired.of_board(site, board) or {}), effect)
            if not _confirmed(f"Apply this to {len(chosen)} boards?"):
                return 1
        ids = fleet.release(site, chosen, time.time(), options.wait)
        return _carry_out(options, site, ids)


# Orders


def _logs(options: argparse.Namespace) -> int:
    return _order(options, {"t": "logs", "lines": options.lines}, _show_data)


def _restart(options: argparse.Namespace) -> int:
    return _order(options, {"t": "restart"})


def _identify(options: argparse.Namespace) -> int:
    return _order(options, {"t": "identify"})


def _snapshot(options: argparse.Namespace) -> int:
    import base64

    from edgeagent_provisioning import keyfiles, rights
    from edgeagent_provisioning.held import Held

    with Held(options.out) as place:

        def keep(order: Order) -> None:
            name = f"{order.board}.jpg"
            with rights.as_root():
                keyfiles.write_private(place.path / name, base64.b64decode(order.data, validate=True))
            print(f"{order.board}: {options.out / name}", file=sys.stderr if options.json else sys.stdout)

        return _order(options, {"t": "snapshot", "camera": options.camera}, keep)


def _doctor(options: argparse.Namespace) -> int:
    import json
    import time
    from dataclasses import asdict

    from edgeagent.wire.orders import one_line
    from edgeagent_provisioning.broker.public import Finding, findings

    def show(order: Order) -> None:
        lines = []
        for finding in json.loads(order.data).get("findings", []):
            advice = f" {finding['advice']}" if finding.get("advice") else ""
            told = f"{str(finding.get('level', '')).upper():<8} {finding.get('check', '')}: {finding.get('text', '')}{advice}"
            lines.append(f"  {one_line(told)}")
        print("\n".join([f"{order.board}:", *lines]))

    with open_site(options) as site:
        mine = findings(site, time.time())
    if options.names or options.tag or options.everyone:
        if not options.json:
            _tell_of_site(mine)
        return _order(options, {"t": "doctor"}, show)
    if options.json:
        print(json.dumps([asdict(finding) for finding in mine], indent=2))
    else:
        _tell_of_site(mine or [Finding("broker", "ok", "The site's broker is in order.")])
    return int(any(finding.level == "problem" for finding in mine))


def _tell_of_site(found: Sequence[Finding]) -> None:
    if found:
        print("this site:")
    for finding in found:
        print(f"  {finding.level.upper():<8} {finding.check}: {finding.text}{' ' + finding.advice if finding.advice else ''}")


def _show_data(order: Order) -> None:
    from edgeagent.wire.orders import one_line

    for line in order.data.splitlines():
        print(f"{order.board}: {one_line(line.expandtabs())}")


def _order(options: argparse.Namespace, body: dict[str, Any], show: Callable[[Order], None] | None = None) -> int:
    import time

    from edgeagent_provisioning import fleet

    with open_site(options) as site:
        bodies = {board.name: {"v": 1, **body} for board in _chosen(options, site)}
        return _carry_out(options, site, fleet.give(site, bodies, time.time(), options.wait), show)


def _upgrade(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning import fleet, upgrade
    from edgeagent_provisioning.fleet import Order

    with open_site(options) as site:
        boards = _chosen(options, site)
        made = upgrade.archive(site, options.wheelhouse)
        url = upgrade.url_of(site, made, options.url)
        names = [board.name for board in boards if board.version != made.release]
        if not names:
            return _report(options, [], f"All of them run {made.release} already.")
        if not options.yes and not options.json:
            print(f"{made.release} ({made.size / 1e6:.0f} MB) for: {', '.join(names)}")
            if not _confirmed(f"Upgrade {len(names)} boards?"):
                return 1
        waves = [names[: options.first], names[options.first :]] if 0 < options.first < len(names) else [names]
        code, told = 0, list[Order]()
        for number, wave in enumerate(waves):
            ids = fleet.give(site, upgrade.order_for(made, url, wave), time.time(), options.wait)
            orders = _carried(options, site, ids)
            told += orders
            if not options.json:
                _report(options, orders, "")
            if code := int(any(order.state != "done" for order in orders)):
                if number + 1 < len(waves):
                    print(f"The other {len(names) - len(wave)} boards were left as they are.", file=sys.stderr)
                break
        if options.json:  # one document, however many waves there were
            _report(options, told, "")
    return code


def _carry_out(options: argparse.Namespace, site: Site, ids: Sequence[int], show: Callable[[Order], None] | None = None) -> int:
    return _report(options, _carried(options, site, ids), "", show)


def _carried(options: argparse.Namespace, site: Site, ids: Sequence[int]) -> list[Order]:
    import asyncio

    from edgeagent_provisioning import fleet

    said: set[int] = set()
    if sys.stderr.isatty() and not options.json and len(ids) > 0:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        from rich.console import Console

        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("waiting", total=len(ids))

            def told(orders: Sequence[Order]) -> None:
                under_way = [f"{order.board} {order.state}" for order in orders if order.open]
                text = ", ".join(under_way[:3]) + (" …" if len(under_way) > 3 else "")
                bar.update(task, completed=sum(not order.open for order in orders), description=text or "done")
                _say_why(orders, said, lambda line: bar.console.print(line, markup=False, highlight=False))

            return asyncio.run(fleet.carry_out(site, ids, told))
    return asyncio.run(fleet.carry_out(site, ids, lambda orders: _say_why(orders, said, lambda line: print(line, file=sys.stderr))))


def _say_why(orders: Sequence[Order], said: set[int], say: Callable[[str], object]) -> None:
    """What an order waits for, once."""
    from edgeagent.wire.orders import one_line

    for order in orders:
        if order.state == "waiting" and order.text and order.id not in said:
            said.add(order.id)
            say(f"{order.board}: {one_line(order.text)}")


def _report(options: argparse.Namespace, orders: Sequence[Order], nothing: str, show: Callable[[Order], None] | None = None) -> int:
    """Tell how each board has answered; 1 if any has failed."""
    import dataclasses

    told = []
    for order in orders:
        if order.state == "done" and show and (not options.json or options.__dict__.get("out")):
            try:
                show(order)
            except _NO_ANSWER:  # one board may say what it likes, and takes away no other's answer
                order = dataclasses.replace(order, state="failed", text="Its answer cannot be read.", data="")
                _print_text(options, order)
        else:
            _print_text(options, order)
        told.append(order)
    if options.json:
        names = ("board", "state", "code", "text", "data")
        print_json([{name: getattr(order, name) for name in names if name != "data" or order.data} for order in told])
    elif not orders:
        print(nothing)
    return 1 if any(order.state != "done" for order in told) else 0


def _print_text(options: argparse.Namespace, order: Order) -> None:
    """With `--json` it is told there."""
    from edgeagent.wire.orders import one_line

    lines = (order.text or order.state).splitlines() or [order.state]
    if not options.json:
        text = "\n  ".join(one_line(line.expandtabs()) for line in lines)  # indented: no board writes another one's line
        print(f"{order.board}: {text}", file=sys.stdout if order.state == "done" else sys.stderr)


def _confirmed(question: str) -> bool:
    from edgeagent.errors import EdgeAgentError

    if not sys.stdin.isatty():
        raise EdgeAgentError("Nobody is here to confirm: give --yes.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _watch(options: argparse.Namespace) -> int:
    import dataclasses
    import time

    from edgeagent_provisioning import watch

    with open_site(options) as site:
        if options.json:
            print_json([dataclasses.asdict(row) for row in watch.rows(site, time.time(), options.tag)])
            return 0
        from rich.console import Console
        from rich.live import Live

        if options.once or not sys.stdout.isatty():
            Console().print(watch.table(watch.rows(site, time.time(), options.tag)))
            return 0
        with Live(watch.table(watch.rows(site, time.time(), options.tag)), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(1.0)
                live.update(watch.table(watch.rows(site, time.time(), options.tag)), refresh=True)
