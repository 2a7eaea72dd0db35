"""Fetches a release that the site ordered and lays it where root takes it (`edgeagent.install.ordered`), who believes the seal."""

from __future__ import annotations

__all__ = ["fetch", "laid", "upgraded"]

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from edgeagent.enrol import keys
from edgeagent.errors import PeerError
from edgeagent.install.places import Places
from edgeagent.wire.orders import Upgrade

_SILENT_S = 30.0
_WITHIN_S = 3_000  # less than the site waits for an answer
_CHUNK = 1 << 18


def fetch(order: Upgrade, envelope: str, places: Places, sig: Mapping[str, str], *, root: Path | None = None) -> None:
    """Download the archive, check its size and hash, and lay it ready; the envelope last, since it starts root's work. Blocks.

    Args:
        order: What is wanted.
        envelope: As the site sealed it.
        places: Of the system.
        sig: By which the site signs its orders; root believes the one that it has pinned.
        root: The site's root certificate, for an archive at the site's own service.

    Raises:
        PeerError: 501 this agent was not installed so that it could be, 502 the archive cannot be had, 507 there is no room.
    """
    if not places.signers.is_file():
        raise PeerError(
            501, "This agent cannot be upgraded from afar: it was not installed by `edgeagent install`, or no site is pinned."
        )
    if _pinned(places) != sig:
        raise PeerError(
            501,
            "Another site may order upgrades of this board, as before a transfer: `sudo edgeagent upgrade --pin` lets this one.",
        )
    folder, archive = places.orders, places.orders / "archive.tar"
    part = folder / ".archive"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "order").unlink(missing_ok=True)
        if shutil.disk_usage(folder).free < 4 * order.size:
            raise PeerError(507, f"There is too little room on this board for a release of {order.size // 1_000_000} MB.")
        _download(order, part, root)
        os.replace(part, archive)
        keys.write(folder / "order", envelope)
    except OSError as error:
        raise PeerError(502, f"The release could not be fetched: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def laid(places: Places) -> bool:
    """Whether an order lies there that root has not dealt with."""
    return (places.orders / "order").exists()


def upgraded(places: Places) -> tuple[int, str]:
    """The number of the last order that root has dealt with, and what went wrong, "" where nothing did."""
    try:
        told = json.loads((places.home / "ordered.json").read_bytes())
        return int(told["number"]), str(told["problem"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def _pinned(places: Places) -> Any:
    try:
        return json.loads(places.signers.read_bytes())["sig"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _download(order: Upgrade, path: Path, root: Path | None) -> None:
    context = ssl.create_default_context()
    if root is not None:
        context.load_verify_locations(root)
    digest, left, end = hashlib.sha256(), order.size, time.monotonic() + _WITHIN_S
    try:
        # The pattern of `Upgrade.url` lets http and https through, nothing else; the hash is what counts.
        with urllib.request.urlopen(order.url, timeout=_SILENT_S, context=context) as answer, path.open("wb") as file:
            while data := answer.read1(_CHUNK):
                left -= len(data)
                if time.monotonic() > end:
                    raise PeerError(504, f"The release did not come within {_WITHIN_S // 60} minutes.")
                if left < 0:
                    break
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        error.close()
        raise PeerError(502, f"The release could not be fetched: its server says {error.code}.") from None
    except (HTTPException, ValueError) as error:
        raise PeerError(502, f"The release could not be fetched: {error}") from None
    if left or digest.hexdigest() != order.sha256:
        raise PeerError(502, "What lies at the release's address is not what the site has ordered (its size or hash differs).")
