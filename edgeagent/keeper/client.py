"""The agent's side of the keeper: starts it, and anew when it dies, says that the agent lives, passes on what shall move and stop.

A stop goes first and takes unsent set-points with it; of set-points only the newest waits; commands are bounded.
"""

from __future__ import annotations

__all__ = ["ALIVE_S", "Keeper", "plain_options"]

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog
from edgeagent.core.ports import KeeperEvents
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.wire import keeper as wire

_log = logging.getLogger(__name__)

ALIVE_S = 0.1
"""How often the keeper is told that the agent's loop turns."""
_READY_S = 30.0
_HANG_TURNS = 20
_END_S = 0.7
_ORDER_S = 12.0
_MAX_ORDERS = 32
_GOOD_S = 10.0
_BATCH = 64


def plain_options(options: BaseModel) -> dict[str, Any]:
    """A driver's options as JSON holds them, with their secrets, so that its model takes them again in another process."""

    def reveal(value: Any) -> Any:
        if isinstance(value, SecretStr | SecretBytes):
            return value.get_secret_value()
        if isinstance(value, Mapping):
            return {key: reveal(part) for key, part in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [reveal(part) for part in value]
        return to_jsonable_python(value)

    plain: dict[str, Any] = reveal(options.model_dump(exclude_unset=True, by_alias=True))
    return plain


class Keeper:
    """Implements `core.ports.KeeperPort`. Everything belongs to the event loop.

    Args:
        devices: What the keeper shall have.
        events: Told on the loop.
        drivers_dir: The owner's own drivers, as in the configuration.
    """

    def __init__(
        self,
        devices: Sequence[wire.KeptDevice],
        events: KeeperEvents,
        *,
        drivers_dir: Path | None = None,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._open = wire.Open(devices=list(devices), drivers_dir=str(drivers_dir) if drivers_dir else None)
        self._events, self._random01 = events, random01
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: asyncio.Future[str] | None = None
        self._writing = False
        self._run: int | None = None  # of the keeper, while it is ready
        self._halts = 0
        self._stop_waits = False
        self._stops: set[str] = set()
        self._set: wire.Set | None = None
        self._orders: deque[wire.Order] = deque()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = 0
        self._quiet_turns = 0
        self._faults = FaultLog()
        self.starts = 0
        """How often a keeper was started, or started its worker anew."""
        self.dropped = 0
        """Set-points that were replaced or forgotten before they were sent."""
        self.refused: Mapping[str, int] = {}
        """Set-points that the keeper did not carry out, by reason; see `core.keeping.Keeping.refused`."""

    @property
    def pid(self) -> int | None:
        """Of the keeper's first process (its guard), while there is one."""
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it works now."""
        return self._run is not None

    def set(self, values: Mapping[str, Mapping[str, float]], until: float) -> None:
        """See `KeeperPort`. While there is no keeper nothing is kept."""
        if self._run is None:
            self.dropped += 1
            return
        if self._set is not None:
            self.dropped += 1
        try:
            self._set = wire.Set(run=self._run, halts=self._halts, until=until, values={k: dict(v) for k, v in values.items()})
        except ValueError as error:  # the arbiter lets none through; if it does, nothing moves
            _log.error("a set-point cannot be sent: %s", error)
            return
        self._flush()

    def stop(self, devices: Sequence[str] | None = None) -> None:
        """See `KeeperPort`."""
        if self._set is not None:
            self._set = None
            self.dropped += 1
        for order in [order for order in self._orders if devices is None or order.device in devices]:
            self._orders.remove(order)
            self._answer(wire.Done(id=order.id, code=409, message=f"{order.device} was stopped before this began."))
        if devices is None:
            self._stop_waits = True
        else:
            self._stops.update(devices)
        self._flush()

    async def command(self, device: str, command: str, args: Mapping[str, Any]) -> Any:
        """See `KeeperPort`.

        Raises:
            PeerError: What the device's driver refuses; 429 too many wait, 503 there is no keeper now, 504 it takes too long.
            DeviceFault: The device failed.
        """
        if self._run is None:
            raise PeerError(503, f"{device} does not work at the moment.")
        if len(self._answers) >= _MAX_ORDERS:
            raise PeerError(429, "Too many commands wait to be carried out.")
        self._ids += 1
        try:
            order = wire.Order(run=self._run, halts=self._halts, id=self._ids, device=device, command=command, args=dict(args))
            wire.encode(order)
        except ValueError:
            raise PeerError(400, f"The command for {device} cannot be read.") from None
        answer = self._answers[order.id] = asyncio.get_running_loop().create_future()
        self._orders.append(order)
        self._flush()
        try:
            async with asyncio.timeout(_ORDER_S):
                return await answer
        except TimeoutError:
            raise PeerError(504, f"{device} takes too long to carry this out.") from None
        finally:
            del self._answers[order.id]
            with contextlib.suppress(ValueError):
                self._orders.remove(order)

    async def run(self) -> None:
        """Keep a keeper running until cancelled; then it stops everything and is gone within a second."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.1, 10.0)
        failures = 0
        while True:
            began = loop.time()
            try:
                why = await self._one()
            finally:
                self._lost()
                await self._end()
            if loop.time() - began > _GOOD_S:
                backoff.reset()
                failures = 0
                self._faults.forget()
            if self._faults.fault(why, loop.time()):
                _log.error("the keeper, which owns whatever moves, %s; another is started", why)
            for device in self._open.devices:
                self._events.device(device.name, "retrying", "What moves is being started anew.")
            if failures:  # the first time at once
                await asyncio.sleep(backoff.next(self._random01()))
            failures += 1

    async def _one(self) -> str:
        """Start one keeper and serve it; returns why it is gone."""
        loop = asyncio.get_running_loop()
        try:
            ours = self._spawn()
        except OSError as error:
            return f"cannot be started ({error.strerror})"
        self._gone, self._quiet_turns = loop.create_future(), 0
        loop.add_reader(ours, self._readable)
        self._put(self._open)
        began = loop.time()
        while not self._gone.done():
            self._put(wire.Alive(at=loop.time()))  # asyncio's clock is CLOCK_MONOTONIC
            await asyncio.wait({self._gone}, timeout=ALIVE_S)
            # Counted in turns of this loop, each of which reads first: a loop that was held up is no hang of the keeper.
            self._quiet_turns += 1
            if self._run is not None and self._quiet_turns > _HANG_TURNS:
                return "does not answer"
            if self._run is None and loop.time() - began > _READY_S:
                return f"was not ready after {_READY_S:g} s"
        return self._gone.result()

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        ours.setblocking(False)
        with theirs:
            # A session of its own: Ctrl-C at a terminal is the agent's to answer, and both processes can be killed as a group.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgeagent.keeper", "--socket", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={
                    key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
                },
                start_new_session=True,
            )
        return ours

    def _readable(self) -> None:
        assert self._socket and self._gone
        for _ in range(_BATCH):
            try:
                packet = self._socket.recv(wire.MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                asyncio.get_running_loop().remove_reader(self._socket)
                if not self._gone.done():
                    self._gone.set_result("has ended")
                self._lost()
                return
            self._quiet_turns = 0
            try:
                self._take(wire.decode_keeper(packet))
            except PeerError as error:
                _log.error("keeper: %s", error.message)

    def _take(self, message: wire.FromKeeper) -> None:
        match message:
            case wire.Ready(run=run, why=why):
                if why:
                    _log.error("the process that moves things ended by %s; the keeper began another, which stops everything", why)
                self._lost()
                self._run, self._halts = run, 0
                self.starts += 1
                self._events.up(True)
                self._flush()
            case wire.Pulse(refused=refused):
                self.refused = refused
            case wire.Device(device=device, phase=phase, text=text):
                self._events.device(device, phase, text)
            case wire.Read(device=device, values=values, at=at):
                self._events.readings({device: values}, at)
            case wire.Stopped():
                for device in message.devices:
                    self._events.stopped(device, message.why, message.at)
                self._halts = message.halts  # from here on set-points are sent by those who know
            case wire.Done():
                self._answer(message)
            case wire.Say(level=level, text=text):
                _log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)

    def _answer(self, done: wire.Done) -> None:
        answer = self._answers.get(done.id)
        if answer is None or answer.done():
            return
        if not done.code:
            answer.set_result(done.value)
        else:
            answer.set_exception(DeviceFault(done.message) if done.fault else PeerError(done.code, done.message))

    def _lost(self) -> None:
        """The keeper, or its worker, is gone: tell once, and promise nothing."""
        self._set, self._stop_waits = None, False
        self._stops.clear()
        self._orders.clear()
        if self._run is None:
            return
        self._run = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(PeerError(503, "What moves is started anew; try again in a moment."))
        self._events.up(False)
        for device in self._open.devices:
            self._events.device(device.name, "starting", "")

    def _flush(self) -> None:
        """Send what waits, in the order of its weight; what does not fit stays and is sent when there is room."""
        if self._socket is None or self._run is None:
            return
        if self._stop_waits and self._put(wire.Stop()):
            self._stop_waits = False
            self._stops.clear()
        if self._stops and not self._stop_waits and self._put(wire.Stop(devices=sorted(self._stops))):
            self._stops.clear()
        if self._stop_waits or self._stops:
            self._wait_for_room()
            return
        if self._set is not None and self._put(self._set):
            self._set = None
        while self._orders and self._put(self._orders[0]):
            self._orders.popleft()
        if self._set is not None or self._orders:
            self._wait_for_room()

    def _put(self, message: wire.Message) -> bool:
        """Whether it need not be sent again: it was sent, or the keeper is gone."""
        if self._socket is None:
            return True
        try:
            self._socket.send(wire.encode(message))
        except BlockingIOError:
            return False
        except OSError:  # `_readable` sees the end
            pass
        except PeerError as error:
            _log.error("keeper: a message cannot be sent: %s", error.message)
        return True

    def _wait_for_room(self) -> None:
        if not self._writing and self._socket is not None:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._socket, self._room)

    def _room(self) -> None:
        assert self._socket
        asyncio.get_running_loop().remove_writer(self._socket)
        self._writing = False
        self._flush()

    async def _end(self) -> None:
        """End our side, upon which everything stops, and see both processes off; what hangs is killed."""
        loop = asyncio.get_running_loop()
        sock, self._socket = self._socket, None
        process, self._process = self._process, None
        if sock is None or process is None:
            if sock is not None:
                sock.close()
            return
        loop.remove_reader(sock)
        loop.remove_writer(sock)
        self._writing = False
        gone = asyncio.Event()

        def drain() -> None:
            try:
                while sock.recv(wire.MAX_PACKET):
                    pass
            except BlockingIOError:
                return
            except OSError:
                pass
            loop.remove_reader(sock)
            gone.set()

        pidfd = os.pidfd_open(process.pid)
        ended = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                    loop.add_reader(sock, drain)
                    await gone.wait()  # both processes have closed their end, which they do when they have stopped everything
                    loop.add_reader(pidfd, ended.set)
                    await ended.wait()
        finally:
            loop.remove_reader(sock)
            loop.remove_reader(pidfd)
            sock.close()
            os.close(pidfd)
            if not ended.is_set():
                _log.error("the keeper does not end and is killed")
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
