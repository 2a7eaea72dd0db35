"""The examples of the documentation, run as they are against the simulated rover."""

from __future__ import annotations

import ast
import csv
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgeagent.client import connect
from tests.client.support import ADMIN, Robot, until
from tests.support.procs import Program

pytestmark = [pytest.mark.realtime(block_limit_s=60), pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@asynccontextmanager
async def running(example: str, *arguments: str) -> AsyncIterator[Program]:
    """An example while the `async with` block lasts."""
    argv = [sys.executable, str(ROOT / "docs" / "examples" / example), *arguments]
    with Program(argv, cwd=ROOT, env={"EDGEAGENT_TOKEN": ADMIN}) as program:
        yield program
        assert program.running, program.log


async def seen(program: Program, condition: Callable[[], object], what: str) -> None:
    try:
        await until(lambda: condition() or not program.running, what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{program.log}") from None


def test_each_is_short_and_says_what_it_needs() -> None:
    assert len(EXAMPLES) >= 5
    for path in EXAMPLES:
        text = path.read_text()
        assert len(text.splitlines()) <= 30, path.name
        words = ast.get_docstring(ast.parse(text)) or ""
        assert "Needs" in words, path.name
        assert f"Run: python {path.name} http" in words, path.name


@pytest.mark.parametrize(("example", "argument"), [("follow_colour.py", "rover"), ("patrol.py", "rover.range")])
async def test_it_drives(robot: Robot, example: str, argument: str) -> None:
    robot.back_to_the_start()
    began = robot.world.ask("state")

    def moved() -> bool:
        state = robot.world.ask("state")
        return math.dist((began["x"], began["y"]), (state["x"], state["y"])) > 1

    async with running(example, robot.agent.base, argument) as program:
        await seen(program, moved, f"{example} to drive")
        assert robot.world.ask("state")["y"] == pytest.approx(began["y"], abs=1), "straight ahead, where the red target is"
    await until(robot.stands, "the rover to stand when its script has ended")


async def test_readings_are_logged(robot: Robot, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"

    def rows() -> list[list[str]]:
        with path.open(newline="") as file:
            return list(csv.reader(file))

    async with running("log_sensor.py", robot.agent.base, str(path), "weather", "rover.battery") as program:
        await seen(program, lambda: path.exists() and len(rows()) > 8, "readings to be logged")
    assert {name for _, name, _, _ in rows()} >= {"weather.temperature", "weather.humidity", "rover.battery"}
    assert all(unit == "°C" and 0 < float(value) < 50 for _, name, value, unit in rows() if name == "weather.temperature")


async def test_one_mirrors_another(robot: Robot) -> None:
    robot.back_to_the_start()
    address, token = robot.address("mqtt")
    async with connect(address, token=token, timeout_s=60) as there:
        await there.command("lamp", "switch", on=False)
        await until(lambda: there.value("lamp", "on") is False, "the lamp to be off")
        async with running("mirror.py", robot.agent.base, "rover.charging", address, "lamp") as program:
            await seen(program, lambda: there.value("lamp", "on"), "the lamp to be on while the rover is on its pad")


async def test_a_picture_is_kept_on_motion(robot: Robot, tmp_path: Path) -> None:
    robot.back_to_the_start()
    folder = tmp_path / "pictures"

    def kept() -> bool:
        return any(path.stat().st_size > 5000 for path in folder.glob("*.jpg"))

    async with running("snapshot_on_motion.py", robot.agent.base, "rover.charging", "rover", str(folder)) as program:
        await seen(program, kept, "a picture")
