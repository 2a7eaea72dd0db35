"""The end of the process, in bounded time: threads that hang in a driver or a name look-up hold up neither loop nor interpreter."""

from __future__ import annotations

__all__ = ["BoundedPool", "deaf_to", "leave_within", "prepare"]

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_GRACE_S = 1.0


class BoundedPool(ThreadPoolExecutor):
    """For `loop.set_default_executor`: its shutdown waits a second for what still runs, not for ever."""

    def __init__(self, max_workers: int = 8) -> None:
        super().__init__(max_workers, thread_name_prefix="edgeagent-pool")
        self._jobs: set[Future[object]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor.submit`."""
        job = super().submit(fn, *args, **kwargs)
        self._jobs.add(job)  # type: ignore[arg-type]
        job.add_done_callback(self._jobs.discard)
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; forget what has not begun."""
        super().shutdown(wait=False, cancel_futures=True)
        if wait:
            _wait(self._jobs)


def _wait(jobs: Iterable[Future[object]]) -> None:
    wait(tuple(jobs), timeout=_GRACE_S)


def prepare() -> None:
    """Before anything is loaded: SIGTERM ends the process with 0, as it does later; what ends it for good says where it hung."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # standard error is no file, or there is none
        faulthandler.enable()  # SIGABRT is how systemd's watchdog ends what hangs


def leave_within(seconds: float, code: int) -> None:
    """End the process with `code` unless it ends by itself in so many seconds: the interpreter waits for each thread of a pool."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


def deaf_to(*signals: signal.Signals) -> None:
    """From now on these signals change nothing: the process is ending anyway."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
