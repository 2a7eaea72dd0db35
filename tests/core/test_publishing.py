"""When readings are published on a broker."""

from __future__ import annotations

import pytest

from edgeagent.core.publishing import Publishing, Standing
from edgeagent.wire.control import DeviceInfo, ReadingInfo

GARDEN = DeviceInfo(
    name="garden", readings=[ReadingInfo(name="temperature", dead_band=0.5), ReadingInfo(name="motion", kind="flag")]
)
LAMP = DeviceInfo(name="lamp", readings=[ReadingInfo(name="on", kind="flag")])


def live() -> Publishing:
    """Both work, and are told."""
    publishing = Publishing([GARDEN, LAMP])
    for name in publishing.names:
        publishing.device(name, True, "")
    publishing.readings({"garden": {"temperature": 20.0, "motion": False}})
    publishing.connected()
    assert publishing.due(100.0) == {
        "garden": Standing(True, "", {"temperature": 20.0, "motion": False}),
        "lamp": Standing(True, "", {}),
    }
    return publishing


def told(publishing: Publishing, now: float) -> list[str]:
    return sorted(publishing.due(now))


def test_nothing_without_a_broker() -> None:
    publishing = Publishing([GARDEN])
    publishing.readings({"garden": {"temperature": 20.0}})
    assert publishing.next_deadline() is None
    assert publishing.due(1e9) == {}


def test_a_device_that_does_not_work_says_why_and_has_no_readings() -> None:
    publishing = live()
    publishing.device("garden", False, "The bus is silent.")
    assert publishing.next_deadline() == 101.0
    assert publishing.due(101.0) == {"garden": Standing(False, "The bus is silent.", {})}
    publishing.device("garden", True, "forgotten")
    assert publishing.due(102.0) == {"garden": Standing(True, "", {})}


def test_at_most_one_message_in_a_second() -> None:
    publishing = live()
    for tenth in range(1, 31):
        publishing.readings({"garden": {"temperature": 20.0 + tenth, "motion": tenth % 2 == 0}})
        assert told(publishing, 100 + tenth / 10) == (["garden"] if tenth % 10 == 0 else [])


def test_a_change_within_the_dead_band_waits_for_the_sign_of_life() -> None:
    publishing = live()
    publishing.readings({"garden": {"temperature": 20.5, "motion": False}})
    assert publishing.next_deadline() == 160.0
    assert told(publishing, 159.9) == []
    assert told(publishing, 160.0) == ["garden"]
    assert publishing.next_deadline() is None, "what is not read is not told again"


def test_it_does_not_creep_away_below_the_dead_band() -> None:
    publishing = live()
    for step in range(1, 7):
        publishing.readings({"garden": {"temperature": 20.0 + step / 10, "motion": False}})
    assert told(publishing, 101.0) == ["garden"]


def test_the_newest_counts_after_the_broker_was_lost() -> None:
    publishing = live()
    publishing.lost()
    publishing.readings({"lamp": {"on": True}})
    assert publishing.due(200.0) == {}
    publishing.connected()
    assert publishing.due(200.0)["lamp"].readings == {"on": True}
    assert told(publishing, 300.0) == []


def test_who_asks_is_answered_within_a_second() -> None:
    publishing = live()
    publishing.ask("lamp")
    publishing.ask("unheard-of")
    assert told(publishing, 100.5) == []
    assert told(publishing, 101.0) == ["lamp"]


@pytest.mark.parametrize("value", ["20", float("nan"), True, None, [1]])
def test_what_is_no_proper_value_is_left_out(value: object) -> None:
    publishing = live()
    publishing.readings({"garden": {"temperature": value, "motion": True}, "unheard-of": {"on": True}, "lamp": {"off": True}})  # type: ignore[dict-item]
    assert publishing.due(200.0) == {"garden": Standing(True, "", {"motion": True})}


def test_what_a_working_device_tells_no_more_is_not_published_as_if_it_were_known() -> None:
    publishing = live()
    publishing.readings({"garden": {"temperature": 20.1}})
    assert publishing.due(101.0) == {"garden": Standing(True, "", {"temperature": 20.1})}
    publishing.readings({"garden": {}})
    assert publishing.due(102.0) == {"garden": Standing(True, "", {})}
    publishing.readings({"garden": {}})
    assert publishing.next_deadline() is None
