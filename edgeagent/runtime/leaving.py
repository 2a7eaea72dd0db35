"""The end of the process, in bounded time: threads that hang in a driver or a name look-up hold up neither loop nor interpreter."""

from __future__ import annotations

__all__ = ["BoundedPool", "exec_anew", "leave_within", "prepare", "told_by"]

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_GRACE_S = 1.0
_told: list[int] = []
"""The signals of the last `told_by` that have come, in its time or since."""


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
    # At once: SystemExit would come up anywhere, and libraries that are just being loaded take it for a failure of their own.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # standard error is no file, or there is none
        faulthandler.enable()  # SIGABRT is how systemd's watchdog ends what hangs


def exec_anew(*signals: signal.Signals) -> None:
    """Begin this process anew, with the same command line and number; does not return.

    Args:
        signals: Those of `told_by`: where one has come, the process ends with 0 instead. One that comes from now on kills it, or
            what it has become, until that is prepared.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for number in signals:  # from here on none is taken and then lost by the exec
        signal.signal(number, signal.SIG_DFL)
    if _told:
        os._exit(0)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def leave_within(seconds: float, code: int) -> None:
    """End the process with `code` unless it ends by itself in so many seconds: the interpreter waits for each thread of a pool."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def told_by(*signals: signal.Signals, then: Callable[[], object]) -> Iterator[list[int]]:
    """Call `then` in the running loop at each of these signals; afterwards they change nothing but what is yielded, the list of
    those that have come: the process is ending anyway, or begins anew (`exec_anew`) where none has.

    `loop.add_signal_handler` will not do: its end, and the loop's, give the signal back to the system for a moment, and
    one that comes in that moment kills the process in the middle of its leaving.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)  # as `set_wakeup_fd` demands

    def told() -> None:
        numbers = ours.recv(64)
        if any(number in signals for number in numbers):
            then()

    loop.add_reader(ours, told)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    _told.clear()
    for number in signals:
        signal.signal(number, lambda number, _: _told.append(number))
    try:
        yield _told
    finally:
        signal.set_wakeup_fd(before)
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
