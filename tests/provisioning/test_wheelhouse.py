"""Wheelhouses: what a lock means for another machine, and pip's own work with wheels of the test's."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.install.wheels import Wheelhouse, digest
from edgeagent_provisioning import wheelhouse
from tests.install.wheels import wheelhouse as small

LOCK = """\
a==1.0 \\
    --hash=sha256:{a}
b==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:{b}
b==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{c} \\
    --hash=sha256:{d}
w==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:{d}
"""


def wheel(folder: Path, name: str, version: str, tags: str) -> str:
    """A wheel that pip can download; returns its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        archive.writestr(f"{info}/RECORD", "")
    return digest(path)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    source = tmp_path / "source"
    hashes = {
        "a": wheel(source, "a", "1.0", "py3-none-any"),
        "b": wheel(source, "b", "1.0", "cp311-cp311-manylinux_2_28_aarch64"),
        "c": wheel(source, "b", "2.0", "cp313-cp313-manylinux_2_36_aarch64"),
        "d": wheel(source, "b", "2.0", "cp313-cp313-manylinux_2_28_x86_64"),
    }
    own = small(tmp_path / "own", "1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))

    def built(folder: Path) -> Path:  # the real one is of tests/rootfs/test_first_boot.py: it takes some seconds
        (path,) = (own / "wheels").iterdir()
        return path.rename(folder / path.name) if not (folder / path.name).exists() else folder / path.name

    monkeypatch.setattr(wheelhouse, "_own_wheel", built)
    return LOCK.format(**hashes)


def test_markers_are_judged_by_the_board(tmp_path: Path, lock: str) -> None:
    """Not by the machine that this runs on, whose Python pip would ask."""
    made = wheelhouse.make(tmp_path / "out", lock=lock)
    names = sorted(path.name for path in (made.folder / "wheels").iterdir())
    assert names == [
        "a-1.0-py3-none-any.whl",
        "b-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "b-2.0-cp313-cp313-manylinux_2_36_aarch64.whl",
        "edgeagent-1.0-py3-none-any.whl",
    ]
    kept = (made.folder / "requirements.txt").read_text()
    assert "w==1.0" not in kept and kept.count("--hash=") == 4 and "python_full_version < '3.12'" in kept
    assert Wheelhouse.open(made.folder).version == made.version == "1.0"
    sums = subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=made.folder, capture_output=True, check=False)
    assert (sums.returncode, made.wheels) == (0, 4)


def test_only_our_own(tmp_path: Path, lock: str) -> None:
    made = wheelhouse.make(tmp_path / "out", lock=lock, index_only=True)
    assert [path.name for path in (made.folder / "wheels").iterdir()] == ["edgeagent-1.0-py3-none-any.whl"]
    assert lock.strip() in (made.folder / "requirements.txt").read_text()


def test_a_wheel_of_another_hash_is_refused(tmp_path: Path, lock: str) -> None:
    wheel(tmp_path / "source", "a", "1.0", "py3-none-any")
    with (tmp_path / "source" / "a-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"more")
    with pytest.raises(EdgeAgentError, match=r"(?s)pip could not download.*(?i:hash)"):
        wheelhouse.make(tmp_path / "out", lock=lock, pythons=["3.13"])
    assert not (tmp_path / "out" / "requirements.txt").exists()


def test_no_link_in_the_folder_is_followed(tmp_path: Path, lock: str) -> None:
    """It may be another user's, and the command root's."""
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.mkdir()
    (precious / "file").write_text("precious")
    out.mkdir()
    for name in ("requirements.txt", "SHA256SUMS"):
        (out / name).symlink_to(precious / "file")
    (out / "wheels.new").symlink_to(precious)
    with pytest.raises(EdgeAgentError, match=r"wheels\.new"):
        wheelhouse.make(out, lock=lock, index_only=True)
    (out / "wheels.new").unlink()
    (tmp_path / "own" / "wheels").rmdir()
    small(tmp_path / "own", "1.0")
    wheelhouse.make(out, lock=lock, index_only=True)
    assert [path.name for path in precious.iterdir()] == ["file"] and (precious / "file").read_text() == "precious"
    assert not (out / "SHA256SUMS").is_symlink() and Wheelhouse.open(out).version == "1.0"


def test_nothing_of_the_working_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may be in a folder of anybody."""
    (tmp_path / "pip.py").write_text("raise SystemExit('run by root')")
    monkeypatch.chdir(tmp_path)
    wheelhouse._pip("--version")


def test_wrong_words(tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match=r"3\.11 or 3\.13"):
        wheelhouse.make(tmp_path / "out", pythons=["3.9"])
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(EdgeAgentError, match="something else"):
        wheelhouse.make(tmp_path)
    with pytest.raises(EdgeAgentError, match="none of a lock"):
        wheelhouse.make(tmp_path / "out", lock="a>=1.0")


def test_an_archive_is_the_same_each_time(tmp_path: Path) -> None:
    house = small(tmp_path / "house", "1.0")
    first = wheelhouse.pack(house, tmp_path / "1.tar")
    (house / "requirements.txt").touch()
    assert wheelhouse.pack(house, tmp_path / "2.tar") == first == (digest(tmp_path / "1.tar"), (tmp_path / "1.tar").stat().st_size)
    with tarfile.open(tmp_path / "1.tar") as archive:
        assert archive.getnames() == ["requirements.txt", "wheels/edgeagent-1.0-py3-none-any.whl"]


def test_the_wheel_is_made_again_of_what_pip_has_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after README's installation by pip, which has neither the sources nor the wheel."""
    (own,) = (small(tmp_path / "own", "1.0") / "wheels").iterdir()
    venv = tmp_path / "venv"
    place, info = venv / "lib" / "python3" / "site-packages", "edgeagent-1.0.dist-info"
    with zipfile.ZipFile(own) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    listed = ["../../../bin/edgeagent", "edgeagent/__pycache__/app.cpython-311.pyc", f"{info}/INSTALLER", f"{info}/RECORD"]
    for name, data in before.items():
        shared = name.partition(".data/data/")[2]
        path = venv / shared if shared else place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        listed.append(f"../../../{shared}" if shared else name)
    (place / info / "RECORD").write_text("".join(f"{name},,\n" for name in dict.fromkeys(listed)))
    (place / info / "INSTALLER").write_text("pip")
    monkeypatch.setattr(sys, "prefix", str(venv))
    installed = importlib.metadata.Distribution.at(place / info)
    made = wheelhouse._repacked(installed, tmp_path)
    with zipfile.ZipFile(made) as archive:
        after = {name: archive.read(name) for name in archive.namelist()}
    assert made.name == own.name
    assert {name: data for name, data in after.items() if not name.endswith("/RECORD")} == {
        name: data for name, data in before.items() if not name.endswith("/RECORD")
    }
    assert sorted(after[f"{info}/RECORD"].splitlines()) == sorted(before[f"{info}/RECORD"].splitlines())
    (place / "edgeagent" / "__init__.py").unlink()
    with pytest.raises(EdgeAgentError, match="run this in the sources"):
        wheelhouse._repacked(installed, tmp_path)


def test_wheels_of_another_machine_are_refused_with_the_right_word(tmp_path: Path) -> None:
    house = Wheelhouse.open(small(tmp_path / "house", "1.0"))
    house.for_machine("riscv64")
    (house.folder / "wheels" / "b-1.0-cp311-cp311-manylinux_2_28_aarch64.whl").touch()
    house.for_machine("aarch64")
    with pytest.raises(EdgeAgentError, match=r"is for aarch64, and this machine is x86_64: .*--machine x86_64"):
        house.for_machine("x86_64")
    with pytest.raises(EdgeAgentError, match="this machine is armv7l: boards are aarch64"):
        house.for_machine("armv7l")


def test_our_own_lock_is_understood() -> None:
    blocks = wheelhouse._blocks(wheelhouse.lock_text())
    for python in wheelhouse.PYTHONS:
        wanted = [name for name, _ in wheelhouse._for_target(blocks, python, "aarch64")]
        assert {"aiortc", "av", "numpy", "pydantic"} <= set(wanted) and "colorama" not in wanted
        assert len(wanted) == len(set(wanted))
