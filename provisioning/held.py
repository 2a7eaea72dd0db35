"""Folders that a person names, held by their descriptors: as root, in a folder of somebody else who may exchange what is in it, or
on the way there, at any moment. Files then go where the folder is that was found, or nowhere.
"""

from __future__ import annotations

__all__ = ["Held", "write_private"]

import os
import stat
from pathlib import Path
from types import TracebackType

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import keyfiles

_MOST_STEPS = 4096  # of a path; the kernel follows 40 links
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Held:
    """A folder, made where it is missing, between `with` and its end.

    Root follows links on the way there until the first thing that is another user's, and none from there on; others follow all.

    Args:
        folder: As it was named.
        mode: Of what is made.
        make: Whether to make it; what is missing may be a stick that is not mounted.

    Raises:
        EdgeAgentError: A link of another user is on the way, or there is no such folder and none can be made.
    """

    def __init__(self, folder: Path, mode: int = 0o700, *, make: bool = True) -> None:
        self.named = folder
        self._make = make
        self._mode = mode
        self._open: dict[tuple[str, ...], int] = {}

    def __enter__(self) -> Held:
        if not self._make and not self.named.is_dir():
            raise EdgeAgentError(f"There is no folder {self.named}: make it, or mount what it is on.")
        try:
            self._open[()] = _walked(self.named, self._mode) if os.geteuid() == 0 else _plain(self.named, self._mode)
        except OSError as error:
            raise EdgeAgentError(f"{self.named} cannot be written to: {error.strerror or error}.") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    @property
    def path(self) -> Path:
        """Leads there meanwhile, whatever becomes of the name; also for programs that are run."""
        return _path(self._open[()])

    def below(self, *names: str) -> Path:
        """The same for a folder in it, made where it is missing.

        Raises:
            EdgeAgentError: There is a link, or something else.
        """
        if names not in self._open:
            above, shown = self.below(*names[:-1]), self.named.joinpath(*names)
            try:
                self._open[names] = _made(names[-1], self._open[names[:-1]], self._mode)
            except OSError as error:
                if (above / names[-1]).is_symlink():
                    raise EdgeAgentError(f"{shown} is a link, and may lead anywhere: remove it.") from None
                raise EdgeAgentError(f"{shown} cannot be written to: {error.strerror or error}.") from None
        return _path(self._open[names])


def write_private(path: Path, data: bytes | str, *, make: bool = True) -> None:
    """Put a file of mode 0600 in place, in a folder that is made where it is missing (`make`).

    Raises:
        EdgeAgentError: As `Held`, or the file cannot be written.
    """
    with Held(path.parent, make=make) as place:
        try:
            keyfiles.write_private(place.path / path.name, data)
        except OSError as error:
            raise EdgeAgentError(f"{path} cannot be written: {error.strerror or error}.") from None


def _path(descriptor: int) -> Path:
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _plain(folder: Path, mode: int) -> int:
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _made(name: str, here: int, mode: int) -> int:
    try:
        return os.open(name, _WAY, dir_fd=here)
    except FileNotFoundError:
        os.mkdir(name, mode, dir_fd=here)
        return os.open(name, _WAY, dir_fd=here)


def _walked(folder: Path, mode: int) -> int:
    """The folder's descriptor, step by step; nobody can exchange a step that is behind us."""
    here, ahead, theirs = os.open("/", _WAY), list(reversed(folder.absolute().parts[1:])), False
    try:
        for _ in range(_MOST_STEPS):
            if not ahead:
                return os.dup(here)
            name = ahead.pop()
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                found = None
            theirs = theirs or (found is not None and found.st_uid != 0)
            if found is None or not stat.S_ISLNK(found.st_mode):
                step = _made(name, here, mode)
            elif theirs:
                raise EdgeAgentError(f"{folder} leads through a link of another user: name the folder itself.")
            else:
                target = Path(os.readlink(name, dir_fd=here))
                ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
                step = os.open("/", _WAY) if target.is_absolute() else os.dup(here)
            os.close(here)
            here = step
    finally:
        os.close(here)
    raise EdgeAgentError(f"{folder} leads through links without an end: give another folder.")
