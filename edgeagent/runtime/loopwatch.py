"""Finds callbacks that hold the event loop: who blocks it, with the stack, while it happens.

The selector of the watched loop says when the loop waits and when it works. A thread samples that; a turn of work that
it meets in every sample of `limit_s` is reported. Counting samples instead of reading a clock keeps quiet when the
whole machine was busy, since then the sampler did not run either. Code that blocks and keeps the interpreter's lock
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
        self._loop_thread = 0
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
        self._loop_thread = threading.get_ident()
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
        turn, seen = 0, 0
        while not self._stop.wait(self._limit_s / _SAMPLES):
            if not self._working or self._turn != turn:
                turn, seen = self._turn, 0
                continue
            seen += 1
            if seen < _SAMPLES or self._reported_turn == turn:
                continue
            frame = sys._current_frames().get(self._loop_thread)
            if _starts_a_thread(frame):  # a busy machine has not let it begin yet: nobody's code holds the loop
                seen = 0
            else:
                self._tell(turn, frame)

    def _tell(self, turn: int, frame: FrameType | None) -> None:
        self._reported_turn = turn
        self._report(Block(self._limit_s, "".join(traceback.format_stack(frame)) if frame else ""))


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
