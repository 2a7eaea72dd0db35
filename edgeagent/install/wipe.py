"""After a board has joined its site: no claim stays on its card, neither where it was laid nor where cloud-init has copied it."""

from __future__ import annotations

__all__ = ["shred", "wipe_claim"]

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps

_MAX_BYTES = 8 << 20
_BOOT = ("/boot/firmware", "/boot")
_ON_BOOT = ("user-data", "firstrun.sh", "edgeagent/claim.json")
# cloud-init's: user data as it came, as it was read, and in a pickle of everything; all of it is made anew from the card.
_CLOUD = ("/var/lib/cloud", "/run/cloud-init", "/var/log")
_CLOUD_NAMES = re.compile(
    r"user-data\.txt.*|vendor-data.*|cloud-config\.txt|obj\.pkl|instance-data.*\.json|combined-cloud-config\.json|cloud-init.*\.log.*|"
    r"runcmd|part-\d+|\d+.*"
)
_EMPTY_USER_DATA = "#cloud-config\n# What stood here was used at the first boot, and wiped.\n{}\n"
_SECRET = re.compile(rb"\b([0-9a-f]{16})\.([A-Za-z0-9_-]{22})(?![A-Za-z0-9_-])")


def wipe_claim(steps: Steps, claim: str) -> list[Path]:
    """Remove the claim from every place where a first boot leaves it; returns those where it was.

    What lies on flash may outlive its removal: that the token works once, and has, is what protects it. The Wi-Fi key stays.

    Args:
        steps: The system.
        claim: The claim's text, or the token alone.

    Raises:
        EdgeAgentError: `claim` holds no token.
    """
    found = _SECRET.search(claim.encode())
    if not found:
        raise EdgeAgentError("This claim holds no token: nothing was wiped.")
    secret, places = found[2], steps.places
    wiped = []
    for path in _places(places):
        if not _holds(path, secret):
            continue
        wiped.append(path)
        if path.name == "user-data":
            # An empty one stays: without any, cloud-init takes the board for a new one, and makes it new host keys.
            steps.write(path, _EMPTY_USER_DATA, 0o600)
        elif path.suffix == ".log" or ".log." in path.name:
            if not steps.dry_run:
                path.write_bytes(path.read_bytes().replace(secret, b"*" * len(secret)))
        else:
            shred(steps, path)
    if not steps.dry_run:
        os.sync()
    return wiped


def shred(steps: Steps, path: Path) -> None:
    """Overwrite a file and remove it, if it is there."""
    if path.is_file() and not path.is_symlink() and not steps.dry_run:
        _overwrite(path)
    steps.remove(path)


def _places(places: Places) -> Iterator[Path]:
    yield places.etc / "claim.json"
    for boot in _BOOT:
        for name in _ON_BOOT:
            yield places.at(boot) / name
    for folder in _CLOUD:
        base = places.at(folder)
        paths = base.glob("cloud-init*") if folder == "/var/log" else base.rglob("*")
        yield from sorted(path for path in paths if _CLOUD_NAMES.fullmatch(path.name))


def _holds(path: Path, secret: bytes) -> bool:
    try:
        info = path.lstat()
        return stat.S_ISREG(info.st_mode) and info.st_size <= _MAX_BYTES and secret in path.read_bytes()
    except OSError:
        return False


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
