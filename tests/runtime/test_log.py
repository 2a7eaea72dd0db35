from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.runtime import log


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The root logger as it was, and no secrets of other tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(log, "_secrets", log.Secrets())
    monkeypatch.setattr(log, "_handler", None)
    monkeypatch.setattr(log, "_flood", log.FloodFilter())
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
        assert line.pop("monotonic") > 0
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


class Flood:
    """A filter on a clock of the test's, and what passed it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = log.FloodFilter(lambda: self.now)
        self.passed: list[str] = []

    def tell(
        self, template: str, *arguments: object, name: str = "edgeagent.x", level: int = logging.WARNING, **extra: object
    ) -> bool:
        record = logging.LogRecord(name, level, "", 0, template, arguments, None)
        vars(record).update(extra)
        if self.filter.filter(record):
            self.passed.append(self.text(record))
            return True
        return False

    @staticmethod
    def text(record: logging.LogRecord) -> str:
        return log.TextFormatter(log.Secrets()).format(record).partition(": ")[2]


def test_equal_lines_pass_a_few_times_a_minute() -> None:
    flood = Flood()
    assert [flood.tell("no room") for _ in range(40)].count(True) == log.BURST
    assert flood.tell("another line")
    flood.now = log.PERIOD_S
    assert flood.tell("no room")
    assert flood.passed[-1] == "no room (37 more like it were left out)"
    assert flood.tell("no room")
    assert flood.passed[-1] == "no room"
    assert flood.filter.left_out == 37


def test_lines_that_differ_in_a_number_pass_more_often() -> None:
    flood = Flood()
    assert [flood.tell("packet %d lost", n) for n in range(100)].count(True) == log.BURST_ALIKE
    assert [flood.tell("camera %s: live", name) for name in "abcdefgh"] == [True] * 8


def test_every_camera_that_fails_is_told_of_however_much_else_there_was() -> None:
    """As `drivers.runner` tells: one template for phases and faults of all cameras."""
    flood = Flood()

    def tell(level: int, camera: str, text: str) -> bool:
        return flood.tell("camera %s: %s", camera, text, level=level, camera=camera)

    cameras = [f"cam{n}" for n in range(16)]
    for _ in range(log.BURST + 1):  # people come and go
        for phase in ("live", "off"):
            for camera in cameras:
                tell(logging.INFO, camera, phase)
    assert tell(logging.ERROR, "cam0", "off"), "the same words as a fault are another line"
    for text in ("The camera has sent no picture for 5 seconds.", "The camera does not answer."):  # their switch lost its power
        assert [tell(logging.WARNING, camera, text) for camera in cameras] == [True] * 16
    passed = [tell(logging.WARNING, "cam0", f"The camera sent {n} bytes too many.") for n in range(100)]
    assert passed.count(True) == log.BURST_ALIKE - 2, "a storm stays bounded"
    assert tell(logging.ERROR, "cam0", "The camera refuses the password.")


def test_what_was_left_out_is_summed_up_when_nothing_follows() -> None:
    flood = Flood()
    for n in range(67):
        flood.tell("packet %d lost", n, camera="gate")
    flood.now = log.PERIOD_S - 1
    assert flood.filter.sum_up() == []
    flood.now = log.PERIOD_S
    (record,) = flood.filter.sum_up()
    assert (record.levelno, record.name, vars(record)["camera"]) == (logging.WARNING, "edgeagent.x", "gate")
    assert flood.text(record) == "… 37 more in the last minute like: packet 66 lost"
    assert json.loads(log.JsonFormatter(log.Secrets()).format(record))["left_out"] == 37
    assert flood.filter.filter(record), "a summary passes"
    assert flood.filter.sum_up(at_once=True) == []
    assert flood.tell("packet %d lost", 0)
    assert flood.passed[-1] == "packet 0 lost"


def test_a_traceback_is_not_kept_alive() -> None:
    flood = Flood()
    for _ in range(log.BURST + 1):
        try:
            raise ValueError
        except ValueError as error:
            record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (ValueError, error, error.__traceback__))
            flood.filter.filter(record)
    (record,) = flood.filter.sum_up(at_once=True)
    assert record.exc_info is None


def test_flood_memory_is_bounded() -> None:
    flood = log.FloodFilter(lambda: 0.0)
    for number in range(5000):
        flood.filter(logging.LogRecord("x", logging.INFO, "", 0, f"message {number}", (), None))
    assert len(flood._seen) == log._KEPT


def test_the_journal_is_told_how_severe_each_line_is(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        log.setup("debug", "auto", stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        logger = logging.getLogger("edgeagent.test")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "a line of level %d", level)
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("failed")
        lines = (tmp_path / "journal").read_text().splitlines()
    assert lines[:5] == [
        "<7>DEBUG   test: a line of level 10",
        "<6>INFO    test: a line of level 20",
        "<4>WARNING test: a line of level 30",
        "<3>ERROR   test: a line of level 40",
        "<2>CRITICAL test: a line of level 50",
    ]
    assert len(lines) > 6
    assert all(line.startswith("<3>") for line in lines[5:])


def test_another_stream_than_the_journals_gets_no_marks(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        log.setup("info", "auto", stream, {"JOURNAL_STREAM": "1:2"})
        logging.getLogger("edgeagent.test").info("hello")
        assert json.loads((tmp_path / "file").read_text())["message"] == "hello"


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    """/dev/full refuses every write, as a full disk does; then its descriptor gets room again."""
    with open("/dev/full", "w") as stream:
        log.setup("info", "text", stream)
        logger = logging.getLogger("edgeagent.test")
        logger.info("one")
        logger.info("two")
        assert log.counts().unwritten == 2
        room = os.open(tmp_path / "room", os.O_CREAT | os.O_WRONLY)
        os.dup2(room, stream.fileno())
        os.close(room)
        logger.info("three")
        logger.info("four")
    lines = [line[9:] for line in (tmp_path / "room").read_text().splitlines()]
    assert lines == [
        "WARNING runtime.log: 2 lines of this log could not be written (is the disk full?)",
        "INFO    test: three",
        "INFO    test: four",
    ]


def test_a_reader_that_went_away_is_no_fault() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        log.setup("info", "text", stream)
        logging.getLogger("edgeagent.test").info("into the void")
        assert log.counts().unwritten == 1


def test_lines_are_counted_by_severity() -> None:
    written("json", io.StringIO())
    logging.getLogger("edgeagent.test").error("bad")
    assert log.counts().by_level == {"info": 1, "error": 1}


def test_a_record_that_cannot_be_formatted_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "text", io.StringIO())
    logging.getLogger("edgeagent.test").info("%d", "no number")
    assert re.search(r"Logging error.*test_log", capsys.readouterr().err, re.DOTALL)
