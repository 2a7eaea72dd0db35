"""Whatever happens in whatever order and at whatever time: no error, no peer left behind, every limit kept."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.core import session_events as e
from edgeagent.core.ratelimit import Rate
from edgeagent.core.session import SessionMachine
from edgeagent.wire import messages as m
from tests.support.viewers import Reply, camera, candidate, ice

MAX_VIEWERS, MAX_PER_VIEWER, MAX_CANDIDATES = 4, 2, 5
REPLIES = [
    Reply("mqtt:alice"),
    Reply("mqtt:bob"),
    Reply("mqtt:carol"),
    Reply("whep:1", trickles=False, origin="192.0.2.1"),
    Reply("whep:2", trickles=False, origin="192.0.2.1"),
    Reply("whep:3", trickles=False, origin="192.0.2.2"),
]
sids = st.sampled_from(["session1", "session2", "session3"])
cameras = st.sampled_from([{}, {"0": "gate"}, {"0": "gate", "1": "desk"}, {"0": "barn"}])
epochs = st.sampled_from([None, "e1", "e0"])
numbers = st.integers(1, 4)
phases = st.sampled_from(["off", "starting", "live", "retrying", "failed"])


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        config = e.SessionConfig(
            device="porch",
            epoch="e1",
            version="1",
            max_viewers=MAX_VIEWERS,
            max_per_viewer=MAX_PER_VIEWER,
            max_candidates=MAX_CANDIDATES,
            offers=Rate(10, 20),
            messages=Rate(5, 10),
            complaints=Rate(5, 10),
        )
        self.core = SessionMachine(config, self.now)
        self.wishes: list[e.SwitchCamera | e.WishQuality] = []
        self.open: dict[int, str] = {}
        self.ever: set[int] = set()
        self.asked: set[tuple[int, int]] = set()
        self.remote: dict[int, int] = {}
        self.handle(e.CamerasChanged((camera("gate"), camera("desk"))))

    def handle(self, event: e.Event) -> None:
        alive_before = set(self.open)
        if isinstance(event, e.PeerClosed):
            self.open.pop(event.peer, None)
        for effect in self.core.handle(event, self.now):
            match effect:
                case e.OpenPeer(peer=peer, sid=sid, n=n):
                    assert peer not in self.ever, "a peer number is never used twice"
                    self.ever.add(peer)
                    self.open[peer] = sid
                    self.asked.add((peer, n))
                    self.remote[peer] = 0
                case e.ClosePeer(peer=peer):
                    del self.open[peer]  # never twice, never after PeerClosed
                case e.Renegotiate(peer=peer, n=n):
                    assert peer in self.open
                    assert (peer, n) not in self.asked, "no offer is negotiated twice"
                    self.asked.add((peer, n))
                case e.AddCandidates(peer=peer, candidates=candidates):
                    assert peer in self.open
                    self.remote[peer] += len(candidates)
                    assert self.remote[peer] <= MAX_CANDIDATES
                case e.SwitchCamera() | e.WishQuality():
                    assert effect.peer in self.open
                    self.wishes.append(effect)
                case e.Send(way=way, message=message):
                    assert not isinstance(way, int) or way in alive_before
                    assert isinstance(way, int) or way.trickles or isinstance(message, m.Answer | m.ErrorMessage | m.Bye | m.Done)
                case e.SendPong(way=way, sid=sid):
                    assert not isinstance(way, int) or self.open[way] == sid

    def some_peer(self, data: Any) -> int:
        return int(data.draw(st.sampled_from([*self.open, *list(self.ever)[-2:], 9999])))

    def some_way(self, data: Any) -> e.Way:
        ways: list[e.Way] = [*REPLIES, *self.open]
        return data.draw(st.sampled_from(ways))  # type: ignore[no-any-return]

    @rule(
        data=st.data(), sid=sids, n=numbers, cameras=cameras, sdp=st.sampled_from("ab"), epoch=st.sampled_from([None, "e1", "e0"])
    )
    def offer(self, data: Any, sid: str, n: int, cameras: dict[str, str], sdp: str, epoch: str | None) -> None:
        self.handle(e.Received(m.Offer(sid=sid, n=n, sdp=sdp, cameras=cameras, epoch=epoch), self.some_way(data)))

    @rule(data=st.data(), sid=sids, count=st.integers(0, 3), end=st.booleans())
    def ice(self, data: Any, sid: str, count: int, end: bool) -> None:
        self.handle(e.Received(ice(sid, *"abc"[:count], end=end), self.some_way(data)))

    @rule(data=st.data(), sid=sids, mid=st.sampled_from("01"), name=st.sampled_from(["gate", "barn"]), kind=st.integers(0, 3))
    def talk(self, data: Any, sid: str, mid: str, name: str, kind: int) -> None:
        messages: list[m.ViewerMessage] = [
            m.Bye(sid=sid),
            m.Ping(sid=sid, id=1, at=0),
            m.Switch(sid=sid, id=1, mid=mid, camera=name),
            m.Quality(sid=sid, id=1, mid=mid, layer="off"),
        ]
        self.handle(e.Received(messages[kind], self.some_way(data)))

    @rule(data=st.data())
    def nonsense(self, data: Any) -> None:
        self.handle(e.NonsenseReceived(self.some_way(data), 400, "Nonsense."))

    @rule(reply=st.sampled_from(REPLIES))
    def door_gone(self, reply: Reply) -> None:
        self.handle(e.DoorGone(reply.key))

    @rule(data=st.data(), n=numbers, good=st.booleans())
    def negotiated(self, data: Any, n: int, good: bool) -> None:
        peer = self.some_peer(data)
        self.handle(e.PeerAnswered(peer, n, "sdp") if good else e.PeerRefused(peer, n, 406, "No."))

    @rule(data=st.data(), kind=st.integers(0, 4))
    def peer_event(self, data: Any, kind: int) -> None:
        peer = self.some_peer(data)
        events: list[e.Event] = [
            e.PeerConnected(peer),
            e.ChannelOpened(peer),
            e.PeerClosed(peer, "gone"),
            e.PeerCrashed(peer),
            e.CandidatesFound(peer, (candidate(),), False),
        ]
        self.handle(events[kind])

    @precondition(lambda self: self.wishes)
    @rule(good=st.booleans())
    def wish_back(self, good: bool) -> None:
        wish = self.wishes.pop()
        self.handle(e.WishDone(wish) if good else e.WishRefused(wish, 404, "No."))

    @rule(gate=phases, desk=phases, both=st.booleans())
    def cameras_change(self, gate: str, desk: str, both: bool) -> None:
        self.handle(e.CamerasChanged((camera("gate", gate), *([camera("desk", desk)] if both else []))))

    @rule(text=st.sampled_from(["", "The board is too hot.", "The board gets too little power."]))
    def board_changes(self, text: str) -> None:
        self.handle(e.BoardChanged(text))

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 2.9, 9.0, 25.0, -1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.handle(e.TimePassed())

    @rule()
    def until_the_deadline(self) -> None:
        due = self.core.next_deadline()
        if due is not None:
            self.now = max(self.now, due)
            self.handle(e.TimePassed())
            later = self.core.next_deadline()
            assert later is None or later > self.now, "a deadline that is over has been dealt with"

    @invariant()
    def limits_hold(self) -> None:
        assert self.core.viewers == len(self.open) <= MAX_VIEWERS
        assert 0 <= self.core.connected <= self.core.viewers
        for reply in REPLIES:
            assert sum(key == reply.key for key, _ in self.core._by_key) <= MAX_PER_VIEWER

    def teardown(self) -> None:
        self.handle(e.Stopped("The end."))
        assert not self.open
        assert self.core.next_deadline() is None


Sessions.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestSessions = Sessions.TestCase
