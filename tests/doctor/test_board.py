"""The doctor's view of boards in all states of health."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.board import BoardHealth, Power, troubles
from edgeagent.doctor.board import judge
from edgeagent.doctor.report import Finding, Level
from tests.test_board import WELL


def findings_of(health: BoardHealth) -> dict[str, Finding]:
    return {finding.check: finding for finding in judge(health)}


def test_a_board_that_is_well() -> None:
    found = findings_of(WELL)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["board.model"].text == "Raspberry Pi 4 Model B Rev 1.4, 4 processors, 4.0 GB of memory."
    assert found["board.power"].text == "Power is good."
    assert found["board.temperature"].text == "The processor has 55 °C."
    assert found["board.wifi"].text == "The board hears Wi-Fi (wlan0) at -52 dBm, which is good."
    assert found["clock"].text.endswith("kept right by a time server.")


def test_a_board_that_tells_nothing() -> None:
    found = findings_of(BoardHealth())
    assert set(found) == {"board.model", "clock"}
    assert {finding.level for finding in found.values()} == {Level.OK}


@pytest.mark.parametrize(
    ("change", "check", "level", "said"),
    [
        ({"power": Power(undervoltage_now=True)}, "board.power", Level.PROBLEM, "too little power at this moment"),
        ({"power": Power(undervoltage_since_boot=True)}, "board.power", Level.NOTICE, "at some time since it started"),
        ({"power": Power(throttled_now=True)}, "board.power", Level.PROBLEM, "slowed itself down at this moment"),
        ({"power": Power(capped_since_boot=True)}, "board.power", Level.NOTICE, "slowed itself down at some time"),
        ({"temperature_c": 84.6}, "board.temperature", Level.PROBLEM, "85 °C"),
        ({"power": Power(hot_since_boot=True)}, "board.temperature", Level.NOTICE, "was so hot"),
        ({"memory_available_bytes": 50_000_000}, "board.memory", Level.PROBLEM, "Only 50 MB"),
        ({"disk_free_bytes": 7_000_000}, "board.disk", Level.PROBLEM, "Only 7 MB"),
        ({"disk_free_bytes": 300_000_000}, "board.disk", Level.NOTICE, "Only 300 MB"),
        ({"load_1min": 9.0}, "board.load", Level.NOTICE, "9.0 programs want to run on 4 processors"),
        ({"wifi_signal_dbm": -79.0}, "board.wifi", Level.NOTICE, "weak"),
        ({"clock_set": False}, "clock", Level.PROBLEM, "does not know the date"),
        ({"clock_synchronised": False}, "clock", Level.NOTICE, "no time server"),
    ],
)
def test_each_trouble(change: dict[str, object], check: str, level: Level, said: str) -> None:
    finding = findings_of(replace(WELL, **change))[check]  # type: ignore[arg-type]
    assert finding.level is level
    assert said in finding.text
    assert finding.advice.endswith(".")


@given(
    st.builds(
        replace,
        st.just(WELL),
        power=st.one_of(st.none(), st.builds(Power, *[st.sampled_from([None, True, False])] * 8)),
        temperature_c=st.one_of(st.none(), st.floats(-40, 120)),
        disk_free_bytes=st.one_of(st.none(), st.integers(0, 10**9)),
        memory_available_bytes=st.one_of(st.none(), st.integers(0, 4 * 10**9)),
        clock_set=st.sampled_from([None, True, False]),
    )
)
@example(replace(WELL, power=Power(hot_now=True), temperature_c=None))
def test_whatever_viewers_are_told_of_the_doctor_says_too(health: BoardHealth) -> None:
    found = findings_of(health)
    if troubles(health):
        assert any(finding.level is not Level.OK for finding in found.values())
    for finding in found.values():
        assert finding.text.endswith(".")
        assert (finding.level is Level.OK) == (not finding.advice)
