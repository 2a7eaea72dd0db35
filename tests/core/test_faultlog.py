from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.faultlog import _KEPT, REMIND_S, FaultLog, duration


def test_a_lasting_fault_is_said_once_and_reminded_of() -> None:
    log = FaultLog()
    said = [now for now in range(0, 1801, 10) if log.fault("gone", now)]
    assert said == [0, 600, 1200, 1800]
    assert log.good(2000) == 2000
    assert log.good(2001) is None
    assert log.fault("gone", 2002), "a new outage"


def test_faults_that_take_turns_are_said_once_each() -> None:
    log = FaultLog()
    assert [log.fault(text, now) for now, text in enumerate(["a", "b", "a", "b", "a"])] == [True, True, False, False, False]


def test_forgotten_with_what_needed_it() -> None:
    log = FaultLog()
    log.fault("gone", 0)
    log.forget()
    assert log.good(1) is None
    assert log.fault("gone", 2)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.sampled_from("abc") | st.text(max_size=3), st.booleans()), max_size=200))
def test_never_more_than_one_line_for_a_sentence_in_its_time(events: list[tuple[float, str, bool]]) -> None:
    log, said, now = FaultLog(), dict[str, float](), 0.0
    for passed, text, good in events:
        now += passed
        if good:
            away_s = log.good(now)
            assert away_s is None or 0 <= away_s <= now
            said.clear()
        elif log.fault(text, now):
            assert text not in said or now - said[text] >= REMIND_S or len(said) >= _KEPT
            said[text] = now
        assert len(log._said) <= _KEPT


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (4.25, "4.2 s"), (42.4, "42 s"), (750, "12 min"), (3 * 3600, "3 h"), (1e7, "116 days")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
