"""`edgeagent provision demo`: a site with five boards on this machine, to look at."""

from __future__ import annotations

__all__ = ["add"]

import argparse

from edgeagent_provisioning.cli.common import Commands, command


def add(commands: Commands) -> None:
    """Add the command."""
    demo = command(
        commands,
        "demo",
        _demo,
        help="show all of this on one machine: a site, its broker, and five boards that need no hardware",
        description=(
            "Make a site in a temporary folder, with a Mosquitto of its own and five boards, each a real `edgeagent run` with a\n"
            "test pattern for a camera. They enrol, are ordered about, and one is revoked. Afterwards all of it stays until\n"
            "Ctrl-C, to be tried by hand; then nothing is left. Takes half a minute."
        ),
        example="edgeagent provision demo\n  edgeagent provision demo --once --json",
        json=True,
        site=False,
    )
    demo.add_argument("--once", action="store_true", help="end by itself: 0 if all went well, else 1")


def _demo(options: argparse.Namespace) -> int:
    import logging

    from edgeagent_provisioning import demo

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return demo.run(once=options.once, as_json=options.json)
