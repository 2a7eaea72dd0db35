"""The agent as a whole, in its own process: what it tells of its board, and which sender it takes."""

from __future__ import annotations

import asyncio

import pytest

from edgeagent import app
from edgeagent.board import TEXTS
from edgeagent.config import Drivers, load
from edgeagent.rtc.fallback import AiortcPeer
from tests.support.broker import free_port
from tests.test_board import UNDERVOLTED


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
