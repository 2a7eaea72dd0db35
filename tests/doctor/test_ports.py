"""Ports that are free, taken, or not ours to take; firewalls."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.board import BoardHealth
from edgeagent.config import Config, Drivers, load
from edgeagent.doctor import cameras, ports
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.configured import look_at_configured
from edgeagent.doctor.report import Finding, Level
from edgeagent.doctor.work import System

HERE = System(board=BoardHealth, user="pi")


def config(text: str = "") -> Config:
    return load(f"device: porch\ncameras: {{test: {{driver: test-pattern}}}}\n{text}", {}, Drivers.installed())


def looks(text: str, system: System = HERE, agent: RunningAgent | None = None) -> tuple[Finding, Finding]:
    door, pictures = ports.look_at_ports(config(text), agent, system)
    assert (door.check, pictures.check) == ("http", "udp")
    return door, pictures


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_in_use_and_by_whom(taken: int) -> None:
    door, _ = looks(f"http: {{listen: '127.0.0.1:{taken}'}}")
    assert door.level is Level.PROBLEM
    assert f"Port {taken} is in use by" in door.text
    assert f"(process {os.getpid()})" in door.text
    assert "http.listen" in door.advice


def test_a_port_in_use_by_someone_we_may_not_see(taken: int, tmp_path: Path) -> None:
    door, _ = looks(f"http: {{listen: '127.0.0.1:{taken}'}}", System(tmp_path, run=lambda _: "", board=BoardHealth, user="pi"))
    assert "another program (`sudo` lets the doctor see which)" in door.text


def test_a_free_port(taken: int) -> None:
    with socket.socket() as sock:  # bound, and not listened on: free by then
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    door, pictures = looks(f"http: {{listen: '127.0.0.1:{port}'}}")
    assert (door.level, pictures.level) == (Level.OK, Level.OK)
    assert "is free for it" in door.text
    assert pictures.text == "Pictures take any free UDP port."


def test_an_address_that_is_not_ours() -> None:
    door, _ = looks("http: {listen: '203.0.113.77:8080', open: true}")
    assert door.level is Level.PROBLEM
    assert "This board has no address 203.0.113.77" in door.text


def test_an_agent_that_runs() -> None:
    text = "http: {listen: '0.0.0.0:8123', open: true}"
    door, _ = looks(text, agent=RunningAgent("http://127.0.0.1:8123", None, {"ok": True, "device": "porch"}))
    assert door.level is Level.OK
    assert ":8123" in door.text
    door, _ = looks(text, agent=RunningAgent("http://127.0.0.1:8123", None, {"ok": True, "device": "barn"}))
    assert door.level is Level.NOTICE
    assert "device barn" in door.text


def asked(agent: RunningAgent) -> list[Finding]:
    """What is said of a camera and of a sensor while it runs."""
    settings = config("devices: {garden: {driver: sim-sensor}}")
    (camera,) = asyncio.run(cameras._look("test", settings.cameras["test"], None, agent, []))
    return [camera, *look_at_configured(settings, agent)]


def test_an_agent_that_does_not_answer_is_not_called_another_program(taken: int, tmp_path: Path) -> None:
    """By what systemd says, also where its sockets are not ours to see; or by its command line."""
    text = f"http: {{listen: '127.0.0.1:{taken}'}}"

    def silent(root: Path, main: str) -> RunningAgent | None:
        return ports.silent_agent(config(text), System(root, run=lambda _: f"{main}\n", board=BoardHealth, user="pi"))

    agent = silent(Path("/"), str(os.getpid()))
    assert silent(Path("/"), "0") is None
    assert agent is not None and not agent.answers
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(Path("/proc/net/tcp").read_text())
    (tmp_path / "proc/4242").mkdir()
    assert silent(tmp_path, "4242") == agent
    assert silent(tmp_path, "4243") is silent(tmp_path, "0") is silent(tmp_path, "") is None
    sockets = ports.parse_sockets(Path("/proc/net/tcp").read_text(), listening=True)
    (tmp_path / "proc/4242/fd").mkdir()
    (tmp_path / "proc/4242/fd/3").symlink_to(f"socket:[{next(sock.inode for sock in sockets if sock.port == taken)}]")
    assert silent(tmp_path, "4243") is None
    (tmp_path / "proc/4242/cmdline").write_text("python\0/srv/bin/edgeagent\0run\0--config\0porch.yaml\0")
    assert silent(tmp_path, "4243") == agent

    door, _ = looks(text, agent=agent)
    assert (door.level, door.text) == (Level.PROBLEM, f"The agent runs at 127.0.0.1:{taken} and does not answer.")
    for finding in asked(agent):
        assert finding.level is Level.NOTICE and "not looked at, since the agent runs and does not answer" in finding.text
    assert "journalctl -u edgeagent" in door.advice


def test_who_may_not_see_all_that_it_runs_by_is_told_to_use_sudo() -> None:
    """As of a board of a site, which gives name and settings: a restart would change nothing."""
    health = {"ok": True, "device": "gate-7", "broker": False, "cameras": {"yard": {}}, "devices": {}}
    agent = RunningAgent("http://127.0.0.1:8080", None, health, hidden=True)
    door, _ = looks("", agent=agent)
    stranger = RunningAgent("http://127.0.0.1:8080", None, {"ok": True}, hidden=True)
    for finding in door, *asked(agent), *asked(stranger):
        assert finding.level is Level.NOTICE
        assert finding.advice.startswith("Run this with sudo"), finding
    assert looks("", agent=RunningAgent("", None, health))[0].advice.startswith("Restart the agent")


def test_udp_ports(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        few = f"limits: {{viewers: 1}}\nwebrtc: {{ports: {port}-{port}}}"
        _, pictures = looks(few)
        assert pictures.level is Level.PROBLEM
        assert f"(process {os.getpid()})" in pictures.text
        _, pictures = looks(few, agent=RunningAgent("", None, {"ok": True}))
        assert pictures.level is Level.OK, "they are the agent's own"
    _, pictures = looks("webrtc: {ports: 40000-40009}")
    assert pictures.level is Level.NOTICE
    assert "serve 10 viewers at once, fewer than the 64" in pictures.text
    empty = System(tmp_path, run=lambda _: "", board=BoardHealth, user="pi")
    _, pictures = looks("webrtc: {ports: 40000-40100}", empty)
    assert (pictures.level, pictures.facts["in_use"]) == (Level.OK, 0)


@pytest.mark.parametrize(
    ("kind", "command"), [("ufw", "ufw allow 50000:50100/udp"), ("firewalld", "firewall-cmd"), ("nftables", "nft list")]
)
def test_firewalls(tmp_path: Path, kind: str, command: str) -> None:
    (tmp_path / "etc/ufw").mkdir(parents=True)
    (tmp_path / "etc/ufw/ufw.conf").write_text(f"# a comment\nENABLED={'yes' if kind == 'ufw' else 'no'}\nLOGLEVEL=low\n")

    def run(asked: Sequence[str]) -> str:
        return "active\n" if list(asked) == ["systemctl", "is-active", f"{kind}.service"] else "inactive\n"

    system = System(tmp_path, run=run, board=BoardHealth, user="pi")
    for text in (
        "http: {listen: '0.0.0.0:8123', open: true}\nwebrtc: {ports: 50000-50100}",
        "http: {listen: '0.0.0.0:8123', open: true}",
    ):
        (finding,) = ports.look_at_firewall(config(text), system)
        assert finding.level is Level.NOTICE
        assert "TCP port 8123 and UDP ports 50000-50100" in finding.text
        assert command in finding.advice
        assert ("Set `webrtc.ports: 50000-50100` first" in finding.advice) == ("webrtc" not in text)


def test_no_firewall(tmp_path: Path) -> None:
    (finding,) = ports.look_at_firewall(None, System(tmp_path, run=lambda _: "", board=BoardHealth, user="pi"))
    assert finding.level is Level.OK


def test_the_kernels_table() -> None:
    with socket.socket() as listener, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams:
        listener.bind(("127.0.0.1", 0))
        datagrams.bind(("::1", 0))
        port, inode = listener.getsockname()[1], os.fstat(listener.fileno()).st_ino
        assert ports.Socket(port, inode, os.getuid()) not in ports.parse_sockets(Path("/proc/net/tcp").read_text(), listening=True)
        listener.listen()
        assert ports.Socket(port, inode, os.getuid()) in ports.parse_sockets(Path("/proc/net/tcp").read_text(), listening=True)
        found = ports.parse_sockets(Path("/proc/net/udp6").read_text())
        assert ports.Socket(datagrams.getsockname()[1], os.fstat(datagrams.fileno()).st_ino, os.getuid()) in found


@given(st.text(max_size=300))
def test_nonsense_is_no_socket(text: str) -> None:
    assert all(0 <= sock.port < 65536 for sock in ports.parse_sockets(text))
