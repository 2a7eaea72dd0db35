"""The keeper with two motors on real pins (`gpio-sim`): whoever dies, the pins are low afterwards.

A pin that nobody holds carries what its resistor pulls it to. Here that is high where the successor of a dead keeper has to act,
so that only a pin that is driven low is low; as on a Pi, whose pins keep what they were told.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.vm.inside.simulated import Lines, boot_a_pi, traced, wait_until

PINS = (5, 6, 13, 19)
FORWARD = (1, 0, 1, 0)
STILL = (0, 0, 0, 0)


@pytest.fixture(scope="session")
def lines() -> Lines:
    return boot_a_pi()


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def keepers() -> list[int]:
    """All their processes, also of an agent that is dead."""
    found = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if b"edgeagent.keeper" in _read(path))
    return [pid for pid in found if not gone(pid)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def driving(lines: Lines, throttle: float = 1.0, **options: object) -> Iterator[tuple[int, int, int]]:
    """An agent that drives forward: its pid, the pids of its keeper's guard and worker. All are gone afterwards."""
    command = [sys.executable, str(Path(__file__).with_name("robot.py")), json.dumps(options), str(throttle)]
    agent = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL)
    try:
        # Pins that are driven low tell that it is the motors and not the resistors.
        wait_until(lambda: lines.values(6, 19) == (0, 0) and any(lines.values(5, 13)), "it to move")
        (guard,) = children(agent.pid)
        (worker,) = children(guard)
        yield agent.pid, guard, worker
    finally:
        agent.kill()
        agent.wait()
        wait_until(lambda: not keepers(), "its keeper to end")


@pytest.fixture
def pulled_down(lines: Lines) -> None:
    for pin in PINS:
        lines.pull(pin, "down")


@pytest.fixture
def pulled_up(lines: Lines) -> Iterator[None]:
    for pin in PINS:
        lines.pull(pin, "up")
    yield
    for pin in PINS:
        lines.pull(pin, "down")


@pytest.mark.usefixtures("pulled_down")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_agent_is_killed(number: signal.Signals, lines: Lines) -> None:
    with driving(lines, pwm=False) as (agent, _, worker), traced() as waves:
        wait_until(lambda: lines.values(*PINS) == FORWARD, "both to turn")
        cause = monotonic()
        os.kill(agent, number)
        wait_until(lambda: lines.values(*PINS) == STILL, "the motors to stop")
        wait_until(lambda: gone(worker), "the keeper to end")
        assert lines.values(*PINS) == STILL
    stops = [min(at for at, value in waves.of(pin) if not value and at > cause) for pin in (5, 13)]
    print(f"\nagent, {number.name}: driven low after {[round((at - cause) * 1e3, 1) for at in stops]} ms")


@pytest.mark.usefixtures("pulled_down")
def test_the_agent_is_halted(lines: Lines) -> None:
    with driving(lines, pwm=False) as (agent, _, _), traced() as waves:
        cause = monotonic()
        os.kill(agent, signal.SIGSTOP)
        wait_until(lambda: lines.values(*PINS) == STILL, "the motors to stop")
    stops = [min(at for at, value in waves.of(pin) if not value and at > cause) for pin in (5, 13)]
    print(f"\nagent, SIGSTOP: driven low after {[round((at - cause) * 1e3, 1) for at in stops]} ms")


@pytest.mark.usefixtures("pulled_up")
def test_the_worker_is_killed(lines: Lines) -> None:
    """Its pins fall to their resistors, high; only the successor can drive them low."""
    with driving(lines, pwm=False) as (agent, guard, worker), traced() as waves:
        wait_until(lambda: lines.values(*PINS) == FORWARD, "it to drive")
        cause = monotonic()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: gone(worker) and children(guard) not in ([], [worker]), "the successor")
        wait_until(lambda: lines.values(*PINS) == FORWARD, "it to drive again, which it does not without a stop")
        os.kill(agent, signal.SIGKILL)
    for pin in PINS:
        after = [(at, value) for at, value in waves.all_of(pin) if at > cause]
        assert after[0][1] == 0, f"the first that the successor drove on pin {pin}"
        print(f"\nworker, SIGKILL: pin {pin} driven low after {(after[0][0] - cause) * 1e3:.1f} ms")


@pytest.mark.usefixtures("pulled_down")
def test_motors_with_pwm_stop_with_the_agent(lines: Lines) -> None:
    with driving(lines, throttle=0.5) as (agent, _, worker), traced() as waves:
        wait_until(lambda: lines.value(5), "a pulse")
        cause = monotonic()
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: gone(worker), "the keeper to end")
        end = monotonic()
        assert lines.values(*PINS) == STILL
        wait_until(lambda: monotonic() > end + 0.5, "some periods more")
        assert lines.values(*PINS) == STILL
    last = max(at for pin in PINS for at, value in waves.of(pin))
    print(f"\nagent, SIGKILL, with PWM: last edge after {(last - cause) * 1e3:.1f} ms")


@pytest.mark.usefixtures("pulled_up")
def test_what_a_dead_keeper_left_is_stopped(lines: Lines, tmp_path: Path) -> None:
    """`--stop`, as the unit's ExecStopPost runs it."""
    record = {
        "t": "open",
        "devices": [{"name": "motors", "driver": "motor-pair", "options": {"left": [5, 6], "right": [13, 19], "pwm": False}}],
    }
    file = tmp_path / "keeper.json"
    file.write_text(json.dumps(record))
    assert lines.values(*PINS) == (1, 1, 1, 1)
    with traced() as waves:
        command = [sys.executable, "-m", "edgeagent.keeper", "--stop", "--record", str(file)]
        subprocess.run(command, cwd="/", check=True, timeout=60)
    assert not file.exists()
    assert [waves.all_of(pin)[-1][1] for pin in PINS] == [0, 0, 0, 0]
