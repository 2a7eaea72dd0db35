"""Sensors that are due together: those that have proven quick one after the other on one thread, all others on their own.

A thread that is woken costs more than what a quick sensor does on it. Which are quick is seen from how long their reads took; one
that is quick no longer holds the others up for `ROUND_S` at most, and has to prove itself for longer the next time.
"""

from __future__ import annotations

__all__ = ["Polled", "Reader", "Round", "Tells", "together"]

import functools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, Protocol

from edgeagent.drivers.thread import DriverThread, tame
from edgeagent.model import Value

ROUND_S = 0.05
"""After so long a round on the common thread is taken apart."""
_QUICK_S = 0.005
"""A read that takes longer is not quick; with some room for threads that wait for each other."""
_PROOF, _MAX_PROOF = 5, 3000
"""How many reads have to be quick, one after the other: at first, and for one that keeps holding others up."""
_ALIGNED_S = 10.0
"""Up to this interval readings come at multiples of it, so that they come together."""


class Tells(Protocol):
    """Told on the loop."""

    def took(self, values: Any, error: Exception | None, at: float) -> Mapping[str, Mapping[str, Value]]:
        """A read has ended; returns what is to be told of it."""

    def hangs(self) -> None:
        """A read does not end."""

    def begins(self) -> None:
        """A read begins."""


class Polled:
    """One sensor while it is live.

    Args:
        thread: Of its driver.
        read: The driver's `read`.
        tells: Who is told.
        interval_s: From read to read.
        timeout_s: How long a read may take.
        wake_s: Shortest time from read to read where the driver wakes.
        shared: Whether it may be read on another thread than its own.
        now: When it was read last.
    """

    def __init__(
        self,
        thread: DriverThread,
        read: Callable[[], Any],
        tells: Tells,
        *,
        interval_s: float,
        timeout_s: float,
        wake_s: float,
        shared: bool,
        now: float,
    ) -> None:
        self.thread, self.read, self.tells = thread, read, tells
        self._interval_s, self._timeout_s, self._wake_s, self._shared = interval_s, timeout_s, wake_s, shared
        self._proof, self._quick = _PROOF, 0
        self.reading = False
        self.last_s = math.inf
        """How long it took the last time."""
        self._plan(now)

    @property
    def quick(self) -> bool:
        """Whether it may be read together with others."""
        return self._shared and self._quick >= self._proof

    def took(self, seconds: float) -> None:
        """A read has ended. Called on the thread that read."""
        self.last_s = seconds
        self._quick = self._quick + 1 if seconds < _QUICK_S else 0

    def held_up(self) -> None:
        """Others had to wait for it."""
        self._quick, self._proof = 0, min(10 * self._proof, _MAX_PROOF)

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


def together(due: Iterable[Polled]) -> list[Polled]:
    """Those that one thread may read, as long as it takes half a round at most; none where it would be just one."""
    chosen, left_s = [], ROUND_S / 2
    for polled in due:
        if polled.quick and polled.last_s <= left_s:
            chosen.append(polled)
            left_s -= polled.last_s
    return chosen if len(chosen) > 1 else []


class Round(Executor):
    """Reads of several sensors; its one job is done when the last of them is.

    Args:
        due: What is read.
        common: Which of them one after the other, on `reader`.
        now: Seconds of the clock.
        clock: The same.
        arrive: Told on the thread that read.
        tell: Called on any thread: something has arrived, and the job is not done yet.
    """

    def __init__(
        self,
        due: list[Polled],
        common: list[Polled],
        reader: Reader | None,
        now: float,
        clock: Callable[[], float],
        arrive: Callable[[Polled, Any, Exception | None, float], None],
        tell: Callable[[], None],
    ) -> None:
        self._due, self._waiting, self._reader, self._now = due, deque(common), reader, now
        self._clock, self._arrive, self._tell = clock, arrive, tell
        self._lock, self._left = threading.Lock(), len(due)
        self._current: Polled | None = None
        self._done: Future[Any] = Future()
        self.until = now + ROUND_S if common else math.inf
        """When to look whether the common thread is held up; infinite when it has done its part."""

    @property
    def reading(self) -> bool:
        """Whether the common thread has not done its part yet."""
        return self.until < math.inf

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._done.set_running_or_notify_cancel()
        common = set(self._waiting)
        for polled in self._due:
            polled.begin(self._now)
            polled.tells.begins()
            if polled not in common:
                polled.thread.post(functools.partial(self._apart, polled))
        if self._reader and common:
            self._reader.take(self)
        return self._done

    def give_up(self, live: Callable[[Polled], bool]) -> None:
        """The common thread is held up: what it has not begun goes on elsewhere. Called on the loop.

        Args:
            live: Whether it is still to be read.
        """
        with self._lock:
            self.until = math.inf
            waiting, culprit = list(self._waiting), self._current
            self._waiting.clear()
        if culprit:
            culprit.held_up()
        for polled in waiting:
            if live(polled):
                polled.thread.post(functools.partial(self._apart, polled))
            else:
                self._over(1)

    def read(self) -> None:
        """The part of the common thread, on it."""
        over = 0
        while (polled := self._next()) is not None:
            over += polled.thread.lend(functools.partial(self._read, polled), functools.partial(self._apart, polled))
        if over:
            self._over(over)

    def _next(self) -> Polled | None:
        with self._lock:
            self._current = self._waiting.popleft() if self._waiting else None
            if not self._current:
                self.until = math.inf
            return self._current

    def _apart(self, polled: Polled) -> None:
        if polled.thread.accepting:  # it may have failed while this waited
            self._read(polled)
        self._over(1)

    def _read(self, polled: Polled) -> None:
        values, error, began = None, None, self._clock()
        try:
            values = polled.read()
        except BaseException as raised:  # whatever a driver does, the agent lives on
            error = tame(raised)
        at = self._clock()
        polled.took(at - began)
        self._arrive(polled, values, error, at)

    def _over(self, count: int) -> None:
        with self._lock:
            self._left -= count
            last = not self._left
        if last:
            self._done.set_result(None)
        else:
            self._tell()


class Reader:
    """A thread that reads rounds until it is left."""

    def __init__(self) -> None:
        self._rounds: SimpleQueue[Round | None] = SimpleQueue()
        threading.Thread(target=self._run, name="device-reads", daemon=True).start()

    def take(self, one: Round) -> None:
        """Read this next."""
        self._rounds.put(one)

    def leave(self) -> None:
        """Let the thread end when it comes back."""
        self._rounds.put(None)

    def _run(self) -> None:
        while one := self._rounds.get():
            one.read()
