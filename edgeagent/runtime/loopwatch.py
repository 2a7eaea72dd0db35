"""Finds callbacks that hold the event loop: who blocks it, with the stack, while it happens.

The selector of the watched loop says when the loop waits and when it works. A thread samples that; a turn of work that
it meets in every sample of `limit_s` is reported. Counting samples instead of reading a clock keeps quiet when the
whole machine was busy, since then the sampler did not run either; and what a thread that computes has waited for a
processor, while others had it, is not its own doing. Code that blocks and keeps the interpreter's lock
starves the sampler too: that is found at the end of the turn by the CPU time it took, without a stack.
"""

from __future__ import annotations

__all__ = ["Block", "LoopWatch", "WatchedSelector", "run"]

import asyncio
import logging
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)
_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Block:
    """One turn of the loop that took too long.

    Attributes:
        limit_s: The limit that was passed, in seconds.
        stack: Where the loop's thread was, as a traceback's text; empty where it kept the interpreter's lock.
    """

    limit_s: float
    stack: str

    def __str__(self) -> str:
        where = self.stack or "  (no stack: the code kept the interpreter's lock)\n"
        return f"the event loop was held for over {self.limit_s * 1000:.0f} ms by\n{where}"


class WatchedSelector(selectors.DefaultSelector):
    """A selector that tells its watch when the loop begins to wait and to work."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._watch.waiting()
        try:
            return super().select(timeout)
        finally:
            self._watch.working()


class LoopWatch:
    """Watches one event loop; `report` is called from the watch's thread or the loop's, once per turn that is too long.

    Use: `with LoopWatch(print) as watch, asyncio.Runner(loop_factory=watch.new_loop) as runner: ...`
    """

    def __init__(self, report: Callable[[Block], None], limit_s: float = 0.25) -> None:
        self._report = report
        self._limit_s = limit_s
        self._turn = 0
        self._working = False
        self._reported_turn = -1
        self._cpu_from = 0.0
        self._loop_thread = self._loop_native = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="edgeagent-loopwatch", daemon=True)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make the loop to be watched."""
        return asyncio.SelectorEventLoop(WatchedSelector(self))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def working(self) -> None:
        """The loop begins a turn."""
        self._turn += 1
        self._loop_thread, self._loop_native = threading.get_ident(), threading.get_native_id()
        self._cpu_from = time.thread_time()
        self._working = True

    def waiting(self) -> None:
        """The loop's turn is over."""
        if not self._working:
            return
        self._working = False
        if time.thread_time() - self._cpu_from > self._limit_s and self._reported_turn != self._turn:
            self._tell(self._turn, None)

    def _sample(self) -> None:
        turn, seen, queued_s = 0, 0, 0.0
        while not self._stop.wait(self._limit_s / _SAMPLES):
            if not self._working or self._turn != turn:
                turn, seen = self._turn, 0
                continue
            if not seen:
                queued_s = _queued_s(self._loop_native)
            seen += 1
            if seen < _SAMPLES or self._reported_turn == turn:
                continue
            frame = sys._current_frames().get(self._loop_thread)
            # Nobody's code holds the loop where a busy machine has not let a thread begin, or given it a processor.
            if _starts_a_thread(frame) or _queued_s(self._loop_native) - queued_s > self._limit_s / 4:
                seen = 0
            else:
                self._tell(turn, frame)

    def _tell(self, turn: int, frame: FrameType | None) -> None:
        self._reported_turn = turn
        self._report(Block(self._limit_s, "".join(traceback.format_stack(frame)) if frame else ""))


def _queued_s(thread: int) -> float:
    """How long a thread could have run but had no processor, in all; 0 where the kernel does not count it (schedstat)."""
    try:
        with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _starts_a_thread(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False


def run(main: Coroutine[Any, Any, T], limit_s: float | None) -> T:
    """`asyncio.run(main)`, with a warning in the log for whatever holds the loop longer than `limit_s`; None watches nothing."""
    if limit_s is None:
        return asyncio.run(main)
    with (
        LoopWatch(lambda block: _log.warning("%s", block), limit_s) as watch,
        asyncio.Runner(loop_factory=watch.new_loop) as runner,
    ):
        return runner.run(main)
