"""`edgeagent install`, `upgrade`, `uninstall`, and `first-boot`, which a prepared card runs."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent import usage
from edgeagent.errors import EdgeAgentError

if TYPE_CHECKING:
    from edgeagent.install.installing import Installation
    from edgeagent.install.steps import Steps

_SOURCES = "`make install` in the sources does all of it; `edgeagent provision wheelhouse --out DIR` makes a wheelhouse"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to `edgeagent`."""
    install = _command(
        commands,
        "install",
        _install,
        "put the agent on this system as a service",
        "Put the agent on this system: account, release, units, folders, rules for devices. Where it is, this is an upgrade.",
        "sudo edgeagent install --wheelhouse wheelhouse\n  edgeagent install --wheelhouse wheelhouse --dry-run",
    )
    _from(install)
    install.add_argument("--config", type=Path, metavar="FILE", help="the configuration to begin with; one that is there stays")
    install.add_argument("--no-start", action="store_true", help="start nothing now; it starts with the system")
    install.add_argument(
        "--site", dest="site_service", action="store_true", help="the site's service as well (edgeagent-site.service)"
    )

    upgrade = _command(
        commands,
        "upgrade",
        _upgrade,
        "install a release beside the one that runs, and keep it only if it works",
        "Install a release beside the one that runs, try it, and go back by itself if it does not work.",
        "sudo edgeagent upgrade --wheelhouse wheelhouse\n  sudo edgeagent upgrade --back",
    )
    _from(upgrade)
    upgrade.add_argument("--back", action="store_true", help="run the release before this one again")
    upgrade.add_argument("--pin", action="store_true", help="let the site that this board belongs to order upgrades from now on")
    upgrade.add_argument("--ordered", action="store_true", help=argparse.SUPPRESS)  # edgeagent-upgrade.service

    uninstall = _command(
        commands,
        "uninstall",
        _uninstall,
        "stop the agent and remove it",
        "Stop the agent and remove it. Configuration and keys stay, unless --purge is given.",
        "sudo edgeagent uninstall\n  sudo edgeagent uninstall --purge",
    )
    uninstall.add_argument("--purge", action="store_true", help="remove configuration, keys and account as well")

    first = _command(commands, "first-boot", _first_boot, "", "What a prepared card runs at its first boot.", "")
    first.add_argument("--card", type=Path, required=True, metavar="DIR", help="the folder `edgeagent` of the boot partition")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    help: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    shown: dict[str, Any] = {"help": help} if help else {}  # without `help` a command is not listed
    parser = commands.add_parser(name, description=description, **shown)
    if example:
        usage.example(parser, example)
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="another system's root folder; nothing is started there"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.set_defaults(command=run)
    return parser


def _from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wheelhouse", type=Path, metavar="DIR", help="where the release is: `edgeagent provision wheelhouse` makes it"
    )
    parser.add_argument(
        "--index", action="store_true", help="take what the wheelhouse lacks from the package index, hashes checked all the same"
    )


def _install(options: argparse.Namespace) -> int:
    from edgeagent.install.wheels import Wheelhouse

    steps, installation = _begin(options)
    if options.wheelhouse is None:
        raise EdgeAgentError(f"Say what to install, with --wheelhouse DIR: {_SOURCES}.")
    wheelhouse = Wheelhouse.open(options.wheelhouse.resolve())
    config = None
    if options.config is not None:
        try:
            config = options.config.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise EdgeAgentError(f"{options.config} cannot be read: {error}") from None
    installation.install(wheelhouse, index=options.index, config=config, start=not options.no_start, site=options.site_service)
    steps.say(f"edgeagent {wheelhouse.version} is installed; its configuration is {steps.places.config}.")
    _packages(steps)
    return 0


def _upgrade(options: argparse.Namespace) -> int:
    from edgeagent.install import ordered
    from edgeagent.install.wheels import Wheelhouse

    steps, installation = _begin(options)
    if options.pin:
        if not ordered.pin(steps):
            raise EdgeAgentError("This board belongs to no site: `edgeagent enrol` first.")
        steps.say(f"The site's key is pinned in {steps.places.signers}.")
    elif options.ordered:
        return _ordered(steps, installation)
    elif options.back:
        steps.say(f"{installation.back()} runs.")
    elif options.wheelhouse is None:
        raise EdgeAgentError(f"Say what to install, with --wheelhouse DIR, or --back: {_SOURCES}.")
    else:
        steps.say(f"{installation.upgrade(Wheelhouse.open(options.wheelhouse.resolve()), index=options.index)} runs.")
    return 0


def _ordered(steps: Steps, installation: Installation) -> int:
    from edgeagent.install import ordered
    from edgeagent.install.wheels import Wheelhouse

    if not (steps.places.orders / "order").exists():
        installation.settle(installation.heard if steps.places.signers.exists() else lambda: True)
        return 0
    taken = None
    try:
        taken = ordered.take(steps.places)
        wheelhouse = Wheelhouse.open(taken.wheelhouse)
        if wheelhouse.version != taken.release:
            raise EdgeAgentError(f"The archive holds release {wheelhouse.version}, and {taken.release} was ordered.")
        installation.upgrade(wheelhouse, index=False, healthy=installation.heard)  # else nobody could order another one
    except (EdgeAgentError, OSError) as error:  # the order goes in any case: else the path unit would begin it again for ever
        ordered.done(steps, taken, str(error))
        raise
    ordered.done(steps, taken)
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    from edgeagent.install.files import SITE_FILES

    steps, installation = _begin(options)
    places = steps.places
    site = places.at(SITE_FILES["edgeagent-site.service"]).exists()
    installation.uninstall(purge=options.purge)
    if site:
        steps.say("The site's service is gone, too. The site's folder stays, and so do Mosquitto, nginx and what they were told.")
    if options.purge:
        steps.say(
            "edgeagent, its configuration, its keys and its account are gone. A site that this board belonged to should revoke it."
        )
    else:
        steps.say(
            f"edgeagent is gone; {places.etc} and {places.state} stay, until `edgeagent uninstall --purge` or you remove them."
        )
    return 0


def _first_boot(options: argparse.Namespace) -> int:
    from edgeagent.install import first_boot

    steps, installation = _begin(options)
    first_boot.run(options.card, steps, installation)
    return 0


def _begin(options: argparse.Namespace) -> tuple[Steps, Installation]:
    from edgeagent.install.installing import Installation
    from edgeagent.install.places import Places
    from edgeagent.install.service import Systemd
    from edgeagent.install.steps import Steps

    root: Path = options.root.resolve()
    if not root.is_dir():
        raise EdgeAgentError(f"{root} is no folder.")
    if os.geteuid() != 0 and not options.dry_run:
        raise EdgeAgentError("This changes the system: run it with sudo, or look at it with --dry-run.")
    os.umask(0o022)  # the agent's user reads what root installs, also where root's own files are closed to others
    steps = Steps(Places(root), dry_run=options.dry_run)
    return steps, Installation(steps, Systemd(steps))


def _packages(steps: Steps) -> None:
    """Name the distribution's packages that are still missing, and what each is for."""
    from edgeagent.install.places import APT

    lists = steps.places.at("/var/lib/dpkg/info")
    missing = {name: why for name, why in APT.items() if not any(lists.glob(f"{name}*.list"))}
    if lists.is_dir() and missing:
        steps.say("For hardware of the board there are packages of the distribution:")
        for name, why in missing.items():
            steps.say(f"  {name}: {why}")
        steps.say(f"  sudo apt-get install --no-install-recommends {' '.join(missing)}")
