"""Networks that come late, go, and return with other addresses: a board and its viewer in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import Agent
from tests.support.components import require
from tests.support.gobuild import whep_count
from tests.support.link import BOARD, VIEWER, Link
from tests.support.procs import Program, wait_until
from tests.support.whep import Viewers

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(150)]

LATER = "10.77.0.9"
"""The address that the board gets when it comes back."""
CAMERA = {"driver": "test-pattern", "size": "320x240", "bitrate": "200k"}


class Board(Agent):
    """An agent on the board's side; asked from there, where loopback is its own."""

    def __init__(self, folder: Path, link: Link, **config: Any) -> None:
        super().__init__(folder, {"cameras": {"gate": CAMERA}, **config}, prefix=link.on_board(), listen="0.0.0.0")
        self._link = link

    def get(self, path: str) -> str:
        code = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
        command = self._link.on_board(require("python3"), "-c", code, f"{self.base}{path}")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def link() -> Iterator[Link]:
    """A link whose two sides have files of their own for names."""
    with Link() as made, contextlib.ExitStack() as stack:
        folder = Path("/etc/netns", made.board)  # ip-netns(8): laid over /etc
        folder.mkdir(parents=True)
        stack.callback(folder.rmdir)
        for name, text in (
            ("hosts", "127.0.0.1 localhost\n"),
            ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ):
            (folder / name).write_text(text)
            stack.callback((folder / name).unlink)
        yield made


def ip(link: Link, *words: str) -> None:
    subprocess.run(["ip", "-n", link.board, *words], check=True)


def unplug(link: Link) -> None:
    """Without a carrier and an address, only loopback: a board whose Wi-Fi is not there."""
    ip(link, "addr", "flush", "dev", "link0")
    ip(link, "link", "set", "link0", "down")


def plug(link: Link, address: str) -> None:
    ip(link, "addr", "add", f"{address}/24", "dev", "link0")
    ip(link, "link", "set", "link0", "up")


@contextlib.contextmanager
def broker(link: Link, folder: Path) -> Iterator[Program]:
    """Mosquitto on the viewer's side."""
    config = folder / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(f"{user}allow_anonymous true\npersistence false\nlistener 1883 {VIEWER}\n")
    with Program(link.on_viewer(require("mosquitto"), "-c", str(config))) as program:
        yield program


def see_picture(link: Link, agent: Agent, host: str) -> Viewers:
    return Viewers(whep_count(require("go")), agent.whep(host=host), 1, "-delete=false", prefix=link.on_viewer())


def test_no_network_at_boot(tmp_path: Path) -> None:
    """Not even the broker's name can be resolved; then the link comes, and the name."""
    with link() as wire, broker(wire, tmp_path):
        unplug(wire)
        stun = {"ice_servers": [{"urls": "stun:broker.test:3478"}]}
        mqtt = {"url": "mqtt://broker.test", "keepalive_s": 5}
        with Board(tmp_path, wire, mqtt=mqtt, webrtc=stun) as agent:
            agent.wait_said("The broker's name broker.test cannot be resolved")
            agent.wait_healthy()
            plug(wire, BOARD)
            with see_picture(wire, agent, BOARD) as viewers:
                viewers.wait_open()
            hosts = Path("/etc/netns", wire.board, "hosts")
            hosts.write_text(f"127.0.0.1 localhost\n{VIEWER} broker.test\n")
            agent.wait_said("connected to the broker at", "again after")
            assert len(agent.said("cannot be resolved")) == 1
            assert agent.stop() == 0


def test_wifi_goes_and_returns_with_another_address(tmp_path: Path) -> None:
    mqtt = {"url": f"mqtt://{VIEWER}", "keepalive_s": 5}
    with link() as wire, broker(wire, tmp_path), Board(tmp_path, wire, mqtt=mqtt) as agent:
        agent.wait_said("connected to the broker at")
        with see_picture(wire, agent, BOARD) as viewers:
            viewers.wait_open()
            unplug(wire)
            agent.wait_said("The connection to the broker", "broke")
            agent.wait_said("this board has no network")
            wait_until(lambda: agent.health().get("viewers") == 0, "the session to be given up")
            plug(wire, LATER)
            with see_picture(wire, agent, LATER) as again:
                again.wait_open()
            agent.wait_said("connected to the broker at", "again after")
            agent.wait_said("the network is back after", f"now at {LATER}")
        assert len(agent.said("The connection to the broker")) == 1
        troubles = [line["message"] for line in agent.lines() if line["level"] not in ("info", "debug")]
        assert len(troubles) <= 5, troubles
        assert agent.stop() == 0


def test_an_address_that_changes_under_a_viewer(tmp_path: Path) -> None:
    """As when the lease ends: the link stays, the old address is gone, the viewer comes back to the new one."""
    with link() as wire, Board(tmp_path, wire) as agent:
        agent.wait_healthy()
        with see_picture(wire, agent, BOARD) as viewers:
            viewers.wait_open()
            ip(wire, "addr", "del", f"{BOARD}/24", "dev", "link0")
            ip(wire, "addr", "add", f"{LATER}/24", "dev", "link0")
            with see_picture(wire, agent, LATER) as again:
                again.wait_open()
                agent.wait_said(f"this board is now at {LATER}")
                before = again.snapshot()["frames"]
                wait_until(lambda: again.snapshot()["frames"] > before + 30, "the picture to go on")
        assert agent.stop() == 0
