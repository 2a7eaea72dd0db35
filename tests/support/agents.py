"""Agents that a test starts, breaks and ends, and their log line by line."""

from __future__ import annotations

__all__ = ["Agent", "Line"]

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.broker import free_port
from tests.support.procs import DEADLINE_S, Program

Line = dict[str, Any]


class Agent(Program):
    """`edgeagent run` with a configuration, reached on 127.0.0.1.

    Args:
        folder: For the configuration.
        config: As the YAML would hold it, without `http`, `device` and `log`.
        env: Added to the environment.
        prefix: Words before the command, such as those of `Link.on_board`.
        listen: Address to listen on; with another than loopback the page is open to all.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        listen: str = "127.0.0.1",
    ) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        whole = {
            "device": "porch",
            "http": {"listen": f"{listen}:{self.port}"} | ({} if listen == "127.0.0.1" else {"open": True}),
            "log": {"format": "json"},
            **config,
        }
        path = folder / "agent.yaml"
        path.write_text(json.dumps(whole))
        super().__init__([*prefix, sys.executable, "-m", "edgeagent", "run", "--config", str(path)], env=env)

    def get(self, path: str) -> str:
        """The body of an answer, also of a refusal; "" where nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.base}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except OSError:
            return ""

    def health(self) -> dict[str, Any]:
        """What `/healthz` tells, nothing where it does not answer."""
        text = self.get("/healthz")
        return dict(json.loads(text)) if text else {}

    def wait_healthy(self) -> None:
        self.wait_for(lambda: self.health().get("ok"), "the agent to answer")

    def whep(self, camera: str = "gate", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{camera}/whep"

    def lines(self) -> list[Line]:
        """The log so far."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def said(self, *words: str) -> list[str]:
        """Messages of the log that hold all these words."""
        return [line["message"] for line in self.lines() if all(word in line["message"] for word in words)]

    def wait_said(self, *words: str, deadline_s: float = DEADLINE_S) -> str:
        """Wait for such a message."""
        self.wait_for(lambda: self.said(*words), f"the log to say {words}", deadline_s=deadline_s)
        return self.said(*words)[0]
