"""An actuator that writes down when it is opened, moved, stopped and closed, and fails when it is told to.

A line of JSON each, with the time on CLOCK_MONOTONIC, which is one clock for all processes. Faults are files that a test puts into
its folder, each named for one. `install` makes it a distribution of its own, found by its entry point.
"""

from __future__ import annotations

__all__ = ["FAULTS", "Line", "Recorder", "install", "lines", "options"]

import ctypes
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgeagent.drivers import Actuator, Axis, DeviceFault, Reading, Readings, Sensor, command

FAULTS = {
    "apply-fails": "the bus is gone",
    "apply-hangs": "apply() does not return as long as this is there",
    "holds-the-loop": "the keeper's own loop does not turn as long as this is there",
    "keeps-the-lock": "apply() holds the interpreter's lock: nothing of the process turns",
    "open-fails": "it is not plugged in",
    "stop-fails": "stop() raises, once open",
    "stop-hangs": "stop() does not return, once open",
}
Line = dict[str, Any]
_never = threading.Event()


class Recorder(Actuator, Sensor):
    """Two axes, a reading and a command."""

    summary = "writes down what it is told"
    interval_s = 0.2

    class Options(BaseModel, extra="forbid"):
        folder: Path
        name: str = "recorder"

    _opened = False
    _speed = 0.0

    def has(self, fault: str) -> bool:
        assert fault in FAULTS
        return Path(self.options.folder, f"{self.name}-{fault}").exists()

    def wait_for_the_end_of(self, fault: str) -> None:
        while self.has(fault):
            _never.wait(0.01)

    def note(self, what: str, **more: Any) -> None:
        line = {"at": time.monotonic(), "what": what, "device": self.name, "pid": os.getpid(), **more}
        descriptor = os.open(Path(self.options.folder, "lines"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis(role="throttle"), "steer": Axis(role="steer", position=True)}

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {"speed": Reading()}

    def open(self) -> None:
        if self.has("open-fails"):
            raise DeviceFault("The recorder is not plugged in.")
        self.note("open")

    def close(self) -> None:
        self.note("close")

    def stop(self) -> None:
        if self._opened and self.has("stop-hangs"):
            _never.wait()
        if self._opened and self.has("stop-fails"):
            raise DeviceFault("The recorder cannot be stopped.")
        self._opened = True
        self._speed = 0.0
        self.note("stop", thread=threading.current_thread().name)

    def apply(self, values: Mapping[str, float]) -> None:
        self.note("apply", **values)
        self._speed = values.get("throttle", self._speed)
        if self.has("apply-fails"):
            raise DeviceFault("The recorder's bus is gone.")
        if self.has("holds-the-loop"):
            thread: Any = self.wake
            worker = thread.__self__._report.__self__
            turn = worker._turn

            def held(*given: object) -> None:
                self.wait_for_the_end_of("holds-the-loop")
                turn(*given)

            worker._turn = held
        if self.has("keeps-the-lock"):
            ctypes.PyDLL(None).sleep(60)
        self.wait_for_the_end_of("apply-hangs")

    def read(self) -> Readings:
        return {"speed": self._speed}

    @command(title="Add")
    def add(self, a: int, b: int) -> int:
        return a + b

    @command()
    def reach(self, throttle: float) -> float:
        return self.within("throttle", throttle)

    @command()
    def aim(self, steer: float) -> None:
        self.turned("steer", steer)

    @command()
    def break_down(self) -> None:
        raise DeviceFault("The recorder broke down.")


def install(modules: Path) -> dict[str, str]:
    """Put the driver `recorder` into a folder; returns the environment by which other processes find it."""
    (modules / "recorder.py").write_text(Path(__file__).read_text())
    information = modules / "recorder-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: recorder\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[edgeagent.drivers]\nrecorder = recorder:Recorder\n")
    return {"PYTHONPATH": f"{modules}:{Path(__file__).parents[2]}"}


def options(folder: Path) -> dict[str, Any]:
    """A recorder's options as JSON holds them."""
    return {"folder": str(folder)}


def lines(folder: Path, what: str = "", device: str = "") -> list[Line]:
    """What was written down so far."""
    path = folder / "lines"
    found = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    return [line for line in found if what in ("", line["what"]) and device in ("", line["device"])]
