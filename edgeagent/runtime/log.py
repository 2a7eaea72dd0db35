"""The agent's log on the standard library: lines for people on a terminal, JSON elsewhere; no secrets, no floods.

A message that repeats is let through a few times, then counted: the next one that passes says how many were left out.
"""

from __future__ import annotations

__all__ = ["FloodFilter", "JsonFormatter", "Secrets", "TextFormatter", "hide", "setup"]

import datetime
import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from edgeagent.core.redact import redact

BURST = 5
"""How many of one message pass in a period."""

PERIOD_S = 10.0
_KEPT = 512

# They tell each packet or request at INFO.
_CHATTY = ("aiohttp.access", "aioice", "aiortc", "amqtt", "asyncio", "libav", "transitions")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "left_out"}


class Secrets:
    """Strings that the log never shows; they may be added at any time."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """From now on hide these, too."""
        self._known = tuple({*self._known, *(secret for secret in secrets if secret)})

    def clean(self, text: str) -> str:
        """`text` without secrets."""
        return redact(text, self._known)


class FloodFilter(logging.Filter):
    """Lets `BURST` records of one logger and message template through in each period, and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # (logger, template) -> [start of the period, passed, left out]; the one silent for longest is forgotten first.
        self._seen: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        key = (record.name, str(record.msg))
        state = self._seen.get(key)
        if state is None:
            state = self._seen[key] = [now, 0, 0]
            if len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        if now - state[0] >= PERIOD_S:
            record.left_out = int(state[2])
            state[:] = [now, 0, 0]
        if state[1] < BURST:
            state[1] += 1
            return True
        state[2] += 1
        return False


def _left_out(record: logging.LogRecord) -> int:
    return int(getattr(record, "left_out", 0))


class TextFormatter(logging.Formatter):
    """`12:34:56 WARNING rtc.peer: the message`."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        more = f" ({_left_out(record)} more like it were left out)" if _left_out(record) else ""
        text = f"{clock} {record.levelname:<7} {record.name.removeprefix('edgeagent.')}: {record.getMessage()}{more}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return self._secrets.clean(text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what was given as `extra` becomes keys of its own."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._secrets.clean(record.getMessage()),
        }
        if _left_out(record):
            line["left_out"] = _left_out(record)
        for key, value in vars(record).items():
            if key not in _STANDARD and key not in line:
                line[key] = value if isinstance(value, bool | int | float) or value is None else self._secrets.clean(str(value))
        if record.exc_info:
            line["exception"] = self._secrets.clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


_secrets = Secrets()


def hide(secrets: Iterable[str]) -> None:
    """Never show these in the log."""
    _secrets.add(secrets)


def setup(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send everything to `stream` (standard error); again to change it.

    Args:
        level: debug, info, warning or error.
        form: text, json, or auto: text where `stream` is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    as_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(_secrets) if as_text else JsonFormatter(_secrets))
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
