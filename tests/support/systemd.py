"""A stand-in for the systemd that started a service: the socket that it is told by."""

from __future__ import annotations

__all__ = ["Systemd"]

import socket
import threading
from pathlib import Path
from typing import Self

from tests.support.procs import DEADLINE_S, wait_until


class Systemd:
    """Collects what a service tells by sd_notify(3), while the `with` block lasts.

    Args:
        folder: For the socket.
        watchdog_s: WatchdogSec=.
    """

    def __init__(self, folder: Path, watchdog_s: float = 1.0) -> None:
        self.environ = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        self.told: list[str] = []
        """Lines like `READY=1`, in their order."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._socket.bind(self.environ["NOTIFY_SOCKET"])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.environ["NOTIFY_SOCKET"])
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while data := self._socket.recv(65536):
            self.told += data.decode().splitlines()

    def wait_for(self, line: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until a line begins so."""
        wait_until(
            lambda: any(told.startswith(line) for told in tuple(self.told)), f"systemd to be told {line}", deadline_s=deadline_s
        )
