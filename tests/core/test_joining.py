from __future__ import annotations

import secrets

import pytest

from edgeagent.core.joining import (
    Begin,
    Cancel,
    Enrol,
    EnrolFailed,
    Enrolled,
    EnrolWaits,
    Join,
    JoinEffect,
    JoinEvent,
    JoinState,
    JoinWifi,
    KeepWifi,
    Look,
    Member,
    Offline,
    Online,
    Rest,
    RestoreWifi,
    Tell,
    TextSeen,
    TimePassed,
    WifiFailed,
    WifiJoined,
)
from edgeagent.wire.claim import Claim
from edgeagent.wire.seal import new_key, public_jwk
from edgeagent.wire.wifi import Wifi, sign_wifi

KEY = new_key()
GATE = Member("gate", public_jwk(KEY))
HOME = Wifi("home", "a-long-key")


def claim(ssid: str = "home") -> str:
    wifi_key = HOME.key if ssid else ""
    return Claim("https://site.example:8443", "c" * 43, "0123456789abcdef", secrets.token_urlsafe(16), "", ssid, wifi_key).text()


def kinds(effects: list[JoinEffect]) -> list[type]:
    return [type(effect) for effect in effects]


def run(join: Join, *events: JoinEvent, at: float = 0.0) -> list[JoinEffect]:
    effects: list[JoinEffect] = []
    for event in events:
        effects = join.handle(event, at)
    return effects


def looking() -> Join:
    join = Join()
    assert run(join, Begin(None)) == [Look(1.0)]
    return join


def seeking() -> Join:
    join = Join()
    assert run(join, Begin(GATE)) == []
    assert join.next_deadline() == 300.0
    assert kinds(run(join, TimePassed(), at=300.0)) == [Tell, Look]
    return join


def test_a_claim_with_wifi_joins_then_enrols_and_stays() -> None:
    join, text = looking(), claim()
    effects = run(join, TextSeen(text))
    assert kinds(effects) == [Rest, Tell, JoinWifi] and effects[2] == JoinWifi(HOME)
    assert run(join, WifiJoined()) == [Enrol(Claim.parse(text))]
    assert kinds(run(join, Enrolled(GATE))) == [KeepWifi, Tell]
    assert join.state is JoinState.MEMBER


def test_a_claim_without_wifi_enrols_at_once() -> None:
    join = looking()
    assert kinds(run(join, TextSeen(claim("")))) == [Rest, Tell, Enrol]
    assert kinds(run(join, Enrolled(GATE))) == [Tell]  # no Wi-Fi was touched


def test_a_board_without_wifi_enrols_over_its_cable() -> None:
    join = looking()
    assert kinds(run(join, TextSeen(claim()), WifiFailed("no adapter", absent=True))) == [Tell, Enrol]


@pytest.mark.parametrize(
    ("events", "at", "expected"),
    [
        ([WifiFailed("wrong key")], 1.0, [RestoreWifi, Tell, Look]),
        ([TimePassed()], 75.0, [Cancel, RestoreWifi, Tell, Look]),
        ([WifiJoined(), EnrolFailed("expired", final=True)], 1.0, [RestoreWifi, Tell, Look]),
        ([WifiJoined(), TimePassed()], 80.0, []),  # the time to enrol begins with the network
        ([WifiJoined(), EnrolWaits("approve it"), EnrolFailed("refused")], 1.0, [Tell, Look]),  # it answered over this network
    ],
)
def test_what_fails_goes_back_to_looking(events: list[JoinEvent], at: float, expected: list[type]) -> None:
    join = looking()
    run(join, TextSeen(claim()))
    assert kinds(run(join, *events, at=at)) == expected


def test_waiting_for_approval_keeps_the_wifi_and_has_no_end() -> None:
    join = looking()
    run(join, TextSeen(claim()), WifiJoined())
    assert kinds(run(join, EnrolWaits("The installer has to approve this board."))) == [KeepWifi, Tell]
    assert join.next_deadline() is None
    assert kinds(run(join, Enrolled(GATE))) == [Tell]


def test_what_failed_is_left_alone_for_a_while_but_another_claim_is_not() -> None:
    join, text = looking(), claim("")
    run(join, TextSeen(text), EnrolFailed("The site does not answer."), at=10.0)
    assert run(join, TextSeen(text), at=39.9) == []
    assert Enrol in kinds(run(join, TextSeen(text), at=40.0))
    run(join, EnrolFailed("used", final=True), at=50.0)
    assert run(join, TextSeen(text), at=649.0) == []
    assert Enrol in kinds(run(join, TextSeen(claim("")), at=649.0))


@pytest.mark.parametrize("text", ["https://example.com/", "x", '{"v":1}', "a.b.c", '{"v":1,"t":' * 200])
def test_what_is_no_claim_is_told_once(text: str) -> None:
    join = looking()
    (told,) = run(join, TextSeen(text))
    assert isinstance(told, Tell) and told.warning
    assert run(join, TextSeen(text), at=5.0) == []
    assert join.state is JoinState.LOOKING


def test_a_board_of_no_site_takes_no_signed_wifi() -> None:
    assert kinds(run(looking(), TextSeen(sign_wifi(HOME, KEY, at=1)))) == [Tell]


def test_enrolled_by_hand_ends_the_looking() -> None:
    assert kinds(run(looking(), Enrolled(GATE))) == [Rest, Tell]
    join = looking()
    assert kinds(run(join, TextSeen(claim()), Enrolled(GATE))) == [Cancel, RestoreWifi, Tell]


def test_a_member_looks_only_after_five_minutes_away() -> None:
    join = Join()
    run(join, Begin(GATE), Online(), at=1.0)
    assert join.next_deadline() is None
    assert run(join, TextSeen(sign_wifi(HOME, KEY, at=1))) == []
    run(join, Offline(), at=1000.0)
    run(join, Offline(), at=1200.0)
    assert join.next_deadline() == 1300.0
    run(join, Online(), at=1250.0)
    assert join.next_deadline() is None
    run(join, Offline(), at=2000.0)
    assert run(join, TimePassed(), at=2299.0) == []
    assert kinds(run(join, TimePassed(), at=2300.0)) == [Tell, Look]
    assert run(join, Online(), at=2400.0) == [Rest()]


def bent(token: str) -> str:
    """The same with another signature, whatever the first one was."""
    *rest, signature = token.split(".")
    return ".".join([*rest, ("B" if signature[0] == "A" else "A") + signature[1:]])


def test_a_member_takes_wifi_of_its_site_and_nothing_else() -> None:
    join = seeking()
    for text in (
        claim(),
        sign_wifi(HOME, new_key(), at=5),
        sign_wifi(HOME, KEY, board="shed", at=5),
        "WIFI:T:WPA;S:home;P:a-long-key;;",
        bent(sign_wifi(HOME, KEY, at=5)),
    ):
        assert kinds(run(join, TextSeen(text), at=301.0)) == [Tell], text
    effects = run(join, TextSeen(sign_wifi(HOME, KEY, board="gate", at=5)), at=301.0)
    assert kinds(effects) == [Rest, Tell, JoinWifi] and effects[2] == JoinWifi(HOME)
    assert all(HOME.key not in repr(effect) for effect in effects)


def test_the_new_wifi_stays_once_the_broker_is_reached_and_older_ones_are_refused() -> None:
    join = seeking()
    run(join, TextSeen(sign_wifi(HOME, KEY, at=50)), WifiJoined(), at=310.0)
    assert join.next_deadline() == 370.0
    effects = run(join, Online(), at=320.0)
    assert effects[0] == KeepWifi(50) and join.state is JoinState.MEMBER
    run(join, Offline(), at=400.0)
    run(join, TimePassed(), at=700.0)
    assert kinds(run(join, TextSeen(sign_wifi(HOME, KEY, at=49)), at=701.0)) == [Tell]
    assert JoinWifi in kinds(run(join, TextSeen(sign_wifi(HOME, KEY, at=50)), at=701.0))


@pytest.mark.parametrize(
    ("events", "at", "expected"),
    [
        ([WifiFailed("gone")], 302.0, [RestoreWifi, Tell, Look]),
        ([WifiFailed("no adapter", absent=True)], 302.0, [RestoreWifi, Tell, Look]),
        ([WifiJoined(), TimePassed()], 390.0, [RestoreWifi, Tell, Look]),
        ([TimePassed()], 376.0, [Cancel, RestoreWifi, Tell, Look]),
        ([Online(), WifiFailed("gone")], 302.0, [RestoreWifi, Tell]),  # the network of before is back
        ([Online(), WifiJoined()], 302.0, [KeepWifi, Tell]),  # the broker was sooner than NetworkManager's word
    ],
)
def test_a_wifi_without_the_broker_is_left_again(events: list[JoinEvent], at: float, expected: list[type]) -> None:
    join = seeking()
    run(join, TextSeen(sign_wifi(HOME, KEY, at=5)), at=301.0)
    for event in events[:-1]:
        run(join, event, at=302.0)
    assert kinds(run(join, events[-1], at=at)) == expected
    back = JoinState.SEEKING if expected[-1] is Look else JoinState.MEMBER
    assert join.state is back
    assert (join.next_deadline() is None) == (join.state in (JoinState.SEEKING, JoinState.MEMBER))


def test_memory_of_strangers_codes_is_bounded() -> None:
    join = looking()
    for number in range(100):
        run(join, TextSeen(f"poster {number}"))
    assert kinds(run(join, TextSeen("poster 0"))) == [Tell]
    assert run(join, TextSeen("poster 99")) == []
