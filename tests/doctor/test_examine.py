"""The doctor as a whole: real cameras, a real agent, the command line."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeagent import cli
from edgeagent.app import Agent
from edgeagent.config import Config, Drivers, load
from edgeagent.doctor import cameras
from edgeagent.doctor.agent import find_agent
from edgeagent.doctor.examine import examine
from edgeagent.doctor.report import Finding, Level, Report
from edgeagent.doctor.work import System, bounded
from tests.support.broker import free_port
from tests.support.clips import make_clip
from tests.support.rtsp import RtspServer, raw_clip
from tests.test_board import UNDERVOLTED, WELL

Output = pytest.CaptureFixture[str]
realtime = pytest.mark.realtime(block_limit_s=60)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy, what works may take long; what does not need not be looked at for long."""
    monkeypatch.setattr(cameras, "FIRST_PICTURE_S", 20.0)
    monkeypatch.setattr(cameras, "LOOK_S", 0.5)
    monkeypatch.setattr(cameras, "STOP_S", 20.0)
    monkeypatch.setattr(cameras, "_CAMERA_S", 50.0)
    monkeypatch.setattr(cameras, "_ENCODER_S", 30.0)
    monkeypatch.setattr("edgeagent.doctor.examine._CAMERAS_S", 80.0)
    monkeypatch.setattr("edgeagent.doctor.examine._CHECK_S", 30.0)
    # Nobody's cameras are looked for beyond this machine.
    monkeypatch.setattr(cameras, "_discover", lambda: [])


@pytest.fixture
def system(tmp_path: Path) -> System:
    def run(_: Sequence[str]) -> str:
        return ""

    return System(tmp_path / "root", run=run, board=lambda: WELL, user="pi")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edgeagent.yaml"
    path.write_text(text)
    return path


def by_check(report: Report) -> dict[str, Finding]:
    return {finding.check: finding for finding in report.findings}


@realtime
async def test_without_a_configuration(system: System) -> None:
    found = by_check(await examine(None, {}, system))
    assert {"board.model", "clock", "program", "service", "devices", "encoder", "firewall", "dns"} <= found.keys()
    assert not {"config", "http", "broker", "ice"} & found.keys()
    assert found["encoder"].level is Level.OK
    assert found["encoder"].facts["fps"] > 0


@realtime
async def test_a_configuration_that_is_wrong(tmp_path: Path, system: System) -> None:
    path = write(tmp_path, "devce: a\ncameras: {test: {driver: test-patern}}")
    report = await examine(path, {}, system)
    said = [finding.text for finding in report.findings if finding.check == "config"]
    assert len(said) == 2
    assert any("did you mean `test-pattern`?" in text for text in said)
    assert report.level is Level.PROBLEM
    assert "board.model" in by_check(report)


@realtime
@pytest.mark.timeout(120)
async def test_cameras_of_every_kind(tmp_path: Path, system: System) -> None:
    make_clip(tmp_path / "clip.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no clip at all")
    with RtspServer(raw_clip(tmp_path / "gate.h264"), options=("--user", "admin", "--password", "geheim")) as server:
        address = f"127.0.0.1:{server.port}/gate"
        path = write(
            tmp_path,
            f"""
device: porch
http: {{listen: "127.0.0.1:{free_port()}"}}
cameras:
  test: {{driver: test-pattern, size: 320x240, fps: 15}}
  clip: {{driver: file, path: clip.mp4}}
  torn: {{driver: file, path: broken.mp4}}
  gate: {{driver: rtsp, url: "rtsp://admin:geheim@{address}"}}
  shut: {{driver: rtsp, url: "rtsp://admin:falsch-1@{address}"}}
""",
        )
        report = await examine(path, {}, system)
    found = by_check(report)
    for name, level in {"test": "ok", "clip": "ok", "gate": "ok", "torn": "problem", "shut": "problem"}.items():
        assert (name, found[f"camera.{name}"].level) == (name, level), found[f"camera.{name}"]
    assert found["camera.test"].text.startswith("test: 320x240 at 1")
    assert "H.264 Baseline" in found["camera.test"].text
    assert found["camera.gate"].facts["width"] == 320
    assert "password" in found["camera.shut"].text
    assert (found["encoder"].facts["width"], found["encoder"].facts["needed_fps"]) == (320, 15)
    assert "geheim" not in report.as_json() and "falsch" not in report.as_json()
    assert found["http"].text.startswith("The agent does not run")


def loaded(text: str) -> Config:
    return load(text, {}, Drivers.installed())


@realtime
async def test_an_agent_that_runs_is_asked(tmp_path: Path, system: System) -> None:
    text = f"""
device: porch
http: {{listen: "127.0.0.1:{free_port()}", token: 0123456789abcdef}}
cameras: {{test: {{driver: test-pattern, size: 320x240}}}}
"""
    async with Agent(loaded(text)).running():
        found = by_check(await examine(write(tmp_path, text), {}, system))
        assert found["camera.test"].text.startswith("test: gives a picture through the running agent, 320x240")
        assert found["http"].text.startswith("The agent runs; its page is at http://127.0.0.1:")
        # The file was changed since: another token, another camera.
        other = text.replace("0123456789abcdef", "fedcba9876543210")
        finding = (await cameras.look_at_cameras(loaded(other), await find_agent(loaded(other)), system))[0]
        assert finding.level is Level.NOTICE
        assert "does not know the token" in finding.text
        more = text.replace("{test:", "{new: {driver: test-pattern}, test:")
        finding = (await cameras.look_at_cameras(loaded(more), await find_agent(loaded(more)), system))[0]
        assert finding.text == "new: the running agent does not have this camera."
    assert await find_agent(loaded(text)) is None


@pytest.mark.realtime
async def test_what_else_may_listen_there(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        config = loaded(f"http: {{listen: '127.0.0.1:{port}'}}\ncameras: {{test: {{driver: test-pattern}}}}")
        assert await find_agent(config) is None


@pytest.mark.parametrize(("health", "code"), [(WELL, 0), (UNDERVOLTED, 1)])
def test_the_command(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, system: System, health: object, code: int
) -> None:
    monkeypatch.setattr("edgeagent.doctor.examine.System", lambda: System(system.root, run=system.run, board=lambda: health))  # type: ignore[arg-type, return-value]
    monkeypatch.setattr("edgeagent.runtime.log.setup", lambda *_: None)
    assert cli.main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["v"] == 1
    assert {"check", "level", "text", "advice", "facts"} == set(report["findings"][0])
    assert cli.main(["doctor"]) == code
    out = capsys.readouterr().out
    assert ("  problem  The board gets too little power" in out) == bool(code)
    assert ("\n1 problem, " in out) == bool(code)


@pytest.mark.realtime
async def test_a_check_that_fails_or_hangs_costs_only_itself(system: System) -> None:
    async def bug() -> list[Finding]:
        raise ZeroDivisionError("oops")

    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    (finding,) = await bounded("dns", "names", 5.0, bug())
    assert finding.level is Level.PROBLEM
    assert "please report" in finding.advice
    (finding,) = await bounded("dns", "names", 0.01, hang())
    assert finding.level is Level.NOTICE
    assert "was given up" in finding.text
