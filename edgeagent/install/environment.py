"""`/etc/edgeagent/environment`: what the service has in its environment, for whoever reads its configuration beside it."""

from __future__ import annotations

__all__ = ["of_service", "parse"]

import re
from collections.abc import Mapping
from pathlib import Path

from edgeagent.install.places import Places

_BLANK, _NEWLINE, _COMMENT = " \t\n\r", "\n\r", "#;"
_ESCAPED = '"\\`$'
"""Before these a backslash goes, between double quotes; before others it stays."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = "EDGEAGENT_"


def of_service(config: Path, variables: Mapping[str, str], places: Places) -> tuple[dict[str, str], str]:
    """The variables by which a configuration is to be read: those of the service, where it is the service's.

    Args:
        config: The file.
        variables: This process's; they go before.
        places: The system.

    Returns:
        The variables; and what to do about those that this user may not read, "" where nothing is.
    """
    path = config.resolve()
    if path != places.config.resolve() and places.state.resolve() not in path.parents:
        return dict(variables), ""
    try:
        text = places.environment.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return dict(variables), ""
    except OSError as error:
        if any(name.startswith(_OWN) for name in variables):  # who gives them himself has no need of it
            return dict(variables), ""
        return dict(variables), f"Settings may stand in {places.environment}, too ({error.strerror or error}): run this with sudo."
    return {**parse(text), **variables}, ""


def parse(text: str) -> dict[str, str]:
    """The variables in the text of a file for `EnvironmentFile=`, as systemd reads it (systemd.exec(5))."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text[at] in _BLANK:
            at += 1
            continue
        end = next((place for place in range(at, len(text)) if text[place] in _NEWLINE), len(text))
        equals = text.find("=", at + 1, end)
        if text[at] in _COMMENT or equals < 0:
            at = end
        else:
            name = text[at:equals].rstrip(_BLANK)
            value, at = _value(text, equals + 1)
            if _NAME.fullmatch(name):
                found[name] = value
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins there, and where it ends: quoted pieces, then maybe a bare one, over escaped ends of lines."""
    value, quote, bare, kept = "", "", False, 0
    while at < len(text):
        char, after = text[at], text[at + 1 : at + 2]
        at += 1
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                value += after if after in _ESCAPED else "" if after == "\n" else char + after
                at += 1
            else:
                value += char
        elif char in _NEWLINE:
            break
        elif char == "\\":
            value += "" if after in _NEWLINE else after
            bare, kept, at = True, len(value), at + 1
        elif bare or char not in _BLANK:
            if not bare and char in "'\"":
                quote = char
                continue
            value, bare = value + char, True
            if char not in _BLANK:
                kept = len(value)
    return (value[:kept] if bare else value), at
