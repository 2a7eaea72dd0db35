"""What the client sends and when it stops, without a network."""

from __future__ import annotations

from typing import Any

import pytest

from edgeagent.client.address import parse_address
from edgeagent.client.errors import FailSafe, LeaseLost
from edgeagent.client.wheel import MAX_HOLD_S, Picture, Wheel
from edgeagent.wire import control as c
from tests.support.control import ARM, ROVER


def group(state: Any = "armed", lease: int | None = 7, why: str = "", text: str = "") -> c.Group:
    return c.Group(group="drive", lease=lease, state=state, why=why, text=text, expiry_ms=300, max_age_ms=1000)


def ack(seq: int, why: str = "", at: float = 0.0, lease: int = 7) -> c.Ack:
    return c.Ack(group="drive", lease=lease, seq=seq, at=at, taken=not why, why=why)


def armed() -> Wheel:
    """One that was armed at 0 s."""
    wheel = Wheel(group("disarmed"), [ROVER, ARM])
    assert wheel.point(0.0, None)
    wheel.told(group("armed"))
    assert wheel.state == "armed"
    return wheel


def blocked(wheel: Wheel) -> bool:
    return wheel.error is not None


def values(wheel: Wheel, now: float) -> dict[str, dict[str, float]]:
    point = wheel.point(now, None)
    assert point is not None
    return point.values


def test_nothing_but_neutral_until_it_is_armed() -> None:
    wheel = Wheel(group("disarmed"), [ROVER, ARM])
    wheel.set({"rover": {"throttle": 0.5}}, 0.0, 10.0)
    assert values(wheel, 0.0) == values(wheel, 0.04) == {"rover": {}, "arm": {}}
    wheel.told(group("armed"))
    assert values(wheel, 0.08)["rover"] == {"throttle": 0.5}


def test_a_value_holds_for_its_time_and_then_it_is_neutral() -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.5, "steer": -1}}, 0.1, 0.5)
    wheel.set({"arm": {"lift": 3}}, 0.1, 0.2)
    assert values(wheel, 0.25) == {"rover": {"throttle": 0.5, "steer": -1.0}, "arm": {"lift": 3.0}}
    assert values(wheel, 0.31) == {"rover": {"throttle": 0.5, "steer": -1.0}, "arm": {}}
    assert values(wheel, 0.6) == {"rover": {}, "arm": {}}


def test_each_set_point_names_lease_number_time_and_picture() -> None:
    wheel = armed()
    point = wheel.point(1.25, Picture("1", 0xFFFFFFFF))
    assert point is not None
    assert (point.lease, point.seq, point.at, point.mid, point.rtp) == (7, 1, 1250.0, "1", 0xFFFFFFFF)
    assert c.SetPoint.model_validate_json(point.model_dump_json()) == point


@pytest.mark.parametrize(
    ("given", "for_s", "words"),
    [
        ({"rover": {"throttle": 1.1}}, 1.0, "goes from -1 to 1, not to 1.1"),
        ({"rover": {"throttle": float("nan")}}, 1.0, "not to nan"),
        ({"rover": {"wings": 1}}, 1.0, "nothing called rover.wings"),
        ({"boat": {"throttle": 1}}, 1.0, "it has rover.throttle, rover.steer, arm.lift, arm.grip"),
        ({"rover": {"throttle": 1}}, 0.0, "for_s"),
        ({"rover": {"throttle": 1}}, MAX_HOLD_S + 1, "for_s"),
        ({"rover": {"throttle": 1}}, float("nan"), "for_s"),
    ],
)
def test_nonsense_is_refused_in_words_and_changes_nothing(given: dict[str, dict[str, float]], for_s: float, words: str) -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.2}}, 0.0, 1.0)
    with pytest.raises(ValueError, match=words):
        wheel.set({"rover": {"steer": 0.1}} | given, 0.0, for_s)
    assert values(wheel, 0.1)["rover"] == {"throttle": 0.2}


def test_shares_are_of_each_side_of_an_axis() -> None:
    lift = ROVER.model_copy(
        update={"name": "lift", "axes": [c.AxisInfo(name="speed", minimum=-2, maximum=10, neutral=0, role="throttle")]}
    )
    wheel = Wheel(group("disarmed"), [ROVER, lift])
    assert wheel.shares({"throttle": 0.5, "steer": 0}) == {"rover": {"throttle": 0.5, "steer": 0.0}, "lift": {"speed": 5.0}}
    assert wheel.shares({"throttle": -0.5}) == {"rover": {"throttle": -0.5}, "lift": {"speed": -1.0}}
    with pytest.raises(ValueError, match="from -1 to 1"):
        wheel.shares({"throttle": 2})
    with pytest.raises(ValueError, match="has a pan"):
        wheel.shares({"pan": 1})


@pytest.mark.parametrize("state", ["disarmed", "stopped", "fault"])
def test_a_stop_by_the_agent_ends_all_wishes_and_says_why(state: str) -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.5}}, 0.0, 10.0)
    wheel.told(group(state, why="picture", text="The operator sees no picture."))
    assert isinstance(wheel.error, FailSafe)
    assert (wheel.error.why, str(wheel.error)) == ("picture", "The operator sees no picture.")
    assert values(wheel, 0.1) == {"rover": {}, "arm": {}}, "it goes on at neutral"
    wheel.told(group("armed"))
    assert wheel.error is not None, "that it is armed again is no reason to go on by itself"
    assert values(wheel, 0.2) == {"rover": {}, "arm": {}}
    wheel.rearm()
    assert not blocked(wheel)
    assert values(wheel, 0.3) == {"rover": {}, "arm": {}}, "and what was wanted before is over"


def test_an_acknowledgement_stops_before_its_sentence_comes() -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.5}}, 0.0, 10.0)
    wheel.acknowledged(ack(0, "disarmed"), 0.1)
    wheel.acknowledged(ack(1, "late"), 0.1)
    wheel.acknowledged(ack(1, "picture", lease=6), 0.1)
    assert not blocked(wheel), "of before it was armed, of what the next one mends, of another lease"
    wheel.acknowledged(ack(1, "picture"), 0.1)
    assert blocked(wheel)
    assert not wheel.explained
    wheel.told(group("disarmed", why="picture", text="The operator's picture is over 1 s old."))
    assert (wheel.explained, str(wheel.error)) == (True, "The operator's picture is over 1 s old.")
    wheel.rearm()
    assert wheel.state == "arming"


def test_a_script_that_was_held_up_sends_nothing_of_before() -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.5}}, 0.0, 10.0)
    assert values(wheel, 0.25)["rover"] == {"throttle": 0.5}
    assert values(wheel, 2.25) == {"rover": {}, "arm": {}}
    assert isinstance(wheel.error, FailSafe)
    assert wheel.error.why == "silence"
    assert "2.0 s" in str(wheel.error)


def test_whoever_has_pressed_stop_is_silent_and_moves_nothing_after_it() -> None:
    wheel = armed()
    wheel.set({"rover": {"throttle": 0.5}}, 0.1, 10.0)
    wheel.hush(True)
    assert wheel.point(0.2, None) is None
    wheel.hush(False)
    assert values(wheel, 0.24) == {"rover": {}, "arm": {}}, "the stop may not have got through"
    assert isinstance(wheel.error, FailSafe)
    assert wheel.error.why == "stop"
    wheel.told(group("stopped", why="stop", text="Ben has pressed the emergency stop."))
    assert (wheel.explained, str(wheel.error)) == (True, "Ben has pressed the emergency stop.")


def test_a_lost_lease_is_lost_for_good() -> None:
    wheel = armed()
    wheel.told(group("disarmed", lease=None, why="taken", text="Anna has taken over from Ben."))
    assert isinstance(wheel.error, LeaseLost)
    assert (wheel.error.why, str(wheel.error)) == ("taken", "Anna has taken over from Ben.")
    assert wheel.point(0.1, None) is None
    wheel.told(group("armed"))
    wheel.rearm()
    assert wheel.point(0.2, None) is None
    assert wheel.state == "lost"


def test_round_trip_and_what_was_taken() -> None:
    wheel = armed()
    wheel.acknowledged(ack(3, at=100.0), 0.106)
    wheel.acknowledged(ack(2, at=100.0), 0.107)
    assert wheel.taken == 3
    assert wheel.round_trip_s == pytest.approx(0.007)
    wheel.unanswered()
    assert isinstance(wheel.error, FailSafe)


def test_addresses() -> None:
    assert parse_address("http://robot.local:8080/").base == "http://robot.local:8080"
    found = parse_address("mqtt://ben:se%40cret@broker:1884/porch")
    assert found.broker is not None
    assert (found.device, found.broker.host, found.broker.port, found.broker.password) == ("porch", "broker", 1884, "se@cret")
    assert "cret" not in f"{found} {found!r}"
    found = parse_address("wss://broker/some/mqtt/porch")
    assert found.broker is not None
    assert (found.device, found.broker.websocket_path, found.broker.tls) == ("porch", "/some/mqtt", True)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("robot.local", "http://HOST:PORT"),
        ("ftp://robot", "http://HOST:PORT"),
        ("http://", "http://HOST:PORT"),
        ("http://me:secret@robot", "token"),
        ("mqtt://broker", "device's name"),
        ("mqtt://broker/Not_a_name", "device's name"),
        ("mqtt://broker:x/porch", "port|read"),
    ],
)
def test_addresses_that_are_none(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_address(address)
    assert "secret" not in str(caught.value)
