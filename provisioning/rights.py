"""Root on a site of somebody else: `sudo edgeagent provision …` acts with the rights of the folder's owner.

What that user may change at any moment (paths in the registry, links in the folder) must not lead root's hand, and files that root
left there would be closed to the service. Root's own rights come back for what the person who is root has named, and for
steps on the system whose content is not the user's.

Only the effective user is another one. The real one stays root's, also in programs that are run, which could be root again by a
word: they are given the user for good (`of_children`), and no code from the working directory (`python -I`, `cwd="/"`).
"""

from __future__ import annotations

__all__ = ["as_root", "changer", "for_good", "lent", "named", "of_children", "own_tree", "root", "take_on", "was_named"]

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import edgeagent
from edgeagent.errors import EdgeAgentError

_owner: list[tuple[int, int]] = []  # user and group whose rights root has taken on; at most one
_named: set[Path] = set()
_MOST_STEPS = 4096  # of a path; the kernel follows 40 links


def take_on(folder: Path) -> None:
    """As root: from here on act as the user who can change this folder, if that is another one.

    Raises:
        EdgeAgentError: That user may not read this program.
    """
    if os.geteuid() != 0 or (found := changer(folder)) is None:
        return
    groups = os.getgroups()
    name = str(found[0])
    try:
        entry = pwd.getpwuid(found[0])
        name = entry.pw_name
        os.initgroups(entry.pw_name, entry.pw_gid)
        found = (found[0], entry.pw_gid)
    except KeyError:  # a user of another machine
        os.setgroups([])
    _lend(*found)
    if not _program_readable():
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        raise EdgeAgentError(
            f"The site in {folder} is {name}'s, and root works on it with the rights of {name} only, who may not read edgeagent in "
            f"{sys.prefix}: install it for all (`sudo edgeagent install`)."
        )
    _owner.append(found)


def for_good() -> None:
    """Give root's rights up altogether, where they are lent: a service needs them no more."""
    if _owner:
        uid, gid = _owner.pop()
        os.seteuid(0)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def lent() -> bool:
    """Whether root acts as somebody else now."""
    return bool(_owner)


def of_children() -> tuple[int | None, int | None]:
    """User and group for `subprocess.run(user=…, group=…)`: where rights are lent now, a child is to have no others."""
    return _owner[0] if _owner and os.geteuid() != 0 else (None, None)


def root() -> bool:
    """Whether this process may do what only root may: now, or by `as_root`."""
    return os.geteuid() == 0 or bool(_owner)


@contextlib.contextmanager
def as_root() -> Iterator[None]:
    """Root's own rights meanwhile, where they are lent; not for paths that the site's owner chose. One thread at a time."""
    if not _owner or os.geteuid() == 0:
        yield
        return
    os.seteuid(0)
    os.setegid(0)
    try:
        yield
    finally:
        _lend(*_owner[0])


def named(*paths: Path | None) -> None:
    """The person who is root has named these files: they may be read as root."""
    _named.update(path.absolute() for path in paths if path is not None)


def was_named(path: Path) -> bool:
    """Whether it is one of them."""
    return path.absolute() in _named


def own_tree(folder: Path, uid: int, gid: int) -> None:
    """Give a folder and all in it to a user, who may be changing it meanwhile: no link is followed, nothing outside is touched."""
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:  # a second name may lie anywhere
                os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
        os.chown(descriptor, uid, gid)


def changer(path: Path) -> tuple[int, int] | None:
    """User and group of the first thing on the way there, from the top, that is not root's: its owner could exchange the rest.

    Links are followed one by one: each on the way counts, and each folder that it lies in. What is missing ends the way.
    """
    here, ahead = Path("/"), list(reversed(path.absolute().parts))
    for _ in range(_MOST_STEPS):
        if not ahead:
            return None
        part = ahead.pop()
        step = here.parent if part == ".." else here / part
        try:
            found = step.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found.st_uid != 0:
            return found.st_uid, found.st_gid
        if stat.S_ISLNK(found.st_mode):
            ahead += reversed(step.readlink().parts)  # an absolute one begins with "/", which leads back to the top
        else:
            here = step
    raise EdgeAgentError(f"{path} leads through links without an end: give another folder.")


def _program_readable() -> bool:
    return all(os.access(str(module.__file__), os.R_OK, effective_ids=True) for module in (os, edgeagent))


def _lend(uid: int, gid: int) -> None:
    os.setegid(gid)
    os.seteuid(uid)
