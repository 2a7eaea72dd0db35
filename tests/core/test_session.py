"""The session machine, row by row of its table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from edgeagent.core import session_events as e
from edgeagent.core.ratelimit import Rate
from edgeagent.core.session import SessionMachine
from edgeagent.wire import messages as m
from tests.support.viewers import Reply, bye, camera, candidate, ice, offer

T = TypeVar("T")
SID = "session1"
ALICE, BOB, WHEP = Reply("mqtt:alice"), Reply("mqtt:bob"), Reply("whep:1", trickles=False, origin="192.0.2.7")


def machine(drives: Callable[[int], bool] = lambda _: False, **limits: Any) -> SessionMachine:
    config = e.SessionConfig(device="porch", epoch="e2", version="1.0", title="The porch", **limits)
    made = SessionMachine(config, drives=drives)
    assert made.handle(e.CamerasChanged((camera("gate"), camera("desk"))), 0.0) == []
    return made


def only(effects: list[e.Effect], kind: type[T]) -> T:
    (effect,) = effects
    assert isinstance(effect, kind), effect
    return effect


def message(effect: e.Effect, kind: type[T], way: e.Way = ALICE) -> T:
    assert isinstance(effect, e.Send), effect
    assert effect.way == way
    assert isinstance(effect.message, kind), effect.message
    return effect.message


def error(effects: list[e.Effect], code: int, way: e.Way = ALICE) -> m.ErrorMessage:
    found = message(only(effects, e.Send), m.ErrorMessage, way)
    assert found.code == code, found
    assert found.message.endswith(".")
    return found


def opened(core: SessionMachine, reply: Reply = ALICE, now: float = 1.0, **fields: Any) -> int:
    return only(core.handle(e.Received(offer(**fields), reply), now), e.OpenPeer).peer


def answered(core: SessionMachine, reply: Reply = ALICE, now: float = 1.0, **fields: Any) -> int:
    peer = opened(core, reply, now, **fields)
    core.handle(e.PeerAnswered(peer, 1, "v=0 answer"), now)
    return peer


def connected(core: SessionMachine, reply: Reply = ALICE, now: float = 1.0, *, channel: bool = True, **fields: Any) -> int:
    peer = answered(core, reply, now, **fields)
    core.handle(e.PeerConnected(peer), now)
    if channel:
        core.handle(e.ChannelOpened(peer), now)
    return peer


def test_an_offer_opens_a_peer_and_its_answer_goes_back() -> None:
    core = machine()
    effect = only(core.handle(e.Received(offer(cameras={"0": "gate", "v1": "desk"}), ALICE), 1.0), e.OpenPeer)
    assert effect == e.OpenPeer(1, SID, 1, "v=0 offer 1", {"0": "gate", "v1": "desk"}, 0.0)
    answer = message(only(core.handle(e.PeerAnswered(1, 1, "v=0 answer"), 1.1), e.Send), m.Answer)
    assert answer == m.Answer(sid=SID, n=1, sdp="v=0 answer", cameras={"0": "gate", "v1": "desk"})
    assert (core.viewers, core.connected) == (1, 0)
    assert core.handle(e.PeerConnected(1), 1.2) == []
    assert (core.viewers, core.connected) == (1, 1)
    assert core.next_deadline() is None


def test_a_door_that_cannot_trickle_waits_for_servers() -> None:
    assert only(machine().handle(e.Received(offer(), WHEP), 1.0), e.OpenPeer).wait_for_servers_s == 0.3


def test_candidates_before_the_answer_are_kept_both_ways_and_in_order() -> None:
    core = machine()
    peer = opened(core)
    assert core.handle(e.Received(ice(SID, "a"), ALICE), 1.0) == []
    assert core.handle(e.Received(ice(SID, "b", end=True), ALICE), 1.0) == []
    assert core.handle(e.CandidatesFound(peer, (candidate("x"),), False), 1.0) == []
    assert core.handle(e.CandidatesFound(peer, (), True), 1.0) == []
    answer, remote, local = core.handle(e.PeerAnswered(peer, 1, "sdp"), 1.0)
    message(answer, m.Answer)
    assert remote == e.AddCandidates(peer, (candidate("a"), candidate("b")), True)
    assert message(local, m.Ice) == m.Ice(sid=SID, candidates=[candidate("x")], end=True)


def test_candidates_after_the_answer_pass_at_once() -> None:
    core = machine()
    peer = answered(core)
    assert core.handle(e.Received(ice(SID, "a"), ALICE), 2.0) == [e.AddCandidates(peer, (candidate("a"),), False)]
    assert core.handle(e.Received(ice(SID), ALICE), 2.0) == []
    found = core.handle(e.CandidatesFound(peer, (candidate("x"),), False), 2.0)
    assert message(only(found, e.Send), m.Ice).candidates == [candidate("x")]


def test_the_number_of_candidates_is_bounded() -> None:
    core = machine(max_candidates=3)
    peer = opened(core)
    core.handle(e.Received(ice(SID, "a", "b"), ALICE), 1.0)
    core.handle(e.Received(ice(SID, "c", "d"), ALICE), 1.0)
    core.handle(e.CandidatesFound(peer, (candidate(),) * 5, False), 1.0)
    _, remote, local = core.handle(e.PeerAnswered(peer, 1, "sdp"), 1.0)
    assert isinstance(remote, e.AddCandidates)
    assert [c.candidate for c in remote.candidates] == ["a", "b", "c"]
    assert len(message(local, m.Ice).candidates) == 3
    assert core.handle(e.Received(ice(SID, "e"), ALICE), 1.0) == []
    assert only(core.handle(e.Received(ice(SID, "f", end=True), ALICE), 1.0), e.AddCandidates) == e.AddCandidates(peer, (), True)
    assert core.counters.dropped_candidates == 5


def test_local_candidates_of_a_whep_viewer_wait_for_its_channel_or_are_dropped() -> None:
    core = machine()
    peer = answered(core, WHEP)
    assert core.handle(e.CandidatesFound(peer, (candidate(),), False), 1.0) == []
    core.handle(e.ChannelOpened(peer), 1.0)
    message(only(core.handle(e.CandidatesFound(peer, (candidate(),), False), 1.0), e.Send), m.Ice, peer)


def test_the_next_offer_renegotiates() -> None:
    core = machine()
    peer = connected(core)
    effect = only(core.handle(e.Received(offer(n=2, cameras={"0": "gate", "1": "desk"}), ALICE), 2.0), e.Renegotiate)
    assert effect == e.Renegotiate(peer, 2, "v=0 offer 2", {"0": "gate", "1": "desk"})
    assert core.next_deadline() == 12.0
    answer = message(only(core.handle(e.PeerAnswered(peer, 2, "sdp2"), 2.1), e.Send), m.Answer)
    assert (answer.n, answer.sdp, answer.cameras) == (2, "sdp2", {"0": "gate", "1": "desk"})
    assert core.next_deadline() is None
    only(core.handle(e.Received(m.Quality(sid=SID, id=1, mid="1", layer="off"), ALICE), 2.2), e.WishQuality)


def test_an_offer_over_the_channel_is_answered_there() -> None:
    core = machine()
    peer = connected(core)
    assert only(core.handle(e.Received(offer(n=2), peer), 2.0), e.Renegotiate).n == 2
    message(only(core.handle(e.PeerAnswered(peer, 2, "sdp2"), 2.1), e.Send), m.Answer, peer)


def test_a_duplicate_offer_gets_the_answer_again_and_opens_nothing() -> None:
    core = machine()
    peer = opened(core)
    assert core.handle(e.Received(offer(), ALICE), 1.0) == []
    answer = core.handle(e.PeerAnswered(peer, 1, "sdp"), 1.0)
    assert core.handle(e.Received(offer(), ALICE), 1.0) == answer
    assert core.viewers == 1


def test_an_offer_out_of_order_is_refused() -> None:
    core = machine()
    peer = opened(core)
    assert error(core.handle(e.Received(offer(n=2), ALICE), 1.0), 409).n == 2
    core.handle(e.PeerAnswered(peer, 1, "sdp"), 1.0)
    assert "2 comes next" in error(core.handle(e.Received(offer(n=3), ALICE), 1.0), 409).message
    core.handle(e.Received(offer(n=2), ALICE), 1.0)
    error(core.handle(e.Received(offer(n=3), ALICE), 1.0), 409)
    core.handle(e.PeerAnswered(peer, 2, "sdp"), 1.0)
    error(core.handle(e.Received(offer(n=2, sdp="other"), ALICE), 1.0), 409)
    error(core.handle(e.Received(offer(n=1, sdp="other"), peer), 1.0), 409, peer)
    assert core.viewers == 1


def test_an_offer_for_an_earlier_run_is_refused_with_a_hello() -> None:
    core = machine()
    hello, refusal = core.handle(e.Received(offer(epoch="e1"), ALICE), 1.0)
    assert message(hello, m.Hello).epoch == "e2"
    assert message(refusal, m.ErrorMessage).code == 409
    assert core.viewers == 0
    opened(core, epoch="e2")


def test_the_same_session_offered_anew_replaces_the_old() -> None:
    core = machine()
    old = connected(core)
    close, open_ = core.handle(e.Received(offer(sdp="after a reload"), ALICE), 2.0)
    assert isinstance(close, e.ClosePeer)
    assert isinstance(open_, e.OpenPeer)
    assert (close.peer, open_.peer) == (old, old + 1)
    assert core.handle(e.PeerClosed(old, "late"), 2.0) == []
    assert core.viewers == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: ice(SID, "a"),
        lambda: bye(SID),
        lambda: m.Switch(sid=SID, id=1, mid="0", camera="desk"),
        lambda: m.Quality(sid=SID, id=1, mid="0", layer="off"),
        lambda: m.Ping(sid=SID, id=1, at=0),
        lambda: offer(n=2),
    ],
)
def test_a_foreign_session_looks_like_none(make: Callable[[], m.ViewerMessage]) -> None:
    core = machine()
    mine, other = connected(core), connected(core, BOB, sid="session2")
    unknown = error(machine().handle(e.Received(make(), BOB), 1.0), 404, BOB)
    for way in (BOB, other):
        assert core.handle(e.Received(make(), way), 1.0) == [e.Send(way, unknown)]
    assert core.viewers == 2
    # And the owner's still works.
    assert only(core.handle(e.Received(m.Ping(sid=SID, id=1, at=5), mine), 1.0), e.SendPong).at == 5


def test_two_viewers_may_use_the_same_sid() -> None:
    core = machine()
    assert opened(core) != opened(core, BOB)
    core.handle(e.Received(bye(SID), BOB), 1.0)
    assert core.viewers == 1


def test_an_unknown_camera_is_refused() -> None:
    core = machine()
    assert "no camera 'barn'" in error(core.handle(e.Received(offer(cameras={"0": "barn"}), ALICE), 1.0), 404).message
    connected(core)
    found = error(core.handle(e.Received(m.Switch(sid=SID, id=7, mid="0", camera="barn"), ALICE), 1.0), 404)
    assert found.id == 7


def test_a_switch_is_carried_out_and_remembered() -> None:
    core = machine()
    peer = connected(core)
    wish = only(core.handle(e.Received(m.Switch(sid=SID, id=7, mid="0", camera="desk"), peer), 1.0), e.SwitchCamera)
    assert wish == e.SwitchCamera(peer, peer, 7, "0", "desk")
    assert message(only(core.handle(e.WishDone(wish), 1.0), e.Send), m.Done, peer).id == 7
    refused = core.handle(e.WishRefused(wish, 404, "No."), 1.0)
    assert error(refused, 404, peer).id == 7


def test_a_quality_wish_is_carried_out() -> None:
    core = machine()
    peer = connected(core)
    wish = only(core.handle(e.Received(m.Quality(sid=SID, id=8, mid="0", layer="off"), ALICE), 1.0), e.WishQuality)
    assert wish == e.WishQuality(peer, ALICE, 8, "0", "off")
    assert message(only(core.handle(e.WishDone(wish), 1.0), e.Send), m.Done).id == 8
    hasty = m.Quality(sid=SID, id=9, mid="0", layer="auto", delay="least")
    assert only(core.handle(e.Received(hasty, ALICE), 1.0), e.WishQuality).delay == "least"
    held = m.Quality(sid=SID, id=10, mid="0", layer="auto", sooner_ms=70)
    assert only(core.handle(e.Received(held, ALICE), 1.0), e.WishQuality).sooner_ms == 70
    error(core.handle(e.Received(m.Quality(sid=SID, id=9, mid="5", layer="off"), ALICE), 1.0), 404)


def test_a_wish_before_the_answer_is_refused() -> None:
    core = machine()
    opened(core)
    error(core.handle(e.Received(m.Switch(sid=SID, id=7, mid="0", camera="desk"), ALICE), 1.0), 409)


def test_a_wish_of_a_peer_that_is_gone_changes_nothing() -> None:
    core = machine()
    peer = connected(core)
    wish = e.WishQuality(peer, ALICE, 8, "0", "off")
    core.handle(e.Received(bye(SID), ALICE), 1.0)
    assert core.handle(e.WishDone(wish), 1.0) == []
    assert core.handle(e.Received(m.Ping(sid=SID, id=1, at=0), peer), 1.0) == []


def test_the_channel_greets_and_then_carries_the_state() -> None:
    core = machine(ice_servers=(m.IceServer(urls=["stun:192.0.2.1"]),))
    peer = answered(core)
    hello = message(only(core.handle(e.ChannelOpened(peer), 2.0), e.Send), m.Hello, peer)
    assert (hello.sid, hello.device, hello.title, hello.epoch) == (SID, "porch", "The porch", "e2")
    assert [c.name for c in hello.cameras] == ["gate", "desk"]
    assert hello.ice_servers[0].urls == ["stun:192.0.2.1"]
    live = camera("gate", "live", width=1280)
    state = message(only(core.handle(e.CamerasChanged((live, camera("desk"))), 3.0), e.Send), m.State, peer)
    assert state == m.State(sid=SID, cameras=[live])


def test_state_goes_by_the_door_while_there_is_no_channel() -> None:
    core = machine()
    connected(core, channel=False)
    answered(core, WHEP)
    message(only(core.handle(e.CamerasChanged((camera("gate", "live"), camera("desk"))), 3.0), e.Send), m.State)


def test_changes_of_state_are_gathered() -> None:
    core = machine(state_interval_s=0.5)
    peer = connected(core)
    assert len(core.handle(e.CamerasChanged((camera("gate", "starting"), camera("desk"))), 3.0)) == 1
    assert core.handle(e.CamerasChanged((camera("gate", "live"), camera("desk"))), 3.1) == []
    assert core.handle(e.CamerasChanged((camera("gate", "live"), camera("desk", "failed"))), 3.2) == []
    assert core.next_deadline() == 3.5
    state = message(only(core.handle(e.TimePassed(), 3.5), e.Send), m.State, peer)
    assert [(c.name, c.phase) for c in state.cameras] == [("gate", "live"), ("desk", "failed")]
    assert core.next_deadline() is None
    assert core.handle(e.CamerasChanged((camera("gate", "live"), camera("desk", "failed"))), 9.0) == []


def test_what_ails_the_board_goes_to_everyone_and_to_whom_comes_while_it_lasts() -> None:
    core = machine()
    assert core.handle(e.BoardChanged("The board is too hot."), 0.5) == []
    assert core.next_deadline() is None
    peer = answered(core, now=1.0)
    hello, state = core.handle(e.ChannelOpened(peer), 1.1)
    message(hello, m.Hello, peer)
    assert message(state, m.State, peer) == m.State(sid=SID, cameras=[], board="The board is too hot.")
    assert core.handle(e.BoardChanged("The board is too hot."), 2.0) == []
    well = message(only(core.handle(e.BoardChanged(""), 3.0), e.Send), m.State, peer)
    assert well == m.State(sid=SID, cameras=[], board="")
    # Gathered with the cameras, and what was over before it was told is not told.
    assert core.handle(e.BoardChanged("The board is too hot."), 3.1) == []
    assert core.next_deadline() == 3.5
    assert core.handle(e.BoardChanged(""), 3.2) == []
    state_ = message(only(core.handle(e.CamerasChanged((camera("gate", "live"), camera("desk"))), 3.6), e.Send), m.State, peer)
    assert (state_.board, [c.name for c in state_.cameras]) == (None, ["gate"])
    only(core.handle(e.ChannelOpened(connected(core, BOB, 4.0, channel=False)), 4.0), e.Send)


def test_a_peer_without_an_answer_is_closed() -> None:
    core = machine()
    peer = opened(core, now=1.0)
    assert core.next_deadline() == 11.0
    assert core.handle(e.TimePassed(), 10.9) == []
    refusal, close = core.handle(e.TimePassed(), 11.0)
    assert message(refusal, m.ErrorMessage).code == 504
    assert isinstance(close, e.ClosePeer)
    assert core.handle(e.PeerAnswered(peer, 1, "late"), 12.0) == []
    assert core.viewers == 0


def test_an_answer_without_a_connection_ends() -> None:
    core = machine()
    answered(core, now=1.0)
    assert core.next_deadline() == 31.0
    goodbye, close = core.handle(e.TimePassed(), 31.0)
    assert "30 s" in message(goodbye, m.Bye).reason
    assert isinstance(close, e.ClosePeer)


def test_a_renegotiation_without_an_answer_ends_the_session() -> None:
    core = machine()
    peer = connected(core)
    core.handle(e.Received(offer(n=2), peer), 5.0)
    refusal, by_channel, by_door, close = core.handle(e.TimePassed(), 15.0)
    assert message(refusal, m.ErrorMessage, peer).code == 504
    message(by_channel, m.Bye, peer)
    message(by_door, m.Bye)
    assert isinstance(close, e.ClosePeer)


def test_a_refused_first_offer_ends_and_a_refused_later_one_does_not() -> None:
    core = machine()
    refusal, close = core.handle(e.PeerRefused(opened(core), 1, 406, "No H.264."), 1.0)
    assert message(refusal, m.ErrorMessage) == m.ErrorMessage(sid=SID, n=1, code=406, message="No H.264.")
    assert isinstance(close, e.ClosePeer)
    peer = connected(core)
    core.handle(e.Received(offer(n=2, cameras={"9": "desk"}), ALICE), 2.0)
    assert error(core.handle(e.PeerRefused(peer, 2, 406, "No H.264."), 2.0), 406).n == 2
    assert error(core.handle(e.Received(offer(n=2, cameras={"9": "desk"}), ALICE), 2.0), 406).n == 2  # again the same answer
    # What was agreed before still holds, and the next number goes on.
    only(core.handle(e.Received(m.Quality(sid=SID, id=1, mid="0", layer="off"), ALICE), 2.0), e.WishQuality)
    only(core.handle(e.Received(offer(n=3), ALICE), 2.0), e.Renegotiate)


def test_a_fault_of_ours_is_said_and_closes() -> None:
    core = machine()
    refusal, close = core.handle(e.PeerCrashed(opened(core)), 1.0)
    assert message(refusal, m.ErrorMessage).code == 500
    assert isinstance(close, e.ClosePeer)
    peer = connected(core)
    kinds = [type(x.message) if isinstance(x, e.Send) else type(x) for x in core.handle(e.PeerCrashed(peer), 1.0)]
    assert kinds == [m.Bye, m.Bye, e.ClosePeer]


def test_bye_closes_and_the_other_door_learns_of_it() -> None:
    core = machine()
    peer = connected(core)
    only(core.handle(e.Received(bye(SID), ALICE), 1.0), e.ClosePeer)
    peer = connected(core, WHEP)
    goodbye, close = core.handle(e.Received(bye(SID), peer), 1.0)
    message(goodbye, m.Bye, WHEP)
    assert isinstance(close, e.ClosePeer)


def test_a_peer_that_ends_by_itself_is_not_closed_again() -> None:
    core = machine()
    peer = connected(core)
    assert message(only(core.handle(e.PeerClosed(peer, "no RTCP for 15 s"), 5.0), e.Send), m.Bye).reason == "no RTCP for 15 s"
    assert core.handle(e.PeerClosed(peer, "again"), 5.0) == []


def test_a_door_that_is_gone_ends_what_has_no_channel() -> None:
    core = machine()
    opened(core, sid="session1")
    connected(core, sid="session2")
    opened(core, BOB, sid="session3")
    assert only(core.handle(e.DoorGone("mqtt:alice"), 2.0), e.ClosePeer).peer == 1
    assert core.viewers == 2


def test_stopping_says_goodbye_to_all_and_takes_no_more() -> None:
    core = machine()
    opened(core)
    connected(core, BOB)
    effects = core.handle(e.Stopped("The agent is stopping."), 2.0)
    assert sum(isinstance(x, e.ClosePeer) for x in effects) == 2
    assert sum(isinstance(x, e.Send) and isinstance(x.message, m.Bye) for x in effects) == 3
    error(core.handle(e.Received(offer(), ALICE), 2.0), 503)
    assert (core.viewers, core.next_deadline()) == (0, None)


def test_nonsense_is_answered_with_what_is_known_of_it() -> None:
    found = error(machine().handle(e.NonsenseReceived(ALICE, 426, "Version 2.", "session9"), 1.0), 426)
    assert found.sid == "session9"


def test_refusals_are_not_amplified_but_a_request_is_always_answered() -> None:
    core = machine(complaints=Rate(1, 5))
    replies = [core.handle(e.Received(bye("session9"), ALICE), 1.0) for _ in range(50)]
    assert [bool(r) for r in replies] == [True] * 5 + [False] * 45
    assert core.counters.unsent_errors == 45
    error(core.handle(e.Received(bye("session9"), WHEP), 1.0), 404, WHEP)


def test_messages_within_a_session_are_limited() -> None:
    core = machine(messages=Rate(1, 3))
    peer = connected(core)
    pings = [core.handle(e.Received(m.Ping(sid=SID, id=i, at=0), peer), 1.0) for i in range(5)]
    assert [type(p[0]) for p in pings] == [e.SendPong] * 3 + [e.Send] * 2
    limited = error(pings[3], 429, peer)
    assert limited.retry_s == 1.0
    assert core.counters.dropped_messages == 2
    only(core.handle(e.Received(bye(SID), ALICE), 1.0), e.ClosePeer)  # which is always heard


def test_offers_are_limited_by_origin_and_in_all() -> None:
    core = machine(offers_per_origin=Rate(1, 3), offers=Rate(1, 5), max_per_viewer=100)
    for i in range(3):
        opened(core, sid=f"session{i}")
    found = error(core.handle(e.Received(offer(sid="session9"), ALICE), 1.0), 429)
    assert found.retry_s == 1.0
    for i in range(2):
        opened(core, BOB, sid=f"session{i}")
    error(core.handle(e.Received(offer(sid="session9"), BOB), 1.0), 429, BOB)
    opened(core, BOB, sid="session9", now=3.0)


def test_a_viewer_holds_a_few_sessions_and_the_oldest_gives_way() -> None:
    core = machine(max_per_viewer=2)
    first, second = connected(core, sid="session1"), answered(core, sid="session2")
    effects = core.handle(e.Received(offer(sid="session3"), ALICE), 1.0)
    assert [type(x) for x in effects] == [e.Send, e.ClosePeer, e.OpenPeer]
    assert isinstance(effects[1], e.ClosePeer)
    assert effects[1].peer == second  # of the two, the one that is not connected
    assert first in core._by_peer
    opened(core, BOB)


def test_viewers_are_limited() -> None:
    core = machine(max_viewers=2)
    connected(core)
    connected(core, BOB)
    found = error(core.handle(e.Received(offer(), WHEP), 500.0), 503, WHEP)
    assert "All 2 places" in found.message
    assert found.retry_s == 5.0
    core.handle(e.Received(bye(SID), BOB), 500.0)
    opened(core, WHEP, now=500.0)


def test_who_does_not_connect_gives_way_when_all_places_are_taken() -> None:
    core = machine(max_viewers=2, evict_after_s=3.0)
    connected(core, now=1.0)
    waiting = answered(core, BOB, now=1.0)
    error(core.handle(e.Received(offer(), WHEP), 3.9), 503, WHEP)
    effects = core.handle(e.Received(offer(), WHEP), 4.0)
    assert [type(x) for x in effects] == [e.Send, e.ClosePeer, e.OpenPeer]
    assert isinstance(effects[1], e.ClosePeer)
    assert effects[1].peer == waiting
    message(effects[0], m.Bye, BOB)
    assert core.counters.evicted == 1


def test_a_flood_from_one_origin_gives_way_to_another_at_once() -> None:
    core = machine(max_viewers=8, offers=Rate(20, 1000), offers_per_origin=Rate(20, 1000))
    for i in range(1000):
        flood = Reply(f"whep:{i}", trickles=False, origin="192.0.2.66")
        core.handle(e.Received(offer(sid=f"flood{i:05}"), flood), 1.0 + i / 1000)
    assert core.viewers == 8
    effects = core.handle(e.Received(offer(), ALICE), 2.0)
    assert isinstance(effects[-1], e.OpenPeer)
    assert core.viewers == 8


def test_an_origin_that_holds_most_places_gives_one_to_an_origin_that_has_none() -> None:
    core = machine(max_viewers=4)
    greedy = [Reply(f"whep:g{i}", trickles=False, origin="192.0.2.66") for i in range(4)]
    peers = [connected(core, reply, sid=f"session{i}") for i, reply in enumerate(greedy[:3])]
    connected(core, BOB)
    # It asks for more itself: no.
    error(core.handle(e.Received(offer(sid="session9"), greedy[3]), 2.0), 503, greedy[3])
    effects = core.handle(e.Received(offer(), WHEP), 2.0)
    assert [type(x) for x in effects] == [e.Send, e.Send, e.ClosePeer, e.OpenPeer]
    assert "from elsewhere" in message(effects[1], m.Bye, greedy[2]).reason
    assert isinstance(effects[2], e.ClosePeer)
    assert effects[2].peer == peers[-1]
    assert isinstance(effects[3], e.OpenPeer)
    core.handle(e.PeerAnswered(effects[3].peer, 1, "v=0 answer"), 2.0)
    core.handle(e.PeerConnected(effects[3].peer), 2.0)
    # Nobody holds more than half now: whoever is connected stays, and who had to go does not come back at another's cost.
    for late in (ALICE, greedy[3]):
        error(core.handle(e.Received(offer(), late), 500.0), 503, late)


def test_who_drives_does_not_give_way_to_a_stranger() -> None:
    driving: set[int] = set()
    core = machine(driving.__contains__, max_viewers=4)
    peers = [connected(core, Reply(f"whep:g{i}", trickles=False, origin="192.0.2.66"), sid=f"session{i}") for i in range(3)]
    connected(core, BOB)
    driving |= {peers[0], peers[2]}  # the one drives, the other waits for the wheel
    effects = core.handle(e.Received(offer(), WHEP), 2.0)
    closed = [effect.peer for effect in effects if isinstance(effect, e.ClosePeer)]
    assert closed == [peers[1]]

    driving |= {*peers}
    core = machine(driving.__contains__, max_viewers=4)
    for i in range(4):
        connected(core, Reply(f"whep:g{i}", trickles=False, origin="192.0.2.66"), sid=f"session{i}")
    driving.add(4)
    error(core.handle(e.Received(offer(), WHEP), 2.0), 503, WHEP)


def test_of_one_viewers_sessions_the_one_that_drives_is_replaced_last() -> None:
    driving: set[int] = set()
    core = machine(driving.__contains__, max_per_viewer=2)
    first, second = connected(core), connected(core, sid="session2")
    driving.add(first)
    effects = core.handle(e.Received(offer(sid="session3"), ALICE), 2.0)
    assert [effect.peer for effect in effects if isinstance(effect, e.ClosePeer)] == [second]


def test_the_only_place_is_not_fought_for() -> None:
    core = machine(max_viewers=1)
    connected(core)
    error(core.handle(e.Received(offer(), BOB), 500.0), 503, BOB)


def test_an_offer_shows_each_camera_once() -> None:
    core = machine()
    assert "two lines" in error(core.handle(e.Received(offer(cameras={"0": "gate", "1": "gate"}), ALICE), 1.0), 400).message
    connected(core, cameras={"0": "gate", "1": "desk"})
    found = core.handle(e.Received(offer(n=2, cameras={"0": "gate", "1": "desk", "2": "desk"}), ALICE), 2.0)
    assert "two lines" in error(found, 400).message


def test_sizes_after_a_flood_of_changing_viewers() -> None:
    core = machine()
    for i in range(5000):
        core.handle(e.Received(offer(sid=f"flood{i:05}"), Reply(f"mqtt:v{i}")), 1.0 + i / 5000)
    assert core.viewers <= 64
    assert len(core._admission._origins) <= 1024
    # A moment later an honest viewer finds a place.
    effects = core.handle(e.Received(offer(), ALICE), 1.0 + 1 + 3)
    assert isinstance(effects[-1], e.OpenPeer)


def test_a_clock_that_jumps_far_ends_all_at_once() -> None:
    core = machine()
    opened(core)
    answered(core, BOB)
    effects = core.handle(e.TimePassed(), math.inf)
    assert sum(isinstance(x, e.ClosePeer) for x in effects) == 2
