"""What docs/drivers.md shows is run: the driver that it builds, its test, and the names that it mentions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

import edgeagent.drivers
from edgeagent.drivers.conformance import assert_device_conforms, driver_file
from edgeagent.drivers.skeleton import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "drivers.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def mock_pins() -> Iterator[None]:
    before = gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory = MockFactory()
    yield
    gpiozero.Device.pin_factory.reset()
    gpiozero.Device.pin_factory = before


def test_the_driver_of_the_page_works(tmp_path: Path) -> None:
    source, test, *others = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert not others, "run these, too"
    (path := tmp_path / "garden_light.py").write_text(source, encoding="utf-8")
    light = driver_file(path)
    assert_device_conforms(light, {"pin": 17})
    namespace: dict[str, Any] = {"GardenLight": light}
    exec(test, namespace)
    namespace["test_switch"]()


def test_the_page_knows_the_names() -> None:
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
    for name in ("Sensor", "Actuator", "DeviceFault", "PeerError", "command"):
        assert name in edgeagent.drivers.__all__ and name in PAGE
