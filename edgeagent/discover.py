"""`edgeagent discover cameras`: what the drivers find on this machine and in its network, as YAML to paste.

Standard output has nothing but YAML; what is only for the person goes to standard error. No password is ever printed.
"""

from __future__ import annotations

__all__ = ["Login", "of_this_machine", "run", "yaml_of"]

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edgeagent.drivers import Camera, DeviceFault, Found, registry

_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Login:
    """User and password of cameras that tell their streams to nobody else."""

    user: str
    password: str


def run(timeout_s: float, login: Callable[[list[str]], Login | None]) -> int:
    """Look for cameras and print them; 0 where there are some, 1 where there are none.

    Args:
        timeout_s: How long to wait for answers.
        login: Gives user and password for the cameras of these titles, None where there are none to be had.
    """
    drivers = registry.cameras()
    print("Looking for cameras …", file=sys.stderr)
    found: list[tuple[str, Found]] = []
    with ThreadPoolExecutor(max_workers=len(drivers) or 1) as pool:
        answers = {name: pool.submit(driver.discover, timeout_s) for name, driver in drivers.items()}
        for name, answer in answers.items():
            try:
                found += [(name, one) for one in answer.result()]
            except Exception as error:  # whatever one driver does, the others have found something
                print(f"{name}: {_why(error)}", file=sys.stderr)
    found = _ask(found, drivers, timeout_s, login)
    if not found:
        print(
            "No camera was found. Cameras must be switched on and in this network; ONVIF must be allowed in them.", file=sys.stderr
        )
        return 1
    print(yaml_of(found), end="")
    return 0


def of_this_machine() -> list[tuple[str, Found]]:
    """What the drivers find without asking the network; a driver that cannot look is left out."""
    found: list[tuple[str, Found]] = []
    for name, driver in registry.cameras().items():
        if not driver.networked:
            with contextlib.suppress(Exception):
                found += [(name, camera) for camera in driver.discover()]
    return found


def _ask(
    found: list[tuple[str, Found]],
    drivers: dict[str, type[Camera]],
    timeout_s: float,
    login: Callable[[list[str]], Login | None],
) -> list[tuple[str, Found]]:
    """The same, with what the cameras tell a user in place of those that tell nobody else."""
    asking = [one.title for _, one in found if one.ask]
    who = login(asking) if asking else None
    known: list[tuple[str, Found]] = []
    for name, one in found:
        if not one.ask:
            known.append((name, one))
        elif who is None:
            known.append((name, _unknown(one, "It tells its streams only to a user: run this again with --user.")))
        else:
            try:
                known += [(name, more) for more in drivers[name].ask(one, who.user, who.password, timeout_s)]
            except Exception as error:  # as in `run`
                known.append((name, _unknown(one, _why(error))))
    return known


def _why(error: Exception) -> str:
    if isinstance(error, DeviceFault):
        return error.message
    return f"Its driver failed ({type(error).__name__}). Please report it."  # no more: it was told a password


def _unknown(one: Found, remark: str) -> Found:
    return Found(one.title, one.options, (*one.remarks, remark))


def yaml_of(found: Iterable[tuple[str, Found]]) -> str:
    """A configuration of these cameras, each under its driver's name. What lacks options stands there as a comment.

    Args:
        found: Pairs of a driver's name and what it found.
    """
    lines = ["cameras:"]
    names: set[str] = set()
    some = False
    for driver, one in found:
        name = _name(one.title, names)
        lines += ["", *(f"  # {_printable(text)}" for text in (one.title, *one.remarks))]
        if not one.options:
            continue
        some = True
        lines += [f"  {name}:", f"    driver: {driver}", f"    title: {_value(one.title)}"]
        lines += [f"    {key}: {_value(value)}" for key, value in one.options.items()]
        if "username" in one.options:
            variable = f"EDGEAGENT_CAMERAS__{name.upper().replace('-', '_')}__PASSWORD"
            lines.append(f'    #password: "…"  # write it here, or better into the environment as {variable}')
    if not some:
        lines[0] = "#cameras:"
    return "\n".join(lines) + "\n"


def _name(title: str, taken: set[str]) -> str:
    words = re.sub(r"\(.*?\)", "", title)  # the address does not belong into a name
    base = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:_NAME_LENGTH].strip("-") or "camera"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _value(value: Any) -> str:
    """A value as JSON writes it, which is YAML too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=True)


def _printable(text: str) -> str:
    """Text of a device as one line of a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
