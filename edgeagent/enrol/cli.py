"""`edgeagent enrol` and `edgeagent reset`: the board's side by hand."""

from __future__ import annotations

__all__ = ["add", "claim_of", "state_folder"]

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.errors import EdgeAgentError
from edgeagent.usage import example

if TYPE_CHECKING:
    from edgeagent.wire.claim import Claim

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction

_MAX_FILE = 65_536


def add(commands: Commands) -> None:
    """Add both commands. Nothing heavy is imported to parse."""
    enrol = commands.add_parser(
        "enrol",
        help="make this board a member of a site",
        description="Make this board a member of a site: it makes its keys, shows the claim, and gets its name and certificate.",
    )
    example(
        enrol,
        "sudo edgeagent enrol gate.json --wait\n"
        "  sudo edgeagent enrol 0123456789abcdef.SECRET --url https://site.local:8443 --pin PIN\n"
        "  cat gate.json | ssh board sudo edgeagent enrol -",
    )
    enrol.add_argument("claim", metavar="TOKEN|FILE|JSON|-", help="the claim: a file, its JSON, - to read it, or a bare token")
    enrol.add_argument("--url", default="", metavar="URL", help="with a bare token: where the site's service is")
    enrol.add_argument("--pin", default="", metavar="PIN", help="with a bare token: the pin of the site's root")
    enrol.add_argument("--mqtt", default="", metavar="URL", help="with a bare token: the broker, where no service is reached")
    enrol.add_argument("--wait", action="store_true", help="go on until the site takes this board, or refuses it for good")
    _state_option(enrol)
    enrol.set_defaults(command=_enrol)

    reset = commands.add_parser(
        "reset",
        help="forget the site: keys, certificate and what it has set",
        description="Forget the site: keys, certificate and what it has set. Afterwards the board can be enrolled anew. "
        "An agent that runs begins anew by itself. "
        "The site is not told: `edgeagent provision revoke NAME` there ends what it knows of this board.",
    )
    example(reset, "sudo edgeagent reset\n  sudo edgeagent reset --all --yes")
    reset.add_argument("--all", action="store_true", help="forget everything that the agent has stored, not only the site")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    _state_option(reset)
    reset.set_defaults(command=_reset)


def state_folder(given: Path | None) -> Path:
    """Where the agent keeps what it must not lose: `--state`, else systemd's, else that of the service or of this user."""
    if given is not None:
        return given
    if named := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(named)
    installed = Path("/var/lib/edgeagent")
    if os.geteuid() == 0 or os.access(installed, os.W_OK):
        return installed
    try:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    except RuntimeError:  # a user without a home
        return installed
    return Path(base) / "edgeagent"


def claim_of(text: str, *, url: str = "", pin: str = "", mqtt: str = "") -> Claim:
    """The claim that an argument means: JSON, a bare token, `-` for standard input, or a file.

    Raises:
        EdgeAgentError: It is none of these, with what to write instead.
    """
    from edgeagent.wire.claim import Claim

    data: str | bytes = text
    if text == "-":
        data = sys.stdin.buffer.read(_MAX_FILE)
    elif not text.lstrip().startswith("{") and not _like_token(text):
        path = Path(text)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE)
        except OSError as error:
            raise EdgeAgentError(
                f"{text[:80]} is no token, and no file that can be read ({error.strerror}): "
                "give the claim's file, or its text in quotes."
            ) from None
    return Claim.parse(data, url=url, root_pin=pin, mqtt=mqtt)


def _like_token(text: str) -> bool:
    head, dot, tail = text.strip().partition(".")
    return bool(dot) and len(head) == 16 and len(tail) >= 16 and "/" not in text and not Path(text).exists()


def _as_owner(state: Path) -> None:
    """Run as the user of the agent from here on: it has to read what root would write."""
    if os.geteuid() != 0 or not state.exists() or (owner := state.stat()).st_uid == 0:
        return
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _state_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="the agent's state folder (default: that of the installed service)"
    )


def _enrol(options: argparse.Namespace) -> int:
    import asyncio

    from edgeagent.enrol.joining import enrol

    claim = claim_of(options.claim, url=options.url, pin=options.pin, mqtt=options.mqtt)
    state = state_folder(options.state)
    _as_owner(state)
    if claim.ssid:
        print(f"The claim also names the Wi-Fi network {claim.ssid!a}, which this command leaves alone.", file=sys.stderr)
    identity = asyncio.run(enrol(claim, state, told=lambda sentence: print(sentence, flush=True), wait=options.wait))
    print(f"Enrolled as {identity.name}; the keys are in {identity.folder}. Start the agent, or restart it.")
    return 0


def _reset(options: argparse.Namespace) -> int:
    from edgeagent.enrol.identity import Identity, forget

    state = state_folder(options.state)
    _as_owner(state)
    try:
        identity = Identity.load(state)
        name = identity.name if identity else ""
    except EdgeAgentError:
        name = "a member of a site, with damaged files"
    if not options.yes:
        if not sys.stdin.isatty():
            raise EdgeAgentError("Nobody is here to confirm: give --yes.")
        what = f"This board is {name}." if name else "This board belongs to no site."
        if input(f"{what} Forget {'everything' if options.all else 'the site'} in {state}? [y/N] ").strip().lower() not in (
            "y",
            "yes",
        ):
            print("Nothing was changed.")
            return 1
    try:
        gone = forget(state, everything=options.all)
    except OSError as error:
        raise EdgeAgentError(f"{state} cannot be changed ({error.strerror}): run this as the agent's user, or as root.") from None
    print(
        f"Forgotten: {', '.join(gone)}. An agent that runs here begins anew within seconds."
        if gone
        else "There was nothing to forget."
    )
    return 0
