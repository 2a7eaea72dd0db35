"""The last lines of the agent's log, kept in memory for its site; without secrets, as the log itself."""

from __future__ import annotations

__all__ = ["Logbook"]

import logging
from collections import deque

_LINES = 2000
_LINE_CHARS = 1000


class Logbook(logging.Handler):
    """A handler that remembers; `setFormatter` with one that hides secrets before it is added to a logger."""

    def __init__(self, lines: int = _LINES) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=lines)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            self._lines.append(self.format(record)[:_LINE_CHARS])
        except Exception:  # whoever wrote the line made a mistake, which the agent's own handler tells
            return

    def last(self, lines: int) -> str:
        """The last `lines` lines, oldest first."""
        kept = list(self._lines)[-lines:]
        return "".join(f"{line}\n" for line in kept)
