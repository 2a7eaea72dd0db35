"""Files that are whole whenever somebody reads them, also after a power cut."""

from __future__ import annotations

__all__ = ["sync", "write"]

import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes | str, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Put a file in place, whole or not at all, with `mode` whatever the umask, and on disk before this returns. Raises OSError.

    Args:
        owner: User and group, by number; by default who writes it.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if owner:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Have what was renamed in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
