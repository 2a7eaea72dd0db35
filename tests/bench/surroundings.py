"""What stands around the agent while it is measured: an IP camera and a broker."""

from __future__ import annotations

__all__ = ["broker", "ip_camera"]

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.servers import go2rtc
from tests.support.broker import Broker
from tests.support.procs import Program

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def ip_camera(go2rtc_built: str) -> Iterator[str]:
    """An IP camera with stamped pictures and an IDR every two seconds: its RTSP address."""
    with (
        go2rtc("", executable=go2rtc_built) as server,
        Program([sys.executable, "-m", "tests.bench.ip_camera", server.rtsp], cwd=ROOT) as camera,
    ):
        camera.wait_for(lambda: _describes(server.rtsp), "the IP camera's picture")
        yield server.rtsp


def _describes(address: str) -> bool:
    """Whether an RTSP server knows the stream."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), 5) as connection:
        connection.sendall(f"DESCRIBE {address} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
        return b" 200 " in connection.recv(64)


@contextmanager
def broker() -> Iterator[Broker]:
    """Mosquitto on loopback, open to all."""
    with tempfile.TemporaryDirectory(prefix="broker-") as folder, Broker(Path(folder)) as running:
        yield running
