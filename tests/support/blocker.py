"""A driver that holds up the agent's event loop when it is told to, which no part of the agent can be made to do from outside.

It belongs to tests: it looks for the loop on the stack of the main thread. `install` makes it a distribution of its own.
"""

from __future__ import annotations

__all__ = ["LoopBlocker", "install"]

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from edgeagent.drivers import Actuator, DeviceFault, command


class LoopBlocker(Actuator):
    """One command. When the loop is held up it writes a line, as `tests.support.recorder` does."""

    summary = "holds up the agent's event loop"
    moves = False

    class Options(BaseModel, extra="forbid"):
        folder: Path

    def open(self) -> None: ...
    def close(self) -> None: ...
    def stop(self) -> None: ...

    @command(title="Hold up the loop")
    def block(self, seconds: Annotated[float, Field(gt=0, le=10)]) -> None:
        """Returns at once."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None:
            if isinstance(loop := frame.f_locals.get("self"), asyncio.AbstractEventLoop):
                loop.call_soon_threadsafe(self._held, seconds)
                return
            frame = frame.f_back
        raise DeviceFault("The main thread runs no event loop.")

    def _held(self, seconds: float) -> None:
        line = {"at": time.monotonic(), "what": "blocked", "device": self.name, "pid": os.getpid()}
        with Path(self.options.folder, "lines").open("a") as file:
            file.write(json.dumps(line) + "\n")
        time.sleep(seconds)


def install(modules: Path) -> None:
    """Put the driver `loop-blocker` beside `recorder`, into the same folder; see `recorder.install`."""
    information = modules / "loop_blocker-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loop-blocker\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[edgeagent.drivers]\nloop-blocker = tests.support.blocker:LoopBlocker\n")
