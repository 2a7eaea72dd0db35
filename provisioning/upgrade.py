"""A release for boards: a wheelhouse as one archive in the site's folder, which `provision serve` gives to who knows its hash."""

from __future__ import annotations

__all__ = ["FOLDER", "Archive", "archive", "order_for", "url_of"]

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import wheelhouse
from edgeagent_provisioning.site import Site

FOLDER = "releases"
"""Below the site's folder: `<sha256>.tar`."""
_KEPT = 3
_VERSION = re.compile(r"^edgeagent==([0-9][0-9A-Za-z.+!_-]{0,63})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Archive:
    """A release to be fetched.

    Attributes:
        path: The file.
        release: Version of the agent in it.
        sha256: Of the file, hex.
        size: Of the file, bytes.
    """

    path: Path
    release: str
    sha256: str
    size: int


def archive(site: Site, folder: Path) -> Archive:
    """Pack a wheelhouse (`provision wheelhouse`) for boards, and remove older archives.

    Raises:
        EdgeAgentError: It is no wheelhouse.
    """
    lock = folder / "requirements.txt"
    found = _VERSION.search(lock.read_text("utf-8", "replace")) if lock.is_file() else None
    if found is None:
        raise EdgeAgentError(f"{folder} is no wheelhouse: make one with `edgeagent provision wheelhouse --out DIR`.")
    place = site.folder / FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    new = place / f".{secrets.token_hex(4)}"
    try:
        digest, size = wheelhouse.pack(folder, new)
        path = place / f"{digest}.tar"
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    for old in sorted(place.glob("*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink()
    return Archive(path, found[1], digest, size)


def url_of(site: Site, made: Archive, given: str = "") -> str:
    """Where boards fetch it: `given`, else at the site's service.

    Raises:
        EdgeAgentError: The site has no address.
    """
    if given:
        return given
    if not site.urls:
        raise EdgeAgentError("Boards reach no service of this site: say with --url where the archive lies.")
    return f"{site.urls[0]}/{FOLDER}/{made.sha256}.tar"


def order_for(made: Archive, url: str, boards: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The order for each of these boards."""
    body = {"v": 1, "t": "upgrade", "release": made.release, "url": url, "sha256": made.sha256, "size": made.size}
    return {name: body for name in boards}
