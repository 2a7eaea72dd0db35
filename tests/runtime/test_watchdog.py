from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from edgeagent.core.vitals import CameraVital, VitalsPolicy
from edgeagent.model import CameraPhase
from edgeagent.runtime.notify import Notifier
from edgeagent.runtime.watchdog import LOOK_S, Watchdog
from tests.support.virtual import VirtualLoop

GATE = CameraVital("gate", CameraPhase.LIVE, wanted=True, watched=True, frames=0, runs=1)


class Systemd(Notifier):
    """Keeps what it is told."""

    def __init__(self, watchdog_s: float | None = 30.0) -> None:
        super().__init__({"WATCHDOG_USEC": str(int(watchdog_s * 1e6))} if watchdog_s else {})
        self.told: list[dict[str, str]] = []

    def _send(self, **fields: str) -> None:
        self.told.append(fields)

    def take(self, field: str) -> list[str]:
        """The values of a field since the last call; the others are forgotten."""
        found = [fields[field] for fields in self.told if field in fields]
        self.told.clear()
        return found


class Board:
    """A camera that sends 30 frames a second while `moving`, and a wall clock."""

    def __init__(self) -> None:
        self.moving = True
        self.frames = 0.0
        self.wall_offset = 1.7e9
        self.words = "1 of 1 cameras live"
        self._at = 0.0

    def look(self) -> list[CameraVital]:
        now = asyncio.get_running_loop().time()
        self.frames += (now - self._at) * 30 if self.moving else 0
        self._at = now
        return [replace(GATE, frames=int(self.frames))]

    def wall(self) -> float:
        return asyncio.get_running_loop().time() + self.wall_offset


@contextlib.asynccontextmanager
async def running(board: Board, systemd: Systemd) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(board.look, lambda: board.words, systemd, board.wall)
    task = asyncio.create_task(watchdog.run())
    yield watchdog
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_fed_while_pictures_move_and_silent_while_they_are_stuck(caplog: pytest.LogCaptureFixture) -> None:
    board, systemd = Board(), Systemd()
    async with running(board, systemd) as watchdog:
        await asyncio.sleep(60)
        assert len(systemd.take("WATCHDOG")) >= 60 / LOOK_S - 1
        board.moving = False
        await asyncio.sleep(VitalsPolicy().live_s + 2 * LOOK_S)
        systemd.told.clear()
        await asyncio.sleep(600)
        assert systemd.take("WATCHDOG") == [], "the loop turns, the pictures do not"
        assert "camera gate" in watchdog.stuck
        board.moving = True
        await asyncio.sleep(2 * LOOK_S)
        assert systemd.take("WATCHDOG")
        assert watchdog.stuck == ""
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 3
    assert lines[0].startswith("camera gate: no frame came through for 1")
    assert "; systemd is left to restart the agent" in lines[0]
    assert "bug in edgeagent" in lines[1], "said again after ten minutes"
    assert lines[2] == "the pictures' way moves again after 10 min"


async def test_without_systemd_it_looks_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    board, systemd = Board(), Systemd(None)
    board.moving = False
    async with running(board, systemd) as watchdog:
        await asyncio.sleep(30)
        assert watchdog.stuck
    assert "; restart the agent" in caplog.text


@pytest.mark.parametrize("watchdog_s", [0.5, 30])
async def test_fed_twice_as_often_as_systemd_wants(watchdog_s: float) -> None:
    systemd = Systemd(watchdog_s)
    async with running(Board(), systemd):
        await asyncio.sleep(30)
        assert len(systemd.take("WATCHDOG")) >= 30 / min(LOOK_S, watchdog_s / 2) - 1


async def test_status_is_told_when_it_changes() -> None:
    board, systemd = Board(), Systemd()
    async with running(board, systemd):
        await asyncio.sleep(10)
        assert systemd.take("STATUS") == ["1 of 1 cameras live"]
        board.words = "0 of 1 cameras live"
        await asyncio.sleep(10)
        assert systemd.take("STATUS") == ["0 of 1 cameras live"]


@pytest.mark.parametrize(
    ("moved_s", "words"), [(56 * 365 * 86_400.0, "forward by 20440 days"), (-3600.0, "back by 60 min"), (1.0, None)]
)
async def test_a_clock_that_is_set_is_one_line(moved_s: float, words: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board, systemd = Board(), Systemd()
    async with running(board, systemd):
        await asyncio.sleep(10)
        systemd.told.clear()
        board.wall_offset += moved_s
        await asyncio.sleep(10)
        assert len(systemd.take("WATCHDOG")) >= 5, "nothing else takes notice"
    lines = [record.message for record in caplog.records if "clock" in record.message]
    assert lines == ([f"the clock of this board was set {words}"] if words else [])


async def test_a_clock_that_is_steered_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board = Board()
    async with running(board, Systemd()):
        for _ in range(100):
            await asyncio.sleep(60)
            board.wall_offset += 0.03  # 500 ppm, as fast as a clock is ever steered: 3 s in all
    assert "clock" not in caplog.text


async def test_a_late_loop_is_seen() -> None:
    """The virtual clock is moved on as a callback that blocks would move the real one."""
    async with running(Board(), Systemd()) as watchdog:
        await asyncio.sleep(10)
        assert watchdog.lag_s == pytest.approx(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop._jumping.now += 4.0
        await asyncio.sleep(LOOK_S)
        assert watchdog.lag_s == pytest.approx(4.0, abs=LOOK_S)
        assert watchdog.stuck == ""
        await asyncio.sleep(120)
        assert watchdog.lag_s == pytest.approx(0)
