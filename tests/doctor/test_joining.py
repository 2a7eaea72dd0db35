"""Whether a board that waits for a site can read a QR."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgeagent.config import Drivers, load
from edgeagent.doctor.joining import look_at_joining
from edgeagent.doctor.report import Finding

OWN, NETWORK = "front: {driver: test-pattern}", 'gate: {driver: rtsp, url: "rtsp://192.0.2.7/1"}'


def look(tmp_path: Path, camera: str, join: bool = True) -> list[Finding]:
    path = tmp_path / "edgeagent.yaml"
    path.write_text(f"join: {str(join).lower()}\ncameras:\n  {camera}\n")
    return look_at_joining(load(path, {}, Drivers.installed()))


def test_why_the_reader_is_not_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(tmp_path, OWN, join=False) == []
    (finding,) = look(tmp_path, OWN)
    assert (finding.check, finding.level) == ("join", "ok") and "front" in finding.text
    (finding,) = look(tmp_path, NETWORK)
    assert finding.level == "notice" and "No camera of this board's own" in finding.text and "edgeagent enrol" in finding.advice
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "zxingcpp" else there(name))
    (finding,) = look(tmp_path, OWN)
    assert finding.level == "notice" and "zxing-cpp" in finding.text
