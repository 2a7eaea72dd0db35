"""The asyncio shell of the session machine: it feeds events to `core.session` and carries out the effects on peers."""

from __future__ import annotations

__all__ = ["Sessions"]

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from edgeagent.core import session_events as e
from edgeagent.core.ports import PeerFactory, PeerPort, ReplyTo, ViewerEvents
from edgeagent.core.session import SessionCounters, SessionMachine
from edgeagent.errors import PeerError
from edgeagent.wire.codec import decode_viewer, encode, sid_of
from edgeagent.wire.messages import CameraState, Candidate, Flow, Flows, Hello, Pong

_log = logging.getLogger(__name__)
_CLOSE_TIMEOUT_S = 5.0


class _Runner:
    """One peer: its port as soon as there is one, and the task of its latest negotiation."""

    __slots__ = ("port", "task")

    def __init__(self) -> None:
        self.port: PeerPort | None = None
        self.task: asyncio.Task[None] | None = None


class Sessions:
    """All viewers of this device: the `SignalingPort` of the doors, on top of peers. Use it as an async context manager.

    A fault in one peer ends that session only. Everything runs on one loop; `receive` and the peers' events never block.

    Args:
        config: Limits and names.
        make_peer: Makes a peer connection.
        on_closed: Called when a peer has been closed.
        viewers: Hears of the data channels of control and telemetry; nobody does where there are no devices.
        wall: Unix time in seconds, the clock of the stamps in the pixels.
        max_openings: First offers negotiated at the same time; more wait for their turn, within the time-out.
    """

    def __init__(
        self,
        config: e.SessionConfig,
        make_peer: PeerFactory,
        *,
        viewers: ViewerEvents | None = None,
        on_closed: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
        max_openings: int = 8,
    ) -> None:
        self._machine = SessionMachine(config, drives=lambda peer: self._viewers.drives(viewer_name(peer)))
        self._make_peer = make_peer
        self._viewers: ViewerEvents = viewers or _NoDesk()
        self._on_closed = on_closed
        self._wall = wall
        self._openings = asyncio.Semaphore(max_openings)
        self._runners: dict[int, _Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: deque[e.Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def viewers(self) -> int:
        """Sessions at the moment, connected or not."""
        return self._machine.viewers

    @property
    def connected(self) -> int:
        """Sessions whose peer is connected."""
        return self._machine.connected

    @property
    def counters(self) -> SessionCounters:
        """What happened since the start."""
        return self._machine.counters

    def hello(self) -> Hello:
        """Who the device is and how its cameras are now, for the doors."""
        return self._machine.hello()

    def receive(self, raw: bytes | str, reply: ReplyTo) -> None:
        """See `SignalingPort`."""
        self._receive(raw, reply)

    def gone(self, reply: ReplyTo) -> None:
        """See `SignalingPort`."""
        self._feed(e.DoorGone(reply.key))

    def cameras_changed(self, cameras: Sequence[CameraState]) -> None:
        """Take the state of all cameras; viewers are told of what differs. Call it first before any door opens."""
        self._feed(e.CamerasChanged(tuple(cameras)))

    def board_changed(self, text: str) -> None:
        """Take what ails the board, "" while nothing does; viewers are told where it differs, newcomers while it lasts."""
        self._feed(e.BoardChanged(text))

    async def close(self, reason: str = "The agent is stopping.") -> None:
        """Say goodbye to every viewer and close every peer; offers are refused from now on."""
        self._feed(e.Stopped(reason))
        if self._tasks:
            # A closer may wait once for a negotiation and once for the peer.
            _, stuck = await asyncio.wait(self._tasks, timeout=3 * _CLOSE_TIMEOUT_S)
            for task in stuck:
                _log.error("%s does not end", task.get_name())
        if self._timer:
            self._timer.cancel()
            self._timer = None

    # Control and telemetry, for the desk

    def send_data(self, viewer: str, label: str, text: str) -> bool:
        """See `core.ports.ViewerChannels.send`."""
        port = self._port(viewer)
        return port is not None and port.send_data(label, text)

    def captured_at(self, viewer: str, mid: str, timestamp: int) -> float | None:
        """When the picture on this viewer's screen was captured, in seconds of the loop's clock; None where unknown."""
        port = self._port(viewer)
        return port.captured_at(mid, timestamp) if port is not None else None

    def _port(self, viewer: str) -> PeerPort | None:
        runner = self._runners.get(int(viewer[1:]))
        return runner.port if runner is not None else None

    # Events in, effects out

    def _receive(self, raw: bytes | str, way: e.Way) -> None:
        try:
            message = decode_viewer(raw)
        except PeerError as error:
            self._feed(e.NonsenseReceived(way, error.code, error.message, sid_of(raw)))
        else:
            self._feed(e.Received(message, way))

    def _feed(self, event: e.Event) -> None:
        """Take one event and carry out what follows. What an effect brings about itself waits for its turn."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        now = asyncio.get_running_loop().time
        try:
            while self._events:
                for effect in self._machine.handle(self._events.popleft(), now()):
                    self._carry_out(effect)
        finally:
            self._feeding = False
        self._arm()

    def _carry_out(self, effect: e.Effect) -> None:
        match effect:
            case e.Send(way, message):
                self._send(way, message)
            case e.SendPong(way, sid, id_, at):
                self._send(way, Pong(sid=sid, id=id_, at=at, now=self._wall() * 1000))
            case e.OpenPeer():
                runner = self._runners[effect.peer] = _Runner()
                runner.task = self._spawn(self._open(effect, runner), f"open peer {effect.peer}")
            case e.ClosePeer(peer, reason):
                self._close_peer(peer, reason)
            case _:
                runner_ = self._runners.get(effect.peer)
                if runner_ is None or runner_.port is None:
                    return  # ended by itself since; the machine hears of it next
                try:
                    self._on_peer(effect, runner_, runner_.port)
                except PeerError as error:
                    self._refused(effect, error)
                except Exception:
                    _log.exception("a peer failed at %s", type(effect).__name__)
                    self._events.append(e.PeerCrashed(effect.peer))

    def _on_peer(
        self, effect: e.Renegotiate | e.AddCandidates | e.SwitchCamera | e.WishQuality, runner: _Runner, port: PeerPort
    ) -> None:
        match effect:
            case e.Renegotiate():
                runner.task = self._spawn(self._renegotiate(effect, port), f"renegotiate with peer {effect.peer}")
            case e.AddCandidates(_, candidates, end):
                port.add_candidates(candidates, end)
            case e.SwitchCamera(_, _, _, mid, camera):
                port.switch(mid, camera)
                self._events.append(e.WishDone(effect))
            case e.WishQuality(_, _, _, mid, layer, delay, sooner_ms):
                port.quality(mid, layer, delay, sooner_ms)
                self._events.append(e.WishDone(effect))

    def _refused(self, effect: e.Effect, error: PeerError) -> None:
        if isinstance(effect, e.SwitchCamera | e.WishQuality):
            self._events.append(e.WishRefused(effect, error.code, error.message))
        else:
            _log.warning("%s was refused: %s", type(effect).__name__, error.message)

    def _send(self, way: e.Way, message: Any) -> None:
        try:
            if not isinstance(way, int):
                way.send(message)
            elif (runner := self._runners.get(way)) and runner.port:
                runner.port.send(encode(message))
        except Exception:
            _log.exception("a message could not be sent")

    def _arm(self) -> None:
        due = self._machine.next_deadline()
        if self._timer and (due is None or self._timer.when() != due):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._feed(e.TimePassed())

    # Peers

    async def _open(self, effect: e.OpenPeer, runner: _Runner) -> None:
        async def negotiate() -> str:
            async with self._openings:
                runner.port = self._make_peer(effect.sid, _PeerEvents(self, effect.peer))
                return await runner.port.negotiate(effect.sdp, effect.cameras, wait_for_servers=effect.wait_for_servers_s)

        await self._negotiate(effect.peer, effect.n, negotiate())

    async def _renegotiate(self, effect: e.Renegotiate, port: PeerPort) -> None:
        await self._negotiate(effect.peer, effect.n, port.negotiate(effect.sdp, effect.cameras, wait_for_servers=0.0))

    async def _negotiate(self, peer: int, n: int, negotiation: Coroutine[Any, Any, str]) -> None:
        try:
            event: e.Event = e.PeerAnswered(peer, n, await negotiation)
        except PeerError as error:
            event = e.PeerRefused(peer, n, error.code, error.message)
        except Exception:
            _log.exception("a peer failed to answer an offer")
            event = e.PeerCrashed(peer)
        self._feed(event)

    def _close_peer(self, peer: int, reason: str) -> None:
        runner = self._runners.pop(peer, None)
        if runner is None:
            return
        self._viewers.closed(viewer_name(peer))
        # Nobody waits for its answer any more. Where this is that very task, it has done its work.
        if runner.task:
            runner.task.cancel()
        _log.debug("peer %d closes: %s", peer, reason)
        self._spawn(self._close(runner, reason), f"close peer {peer}")

    async def _close(self, runner: _Runner, reason: str) -> None:
        if runner.task:
            await asyncio.wait({runner.task}, timeout=_CLOSE_TIMEOUT_S)
        if runner.port is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await runner.port.close(reason)
        except TimeoutError:
            _log.error("a peer did not close within %g s", _CLOSE_TIMEOUT_S)
        except Exception:
            _log.exception("a peer failed to close")
        runner.port = None
        self._on_closed()

    def _spawn(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s failed", task.get_name(), exc_info=error)


def viewer_name(peer: int) -> str:
    """A viewer's name at the desk: unique in this run of the agent, unlike a `sid`, which the viewer chooses."""
    return f"v{peer}"


class _NoDesk:
    """Where there are no devices."""

    def opened(self, viewer: str, label: str) -> None: ...
    def message(self, viewer: str, label: str, text: bytes | str) -> None: ...
    def closed(self, viewer: str) -> None: ...
    def drives(self, viewer: str) -> bool:
        return False


class _PeerEvents:
    """What one peer reports, bound to its number; reports of a peer that is gone have no effect."""

    def __init__(self, sessions: Sessions, peer: int) -> None:
        self._sessions = sessions
        self._peer = peer

    def local_candidates(self, candidates: Sequence[Candidate], end: bool) -> None:
        self._sessions._feed(e.CandidatesFound(self._peer, tuple(candidates), end))

    def connected(self) -> None:
        self._sessions._feed(e.PeerConnected(self._peer))

    def channel_opened(self) -> None:
        self._sessions._feed(e.ChannelOpened(self._peer))

    def channel_message(self, text: str) -> None:
        self._sessions._receive(text, self._peer)

    def data_opened(self, label: str) -> None:
        if self._peer in self._sessions._runners:  # its session may have ended while the connection is still being closed
            self._sessions._viewers.opened(viewer_name(self._peer), label)

    def data_message(self, label: str, text: str) -> None:
        if self._peer in self._sessions._runners:
            self._sessions._viewers.message(viewer_name(self._peer), label, text)

    def data_closed(self, label: str) -> None:
        self._sessions._viewers.closed(viewer_name(self._peer))

    def flows(self, flows: Sequence[Flow]) -> None:
        runner = self._sessions._runners.get(self._peer)
        if runner is not None and runner.port is not None:
            runner.port.send(encode(Flows(flows=list(flows))))

    def closed(self, reason: str) -> None:
        self._sessions._feed(e.PeerClosed(self._peer, reason))
        self._sessions._close_peer(self._peer, reason)
