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
_SITE = "edgeagent-site.service"
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

    A site's service that runs here, out of the same release, begins anew with the agent, and is watched, too, where it ran well.

    Args:
        steps: The system.
        unit: The service.
    """

    def __init__(self, steps: Steps, unit: str = "edgeagent.service") -> None:
        self._steps = steps
        self._unit = unit
        self._live = steps.places.live
        self._root = [] if self._live else [f"--root={steps.places.root}"]
        self._beside: tuple[str, ...] | None = None
        self._watched: tuple[str, ...] = (unit,)

    def reload(self) -> None:
        if self._live:
            self._steps.run(["systemctl", "daemon-reload"])

    def enable(self) -> None:
        self._steps.run(["systemctl", *self._root, "enable", self._unit])

    def restart(self) -> None:
        if not self._live:
            return
        if self._beside is None:  # before a release is tried, which may be what ends it
            self._look_beside()
        for unit in (self._unit, *(self._beside or ())):
            self._steps.run(["systemctl", "restart", unit], timeout_s=180)

    def steady(self) -> bool:
        if not self._live or self._steps.dry_run:
            return True
        started, end = {unit: self._property("ExecMainPID", unit) for unit in self._watched}, time.monotonic() + _STEADY_S
        while time.monotonic() < end:
            for unit, pid in started.items():
                if self._property("ActiveState", unit) != "active" or self._property("ExecMainPID", unit) != pid:
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

    def _look_beside(self) -> None:
        there = not self._steps.dry_run and (self._steps.places.units / _SITE).exists()
        runs = there and self._property("ActiveState", _SITE) in ("active", "activating")
        self._beside = (_SITE,) if runs else ()
        since = self._property("ActiveEnterTimestampMonotonic", _SITE) if runs else ""
        # One that failed before, as for want of its port, must not keep out the release that may mend it.
        if since.isdigit() and int(since) and time.monotonic() - int(since) / 1e6 > _STEADY_S:
            self._watched = (self._unit, _SITE)

    def _property(self, name: str, unit: str = "") -> str:
        try:
            command = ["systemctl", "show", "--value", f"--property={name}", unit or self._unit]
            return self._steps.run(command, timeout_s=30).strip()
        except EdgeAgentError:
            return ""
