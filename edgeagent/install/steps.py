"""What changes the system: every change goes through here, so that `--dry-run` can tell it instead."""

from __future__ import annotations

__all__ = ["Steps"]

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeagent import files
from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import Places

_TAIL = 2000


class Steps:
    """Changes a system, or says what it would change.

    Args:
        places: The system.
        dry_run: Only say.
        say: Takes a line for the person who installs.
    """

    def __init__(self, places: Places, *, dry_run: bool = False, say: Callable[[str], None] = print) -> None:
        self.places = places
        self.dry_run = dry_run
        self.say = say

    def run(self, argv: Sequence[str], *, user: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 1800) -> str:
        """Run a program to its end; returns its output.

        Args:
            argv: The command.
            user: Run it as this user and with nobody's groups, where the system has that user.
            env: The whole environment; by default this process's.
            timeout_s: Seconds.

        Raises:
            EdgeAgentError: It is missing, failed, or took too long; the text ends with what it said.
        """
        shown = f"as {user}: {shlex.join(argv)}" if user else shlex.join(argv)
        if self.dry_run:
            self.say(f"run    {shown}")
            return ""
        account = self._account(user)
        try:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=None if env is None else dict(env),
                cwd="/",
                timeout=timeout_s,
                check=False,
                user=account and account.pw_uid,
                group=account and account.pw_gid,
                extra_groups=[] if account else None,
            )
        except FileNotFoundError as error:
            raise EdgeAgentError(f"The program {argv[0]} is missing; install it, then try again.") from error
        except subprocess.TimeoutExpired as error:
            raise EdgeAgentError(f"`{shown}` did not end within {timeout_s:g} s.") from error
        if done.returncode:
            raise EdgeAgentError(f"`{shown}` failed with {done.returncode}:\n{done.stdout[-_TAIL:].rstrip()}")
        return done.stdout

    def write(self, path: Path, data: str | bytes, mode: int = 0o644, owner: str = "") -> None:
        """Write a file whole or not at all, with its rights from the beginning, and its folder where it is missing."""
        if self.dry_run:
            self.say(f"write  {path} ({mode:04o}{', ' + owner if owner else ''})")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        account = self._account(owner)
        files.write(path, data, mode, (account.pw_uid, account.pw_gid) if account else None)

    def link(self, path: Path, target: str) -> None:
        """Point the link `path` to `target`, in one step."""
        if self.dry_run:
            self.say(f"link   {path} -> {target}")
            return
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(path)
        files.sync(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, a link or a whole folder, if it is there."""
        if not path.is_symlink() and not path.exists():
            return
        if self.dry_run:
            self.say(f"remove {path}")
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _account(self, user: str) -> pwd.struct_passwd | None:
        """The user's entry, where this process may become that user and there is one."""
        if not user or os.geteuid() or not self.places.live:  # another root has users of its own
            return None
        try:
            return pwd.getpwnam(user)
        except KeyError:
            return None
