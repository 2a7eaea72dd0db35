"""Lets sensors be read when they are due: those of one interval together, and what they read reaches the loop in one go.

Twenty sensors at ten readings a second wake the loop twenty times a second so, not four hundred.
"""

from __future__ import annotations

__all__ = ["Poller"]

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from edgeagent.drivers.rounds import Polled, Reader, Round, together
from edgeagent.model import Value

_TOGETHER_S = 0.002
"""What is due so soon is read now."""
_SAME_S = 0.0001


class Poller:
    """Reads all that was added. Everything belongs to the loop on which `start` was called.

    Args:
        clock: Seconds.
        readings: Told what came of reads that ended together, by device, and when the last of them did.
    """

    def __init__(self, clock: Callable[[], float], readings: Callable[[Mapping[str, Mapping[str, Value]], float], None]) -> None:
        self._clock, self._readings = clock, readings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._polled: dict[Polled, None] = {}
        self._jobs: set[asyncio.Future[None]] = set()
        self._reader: Reader | None = None
        self._round: Round | None = None  # the reader's last
        self._lock = threading.Lock()
        self._arrived: list[tuple[Polled, Any, Exception | None, float]] = []
        self._told = False  # the loop will look at what has arrived

    def start(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()

    def add(self, polled: Polled) -> None:
        """Read it from now on."""
        self._polled[polled] = None
        self.look()

    def remove(self, polled: Polled) -> None:
        """Read it no more; what a read brings that has begun is dropped."""
        self._polled.pop(polled, None)

    def close(self) -> None:
        """Read nothing more."""
        self._polled.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._reader:
            self._reader.leave()
            self._reader = None
        for job in self._jobs:
            job.cancel()

    def look(self) -> None:
        """Something is due at another time than before."""
        if not self._polled or self._loop is None:
            return
        due = min(polled.next_look() for polled in self._polled)
        if self._round:
            due = min(due, self._round.until)
        at = self._loop.time() + max(0.0, due - self._clock())
        if self._timer:
            if abs(self._timer.when() - at) < _SAME_S:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        if self._round and self._round.until <= now:
            self._round.give_up(self._polled.__contains__)
            if self._reader:
                self._reader.leave()
                self._reader = None
            self._take()
        due = []
        for polled in list(self._polled):
            if polled.next_look() > now + _TOGETHER_S:
                continue
            if polled.reading:
                self.remove(polled)
                polled.tells.hangs()
            else:
                due.append(polled)
        if due:
            self._read(due, now)
        self.look()

    def _read(self, due: list[Polled], now: float) -> None:
        assert self._loop
        common = [] if self._round and self._round.reading else together(due)
        if common:
            self._reader = self._reader or Reader()
        one = Round(due, common, self._reader, now, self._clock, self._arrive, self._tell)
        if common:
            self._round = one
        # An executor's work, so that the loop knows of it as of any other: a virtual clock stands meanwhile.
        job = self._loop.run_in_executor(one, lambda: None)
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Future[None]) -> None:
        self._jobs.discard(job)
        self._drain()

    def _arrive(self, polled: Polled, values: Any, error: Exception | None, at: float) -> None:
        """On the thread that read."""
        with self._lock:
            self._arrived.append((polled, values, error, at))

    def _tell(self) -> None:
        """On the thread that read."""
        with self._lock:
            told, self._told = self._told, True
        if not told and self._loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to tell
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._take()
        self.look()

    def _take(self) -> None:
        with self._lock:
            arrived, self._arrived, self._told = self._arrived, [], False
        told: dict[str, Mapping[str, Value]] = {}
        last = 0.0
        for polled, values, error, at in arrived:
            if polled in self._polled:
                polled.reading = False
                told.update(polled.tells.took(values, error, at))
                last = max(last, at)
        if told:
            self._readings(told, last)
