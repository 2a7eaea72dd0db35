"""What a test may not leave behind: open descriptors, threads, child processes."""

from __future__ import annotations

__all__ = ["Snapshot", "settle"]

import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 20.0
"""Real seconds for threads and processes that are about to end."""

_KEPT = ("/dev/null", "/dev/urandom", "/dev/random", "/proc/", "/sys/", "/usr/share/", "/etc/", "/.hypothesis/", "/site-packages/")
"""Descriptors that libraries open once and keep: devices of randomness, fonts, time zones, certificates, their own data."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the process holds at one moment."""

    descriptors: frozenset[str]
    threads: frozenset[threading.Thread]
    children: frozenset[int]

    @classmethod
    def take(cls) -> Snapshot:
        return cls(_descriptors(), frozenset(t for t in threading.enumerate() if _counts(t)), _children())

    def leaks_since(self, before: Snapshot) -> list[str]:
        """What was not there before, in words."""
        return [
            *(f"descriptor {text}" for text in sorted(self.descriptors - before.descriptors)),
            *(f"thread {thread.name}" for thread in self.threads - before.threads),
            *(f"child process {pid} ({_command(pid)})" for pid in sorted(self.children - before.children)),
        ]


def settle(before: Snapshot) -> list[str]:
    """What has been left since `before`, after a grace for what is about to end by itself."""
    leaks = Snapshot.take().leaks_since(before)
    if leaks:
        gc.collect()  # what only the collector closes warns by itself, and warnings are errors
    deadline = time.monotonic() + GRACE_S
    while leaks and time.monotonic() < deadline:
        threading.Event().wait(0.01)
        leaks = Snapshot.take().leaks_since(before)
    return leaks


def _counts(thread: threading.Thread) -> bool:
    return not thread.daemon or thread.name.startswith("edgeagent")


def _descriptors() -> frozenset[str]:
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
        if not any(part in target for part in _KEPT):
            found.add(f"{entry} -> {target}")
    return frozenset(found)


def _children() -> frozenset[int]:
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return frozenset(pids)


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            or "ended, not waited for"
        )
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
