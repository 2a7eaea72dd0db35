from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.runtime.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket like systemd's, and what stands in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edgeagent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name[1:] if name.startswith("@") else name)
        server.settimeout(10)
        yield server, name


def test_states(systemd: tuple[socket.socket, str]) -> None:
    server, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("2 cameras\nWATCHDOG=trick")
    assert server.recv(1000) == b"READY=1\nSTATUS=2 cameras WATCHDOG=trick"
    notifier.watchdog()
    assert server.recv(1000) == b"WATCHDOG=1"
    notifier.status("3 viewers")
    assert server.recv(1000) == b"STATUS=3 viewers"
    notifier.stopping()
    assert server.recv(1000) == b"STOPPING=1"


def test_full_socket_neither_blocks_nor_raises(systemd: tuple[socket.socket, str]) -> None:
    _, name = systemd
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):
        notifier.watchdog()


def test_without_systemd() -> None:
    for environ in {}, {"NOTIFY_SOCKET": "/nowhere/at/all"}:
        Notifier(environ).ready()


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_period(environ: dict[str, str], period_s: float | None) -> None:
    assert Notifier(environ).watchdog_period_s == period_s
