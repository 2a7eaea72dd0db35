"""A real Mosquitto with the configuration of a site."""

from __future__ import annotations

__all__ = ["SiteBroker"]

import dataclasses
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeagent_provisioning.broker import files
from edgeagent_provisioning.broker.settings import Settings, checked
from edgeagent_provisioning.site import Site
from tests.support.components import require
from tests.support.ports import free_ports

START_S = 60.0
_RUNNING = " running\n"


class SiteBroker:
    """Mosquitto as `provision broker mosquitto` renders it, on free ports of the loopback, between `with` and its end."""

    def __init__(self, site: Site, now: float, **settings: object) -> None:
        self._binary = require("mosquitto")
        boards, viewers, joining = free_ports(3)
        ports = {"boards_port": boards, "viewers_port": viewers, "joining_port": joining}
        self.site = site
        self.settings = dataclasses.replace(Settings(("localhost",), bind="127.0.0.1", **ports), **settings)  # type: ignore[arg-type]
        self.now = now
        self._process: subprocess.Popen[bytes] | None = None
        checked(self.settings, [board.name for board in site.registry.boards()]).save(site, now)
        files.update(site, now)
        self.folder = files.folder_of(site, self.settings)

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, configuration: Path | None = None) -> None:
        before = self.log.count(_RUNNING)
        with (self.folder / "log").open("ab") as log:
            command = [self._binary, "-v", "-c", str(configuration or self.folder / files.CONFIGURATION)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self.wait(lambda: self.log.count(_RUNNING) > before)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or the broker has ended."""
        deadline = time.monotonic() + START_S
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            threading.Event().wait(0.01)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.terminate()
            process.wait(60)

    def __enter__(self) -> SiteBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
