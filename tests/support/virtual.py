"""An event loop whose clock is virtual: when nothing is ready, time jumps to the next timer, so hours pass in no time.

It never waits for sockets, pipes or processes: what uses them belongs on the real loop and is refused with a sentence
that says so. Work in the loop's executor is waited for; meanwhile the clock stands.
"""

from __future__ import annotations

__all__ = ["Stuck", "VirtualLoop"]

import asyncio
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from edgeagent.runtime.loopwatch import LoopWatch, WatchedSelector

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_S = 1_000.0
"""What the clock shows at first; not zero, so that a forgotten start time is noticed."""

THREAD_GRACE_S = 60.0
"""Real seconds that the loop waits for threads when nothing else can wake it."""


class Stuck(Exception):
    """The test waits for something that cannot come on the virtual clock."""


class _JumpingSelector(WatchedSelector):
    def __init__(self, watch: LoopWatch, loop_jobs: Callable[[], int]) -> None:
        super().__init__(watch)
        self._jobs = loop_jobs
        self.now = START_S

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.get_map():  # the first is the loop's own wake-up
            raise Stuck("sockets, pipes and processes need real time: mark this test with @pytest.mark.realtime")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._jobs():
            return super().select(None)
        if timeout is not None:
            # The loop counts a timer as due when it is less than the clock's resolution away.
            self.now += timeout
            return ready
        if threading.active_count() > 2:  # besides this thread and the watch
            deadline = time.monotonic() + THREAD_GRACE_S
            while not ready and (left := deadline - time.monotonic()) > 0:
                ready = super().select(left)
        if not ready:
            raise Stuck("nothing is left that could wake this test: no timer, no executor job, no thread\n" + tasks_text())
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `time()` starts at `START_S`."""

    def __init__(self, watch: LoopWatch) -> None:
        self._jobs = 0
        self._jumping = _JumpingSelector(watch, lambda: self._jobs)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1

        def done(_: asyncio.Future[T]) -> None:
            self._jobs -= 1

        future.add_done_callback(done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Python 3.12 and later give it a time limit, which the clock would jump to while the threads end.
        self._jobs += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jobs -= 1


def tasks_text(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Every pending task with the place where it waits, innermost line last."""
    lines = []
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        lines.append(f"  {task.get_name()}: {task.get_coro()!r}")
        lines += [f"    {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" for frame in awaiting(task)]
    return "\n".join(lines)


def awaiting(task: asyncio.Task[Any]) -> list[Any]:
    """Frames of a suspended task, outermost first (`Task.get_stack` gives the outermost only)."""
    frames = []
    step: Any = task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None) or getattr(step, "ag_frame", None)
        if frame is None:
            break
        frames.append(frame)
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
    return frames
