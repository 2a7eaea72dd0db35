"""How the help of every command ends."""

from __future__ import annotations

__all__ = ["example"]

import argparse


def example(parser: argparse.ArgumentParser, text: str) -> None:
    """End a command's help with examples as they are typed: lines, those after the first indented by two."""
    parser.epilog, parser.formatter_class = f"example:\n  {text}", argparse.RawDescriptionHelpFormatter
