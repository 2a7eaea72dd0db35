"""Each cause for real, in real processes: whatever dies, hangs or falls silent, what moves is stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.keeper.conftest import Bench
from tests.support.procs import Program, wait_until

pytestmark = pytest.mark.timeout(120)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def driving(bench: Bench, *words: str) -> Iterator[Program]:
    """An agent that drives both motors; afterwards no process of its keeper is left, whatever was done to it."""
    pids: set[int] = set()
    with Program([sys.executable, "-m", "tests.support.driving", str(bench.folder), *words], env=bench.env) as agent:
        agent.wait_for(lambda: bench.moves("left") and bench.moves("right"), "both motors to move", deadline_s=60)
        yield agent
        agent.stop()
        pids = {line["pid"] for line in bench.lines()}
    wait_until(lambda: all(gone(pid) for pid in pids), "the keeper's processes to end")


def stopped_after(bench: Bench, cause: float) -> None:
    """Wait until both motors were stopped after the cause, and moved no more by anything that was sent before."""
    for device in "left", "right":
        wait_until(lambda device=device: bench.lines("stop", device, cause), f"{device} to be stopped")  # type: ignore[misc]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_the_agent(bench: Bench, number: signal.Signals) -> None:
    """Killed, halted, ended: the end of input, or the set-points' deadline."""
    with driving(bench) as agent:
        cause = time.monotonic()
        os.kill(agent.pid, number)
        try:
            stopped_after(bench, cause)
            assert not bench.moves()
        finally:
            if number is signal.SIGSTOP:
                os.kill(agent.pid, signal.SIGCONT)


def test_a_loop_that_is_held_up_with_set_points_that_live_long(bench: Bench) -> None:
    """Only the missing sign of life tells."""
    with driving(bench, "life=2", "for=1", "block=3") as agent:
        cause = time.monotonic()  # what stops it may come before this process has read the next
        agent.wait_for(lambda: '"silent"' in agent.log, "the loop to be held up")
        stopped_after(bench, cause)
        assert not bench.moves()
        agent.wait_for(lambda: '"why": "silence"' in agent.log, "the agent to be told, when its loop turns again")


def test_the_worker_is_killed(bench: Bench) -> None:
    """Its successor opens and stops everything; what was on its way to the dead one moves nothing."""
    with driving(bench) as agent:
        before, cause = bench.worker(), time.monotonic()
        os.kill(before, signal.SIGKILL)
        stopped_after(bench, cause)
        first = next(line for line in bench.lines(since=cause) if line["pid"] != before)
        assert first["what"] == "open"
        agent.wait_for(lambda: agent.log.count('"alive": true') == 2, "the agent to be told")
        agent.wait_for(bench.moves, "it to move again")
        assert "ended by signal 9" in agent.log


def test_the_guard_is_killed(bench: Bench) -> None:
    with driving(bench) as agent:
        guard, cause = guard_of(agent), time.monotonic()
        os.kill(guard, signal.SIGKILL)
        stopped_after(bench, cause)
        assert bench.lines("close", since=cause)
        agent.wait_for(lambda: agent.log.count('"alive": true') == 2, "the agent to start another", deadline_s=60)
        agent.wait_for(bench.moves, "it to move again")


def test_both_are_killed(bench: Bench) -> None:
    with driving(bench) as agent:
        cause = time.monotonic()
        os.kill(guard_of(agent), signal.SIGKILL)
        os.kill(bench.worker(), signal.SIGKILL)
        stopped_after(bench, cause)
        agent.wait_for(bench.moves, "it to move again")


def test_the_worker_is_halted(bench: Bench) -> None:
    """As where code of a driver keeps the interpreter's lock: the guard kills it and forks another."""
    with driving(bench):
        before, cause = bench.worker(), time.monotonic()
        os.kill(before, signal.SIGSTOP)
        stopped_after(bench, cause)
        assert gone(before)


def test_the_system_ends_everything(bench: Bench) -> None:
    """SIGTERM to the worker, as to each process of the unit: stopped at once, gone a second later though the agent stays."""
    with driving(bench) as agent:
        before, cause = bench.worker(), time.monotonic()
        os.kill(before, signal.SIGTERM)
        stopped_after(bench, cause)
        agent.wait_for(lambda: '"why": "ending"' in agent.log, "the agent to be told")
        wait_until(lambda: gone(before), "the worker to end")


def guard_of(agent: Program) -> int:
    (child,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("fault", ["apply-fails", "apply-hangs", "keeps-the-lock"])
def test_a_device_fails(bench: Bench, fault: str) -> None:
    """One of a group: the whole group stops, also the one that hangs."""
    with driving(bench) as agent:
        cause = time.monotonic()
        bench.fail("left", fault)
        stopped_after(bench, cause)
        if fault == "apply-hangs":
            assert bench.lines("stop", "left", cause)[0]["thread"] == "rescue-left"
        if fault != "keeps-the-lock":
            agent.wait_for(lambda: '"why": "device"' in agent.log, "the agent to be told")
        bench.heal("left", fault)
        agent.wait_for(lambda: bench.moves("left") and bench.moves("right"), "both to move again", deadline_s=60)


def test_the_keepers_own_loop_is_held_up(bench: Bench) -> None:
    """Its second thread stops everything; the guard ends a worker that goes on like that."""
    with driving(bench, "life=2") as agent:
        before, cause = bench.worker(), time.monotonic()
        bench.fail("left", "holds-the-loop")
        stopped_after(bench, cause)
        assert {line["pid"] for line in bench.lines("stop", since=cause)} == {before}
        wait_until(lambda: gone(before), "the worker to be killed")
        bench.heal("left", "holds-the-loop")
        agent.wait_for(bench.moves, "its successor to move again")


def test_a_stop_that_hangs_ends_the_process(bench: Bench) -> None:
    with driving(bench, "for=0.5") as agent:
        before = bench.worker()
        bench.fail("left", "stop-hangs")
        wait_until(lambda: gone(before), "the process to end itself")
        bench.heal("left", "stop-hangs")
        agent.wait_for(lambda: "stop() has not returned" in agent.log, "it to say so")
        wait_until(lambda: [line for line in bench.lines("stop", "left") if line["pid"] != before], "its successor to stop it")


def test_a_stop_that_fails_closes_the_device(bench: Bench) -> None:
    with driving(bench, "for=0.5") as agent:
        cause = time.monotonic()
        bench.fail("left", "stop-fails")
        wait_until(lambda: bench.lines("close", "left", cause), "it to be closed")
        bench.heal("left", "stop-fails")
        agent.wait_for(lambda: bench.lines("stop", "left", cause), "it to be opened and stopped again")
