"""A small virtual machine with a kernel of its own, for drivers of devices that this machine's kernel does not have.

QEMU without KVM runs Debian's kernel; its root is this machine's own file system, read-only, so that Python and the checkout
are the same inside. `ready()` unpacks the kernel once (15 s) into the user's cache. Packages come from the mirror that this
machine's apt uses.

    python -m tests.vm.machine MODULE[,MODULE] COMMAND ...     runs a command in there
"""

from __future__ import annotations

__all__ = ["command", "exit_code", "ready"]

import fcntl
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.rootfs.image import _mirror, run
from tests.support.components import require

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITE = "trixie"
_EXIT = re.compile(r"^edgeagent-vm-exit (\d+)", re.MULTILINE)


def ready() -> Path:
    """The folder with Debian's kernel and its modules, made where it is missing. Needs root, mmdebstrap and kmod.

    Raises:
        RuntimeError: It cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeagent"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"kernel-{SUITE}"
    with (cache / "kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            unfinished = cache / "unfinished-kernel"
            run(["rm", "-rf", str(unfinished)])
            run(
                [
                    *("mmdebstrap", "--variant=extract", "--components=main", "--include=linux-image-amd64"),
                    *(SUITE, str(unfinished), f"deb {_mirror()} {SUITE} main"),
                ]
            )
            if not (unfinished / "lib").exists():
                (unfinished / "lib").symlink_to("usr/lib")
            run([require("depmod"), "-b", str(unfinished), _version(unfinished)])
            unfinished.rename(root)
    return root


@contextmanager
def command(modules: Sequence[str], arguments: Sequence[str]) -> Iterator[list[str]]:
    """The command that runs `arguments` in the machine, with kernel modules loaded; its output is the machine's console.

    The last line of the output is `edgeagent-vm-exit N`.
    """
    kernel = ready()
    with tempfile.TemporaryDirectory(prefix="edgeagent-vm-") as folder:
        script = Path(folder) / "run.sh"
        script.write_text(f"cd {shlex.quote(str(ROOT))}\nexec {shlex.join(arguments)}\n")
        socket = Path(folder) / "fs.socket"
        settings = {
            "EA_KERNEL": str(kernel),
            "EA_MODULES": ",".join(modules),
            "EA_RUN": str(script),
        }
        append = "rootfstype=virtiofs root=root ro console=ttyS0 quiet panic=1"
        append += f" init={HERE / 'guest.sh'} " + " ".join(f"{name}={value}" for name, value in settings.items())
        shared = subprocess.Popen(
            [_virtiofsd(), f"--socket-path={socket}", "-o", "source=/", "-o", "cache=auto", "-o", "sandbox=chroot"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield [
                *(require("qemu-system-x86_64"), "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"),
                *("-object", "memory-backend-memfd,id=m,size=2048M,share=on", "-numa", "node,memdev=m"),
                *("-chardev", f"socket,id=c0,path={socket}", "-device", "vhost-user-fs-pci,chardev=c0,tag=root"),
                *("-kernel", str(kernel / "boot" / f"vmlinuz-{_version(kernel)}"), "-append", append),
                *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-net", "none"),
            ]
        finally:
            shared.terminate()
            shared.wait()


def exit_code(output: str) -> int | None:
    """What the command in the machine ended with; None where it did not come that far."""
    found = _EXIT.findall(output)
    return int(found[-1]) if found else None


def _version(root: Path) -> str:
    return next((root / "usr/lib/modules").iterdir()).name


def _virtiofsd() -> str:
    for path in ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"):
        if os.access(path, os.X_OK):
            return path
    return require("virtiofsd")


if __name__ == "__main__":
    with command(sys.argv[1].split(","), sys.argv[2:]) as argv:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace", check=False)
    print(done.stdout)
    code = exit_code(done.stdout)
    sys.exit(99 if code is None else code)
