"""The board as a sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.drivers.board import BoardHealth, Power
from edgeagent.drivers.conformance import assert_device_conforms
from edgeagent_devices import system
from edgeagent_devices.system import System, ticks

HEALTH = BoardHealth(
    memory_total_bytes=1_000,
    memory_available_bytes=250,
    temperature_c=61.5,
    power=Power(undervoltage_now=False, undervoltage_since_boot=True),
    disk_free_bytes=1,
    disk_total_bytes=8,
)


def test_on_this_machine() -> None:
    made = System("board", System.Options())
    made.open()
    values: Any = made.read()
    assert values.keys() <= made.readings.keys()
    assert 0 <= values["memory"] <= 100 and 0 <= values["disk"] <= 100
    made.close()


def test_conforms() -> None:
    assert_device_conforms(System, {})


def test_what_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(system, "_STAT", stat)
    made: Any = System("board", System.Options(hot_c=70))
    made._look = lambda: HEALTH
    stat.write_text("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
    made.open()
    stat.write_text("cpu  150 0 125 1025 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
    told = {"temperature": 61.5, "memory": 25.0, "disk": 12.5, "undervoltage": False, "undervoltage_since_boot": True}
    assert made.read() == {"cpu": 25.0, **told}
    assert made.read() == told, "no time has passed"
    assert made.readings["temperature"].warn_above == 70
    stat.unlink()
    assert made.read() == told


@given(st.text(max_size=100))
def test_any_line(line: str) -> None:
    found = ticks(line)
    assert found is None or 0 <= found[0] <= found[1]
