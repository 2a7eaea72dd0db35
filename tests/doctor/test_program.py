"""Versions, the service, and the rights of its user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.board import BoardHealth
from edgeagent.doctor import program
from edgeagent.doctor.report import Level
from edgeagent.doctor.work import System

SHOWN = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0",
    "Result": "success",
}  # fmt: skip


def system(root: Path, show: dict[str, str] | None = None) -> System:
    def run(command: Sequence[str]) -> str:
        assert command[:3] == ["systemctl", "show", "edgeagent.service"]
        return "".join(f"{key}={value}\n" for key, value in (show or {}).items())

    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    return System(root, run=run, board=BoardHealth, user="pi")


@pytest.mark.parametrize(
    ("change", "running", "level", "said"),
    [
        ({}, True, Level.OK, "runs, and starts with the board"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, False, Level.NOTICE, "not installed as a service"),
        ({"ActiveState": "failed", "Result": "exit-code"}, False, Level.PROBLEM, "has failed (exit-code)"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "7"}, False, Level.PROBLEM, "7 restarts"),
        ({"NRestarts": "12"}, True, Level.NOTICE, "restarted 12 times"),
        ({"UnitFileState": "disabled"}, True, Level.NOTICE, "does not start with the board"),
        ({"ActiveState": "inactive", "SubState": "dead"}, False, Level.NOTICE, "installed, but does not run."),
        ({"ActiveState": "inactive", "SubState": "dead"}, True, Level.NOTICE, "started in another way"),
    ],
)
def test_the_service(tmp_path: Path, change: dict[str, str], running: bool, level: Level, said: str) -> None:
    (finding,) = program.look_at_service(system(tmp_path, SHOWN | change), running=running)
    assert (finding.check, finding.level) == ("service", level)
    assert said in finding.text


def test_without_systemd(tmp_path: Path) -> None:
    (finding,) = program.look_at_service(System(tmp_path, run=lambda _: "", board=BoardHealth, user="pi"), running=False)
    assert "not run by systemd" in finding.text
    (finding,) = program.look_at_service(system(tmp_path), running=False)
    assert "does not answer" in finding.text
    assert finding.level is Level.OK


@given(st.text(max_size=200))
def test_nonsense_of_systemd(text: str) -> None:
    shown = program.parse_show(text)
    assert all("\n" not in key for key in shown)


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Za-z]{1,9}", fullmatch=True), st.from_regex(r"[ -~]{0,20}", fullmatch=True)))
def test_what_systemd_shows(fields: dict[str, str]) -> None:
    assert program.parse_show("".join(f"{key}={value}\n" for key, value in fields.items())) == fields


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = system(tmp_path)
    (finding,) = program.look_at_devices(here)
    assert "no cameras, pins or buses" in finding.text
    for name in ("dev/video0", "dev/video11", "dev/media0", "dev/gpiochip0", "dev/i2c-1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (finding,) = program.look_at_devices(here)
    assert (finding.level, finding.facts["found"]) == (Level.OK, {"cameras and encoders": 3, "pins": 1, "I2C": 1})
    monkeypatch.setattr(program, "_group", lambda node: "i2c" if "i2c" in node.name else "gpio")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name not in ("i2c-1", "gpiochip0"))
    (finding,) = program.look_at_devices(here)
    assert finding.level is Level.NOTICE
    assert finding.text == "The user pi may not open what is needed for pins and what is needed for I2C."
    assert "`sudo usermod -aG gpio,i2c pi`" in finding.advice


def test_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = program.look_at_libraries()
    assert finding.level is Level.OK
    assert finding.facts["aiortc"]
    monkeypatch.setattr("edgeagent.rtc.private.broken", lambda: ["aiortc 9.9 has another RTCDtlsTransport"])
    (finding,) = program.look_at_libraries()
    assert finding.level is Level.NOTICE
    assert "aiortc 9.9" in finding.text
    assert "requirements.lock" in finding.advice
