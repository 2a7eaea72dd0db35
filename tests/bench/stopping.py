"""From a cause to the motor's `stop()`: each cause of standstill for real, while an operator drives by the picture."""

from __future__ import annotations

__all__ = ["Cause", "Drive", "across_the_link", "agent_killed", "causes", "stops"]

import contextlib
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.bench.motor import BLOCKER, TOKEN, Motor, driven_agent
from tests.bench.operating import GROUP, Operator, ticket
from tests.bench.report import Row
from tests.bench.servers import CAMERA
from tests.support.agents import Agent
from tests.support.link import Link
from tests.support.procs import DEADLINE_S, wait_until

SPEED = 0.5
CALM_S = 0.15
"""For so long after the stop nothing may move."""


class Drive:
    """An agent, its motor and whoever drives it at the moment.

    Args:
        program: Path of `whep-count`.
    """

    def __init__(self, program: str, agent: Agent, motor: Motor, *, link: Link | None = None) -> None:
        self.program, self.agent, self.motor, self.link = program, agent, motor, link
        self._operator: Operator | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def operator(self) -> Operator:
        """Who drives; a new one where nobody does."""
        if self._operator is None:
            token = TOKEN if self.link else ticket(self.agent.base)
            prefix = self.link.on_viewer() if self.link else ()
            self._operator = self._stack.enter_context(Operator(self.program, self.agent.base, token, camera=CAMERA, prefix=prefix))
        return self._operator

    def forget(self) -> None:
        """The operator is of no more use."""
        self._stack.close()
        self._operator = None

    def go(self) -> None:
        """Have the motor turn."""
        operator = self.operator
        if not operator.group.get("lease"):
            operator.take_lease()
        end = time.monotonic() + DEADLINE_S
        while self.motor.speed != SPEED:  # what stops it once more, as on a busy machine, needs neutral once more
            if time.monotonic() > end:
                raise TimeoutError(f"the motor does not turn: {operator.group}")
            operator.arm()
            operator.drive(SPEED)
            with contextlib.suppress(TimeoutError):
                wait_until(
                    lambda: self.motor.speed == SPEED or operator.group["state"] != "armed", "the motor to turn", deadline_s=1
                )
        time.sleep(random.uniform(0.05, 0.15))  # no cause comes in step with the set-points

    @property
    def guard(self) -> int:
        """The keeper's first process."""
        children = Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split()
        (guard,) = [int(child) for child in children if b"edgeagent.keeper" in Path(f"/proc/{child}/cmdline").read_bytes()]
        return guard


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of standstill.

    Attributes:
        what: For people.
        happen: Brings it about; returns when it did, in seconds of CLOCK_MONOTONIC.
        limit_ms: What was promised; None where nothing was.
        restore: Makes driving possible again.
    """

    what: str
    happen: Callable[[Drive], float]
    limit_ms: float | None = None
    restore: Callable[[Drive], None] = lambda drive: None


def stops(drive: Drive, cause: Cause, runs: int) -> Row:
    """Cause it `runs` times; the row of the table."""
    took_ms: list[float] = []
    moved = 0
    for _ in range(runs):
        drive.go()
        at = cause.happen(drive)
        stop = drive.motor.wait_first("stop", at)
        took_ms.append((stop["at"] - at) * 1000)
        time.sleep(CALM_S)
        moved += any(line["what"] == "apply" and line["throttle"] for line in drive.motor.lines(stop["at"]))
        cause.restore(drive)
    return _row(cause, took_ms, moved)


def _row(cause: Cause, took_ms: list[float], moved: int) -> Row:
    return {
        "cause": cause.what,
        "runs": len(took_ms),
        "median ms": statistics.median(took_ms),
        "worst ms": max(took_ms),
        "limit ms": cause.limit_ms,
        "moved again": moved,
    }


# What happens


def _signal(pid: Callable[[Drive], int], number: signal.Signals) -> Callable[[Drive], float]:
    def happen(drive: Drive) -> float:
        whom, at = pid(drive), time.monotonic()
        os.kill(whom, number)
        return at

    return happen


def _halt(drive: Drive) -> float:
    at = time.monotonic()
    drive.operator.send(t="halt", group=GROUP, why="hidden")
    return at


def _emergency(drive: Drive) -> float:
    at = time.monotonic()
    drive.operator.send(t="stop")
    return at


def _reset(drive: Drive) -> None:
    wait_until(lambda: drive.operator.group["state"] == "stopped", "the emergency stop to be told")
    drive.operator.ask(t="reset")


def _fault(drive: Drive) -> float:
    began = time.monotonic()
    fault = drive.motor.fail("apply-hangs")
    stop = drive.motor.wait_first("stop", began)
    fault.unlink()
    return float(max(line["at"] for line in drive.motor.lines() if line["what"] == "apply" and line["at"] < stop["at"]))


def _block(drive: Drive) -> float:
    began = time.monotonic()
    number = drive.operator.send(t="command", device=BLOCKER, command="block", args={"seconds": 2.0})
    wait_until(lambda: drive.motor.first("blocked", began) or drive.operator.refusal(number), "the loop to be held up")
    if refusal := drive.operator.refusal(number):
        raise RuntimeError(refusal)
    return float(drive.motor.wait_first("blocked", began)["at"])


def _cut(drive: Drive) -> float:
    assert drive.link
    at = time.monotonic()
    drive.link.change(down=1)
    return at


def _mend(drive: Drive) -> None:
    assert drive.link
    drive.link.change(down=0)


def _until_disarmed(drive: Drive) -> None:
    """The operator has been told that it stands still, so that he does not take an old word for armed."""
    wait_until(lambda: drive.operator.group["state"] != "armed", "the standstill to be told")


def _continue_agent(drive: Drive) -> None:
    os.kill(drive.agent.pid, signal.SIGCONT)
    _until_disarmed(drive)


def _continue_client(drive: Drive) -> None:
    os.kill(drive.operator.pid, signal.SIGCONT)
    _until_disarmed(drive)


def _thaw(drive: Drive) -> None:
    drive.operator.tell("thaw")
    _until_disarmed(drive)


def causes(expiry_ms: float, picture_ms: float) -> list[Cause]:
    """All that one agent survives. Limits: a link is lost at the expiry + 50 ms; what the agent hears of it stops at once."""
    silence = expiry_ms + 50
    return [
        Cause("page hidden (it says so)", _halt, restore=_until_disarmed),
        Cause("emergency stop", _emergency, restore=_reset),
        Cause("picture stands still", lambda drive: drive.operator.event("freeze", "frozen"), picture_ms + 50, _thaw),
        Cause("page hangs", _signal(lambda drive: drive.operator.pid, signal.SIGSTOP), silence, _continue_client),
        Cause("page killed", _signal(lambda drive: drive.operator.pid, signal.SIGKILL), silence, Drive.forget),
        Cause("channel closed", lambda drive: drive.operator.event("close", "closing"), silence, Drive.forget),
        Cause("agent halted (SIGSTOP)", _signal(lambda drive: drive.agent.pid, signal.SIGSTOP), silence, _continue_agent),
        Cause("agent's loop held up for 2 s", _block, silence, _until_disarmed),
        Cause("keeper's worker killed", _signal(lambda drive: drive.motor.worker, signal.SIGKILL), None, _until_disarmed),
        Cause("keeper's guard killed", _signal(lambda drive: drive.guard, signal.SIGKILL), None, _until_disarmed),
        Cause("driver hangs in apply()", _fault, None, _until_disarmed),
    ]


def agent_killed(program: str, source: Path, runs: int) -> Row:
    """An agent is killed, a new one each time."""
    cause = Cause("agent killed", _signal(lambda drive: drive.agent.pid, signal.SIGKILL), 350.0)
    took_ms: list[float] = []
    moved = 0
    for _ in range(runs):
        with driven_agent(source) as (agent, motor), Drive(program, agent, motor) as drive:
            row = stops(drive, cause, 1)
        took_ms.append(float(row["median ms"]))
        moved += int(row["moved again"])
    return _row(cause, took_ms, moved)


def across_the_link(program: str, source: Path, runs: int, expiry_ms: float) -> Row:
    """The link between operator and agent is cut."""
    with (
        Link() as link,
        driven_agent(source, prefix=link.on_board(), remote=True) as (agent, motor),
        Drive(program, agent, motor, link=link) as drive,
    ):
        wait_until(lambda: link.answers(agent.port), "the agent to answer across the link")

        def mend(drive: Drive) -> None:
            _mend(drive)
            _until_disarmed(drive)

        return stops(drive, Cause("link cut", _cut, expiry_ms + 50, mend), runs)
