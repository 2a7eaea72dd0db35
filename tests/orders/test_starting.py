from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent.config import Config, Drivers, load
from edgeagent.core.orders import FIRST, MAX_STARTS, Record, Tried
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.install.places import Places
from edgeagent.orders.logbook import Logbook
from edgeagent.orders.starting import ended, left, load_settings, start
from edgeagent.orders.store import Store
from edgeagent.orders.upgrade import fetch, upgraded
from edgeagent.wire.orders import Upgrade, settings_version

FRONT = {"cameras": {"front": {"driver": "test-pattern"}}}
WRONG = {"cameras": {"front": {"driver": "no-such-driver"}}}


@pytest.fixture(scope="module")
def read() -> Callable[[Path | str], Config]:
    drivers = Drivers.installed()
    return lambda source: load(source, {}, drivers)


def test_a_board_always_begins_with_something(tmp_path: Path, read: Callable[[Path | str], Config]) -> None:
    store = Store(tmp_path)
    bare = start(store, None, "gate", read)
    assert bare.config.device == "gate" and list(bare.config.devices) == ["board"] and not bare.problem
    own = tmp_path / "own.yaml"
    own.write_text("device: mine\ncameras: {mine: {driver: test-pattern}}\n")
    started = start(store, own, "gate", read)
    assert started.config.device == "gate" and list(started.config.cameras) == ["mine"]
    own.write_text("cameras: {mine: {driver: rtps}}\n")
    broken = start(store, own, "gate", read)
    assert list(broken.config.devices) == ["board"] and "no such driver" in broken.problem


def test_first_settings_are_tried_once(tmp_path: Path, read: Callable[[Path | str], Config]) -> None:
    for number in range(1, MAX_STARTS + 1):
        started = start(Store(tmp_path), None, "gate", read, FRONT)
        assert list(started.config.cameras) == ["front"] and started.trial.record.tried
        assert started.trial.record.tried.starts == number
    assert list(start(Store(tmp_path), None, "gate", read, FRONT).config.devices) == ["board"]  # they never got well
    assert list(start(Store(tmp_path), None, "gate", read, FRONT).config.devices) == ["board"]


def test_an_end_in_order_counts_as_no_start(tmp_path: Path, read: Callable[[Path | str], Config]) -> None:
    for _ in range(MAX_STARTS + 1):
        store = Store(tmp_path)
        started = start(store, None, "gate", read, FRONT)
        assert list(started.config.cameras) == ["front"]
        left(store, started.trial)
    assert Store(tmp_path).record.tried == Tried(Store(tmp_path).lay(FRONT), FIRST)


def test_what_is_to_be_tried_waits_for_room_on_the_disk(
    tmp_path: Path, read: Callable[[Path | str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Store) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", full)
        for _ in range(MAX_STARTS + 1):
            started = start(Store(tmp_path), None, "gate", read, FRONT)
            assert list(started.config.devices) == ["board"] and "No space left on device" in started.problem
    assert list(start(Store(tmp_path), None, "gate", read, FRONT).config.cameras) == ["front"]


def test_why_a_run_ended_is_told_with_what_is_taken_back(tmp_path: Path, read: Callable[[Path | str], Config]) -> None:
    store = Store(tmp_path)
    store.keep(Record(tried=Tried(store.lay(FRONT), 7)))
    for _ in range(MAX_STARTS):
        started = start(Store(tmp_path), None, "gate", read)
        assert list(started.config.cameras) == ["front"]
        ended(Store(tmp_path), "Port 80 is in use.")
    started = start(Store(tmp_path), None, "gate", read)
    outcome = started.trial.record.outcome
    assert outcome and not outcome.kept and "never got well (Port 80 is in use)." in outcome.text
    ended(Store(tmp_path), "something else")
    assert Store(tmp_path).record == started.trial.record


def test_settings_that_cannot_be_read_fall_back_at_once(tmp_path: Path, read: Callable[[Path | str], Config]) -> None:
    store = Store(tmp_path)
    good, bad = store.lay(FRONT), store.lay(WRONG)
    store.keep(Record(good, Tried(bad, 7)))
    started = start(Store(tmp_path), None, "gate", read)
    assert list(started.config.cameras) == ["front"] and not started.problem
    record = Store(tmp_path).record
    assert record.settings == good and record.tried is None
    assert record.outcome and record.outcome.re == 7 and "no such driver" in record.outcome.text
    assert [path.name for path in tmp_path.glob("desired.*")] == [f"desired.{good}.yaml"]
    assert load_settings(FRONT, read) == [] and "no such driver" in load_settings(WRONG, read)[0]


def test_the_store_survives_and_is_private(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    store.after, store.sent, store.upgrade = 5, store.next_number(1.0), 9
    store.save()
    again = Store(tmp_path)
    assert (
        Store.seen(tmp_path).after == 5
        and (again.after, again.sent, again.upgrade) == (5, 1000, 9)
        and again.next_number(0.5) == 1001
    )
    assert (tmp_path / "orders.json").stat().st_mode & 0o077 == 0
    half = '{"format": 1, "after": 7, "sent": 7, "upgrade": 7, "record": {}}'
    for text in ("{", '{"format": 1}', "[]", "\0" * 300, '{"format": 1, "after": 1e999}', half):
        (tmp_path / "orders.json").write_text(text)
        with pytest.raises(EdgeAgentError, match="is damaged"):
            Store.seen(tmp_path)
        assert (tmp_path / "orders.json").read_text() == text, "who only looks leaves it"
        anew = Store(tmp_path)
        assert (anew.after, anew.sent, anew.upgrade, anew.record) == (0, 0, 0, Record())
        assert "is damaged" in caplog.text and (tmp_path / "orders.json.damaged").read_text() == text
        anew.save()
        caplog.clear()
        assert Store(tmp_path).record == Record() and not caplog.text
    (tmp_path / "orders.json").write_text('{"format": 2}')
    with pytest.raises(EdgeAgentError, match="newer"):
        Store(tmp_path)


def test_the_logbook_keeps_the_last_lines() -> None:
    book = Logbook(3)
    book.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for number in range(5):
        book.handle(logging.makeLogRecord({"msg": f"line {number}", "levelno": 20, "levelname": "INFO"}))
    assert book.last(2) == "INFO line 3\nINFO line 4\n" and len(book.last(10).splitlines()) == 3


def test_only_an_installed_and_pinned_agent_is_upgraded(tmp_path: Path) -> None:
    places = Places(tmp_path)
    order = Upgrade(release="1.1", url="http://127.0.0.1:1/x.tar", sha256="0" * 64, size=10)
    sig = {"kty": "EC", "x": "1"}
    with pytest.raises(PeerError) as refused:
        fetch(order, "envelope", places, sig)
    assert refused.value.code == 501
    places.signers.parent.mkdir(parents=True)
    places.signers.write_text(json.dumps({"device": "gate", "sig": {"kty": "EC", "x": "2"}}))
    places.state.mkdir(parents=True)
    with pytest.raises(PeerError, match="sudo edgeagent upgrade --pin") as transferred:
        fetch(order, "envelope", places, sig)
    assert transferred.value.code == 501 and not places.orders.exists()
    places.signers.write_text(json.dumps({"device": "gate", "sig": sig}))
    with pytest.raises(PeerError) as away:
        fetch(order, "envelope", places, sig)
    assert away.value.code == 502 and not list(places.orders.iterdir())
    assert upgraded(places) == (0, "")
    places.home.mkdir(parents=True)
    (places.home / "ordered.json").write_text(json.dumps({"number": 7, "release": "1.1", "problem": "it was not well"}))
    assert upgraded(places) == (7, "it was not well")


def test_equal_settings_are_one_version() -> None:
    assert settings_version({"a": 1, "b": {"c": "é"}}) == settings_version({"b": {"c": "é"}, "a": 1})
    assert settings_version({"a": 1}) != settings_version({"a": 2})
