"""A board's system without its hardware: a whole Debian trixie with cloud-init, in which a first boot is run for real.

`Board` lays a writable folder over the image, which is made once and kept (as `image` does). What runs in it has mounts and a host
name of its own, but no systemd: a test reads in the units what systemd would do.
"""

from __future__ import annotations

__all__ = ["Board", "wheels"]

import os
from pathlib import Path

from edgeagent_provisioning import wheelhouse
from tests.rootfs import image
from tests.support.procs import Program

PYTHON = "3.13"
_PACKAGES = ("cloud-init", "netplan.io", "openssh-server", "python3-venv", "systemd")  # as Raspberry Pi OS
_SLIM = ("path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*", "force-unsafe-io")
# As Raspberry Pi OS has it; and nothing of a machine that this is not.
_CLOUD = """\
datasource_list: [NoCloud, None]
datasource: {NoCloud: {seedfrom: "file:///boot/firmware/", fs_label: null}}
growpart: {mode: "off"}
resize_rootfs: false
apt: {preserve_sources_list: true}
ssh_genkeytypes: [ed25519]
"""
# There is no systemd to be asked: what only touches files is done, the rest is taken for done.
_SYSTEMCTL = """\
#!/bin/sh
case "$1" in enable|disable) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;; esac
"""
_ENTER = """
set -e
base=$1 over=$2 boot=$3
mount -t overlay overlay -o "lowerdir=$base,upperdir=$over/upper,workdir=$over/work" "$over/root"
mount --bind "$boot" "$over/root/boot/firmware"
mount -t proc proc "$over/root/proc" 2>/dev/null || mount --bind /proc "$over/root/proc"
mount --rbind /dev "$over/root/dev"
mount --bind "$over/run" "$over/root/run"
mount -t tmpfs tmpfs "$over/root/tmp"
shift 3
exec "$@"
"""


class Board:
    """A board with its card.

    Args:
        folder: For what the system writes.
        boot: Its boot partition.
    """

    def __init__(self, folder: Path, boot: Path) -> None:
        self._base = image._kept("board", "\n".join([image.SUITE, *_PACKAGES, *_SLIM]).encode(), _make)
        self._over, self._boot = folder, boot
        for name in ("upper", "work", "root", "run"):
            (folder / name).mkdir(parents=True)
        for name, text, mode in (
            ("etc/cloud/cloud.cfg.d/99_board.cfg", _CLOUD, 0o644),
            ("etc/apt/sources.list", "", 0o644),  # the board of the tests has no mirror
            ("usr/local/sbin/systemctl", _SYSTEMCTL, 0o755),
        ):
            path = folder / "upper" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)

    def at(self, path: str) -> Path:
        """A path of the system, as far as it was written since it was made."""
        return self._over / "upper" / path.lstrip("/")

    def argv(self, command: str, *, network: bool = True, user: str = "") -> list[str]:
        """A command that runs `command` in the shell of the board, from `/`."""
        root = str(self._over / "root")
        who = [f"--userspec={user}:{user}"] if user else []
        inside = ["chroot", *who, root, "/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        alone = [] if network else ["--net"]
        places = [str(self._base), str(self._over), str(self._boot)]
        return [
            "unshare",
            "--mount",
            "--uts",
            *alone,
            "/bin/sh",
            "-c",
            _ENTER,
            "sh",
            *places,
            *inside,
            "/bin/sh",
            "-c",
            f"cd /; {command}",
        ]

    def run(self, command: str, *, network: bool = True) -> str:
        """What a command said; raises RuntimeError where it fails."""
        with Program(self.argv(command, network=network)) as program:
            program.wait_for(lambda: not program.running, f"{command} to end", deadline_s=300)
            code, said = program.stop(), program.log
        if code:
            raise RuntimeError(f"{command} failed with {code}:\n{said[-4000:]}")
        return said


def wheels(lock: str) -> Path:
    """Wheels for such a board, kept until the lock changes."""
    machine = os.uname().machine
    recipe = f"{lock}\n{machine} {PYTHON}".encode()
    return image._kept("wheels", recipe, lambda folder: _fetch(folder, machine)) / "wheels"


def _fetch(folder: Path, machine: str) -> None:
    wheelhouse.make(folder, machine=machine, pythons=[PYTHON])


def _make(root: Path) -> None:
    options = [f"--dpkgopt={option}" for option in _SLIM]
    image.run(
        [
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--components=main", *options),
            f"--include={','.join(_PACKAGES)}",
            *(image.SUITE, str(root), f"deb {image._mirror()} {image.SUITE} main"),
        ]
    )
    (root / "boot" / "firmware").mkdir(parents=True, exist_ok=True)
