"""The thread of a sensor's or an actuator's driver: `stop` before set-points, these before everything else.

It is an executor, so that the loop waits for its work as for any other; unlike `ThreadPoolExecutor` it may be left behind: a driver
that hangs in a bus call keeps neither the loop nor the end of the process waiting.
"""

from __future__ import annotations

__all__ = ["DriverThread", "tame"]

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

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
        on_fault: Told on this thread (or on the rescuer's) what `apply` or `stop` raised; nothing is applied after it.
    """

    def __init__(self, driver: Driver, clock: Callable[[], float], on_fault: Callable[[Exception], None]) -> None:
        self._driver, self._clock, self._on_fault = driver, clock, on_fault
        self._actuator = driver if isinstance(driver, Actuator) else None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[Callable[[], None]] = deque()
        self._values: dict[str, float] = {}
        self._stop = self._ended = self._rescuing = self._job_next = False
        self._accepting = False
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy_since(self) -> float | None:
        """When the call began that the driver is in; None while it rests."""
        return self._busy_since

    @property
    def accepting(self) -> bool:
        """Whether `apply` and `stop` reach the driver: from a good `open` until it fails or is closed."""
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
            if self._busy_since is not None or self._stop or self._values or self._jobs:
                self._jobs.append(later)
                self._changed.notify_all()
                return False
            self._busy_since = self._clock()
        try:
            now()
        finally:
            with self._lock:
                self._busy_since = None
                if self._stop or self._values or self._jobs or self._ended:
                    self._changed.notify_all()
        return True

    def opened(self) -> None:
        """The driver's `open` has succeeded: from now on it can be stopped and set."""
        with self._changed:
            self._accepting, self._stop = True, False
            self._values.clear()

    def refuse(self) -> None:
        """Nothing is applied any more."""
        with self._changed:
            self._accepting = False
            self._values.clear()

    def apply(self, values: Mapping[str, float]) -> bool:
        """Set axes; the newest value of each wins. False where nothing is accepted."""
        with self._changed:
            if not self._accepting:
                return False
            self._values.update(values)
            self._changed.notify_all()
        return True

    def stop(self) -> None:
        """Stop the actuator next. Where the driver is in another call, and still is after 50 ms, a thread of its own does it."""
        with self._changed:
            if not self._accepting:
                return
            self._values.clear()
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
            self._call(self._stop_now)
        with self._changed:
            self._rescuing = False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy_since = None
                self._changed.wait_for(self._has_work)
                values: dict[str, float] = {}
                job: Callable[[], None] | None = None
                stop = self._stop
                if not stop:
                    if self._values and not (self._job_next and self._jobs):
                        values, self._values = self._values, {}
                    elif self._jobs:
                        job = self._jobs.popleft()
                    else:
                        return
                    self._job_next = bool(values)  # a slow bus under a flood of set-points is still read in between
                self._busy_since = self._clock()
            if stop:
                self._call(self._stop_now)
                with self._changed:
                    self._stop = False
                    self._changed.notify_all()
            elif job is not None:
                job()
            else:
                self._call(functools.partial(self._apply_now, values))

    def _has_work(self) -> bool:
        lent = self._busy_since is not None
        return not lent and bool(self._stop or self._values or self._jobs or self._ended)

    def _apply_now(self, values: Mapping[str, float]) -> None:
        assert self._actuator
        try:
            self._actuator.apply(values)
        except BaseException:
            self.refuse()
            self._actuator.stop()
            raise

    def _stop_now(self) -> None:
        if self._actuator:
            self._actuator.stop()

    def _call(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BaseException as error:  # whatever a driver does, the agent lives on
            self.refuse()
            self._on_fault(tame(error))
