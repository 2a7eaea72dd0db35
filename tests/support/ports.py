"""Ports for servers of tests: no two tests on this machine get the same one, whatever runs beside."""

from __future__ import annotations

__all__ = ["free_port", "free_ports"]

import fcntl
import os
import socket
import tempfile
from pathlib import Path

_FIRST, _LAST = 20_000, 32_000
"""Below those that Linux gives to clients (from 32768), so that none of them takes a port before its server does."""


def free_ports(count: int) -> list[int]:
    """Different ports that nobody uses at the moment, for TCP and UDP; a port comes again after 12,000 others."""
    path = Path(tempfile.gettempdir(), f"edgeagent-ports-{os.getuid()}")
    with path.open("a+") as counter:  # all test runs of this user count together
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        last = int(counter.read() or _LAST)
        found: list[int] = []
        for _ in range(_LAST - _FIRST):
            last = last + 1 if _FIRST <= last < _LAST else _FIRST
            if _free(last):
                found.append(last)
            if len(found) == count:
                break
        counter.truncate(0)
        counter.write(str(last))
    if len(found) < count:
        raise RuntimeError(f"no {count} free ports from {_FIRST} to {_LAST}")
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def _free(port: int) -> bool:
    try:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("0.0.0.0", port))
    except OSError:
        return False
    return True
