"""Runs checks side by side, each within its time, and keeps what blocks off the event loop."""

from __future__ import annotations

__all__ = ["System", "bounded", "off_loop"]

import asyncio
import getpass
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from edgeagent.board import BoardHealth
from edgeagent.board_sources import BoardReader, command_output
from edgeagent.doctor.report import Finding, notice, problem

T = TypeVar("T")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


@dataclass(frozen=True, slots=True)
class System:
    """This machine, or a stand-in for it.

    Attributes:
        root: Where `/proc`, `/sys`, `/dev` and `/etc` are found.
        run: Runs a command and returns what it prints, "" where it fails.
        board: Looks at the board.
        user: Who runs the doctor.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str]], str] = command_output
    board: Callable[[], BoardHealth] = field(default_factory=BoardReader)
    user: str = field(default_factory=_user)

    def text(self, path: str) -> str:
        """A file's text, "" where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""


async def off_loop(job: Callable[[], T]) -> T:
    """Run `job` on a daemon thread: one that hangs holds up neither the other checks nor the end of the program."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = job(), None
        except Exception as error:
            outcome = None, error
        try:
            loop.call_soon_threadsafe(deliver, *outcome)
        except RuntimeError:  # the loop is closed, and nobody waits any more
            return

    threading.Thread(target=run, name="edgeagent-doctor", daemon=True).start()
    return await done


async def bounded(check: str, what: str, timeout_s: float, job: Awaitable[list[Finding]]) -> list[Finding]:
    """The findings of one check, or one that says that it took too long or failed by itself.

    Args:
        check: The name of the finding then.
        what: What could not be looked at, e.g. "the broker".
        timeout_s: How long it may take.
        job: The check.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await job
    except TimeoutError:
        text = f"Looking at {what} took over {timeout_s:g} s and was given up."
        return [notice(check, text, "Try again when the board has less to do.")]
    except Exception as error:
        text = f"Looking at {what} failed ({type(error).__name__}: {error})."
        return [problem(check, text, "This is a fault of edgeagent; please report it.")]
