"""What the doctor says of HTTPS: by a running agent, and by the files."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from edgeagent.config import Config, Drivers, load
from edgeagent.doctor.agent import RunningAgent, find_agent
from edgeagent.doctor.certificate import look_at_certificate
from edgeagent.doctor.ports import look_at_ports
from edgeagent.doctor.report import Finding, Level
from edgeagent.doctor.work import System
from edgeagent.tls import own as making
from edgeagent.tls.certificate import DAY_S, of_pem
from tests.bench.servers import free_port
from tests.http.support import door, https, own


def config(http: str) -> Config:
    return load(f"device: porch\nhttp: {{{http}}}\ncameras: {{test: {{driver: test-pattern}}}}", {}, Drivers.installed())


def lay(folder: Path, now: float) -> tuple[Path, Path]:
    data = making.make(making.new_key(), "porch", ["porch.example"], now)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(data[data.index(b"-----BEGIN CERT") :])
    key.write_bytes(data)
    key.chmod(0o600)
    return cert, key


def only(config: Config, agent: RunningAgent | None = None, now: float | None = None) -> Finding:
    (found,) = look_at_certificate(config, agent, now)
    assert found.check == "tls"
    return found


def test_nothing_without_https() -> None:
    assert look_at_certificate(config("open: true"), None) == []
    assert look_at_certificate(config("tls: true"), RunningAgent("http://127.0.0.1:1", None, {})) == []


def test_a_given_one(tmp_path: Path) -> None:
    now = time.time()
    cert, key = lay(tmp_path, now)
    given = config(f"tls: {{cert: {cert}, key: {key}}}")
    good = only(given, now=now)
    assert (good.level, good.facts["names"]) == (Level.OK, ["porch.example"])
    assert "for porch.example" in good.text
    end = of_pem(cert.read_bytes()).not_after
    assert only(given, now=end - 3 * DAY_S).level is Level.NOTICE
    assert only(given, now=end).level is Level.PROBLEM
    away = RunningAgent("https://127.0.0.1:1", None, {})
    assert only(given, away, now).level is Level.OK
    key.chmod(0o644)
    found = only(given, now=now)
    assert found.level is Level.PROBLEM and "everybody on this machine may read" in found.text


@pytest.mark.realtime
async def test_agents_that_run(tmp_path: Path) -> None:
    port = free_port()
    listen = f"listen: '127.0.0.1:{port}'"
    clear, secure = config(listen), config(f"{listen}, tls: true")
    async with https(own(tmp_path), host="127.0.0.1") as agent:
        # What the configuration says, and what runs.
        told = config(f"listen: '127.0.0.1:{agent.port}', tls: true")
        found = await find_agent(told)
        assert found is not None and found.secure and found.device == "porch"
        assert await asyncio.to_thread(found.get, "/gate.jpg", 10.0) == (200, b"picture of gate")
        finding = await asyncio.to_thread(only, told, found)
        fingerprint = of_pem((tmp_path / "https.pem").read_bytes()).fingerprint
        assert (finding.level, finding.facts["sha256"]) == (Level.OK, fingerprint)
        assert fingerprint in finding.text
        page = look_at_ports(told, found, System())[0]
        assert page.text == f"The agent runs; its page is at https://127.0.0.1:{agent.port}."
        before = config(f"listen: '127.0.0.1:{agent.port}'")
        found = await find_agent(before)
        assert found is not None and found.secure
        page = look_at_ports(before, found, System())[0]
        assert (page.level, page.text) == (Level.NOTICE, "The agent runs with HTTPS, other than the configuration says.")
        # It shows another than that in the files.
        cert, key = lay(tmp_path, time.time())
        other = config(f"listen: '127.0.0.1:{agent.port}', tls: {{cert: {cert}, key: {key}}}")
        finding = await asyncio.to_thread(only, other, found)
        assert (finding.level, "another certificate" in finding.text) == (Level.NOTICE, True)
    async with door(host="127.0.0.1", port=port):
        found = await find_agent(secure)
        assert found is not None and not found.secure
        page = look_at_ports(secure, found, System())[0]
        assert (page.level, page.text) == (Level.NOTICE, "The agent runs without HTTPS, other than the configuration says.")
    assert await find_agent(clear) is None
    assert (await asyncio.to_thread(only, secure)).text.startswith("The agent makes a certificate of its own")
