"""The process that moves things: one loop between the agent's socket, the guard's socket and a thread for each device.

`core.keeping` decides. A second thread watches over the loop and the stops: a loop that does not turn for `HELD_S` stops
everything, a `stop` that does not return ends the process. The guard (`keeper.guard`) ends a process in which nothing turns.
"""

from __future__ import annotations

__all__ = ["CLEAN", "HELD_S", "PULSE_S", "UNCLEAN", "Worker", "prepare"]

import contextlib
import importlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from edgeagent.core import keeping_events as e
from edgeagent.core.keeping import KeeperState, Keeping
from edgeagent.core.numbers import finite
from edgeagent.core.shaping import AxisRange, Limits, Shaper
from edgeagent.drivers import registry
from edgeagent.drivers.device import Actuator, limited_place, places_of
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.keeper.thread import LOOK_S, DeviceThread, Report
from edgeagent.wire import keeper as wire

PULSE_S = 0.1
"""The loop turns at least so often and says so, to agent and guard."""
HELD_S = 0.3
"""A loop that did not turn for so long is held up."""
CLEAN, UNCLEAN, DEAD = 0, 3, 4
"""Exit codes: everything is stopped and closed; something did not close in time; something did not stop in time."""
_CLOSE_S = 0.5
_CALM_LOOK_S = 0.05
_MAX_OUT = 256
_SPARE_OUT = 64


@dataclass(frozen=True, slots=True)
class Prepared:
    """A device before it is opened: its class is loaded, its options are checked."""

    kept: wire.KeptDevice
    kind: type[Actuator] | None
    problem: str = ""


def prepare(message: wire.Open) -> list[Prepared]:
    """Load the drivers. Never raises: what cannot be used carries a sentence."""
    return [_prepare(kept, message.drivers_dir) for kept in message.devices]


def _prepare(kept: wire.KeptDevice, drivers_dir: str | None) -> Prepared:
    try:
        kind = registry.load_device(kept.driver, Path(drivers_dir) if drivers_dir else None)
        if not issubclass(kind, Actuator):
            raise DeviceFault(f"The driver `{kept.driver}` moves nothing.")
        driver = kind(kept.name, kind.Options.model_validate(kept.options))
        for name, axis in driver.axes.items():
            Shaper(_range_of(axis), _limits_of(kept).get(name))
        if sentence := limited_place(driver):
            raise DeviceFault(f"{sentence}.")
    except DeviceFault as fault:
        return Prepared(kept, None, fault.message)
    except ValidationError as error:  # the agent has checked the same before; what was given may be secret
        found = error.errors(include_url=False, include_input=False, include_context=False)
        lines = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:3])
        return Prepared(kept, None, f"Its settings cannot be used: {lines}.")
    except ValueError as error:  # of its limits
        return Prepared(kept, None, f"Its settings cannot be used: {error}.")
    except Exception as error:  # a plug-in may fail in any way
        return Prepared(kept, None, f"Its driver failed ({type(error).__name__}).")
    for library in kind.libraries:
        with contextlib.suppress(Exception):  # `open` says what is missing
            importlib.import_module(library)
    return Prepared(kept, kind)


def _limits_of(kept: wire.KeptDevice) -> dict[str, Limits]:
    return {name: Limits(**limits.model_dump()) for name, limits in kept.limits.items()}


def _range_of(axis: object) -> AxisRange:
    return AxisRange(**{key: value for key, value in asdict(axis).items() if key in AxisRange.__slots__})  # type: ignore[call-overload]


def _within(shapers: Mapping[str, Shaper]) -> Callable[[str, float], float]:
    return lambda axis, value: shapers[axis].limited(value)


def _as_wanted(read: wire.Read, places: Mapping[str, Shaper]) -> wire.Read:
    """Where it stands as an operator would have put it there: he knows nothing of the owner's limits."""
    told = {
        axis: value
        for axis, shaper in places.items()
        if (place := finite(read.values.get(axis))) is not None and (value := shaper.wanted(place)) is not None
    }
    return read.model_copy(update={"values": read.values | told}) if told else read


class Worker:
    """One run of the keeper. `work` returns with the exit code, or the process ends without.

    Args:
        agent: Packets from and to the agent.
        guard: Each pulse goes there; its end means that the guard has died.
        prepared: The devices.
        run: Which run this is.
        why: What the one before it died of; "" for the first.
    """

    def __init__(self, agent: socket.socket, guard: socket.socket, prepared: Sequence[Prepared], run: int, why: str) -> None:
        self._agent, self._guard, self._run, self._why = agent, guard, run, why
        self._prepared = prepared
        self._threads: dict[str, DeviceThread] = {}
        self._places: dict[str, dict[str, Shaper]] = {}  # of axes whose place a reading tells, by device; only to ask
        self._reports: deque[Report] = deque()
        self._out: deque[bytes] = deque()
        self._woken, self._wake_end = socket.socketpair()
        self._turns = 0
        self._held = self._over = False
        self._halted: set[str] = set()  # devices that were stopped in this turn, not because the agent wanted it
        self._halts: dict[str, int] = {}  # which stop that the agent was told of was the last of a device
        self._calm = threading.Event()
        self._pulse_at = 0.0
        self._keeping: Keeping

    def work(self) -> int:
        """Open and stop everything, then do what the agent says until it is gone."""
        for end in (self._agent, self._guard, self._woken, self._wake_end):
            end.setblocking(False)
        terminated: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: terminated.append(number))
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        now = time.monotonic()
        self._send(wire.Ready(run=self._run, pid=os.getpid(), why=self._why))
        self._begin(now)
        threading.Thread(target=self._watch, name="keeper-watch", daemon=True).start()
        poll = select.poll()
        poll.register(self._agent, select.POLLIN)
        poll.register(self._guard, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while self._keeping.state is not KeeperState.GONE:
            deadline = min(self._pulse_at, self._keeping.next_deadline() or self._pulse_at)
            poll.modify(self._agent, select.POLLIN | (select.POLLOUT if self._out else 0))
            # One millisecond more than is left, rounded down: never early, since that would spin.
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1))
            self._turns += 1
            self._turn(ready, terminated)
        return self._leave()

    def _begin(self, now: float) -> None:
        devices: dict[str, e.Kept] = {}
        for item in self._prepared:
            name = item.kept.name
            if item.kind is None:
                self._send(wire.Device(device=name, phase="failed", text=item.problem))
                devices[name] = e.Kept(item.kept.group, {})  # never opened: its group takes no set-point
                continue
            driver = item.kind(name, item.kind.Options.model_validate(item.kept.options))
            axes = {axis: _range_of(found) for axis, found in driver.axes.items()}
            limits = _limits_of(item.kept)
            devices[name] = e.Kept(item.kept.group, axes, limits)
            shapers = {axis: Shaper(range_, limits.get(axis)) for axis, range_ in axes.items()}
            driver.within = _within(shapers)
            self._places[name] = {axis: shapers[axis] for axis in places_of(driver)}
            self._threads[name] = DeviceThread(name, driver, self._told, interval_s=item.kept.interval_s)
        self._keeping = Keeping(devices, self._run, now)
        for thread in self._threads.values():
            thread.start()

    def _turn(self, ready: Mapping[int, int], terminated: list[int]) -> None:
        events: list[e.Event | wire.Order] = []
        self._halted.clear()
        if self._held:
            self._held = False
            events.append(e.Held())
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        if terminated or self._guard.fileno() in ready:
            if self._guard.fileno() in ready and not self._guard_lives():
                self._keeping_take(e.Terminated())
                self._keeping_take(e.InputEnded())
                return
            terminated.clear()
            events.append(e.Terminated())
        if self._agent.fileno() in ready:
            events += self._receive()
        while self._reports:
            events += self._reported(self._reports.popleft())
        for event in events:
            if isinstance(event, wire.Order):
                self._order(event)
            else:
                self._keeping_take(event)
        now = self._pass_time()
        if now >= self._pulse_at:
            self._pulse_at = now + PULSE_S
            if len(self._out) < _SPARE_OUT:
                self._send(wire.Pulse(at=now, refused=dict(self._keeping.refused)))
            with contextlib.suppress(OSError):
                self._guard.send(b".")
        self._flush()

    def _guard_lives(self) -> bool:
        try:
            return bool(self._guard.recv(64))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _receive(self) -> list[e.Event | wire.Order]:
        """All that has come, signs of life first: what waited while this process did not run is no silence of the agent."""
        alive: list[e.Event | wire.Order] = []
        events: list[e.Event | wire.Order] = []
        for _ in range(64):
            try:
                packet = self._agent.recv(wire.MAX_PACKET)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                events.append(e.InputEnded())
                break
            try:
                message = wire.decode_agent(packet)
            except PeerError as error:
                self._send(wire.Say(level="error", text=f"keeper: {error.message}"))
                continue
            match message:
                case wire.Alive(at=at):
                    alive.append(e.Alive(at))
                case wire.Set():
                    events.append(e.SetPoint(message.run, message.halts, message.until, message.values))
                case wire.Stop(devices=devices):
                    events.append(e.StopAsked(devices))
                case wire.Order():
                    events.append(message)
        return alive + events

    def _order(self, order: wire.Order) -> None:
        """One that came in the turn in which its device was stopped was sent before that, or before its sender knew of it."""
        now = self._pass_time()  # what is due before it does not come behind it
        thread = self._threads.get(order.device)
        if order.run != self._run or self._keeping.state is not KeeperState.LISTENING:
            self._send(wire.Done(id=order.id, code=503, message=f"{order.device} does not work at the moment."))
        elif thread is None:
            self._send(wire.Done(id=order.id, code=404, message=f"There is no device {order.device} that moves."))
        elif order.device in self._halted or self._held or order.halts < self._halts.get(order.device, 0):
            self._send(wire.Done(id=order.id, code=409, message=f"{order.device} was stopped before this began."))
        elif thread.order(order):
            self._apply(self._keeping.handle(e.Commanded(order.device), now))

    def _reported(self, report: Report) -> list[e.Event]:
        match report:
            case e.Opened() | e.Failed() | e.Carried():
                return [report]
            case wire.Read():
                places = self._places.get(report.device, {})
                if len(self._out) < _SPARE_OUT:
                    self._send(_as_wanted(report, places))
                return [e.Seen(report.device, {axis: report.values[axis] for axis in places.keys() & report.values.keys()})]
            case _:
                self._send(report)
        return []

    def _keeping_take(self, event: e.Event) -> None:
        if isinstance(event, e.StopAsked):  # who asked for that knows of it when he asks for more
            self._apply(self._keeping.handle(event, self._pass_time()))
        else:  # which lets time pass itself, behind a sign of life
            self._apply_halting(self._keeping.handle(event, time.monotonic()))

    def _pass_time(self) -> float:
        """Do what has become due by now, which is returned."""
        now = time.monotonic()
        self._apply_halting(self._keeping.tick(now))
        return now

    def _apply_halting(self, effects: Sequence[e.Effect]) -> None:
        self._apply(effects)
        self._halted |= {effect.device for effect in effects if isinstance(effect, e.Stop)}

    def _apply(self, effects: Sequence[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Stop(name):
                    self._threads[name].stop()
                    self._calm.set()
                case e.Apply(name, values, until):
                    self._threads[name].apply(values, until)
                case e.Told(devices, why, at, halts):
                    self._halts.update(dict.fromkeys(devices, halts))
                    self._send(wire.Stopped.model_validate({"devices": list(devices), "why": why, "at": at, "halts": halts}))

    def _told(self, report: Report) -> None:
        """From any thread."""
        self._reports.append(report)
        with contextlib.suppress(OSError):
            self._wake_end.send(b".")

    def _send(self, message: wire.Message) -> None:
        try:
            packet = wire.encode(message)
        except PeerError as error:
            if not isinstance(message, wire.Done):
                return
            packet = wire.encode(wire.Done(id=message.id, code=500, message=f"What it returned cannot be sent: {error.message}"))
        if len(self._out) >= _MAX_OUT:  # the agent does not read; it will have to begin anew
            self._out.popleft()
        self._out.append(packet)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                self._agent.send(self._out[0])
                self._out.popleft()
        except BlockingIOError:
            pass
        except OSError:  # the agent is gone; `recv` says so
            self._out.clear()

    def _watch(self) -> None:
        """On a thread of its own: stops that hang, and a loop that does not turn."""
        seen_turns, seen_at, looks = -1, 0.0, 0
        while not self._over:
            if any(thread.stopping for thread in self._threads.values()):
                time.sleep(LOOK_S)
            else:
                self._calm.wait(_CALM_LOOK_S)
            self._calm.clear()
            for thread in self._threads.values():
                if why := thread.look():
                    self._die(why)
            now = time.monotonic()
            if self._turns != seen_turns:
                seen_turns, seen_at, looks = self._turns, now, 0
            else:
                looks += 1
                if now - seen_at > HELD_S and looks > HELD_S / _CALM_LOOK_S - 1 and not self._held:
                    self._held = True
                    for thread in self._threads.values():
                        thread.stop()

    def _die(self, why: str) -> None:
        """The end of the process closes its pins; the guard begins another, which opens and stops everything."""
        text = f"keeper: {why}; it ends itself and begins anew"
        with contextlib.suppress(OSError, PeerError):
            self._agent.send(wire.encode(wire.Say(level="error", text=text)))
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        os._exit(DEAD)

    def _leave(self) -> int:
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads.values():
            thread.close()
        self._calm.set()
        clean = all([thread.ended(max(0.0, deadline - time.monotonic())) for thread in self._threads.values()])
        self._over = True
        return CLEAN if clean else UNCLEAN
