"""systemd, as far as installing needs it."""

from __future__ import annotations

__all__ = ["Service", "Systemd"]

import time
from typing import Protocol

from edgeagent.errors import EdgeAgentError
from edgeagent.install.steps import Steps

_POLL_S = 1.0
_STEADY_S = 15.0
_HEARD_S = 60.0
_HEARD = "broker connected"  # of the words that the agent tells systemd (edgeagent/app.py)


class Service(Protocol):
    """The service that runs the agent; tests have one of their own."""

    def reload(self) -> None:
        """Take note of changed units."""

    def enable(self) -> None:
        """Start with the system from now on."""

    def restart(self) -> None:
        """Start it anew; returns once it is ready. Raises EdgeAgentError where it does not get ready."""

    def steady(self) -> bool:
        """Wait some seconds and say whether it ran on through them."""

    def heard(self) -> bool:
        """Wait up to a minute and say whether the broker has been reached."""


class Systemd:
    """`systemctl`; in another root than `/` nothing is started.

    Args:
        steps: The system.
        unit: The service.
    """

    def __init__(self, steps: Steps, unit: str = "edgeagent.service") -> None:
        self._steps = steps
        self._unit = unit
        self._live = steps.places.live
        self._root = [] if self._live else [f"--root={steps.places.root}"]

    def reload(self) -> None:
        if self._live:
            self._steps.run(["systemctl", "daemon-reload"])

    def enable(self) -> None:
        self._steps.run(["systemctl", *self._root, "enable", self._unit])

    def restart(self) -> None:
        if self._live:
            self._steps.run(["systemctl", "restart", self._unit], timeout_s=180)

    def steady(self) -> bool:
        if not self._live or self._steps.dry_run:
            return True
        started, end = self._property("ExecMainPID"), time.monotonic() + _STEADY_S
        while time.monotonic() < end:
            if self._property("ActiveState") != "active" or self._property("ExecMainPID") != started:
                return False
            time.sleep(_POLL_S)
        return True

    def heard(self) -> bool:
        end = time.monotonic() + _HEARD_S
        while _HEARD not in self._property("StatusText"):
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def _property(self, name: str) -> str:
        try:
            return self._steps.run(["systemctl", "show", "--value", f"--property={name}", self._unit], timeout_s=30).strip()
        except EdgeAgentError:
            return ""
