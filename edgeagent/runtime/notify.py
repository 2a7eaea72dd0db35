"""Tells systemd how the service fares, by the datagrams of sd_notify(3); without systemd it does nothing."""

from __future__ import annotations

__all__ = ["Notifier", "ready", "service", "stopping"]

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that systemd named in the environment. Never blocks, never raises.

    Attributes:
        watchdog_period_s: How often to call `watchdog`: half of `WatchdogSec=`; None where systemd does not watch.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract name.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_period_s = _watchdog_period_s(environ)

    def ready(self, status: str = "") -> None:
        """Started: units that wait for this one go on."""
        self._send(READY="1", STATUS=status)

    def stopping(self, status: str = "") -> None:
        """Shutting down."""
        self._send(STOPPING="1", STATUS=status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(STATUS=text)

    def watchdog(self) -> None:
        """Still alive; to be called from what must not hang."""
        self._send(WATCHDOG="1")

    def _send(self, **fields: str) -> None:
        if not self._address:
            return
        lines = [f"{key}={' '.join(value.split())}" for key, value in fields.items() if value]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
            datagram.setblocking(False)
            datagram.sendto("\n".join(lines).encode(), self._address)


def _watchdog_period_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        period_s = int(environ.get("WATCHDOG_USEC", "0")) / 2_000_000
    except ValueError:
        return None
    return period_s if period_s > 0 else None


service = Notifier()
"""The way to the systemd that started this process."""
ready, stopping = service.ready, service.stopping
