"""Programs on the two sides of an impaired link: a board and its viewer with a bad network between them.

    with Link(delay=20, loss=0.02) as link:
        agent = subprocess.Popen(link.on_board("python", "-m", "edgeagent", "run", …))
        ...
        link.change(loss=0.1)

Needs root (`@pytest.mark.netns`), since each side is a network namespace; see `tests.support.linkem`.
"""

from __future__ import annotations

__all__ = ["BOARD", "VIEWER", "Link"]

import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Self

from tests.support import linkem

BOARD, VIEWER = linkem.ADDRESS["a"], linkem.ADDRESS["b"]
"""Addresses of the two sides, each reachable from the other only across the link."""

_numbers = count()


class Link:
    """Two namespaces and the link between them, while the `with` block lasts.

    Args:
        delay, jitter, queue: ms, one way. `queue` is what the bottleneck holds before it drops.
        loss: Share of the packets that is dropped, 0 to 1.
        rate: kbit/s, 0 without a bottleneck.
        seed: Makes the losses the same for the same traffic.
    """

    def __init__(
        self, *, delay: float = 0, jitter: float = 0, loss: float = 0, rate: float = 0, queue: float = 200, seed: int | None = None
    ) -> None:
        self._options = {"delay": delay, "jitter": jitter, "loss": loss, "rate": rate, "queue": queue}
        if seed is not None:
            self._options["seed"] = seed
        number = f"{os.getpid()}-{next(_numbers)}"
        self.board, self.viewer = f"ea-board-{number}", f"ea-viewer-{number}"
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="link-")
        command = [sys.executable, linkem.__file__, "--a", self.board, "--b", self.viewer, "--stdin", "--control", self._control]
        command += [word for name, value in self._options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("link up"):
            _, error = self._process.communicate()
            self._folder.cleanup()
            raise RuntimeError(f"the link cannot be made: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._folder is not None
        self._process.communicate()
        self._folder.cleanup()

    @property
    def _control(self) -> str:
        assert self._folder is not None
        return str(Path(self._folder.name, "control"))

    def on_board(self, *argv: str) -> list[str]:
        """The command that runs `argv` on the board's side."""
        return ["ip", "netns", "exec", self.board, *argv]

    def on_viewer(self, *argv: str) -> list[str]:
        """The command that runs `argv` on the viewer's side."""
        return ["ip", "netns", "exec", self.viewer, *argv]

    def change(self, **knobs: float) -> None:
        """Change the running link both ways: `delay`, `jitter`, `loss`, `rate`, `queue`, `down`."""
        Path(self._control).write_text(" ".join(f"{name}={value}" for name, value in knobs.items()) + "\n")

    def answers(self, port: int) -> bool:
        """Whether a TCP port of the board accepts connections from the viewer's side."""
        probe = f"import socket; socket.create_connection(({BOARD!r}, {port}), 5).close()"
        command = self.on_viewer(sys.executable, "-c", probe)
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
