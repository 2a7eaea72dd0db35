"""A whole Debian trixie with its systemd as the first process, in namespaces of this machine: for what only a running system shows.

The image is that of the first boot (`tests.rootfs.board`), under a folder that takes what is written. It has this machine's kernel;
mounts, processes, a loopback and control groups of its own, the latter without controllers: no limit on memory is in force.
"""

from __future__ import annotations

__all__ = ["Live", "release"]

import base64
import hashlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from edgeagent.install.wheels import digest
from tests.rootfs import board, image
from tests.support.procs import Program, wait_until

_ENTER = """
set -e
base=$1 over=$2 share=$3
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$base,upperdir=$over/upper,workdir=$over/work" "$over/root"
cd "$over/root"
mkdir -p mnt/share mnt/before
mount --bind "$share" mnt/share
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . mnt/before
umount -l /mnt/before
exec env -i container=edgeagent PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Live:
    """The system, up between `with` and its end.

    Args:
        folder: For what it writes.
        share: What it sees at /mnt/share.
    """

    def __init__(self, folder: Path, share: Path) -> None:
        base = image._kept("board", "\n".join([image.SUITE, *board._PACKAGES, *board._SLIM]).encode(), board._make)
        for name in ("upper/etc/apt", "upper/etc/systemd/system", "work", "root"):
            (folder / name).mkdir(parents=True)
        (folder / "upper/etc/apt/sources.list").write_text(f"deb {image._mirror()} {image.SUITE} main\n")
        shutil.copy("/etc/resolv.conf", folder / "upper/etc/resolv.conf")
        for unit in ("apt-daily.timer", "apt-daily-upgrade.timer"):
            (folder / "upper/etc/systemd/system" / unit).symlink_to("/dev/null")
        names = ("--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--net")
        self._program = Program(["unshare", *names, "/bin/sh", "-c", _ENTER, "sh", str(base), str(folder), str(share)])
        self._pid = 0

    def __enter__(self) -> Self:
        program = self._program.__enter__()
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        program.wait_for(lambda: children.read_text().strip(), "its first process")
        self._pid = int(children.read_text())
        wait_until(lambda: Path(f"/proc/{self._pid}/comm").read_text() == "systemd\n", "systemd")
        wait_until(lambda: self.run("systemctl is-system-running")[1].strip() in ("running", "degraded"), "the system to be up")
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, 9)  # of a first process that ends, the kernel ends all others
        self._program.__exit__(None, None, None)

    def run(self, command: str, *, timeout_s: float = 600.0, online: bool = False) -> tuple[int, str]:
        """A command of root's in its shell, `online` with this machine's network; exit code, and what was said."""
        names = ("--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd", *(() if online else ("--net",)))
        enter = ["nsenter", f"--target={self._pid}", *names]
        argv = [*enter, "/usr/bin/env", "-i", _PATH, "HOME=/srv", "/bin/sh", "-c", command]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, done.stdout

    def done(self, command: str, *, online: bool = False) -> str:
        """What a command said; it must have worked."""
        code, said = self.run(command, online=online)
        assert code == 0, f"{command} ended with {code}:\n{said}\n{self.run('journalctl -n 60 --no-pager')[1]}"
        return said.strip()

    def until(self, command: str, what: str) -> None:
        """Until a command works."""
        try:
            wait_until(lambda: self.run(command)[0] == 0, what)
        except TimeoutError:
            raise AssertionError(f"{what}\n{self.run('journalctl -n 60 --no-pager')[1]}") from None


def release(house: Path, folder: Path, version: str, changes: Mapping[str, tuple[str, str]]) -> Path:
    """A wheelhouse like `house` with another version of the agent.

    Args:
        changes: By file in the wheel: a text and what stands there instead.
    """
    shutil.copytree(house, folder, copy_function=os.link)
    (own,) = (folder / "wheels").glob("edgeagent-*.whl")
    before, lock = own.name.split("-")[1], folder / "requirements.txt"
    changes = {"edgeagent/__init__.py": (before, version), **changes}
    new = own.with_name(own.name.replace(before, version, 1))
    record = ""
    with zipfile.ZipFile(own) as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as wheel:
        for entry in old.infolist():
            data = old.read(entry)
            name = entry.filename.replace(f"edgeagent-{before}.", f"edgeagent-{version}.", 1)
            if name.endswith(".dist-info/METADATA"):
                data = data.replace(f"\nVersion: {before}\n".encode(), f"\nVersion: {version}\n".encode(), 1)
            if name in changes:
                old_text, new_text = changes[name]
                assert old_text in data.decode()
                data = data.replace(old_text.encode(), new_text.encode(), 1)
            if name.endswith(".dist-info/RECORD"):
                continue
            wheel.writestr(name, data)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={hashed},{len(data)}\n"
        name = f"edgeagent-{version}.dist-info/RECORD"
        wheel.writestr(name, f"{record}{name},,\n")
    text, hashed = lock.read_text(), digest(own)
    own.unlink()
    lock.unlink()
    text = re.sub(rf"^edgeagent=={re.escape(before)}\b", f"edgeagent=={version}", text, count=1, flags=re.MULTILINE)
    lock.write_text(text.replace(hashed, digest(new)))
    return folder
