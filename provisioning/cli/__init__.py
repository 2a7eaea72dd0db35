"""`edgeagent provision …`: one module for each group of commands, each with `add(commands)`. Nothing heavy is imported to parse."""

from __future__ import annotations

__all__ = ["add", "run"]

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

_MODULES = ("demo", "site", "adding", "boards", "labels", "prepare", "serve", "broker", "fleet")


def add(parser: argparse.ArgumentParser) -> None:
    """Add all commands below `edgeagent provision`."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in _MODULES:
        if Path(__file__).with_name(f"{name}.py").exists():
            importlib.import_module(f"{__name__}.{name}").add(commands)


def run(words: Sequence[str]) -> int:
    """Run another command as if it had been typed; its exit code.

    Raises:
        EdgeAgentError: As the command itself.
    """
    parser = argparse.ArgumentParser(prog="edgeagent provision")
    add(parser)
    options = parser.parse_args(words)
    code: int = options.command(options)
    return code
