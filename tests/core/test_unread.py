"""Readings that nothing may move without: when nobody knows them."""

from __future__ import annotations

import math

import pytest

from edgeagent.core.unread import PATIENCE_S, Unread
from edgeagent.wire.control import ReadingInfo
from tests.support.control import BATTERY, LAMP, ROVER, device

KEY = ("battery", "voltage")


def known(unread: Unread) -> bool:
    return not unread.text(*KEY)


@pytest.mark.parametrize(("interval_s", "patience_s"), [(0.1, PATIENCE_S), (2.0, PATIENCE_S), (60.0, 180.0)])
def test_until_a_first_value_and_again_when_none_follows(interval_s: float, patience_s: float) -> None:
    unread = Unread([ROVER, LAMP, BATTERY], {"battery": interval_s, "rover": 0.1})
    assert unread.keys == [KEY]
    assert unread.text(*KEY) == "Voltage of Battery is not known, since that does not work; nothing may move."
    assert unread.phase("battery", True, 100.0) == [KEY]
    assert unread.text(*KEY) == "Voltage of Battery is not known yet; nothing may move."
    assert unread.next_deadline() is None
    assert unread.took({"rover": {"speed": 1.0}}, 101.0) == []
    assert unread.took({"battery": {"voltage": 12.0}}, 102.0) == [KEY]
    assert known(unread) and unread.next_deadline() == 102.0 + patience_s
    assert unread.took({"battery": {"current": 1.0}}, 103.0) == [], "it was read, but that was left out"
    assert unread.tick(102.0 + patience_s - 0.01) == []
    assert unread.tick(102.0 + patience_s) == [KEY]
    assert unread.text(*KEY) == f"Voltage of Battery has not been read for {patience_s:g} s; nothing may move."
    assert unread.next_deadline() is None
    assert unread.took({"battery": {"voltage": 12.0}}, 400.0) == [KEY] and known(unread)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "12"])
def test_what_is_no_value(value: float | str) -> None:
    unread = Unread([BATTERY], {"battery": 1.0})
    unread.phase("battery", True, 100.0)
    unread.took({"battery": {"voltage": value}}, 101.0)
    assert not known(unread)


def test_what_it_told_before_it_failed_counts_no_more() -> None:
    unread = Unread([BATTERY], {"battery": 1.0})
    unread.phase("battery", True, 100.0)
    unread.took({"battery": {"voltage": 12.0}}, 101.0)
    assert unread.phase("battery", True, 101.5) == [] and known(unread), "it says so twice"
    assert unread.phase("battery", False, 102.0) == [KEY]
    assert unread.phase("battery", True, 103.0) == [KEY] and not known(unread)


def test_of_what_is_in_no_list_nobody_minds_the_silence_but_before_the_first() -> None:
    own = device("own", moves=True, group="drive", readings=[ReadingInfo(name="cell", stop_below=3.2), ReadingInfo(name="b")])
    unread = Unread([own], {})
    unread.phase("own", True, 100.0)
    assert unread.text("own", "cell") and not unread.text("own", "b")
    unread.took({"own": {"cell": 3.9}}, 100.0)
    assert unread.next_deadline() is None and unread.tick(1e9) == []
