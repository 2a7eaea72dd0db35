"""The agent as a whole, in its own process: what it tells of its board, which sender it takes, and what its watchdog judges by."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent import app
from edgeagent.board import TEXTS
from edgeagent.config import Drivers, load
from edgeagent.drivers.runner import CameraRunner
from edgeagent.media.encoder import make_encoder
from edgeagent.model import CameraPhase, EncodedFrame
from edgeagent.rtc.fallback import AiortcPeer
from edgeagent.tls.source import OwnCertificate
from tests.support.broker import free_port
from tests.test_board import UNDERVOLTED, WELL


@pytest.mark.realtime(block_limit_s=60)
async def test_what_ails_the_board_reaches_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BoardReader", lambda: lambda: UNDERVOLTED)
    text = f"http: {{listen: '127.0.0.1:{free_port()}'}}\ncameras: {{test: {{driver: test-pattern, size: 320x240}}}}"
    agent = app.Agent(load(text, {}, Drivers.installed()))
    told: asyncio.Queue[str] = asyncio.Queue()
    monkeypatch.setattr(agent.sessions, "board_changed", told.put_nowait)
    async with agent.running():
        async with asyncio.timeout(60):
            assert await told.get() == TEXTS["power"]
        assert agent.board == UNDERVOLTED
        assert agent.board_text == TEXTS["power"]


@pytest.mark.realtime(block_limit_s=60)
async def test_aiortc_s_own_sender_is_taken_where_the_private_names_no_longer_fit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "broken", lambda: ["aiortc is 9.9, written for 1.0"])
    text = f"http: {{listen: '127.0.0.1:{free_port()}'}}\ncameras: {{test: {{driver: test-pattern, size: 320x240}}}}"
    agent = app.Agent(load(text, {}, Drivers.installed()))
    async with agent.running():
        assert agent._peer_class is AiortcPeer
    warned = [record.getMessage() for record in caplog.records if "aiortc's own sender" in record.getMessage()]
    assert warned == ["taking aiortc's own sender, which needs several times the CPU: aiortc is 9.9, written for 1.0"]


class ByHand(CameraRunner):
    """Its driver is the test, by `_io`."""

    def _thread(self, *_: Any) -> None:
        pass


async def test_a_camera_that_rests_while_nobody_watches_leaves_the_agent_well_and_a_stuck_hub_does_not() -> None:
    """As an IP camera with H.265, which is always open and decoded only for somebody: for a minute its driver says `alive`."""
    agent = app.Agent(load("cameras: {gate: {driver: rtsp, url: 'rtsp://192.0.2.1/', transcode: true}}", {}, Drivers.installed()))
    hub, camera, loop = agent.hubs["gate"], agent.cameras["gate"], asyncio.get_running_loop()
    runner = agent.runners["gate"] = ByHand(
        camera,
        on_frame=hub.on_frame,
        on_status=hub.on_status,
        on_info=hub.on_info,
        encoder_factory=make_encoder,
        clock=loop.time,
    )
    hub.connect(runner)
    watching = asyncio.create_task(agent.watchdog.run())
    io = runner._io
    assert io is not None and not io.wanted()
    for _ in range(200):
        io.alive()
        await asyncio.sleep(0.3)
        assert (hub.status.phase, agent.watchdog.stuck) == (CameraPhase.LIVE, "")
    assert agent.health()["ok"] and hub.frames == 0
    runner._on_frame = lambda frame: None
    for number in range(60):
        io.emit(EncodedFrame(b"\0\0\0\1\x65", True, number * 27_000, loop.time()))
        await asyncio.sleep(0.3)
    assert agent.watchdog.stuck.startswith("camera gate: no frame came through")
    watching.cancel()
    await asyncio.wait([watching])
    await hub.close()


class Brief:
    """An agent that begins anew as soon as it runs."""

    told = False

    def __init__(self, config: object, membership: object, state: object, stop: Callable[[], None]) -> None:
        self.again, self._stop = False, stop

    def status_line(self) -> str:
        return "well"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        if self.told:
            signal.raise_signal(signal.SIGTERM)
        self.again = True
        self._stop()
        yield


@pytest.fixture
def handlers() -> Iterator[None]:
    """The test's process has its own again."""
    before = {number: signal.getsignal(number) for number in app._ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.realtime
@pytest.mark.parametrize("told", [False, True])
async def test_systemd_hears_of_an_end_only_where_it_is_one(monkeypatch: pytest.MonkeyPatch, handlers: None, told: bool) -> None:
    """On STOPPING=1 it watches no longer, and kills what begins anew."""
    sent: list[dict[str, str]] = []
    monkeypatch.setattr("edgeagent.app.notify.service._send", lambda **fields: sent.append(fields))
    monkeypatch.setattr(app, "Agent", Brief)
    monkeypatch.setattr(app, "settle", lambda: None)
    monkeypatch.setattr(Brief, "told", told)
    assert await app.serve(load("devices: {board: {driver: system}}", {}, Drivers.installed()))
    assert sent[0]["READY"] == "1"
    assert ["STOPPING" in fields for fields in sent] == [False, told]


def test_what_begins_anew_has_all_of_the_watchdogs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    def again(main: Any, limit: float) -> bool:
        main.close()
        return True

    for name in ("keep_small", "leave_within"):
        monkeypatch.setattr(app, name, lambda *_: None)
    monkeypatch.setattr("edgeagent.app.loopwatch.run", again)
    monkeypatch.setattr("edgeagent.app.notify.service._send", lambda **fields: done.append(fields))
    monkeypatch.setattr(app, "exec_anew", lambda *signals: done.append(signals))
    app.run(load("devices: {board: {driver: system}}", {}, Drivers.installed()))
    assert done == [{"WATCHDOG": "1"}, (signal.SIGTERM, signal.SIGINT)]


def test_a_certificate_of_a_clock_that_was_ahead_is_made_anew(tmp_path: Path) -> None:
    """Whether the clock is right the board's reader knows, also where a service may not ask the kernel."""
    text = "http: {listen: '127.0.0.1:8443', tls: true}\ndevices: {board: {driver: system}}"
    agent = app.Agent(load(text, {}, Drivers.installed()), state=tmp_path)
    source = agent._certificate()
    assert isinstance(source, OwnCertificate)
    source._wall = lambda: time.time() + 40 * 86_400
    before = source.load().certificate
    source._wall = time.time
    for known in (None, dataclasses.replace(WELL, clock_synchronised=None), dataclasses.replace(WELL, clock_synchronised=False)):
        agent.board = known
        assert source.look() is None
    agent.board = dataclasses.replace(WELL, clock_synchronised=True)
    made = source.look()
    assert made is not None and made.certificate.not_before < before.not_before
