"""The motor of the control bench: `tests.support.recorder` in the keeper of a real agent, and what it has written down."""

from __future__ import annotations

__all__ = ["Motor", "driven_agent"]

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.operating import DEVICE
from tests.bench.servers import CAMERA
from tests.support import blocker, recorder
from tests.support.agents import Agent
from tests.support.link import BOARD
from tests.support.procs import wait_until

TOKEN = "only for this measurement"
BLOCKER = "blocker"


class Motor:
    """What the motor was told, as it was told.

    Args:
        folder: Where it writes, and where faults are put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "lines"
        self._offset = 0
        self._lines: list[recorder.Line] = []

    def lines(self, since: float = 0.0) -> list[recorder.Line]:
        """Lines written after a moment of CLOCK_MONOTONIC."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._lines += [json.loads(text) for text in whole.splitlines()]
        return [line for line in self._lines if line["at"] > since] if since else self._lines

    def first(self, what: str, since: float) -> recorder.Line | None:
        """The first such line after a moment."""
        return next((line for line in self.lines(since) if line["what"] == what), None)

    def wait_first(self, what: str, since: float) -> recorder.Line:
        """Wait for it."""
        wait_until(lambda: self.first(what, since), f"the motor to be told {what}")
        found = self.first(what, since)
        assert found is not None
        return found

    @property
    def speed(self) -> float:
        """What it was last told."""
        told = [line for line in self.lines() if line["device"] == DEVICE]
        return float(told[-1]["throttle"]) if told and told[-1]["what"] == "apply" else 0.0

    @property
    def worker(self) -> int:
        """The process that moves it."""
        return int([line for line in self.lines() if line["device"] == DEVICE][-1]["pid"])

    def fail(self, fault: str) -> Path:
        """Cause a fault, until the file that is returned is removed."""
        assert fault in recorder.FAULTS
        path = self.folder / f"{DEVICE}-{fault}"
        path.touch()
        return path


@contextmanager
def driven_agent(
    source: Path, *, prefix: Sequence[str] = (), remote: bool = False, **control: Any
) -> Iterator[tuple[Agent, Motor]]:
    """An agent with a camera, a motor, and a driver that can hold up its loop; `remote`: reached across a `Link`; `control`: keys
    of that section."""
    with tempfile.TemporaryDirectory(prefix="driven-") as folder:
        place, notes, modules = Path(folder), Path(folder, "notes"), Path(folder, "modules")
        notes.mkdir()
        modules.mkdir()
        env = recorder.install(modules)
        blocker.install(modules)
        whole: dict[str, Any] = {
            "cameras": {CAMERA: {"driver": "file", "path": str(source)}},
            "devices": {
                DEVICE: {"driver": "recorder", **recorder.options(notes)},
                BLOCKER: {"driver": "loop-blocker", "folder": str(notes)},
            },
            "control": {"operators": {"bench": {"token": TOKEN, "role": "admin"}}, **control},
            "limits": {"viewers": 100, "offers_per_s": 100},
        }
        with Agent(place, whole, env=env, prefix=prefix, listen=BOARD if remote else "127.0.0.1") as agent:
            motor = Motor(notes)
            if remote:
                agent.base = f"http://{BOARD}:{agent.port}"
            else:
                agent.wait_healthy()
            agent.wait_for(lambda: motor.first("stop", 0.0), "the keeper to open the motor")
            yield agent, motor
