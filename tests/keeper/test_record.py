"""What is left when agent and keeper die at once is stopped by the unit's ExecStopPost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper.conftest import Bench
from tests.keeper.test_causes import gone, guard_of
from tests.support.procs import Program, wait_until

pytestmark = pytest.mark.timeout(120)


def stop(bench: Bench, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words, "-m", "edgeagent.keeper", "--stop"],
        env={**os.environ, **bench.env, "RUNTIME_DIRECTORY": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_die_at_once(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    env = {**bench.env, "RUNTIME_DIRECTORY": str(folder)}
    with Program([sys.executable, "-m", "tests.support.driving", str(bench.folder)], env=env) as agent:
        agent.wait_for(lambda: bench.moves("left") and bench.moves("right"), "both motors to move", deadline_s=60)
        pids = agent.pid, guard_of(agent), bench.worker()
        for number in signal.SIGSTOP, signal.SIGKILL:  # halted first, so that none sees another's end
            for pid in pids:
                os.kill(pid, number)
        wait_until(lambda: all(gone(pid) for pid in pids[1:]), "them to be gone")
    cause = bench.lines()[-1]["at"]
    assert bench.moves("left") and bench.moves("right")
    bench.fail("right", "open-fails")
    done = stop(bench, folder)
    assert (done.returncode, {line["device"] for line in bench.lines("stop", since=cause)}) == (1, {"left"})
    assert "right: DeviceFault: The recorder is not plugged in." in done.stderr
    assert "could not be stopped: right" in done.stderr
    bench.heal("right", "open-fails")
    assert stop(bench, folder).returncode == 0
    assert bench.lines("stop", "right", cause)
    assert list(folder.iterdir()) == []


def test_mostly_there_is_nothing_to_do(bench: Bench, tmp_path: Path) -> None:
    """Then it costs next to nothing."""
    done = stop(bench, tmp_path, "-X", "importtime")
    assert done.returncode == 0
    assert "pydantic" not in done.stderr


def test_a_record_that_cannot_be_read(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "keeper.json").write_text("{")
    done = stop(bench, tmp_path)
    assert done.returncode == 1
    assert "keeper.json cannot be read" in done.stderr
