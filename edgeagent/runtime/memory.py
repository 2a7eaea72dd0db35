"""Keeps the process small on boards with little memory."""

from __future__ import annotations

__all__ = ["Sweep", "keep_small", "settle"]

import asyncio
import contextlib
import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of glibc


def keep_small() -> None:
    """Tell glibc's malloc to give large blocks back at once and to share one arena among threads; elsewhere do nothing.

    By default it raises its own threshold with each large block that is freed, so that the drawing of one picture at the start
    stays in the heap for good, and it gives each camera's thread an arena of its own.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 512 * 1024)  # asyncio takes 256 kB for whatever it reads, and gives back what was not needed
        mallopt(_TRIM_THRESHOLD, 512 * 1024)
        mallopt(_ARENA_MAX, 2)


def settle() -> None:
    """Leave what the start has made out of the collector's rounds from now on: it stays for good anyway, and a round over the rest
    takes a millisecond instead of fifty, so that it no longer holds up pictures."""
    gc.collect()
    gc.freeze()


class Sweep:
    """Collects soon after viewers have left, all in one go.

    A connection leaves cycles behind that hold memory of C libraries. Python would leave them for hundreds of viewers: it counts
    objects, and of those there are few.
    """

    def __init__(self, after_s: float = 3.0) -> None:
        self._after_s = after_s
        self._due: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Something was closed. Belongs to the loop."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._after_s, self._now)

    def _now(self) -> None:
        self._due = None
        gc.collect()
