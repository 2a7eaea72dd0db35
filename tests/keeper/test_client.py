"""The agent's side, on a real loop with a real keeper."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, SecretStr

from edgeagent.errors import DeviceFault, PeerError
from edgeagent.keeper.client import Keeper, plain_options
from edgeagent.model import Value
from edgeagent.wire.keeper import AxisLimits, KeptDevice
from tests.keeper.conftest import Bench
from tests.support.recorder import options

pytestmark = [pytest.mark.realtime(block_limit_s=60), pytest.mark.timeout(120)]


class Events:
    def __init__(self) -> None:
        self.phases: dict[str, tuple[str, str]] = {}
        self.read: dict[str, Mapping[str, Value]] = {}
        self.stops: list[tuple[str, str]] = []
        self.ups: list[bool] = []

    def device(self, name: str, phase: str, text: str) -> None:
        self.phases[name] = phase, text

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        assert at <= time.monotonic()
        self.read.update(values)

    def stopped(self, device: str, why: str, at: float) -> None:
        self.stops.append((device, why))

    def up(self, alive: bool) -> None:
        self.ups.append(alive)


async def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        await asyncio.sleep(0.01)


def kept(bench: Bench, *names: str, **more: AxisLimits) -> list[KeptDevice]:
    return [KeptDevice(name=name, driver="recorder", options=options(bench.folder), limits=more) for name in names]


@contextlib.asynccontextmanager
async def keeping(
    bench: Bench, devices: list[KeptDevice], monkeypatch: pytest.MonkeyPatch, **env: str
) -> AsyncIterator[tuple[Keeper, Events]]:
    for name, value in {**bench.env, **env}.items():
        monkeypatch.setenv(name, value)
    events = Events()
    keeper = Keeper(devices, events)
    running = asyncio.create_task(keeper.run())
    try:
        await until(lambda: len(events.phases) == len(devices) and "starting" not in dict(events.phases.values()), "the devices")
        yield keeper, events
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert not keeper.alive and keeper.pid is None
    assert events.ups[-1] is False


async def test_it_moves_ramps_reads_obeys_and_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    devices = kept(bench, "left", throttle=AxisLimits(top=0.5, slew=5.0), steer=AxisLimits(slew=0.5))
    async with keeping(bench, devices, monkeypatch, RUNTIME_DIRECTORY=str(run)) as (keeper, events):
        assert events.phases == {"left": ("live", "")}
        assert (run / "keeper.json").stat().st_mode & 0o777 == 0o600
        await until(lambda: events.read == {"left": {"speed": 0.0}}, "a reading")

        def full() -> bool:
            keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 1.5)
            return bool((applied := bench.lines("apply")) and applied[-1]["throttle"] == 0.5)

        await until(full, "full speed")
        speeds = [line["throttle"] for line in bench.lines("apply")]
        assert speeds == sorted(speeds) and len(set(speeds)) > 3

        assert await keeper.command("left", "add", {"a": 2, "b": 3}) == 5
        assert await keeper.command("left", "reach", {"throttle": 1.0}) == 0.5, "no farther than a set-point"
        with pytest.raises(PeerError, match="a: write a whole number") as refused:
            await keeper.command("left", "add", {"a": "2", "b": 3})
        assert refused.value.code == 400
        with pytest.raises(PeerError, match="no device nobody"):
            await keeper.command("nobody", "add", {})

        async def steered(to: float, far: float) -> list[float]:
            """What it is given until that is so far from the middle."""
            asked = time.monotonic()

            def given() -> list[float]:
                keeper.set({"left": {"steer": to}}, time.monotonic() + 1.5)
                return [line["steer"] for line in bench.lines("apply", since=asked) if "steer" in line]

            await until(lambda: any(abs(steer) >= far for steer in given()), "it to be steered")
            return given()

        await steered(1.0, 0.1)
        await keeper.command("left", "aim", {"steer": -0.9})
        assert (await steered(-0.8, 0.1))[0] <= -0.87, "from there, where the command has left it"

        asked = time.monotonic()
        keeper.stop()
        await until(lambda: bench.lines("stop", since=asked), "the stop")
        assert events.stops == []

        keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 0.3)
        await until(lambda: events.stops == [("left", "expired")], "the expiry to be told")
        await until(lambda: events.read["left"]["speed"] == 0, "the reading")

        with pytest.raises(DeviceFault, match="broke down"):
            await keeper.command("left", "break_down", {})
        await until(lambda: events.phases["left"] == ("live", ""), "it to be opened again")
    assert bench.lines()[-1]["what"] == "close"
    assert not (run / "keeper.json").exists()
    with pytest.raises(PeerError) as refused:
        await keeper.command("left", "add", {"a": 2, "b": 3})
    assert refused.value.code == 503
    keeper.stop()
    keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 1)
    assert keeper.dropped == 1


async def test_a_command_that_waits_does_not_follow_a_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver is held up for a moment; what was asked for meanwhile must not begin when everything has been stopped."""
    async with keeping(bench, kept(bench, "left"), monkeypatch) as (keeper, _):
        bench.fail("left", "apply-hangs")
        keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 1.5)
        await until(lambda: bench.lines("apply"), "it to hang")
        waits = asyncio.create_task(keeper.command("left", "add", {"a": 2, "b": 3}))
        await asyncio.sleep(0)
        keeper.stop()
        bench.heal("left", "apply-hangs")
        with pytest.raises(PeerError, match="stopped before this began") as refused:
            await waits
        assert refused.value.code == 409
        await until(lambda: bench.lines("stop", since=bench.lines("apply")[-1]["at"]), "the stop")


async def test_what_cannot_be_used_is_told_and_holds_up_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fail("right", "open-fails")
    devices = [
        *kept(bench, "left", "right"),
        KeptDevice(name="odd", driver="recorder", options={"folder": "/nowhere", "wheels": 3}, group="other"),
        KeptDevice(name="lost", driver="no-such-driver", group="other"),
        kept(bench, "trimmed", throttle=AxisLimits(trim=0.2))[0].model_copy(update={"group": "third"}),
    ]
    async with keeping(bench, devices, monkeypatch) as (keeper, events):
        phases = {name: phase for name, (phase, _) in events.phases.items()}
        assert phases == {"left": "live", "right": "retrying", "odd": "failed", "lost": "failed", "trimmed": "failed"}
        assert events.phases["right"][1] == "The recorder is not plugged in."
        assert "wheels" in events.phases["odd"][1]
        assert "no driver `no-such-driver`" in events.phases["lost"][1]
        assert "stand still" in events.phases["trimmed"][1]

        keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 0.5)
        await until(lambda: keeper.refused.get("fault"), "a set-point for a group that is not whole to be refused")
        bench.heal("right", "open-fails")
        await until(lambda: events.phases["right"] == ("live", ""), "it to come back by itself")

        def moves() -> bool:
            keeper.set({"left": {"throttle": 1.0}}, time.monotonic() + 0.5)
            return bench.moves("left")

        await until(moves, "it to move")


async def test_a_keeper_that_cannot_start_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(broken))
    events = Events()
    keeper = Keeper(kept(bench, "left"), events)
    running = asyncio.create_task(keeper.run())
    await until(lambda: "cannot be started" in caplog.text, "it to say so")
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    await until(lambda: "has ended" in caplog.text, "it to be tried again")
    assert events.phases["left"][0] == "retrying"
    assert caplog.text.count("cannot be started") == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert events.ups == []


async def test_what_ignores_everything_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = tmp_path / "python"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    stubborn.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stubborn))
    keeper = Keeper(kept(bench, "left"), Events())
    running = asyncio.create_task(keeper.run())
    await until(lambda: keeper.pid, "it to start")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert "is killed" in caplog.text


def test_options_arrive_as_they_were_written() -> None:
    class Inner(BaseModel):
        pins: tuple[int, int]

    class Options(BaseModel):
        path: Path
        password: SecretStr
        inner: list[Inner]
        mode: Literal["a", "b"] = "a"

    given = Options(path=Path("dev"), password=SecretStr("geheim"), inner=[Inner(pins=(5, 6))])
    assert plain_options(given) == {"path": "dev", "password": "geheim", "inner": [{"pins": [5, 6]}]}
    assert Options.model_validate(plain_options(given)) == given
