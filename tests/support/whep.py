"""WHEP clients that are not ours: many Pion viewers that count, and plain HTTP."""

from __future__ import annotations

__all__ = ["Viewers", "delete", "post"]

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Self

from tests.support.procs import DEADLINE_S, wait_until

Snapshot = dict[str, Any]
"""One line of `whep-count`: sums, and under `sessions` one object for each; see `tests/bench/client`."""


class Viewers:
    """WHEP sessions of `whep-count` while the `with` block lasts.

    Args:
        program: Path of `whep-count`, from `gobuild.whep_count`.
        url: WHEP address of the camera.
        count: How many sessions.
        options: Further flags of `whep-count`, such as `-loss=0.02`.
        prefix: Words before the command, such as those of `Link.on_viewer`.
    """

    def __init__(self, program: str, url: str, count: int = 1, *options: str, prefix: Sequence[str] = ()) -> None:
        self._argv = [*prefix, program, "-control", "-url", url, "-n", str(count), *options]
        self._process: subprocess.Popen[str] | None = None
        self.count = count

    def __enter__(self) -> Self:
        assert self._process is None, "entered twice"
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        if self._process.returncode is not None:
            return  # by `result`
        try:
            self._process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def snapshot(self) -> Snapshot:
        """The counters of this moment."""
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def wait_open(self, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until every session has got a whole keyframe; raises TimeoutError, or RuntimeError with the first refusal."""

        def opened() -> bool:
            sessions = self.snapshot()["sessions"]
            for session in sessions:
                if session.get("error"):
                    raise RuntimeError(session["error"])
            return len(sessions) == self.count and all(s["first_keyframe_ms"] for s in sessions)

        wait_until(opened, f"the first keyframe of {self.count} viewers", deadline_s=deadline_s)

    def result(self) -> Snapshot:
        """End the sessions and return the last counters."""
        assert self._process
        out, _ = self._process.communicate(timeout=DEADLINE_S)
        return dict(json.loads(out.splitlines()[-1]))


def post(url: str, body: bytes | str, **headers: str) -> tuple[int, dict[str, str], str]:
    """POST an offer; returns the status, the headers by their lower-case names, and the text of the answer."""
    data = body.encode() if isinstance(body, str) else body
    named = {"Content-Type": "application/sdp"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return _ask(urllib.request.Request(url, data, named, method="POST"))


def delete(url: str, **headers: str) -> int:
    """DELETE a session; returns the status."""
    return _ask(urllib.request.Request(url, headers=headers, method="DELETE"))[0]


def _ask(request: urllib.request.Request) -> tuple[int, dict[str, str], str]:
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with contextlib.closing(response):
        return response.status, {name.lower(): value for name, value in response.headers.items()}, response.read().decode()
