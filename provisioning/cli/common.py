"""What the commands share: options, opening the site, passphrases, tables, times."""

from __future__ import annotations

__all__ = [
    "Commands",
    "command",
    "duration",
    "group",
    "hint_of_days",
    "needs",
    "open_site",
    "passphrase",
    "print_json",
    "shown_time",
    "site_folder",
    "table",
    "tell_broker",
    "with_site",
]

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgeagent import usage

if TYPE_CHECKING:
    from edgeagent_provisioning.site import Site

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    example: str,
    description: str = "",
    json: bool = False,
    site: bool = True,
) -> argparse.ArgumentParser:
    """A command with its help, an example, `--site` and, where it prints data, `--json`."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description or f"{help[:1].upper()}{help[1:]}.",
    )
    usage.example(parser, example)
    if site:
        parser.add_argument(
            "--site", type=Path, metavar="DIR", help="the site's folder (default: $EDGEAGENT_SITE, else that of this user)"
        )
    if json:
        parser.add_argument("--json", action="store_true", help="print for machines")
    parser.set_defaults(command=run)
    return parser


def group(commands: Commands, name: str, *, help: str) -> Commands:
    """A command that only holds others, like `provision site …`."""
    parser = commands.add_parser(name, help=help, description=f"{help[:1].upper()}{help[1:]}.")
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def with_site(options: argparse.Namespace) -> str:
    """What a command that is advised needs to find this site: ` --site DIR`, where it was named so."""
    import shlex

    return f" --site {shlex.quote(str(site_folder(options)))}" if options.site else ""


def site_folder(options: argparse.Namespace) -> Path:
    """Where the site is, or is to be."""
    from edgeagent_provisioning.site import default_folder

    # Not as it was typed: it goes into files and command lines of others, who are elsewhere.
    return (Path(options.site).expanduser() if options.site else default_folder()).absolute()


def open_site(options: argparse.Namespace) -> Site:
    """The site that the options name; to be closed (`with`). Root acts as its owner from then on (`rights`).

    Raises:
        EdgeAgentError: There is none.
    """
    from edgeagent_provisioning import rights
    from edgeagent_provisioning.site import Site

    folder = site_folder(options)
    rights.take_on(folder)
    return Site.open(folder)


def tell_broker(site: Site) -> bool:
    """Bring the files of the site's Mosquitto up to date, and have it read them; nothing where the site has none of ours.

    Returns:
        Whether it was told; else a person has to do what was said on standard error.

    Raises:
        EdgeAgentError: That failed, with what to do; what was done to the site stays done.
    """
    import time

    from edgeagent_provisioning.broker import files

    done = files.update(site, time.time())
    if done.advice:
        print(done.advice, file=sys.stderr)
    return done.told or not done.advice


def needs(module: str) -> None:
    """Say what to install where a library of the extra `site` is missing.

    Raises:
        EdgeAgentError: It is.
    """
    import importlib.util

    from edgeagent.errors import EdgeAgentError

    if importlib.util.find_spec(module) is None:
        raise EdgeAgentError(
            f"This needs {module}, which is not installed here: `{sys.executable} -m pip install {module}`, "
            "or all that is in requirements.lock."
        )


def passphrase(
    file: Path | None,
    prompt: str,
    *,
    new: bool = False,
    option: str = "--passphrase-file",
    what: str = "A passphrase",
    holds: str = "it ",
) -> str:
    """A passphrase: the first line of `file`, else typed, twice where it is new.

    Raises:
        EdgeAgentError: There is neither a file nor a terminal, or the two differ.
    """
    import getpass

    from edgeagent.errors import EdgeAgentError

    if file is not None:
        from edgeagent_provisioning import keyfiles, rights

        with rights.as_root():
            data = keyfiles.read_private(file)
        return data.decode("utf-8", "replace").split("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise EdgeAgentError(
            f"{what} is needed, and nobody is here to type it: put {holds}into a file (chmod 600) and give {option} FILE."
        )
    typed = getpass.getpass(f"{prompt}: ")
    if new and getpass.getpass("The same again: ") != typed:
        raise EdgeAgentError("The two differ: try again.")
    return typed


def duration(text: str) -> int:
    """`30m`, `24h`, `7d` in seconds; for argparse."""
    factors = {"m": 60, "h": 3_600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) and unit in factors):
        raise argparse.ArgumentTypeError("write a time like 30m, 24h or 7d")
    return int(number) * factors[unit]


def print_json(data: Any) -> None:
    """For machines: indented, UTF-8."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def shown_time(at: float | None) -> str:
    """Local time to the minute; nothing for None."""
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else ""


def hint_of_days(end: float | None, now: float) -> str:
    """Until then, in the unit that fits: `12 d`, `5 h`, or `over`."""
    if end is None:
        return ""
    left = end - now
    return "over" if left <= 0 else f"{left / 86_400:.0f} d" if left >= 2 * 86_400 else f"{left / 3_600:.0f} h"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
