"""What ails a board, and how steadily its owner is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.board import HOLD_S, LOOK_EVERY_S, TEXTS, BoardHealth, BoardWatch, Power, troubles, watch

WELL = BoardHealth(
    model="Raspberry Pi 4 Model B Rev 1.4",
    memory_total_bytes=4_000_000_000,
    memory_available_bytes=3_000_000_000,
    temperature_c=55.0,
    power=Power(*[False] * 8),
    disk_free_bytes=20_000_000_000,
    disk_total_bytes=30_000_000_000,
    clock_set=True,
    clock_synchronised=True,
    wifi_interface="wlan0",
    wifi_signal_dbm=-52.0,
    load_1min=0.4,
    cpus=4,
)
UNDERVOLTED = replace(WELL, power=Power(undervoltage_now=True, undervoltage_since_boot=True, throttled_now=True))


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, []),
        ({"power": Power(undervoltage_since_boot=True, hot_since_boot=True)}, []),
        ({"power": Power(undervoltage_now=True, throttled_now=True)}, ["power"]),
        ({"power": Power(hot_now=True, throttled_now=True), "temperature_c": 71.0}, ["hot"]),
        ({"power": Power(hot_now=True), "temperature_c": None}, ["hot"]),
        ({"power": Power(hot_now=True), "temperature_c": 61.0}, []),
        ({"power": Power(capped_now=True)}, ["slowed"]),
        ({"temperature_c": 80.0}, ["hot"]),
        ({"temperature_c": 80.0, "model": "LENOVO ThinkPad"}, []),
        ({"temperature_c": 96.0, "model": "LENOVO ThinkPad"}, ["hot"]),
        ({"clock_set": False}, ["clock"]),
        ({"clock_synchronised": False}, []),
        ({"disk_free_bytes": 0}, ["disk"]),
        ({"memory_available_bytes": 0}, ["memory"]),
        ({"wifi_signal_dbm": -80.0}, ["wifi"]),
        ({"wifi_signal_dbm": -80.0, "power": Power(undervoltage_now=True)}, ["power", "wifi"]),
    ],
)
def test_what_is_a_trouble(change: dict[str, object], kinds: list[str]) -> None:
    assert [trouble.kind for trouble in troubles(replace(WELL, **change))] == kinds  # type: ignore[arg-type]


def test_a_board_that_tells_nothing_ails_nothing() -> None:
    assert troubles(BoardHealth()) == []


def test_every_sentence_says_what_to_do() -> None:
    for text in TEXTS.values():
        assert text.endswith(".") and ": " in text and len(text) < 120


def test_a_trouble_at_its_limit_does_not_flicker() -> None:
    board, now, told = BoardWatch(), 1000.0, []
    for look in range(20):
        told.append(board.look(UNDERVOLTED if look % 2 else WELL, now))
        now += LOOK_EVERY_S
    assert told == ["", *[TEXTS["power"]] * 19]
    assert board.look(WELL, now - LOOK_EVERY_S + HOLD_S) == ""


def test_a_dip_between_two_looks_is_told_once() -> None:
    since = replace(WELL, power=Power(undervoltage_now=False, undervoltage_since_boot=True))
    board = BoardWatch()
    assert board.look(WELL, 0.0) == ""
    assert board.look(since, 30.0) == TEXTS["power"]
    assert board.look(since, 30.0 + HOLD_S) == ""
    # What happened before the agent started is the doctor's, not the viewers'.
    assert BoardWatch().look(since, 0.0) == ""


looks = st.builds(
    replace,
    st.just(WELL),
    power=st.one_of(st.none(), st.builds(Power, *[st.sampled_from([None, True, False])] * 8)),
    temperature_c=st.one_of(st.none(), st.floats(-40, 120)),
    disk_free_bytes=st.one_of(st.none(), st.integers(0, 10**9)),
    clock_set=st.sampled_from([None, True, False]),
)


@given(st.lists(st.tuples(looks, st.floats(0, 200)), max_size=20))
def test_what_is_wrong_now_is_always_told_and_what_is_long_over_never(steps: list[tuple[BoardHealth, float]]) -> None:
    board, now = BoardWatch(), 0.0
    for health, wait_s in steps:
        now += wait_s
        text = board.look(health, now)
        here = troubles(health)
        assert text in ("", *TEXTS.values())
        order = list(TEXTS.values())
        assert not here or order.index(text) <= order.index(here[0].text)
    well = replace(WELL, power=None)
    board.look(well, now)
    assert board.look(well, now + HOLD_S) == ""


async def test_changes_are_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks: Iterator[BoardHealth | OSError] = iter(
        [WELL, UNDERVOLTED, UNDERVOLTED, OSError("a file went away"), WELL, WELL, WELL, WELL]
    )
    seen: list[tuple[BoardHealth, str]] = []
    done = asyncio.Event()

    def read() -> BoardHealth:
        look = next(looks)
        if isinstance(look, OSError):
            raise look
        return look

    def tell(health: BoardHealth, text: str) -> None:
        seen.append((health, text))
        if len(seen) == 7:
            done.set()

    task = asyncio.create_task(watch(read, tell))
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    assert [text for _, text in seen] == ["", TEXTS["power"], TEXTS["power"], TEXTS["power"], "", "", ""]
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [("WARNING", TEXTS["power"]), ("ERROR", "the board cannot be looked at"), ("INFO", "the board is well again")]
