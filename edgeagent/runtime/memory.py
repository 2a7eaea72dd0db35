"""Keeps the process small on boards with little memory."""

from __future__ import annotations

__all__ = ["keep_small"]

import contextlib
import ctypes

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
