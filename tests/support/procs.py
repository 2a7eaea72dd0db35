"""Child processes of tests and measurements: started, watched, measured and surely ended."""

from __future__ import annotations

__all__ = ["DEADLINE_S", "Program", "wait_until"]

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

DEADLINE_S = 120.0
"""How long a condition may take that holds after a second or two: machines are busy, and only a failure waits so long."""
_POLL_S, _POLL_MAX_S = 0.02, 0.1
_KILL_AFTER_S = 30.0


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition()` is true; raises TimeoutError that says `what` was awaited."""
    begin = time.monotonic()
    never = threading.Event()
    while not condition():
        waited_s = time.monotonic() - begin
        if waited_s > deadline_s:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        # To look costs pages and agents time; what has taken long may be seen somewhat later.
        never.wait(min(max(_POLL_S, waited_s / 20), _POLL_MAX_S))


class Program:
    """A child process while the `with` block lasts; its output is kept, and shown where waiting for it fails.

    Args:
        argv: The command.
        env: Added to this process's environment.
        cwd: Its working directory; this process's own by default.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.argv = list(argv)
        self._env = os.environ | (env or {})
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self.argv,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log.fileno(),
            stderr=subprocess.STDOUT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._log
        self._log.close()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, *, kill: bool = False) -> int:
        """End the program, by SIGTERM first; returns its exit status."""
        assert self._process
        with contextlib.suppress(ProcessLookupError):
            (self._process.kill if kill else self._process.terminate)()
        try:
            return self._process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def log(self) -> str:
        """What it has written so far."""
        assert self._log
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait_for(self, condition: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S) -> None:
        """As `wait_until`; raises RuntimeError with the output where the program has ended or time is up."""
        try:
            wait_until(lambda: condition() or not self.running, what, deadline_s=deadline_s)
        except TimeoutError as error:
            raise RuntimeError(f"{error}\n{self.log}") from None
        if not self.running and not condition():
            raise RuntimeError(f"{self.argv[0]} ended while waiting for {what}\n{self.log}")

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all its threads so far. Ticks of /proc/PID/stat are too coarse, its CPU clock is not."""
        return time.clock_gettime_ns((~self.pid << 3) | 2) / 1e9  # as clock_getcpuclockid(3) makes it

    def cpu_percent(self, over_s: float) -> float:
        """How busy it is, in % of a core; looks on for so many seconds."""
        cpu_s, began_s = self.cpu_s(), time.monotonic()
        time.sleep(over_s)
        return (self.cpu_s() - cpu_s) / (time.monotonic() - began_s) * 100

    def rss_bytes(self) -> int:
        """Resident memory, shared pages included."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
