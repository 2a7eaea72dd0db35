"""The benches run and say what they should; what they measure is for `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.report import Goal, Report, percentile
from tests.support.components import require

ROOT = Path(__file__).resolve().parents[2]


def test_a_goal_is_judged_and_an_unknown_figure_is_not() -> None:
    report = Report("x", "Title", rows=[{"a": 1, "b": 0.1234}, {"a": 200.4}])
    report.goals = [Goal("small", 1.0, 2.0), Goal("large", 3.0, 2.0), Goal("unknown", None, 2.0)]
    report.goals += [Goal("enough", 3.0, 2.0, at_least=True), Goal("too little", 1.0, 2.0, at_least=True)]
    assert [goal.met for goal in report.goals] == [True, False, None, True, False]
    assert report.table().splitlines() == [
        "== Title",
        "  a      b",
        "  1  0.123",
        "200      –",
        "-- small: 1  (at most 2): met",
        "-- large: 3  (at most 2): NOT met",
        "-- unknown: –  (at most 2): not measured",
        "-- enough: 3  (at least 2): met",
        "-- too little: 1  (at least 2): NOT met",
    ]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.95, 10), (1.0, 10), (0.1, 1), (0.11, 2)])
def test_percentile(share: float, value: float) -> None:
    assert percentile(range(1, 11), share) == value


@pytest.mark.e2e
@pytest.mark.timeout(580)
def test_a_quick_run_writes_what_others_can_compare(tmp_path: Path) -> None:
    for program in ("go", "ffmpeg", "mosquitto", "chromium"):
        require(program)
    command = [sys.executable, "-m", "tests.bench", "--quick", "--out", str(tmp_path), "sender", "footprint", "glass"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(found) == {"sender", "footprint", "glass"}
    for report in found.values():
        assert report["quick"] is True
        assert {"cores", "cpu", "kernel", "python", "load"} == set(report["machine"])
        assert all(set(goal) == {"name", "value", "limit", "unit", "at_least", "met"} for goal in report["goals"])
        assert report["title"] in done.stdout
    rows = {(row["sender"], row["viewers"]): row for row in found["sender"]["rows"]}
    assert {("edgeagent", 1), ("edgeagent", 4), ("aiortc", 1), ("aiortc", 4)} <= set(rows)
    assert all(row["µs/packet"] > 0 and row["fps"] > 0 and row["RSS MB"] > 1 for row in rows.values())
    assert [row["camera"] for row in found["footprint"]["rows"]] == ["test pattern 720p30", "clip 360p30"]
    assert found["glass"]["rows"][0]["median"] > 0


@pytest.mark.e2e
@pytest.mark.timeout(580)
def test_a_small_fleet_enrols_and_comes_back(tmp_path: Path) -> None:
    require("mosquitto")
    command = [sys.executable, "-m", "tests.bench", "--quick", "--out", str(tmp_path), "fleet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "fleet.json").read_text())
    enrolled = {row["enrolled by"]: row["boards"] for row in report["rows"] if "enrolled by" in row}
    assert enrolled["mqtt"] >= 4 and sum(enrolled.values()) == 20  # who cannot reach the service in time takes the broker
    assert [row["back"] for row in report["rows"] if "back" in row] == [20]
    counted = {goal["name"]: goal["value"] for goal in report["goals"] if goal["unit"] != "s"}
    assert counted.pop("connected boards after that") == counted.pop("boards that a newcomer learns of") == 20
    assert set(counted.values()) == {0.0}
