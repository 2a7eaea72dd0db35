"""The sessions of all viewers of one device: what each message, peer event and time-out leads to.

One session is one peer connection. It is known by the way back and the `sid` together, so that no viewer can reach the
session of another: a foreign `sid` is simply unknown (404).

    state       event                                  → state       effects
    ─────────── ────────────────────────────────────── ───────────── ──────────────────────────────────────────────────
    (none)      offer, n = 1, within limits              OPENING       OpenPeer
    (none)      offer, else                              (none)        error 404 409 429 503 (stale epoch: and hello)
    OPENING     PeerAnswered                             CONNECTING    answer, kept candidates both ways
    OPENING     PeerRefused, PeerCrashed                 (none)        error, ClosePeer
    OPENING     10 s without answer                      (none)        error 504, ClosePeer
    OPENING     switch, quality                          OPENING       error 409
    CONNECTING  PeerConnected or ChannelOpened           CONNECTED
    not CONN.   30 s since the offer                     (none)        bye, ClosePeer
    any         every place taken and a newcomer waits   (none)        bye, ClosePeer (whose, says `Admission`)
    answered    offer, next n                            same          Renegotiate; PeerAnswered: answer,
                                                                       PeerRefused: error, the peer goes on
    answered    offer n in work: 10 s without answer     (none)        error 504, bye, ClosePeer
    any         offer, same n and SDP                    same          the response again (none while in work)
    any         offer, n = 1, other SDP, by the door     OPENING       ClosePeer, OpenPeer: the newer replaces
    any         offer, other n                           same          error 409
    any         ice                                      same          AddCandidates (kept until answered)
    answered    CandidatesFound                          same          ice by the door, else by the channel
    answered    switch, quality                          same          SwitchCamera, WishQuality; then done or error
    any         ping                                     same          SendPong
    any         ChannelOpened                            CONNECTED     hello by the channel, and state where the board ails
    any         CamerasChanged, BoardChanged             same          state by the channel, else by a door that pushes
    any         bye                                      (none)        ClosePeer
    any         PeerClosed                               (none)        bye
    no channel  DoorGone                                 (none)        ClosePeer
    any         Stopped                                  (none)        bye, ClosePeer

A peer number is never used twice; events of a peer that is gone change nothing. Each OpenPeer is followed by exactly one
ClosePeer or PeerClosed.
"""

from __future__ import annotations

__all__ = ["SessionCounters", "SessionMachine"]

import enum
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeagent.core import session_events as e
from edgeagent.core.admission import Admission, Place, TryLater
from edgeagent.core.ports import ReplyTo
from edgeagent.core.ratelimit import TokenBucket
from edgeagent.core.session_events import Effect, Event, SessionConfig, Way
from edgeagent.errors import PeerError
from edgeagent.wire import messages as m

_UNKNOWN = "There is no such session here; begin a new one."
_FAILED = "The agent failed at this connection; try again."
_CROWDED = "Every place was taken, most of them from where you are, and a viewer from elsewhere came: yours went to him."


class _Phase(enum.Enum):
    OPENING = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()


@dataclass(slots=True)
class _Session:
    sid: str
    peer: int
    reply: ReplyTo
    opened_at: float
    bucket: TokenBucket
    phase: _Phase = _Phase.OPENING
    channel_open: bool = False
    # The offer in work or last responded to; `response` is None while it is in work.
    n: int = 1
    digest: bytes = b""
    offer_way: Way = 0
    answer_by: float = math.inf
    connect_by: float = math.inf
    response: m.Answer | m.ErrorMessage | None = None
    offered: dict[str, str] = field(default_factory=dict)
    # What each mid shows, as answered and switched since.
    cameras: dict[str, str] = field(default_factory=dict)
    # Candidates: how many came in all, and those kept until the first answer.
    remote_count: int = 0
    early_remote: list[m.Candidate] = field(default_factory=list)
    early_remote_end: bool = False
    early_local: list[m.Candidate] = field(default_factory=list)
    early_local_end: bool = False

    @property
    def deadline(self) -> float:
        return min(self.answer_by, self.connect_by)


@dataclass(slots=True)
class SessionCounters:
    """What happened since the start, for health and metrics."""

    opened: int = 0
    refused: int = 0
    timed_out: int = 0
    evicted: int = 0
    crashed: int = 0
    dropped_messages: int = 0
    dropped_candidates: int = 0
    unsent_errors: int = 0


class SessionMachine:
    """All sessions of a device, without IO: `handle(event, now)` gives the effects to carry out, in order.

    `now` is any monotonic clock in seconds. Call `handle(TimePassed(), now)` when `next_deadline()` is over.
    `drives` tells of a peer whether he has or waits for a lease: then he does not give way while others do.
    """

    def __init__(self, config: SessionConfig, now: float = 0.0, *, drives: Callable[[int], bool] = lambda _: False) -> None:
        self._config = config
        self._by_key: dict[tuple[str, str], _Session] = {}
        self._by_peer: dict[int, _Session] = {}
        self._last_peer = 0
        self._cameras: dict[str, m.CameraState] = {}
        self._changed: set[str] = set()
        self._board = self._board_told = ""
        self._flush_from = -math.inf
        self._admission = Admission(config, now)
        self._drives = drives
        self._complaints = TokenBucket(config.complaints, now)
        self._stopped = False
        self.counters = SessionCounters()

    @property
    def viewers(self) -> int:
        """Sessions at the moment, connected or not."""
        return len(self._by_peer)

    @property
    def connected(self) -> int:
        """Sessions whose peer is connected."""
        return sum(s.phase is _Phase.CONNECTED for s in self._by_peer.values())

    def hello(self, sid: str | None = None) -> m.Hello:
        """Who the device is and how its cameras are now."""
        c = self._config
        return m.Hello(
            sid=sid,
            device=c.device,
            title=c.title,
            version=c.version,
            epoch=c.epoch,
            cameras=list(self._cameras.values()),
            ice_servers=list(c.ice_servers),
            devices=c.devices,
        )

    def next_deadline(self) -> float | None:
        """When `TimePassed` is due; None for never."""
        deadlines = [s.deadline for s in self._by_peer.values()]
        if self._changed or self._board != self._board_told:
            deadlines.append(self._flush_from)
        due = min(deadlines, default=math.inf)
        return None if due == math.inf else due

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; never raises, whatever the order of events and times."""
        out: list[Effect] = []
        match event:
            case e.Received(message, way):
                self._received(message, way, now, out)
            case e.NonsenseReceived(way, code, message, sid):
                self._complain(way, m.ErrorMessage(sid=sid, code=code, message=message), now, out)
            case e.DoorGone(key):
                for s in [s for s in self._by_peer.values() if s.reply.key == key and not s.channel_open]:
                    self._end(s, "The viewer has gone.", out, tell=False)
            case e.CamerasChanged(cameras):
                new = {camera.name: camera for camera in cameras}
                self._changed |= {name for name, camera in new.items() if self._cameras.get(name) != camera}
                self._changed &= new.keys()
                self._cameras = new
            case e.BoardChanged(text):
                self._board = text
            case e.Stopped(reason):
                self._stopped = True
                for s in list(self._by_peer.values()):
                    self._end(s, reason, out)
            case e.TimePassed():
                pass
            case e.WishDone(wish) | e.WishRefused(wish):
                if s_ := self._by_peer.get(wish.peer):
                    self._wished(s_, event, out)
            case _:
                if s_ := self._by_peer.get(event.peer):
                    self._peer_event(s_, event, out)
        self._expire(now, out)
        self._flush(now, out)
        return out

    # Messages

    def _received(self, message: m.ViewerMessage, way: Way, now: float, out: list[Effect]) -> None:
        s = self._find(message.sid, way)
        if isinstance(way, int):
            if way not in self._by_peer:
                return
        elif s:
            s.reply = way
        try:
            if isinstance(message, m.Offer):
                self._offered(s, message, way, now, out)
                return
            if s is None:
                raise PeerError(404, _UNKNOWN)
            if isinstance(message, m.Bye):
                self._end(s, "The viewer said goodbye.", out, tell=isinstance(way, int), channel=False)
                return
            if wait_s := s.bucket.take(now):
                self.counters.dropped_messages += 1
                raise TryLater(429, "Too many messages in this session; slow down.", wait_s)
            self._talked(s, message, way, out)
        except PeerError as error:
            self.counters.refused += 1
            retry_s = error.wait_s if isinstance(error, TryLater) else None
            self._complain(
                way,
                m.ErrorMessage(
                    sid=message.sid,
                    n=message.n if isinstance(message, m.Offer) else None,
                    id=message.id if isinstance(message, m.Switch | m.Quality | m.Ping) else None,
                    code=error.code,
                    message=error.message,
                    retry_s=retry_s and math.ceil(retry_s * 10) / 10,
                ),
                now,
                out,
            )

    def _find(self, sid: str, way: Way) -> _Session | None:
        if not isinstance(way, int):
            return self._by_key.get((way.key, sid))
        s = self._by_peer.get(way)
        return s if s and s.sid == sid else None

    def _offered(self, s: _Session | None, offer: m.Offer, way: Way, now: float, out: list[Effect]) -> None:
        if self._stopped:
            raise TryLater(503, "The agent is stopping; try again in a moment.", 5.0)
        origin = self._by_peer[way].reply.origin if isinstance(way, int) else way.origin
        self._admission.count_offer(origin, now)
        if offer.epoch is not None and offer.epoch != self._config.epoch:
            if _pushes(way):
                out.append(e.Send(way, self.hello()))
            raise PeerError(409, "The agent has restarted since this offer was made; make a new one.")
        for camera in offer.cameras.values():
            self._check_camera(camera)
        if len(set(offer.cameras.values())) < len(offer.cameras):
            raise PeerError(400, "This offer shows a camera on two lines; one line serves for as many pictures of it as you like.")
        digest = hashlib.sha256(offer.sdp.encode()).digest()
        if s is None:
            if isinstance(way, int) or offer.n != 1:
                raise PeerError(404, _UNKNOWN)
            self._open(offer, digest, way, now, out)
        elif offer.n == s.n and digest == s.digest:
            s.offer_way = way
            if s.response is not None:
                out.append(e.Send(way, s.response))
        elif offer.n == 1 and not isinstance(way, int):
            self._end(s, "A newer offer replaces this session.", out, tell=False)
            self._open(offer, digest, way, now, out)
        elif s.response is None:
            raise PeerError(409, f"Offer {s.n} of this session is still being answered; wait for the answer.")
        elif offer.n != s.n + 1:
            raise PeerError(409, f"Offer {offer.n} is out of order in this session; {s.n + 1} comes next.")
        else:
            s.n, s.digest, s.offer_way, s.response = offer.n, digest, way, None
            s.offered = dict(offer.cameras)
            s.answer_by = now + self._config.answer_timeout_s
            out.append(e.Renegotiate(s.peer, offer.n, offer.sdp, dict(offer.cameras)))

    def _open(self, offer: m.Offer, digest: bytes, reply: ReplyTo, now: float, out: list[Effect]) -> None:
        self._make_room(reply, now, out)
        self._last_peer += 1
        s = _Session(offer.sid, self._last_peer, reply, now, TokenBucket(self._config.messages, now))
        s.digest, s.offer_way, s.offered = digest, reply, dict(offer.cameras)
        s.answer_by = now + self._config.answer_timeout_s
        s.connect_by = now + self._config.connect_timeout_s
        self._by_key[reply.key, s.sid] = self._by_peer[s.peer] = s
        self.counters.opened += 1
        wait_s = 0.0 if reply.trickles else self._config.wait_for_servers_s
        out.append(e.OpenPeer(s.peer, s.sid, 1, offer.sdp, dict(offer.cameras), wait_s))

    def _make_room(self, newcomer: ReplyTo, now: float, out: list[Effect]) -> None:
        replaced = self._admission.replaced(self._places(), newcomer.key)
        if replaced is not None:
            self._end(self._by_peer[replaced], "This viewer has opened too many sessions; this one gave way.", out)
        evicted = self._admission.evicted(self._places(), newcomer.origin, now)
        if evicted is not None:
            self.counters.evicted += 1
            s = self._by_peer[evicted]
            self._end(
                s, _CROWDED if s.phase is _Phase.CONNECTED else "The agent had to make room for another viewer; try again.", out
            )

    def _places(self) -> Iterator[Place]:
        for s in self._by_peer.values():
            connected = s.phase is _Phase.CONNECTED
            yield Place(s.peer, s.reply.key, s.reply.origin, s.opened_at, connected, connected and self._drives(s.peer))

    def _talked(self, s: _Session, message: m.Ice | m.Switch | m.Quality | m.Ping, way: Way, out: list[Effect]) -> None:
        if isinstance(message, m.Ping):
            out.append(e.SendPong(way, s.sid, message.id, message.at))
            return
        if isinstance(message, m.Ice):
            room = self._config.max_candidates - s.remote_count
            taken = message.candidates[: max(0, room)]
            s.remote_count += len(taken)
            self.counters.dropped_candidates += len(message.candidates) - len(taken)
            if s.phase is _Phase.OPENING:
                s.early_remote += taken
                s.early_remote_end |= message.end
            elif taken or message.end:
                out.append(e.AddCandidates(s.peer, tuple(taken), message.end))
            return
        if s.phase is _Phase.OPENING:
            raise PeerError(409, "This session has not been answered yet; wait for the answer.")
        if message.mid not in s.cameras:
            raise PeerError(404, f"This session shows no camera on {message.mid!r}; offer it first.")
        if isinstance(message, m.Switch):
            self._check_camera(message.camera)
            out.append(e.SwitchCamera(s.peer, way, message.id, message.mid, message.camera))
        else:
            out.append(e.WishQuality(s.peer, way, message.id, message.mid, message.layer, message.delay, message.sooner_ms))

    def _check_camera(self, name: str) -> None:
        if name not in self._cameras:
            raise PeerError(404, f"There is no camera {name!r} here.")

    def _complain(self, way: Way, error: m.ErrorMessage, now: float, out: list[Effect]) -> None:
        # A door that answers a request must answer it; what is pushed is limited, else nonsense would be amplified.
        if _pushes(way) and self._complaints.take(now):
            self.counters.unsent_errors += 1
        else:
            out.append(e.Send(way, error))

    # Peers

    def _peer_event(self, s: _Session, event: e.PeerEvent, out: list[Effect]) -> None:
        match event:
            case e.PeerAnswered(n=n, sdp=sdp) if n == s.n and s.response is None:
                self._answered(s, sdp, out)
            case e.PeerRefused(n=n, code=code, message=message) if n == s.n and s.response is None:
                s.response = m.ErrorMessage(sid=s.sid, n=n, code=code, message=message)
                s.answer_by = math.inf
                self.counters.refused += 1
                out.append(e.Send(s.offer_way, s.response))
                if s.phase is _Phase.OPENING:
                    self._end(s, message, out, tell=False)
            case e.PeerCrashed():
                self.counters.crashed += 1
                if s.response is None:
                    out.append(e.Send(s.offer_way, m.ErrorMessage(sid=s.sid, n=s.n, code=500, message=_FAILED)))
                self._end(s, _FAILED, out, tell=s.response is not None or s.n > 1)
            case e.CandidatesFound(candidates=candidates, end=end):
                if s.phase is _Phase.OPENING:
                    room = self._config.max_candidates - len(s.early_local)
                    s.early_local += candidates[: max(0, room)]
                    s.early_local_end |= end
                    self.counters.dropped_candidates += max(0, len(candidates) - room)
                else:
                    self._trickle(s, candidates, end, out)
            case e.PeerConnected():
                self._connected(s)
            case e.ChannelOpened():
                self._connected(s)
                s.channel_open = True
                out.append(e.Send(s.peer, self.hello(s.sid)))
                if self._board:
                    out.append(e.Send(s.peer, m.State(sid=s.sid, cameras=[], board=self._board)))
            case e.PeerClosed(reason=reason):
                self._end(s, reason, out, close=False, channel=False)

    def _answered(self, s: _Session, sdp: str, out: list[Effect]) -> None:
        s.cameras = dict(s.offered)
        s.response = m.Answer(sid=s.sid, n=s.n, sdp=sdp, cameras=s.offered)
        s.answer_by = math.inf
        out.append(e.Send(s.offer_way, s.response))
        if s.phase is not _Phase.OPENING:
            return
        s.phase = _Phase.CONNECTING if s.connect_by < math.inf else _Phase.CONNECTED
        if s.early_remote or s.early_remote_end:
            out.append(e.AddCandidates(s.peer, tuple(s.early_remote), s.early_remote_end))
        if s.early_local or s.early_local_end:
            self._trickle(s, tuple(s.early_local), s.early_local_end, out)
        s.early_remote, s.early_local = [], []

    def _connected(self, s: _Session) -> None:
        s.connect_by = math.inf
        if s.phase is _Phase.CONNECTING:
            s.phase = _Phase.CONNECTED

    def _trickle(self, s: _Session, candidates: tuple[m.Candidate, ...], end: bool, out: list[Effect]) -> None:
        way: Way | None = s.reply if s.reply.trickles else s.peer if s.channel_open else None
        if way is None:
            self.counters.dropped_candidates += len(candidates)
        else:
            out.append(e.Send(way, m.Ice(sid=s.sid, candidates=list(candidates), end=end)))

    def _wished(self, s: _Session, event: e.WishDone | e.WishRefused, out: list[Effect]) -> None:
        wish = event.wish
        if isinstance(event, e.WishRefused):
            self.counters.refused += 1
            out.append(e.Send(wish.way, m.ErrorMessage(sid=s.sid, id=wish.id, code=event.code, message=event.message)))
            return
        if isinstance(wish, e.SwitchCamera) and wish.mid in s.cameras:
            s.cameras[wish.mid] = wish.camera
        out.append(e.Send(wish.way, m.Done(sid=s.sid, id=wish.id)))

    # Ends, time

    def _end(
        self, s: _Session, reason: str, out: list[Effect], *, tell: bool = True, channel: bool = True, close: bool = True
    ) -> None:
        """Forget the session: `tell` its door (and with `channel` its channel) why, and `close` its peer."""
        del self._by_peer[s.peer], self._by_key[s.reply.key, s.sid]
        if tell:
            bye = m.Bye(sid=s.sid, reason=reason[:200])
            if channel and s.channel_open:
                out.append(e.Send(s.peer, bye))
            out.append(e.Send(s.reply, bye))
        if close:
            out.append(e.ClosePeer(s.peer, reason))

    def _expire(self, now: float, out: list[Effect]) -> None:
        for s in [s for s in self._by_peer.values() if s.deadline <= now]:
            self.counters.timed_out += 1
            if s.answer_by <= now:
                text = "The agent took too long to answer; try again."
                out.append(e.Send(s.offer_way, m.ErrorMessage(sid=s.sid, n=s.n, code=504, message=text)))
                self._end(s, text, out, tell=s.phase is not _Phase.OPENING)
            else:
                seconds = f"{self._config.connect_timeout_s:g}"
                self._end(s, f"No connection came about within {seconds} s; a firewall may be in the way.", out)

    def _flush(self, now: float, out: list[Effect]) -> None:
        if not self._by_peer:
            self._changed.clear()
            self._board_told = self._board
        board = self._board if self._board != self._board_told else None
        if (not self._changed and board is None) or now < self._flush_from:
            return
        cameras = [camera for name, camera in self._cameras.items() if name in self._changed]
        self._changed.clear()
        self._board_told = self._board
        self._flush_from = now + self._config.state_interval_s
        for s in self._by_peer.values():
            way: Way | None = s.peer if s.channel_open else s.reply if s.reply.trickles else None
            if way is not None:
                out.append(e.Send(way, m.State(sid=s.sid, cameras=cameras, board=board)))


def _pushes(way: Way) -> bool:
    """Whether more than the answer to a request can be sent there."""
    return isinstance(way, int) or way.trickles
