"""What a device says of itself on the broker, and when."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core import presence as p

UP, HELLO = p.PublishUp(1), p.PublishHello()


def online(now: float = 100.0) -> p.Presence:
    presence = p.Presence("e2")
    assert presence.handle(p.BrokerConnected(), now) == [HELLO, UP]
    return presence


def test_nothing_is_said_before_there_is_a_broker() -> None:
    presence = p.Presence("e2")
    for event in (p.HelloChanged(), p.UpSeen(0, "e1"), p.TimePassed(), p.BrokerLost()):
        assert presence.handle(event, 5.0) == []
    assert presence.next_deadline() is None


def test_every_connection_begins_with_hello_and_up() -> None:
    presence = online()
    assert presence.handle(p.BrokerLost(), 101.0) == []
    assert presence.next_deadline() is None
    assert presence.handle(p.BrokerConnected(), 101.1) == [HELLO, UP]


def test_up_is_repeated_every_minute() -> None:
    presence = online(100.0)
    for now in (160.0, 220.0):
        assert presence.next_deadline() == now
        assert presence.handle(p.TimePassed(), now - 0.1) == []
        assert presence.handle(p.TimePassed(), now) == [UP]


def test_a_late_will_is_overwritten_soon_but_not_in_a_race() -> None:
    presence = online(100.0)
    assert presence.handle(p.UpSeen(0, "e1"), 100.1) == []
    assert presence.next_deadline() == 101.0
    assert presence.handle(p.TimePassed(), 101.0) == [UP]
    assert presence.handle(p.UpSeen(0, "e2"), 105.0) == [UP]  # the will of our own earlier connection
    assert presence.handle(p.UpSeen(1, "e9"), 110.0) == [UP]


def test_our_own_presence_is_no_news() -> None:
    presence = online()
    assert presence.handle(p.UpSeen(1, "e2"), 130.0) == []
    assert presence.next_deadline() == 160.0


def test_hello_follows_changes_without_a_flood() -> None:
    presence = online(100.0)
    assert presence.handle(p.HelloChanged(), 100.5) == []
    assert presence.handle(p.HelloChanged(), 101.5) == []
    assert presence.next_deadline() == 102.0
    assert presence.handle(p.TimePassed(), 102.0) == [HELLO]
    assert presence.handle(p.HelloChanged(), 110.0) == [HELLO]


def test_leaving_is_the_last_word() -> None:
    presence = online()
    assert presence.handle(p.Leaving(), 101.0) == [p.PublishUp(0)]
    for event in (p.UpSeen(0, "e2"), p.HelloChanged(), p.BrokerLost(), p.BrokerConnected(), p.TimePassed(), p.Leaving()):
        assert presence.handle(event, 200.0) == []
    assert presence.next_deadline() is None


events = st.one_of(
    st.builds(p.BrokerConnected),
    st.builds(p.BrokerLost),
    st.builds(p.UpSeen, st.integers(0, 1), st.sampled_from(["e1", "e2"])),
    st.builds(p.HelloChanged),
    st.builds(p.TimePassed),
)


@given(st.lists(st.tuples(events, st.floats(0, 100)), max_size=50))
def test_rates_hold_whatever_happens(steps: list[tuple[Any, float]]) -> None:
    presence, now, connected = p.Presence("e2"), 0.0, False
    last: dict[type, float] = {}
    for event, wait_s in steps:
        now += wait_s
        before, connected = connected, (connected or isinstance(event, p.BrokerConnected)) and not isinstance(event, p.BrokerLost)
        effects = presence.handle(event, now)
        assert connected or not effects
        for effect in effects:
            if before and type(effect) in last and not isinstance(event, p.BrokerConnected):
                assert now - last[type(effect)] >= (1.0 if isinstance(effect, p.PublishUp) else 2.0) - 1e-6
            last[type(effect)] = now
        due = presence.next_deadline()
        assert (due is not None) == connected
        assert due is None or due > now
