"""The agent's log on the standard library: lines for people on a terminal and in the journal, else JSON; no secrets, no floods.

A line that repeats is let through a few times a minute, then counted; `sum_up` says how many were left out. Where the log cannot be
written (a full disk, a reader that is gone), lines are counted and the agent goes on.
"""

from __future__ import annotations

__all__ = [
    "Counts",
    "FloodFilter",
    "Handler",
    "JsonFormatter",
    "Secrets",
    "TextFormatter",
    "counts",
    "hide",
    "plain",
    "setup",
    "sum_up",
]

import datetime
import json
import logging
import os
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from edgeagent.core.redact import redact

BURST = 3
"""How many equal lines pass in a period."""
BURST_ALIKE = 30
"""How many lines of one camera or device, or of neither, pass in a period that differ only in what was filled in."""
PERIOD_S = 60.0
_KEPT = 512

# They tell each packet or request at INFO.
_CHATTY = ("aiohttp.access", "aioice", "aiortc", "amqtt", "asyncio", "libav", "transitions")
_PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog(3)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "left_out", "summary"}


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


@dataclass(slots=True)
class _Seen:
    """One line, or one template, in its period."""

    since: float
    passed: int = 0
    left_out: int = 0
    last: logging.LogRecord | None = None


class FloodFilter(logging.Filter):
    """Lets `BURST` equal lines and `BURST_ALIKE` of one template through in each period, and counts the rest.

    Lines of another severity, camera or device have room of their own: what is told often keeps no fault from being told, and many
    cameras that fail at once are all told of.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # By text, and by whose it is and its template; the one silent for longest is forgotten first.
        self._seen: OrderedDict[tuple[object, ...], _Seen] = OrderedDict()
        self.left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "summary", False):
            return True
        now = self._clock()
        by = record.name, record.levelno
        # Names of the configuration: there are not many.
        whose = str(getattr(record, "camera", "")), str(getattr(record, "device", ""))
        keys = ((("alike", *by, *whose, str(record.msg)), BURST_ALIKE), (("equal", *by, _message(record)), BURST))
        states = [(self._state(key, now, record), limit) for key, limit in keys]
        for state, limit in states:
            if state.passed >= limit:
                state.left_out += 1
                state.last = _light(record)
                self.left_out += 1
                return False
        for state, _ in states:
            state.passed += 1
        return True

    def sum_up(self, *, at_once: bool = False) -> list[logging.LogRecord]:
        """Records that say how many were left out of periods that are over, or of all."""
        now = self._clock()
        records = []
        for state in self._seen.values():
            if state.left_out and state.last and (at_once or now - state.since >= PERIOD_S):
                state.last.args = (state.left_out, state.last.msg)
                state.last.msg = "… %d more in the last minute like: %s"
                state.last.left_out, state.last.summary = state.left_out, True
                records.append(state.last)
                state.since, state.passed, state.left_out, state.last = now, 0, 0, None
        return records

    def _state(self, key: tuple[object, ...], now: float, record: logging.LogRecord) -> _Seen:
        state = self._seen.get(key)
        if state is None:
            state = self._seen[key] = _Seen(now)
            if len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        if now - state.since >= PERIOD_S:
            if state.left_out:
                record.left_out = state.left_out
            state.since, state.passed, state.left_out, state.last = now, 0, 0, None
        return state


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # whoever wrote it made a mistake, which the handler tells
        return str(record.msg)


def _light(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that keeps no frame of a traceback alive."""
    copy = logging.LogRecord(record.name, record.levelno, "", 0, _message(record), (), None)
    vars(copy).update({key: value for key, value in vars(record).items() if key not in _STANDARD})
    return copy


def _left_out(record: logging.LogRecord) -> int:
    return 0 if getattr(record, "summary", False) else int(getattr(record, "left_out", 0))


class TextFormatter(logging.Formatter):
    """`12:34:56 WARNING rtc.peer: the message`; without the time where the reader has a clock of its own."""

    def __init__(self, secrets: Secrets, *, clock: bool = True) -> None:
        super().__init__()
        self._secrets = secrets
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S ", time.localtime(record.created)) if self._clock else ""
        more = f" ({_left_out(record)} more like it were left out)" if _left_out(record) else ""
        text = f"{clock}{record.levelname:<7} {record.name.removeprefix('edgeagent.')}: {record.getMessage()}{more}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return self._secrets.clean(text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what was given as `extra` becomes keys of its own.

    `monotonic` counts seconds evenly, also where the clock behind `time` is set meanwhile, as when a board without one boots.
    """

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "monotonic": round(time.monotonic(), 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._secrets.clean(record.getMessage()),
        }
        if left_out := int(getattr(record, "left_out", 0)):
            line["left_out"] = left_out
        for key, value in vars(record).items():
            if key not in _STANDARD and key not in line:
                line[key] = value if isinstance(value, bool | int | float) or value is None else self._secrets.clean(str(value))
        if record.exc_info:
            line["exception"] = self._secrets.clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class Handler(logging.Handler):
    """Writes lines to a stream. What cannot be written is counted, and said when writing works again.

    Args:
        stream: Written to at once, past its buffer where it has a descriptor: nothing is left behind that could fail at exit.
        priorities: Begin each line with its severity as systemd reads it (sd-daemon(3)).
    """

    def __init__(self, stream: TextIO, *, priorities: bool = False) -> None:
        super().__init__()
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._priorities = priorities
        self.unwritten = 0
        self._unsaid = 0
        self.by_level: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.by_level[record.levelname.lower()] += 1
            if self._unsaid:
                lines = "line" if self._unsaid == 1 else "lines"
                text = "%d " + lines + " of this log could not be written (is the disk full?)"
                if not self._write(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (self._unsaid,), None)):
                    self._lost()
                    return
                self._unsaid = 0
            if not self._write(record):
                self._lost()
        except Exception:  # a record that cannot be formatted: logging tells where it came from
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        try:
            super().handleError(record)
        except (OSError, ValueError):
            self._lost()

    def _lost(self) -> None:
        self.unwritten += 1
        self._unsaid += 1

    def _write(self, record: logging.LogRecord) -> bool:
        text = self.format(record)
        if self._priorities:
            mark = f"<{next((number for level, number in _PRIORITY if record.levelno >= level), 7)}>"
            text = "\n".join(mark + line for line in text.splitlines())
        try:
            if self._descriptor is None:
                self._stream.write(text + "\n")
                self._stream.flush()
            else:
                data = text.encode(errors="backslashreplace") + b"\n"
                while data:
                    data = data[os.write(self._descriptor, data) :]
        except (OSError, ValueError):  # full, closed, gone, or it would block
            return False
        return True


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the journal's, by the device and inode that systemd names (systemd.exec(5), $JOURNAL_STREAM)."""
    descriptor = _descriptor(stream)
    if descriptor is None or "JOURNAL_STREAM" not in environ:
        return False
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ["JOURNAL_STREAM"] == f"{found.st_dev}:{found.st_ino}"


@dataclass(slots=True)
class Counts:
    """What became of the log's lines since `setup`."""

    by_level: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    unwritten: int = 0


_secrets = Secrets()
_handler: Handler | None = None
_flood = FloodFilter()


def hide(secrets: Iterable[str]) -> None:
    """Never show these in the log."""
    _secrets.add(secrets)


def plain() -> logging.Formatter:
    """Lines as text, with the time and without what is hidden."""
    return TextFormatter(_secrets)


def counts() -> Counts:
    """For metrics."""
    return Counts(dict(_handler.by_level), _flood.left_out, _handler.unwritten) if _handler else Counts()


def sum_up(*, at_once: bool = False) -> None:
    """Say how many lines were left out of periods that are over; `at_once`: of all, as at the end."""
    for record in _flood.sum_up(at_once=at_once):
        if _handler:
            _handler.handle(record)


def setup(level: str = "info", form: str = "auto", stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Send everything to `stream` (standard error); again to change it.

    Args:
        level: debug, info, warning or error.
        form: text, json, or auto: text where `stream` is a terminal or the journal.
    """
    global _handler, _flood
    stream = sys.stderr if stream is None else stream
    journal = _is_journal(stream, environ)
    as_text = form == "text" or (form == "auto" and (journal or stream.isatty()))
    _handler, _flood = Handler(stream, priorities=journal), FloodFilter()
    _handler.setFormatter(TextFormatter(_secrets, clock=not journal) if as_text else JsonFormatter(_secrets))
    _handler.addFilter(_flood)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(_handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
