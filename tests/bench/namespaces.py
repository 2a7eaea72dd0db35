"""Files and sockets of another network namespace, opened from here: they belong to it whoever uses them."""

from __future__ import annotations

__all__ = ["within"]

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def within(namespace: str, work: Callable[[], T]) -> T:
    """What `work` returns, or raises, on a thread of its own inside a named network namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(there, _CLONE_NEWNET):  # this thread only, which ends here
                    raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
            finally:
                os.close(there)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
