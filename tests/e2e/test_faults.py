"""Faults, each caused for real: the picture returns by itself, and the log says what happened in one line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import Agent
from tests.support.broker import Broker
from tests.support.components import require
from tests.support.faulty import install
from tests.support.gobuild import whep_count
from tests.support.procs import wait_until
from tests.support.systemd import Systemd
from tests.support.whep import Viewers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

ROOT = Path(__file__).resolve().parents[2]


class Faults:
    """The folder of a `faulty` camera, and the agent's environment with its driver."""

    def __init__(self, folder: Path) -> None:
        self.folder, modules = folder / "faults", folder / "modules"
        self.folder.mkdir()
        modules.mkdir()
        self.environ = install(modules)
        self.config: dict[str, Any] = {"cameras": {"gate": {"driver": "faulty", "folder": str(self.folder)}}}

    def cause(self, fault: str) -> None:
        (self.folder / fault).touch()

    def mend(self, fault: str) -> None:
        (self.folder / fault).unlink()


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path)


@contextlib.contextmanager
def watched(agent: Agent, camera: str = "gate") -> Iterator[Viewers]:
    """A viewer who has got a picture."""
    with Viewers(whep_count(require("go")), agent.whep(camera)) as viewers:
        viewers.wait_open()
        yield viewers


def wait_for_frames(viewers: Viewers, frames: int = 20) -> None:
    """Until the viewer has got so many more."""
    goal = viewers.snapshot()["frames"] + frames
    wait_until(lambda: viewers.snapshot()["frames"] >= goal, f"{frames} frames")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("unplugged", "camera gate: The camera was unplugged. Trying again."),
        ("encoder-breaks", "camera gate: The video encoder refused a picture ("),
    ],
)
def test_a_camera_that_fails_returns(fault: str, sentence: str, tmp_path: Path, faults: Faults) -> None:
    with Agent(tmp_path, faults.config, env=faults.environ) as agent:
        agent.wait_healthy()
        with watched(agent) as viewers:
            faults.cause(fault)
            agent.wait_said(sentence)
            faults.mend(fault)
            agent.wait_said("camera gate: the picture is back after")
            wait_for_frames(viewers)
        told = [line for line in agent.lines() if line.get("camera") == "gate" and line["level"] in ("warning", "error")]
        messages = [line["message"] for line in told if "Traceback" not in line["message"]]
        assert {line["level"] for line in told} == {"warning"}
        assert messages[0].startswith(sentence) and "the picture is back" in messages[-1]
        # A fault that outlasts the next try may be worded anew: it is away, not just gone.
        assert len(messages) == len(set(messages)) <= 3, "one line for the fault, one for the return"
        assert agent.stop() == 0


def test_a_broker_that_dies_costs_no_frame_and_is_found_again(tmp_path: Path, faults: Faults) -> None:
    with Broker(tmp_path) as broker, Agent(tmp_path, {**faults.config, "mqtt": {"url": broker.url}}, env=faults.environ) as agent:
        agent.wait_said("connected to the broker at")
        with watched(agent) as viewers:
            broker.kill()
            agent.wait_said("Nothing listens at")
            wait_for_frames(viewers)
            broker.start()
            agent.wait_said("connected to the broker at", "again after")
            wait_for_frames(viewers)
            wait_until(lambda: viewers.snapshot()["missing"] == 0, "every frame")
        assert len(agent.said("Nothing listens at")) == 1


def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path, faults: Faults) -> None:
    full = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    with Agent(tmp_path, faults.config, env=faults.environ, prefix=full) as agent:
        agent.wait_healthy()
        with watched(agent) as viewers:
            wait_for_frames(viewers)
            unwritten = re.search(r"^edgeagent_log_lines_unwritten_total (\S+)$", agent.get("/metrics"), re.MULTILINE)
            assert unwritten
            assert float(unwritten[1]) >= 2
        assert agent.stop() == 0


def test_a_clock_that_jumps_by_years_changes_nothing(tmp_path: Path, faults: Faults) -> None:
    """A board without a clock of its own starts in 1970, or when it was last off, until a time server answers."""
    require("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    clock = tmp_path / "clock"

    def set_clock(text: str) -> None:
        fresh = tmp_path / "clock.new"
        fresh.write_text(text + "\n")
        fresh.replace(clock)

    set_clock("@1970-01-02 00:00:00")
    environ = faults.environ | {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }
    with Broker(tmp_path) as broker, Agent(tmp_path, {**faults.config, "mqtt": {"url": broker.url}}, env=environ) as agent:
        agent.wait_said("connected to the broker at")
        assert agent.lines()[0]["time"].startswith("1970-01-0")
        with watched(agent) as viewers:
            set_clock("@2026-11-22 12:00:00")
            agent.wait_said("the clock of this board was set forward by 20")
            wait_for_frames(viewers, 30)
            set_clock("@2026-11-01 12:00:00")
            agent.wait_said("the clock of this board was set back by 21 days")
            wait_for_frames(viewers, 30)
            wait_until(lambda: viewers.snapshot()["missing"] == 0, "every frame")
            with watched(agent) as late:
                wait_for_frames(late)
        assert len(agent.said("the clock of this board was set")) == 2
        assert len(agent.said("connected to the broker")) == 1
        assert not agent.said("camera gate", "Trying again")
        assert agent.stop() == 0


# systemd


def test_systemd_is_told_how_it_goes(tmp_path: Path, faults: Faults) -> None:
    with Systemd(tmp_path) as systemd, Agent(tmp_path, faults.config, env=faults.environ | systemd.environ) as agent:
        systemd.wait_for("READY=1")
        assert agent.health()["ok"], "it answers when it says so"
        systemd.wait_for("WATCHDOG=1")
        with watched(agent):
            systemd.wait_for("STATUS=1 of 1 cameras live; 1 viewers")
        assert agent.stop() == 0
        systemd.wait_for("STOPPING=1")
        assert systemd.told[0] == "READY=1"


def silence(systemd: Systemd, agent: Agent) -> None:
    """Wait until the watchdog's time (1 s) has passed twice without a word, as systemd would not."""
    count, quiet_s, looked = -1, 0.0, time.monotonic()

    def fell_silent() -> bool:
        nonlocal count, quiet_s, looked
        fed, now = systemd.told.count("WATCHDOG=1"), time.monotonic()
        quiet_s = quiet_s + min(now - looked, 0.1) if fed == count else 0.0  # not what a busy machine held up this test
        count, looked = fed, now
        return quiet_s >= 2

    agent.wait_for(fell_silent, "the watchdog to fall silent")


def test_a_loop_that_hangs_falls_silent_and_the_log_says_where(tmp_path: Path, faults: Faults) -> None:
    with Systemd(tmp_path) as systemd, Agent(tmp_path, faults.config, env=faults.environ | systemd.environ) as agent:
        systemd.wait_for("WATCHDOG=1")
        with Viewers(whep_count(require("go")), agent.whep(), 1, "-delete=false") as viewers:
            viewers.wait_open()
            faults.cause("loop-blocked")
            silence(systemd, agent)
            os.kill(agent.pid, signal.SIGABRT)  # as systemd does
            wait_until(lambda: not agent.running, "the agent to end")
        assert "where_the_loop_hangs" in agent.log


def test_pictures_that_do_not_move_silence_the_watchdog_although_the_loop_turns(tmp_path: Path, faults: Faults) -> None:
    with Systemd(tmp_path) as systemd, Agent(tmp_path, faults.config, env=faults.environ | systemd.environ) as agent:
        systemd.wait_for("WATCHDOG=1")
        with watched(agent):
            faults.cause("hub-stuck")
            agent.wait_said("camera gate: no frame came through for", "systemd is left to restart the agent")
            silence(systemd, agent)
            systemd.wait_for("STATUS=camera gate: no frame came through")
            assert agent.health()["ok"] is False, "whoever watches over a container learns it, too"
        assert len(agent.said("no frame came through")) == 1
        assert agent.stop() == 0


def test_a_camera_that_is_away_does_not(tmp_path: Path, faults: Faults) -> None:
    faults.cause("unplugged")
    with Systemd(tmp_path) as systemd, Agent(tmp_path, faults.config, env=faults.environ | systemd.environ) as agent:
        systemd.wait_for("READY=1")
        with Viewers(whep_count(require("go")), agent.whep()) as viewers:
            agent.wait_said("camera gate: The camera is not plugged in. Trying again.")
            fed = systemd.told.count("WATCHDOG=1")
            wait_until(lambda: systemd.told.count("WATCHDOG=1") >= fed + 6, "the watchdog to be fed")
            assert agent.health()["ok"] is True
            faults.mend("unplugged")
            viewers.wait_open()


# Metrics


def test_metrics_follow_a_viewer_and_the_dashboard_knows_them(tmp_path: Path, faults: Faults) -> None:
    token = "a token of some length"
    config = {**faults.config, "mqtt": {"url": "mqtt://127.0.0.1:1"}}
    with Agent(tmp_path, config, env=faults.environ | {"EDGEAGENT_HTTP__TOKEN": token}) as agent:
        agent.wait_healthy()
        assert "edgeagent_viewers" not in agent.get("/metrics")

        def scrape() -> dict[str, float]:
            request = urllib.request.Request(f"{agent.base}/metrics", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

        with Viewers(whep_count(require("go")), agent.whep(), 1, "-token", token) as viewers:
            viewers.wait_open()
            wait_for_frames(viewers)
            during = scrape()
            assert during['edgeagent_camera_phase{camera="gate",phase="live"}'] == 1
            assert during['edgeagent_camera_viewers{camera="gate"}'] == 1
            layer = '{camera="gate",layer="main"}'
            assert during[f"edgeagent_camera_layer_viewers{layer}"] == 1
            assert during[f"edgeagent_camera_layer_bytes_total{layer}"] > 1000
            assert during['edgeagent_camera_frames_total{camera="gate"}'] >= 20
            assert during['edgeagent_camera_runs_total{camera="gate"}'] == 1
            assert during["edgeagent_viewers_connected"] == 1
            assert during["edgeagent_broker_connected"] == 0
            assert during["edgeagent_sent_packets_total"] >= 20
            assert during["edgeagent_healthy"] == 1
        wait_until(lambda: scrape()["edgeagent_viewers"] == 0, "the viewer to be gone")
        after = scrape()
        assert after["edgeagent_sent_packets_total"] >= during["edgeagent_sent_packets_total"], "a counter never falls"
        assert after['edgeagent_session_events_total{event="opened"}'] == 1

    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    known = {name.partition("{")[0] for name in after} | {"edgeagent_temperature_celsius"}  # not every machine has a thermometer
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for query in queries for name in re.findall(r"\b(?:edgeagent|process)_\w+", query)}
    assert len(named) > 20
    assert named <= known
