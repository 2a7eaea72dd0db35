"""SIGTERM in any state: the agent leaves with 0 within systemd's time-out, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import Agent
from tests.support.broker import free_port
from tests.support.components import require
from tests.support.faulty import install
from tests.support.gobuild import whep_count
from tests.support.procs import wait_until
from tests.support.whep import Viewers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TIMEOUT_STOP_S = 30.0
"""TimeoutStopSec= of the unit."""
SILENT = "192.0.2.1"
"""RFC 5737: nobody answers there."""


@contextlib.contextmanager
def agent_with(
    tmp_path: Path, *faults: str, cameras: int = 1, level: str = "info", env: dict[str, str] | None = None, **config: Any
) -> Iterator[Agent]:
    """An agent whose cameras have these faults."""
    folder, modules = tmp_path / "faults", tmp_path / "modules"
    folder.mkdir()
    modules.mkdir()
    for fault in faults:
        (folder / fault).touch()
    named = {f"gate{number or ''}": {"driver": "faulty", "folder": str(folder)} for number in range(cameras)}
    whole = {"cameras": named, "log": {"format": "json", "level": level}, **config}
    with Agent(tmp_path, whole, env=install(modules) | (env or {})) as agent:
        yield agent


def ends_well(agent: Agent, *more: signal.Signals, may_be_killed: bool = False) -> float:
    """Send SIGTERM, then whatever else, and wait for the end; returns the seconds it took."""
    began = time.monotonic()
    for number in (signal.SIGTERM, *more):
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, number)
    wait_until(lambda: not agent.running, f"the agent to end\n{agent.log}", deadline_s=TIMEOUT_STOP_S)
    code = agent.stop()
    assert code == 0 or (may_be_killed and code == -signal.SIGTERM), agent.log
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", agent.port)) != 0
    assert "Traceback" not in agent.log
    return time.monotonic() - began


def test_at_rest_and_twice(tmp_path: Path) -> None:
    with agent_with(tmp_path) as agent:
        agent.wait_healthy()
        ends_well(agent, signal.SIGTERM, signal.SIGINT)
        assert agent.said("stopping")


def test_with_viewers(tmp_path: Path) -> None:
    with agent_with(tmp_path) as agent:
        agent.wait_healthy()
        with Viewers(whep_count(require("go")), agent.whep(), 5, "-delete=false") as viewers:
            viewers.wait_open()
            ends_well(agent, signal.SIGTERM)


def test_while_cameras_hang(tmp_path: Path) -> None:
    """In `prepare`, which holds a thread of the pool, and in `run`; side by side, not one after the other."""
    with agent_with(tmp_path, "hangs", "prepare-hangs", cameras=4) as agent:
        agent.wait_healthy()
        with contextlib.ExitStack() as stack:
            for number in range(4):
                url = agent.whep(f"gate{number or ''}")
                stack.enter_context(Viewers(whep_count(require("go")), url, 1, "-delete=false"))
            agent.wait_for(lambda: agent.health()["viewers"] == 4, "four viewers")
            ends_well(agent, signal.SIGTERM)
        assert len(agent.said("its thread is given up")) == 4


def test_while_a_camera_is_retried(tmp_path: Path) -> None:
    with agent_with(tmp_path, "unplugged") as agent:
        agent.wait_healthy()
        with Viewers(whep_count(require("go")), agent.whep(), 1, "-delete=false"):
            agent.wait_said("Trying again")
            ends_well(agent)


@pytest.mark.parametrize("broker", ["nobody listens", "nobody answers", "it says nothing"])
def test_while_the_broker_is_unreachable(broker: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ports = {"nobody listens": f"127.0.0.1:{free_port()}", "it says nothing": f"127.0.0.1:{mute.getsockname()[1]}"}
        url = f"mqtt://{ports.get(broker, SILENT)}"
        servers = {"ice_servers": [{"urls": f"stun:{SILENT}"}]}
        with agent_with(tmp_path, mqtt={"url": url, "keepalive_s": 5}, webrtc=servers) as agent:
            if broker == "nobody listens":
                agent.wait_said("Nothing listens")
            agent.wait_healthy()
            ends_well(agent, signal.SIGTERM)


@pytest.mark.parametrize(
    ("moment", "library"),
    [("at once", ""), ("while it reads its configuration", "pydantic_core"), ("while it loads its libraries", "libavcodec")],
)
def test_at_any_moment_of_the_start(moment: str, library: str, tmp_path: Path) -> None:
    """Before our first line is run the signal itself ends the process, which systemd takes for a clean end, too."""
    with agent_with(tmp_path) as agent:
        agent.wait_for(lambda: library in Path(f"/proc/{agent.pid}/maps").read_text(), moment)
        ends_well(agent, signal.SIGTERM, may_be_killed=not library)


def test_as_soon_as_it_listens(tmp_path: Path) -> None:
    with agent_with(tmp_path) as agent:
        agent.wait_said("listening on")
        ends_well(agent, signal.SIGINT)
