"""An upgrade that the site ordered, as root sees it: nothing is believed but the site's signature, by a key that root pinned.

The agent lays into `<state>/upgrade` `archive.tar` as it came, and last the envelope of the order (`wire/seal`): `order`.
Whoever has broken into the agent can lay there what he likes; to be obeyed it must be signed by the site, for this board, with a
higher number than any before, and name the archive's hash. The archive is a tar of a wheelhouse, whose lock holds the other hashes.
"""

from __future__ import annotations

__all__ = ["Ordered", "pin", "take"]

import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps

_ORDER_MAX_BYTES = 65_536
_ARCHIVE_MAX_BYTES = 1 << 30
_MEMBER = re.compile(r"(?:\./)?(requirements\.txt|wheels/[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl)")


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order that the site has signed.

    Attributes:
        number: Of its envelope.
        release: The version that the site named.
        wheelhouse: The archive's contents, in a folder of root's.
    """

    number: int
    release: str
    wheelhouse: Path


def pin(steps: Steps) -> bool:
    """Pin the site that this board has just enrolled at: from now on its signature, and no other, may order upgrades.

    Run once by root, after the claim was used and before the agent has seen any viewer; returns whether there was a site to pin.
    """
    places = steps.places
    path = places.state / "identity" / "site.json"
    try:
        told = json.loads(_read(path, _ORDER_MAX_BYTES))
        pinned = {"device": str(told["name"]), "sig": dict(told["sig"])}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    steps.write(places.signers, json.dumps(pinned) + "\n", 0o644)
    return True


def take(places: Places) -> Ordered:
    """Check what lies there, and unpack it where only root writes.

    Raises:
        EdgeAgentError: It is not to be obeyed, with the reason.
    """
    from edgeagent.errors import PeerError
    from edgeagent.wire import seal
    from edgeagent.wire.orders import SITE, Upgrade, decode_order

    try:
        pinned: dict[str, Any] = json.loads(places.signers.read_bytes())
    except (OSError, ValueError):
        raise EdgeAgentError(
            "No site may order upgrades of this board: `sudo edgeagent upgrade --pin` lets the one that it belongs to."
        ) from None
    try:
        enc = _read(places.state / "identity" / "enc.pem", _ORDER_MAX_BYTES)
        envelope = _read(places.orders / "order", _ORDER_MAX_BYTES)
        device: str = pinned["device"]
        opened = seal.unseal(envelope, with_enc=seal.p256(enc), from_sig=pinned["sig"], issuer=SITE, audience=device)
        order = decode_order(opened.body)
    except (OSError, ValueError, KeyError, PeerError) as error:
        raise EdgeAgentError(f"The upgrade is not one that the site has ordered: {error}") from None
    if not isinstance(order, Upgrade):
        raise EdgeAgentError("The upgrade is not one that the site has ordered: it is another order.")
    if opened.number <= _last(places):
        raise EdgeAgentError("The upgrade was ordered before, and done.")
    folder = places.home / "incoming"
    if folder.exists():  # of a run that a loss of power cut off
        shutil.rmtree(folder)
    folder.mkdir(mode=0o755)
    archive = folder / "archive.tar"
    if _copy(places.orders / "archive.tar", archive) != order.sha256:
        archive.unlink()
        raise EdgeAgentError("The archive is not the one that the site has ordered (its hash differs).")
    wheelhouse = folder / "wheelhouse"
    _unpack(archive, wheelhouse)
    archive.unlink()
    return Ordered(opened.number, order.release, wheelhouse)


def done(steps: Steps, ordered: Ordered | None, problem: str = "") -> None:
    """Remember what became of it, for the agent to tell, and clear up."""
    places = steps.places
    steps.remove(places.orders / "order")
    last = max(_last(places), ordered.number if ordered else 0)
    told = {"number": last, "release": ordered.release if ordered else "", "problem": problem}
    steps.write(places.home / "ordered.json", json.dumps(told) + "\n")
    steps.remove(places.orders / "archive.tar")
    steps.remove(places.home / "incoming")


def _last(places: Places) -> int:
    try:
        return int(json.loads((places.home / "ordered.json").read_bytes())["number"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _open(path: Path) -> int:
    """A file of the agent's: no link, no device, no pipe that never ends."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is no file")
    return fd


def _read(path: Path, limit: int) -> bytes:
    with open(_open(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"{path} is too large")
    return data


def _copy(source: Path, target: Path) -> str:
    """Copy, so that nothing changes after it was checked; returns the SHA-256, hex."""
    digest, left = hashlib.sha256(), _ARCHIVE_MAX_BYTES
    try:
        with open(_open(source), "rb") as file, target.open("wb") as out:
            while data := file.read(1 << 20):
                left -= len(data)
                if left < 0:
                    raise EdgeAgentError("The archive is larger than any release.")
                digest.update(data)
                out.write(data)
    except OSError as error:
        raise EdgeAgentError(f"The archive cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Plain files with the names of a wheelhouse, and nothing else, whatever else the tar may hold."""
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                found = _MEMBER.fullmatch(member.name)
                file = tar.extractfile(member) if found and member.isreg() else None
                if found and file:
                    with (folder / found[1]).open("wb") as out:
                        while data := file.read(1 << 20):
                            out.write(data)
    except (tarfile.TarError, OSError) as error:
        raise EdgeAgentError(f"The archive cannot be unpacked: {error}") from None
