"""A wheelhouse as it lies on a card: the lock with every hash, our own wheel, and the others or not.

requirements.txt    names, versions and hashes of everything, edgeagent itself and pip among them
wheels/*.whl        all of them, or only edgeagent's and pip's: then the rest comes from the package index
SHA256SUMS          for `sha256sum -c`: cards go bad
"""

from __future__ import annotations

__all__ = ["MACHINES", "Wheelhouse", "digest"]

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edgeagent.errors import EdgeAgentError

_LOCK_MAX_BYTES = 4 << 20
_HOW = "`edgeagent provision wheelhouse --out DIR` makes one"
MACHINES = ("aarch64", "x86_64")
"""What boards are, as `platform.machine()` says it."""
_SMALL = "boards are aarch64 (Raspberry Pi OS of 64 bit) or x86_64"


def digest(path: Path) -> str:
    """The file's SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Wheelhouse:
    """A folder to install from.

    Attributes:
        folder: Where it is.
        version: Of the agent that it holds.
        requirements: The text of the lock.
        own: The agent's wheel.
        pip: pip's wheel, or None.
    """

    folder: Path
    version: str
    requirements: str
    own: Path
    pip: Path | None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Look at a folder.

        Raises:
            EdgeAgentError: It is none, or its wheels are not those of its lock.
        """
        lock = folder / "requirements.txt"
        if not lock.is_file():
            raise EdgeAgentError(f"{folder} is no wheelhouse: it has no requirements.txt; {_HOW}.")
        if lock.stat().st_size > _LOCK_MAX_BYTES:
            raise EdgeAgentError(f"{lock} is larger than any lock: {_HOW}.")
        text = lock.read_text(encoding="utf-8", errors="replace")
        locked = re.search(r"^edgeagent==([A-Za-z0-9.+!_-]+)", text, re.MULTILINE)
        own = sorted((folder / "wheels").glob("edgeagent-*.whl"))
        if not locked or len(own) != 1:
            raise EdgeAgentError(f"{folder} holds no edgeagent, or several: {_HOW}.")
        pip = next(iter(sorted((folder / "wheels").glob("pip-*.whl"))), None)
        for wheel in (own[0], *([pip] if pip else [])):
            if f"sha256:{digest(wheel)}" not in text:
                raise EdgeAgentError(f"{wheel} is not the file that {lock} names (its hash differs): copy the wheelhouse anew.")
        return cls(folder, locked[1], text, own[0], pip)

    def for_machine(self, machine: str) -> None:
        """See that its wheels are for this kind of machine (`platform.machine()`).

        Raises:
            EdgeAgentError: They are for another.
        """
        tags = [path.name.removesuffix(".whl").rsplit("-", 1)[-1] for path in (self.folder / "wheels").glob("*.whl")]
        found = {known for known in MACHINES for tag in tags if tag.endswith(f"_{known}")}
        if found and machine not in found:
            how = (
                f"`edgeagent provision wheelhouse --machine {machine} --out DIR` makes one for it"
                if machine in MACHINES
                else _SMALL
            )
            raise EdgeAgentError(f"{self.folder} is for {' and '.join(sorted(found))}, and this machine is {machine}: {how}.")

    @property
    def slot(self) -> str:
        """A name for the release: the version and what tells two builds of it apart."""
        return f"{self.version}-{hashlib.sha256(self.requirements.encode()).hexdigest()[:8]}"

    def without(self, names: set[str]) -> str:
        """The lock without some packages."""
        blocks = re.split(r"\n(?=[A-Za-z0-9])", self.requirements)
        return "\n".join(block for block in blocks if re.split(r"[=\[ ]", block, maxsplit=1)[0] not in names)
