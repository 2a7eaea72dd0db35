"""Everything that a board installs, in a folder for its card: wheels for another machine than this, each with its hash in our lock.

The layout is that of `edgeagent.install.wheels`, which is where boards read it.
"""

from __future__ import annotations

__all__ = ["MACHINES", "PYTHONS", "Made", "lock_text", "make", "pack"]

import base64
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.wheels import MACHINES, digest
from edgeagent_provisioning import keyfiles, rights
from edgeagent_provisioning.held import Held

PYTHONS = {"3.11": "bookworm", "3.13": "trixie"}
"""Python versions of boards, and the release of Raspberry Pi OS (and Debian) that has each."""
_GLIBC = {"3.11": 36, "3.13": 41}
_SOURCES = Path(__file__).resolve().parents[1]
_TAIL = 2000
_NOT_OF_A_WHEEL = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # pip wrote them


@dataclass(frozen=True, slots=True)
class Made:
    """A wheelhouse that was made.

    Attributes:
        folder: Where.
        version: Of the agent in it.
        wheels: How many files.
        size: Bytes of them all.
    """

    folder: Path
    version: str
    wheels: int
    size: int


def lock_text() -> str:
    """Our lock: of the sources, or of the release that this runs from.

    Raises:
        EdgeAgentError: There is none.
    """
    for path in (_SOURCES / "requirements.lock", Path(sys.prefix) / "share" / "edgeagent" / "requirements.lock"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise EdgeAgentError(
        "The lock with the hashes, requirements.lock, is not here: run this in the sources, or from an installed release."
    )


def make(
    out: Path,
    *,
    machine: str = "aarch64",
    pythons: Sequence[str] = tuple(PYTHONS),
    index_only: bool = False,
    lock: str | None = None,
) -> Made:
    """Fill a folder.

    Args:
        out: Is made; one that is there must be a wheelhouse, or empty. It may be another user's, whom root is not to follow.
        machine: Of `MACHINES`.
        pythons: Of `PYTHONS`.
        index_only: Only our own wheel and pip's: boards then take the rest from the package index, hashes checked all the same.
        lock: Another lock than ours.

    Raises:
        EdgeAgentError: It cannot be made, with what pip said.
    """
    if machine not in MACHINES or not pythons or not set(pythons) <= set(PYTHONS):
        raise EdgeAgentError(f"Boards are {' or '.join(MACHINES)}, their Python is {' or '.join(PYTHONS)}: give one of these.")
    if importlib.util.find_spec("pip") is None:
        raise EdgeAgentError("pip is missing, which fetches the wheels: sudo apt-get install python3-pip python3-venv.")
    with Held(out, 0o755) as place, tempfile.TemporaryDirectory() as scratch:
        if any(place.path.iterdir()) and not (place.path / "requirements.txt").is_file():
            raise EdgeAgentError(f"{out} holds something else already: give another folder.")
        made = _made(Path(scratch), machine, pythons, index_only, lock_text() if lock is None else lock)
        try:
            _put(made, place)
        except OSError as error:
            raise EdgeAgentError(f"{out} cannot be written to: {error.strerror or error}.") from None
        wheels = list((made / "wheels").iterdir())
        version = _version_of(next(path for path in wheels if path.name.startswith("edgeagent-")))
        return Made(out, version, len(wheels), sum(path.stat().st_size for path in wheels))


def _made(folder: Path, machine: str, pythons: Sequence[str], index_only: bool, lock: str) -> Path:
    """Fill a folder of our own, where nobody can exchange what pip writes."""
    blocks = _blocks(lock)
    wheels = folder / "wheels"
    wheels.mkdir()
    for python in pythons:
        wanted = _for_target(blocks, python, machine)
        _download([text for name, text in wanted if not index_only or name == "pip"], python, machine, wheels)
    found = {digest(path): path for path in wheels.glob("*.whl")}
    if index_only:
        kept = [text for _, _, text in blocks]
    else:
        kept = [text for text in (_narrowed(text, found) for _, _, text in blocks) if text]
    own = _own_wheel(wheels)
    kept.append(f"edgeagent=={_version_of(own)} \\\n    --hash=sha256:{digest(own)}")
    (folder / "requirements.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    lines = [f"{digest(path)}  {path.relative_to(folder)}\n" for path in [folder / "requirements.txt", *sorted(wheels.iterdir())]]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    return folder


def _put(made: Path, place: Held) -> None:
    """Copy what was made; raises OSError. No link that lies there is followed, and nothing is read from there."""
    shutil.rmtree(place.path / "wheels.new", ignore_errors=True)  # of a try that broke off
    new = place.below("wheels.new")
    for path in sorted((made / "wheels").iterdir()):
        with (
            path.open("rb") as source,
            open(os.open(new / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)
    shutil.rmtree(place.path / "wheels", ignore_errors=True)
    (place.path / "wheels.new").rename(place.path / "wheels")
    for name in ("requirements.txt", "SHA256SUMS"):
        keyfiles.write_public(place.path / name, (made / name).read_bytes())


def fitting(folder: Path, python: str) -> list[Path]:
    """The files of a wheelhouse that a board with this Python needs, relative to it; `SHA256SUMS` is to be made anew for them."""
    tag = f"cp{python.replace('.', '')}"
    found = []
    for path in sorted((folder / "wheels").glob("*.whl")):
        tags = path.name.removesuffix(".whl").rsplit("-", 3)[1:]
        pythons = tags[0].split(".")
        if tag in pythons or "abi3" in tags[1] or any(part.startswith("py") for part in pythons):
            found.append(path.relative_to(folder))
    return [Path("requirements.txt"), *found]


def pack(folder: Path, archive: Path) -> tuple[str, int]:
    """A wheelhouse as one file, as a board's `edgeagent-upgrade.service` takes it; returns its SHA-256 (hex) and its size in bytes.

    The same wheelhouse always makes the same archive.
    """
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in [folder / "requirements.txt", *sorted((folder / "wheels").glob("*.whl"))]:
            member = tarfile.TarInfo(str(path.relative_to(folder)))
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    return digest(archive), archive.stat().st_size


def _blocks(lock: str) -> list[tuple[str, str, str]]:
    """Of each package in a lock: name, marker ("" where it is always wanted), text."""
    found = []
    for text in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        head = re.match(r"([A-Za-z0-9._-]+)==[^ ;\\]+(?: *; *([^\\\n]*[^\\\n ]))?", text)
        if head is None or "--hash=sha256:" not in text:
            raise EdgeAgentError(f"The lock holds a line that is none of a lock: {text[:60]!r}")
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        found.append((head[1], head[2] or "", "\n".join(lines)))
    return found


def _for_target(blocks: Iterable[tuple[str, str, str]], python: str, machine: str) -> list[tuple[str, str]]:
    """Name and text, without markers, of what this Python on this machine needs. pip itself would judge markers by this machine."""
    from packaging.markers import Marker

    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.5",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.5",
        "python_version": python,
        "sys_platform": "linux",
    }
    return [
        (name, re.sub(r"(==[^ ;\\]+) *;[^\\\n]*", r"\1 ", text, count=1))
        for name, marker, text in blocks
        if not marker or Marker(marker).evaluate(environment)
    ]


def _download(texts: Sequence[str], python: str, machine: str, folder: Path) -> None:
    if not texts:
        return
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, _GLIBC[python] + 1)]
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "requirements.txt"
        wanted.write_text("\n".join(texts) + "\n", encoding="utf-8")
        _pip(
            *("download", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
            *("--implementation", "cp", "--python-version", python, *platforms),
            *("--dest", str(folder), "--requirement", str(wanted)),
        )


def _own_wheel(folder: Path) -> Path:
    """Our own wheel: built from the sources, from where the release that runs keeps its own, or of the files that are installed."""
    kept = sorted((Path(sys.prefix) / "share" / "edgeagent" / "wheel").glob("edgeagent-*.whl"))
    if (_SOURCES / "pyproject.toml").is_file():
        # From a copy: building leaves folders beside the sources.
        with tempfile.TemporaryDirectory() as scratch:
            names = (
                "pyproject.toml",
                "README.md",
                "LICENSE",
                "requirements.lock",
                "edgeagent",
                "devices",
                "provisioning",
                "systemd",
            )
            for name in names:
                source, ignored = _SOURCES / name, shutil.ignore_patterns("__pycache__")
                if source.is_dir():
                    shutil.copytree(source, Path(scratch) / name, ignore=ignored)
                elif source.is_file():
                    shutil.copy(source, scratch)
            _pip("wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), scratch)
    elif kept:
        shutil.copy(kept[-1], folder)
    else:
        _repacked(importlib.metadata.distribution("edgeagent"), folder)
    return next(iter(folder.glob("edgeagent-*.whl")))


def _repacked(installed: importlib.metadata.Distribution, folder: Path) -> Path:
    """The wheel from which this was installed by pip, made again of its files (PyPA's binary distribution format).

    Raises:
        EdgeAgentError: It was installed by something else.
    """
    name = f"edgeagent-{installed.version}"
    share = Path(sys.prefix, "share", "edgeagent").resolve()
    files: dict[str, bytes] = {}
    for path in installed.files or ():
        place = Path(str(installed.locate_file(path))).resolve()
        if path.parts[0] != "..":
            if "__pycache__" not in path.parts and path.name not in _NOT_OF_A_WHEEL and place.is_file():
                files[path.as_posix()] = place.read_bytes()
        elif place.is_relative_to(share):
            files[f"{name}.data/data/share/edgeagent/{place.relative_to(share).as_posix()}"] = place.read_bytes()
    if not {"edgeagent/__init__.py", f"{name}.dist-info/WHEEL"} <= files.keys():
        raise EdgeAgentError(
            f"Our own wheel cannot be made of what is installed in {sys.prefix}: run this in the sources, or from an installed "
            "release (`sudo make install` in the sources)."
        )
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in sorted(files.items())
    ]
    record = f"{name}.dist-info/RECORD"
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in [*sorted(files.items()), (record, "".join([*lines, f"{record},,\n"]).encode())]:
            archive.writestr(zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)  # the same file each time
    return wheel


def _version_of(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def _narrowed(text: str, found: dict[str, Path]) -> str:
    """A block of the lock with the hashes of what lies in the wheelhouse only; "" where nothing of it does."""
    hashes = [value for value in re.findall(r"--hash=sha256:([0-9a-f]{64})", text) if value in found]
    return " \\\n".join([text.split("\\\n", 1)[0].rstrip(), *(f"    --hash=sha256:{value}" for value in hashes)]) if hashes else ""


def _pip(*arguments: str) -> None:
    # Its own configuration counts: a mirror, or an index of the house. Code in the working directory does not: it may be anybody's.
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "1767225600")  # wheels that are built twice are the same file
    user, group = rights.of_children()
    done = subprocess.run(
        command,
        cwd="/",
        user=user,
        group=group,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "SOURCE_DATE_EPOCH": epoch},
        check=False,
    )
    if done.returncode:
        said = re.sub(r"(https?://)[^/@\s]+@", r"\1", done.stdout)  # an index may be asked with a password
        raise EdgeAgentError(f"pip could not {arguments[0]} what is needed:\n{said[-_TAIL:].rstrip()}")
