"""The thread of a sensor's or a switch's driver: `stop` before everything else. What moves has one in the keeper.

It is an executor, so that the loop waits for its work as for any other; unlike `ThreadPoolExecutor` it may be left behind: a driver
that hangs in a bus call keeps neither the loop nor the end of the process waiting.
"""

from __future__ import annotations

__all__ = ["DriverThread", "tame"]

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from edgeagent.drivers.device import Actuator, Driver

P = ParamSpec("P")
T = TypeVar("T")

_RESCUE_AFTER_S = 0.05


def tame(error: BaseException) -> Exception:
    """What a driver raised, as something that ends nothing but its call: neither the process (SystemExit) nor a coroutine."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))


class DriverThread(Executor):
    """Runs what is submitted in order, one after the other. Any thread may call any method; none blocks.

    Args:
        driver: What it serves.
        clock: Seconds; for `busy_since`.
    """

    def __init__(self, driver: Driver, clock: Callable[[], float]) -> None:
        self._driver, self._clock = driver, clock
        self._actuator = driver if isinstance(driver, Actuator) else None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[Callable[[], None]] = deque()
        self._stop = self._ended = self._rescuing = False
        self._accepting = False
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy_since(self) -> float | None:
        """When the call began that the driver is in; None while it rests."""
        return self._busy_since

    @property
    def accepting(self) -> bool:
        """Whether `stop`, reads and commands reach the driver: from a good `open` until it fails or is closed."""
        return self._accepting

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` when its turn comes."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # for whoever waits
                future.set_exception(tame(error))
            else:
                future.set_result(result)

        self.post(job)
        return future

    def post(self, job: Callable[[], None]) -> None:
        """The same for what tells its outcome itself, and never raises."""
        with self._changed:
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"device-{self._driver.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def lend(self, now: Callable[[], None], later: Callable[[], None]) -> bool:
        """Call `now` on this thread, as on its own, if the driver rests; otherwise post `later`. Neither is done, and neither may
        raise, where the driver is not open.

        Returns:
            Whether nothing is left to come.
        """
        with self._lock:
            if not self._accepting:
                return True
            if self._busy_since is not None or self._stop or self._jobs:
                self._jobs.append(later)
                self._changed.notify_all()
                return False
            self._busy_since = self._clock()
        try:
            now()
        finally:
            with self._lock:
                self._busy_since = None
                if self._stop or self._jobs or self._ended:
                    self._changed.notify_all()
        return True

    def opened(self) -> None:
        """The driver's `open` has succeeded: from now on it can be used and stopped."""
        with self._changed:
            self._accepting, self._stop = True, False

    def refuse(self) -> None:
        """The driver failed or is closed: it is in no more use."""
        with self._changed:
            self._accepting = False

    def stop(self) -> None:
        """Stop the actuator next. Where the driver is in another call, and still is after 50 ms, a thread of its own does it."""
        with self._changed:
            if not self._accepting:
                return
            self._stop = True
            self._changed.notify_all()
            if self._busy_since is None or self._rescuing:
                return
            self._rescuing = True
        threading.Thread(target=self._rescue, name=f"device-{self._driver.name}-stop", daemon=True).start()

    def end(self) -> None:
        """Let the thread return once it has done what waits."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _rescue(self) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: not self._stop, _RESCUE_AFTER_S)
        if not done:
            self._stop_now()
        with self._changed:
            self._rescuing = False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy_since = None
                self._changed.wait_for(self._has_work)
                stop = self._stop
                if not stop and not self._jobs:
                    return
                job = None if stop else self._jobs.popleft()
                self._busy_since = self._clock()
            if job is not None:
                job()
                continue
            self._stop_now()
            with self._changed:
                self._stop = False
                self._changed.notify_all()

    def _has_work(self) -> bool:
        lent = self._busy_since is not None
        return not lent and bool(self._stop or self._jobs or self._ended)

    def _stop_now(self) -> None:
        if self._actuator:
            with contextlib.suppress(BaseException):  # whatever a driver does, the agent lives on; `close` follows, and stops, too
                self._actuator.stop()
