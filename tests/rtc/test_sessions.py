"""The asyncio shell of the sessions on a virtual clock, with peers that follow a script."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from edgeagent.core.ratelimit import Rate
from edgeagent.core.session_events import SessionConfig
from edgeagent.errors import PeerError
from edgeagent.rtc.sessions import Sessions
from edgeagent.wire import messages as m
from edgeagent.wire.codec import encode
from tests.support.peers import ScriptedPeer, ScriptedPeers
from tests.support.viewers import Reply, bye, camera, candidate, ice, offer

SID = "session1"


def sessions(peers: ScriptedPeers, **limits: Any) -> Sessions:
    made = Sessions(SessionConfig(device="porch", epoch="e1", version="1", **limits), peers, wall=lambda: 1_700_000_000.5)
    made.cameras_changed([camera("gate"), camera("desk")])
    return made


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def forever(peer: ScriptedPeer, sdp: str) -> str:
    await asyncio.Event().wait()
    return ""


async def test_from_the_offer_to_the_channel_and_back() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()).encode(), alice)
        await settled()
        answer = alice.take(m.Answer)
        assert (answer.sid, answer.n, answer.sdp) == (SID, 1, "answer to v=0 offer 1")
        (peer,) = peers.made
        assert (peer.sid, peer.offers) == (SID, [("v=0 offer 1", {"0": "gate"}, 0.0)])
        shell.receive(encode(ice(SID, "a", end=True)), alice)
        assert ([c.candidate for c in peer.remote], peer.remote_ended) == (["a"], True)
        peer.events.local_candidates([candidate("x")], True)
        assert alice.take(m.Ice).end
        peer.connect()
        assert (shell.viewers, shell.connected) == (1, 1)
        (hello,) = peer.sent
        assert isinstance(hello, m.Hello)
        assert (hello.sid, hello.device) == (SID, "porch")
        peer.sent.clear()
        peer.events.channel_message(encode(m.Ping(sid=SID, id=3, at=12.5)))
        assert peer.sent.pop() == m.Pong(sid=SID, id=3, at=12.5, now=1_700_000_000_500)
        peer.events.channel_message(encode(m.Switch(sid=SID, id=4, mid="0", camera="desk")))
        assert peer.sent.pop() == m.Done(sid=SID, id=4)
        peer.events.channel_message(encode(m.Quality(sid=SID, id=5, mid="0", layer="off")))
        assert peer.sent.pop() == m.Done(sid=SID, id=5)
        peer.events.channel_message(encode(m.Quality(sid=SID, id=6, mid="0", layer="auto", sooner_ms=70)))
        assert peer.sent.pop() == m.Done(sid=SID, id=6)
        assert peer.wishes == [("0", "desk"), ("0", "off"), ("0", "auto sooner 70")]
        peer.events.channel_message(encode(offer(n=2, cameras={"0": "gate", "1": "desk"})))
        await settled()
        second = peer.sent.pop()
        assert isinstance(second, m.Answer)
        assert second.n == 2
        shell.cameras_changed([camera("gate", "live"), camera("desk")])
        assert peer.sent.pop() == m.State(sid=SID, cameras=[camera("gate", "live")])
        await asyncio.sleep(1)
        shell.board_changed("The board is too hot.")
        assert peer.sent.pop() == m.State(sid=SID, cameras=[], board="The board is too hot.")
        peer.events.channel_message(encode(bye(SID)))
        await settled()
        assert peer.closed == ["The viewer said goodbye."]
        assert shell.viewers == 0


async def test_a_peer_that_wishes_the_impossible_is_told() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer(cameras={"missing": "gate", "0": "desk"})), alice)
        await settled()
        alice.take(m.Answer)
        shell.receive(encode(m.Switch(sid=SID, id=4, mid="missing", camera="desk")), alice)
        refusal = alice.take(m.ErrorMessage)
        assert (refusal.code, refusal.id, refusal.message) == (404, 4, "There is no such line.")
        assert peers.alive


async def test_nonsense_is_answered_and_harms_nobody() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers) as shell:
        shell.receive(b"\xff", alice)
        assert alice.take(m.ErrorMessage).code == 400
        shell.receive(b"x" * 100_000, alice)
        assert alice.take(m.ErrorMessage).code == 413
        shell.receive(f'{{"v":2,"t":"offer","sid":"{SID}"}}', alice)
        refusal = alice.take(m.ErrorMessage)
        assert (refusal.code, refusal.sid) == (426, SID)
        assert not peers.made


async def test_a_refused_offer_closes_its_peer() -> None:
    async def refuse(peer: ScriptedPeer, sdp: str) -> str:
        raise PeerError(406, "The offer has no H.264.")

    peers, alice = ScriptedPeers(refuse), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        refusal = alice.take(m.ErrorMessage)
        assert (refusal.code, refusal.n, refusal.message) == (406, 1, "The offer has no H.264.")
        assert not peers.alive
        assert shell.viewers == 0


async def test_a_bug_in_a_peer_costs_that_viewer_only(caplog: pytest.LogCaptureFixture) -> None:
    async def stumble(peer: ScriptedPeer, sdp: str) -> str:
        if "bad" in sdp:
            raise ZeroDivisionError
        return "answer"

    peers, alice, bob = ScriptedPeers(stumble), Reply("mqtt:alice"), Reply("mqtt:bob")
    async with sessions(peers) as shell:
        shell.receive(encode(offer(sdp="bad")), alice)
        shell.receive(encode(offer()), bob)
        await settled()
        assert alice.take(m.ErrorMessage).code == 500
        bob.take(m.Answer)
        assert "ZeroDivisionError" in caplog.text
        assert len(peers.alive) == 1
        # In a call that has no answer of its own, too.
        shell.receive(encode(m.Quality(sid=SID, id=1, mid="0", layer="broken")), bob)
        bob.take(m.Bye)
        await settled()
        assert not peers.alive
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_a_factory_that_fails_is_a_bug_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken(sid: str, events: object) -> ScriptedPeer:
        raise OSError(24, "Too many open files")

    alice = Reply()
    async with Sessions(SessionConfig(device="porch", epoch="e1", version="1"), broken) as shell:
        shell.receive(encode(offer(cameras={})), alice)
        await settled()
        assert alice.take(m.ErrorMessage).code == 500
        assert shell.viewers == 0
    assert "Too many open files" in caplog.text


async def test_a_peer_that_hangs_is_given_up() -> None:
    peers, alice = ScriptedPeers(forever), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await asyncio.sleep(9.9)
        assert not alice.sent
        await asyncio.sleep(0.2)
        assert alice.take(m.ErrorMessage).code == 504
        assert not peers.alive


async def test_a_viewer_that_never_connects_is_let_go() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        alice.take(m.Answer)
        await asyncio.sleep(30.1)
        assert "30 s" in alice.take(m.Bye).reason
        await settled()
        assert not peers.alive


async def test_a_peer_that_ends_by_itself_is_cleaned_up() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        alice.sent.clear()
        peers.made[0].events.closed("no RTCP for 15 s")
        assert alice.take(m.Bye).reason == "no RTCP for 15 s"
        await settled()
        assert peers.made[0].closed == ["no RTCP for 15 s"]
        peers.made[0].events.closed("again")
        peers.made[0].events.connected()
        peers.made[0].events.channel_message(encode(offer(n=2)))
        assert not alice.sent


async def test_a_peer_that_ends_while_it_negotiates() -> None:
    async def collapse(peer: ScriptedPeer, sdp: str) -> str:
        peer.events.closed("collapsed")
        return "too late"

    peers, alice = ScriptedPeers(collapse), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        alice.take(m.Bye)
        assert peers.made[0].closed == ["collapsed"]


async def test_bye_cancels_what_is_still_negotiated() -> None:
    peers, alice = ScriptedPeers(forever), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        shell.receive(encode(bye(SID)), alice)
        await settled()
        assert not peers.alive
        assert not alice.sent


async def test_a_door_that_is_gone() -> None:
    peers, alice = ScriptedPeers(forever), Reply()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), alice)
        await settled()
        shell.gone(alice)
        await settled()
        assert not peers.alive


async def test_few_offers_are_negotiated_at_the_same_time() -> None:
    running, most = 0, 0

    async def slow(peer: ScriptedPeer, sdp: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        return "answer"

    peers = ScriptedPeers(slow)
    replies = [Reply(f"mqtt:v{i}") for i in range(40)]
    async with sessions(peers) as shell:
        for reply in replies:
            shell.receive(encode(offer()), reply)
        await asyncio.sleep(0.55)
        for reply in replies:
            reply.take(m.Answer)
        assert most == 8


async def test_a_viewer_that_answers_within_the_call_does_not_disturb_the_order() -> None:
    peers = ScriptedPeers()

    class Eager(Reply):
        def send(self, message: m.AgentMessage) -> None:
            super().send(message)
            if isinstance(message, m.Answer) and message.n < 3:
                shell.receive(encode(offer(n=message.n + 1)), self)

    eager = Eager()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), eager)
        await settled()
        assert [getattr(answer, "n", None) for answer in eager.sent] == [1, 2, 3]
        assert len(peers.made) == 1


async def test_what_a_viewer_says_within_the_call_comes_after_what_he_said_before() -> None:
    peers = ScriptedPeers()

    class Eager(Reply):
        def send(self, message: m.AgentMessage) -> None:
            shell.receive(encode(ice(SID, "later")), self)

    async with sessions(peers) as shell:
        eager = Eager()
        shell.receive(encode(offer()), eager)
        shell.receive(encode(ice(SID, "earlier")), eager)
        await settled()
        assert [c.candidate for c in peers.made[0].remote] == ["earlier", "later"]


async def test_a_way_back_that_fails_is_logged_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Reply):
        def send(self, message: m.AgentMessage) -> None:
            raise BrokenPipeError

    peers = ScriptedPeers()
    async with sessions(peers) as shell:
        shell.receive(encode(offer()), Broken())
        await settled()
        assert len(peers.alive) == 1
    assert "could not be sent" in caplog.text


async def test_closing_says_goodbye_and_waits_for_every_peer() -> None:
    peers, alice, bob = ScriptedPeers(), Reply("mqtt:alice"), Reply("mqtt:bob")
    shell = sessions(peers)
    shell.receive(encode(offer()), alice)
    shell.receive(encode(offer()), bob)
    await settled()
    peers.made[0].connect()
    for peer in peers.made:
        peer.close_s = 1.0
    alice.sent.clear()
    await shell.close()
    assert isinstance(peers.made[0].sent[-1], m.Bye)
    assert alice.take(m.Bye).reason == "The agent is stopping."
    assert not peers.alive
    alice.sent.clear()
    shell.receive(encode(offer()), alice)
    assert alice.take(m.ErrorMessage).code == 503
    await shell.close()


async def test_a_peer_that_does_not_close_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    peers = ScriptedPeers()
    shell = sessions(peers)
    shell.receive(encode(offer()), Reply())
    await settled()
    peers.made[0].close_s = 1e6
    started = asyncio.get_running_loop().time()
    await shell.close()
    assert asyncio.get_running_loop().time() - started < 16
    assert "did not close within 5 s" in caplog.text


async def test_a_thousand_offers_in_a_second_and_then_an_honest_viewer() -> None:
    async def takes_time(peer: ScriptedPeer, sdp: str) -> str:
        await asyncio.sleep(0.02)
        return "answer"

    peers = ScriptedPeers(takes_time)
    async with sessions(peers) as shell:
        for i in range(1000):
            shell.receive(encode(offer(sid=f"flood{i:05}")), Reply("mqtt:mallory"))
            await asyncio.sleep(0.001)
        assert shell.viewers <= 4
        assert len(peers.made) <= 90
        assert len(peers.alive) <= 10
        alice = Reply("mqtt:alice")
        shell.receive(encode(offer()), alice)
        await asyncio.sleep(0.1)
        alice.take(m.Answer)
        peers.made[-1].connect()
        assert shell.connected == 1
        # With a new name for every offer only the limit of all together helps; a moment later there is room again.
        for i in range(1000):
            shell.receive(encode(offer()), Reply(f"mqtt:m{i}"))
            await asyncio.sleep(0.001)
        assert shell.viewers <= 64
        assert shell.connected == 1
        await asyncio.sleep(3)
        bob = Reply("mqtt:bob")
        shell.receive(encode(offer()), bob)
        await asyncio.sleep(0.1)
        bob.take(m.Answer)
        assert len(peers.alive) <= 64
        assert shell.counters.unsent_errors > 0
    assert not peers.alive


async def test_limits_come_from_the_configuration() -> None:
    peers, alice = ScriptedPeers(), Reply()
    async with sessions(peers, offers=Rate(1, 1)) as shell:
        shell.receive(encode(offer()), alice)
        shell.receive(encode(offer(sid="session2")), alice)
        refusal = alice.take(m.ErrorMessage)
        assert (refusal.code, refusal.retry_s) == (429, 1.0)


class Desk:
    """Keeps what it hears of viewers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []
        self.driving: set[str] = set()

    def opened(self, viewer: str, label: str) -> None:
        self.heard.append(("opened", viewer, label))

    def message(self, viewer: str, label: str, text: bytes | str) -> None:
        self.heard.append(("message", viewer, label, str(text)))

    def closed(self, viewer: str) -> None:
        self.heard.append(("closed", viewer))

    def drives(self, viewer: str) -> bool:
        return viewer in self.driving


async def test_what_goes_between_viewers_and_the_desk() -> None:
    """A viewer is known there by a name of ours: the `sid` is his own choice, and another may choose the same."""
    peers, desk = ScriptedPeers(), Desk()
    config = SessionConfig(device="porch", epoch="e1", version="1", devices=2)
    async with Sessions(config, peers, viewers=desk) as shell:
        shell.cameras_changed([camera("gate")])
        for name in ("alice", "mallory"):
            shell.receive(encode(offer()).encode(), Reply(name))
        await settled()
        alice, mallory = peers.made
        assert alice.sid == mallory.sid
        for peer in peers.made:
            peer.connect()
            peer.events.data_opened("events")
        assert shell.hello().devices == 2
        names = [viewer for _, viewer, _ in desk.heard]
        assert len(set(names)) == 2
        assert shell.send_data(names[0], "events", "for alice")
        assert (alice.data, mallory.data) == ([("events", "for alice")], [])
        assert shell.captured_at(names[0], "0", 90_000) == 1.0
        desk.heard.clear()
        mallory.events.data_message("control", "{}")
        mallory.events.data_closed("control")
        mallory.events.closed("DTLS closed")
        assert desk.heard == [("message", names[1], "control", "{}"), ("closed", names[1]), ("closed", names[1])]
        mallory.events.data_opened("events")
        mallory.events.data_message("events", "{}")
        assert len(desk.heard) == 3, "a connection that is still being closed says nothing"
        assert not shell.send_data(names[1], "events", "gone")
        assert shell.captured_at(names[1], "0", 90_000) is None
        desk.heard.clear()
    assert desk.heard == [("closed", names[0])]


async def test_who_drives_keeps_his_place() -> None:
    """The desk is asked for each by the name that it knows him by."""
    peers, desk = ScriptedPeers(), Desk()
    config = SessionConfig(device="porch", epoch="e1", version="1", devices=2, max_viewers=2)
    async with Sessions(config, peers, viewers=desk) as shell:
        shell.cameras_changed([camera("gate")])
        for name in ("first", "second"):
            shell.receive(encode(offer()).encode(), Reply(name, origin="here"))
        await settled()
        for peer in peers.made:
            peer.connect()
            peer.events.data_opened("events")
        first, second = (viewer for _, viewer, _ in desk.heard)
        desk.driving.add(second)
        shell.receive(encode(offer()).encode(), Reply("stranger", origin="elsewhere"))
        await settled()
        assert desk.heard[2:] == [("closed", first)]
