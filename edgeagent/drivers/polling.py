"""Lets sensors be read when they are due: those of one interval together, and what they read reaches the loop in one go.

Twenty sensors at ten readings a second wake the loop twenty times a second so, not four hundred.
"""

from __future__ import annotations

__all__ = ["Polled", "Poller"]

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from edgeagent.drivers.thread import DriverThread, tame

_TOGETHER_S = 0.002
"""What is due so soon is read now."""
_ALIGNED_S = 10.0
"""Up to this interval readings come at multiples of it, so that they come together."""


class _Tells(Protocol):
    def took(self, polled: Polled, values: Any, error: Exception | None, at: float) -> None: ...
    def hangs(self, polled: Polled) -> None: ...
    def begins(self) -> None: ...


class Polled:
    """One sensor while it is live.

    Args:
        thread: Of its driver.
        read: The driver's `read`.
        tells: Told on the loop when a read begins, and what came of it.
        interval_s: From read to read.
        timeout_s: How long a read may take.
        wake_s: Shortest time from read to read where the driver wakes.
        now: When it was read last.
    """

    def __init__(
        self,
        thread: DriverThread,
        read: Callable[[], Any],
        tells: _Tells,
        *,
        interval_s: float,
        timeout_s: float,
        wake_s: float,
        now: float,
    ) -> None:
        self.thread, self.read, self.tells = thread, read, tells
        self._interval_s, self._timeout_s, self._wake_s = interval_s, timeout_s, wake_s
        self.reading = False
        self._plan(now)

    def begin(self, now: float) -> None:
        """A read begins."""
        self.reading = True
        self._plan(now)

    def _plan(self, now: float) -> None:
        self._began, interval_s = now, self._interval_s
        self._due = now + interval_s
        if interval_s <= _ALIGNED_S:
            self._due = (math.floor(now / interval_s) + 1) * interval_s
            if self._due - now < interval_s / 2:
                self._due += interval_s

    def wake(self, now: float) -> None:
        """Read as soon as it may be."""
        self._due = min(self._due, max(now, self._began + self._wake_s))

    def next_look(self) -> float:
        """When to read, or to see whether the driver hangs."""
        return (self.thread.busy_since or self._began) + self._timeout_s if self.reading else self._due


class Poller:
    """Reads all that was added. Everything belongs to the loop on which `start` was called.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._polled: dict[Polled, None] = {}
        self._batches: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()
        self._arrived: list[tuple[Polled, Any, Exception | None, float]] = []

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
        for batch in self._batches:
            batch.cancel()

    def look(self) -> None:
        """Something is due earlier than it was."""
        if not self._polled or self._loop is None:
            return
        at = self._loop.time() + max(0.0, min(polled.next_look() for polled in self._polled) - self._clock())
        if self._timer:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        due = []
        for polled in list(self._polled):
            if polled.next_look() > now + _TOGETHER_S:
                continue
            if polled.reading:
                self.remove(polled)
                polled.tells.hangs(polled)
            else:
                due.append(polled)
        if due:
            self._read(due, now)
        self.look()

    def _read(self, due: list[Polled], now: float) -> None:
        assert self._loop
        # An executor's work, so that the loop knows of it as of any other: a virtual clock stands meanwhile.
        batch = self._loop.run_in_executor(_Batch(due, now, self._arrive), lambda: None)
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)

    def _arrive(self, polled: Polled, values: Any, error: Exception | None) -> None:
        """On the driver's thread."""
        with self._lock:
            self._arrived.append((polled, values, error, self._clock()))
            first = len(self._arrived) == 1
        if first and self._loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody is left to tell
                self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for polled, values, error, at in arrived:
            if polled in self._polled:
                polled.reading = False
                polled.tells.took(polled, values, error, at)
        self.look()


class _Batch(Executor):
    """Reads of several sensors, each on the thread of its driver; its one job is done when the last of them is."""

    def __init__(self, due: list[Polled], now: float, arrive: Callable[[Polled, Any, Exception | None], None]) -> None:
        self._due, self._now, self._arrive = due, now, arrive
        self._lock, self._left = threading.Lock(), len(due)
        self._done: Future[Any] = Future()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._done.set_running_or_notify_cancel()
        for polled in self._due:
            polled.begin(self._now)
            polled.tells.begins()
            polled.thread.post(lambda polled=polled: self._one(polled))  # type: ignore[misc]
        return self._done

    def _one(self, polled: Polled) -> None:
        values, error = None, None
        try:
            values = polled.read()
        except BaseException as raised:  # whatever a driver does, the agent lives on
            error = tame(raised)
        self._arrive(polled, values, error)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._done.set_result(None)
