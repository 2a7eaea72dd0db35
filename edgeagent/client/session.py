"""One connection to an agent from the first offer to its end: requests with answers, video lines, signs of life."""

from __future__ import annotations

__all__ = ["Session"]

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from edgeagent.client.doors import Door
from edgeagent.client.errors import ClientError, ConnectionLost, Refused
from edgeagent.client.peer import Line, Peer
from edgeagent.client.told import Signal, Told
from edgeagent.errors import PeerError
from edgeagent.wire import control as c
from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_agent, decode_control_agent, encode

_log = logging.getLogger(__name__)
_CONNECT_S = 15.0
_ANSWER_S = 10.0
_TOLD_S = 5.0
_PING_S, _SILENT_S = 1.0, 5.0
T = TypeVar("T")


class Session:
    """Made by `open`. `lost` has the reason once it has ended.

    Args:
        told: Where to write what the agent tells.
        signal: Fired after each message and picture.
        heard: Told of each message of the channels of control, after it was written down.
    """

    def __init__(self, told: Told, signal: Signal, heard: Callable[[c.ControlFromAgent, list[tuple[str, str]]], None]) -> None:
        self._told, self._signal, self._heard = told, signal, heard
        self._loop = asyncio.get_running_loop()
        self._peer: Peer | None = None
        self._sid = ""
        self._n = 1
        self._ids = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answer: asyncio.Future[m.Answer] | None = None
        self._lines: dict[str, Line] = {}
        self._layers: dict[str, str] = {}
        self._negotiating = asyncio.Lock()
        self._heard_at = self._loop.time()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.lost: asyncio.Future[str] = self._loop.create_future()

    async def open(self, door: Door, address_host: str) -> None:
        """Connect and sign in. Raises ConnectionLost, Refused."""
        try:
            hello = await door.open()
            credential = await door.credential() if hello.devices else None
            # A server that is silent holds up aiortc for 5 s; within a house none is needed.
            servers = [] if _near(address_host) else hello.ice_servers
            self._told.begin(hello)
            self._peer = Peer(servers, control=hello.devices > 0, received=self._received, pictured=self._pictured, lost=self._end)
            answer = await door.offer(await self._peer.offer(), self._trickled)
            self._sid = answer.sid
            try:
                await self._peer.accept(answer.sdp)
            except ValueError as error:
                raise ConnectionLost(f"{error}") from error
            await self._within(self._peer.opened(), _CONNECT_S, "No connection came about; a firewall may be in the way.")
            if credential is not None:
                await self._sign_in(credential)
            if hello.devices and not await self._signal.until(lambda: self._told.complete or self.lost.done(), _TOLD_S):
                raise ConnectionLost("The agent does not say what devices it has.")
            if self.lost.done():
                raise ConnectionLost(self.lost.result())
            self._spawn(self._watch_over())
        except BaseException:
            await self.close()
            raise
        finally:
            await door.close()

    async def _sign_in(self, credential: str) -> None:
        await self.request(c.SignIn(id=self._next_id(), token=credential))
        await self._signal.until(lambda: "operate" in self._told.rights or self.lost.done(), _TOLD_S)

    async def close(self) -> None:
        """Say goodbye; may be called twice, and after the connection has broken."""
        if self._peer is not None:
            if self._sid:
                self._peer.send("session", encode(m.Bye(sid=self._sid)))
            self._end("The connection was closed.")
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._peer.close()

    # Requests

    def send(self, label: str, message: BaseModel) -> bool:
        """Whether the channel took it."""
        return self._peer is not None and not self.lost.done() and self._peer.send(label, encode(message))

    async def ask(self, make: Callable[[int], c.EventFromViewer]) -> Any:
        """Ask something by its number on `events`; the value of its answer. Raises Refused, ConnectionLost."""
        return await self.request(make(self._next_id()))

    async def request(self, message: c.EventFromViewer | m.Quality) -> Any:
        """As `ask`, of a message that has its number."""
        answer = self._waiting[message.id] = self._loop.create_future()
        label = "session" if isinstance(message, m.Quality) else "events"
        try:
            if not self.send(label, message):
                raise ConnectionLost("There is no connection to the agent at the moment, or too much waits to be sent.")
            # A command may take up to half a minute.
            return await self._within(answer, 35.0 if isinstance(message, c.Command) else _ANSWER_S, "The agent did not answer.")
        finally:
            self._waiting.pop(message.id, None)

    async def _within(self, job: Any, seconds: float, sentence: str) -> Any:
        """The result of a job; raises ConnectionLost where it takes longer, or the connection breaks."""
        task = asyncio.ensure_future(job)
        try:
            await asyncio.wait([task, self.lost], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ConnectionLost(self.lost.result() if self.lost.done() else sentence)
        finally:
            task.cancel()

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    # Video

    def line(self, camera: str) -> Line | None:
        """The camera's video line, where it has one."""
        return self._lines.get(camera)

    async def show(self, wanted: Mapping[str, str]) -> None:
        """Watch these cameras, each in a layer (or `auto`), and no other. Raises ConnectionLost, Refused.

        No `delay` is asked for, as the page does for one who drives: aiortc hands out each picture as soon as it is whole, and does
        not offer the header extension by which the agent would say so.
        """
        async with self._negotiating:
            if missing := [camera for camera in wanted if camera not in self._lines]:
                await self._negotiate(missing)
            for camera, line in self._lines.items():
                layer = wanted.get(camera, "off")
                if self._layers.get(camera, "auto") != layer:
                    await self.request(m.Quality(sid=self._sid, id=self._next_id(), mid=line.mid, layer=layer))
                    self._layers[camera] = layer

    async def _negotiate(self, cameras: list[str]) -> None:
        assert self._peer is not None
        begin = [self._peer.add_line() for _ in cameras]
        sdp = await self._peer.offer()
        known = {line.mid: camera for camera, line in self._lines.items()}
        new = [mid for mid in self._peer.mids if mid not in known]
        self._n += 1
        self._answer = self._loop.create_future()
        offer = m.Offer(sid=self._sid, n=self._n, sdp=sdp, cameras=known | dict(zip(new, cameras, strict=True)))
        if not self.send("session", offer):
            raise ConnectionLost("The connection to the agent broke.")
        try:
            answer = await self._within(self._answer, _ANSWER_S, "The agent did not answer.")
            await self._peer.accept(answer.sdp)
        except (ClientError, ValueError) as error:
            # aiortc cannot take an offer back: a new connection can.
            self._end(str(error))
            raise
        for camera, start in zip(cameras, begin, strict=True):
            self._lines[camera] = start()

    def _pictured(self, line: Line) -> None:
        self._signal.fire()

    # What comes

    def _received(self, label: str, text: str) -> None:
        self._heard_at = self._loop.time()
        try:
            if label == "session":
                self._spoken(decode_agent(text))
                return
            message = decode_control_agent(text)
        except PeerError as error:
            _log.debug("a message of the agent is not understood: %s", error)
            return
        new = self._told.take(message)
        match message:
            case c.Result(id=number, value=value):
                self._resolve(number, value)
            case c.Refused(id=int(number), code=code, message=sentence):
                self._resolve(number, Refused(code, sentence))
            case c.Refused(message=sentence):
                _log.warning("the agent refused a message: %s", sentence)
        self._heard(message, new)
        self._signal.fire()

    def _spoken(self, message: m.AgentMessage) -> None:
        match message:
            case m.Hello(sid=sid):
                self._sid = sid or self._sid
                self._told.hello(message)
            case m.State():
                self._told.state(message)
            case m.Answer(n=n) if n == self._n and self._answer is not None and not self._answer.done():
                self._answer.set_result(message)
            case m.ErrorMessage(n=n) if n is not None and n == self._n and self._answer is not None and not self._answer.done():
                self._answer.set_exception(Refused(message.code, message.message))
            case m.Done(id=number):
                self._resolve(number, None)
            case m.ErrorMessage(id=int(number)):
                self._resolve(number, Refused(message.code, message.message))
            case m.Bye(reason=reason):
                self._end(reason or "The agent has ended the session.")
        self._signal.fire()

    def _trickled(self, message: m.AgentMessage) -> None:
        """What comes through the door after the answer."""
        match message:
            case m.Ice(candidates=candidates) if self._peer is not None:
                self._spawn(self._peer.add_candidates(candidates))
            case m.Bye(reason=reason):
                self._end(reason or "The agent has ended the session.")

    def _resolve(self, number: int, outcome: Any) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)

    # The end

    async def _watch_over(self) -> None:
        """Ask for a sign of life every second; data channels and ICE would take half a minute to notice."""
        while True:
            await asyncio.sleep(_PING_S)
            now = self._loop.time()
            self.send("session", m.Ping(sid=self._sid, id=self._next_id(), at=now * 1000))
            if now - self._heard_at > _SILENT_S:
                # Held up ourselves? Then what came meanwhile is still to be read.
                await asyncio.sleep(_PING_S)
                if self._loop.time() - self._heard_at > _SILENT_S:
                    self._end("The agent has fallen silent.")
                    return

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        self._signal.fire()

    def _spawn(self, job: Any) -> None:
        task = self._loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _near(host: str) -> bool:
    """Whether an address is surely within the same network."""
    if host == "localhost" or host.endswith(".local"):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
