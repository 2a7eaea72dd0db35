"""Sensors and actuators, none of which is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeagent.config import Drivers, load
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.configured import look_at_configured
from edgeagent.doctor.report import Finding

CONFIG = """
devices:
  lamp: {driver: led, pin: 17}
  head: {driver: pan-tilt, pan: {pin: 12}, tilt: {pin: 13}}
  climate: {driver: bme280, bus: 1}
  fake: {driver: bme280, bus: fake}
  board: {driver: serial-line, port: PORT}
  garden: {driver: sim-sensor}
"""


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev of its own, without mock pins."""
    from gpiozero import Device

    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setattr("edgeagent_devices._gpio._DEV", folder)
    monkeypatch.setattr("edgeagent_devices._gpio._PIN_LIBRARIES", ("gpiozero",))  # lgpio is there on boards only
    monkeypatch.setattr("edgeagent_devices._i2c._DEV", folder)
    monkeypatch.setattr(Device, "pin_factory", None)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    return folder


def look(tmp_path: Path, dev: Path, agent: RunningAgent | None = None) -> dict[str, Finding]:
    path = tmp_path / "edgeagent.yaml"
    path.write_text(CONFIG.replace("PORT", str(dev / "ttyACM0")))
    return {f.check.removeprefix("device."): f for f in look_at_configured(load(path, {}, Drivers.installed()), agent)}


def test_what_is_missing_is_said(tmp_path: Path, dev: Path) -> None:
    found = look(tmp_path, dev)
    assert {name: finding.level for name, finding in found.items()} == {
        "lamp": "problem",
        "head": "problem",
        "climate": "problem",
        "fake": "ok",
        "board": "problem",
        "garden": "ok",
    }
    assert "no GPIO pins" in found["lamp"].text
    assert "no I²C bus 1" in found["climate"].text
    assert "is the board plugged in?" in found["board"].text


def test_what_is_there_is_not_opened(tmp_path: Path, dev: Path) -> None:
    for name in "gpiochip0", "i2c-1", "ttyACM0":
        (dev / name).write_text("whoever opens this finds no device")
    assert {finding.level for finding in look(tmp_path, dev).values()} == {"ok"}


def test_what_may_not_be_used(tmp_path: Path, dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "gpiochip0", "i2c-1", "ttyACM0":
        (dev / name).touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = look(tmp_path, dev)
    assert "in the group gpio?" in found["lamp"].text
    assert "to the group i2c" in found["climate"].text
    assert "to the group dialout" in found["board"].text


def test_the_owners_choice_of_pins(tmp_path: Path, dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    assert look(tmp_path, dev)["lamp"].level == "ok"


def test_a_driver_that_fails(tmp_path: Path, dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("edgeagent_devices.sim_sensor.SimSensor.check", fail)
    assert "its driver failed (ZeroDivisionError: oops)" in look(tmp_path, dev)["garden"].text


def test_the_running_agent_knows_better(tmp_path: Path, dev: Path) -> None:
    devices: dict[str, Any] = {
        "lamp": {"phase": "live", "text": ""},
        "head": {"phase": "starting", "text": "The device is starting."},
        "climate": {"phase": "retrying", "text": "No BME280 answers."},
    }
    found = look(tmp_path, dev, RunningAgent("", None, {"ok": True, "device": "porch", "devices": devices}))
    assert [found[name].level for name in ("lamp", "head", "climate", "board")] == ["ok", "notice", "problem", "problem"]
    assert found["climate"].text == "climate: No BME280 answers."
    assert "does not have this device" in found["board"].text
    assert look(tmp_path, dev, RunningAgent("", None, {"ok": True}))["lamp"].level == "notice"
