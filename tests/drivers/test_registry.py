from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from edgeagent.drivers import (
    Actuator,
    Axis,
    Camera,
    CameraIO,
    Capabilities,
    DeviceFault,
    Readings,
    Sensor,
    command,
    registry,
)

OWN = __name__


class Working(Camera):
    summary = "For this test"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def run(self, io: CameraIO) -> None: ...


class Unfinished(Camera):
    pass


class Unstoppable(Actuator):
    summary = "Moves for ever"

    def open(self) -> None: ...

    def close(self) -> None: ...


class Lamp(Unstoppable):
    summary = "Can be stopped"

    def stop(self) -> None: ...


class Thermometer(Sensor):
    readings = {}  # noqa: RUF012

    def open(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Readings:
        return {}


class Hidden(Unstoppable):
    stop = None  # type: ignore[assignment]


class Waiting(Lamp):
    async def stop(self) -> None: ...  # type: ignore[override]


class Immovable(Lamp):
    @property
    def axes(self) -> dict[str, Axis]:
        return {"throttle": Axis()}


class Loose(Lamp):
    class Options:
        pass


class Vague(Lamp):
    @command()
    def switch(self, on):  # type: ignore[no-untyped-def]
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


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    here = "drivers_of_this_test:"
    offer(monkeypatch, ("a", here + "Working"), ("b", here + "Lamp"), ("c", here + "Thermometer"), ("d", here + "Unstoppable"))
    assert [line.kind for line in registry.summaries()] == ["camera", "actuator", "sensor", None]
    assert registry.cameras() == {"a": Working}


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
        ("drivers_of_this_test:OWN", "is no class; a driver is a class derived from"),
        ("drivers_of_this_test:DeviceFault", "is derived neither from `Sensor` nor from"),
        ("drivers_of_this_test:Unfinished", "is not complete: it lacks `capabilities` and `run`."),
        ("drivers_of_this_test:Unstoppable", r"has no `stop\(\)`: what moves or switches must be able to stop at once"),
        ("drivers_of_this_test:Hidden", r"has no `stop\(\)`"),
        ("drivers_of_this_test:Waiting", "has an `async def stop`; write `def stop`"),
        ("drivers_of_this_test:Immovable", r"has `axes` but no `apply\(\)`"),
        ("drivers_of_this_test:Loose", "has an `Options` that is no pydantic model"),
        ("drivers_of_this_test:Vague", "cannot be offered: the argument `on` of `switch` has no annotation"),
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
