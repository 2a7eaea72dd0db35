"""Every error that crosses a module boundary, named for who is at fault.

    EdgeAgentError
    ├── ConfigError     the owner's file: exit 78 with the key's path and what to write instead
    ├── PeerError       a viewer or the broker sent nonsense: answer, drop, go on
    └── DeviceFault     a camera, bus or pin failed: isolate that driver, back off, tell the viewers

Anything else that escapes is a bug in the agent.
"""

from __future__ import annotations

__all__ = ["ConfigError", "ConfigProblem", "DeviceFault", "EdgeAgentError", "PeerError"]

from dataclasses import dataclass


class EdgeAgentError(Exception):
    """Base of all errors that the agent raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with a configuration.

    Attributes:
        path: Where, as dotted keys (`cameras.gate.url`); empty for the file itself.
        message: What is wrong and what to write instead, one or two sentences.
        found: The offending value as the owner wrote it, shortened; empty where there is none.
    """

    path: str
    message: str
    found: str = ""

    def __str__(self) -> str:
        found = f" (found {self.found})" if self.found else ""
        return f"{self.path}: {self.message}{found}" if self.path else f"{self.message}{found}"


class ConfigError(EdgeAgentError):
    """The configuration cannot be used; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class PeerError(EdgeAgentError):
    """A peer asked for something that cannot be done.

    Args:
        code: An HTTP-like number, the same at every door: 400 malformed, 404 no such camera or session,
            406 no common codec, 409 out of order, 413 too large, 426 wrong version, 429 too many, 500 a fault of ours,
            503 not now, 504 too slow; the HTTP door has a few more (401, 403, 408, 412, 415, 421, 422, 428).
        message: One sentence a person understands, safe to send back.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DeviceFault(EdgeAgentError):
    """A device failed; the text is one sentence that a homeowner understands and may be shown to viewers.

    Args:
        message: What failed and, where it helps, what to do. Never carries credentials.
        retry: Whether opening the device again can help; false for what only a changed configuration mends.
        restart: Whether the device is lost to this process, as where a thread hangs in it: a restart of the agent may help.
    """

    def __init__(self, message: str, *, retry: bool = True, restart: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retry = retry
        self.restart = restart
