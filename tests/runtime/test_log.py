from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from edgeagent.runtime import log


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The root logger as it was, and no secrets of other tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(log, "_secrets", log.Secrets())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in log._CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(form: str, stream: io.StringIO, level: str = "info") -> str:
    log.setup(level, form, stream)
    logger = logging.getLogger("edgeagent.rtc.peer")
    logger.info("viewer %s came", "alice", extra={"viewer": "alice", "count": 3})
    logger.debug("detail")
    return stream.getvalue()


def test_lines_for_people() -> None:
    for form, stream in ("auto", Terminal()), ("text", io.StringIO()):
        text = written(form, stream)
        assert text[8:] == " INFO    rtc.peer: viewer alice came\n"


def test_json_elsewhere() -> None:
    for form, stream in ("auto", io.StringIO()), ("json", Terminal()):
        line = json.loads(written(form, stream))
        assert line.pop("time").endswith("+00:00")
        assert line == {
            "level": "info",
            "logger": "edgeagent.rtc.peer",
            "message": "viewer alice came",
            "viewer": "alice",
            "count": 3,
        }


def test_level() -> None:
    assert "detail" in written("text", io.StringIO(), "debug")
    assert written("text", io.StringIO(), "warning") == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_never_appear(form: str) -> None:
    stream = io.StringIO()
    log.setup("info", form, stream)
    log.hide(["hunter22", "", 'quo"ted'])
    logger = logging.getLogger("edgeagent.test")
    logger.warning("opening %s", "rtsp://user:p@ssw0rd@192.0.2.1/stream")
    logger.warning("token hunter22", extra={"header": 'Bearer quo"ted'})
    try:
        raise ValueError("bad url mqtt://u:hunter22@h and http://h/?token=abcdef")
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    for secret in ("ssw0rd", "hunter22", "quo", "abcdef"):
        assert secret not in text
    assert "192.0.2.1/stream" in text
    assert "ValueError" in text


def test_floods_are_counted() -> None:
    now = 0.0
    flood = log.FloodFilter(lambda: now)
    passed = []

    def tell(template: str, *arguments: object) -> bool:
        record = logging.LogRecord("edgeagent.x", logging.INFO, "", 0, template, arguments, None)
        if flood.filter(record):
            passed.append(log.TextFormatter(log.Secrets()).format(record).partition(": ")[2])
            return True
        return False

    assert [tell("packet %d lost", n) for n in range(100)].count(True) == log.BURST
    assert tell("another message")
    now = log.PERIOD_S
    assert tell("packet %d lost", 100)
    assert passed[-1] == "packet 100 lost (95 more like it were left out)"
    assert tell("packet %d lost", 101)
    assert passed[-1] == "packet 101 lost"


def test_flood_memory_is_bounded() -> None:
    flood = log.FloodFilter(lambda: 0.0)
    for number in range(5000):
        flood.filter(logging.LogRecord("x", logging.INFO, "", 0, f"message {number}", (), None))
    assert len(flood._seen) == log._KEPT
