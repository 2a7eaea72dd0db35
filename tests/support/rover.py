"""An agent with the simulated rover, and what its world says about it: the truth, whatever the page and the agent believe."""

from __future__ import annotations

__all__ = ["EYES", "PATTERN", "ROVER", "Rover", "World"]

import contextlib
import os
import re
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeagent_devices._sim_link import Link
from tests.support.agents import Agent
from tests.support.procs import DEADLINE_S, wait_until

EYES = {"driver": "sim-rover-camera", "rover": "rover", "size": "320x180", "fps": 10, "bitrate": "300k"}
"""What the rover sees."""
PATTERN = {"driver": "test-pattern", "size": "320x180", "fps": 10, "bitrate": "200k"}
"""Any moving picture: its camera starts at once, where the world has to be painted first."""
ROVER = {"driver": "sim-rover", "title": "Rover"}
PATIENT = {"expiry_ms": 1500, "max_picture_age_ms": 10_000}
"""Of `control`: on a busy machine neither set-points nor pictures come in time, and most tests are not about that."""


class World:
    """The world of the rover `rover` that runs by now."""

    def __init__(self, folder: Path) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(DEADLINE_S)
        try:
            connection.connect(str(folder / "edgeagent-sim" / "rover.sock"))
        except OSError:
            connection.close()
            raise
        self._link = Link(connection)

    def ask(self, do: str = "state", **values: Any) -> Mapping[str, Any]:
        """See `edgeagent_devices._sim_world`."""
        return self._link.ask(do, **values)

    def begin(self, drain: float = 1.0) -> None:
        """The rover is back at its start, with a full battery; target 1 is 4 m straight ahead."""
        self.ask("setup", seed=1, size=16, drain=drain)
        self.ask("reset")

    @property
    def moving(self) -> bool:
        """Whether it goes, and was told to."""
        state = self.ask()
        return bool(state["throttle"] and abs(state["speed"]) > 0.2)

    @property
    def still(self) -> bool:
        """Whether it stands, and was last told to."""
        state = self.ask()
        return not (state["speed"] or state["turn"] or state["throttle"] or state["steer"])

    def stopped(self, since: float) -> bool:
        """Whether it was told to stop after that instant of CLOCK_MONOTONIC, and stands."""
        return (self.ask()["stopped_at"] or 0.0) > since and self.still

    def end(self) -> None:
        """Without waiting until everybody has been gone for a while."""
        pid = self.ask()["pid"]
        self._link.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Rover(Agent):
    """An agent with the device `rover` and a camera `eyes`, in a runtime directory of its own.

    Args:
        folder: For the configuration.
        control: The section of that name, over `PATIENT`.
        eyes: The camera of that name.
        cameras, devices: Added to those two.
        more: Other sections.
    """

    def __init__(
        self,
        folder: Path,
        *,
        eyes: Mapping[str, Any] = PATTERN,
        control: Mapping[str, Any] | None = None,
        cameras: Mapping[str, Any] | None = None,
        devices: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        listen: str = "127.0.0.1",
        **more: Any,
    ) -> None:
        self._runtime = tempfile.TemporaryDirectory(prefix="rover-")  # a socket's path is short
        config = {
            "cameras": {"eyes": dict(eyes), **(cameras or {})},
            "devices": {"rover": ROVER, **(devices or {})},
            "control": {**PATIENT, **(control or {})},
            "limits": {"offers_per_s": 100},
            **more,
        }
        runtime = {"XDG_RUNTIME_DIR": self._runtime.name, "RUNTIME_DIRECTORY": ""}
        super().__init__(folder, config, env={**(env or {}), **runtime}, prefix=prefix, listen=listen)
        self._world: World | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_healthy()
        if self._world is None:
            self.wait_for(Path(self._runtime.name, "edgeagent-sim", "rover.sock").exists, "the rover's world")
            self.wait_for(self._find, "the rover's world to answer")
        return self

    def _find(self) -> bool:
        try:
            self._world = World(Path(self._runtime.name))
        except OSError:  # it does not listen yet
            return False
        return True

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        if self._world:
            self._world.end()
        self._runtime.cleanup()

    def restart(self) -> None:
        """End it where it still runs, and start it again at the same address; the world goes on."""
        super().__exit__()
        self.__enter__()

    def kill(self, number: int) -> None:
        """Send the agent's process a signal."""
        os.kill(self.pid, number)

    @property
    def world(self) -> World:
        assert self._world
        return self._world

    def drive_page(self, camera: str = "eyes", host: str = "127.0.0.1") -> str:
        """Address of the page that drives by a camera."""
        return f"http://{host}:{self.port}/#drive/{camera}"

    def count(self, metric: str, word: str) -> int:
        """One of the agent's counters of control, such as `control_stops`, by its label."""
        found = re.search(rf'^edgeagent_{metric}_total{{\w+="{word}"}} (\S+)$', self.get("/metrics"), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def stops(self, why: str) -> int:
        """How often the agent stopped something for this reason."""
        return self.count("control_stops", why)

    def wait_stops(self, why: str, more_than: int) -> None:
        wait_until(lambda: self.stops(why) > more_than, f"a stop for {why} to be counted")

    def keeper(self) -> tuple[int, int]:
        """The keeper's guard and its worker."""
        (guard,) = [pid for pid in children(self.pid) if b"edgeagent.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        (worker,) = children(guard)
        return guard, worker


def children(pid: int) -> list[int]:
    """Of a process, whichever of its threads started them."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
