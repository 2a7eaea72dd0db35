"""A Debian trixie beside this system, with the real libcamera and picamera2: nearly what Raspberry Pi OS has, but for the camera.

`ready()` makes it once (half a minute) and keeps it in the user's cache until its recipe changes: this file and `requirements.txt`.
Packages come from the mirror that this machine's apt uses. `argv()` is a command that runs Python in there, the checkout mounted
read-only on /src, in a mount namespace that ends with it.

    python -m tests.rootfs.image [PYTHON ARGUMENTS]     makes it, and runs Python in it
"""

from __future__ import annotations

__all__ = ["argv", "ready", "site"]

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITE, PYTHON = "trixie", "3.13.5"
# libcamera's own virtual cameras do not work in the version of trixie itself; the one of the backports is that of Raspberry Pi OS.
PACKAGES = ("python3-libcamera", "python3-minimal", "python3-prctl", "python3-numpy", "python3-av", "python3-pil")
PIN = f"Package: *libcamera*\nPin: release n={SUITE}-backports\nPin-Priority: 600\n"
# From our own lock: what drivers and their tests import.
LOCKED = (
    *("annotated-types", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection"),
    *("iniconfig", "packaging", "pluggy", "pygments", "pytest"),
)
_KEPT_S = 7 * 86_400
_FOLDERS = ("dev", "opt/more", "opt/site", "proc", "src", "sys", "tmp", "usr/share/libcamera/pipeline/virtual")
_ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
mkdir "$1/dev/shm"
for node in null zero urandom; do touch "$1/dev/$node"; mount --bind "/dev/$node" "$1/dev/$node"; done
mount -t proc proc "$1/proc" 2>/dev/null || mount --bind /proc "$1/proc"
mount --bind "$2" "$1/src"
mount -o remount,ro,bind "$1/src"
mount --bind "$2/tests/rootfs/cameras.yaml" "$1/usr/share/libcamera/pipeline/virtual/virtual.yaml"
mount -t tmpfs tmpfs "$1/tmp"
if [ -n "$3" ]; then mount --bind "$3" "$1/opt/more"; fi
root=$1
shift 3
exec /usr/sbin/chroot "$root" /usr/bin/python3 "$@"
"""


def ready() -> Path:
    """The root folder of the image, made where it is missing or of an older recipe. Needs root and mmdebstrap.

    Raises:
        RuntimeError: It cannot be made; the text ends with what the tools said.
    """
    recipe = b"".join((HERE / name).read_bytes() for name in ("image.py", "requirements.txt")) + "\n".join(_locked()).encode()
    return _kept("rootfs", recipe, _make)


def site(requirements: Path) -> Path:
    """A folder of packages for the image's Python, made and kept in the same way.

    Args:
        requirements: With hashes, and all that they need: nothing is resolved.

    Raises:
        RuntimeError: It cannot be made.
    """
    return _kept("site", requirements.read_bytes(), lambda folder: _install(requirements, folder))


def _kept(kind: str, recipe: bytes, make: Callable[[Path], None]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeagent"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"{kind}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    with (cache / f"{kind}.lock").open("w") as lock:  # several runs may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            for old in cache.glob(f"{kind}-*"):  # another checkout may be using one of them at this moment
                if old.stat().st_mtime < time.time() - _KEPT_S:
                    shutil.rmtree(old, ignore_errors=True)
            unfinished = cache / f"unfinished-{kind}"
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(root)
        os.utime(root)
    return root


def argv(root: Path, *arguments: str, site: Path | None = None) -> list[str]:
    """The command that runs Python in the image with `arguments`, and with the packages of `site`, whose bytecode is kept there."""
    folders = [f"/{path.relative_to(root)}" for name in ("blas", "lapack") for path in (root / "usr" / "lib").glob(f"*/{name}")]
    env = {
        "CI": os.environ.get("CI", ""),
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        # Debian's alternatives, which no maintainer script has set up here.
        "LD_LIBRARY_PATH": ":".join(folders),
        **({} if site else {"PYTHONDONTWRITEBYTECODE": "1"}),
        "PYTHONPATH": ("/opt/more:" if site else "") + "/opt/site:/src:/src/typings",
    }
    settings = [f"{name}={value}" for name, value in env.items()]
    places = [str(root), str(ROOT), str(site or "")]
    return ["unshare", "--mount", "env", "-i", *settings, "/bin/sh", "-c", _ENTER, "sh", *places, *arguments]


def _make(root: Path) -> None:
    # No maintainer script runs: unpacking is a quarter of the work of installing, and Python needs no more.
    run(
        [
            *("mmdebstrap", "--variant=extract", "--components=main"),
            f'--setup-hook=mkdir -p "$1/etc/apt/preferences.d" && printf {shlex.quote(PIN)} > "$1/etc/apt/preferences.d/libcamera"',
            f"--include={','.join(PACKAGES)}",
            *(SUITE, str(root)),
            *(f"deb {_mirror()} {suite} main" for suite in (SUITE, f"{SUITE}-backports")),
        ]
    )
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "usr/share/libcamera/pipeline/virtual/virtual.yaml").touch()
    wanted = root / "opt" / "requirements.txt"
    wanted.write_text("\n".join([(HERE / "requirements.txt").read_text(), *_locked()]))
    _install(wanted, root / "opt" / "site")


def _install(requirements: Path, folder: Path) -> None:
    machine = os.uname().machine
    run(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--no-compile",
            ),
            *("--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON),
            *(f"--platform=manylinux{glibc}_{machine}" for glibc in ("2014", "_2_28")),
            *("--target", str(folder), "--requirement", str(requirements)),
        ]
    )


def _mirror() -> str:
    """Where this machine's apt gets Debian from."""
    found: list[str] = []
    for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        found += re.findall(r"^URIs:\s*(\S+)", path.read_text(), re.MULTILINE)
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]:
        if path.exists():
            found += re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", path.read_text(), re.MULTILINE)
    mirror = next((uri for uri in found if "security" not in uri), None)
    if mirror is None:
        raise RuntimeError("apt's sources name no mirror of Debian")
    return mirror


def _locked() -> list[str]:
    """The lines of our lock for `LOCKED`, hashes and all, without conditions."""
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements-dev.lock").read_text())
    names = {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks}
    return [re.sub(r"(==[^ ;]+)\s*;[^\\\n]*", r"\1 ", names[name]) for name in LOCKED]


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        # Addresses of mirrors stay out of reports.
        tail = re.sub(r"https?://\S+", "(address)", done.stdout)[-3000:]
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{tail}")


if __name__ == "__main__":
    command = argv(ready(), *sys.argv[1:])
    os.execvp(command[0], command)
