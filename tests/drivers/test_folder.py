"""The owner's own drivers: what is taken from a folder, and what is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.drivers import Camera, DeviceFault, Sensor, registry
from edgeagent.drivers import folder as own_files

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from collections.abc import Mapping
from edgeagent.drivers import Reading, Readings, Sensor

class _Base(Sensor):
    def open(self) -> None: ...
    def close(self) -> None: ...
    def read(self) -> Readings: return {}

@dataclass
class Pin:
    number: int

class Lamp(_Base):
    summary = "my lamp"
    @property
    def readings(self) -> Mapping[str, Reading]: return {"pin": Reading()}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "drivers"
    made.mkdir(mode=0o755)
    made.chmod(0o755)
    before = set(sys.modules)
    yield made
    for name in set(sys.modules) - before:
        if name.startswith("edgeagent_own_"):
            del sys.modules[name]


def put(folder: Path, name: str, text: str, mode: int = 0o644) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def fault(name: str, folder: Path) -> str:
    with pytest.raises(DeviceFault) as caught:
        registry.load(name, folder)
    assert not caught.value.retry
    return caught.value.message


def test_a_file_is_a_driver_named_after_it(folder: Path) -> None:
    put(folder, "my_lamp.py", GOOD)
    put(folder, "test_my_lamp.py", "raise RuntimeError")
    put(folder, "_helper.py", "raise RuntimeError")
    put(folder, "notes.txt", "")
    path_before = list(sys.path)
    assert set(registry.names(folder)) - set(registry.names()) == {"my-lamp"}
    lamp = registry.load("my-lamp", folder)
    assert issubclass(lamp, Sensor) and lamp.summary == "my lamp"
    assert registry.load("my-lamp", folder) is lamp
    line = next(line for line in registry.summaries(folder) if line.name == "my-lamp")
    assert (line.kind, line.package, line.problem) == ("sensor", str(folder / "my_lamp.py"), "")
    assert sys.path == path_before
    assert sorted(os.listdir(folder)) == ["_helper.py", "my_lamp.py", "notes.txt", "test_my_lamp.py"]  # no __pycache__


def test_a_changed_file_is_loaded_anew(folder: Path) -> None:
    put(folder, "my_lamp.py", GOOD)
    first = registry.load("my-lamp", folder)
    put(folder, "my_lamp.py", GOOD.replace("my lamp", "a brighter lamp"))
    second = registry.load("my-lamp", folder)
    assert (first.summary, second.summary) == ("my lamp", "a brighter lamp")


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_folder_where_others_may_write(folder: Path, mode: int) -> None:
    put(folder, "my_lamp.py", GOOD)
    folder.chmod(mode)
    assert "may be written to by others" in fault("my-lamp", folder)
    assert registry.names(folder) == registry.names()


def test_what_leads_to_the_folder_counts(folder: Path) -> None:
    put(folder, "my_lamp.py", GOOD)
    folder.parent.chmod(0o777)
    assert f"since {folder.parent} may be written to by others" in fault("my-lamp", folder)
    folder.parent.chmod(0o1777)  # as the directory of temporary files: nobody can replace what is another's
    assert registry.load("my-lamp", folder).summary == "my lamp"
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert registry.load("my-lamp", link).summary == "my lamp"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_to(folder: Path, mode: int) -> None:
    put(folder, "my_lamp.py", GOOD, mode)
    assert "my_lamp.py may be written to by others" in fault("my-lamp", folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_somebody_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder, "my_lamp.py", GOOD)
    os.chown(path, 1234, -1)
    assert "belongs to another user" in fault("my-lamp", folder)
    os.chown(path, 0, -1)
    os.chown(folder, 1234, -1)
    assert "belongs to another user" in fault("my-lamp", folder)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)  # as if the agent ran as that user
    assert own_files.refusal(folder) == ""


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "my_lamp.py").symlink_to(put(tmp_path, "elsewhere.py", GOOD))
    assert "is a link; copy the file" in fault("my-lamp", folder)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert "cannot be used: No such file" in fault("my-lamp", tmp_path / "missing")
    assert "is no directory" in fault("my-lamp", put(tmp_path, "file", ""))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\nimport no_such_library", "line 2: ModuleNotFoundError: No module named 'no_such_library'"),
        ("def f(:\n", "line 1: SyntaxError"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        ("x = 1", "defines no driver"),
        ("from edgeagent.drivers import Sensor", "defines no driver"),
        (GOOD + "\nclass Other(_Base): ...", "defines several drivers (Lamp, Other)"),
        (
            "from edgeagent.drivers import Actuator\nclass A(Actuator):\n    def open(self): ...\n    def close(self): ...",
            "no `stop()`",
        ),
        ("from edgeagent.drivers import Sensor\nclass A(Sensor): ...", "lacks `close` and `open` and `read` and `readings`"),
        ("\0", "cannot be loaded"),
        ("#" * 1_100_000, "larger than 1000 kB"),
    ],
)
def test_a_broken_file_names_itself_and_spares_the_others(folder: Path, text: str, sentence: str) -> None:
    put(folder, "my_lamp.py", GOOD)
    put(folder, "broken.py", text)
    said = fault("broken", folder)
    assert str(folder / "broken.py") in said and sentence in said
    problems = {line.name: line.problem for line in registry.summaries(folder)}
    assert problems["broken"] == said and problems["my-lamp"] == ""
    assert "edgeagent_own_broken" not in sys.modules or "defines" in said or "lacks" in said or "stop()" in said


def test_names(folder: Path) -> None:
    put(folder, "My Lamp.py", GOOD)
    assert "is named after its file" in fault("my lamp", folder)
    put(folder, "test_pattern.py", GOOD)  # a test, by its name
    put(folder, "file.py", GOOD)
    assert "of edgeagent already; give" in fault("file", folder)
    with pytest.raises(DeviceFault, match="did you mean `fil"):
        registry.load("filee", folder)


def test_a_camera_may_be_ones_own_too(folder: Path) -> None:
    text = """
from edgeagent.drivers import Camera, CameraIO, Capabilities
class Eye(Camera):
    @property
    def capabilities(self): return Capabilities()
    def run(self, io): ...
"""
    put(folder, "eye.py", text)
    put(folder, "my_lamp.py", GOOD)
    assert issubclass(registry.load_camera("eye", folder), Camera)
    assert issubclass(registry.load_device("my-lamp", folder), Sensor)
    with pytest.raises(DeviceFault, match="`my-lamp` is no camera but a sensor: write it under `devices:`"):
        registry.load_camera("my-lamp", folder)
    with pytest.raises(DeviceFault, match="`eye` is a camera: write it under `cameras:`"):
        registry.load_device("eye", folder)
