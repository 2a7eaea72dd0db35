"""A small virtual machine with a kernel of its own, for drivers of devices that this machine's kernel does not have.

QEMU without KVM runs Debian's kernel; its root is this machine's own file system, read-only, so that Python and the checkout
are the same inside. `ready()` unpacks the kernel and builds `gpio-sim` for it, which Debian leaves out, once into the user's cache
(some minutes, most of them for the source's archive of 150 MB). Packages come from the mirror that this machine's apt uses.

    python -m tests.vm.machine MODULE[,MODULE] COMMAND ...     runs a command in there
"""

from __future__ import annotations

__all__ = ["command", "exit_code", "ready"]

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.rootfs.image import _kept, _mirror, run
from tests.support.components import require

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITE = "trixie"
_SOURCES = ("drivers/gpio/gpio-sim.c", "drivers/gpio/gpiolib.h", "kernel/irq/irq_sim.c")
_EXIT = re.compile(r"^edgeagent-vm-exit (\d+)", re.MULTILINE)


def ready() -> Path:
    """The folder with Debian's kernel and its modules, made where it is missing. Needs root, mmdebstrap, kmod and xz.

    Raises:
        RuntimeError: It cannot be made.
    """
    # What runs in the machine, and how, is no part of the recipe: nobody waits again for a kernel because of these.
    recipe = "\n".join([SUITE, *_SOURCES, *map(inspect.getsource, (_make, _build))])
    return _kept("kernel", recipe.encode(), _make)


def _make(root: Path) -> None:
    # Unpacked, not installed: a chroot with Debian's own compiler, since modules want the one that made their kernel.
    packages = "linux-image-amd64,linux-headers-amd64,linux-source-6.12,gcc,libc6-dev,make,coreutils,dash,findutils,grep,mawk,sed"
    run(
        [
            *("mmdebstrap", "--variant=extract", "--components=main", f"--include={packages}"),
            *(SUITE, str(root), f"deb {_mirror()} {SUITE} main"),
        ]
    )
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    (root / "usr/bin/awk").symlink_to("mawk")
    _build(root)
    run([require("depmod"), "-b", str(root), _version(root)])
    for folder, kept in ((root, {"boot", "lib", "usr"}), (root / "usr", {"lib"}), (root / "usr/lib", {"modules"})):
        run(["rm", "-rf", *(str(path) for path in folder.iterdir() if path.name not in kept)])


def _build(root: Path) -> None:
    """`gpio-sim` and what it needs of the kernel's core, as one module."""
    (archive,) = (root / "usr/src").glob("linux-source-*.tar.xz")
    source = root / "tmp" / "gpio-sim"
    source.mkdir(parents=True)
    top = archive.name.removesuffix(".tar.xz")
    wanted = [f"{top}/{name}" for name in _SOURCES]
    run([*("tar", "-xf", str(archive), "-C", str(source), "--occurrence=1", "--strip-components=3"), *wanted])
    (source / "gpio-sim.c").rename(source / "sim.c")
    irq_sim = source / "irq_sim.c"
    # The descriptor of an interrupt is the core's own; its number does as well.
    irq_sim.write_text(irq_sim.read_text().replace("handle_simple_irq(irq_to_desc(", "generic_handle_irq((", 1))
    (source / "Makefile").write_text("obj-m := gpio-sim.o\ngpio-sim-y := sim.o irq_sim.o\n")
    version = _version(root)
    script = 'mount --rbind /dev "$1/dev"; exec chroot "$1" make -C "$2" M="$3" modules'
    run(
        [
            "unshare",
            "--mount",
            "/bin/sh",
            "-ec",
            script,
            "sh",
            str(root),
            f"/usr/src/linux-headers-{version}",
            f"/{source.relative_to(root)}",
        ]
    )
    shutil.copy(source / "gpio-sim.ko", root / "usr/lib/modules" / version)


@contextmanager
def command(modules: Sequence[str], arguments: Sequence[str]) -> Iterator[list[str]]:
    """The command that runs `arguments` in the machine, with kernel modules loaded; its output is the machine's console.

    The last line of the output is `edgeagent-vm-exit N`.
    """
    kernel = ready()
    # In there nothing can be written, and to compile the agent takes this machine half a minute, of each process anew.
    run([sys.executable, "-m", "compileall", "-q", "-j", "1", *(str(ROOT / name) for name in ("edgeagent", "devices"))])
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
            [_virtiofsd(), f"--socket-path={socket}", "-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # One processor: with two, one met the code that the kernel patches for its tracer on the other (QEMU 7.2: int3, panic).
            yield [
                *(require("qemu-system-x86_64"), "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048"),
                # Its clock counts what it computes, 2 ns an instruction: where this machine has much else to do, the other one
                # takes longer, and nothing in there falls silent, is held up or misses a deadline for that.
                *("-icount", "shift=1", "-rtc", "clock=vm"),
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
