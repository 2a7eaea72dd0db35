from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, registry

OWN = __name__


class Working(Camera):
    summary = "For this test"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def run(self, io: CameraIO) -> None: ...


class Unfinished(Camera):
    pass


def offer(monkeypatch: pytest.MonkeyPatch, *pairs: tuple[str, str]) -> None:
    monkeypatch.setitem(sys.modules, "drivers_of_this_test", sys.modules[OWN])
    points = [EntryPoint(name, target, registry.GROUP) for name, target in pairs]
    monkeypatch.setattr(registry, "_entry_points", lambda: points)


def test_our_own_drivers_are_installed_and_load() -> None:
    ours = {line.name: line for line in registry.summaries() if line.package == "edgeagent"}
    assert {"file", "rtsp", "test-pattern"} <= ours.keys() <= set(registry.names())
    assert all(line.summary and not line.problem for line in ours.values())
    assert issubclass(registry.load("test-pattern"), Camera)


def test_names_import_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("b", "no_such_module:X"), ("a", "drivers_of_this_test:Working"))
    assert registry.names() == ["a", "b"]


def test_an_unknown_name_is_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("test-pattern", "drivers_of_this_test:Working"))
    with pytest.raises(DeviceFault, match="did you mean `test-pattern`"):
        registry.load("testpattern")
    with pytest.raises(DeviceFault, match="installed are test-pattern"):
        registry.load("xyz")


def test_two_packages_for_one_name_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("a", "drivers_of_this_test:Working"), ("a", "elsewhere:Working"))
    with pytest.raises(DeviceFault, match="uninstall one"):
        registry.load("a")


def test_one_package_seen_twice_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("a", "drivers_of_this_test:Working"), ("a", "drivers_of_this_test:Working"))
    assert registry.load("a") is Working


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no_such_module:X", "cannot be loaded .ModuleNotFoundError"),
        ("drivers_of_this_test:Nothing", "cannot be loaded .AttributeError"),
        ("drivers_of_this_test:OWN", "is not a complete"),
        ("drivers_of_this_test:Unfinished", "is not a complete"),
    ],
)
def test_a_broken_plug_in_is_a_sentence(monkeypatch: pytest.MonkeyPatch, target: str, sentence: str) -> None:
    offer(monkeypatch, ("broken", target), ("fine", "drivers_of_this_test:Working"))
    with pytest.raises(DeviceFault, match=sentence) as caught:
        registry.load("broken")
    assert not caught.value.retry
    broken, fine = registry.summaries()
    assert (broken.name, broken.summary) == ("broken", "")
    assert broken.problem == caught.value.message
    assert (fine.summary, fine.problem) == ("For this test", "")
