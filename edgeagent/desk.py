"""Where viewers, arbiter, keeper, sensors and telemetry meet: the asyncio shell of control.

Everything runs on one loop and never blocks. A set-point goes from the data channel to the keeper within one call.
"""

from __future__ import annotations

__all__ = ["Desk", "DeskCounters"]

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pydantic_core import PydanticSerializationError

from edgeagent.core import arbiter_events as e
from edgeagent.core.alarms import Alarms
from edgeagent.core.arbiter import Arbiter
from edgeagent.core.gate import Gate
from edgeagent.core.ports import CapturedAt, DeviceEvents, DevicePort, KeeperPort, ViewerChannels
from edgeagent.core.principals import Principals
from edgeagent.core.ratelimit import Rate, TokenBucket
from edgeagent.core.telemetry import Batch, Intervals, Key, Telemetry, TelemetryPolicy
from edgeagent.core.unread import Unread
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.model import Principal, Right, Value
from edgeagent.wire import control as c
from edgeagent.wire.codec import decode_event, decode_set_point, encode, id_of
from edgeagent.wire.fitting import fit, leading

_log = logging.getLogger(__name__)
_RIGHTS: tuple[Right, ...] = ("watch", "operate", "admin")
_STATE_EVERY_S = 0.05
_EARLY_S = 0.02
"""Readings may be told so much before their time, where several sensors were just read: so they go together, without a timer."""
_MAX_ANSWERS = 64
_MAX_CALLS = 4
_MAX_ALL_CALLS = 64
_CALL_TIMEOUT_S = 30.0
_STOP_LINES = Rate(1, 20)


@dataclass(slots=True)
class DeskCounters:
    """What was dropped since the start, before or after the arbiter."""

    malformed: int = 0
    flood: int = 0
    unsent_answers: int = 0
    unsent_acks: int = 0


@dataclass(slots=True, eq=False)
class _Viewer:
    """What one viewer is still to be told on `events`. States are kept by name only, so that the newest is told."""

    name: str
    gate: Gate
    principal: Principal = field(default_factory=Principal)
    events: bool = False
    introduced: bool = False
    telemetry: bool = False
    listens: bool = True
    devices: dict[str, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)
    alarms: dict[tuple[str, str], None] = field(default_factory=dict)
    answers: deque[str] = field(default_factory=deque)
    state_at: float = 0.0  # no state before this time
    answer_at: float = 0.0
    calls: int = 0
    waiting: dict[int, asyncio.Future[c.Result | c.Refused]] = field(default_factory=dict)  # of one without channels

    @property
    def due(self) -> float | None:
        if not self.events:
            return None
        times = [self.answer_at] if self.answers else []
        if not self.introduced or self.devices or self.groups or self.alarms:
            times.append(self.state_at)
        return min(times, default=None)


class Desk:
    """Control of all devices by all viewers: `ViewerEvents` of their channels, `KeeperEvents` of the keeper, `DeviceEvents` of the
    agent's own supervisor. Making it does nothing; `keeper` and `local` may be set later; `close` it before the keeper.

    Args:
        config: Devices and limits.
        channels: Where viewers are reached.
        principals: Who knows tokens and tickets.
        captured_at: When the picture on a viewer's screen was taken.
        keeper: What owns the devices that move; None while there is none.
        local: Commands to all other devices.
        telemetry: How often readings are told.
        intervals: How often single readings are, by device and reading, where the owner wants it otherwise.
        reads_s: How often each sensor is read, by its name; of one that is not here nobody minds how long it is silent.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        config: e.ArbiterConfig,
        *,
        channels: ViewerChannels,
        principals: Principals,
        captured_at: CapturedAt,
        keeper: KeeperPort | None = None,
        local: DevicePort | None = None,
        telemetry: TelemetryPolicy | None = None,
        intervals: Mapping[Key, Intervals] | None = None,
        reads_s: Mapping[str, float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.keeper = keeper
        self.local = local
        self.principals = principals
        self.counters = DeskCounters()
        self._channels = channels
        self._captured_at = captured_at
        self._wall = wall
        self._devices = {device.name: fit(device) for device in config.devices}
        self._arbiter = Arbiter(config)
        self._telemetry = Telemetry(config.devices, telemetry, intervals)
        self._alarms = Alarms(config.devices)
        self._alarm_last: dict[tuple[str, str], c.Alarm] = {}
        self._unread = Unread(config.devices, reads_s or {})
        for device, reading in self._unread.keys:
            self._arbiter.handle(e.PowerChanged(f"{device}.{reading}", self._unread.text(device, reading)), 0.0)
        self._viewers: dict[str, _Viewer] = {}
        self._events: deque[e.Event] = deque()
        self._feeding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._news = False  # whether a viewer may have to be told something since all were looked at
        self._due = math.inf  # when one of them is to be told something, as it was then
        self._stops: Counter[str] = Counter()  # how often each device was stopped
        self._stop_lines = TokenBucket(_STOP_LINES, 0.0)
        self._last_id = 0
        self._expiry_s = config.expiry_s
        self._still = config.still
        self.also: DeviceEvents | None = None
        """Who else is told of devices and readings."""

    @property
    def devices(self) -> tuple[c.DeviceInfo, ...]:
        """All devices as viewers are told."""
        return tuple(self._devices.values())

    def counts(self) -> dict[str, int]:
        """What happened since the start, by name, for metrics: `applied`, `late`, `order` …, `stop_<why>`."""
        arbiter = self._arbiter.counters
        return {
            **{name.name: getattr(arbiter, name.name) for name in fields(arbiter) if name.name != "stops"},
            **{f"stop_{why}": count for why, count in arbiter.stops.items()},
            **asdict(self.counters),
            **{f"telemetry_{name}": count for name, count in asdict(self._telemetry.counters).items()},
            "sign_in_refused": self.principals.refused,
        }

    def page_ticket(self, operator: str | None, local: bool) -> str | None:
        """A ticket for a page that was asked for over HTTP: see `Principals.page_ticket`."""
        return self.principals.page_ticket(operator, local, _now())

    async def close(self, reason: str = "The agent is stopping.") -> None:
        """Stop everything that moves, tell everybody, and end what is going on. The keeper must still be there."""
        for v in self._viewers.values():
            v.state_at = 0.0
        self._news = True
        try:
            self._feed(e.AgentStopping(reason))
        finally:
            self._closed = True
            if self._timer:
                self._timer.cancel()
                self._timer = None
        for v in self._viewers.values():
            for future in v.waiting.values():
                if not future.done():
                    future.set_result(c.Refused(code=503, message=reason))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def command(self, principal: Principal, device: str, command: str, args: Mapping[str, Any]) -> Any:
        """Carry out a command for somebody who has no channels, like a home automation; returns what it returns.

        For a device that moves he takes the lease of its group, where it is free, and gives it back when the command has expired:
        as with everybody else, what moves stops after `expiry_s` of silence.

        Raises:
            PeerError: It is refused, in the words of the arbiter or the driver.
        """
        name = f"({principal.name})"  # no viewer is called so
        v = self._viewers.get(name)
        if v is None:
            v = self._viewers[name] = _Viewer(name, Gate(_now()))
            self._feed(e.ViewerCame(name, channels=False))
        if v.principal != principal:
            v.principal = principal
            self._feed(e.SignedIn(name, principal))
        info = self._devices.get(device)
        group = info.group if info is not None and info.moves and (device, command) not in self._still else None
        if group is not None and await self._ask(v, lambda n: c.Lease(id=n, group=group, do="request")) != "yours":
            await self._ask(v, lambda n: c.Lease(id=n, group=group, do="cancel"))
            raise PeerError(409, "Somebody else operates this at the moment.")
        try:
            return await self._ask(v, lambda n: c.Command(id=n, device=device, command=command, args=dict(args)))
        finally:
            if group is not None:
                self._spawn(self._give_back(v, group), f"lease of {principal.name}")

    async def _give_back(self, v: _Viewer, group: str) -> None:
        await asyncio.sleep(self._expiry_s)
        holder = self._arbiter.holder(group)
        if holder is not None and holder[0] == v.name and not v.calls:
            with contextlib.suppress(PeerError):
                await self._ask(v, lambda n: c.Lease(id=n, group=group, do="release"))

    async def _ask(self, v: _Viewer, request: Callable[[int], c.Lease | c.Command]) -> Any:
        if self._closed:
            raise PeerError(503, "The agent is stopping.")
        self._last_id += 1
        number = self._last_id
        answered = v.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._feed(e.Asked(v.name, request(number)))
            answer = await answered
        finally:
            del v.waiting[number]
        if isinstance(answer, c.Refused):
            raise PeerError(answer.code, answer.message)
        return answer.value

    # Viewers

    def opened(self, viewer: str, label: str) -> None:
        """See `ViewerEvents`."""
        v = self._viewers.get(viewer)
        if v is None:
            v = self._viewers[viewer] = _Viewer(viewer, Gate(_now()))
            self._feed(e.ViewerCame(viewer))
        if label == "events":
            v.events = True
            v.introduced = False
            v.devices = dict.fromkeys(self._devices)
            v.groups = dict.fromkeys(self._arbiter.groups)
            v.alarms = {(alarm.device, alarm.key): None for alarm in self._alarms.on}
        elif label == "telemetry":
            v.telemetry = True
            self._tell_readings_to(v)
        self._news = True
        self._work()

    def closed(self, viewer: str) -> None:
        """See `ViewerEvents`."""
        if self._viewers.pop(viewer, None) is not None:
            self._telemetry.gone(viewer)
            self._feed(e.ViewerGone(viewer))

    def drives(self, viewer: str) -> bool:
        """See `ViewerEvents`."""
        return self._arbiter.drives(viewer)

    def message(self, viewer: str, label: str, text: bytes | str) -> None:
        """See `ViewerEvents`."""
        v = self._viewers.get(viewer)
        if v is None:
            return
        now = _now()
        if not (v.gate.set_point(now) if label != "events" else v.gate.event(text, now)):
            self.counters.flood += 1
            self._complain(v, c.Refused(code=429, message="Too many messages; send fewer."))
            self._work()
        elif label == "control":
            try:
                message = decode_set_point(text)
            except PeerError as error:
                self.counters.malformed += 1
                self._complain(v, c.Refused(code=error.code, message=error.message))
                self._work()
                return
            seen = None
            if message.rtp is not None and message.mid is not None:
                seen = self._captured_at(viewer, message.mid, message.rtp)
            self._feed(e.SetPointReceived(viewer, message, seen))
        elif label == "events":
            self._event(v, text)
        else:
            self.counters.malformed += 1

    def _event(self, v: _Viewer, text: bytes | str) -> None:
        try:
            message = decode_event(text)
            if isinstance(message, c.SignIn):
                principal = self._told_apart(v, self.principals.sign_in(message.token, v.name, _now()))
                _log.info("viewer %s has signed in as %r", v.name, principal.name)
                v.principal, v.introduced = principal, False
                self._answer(v, c.Result(id=message.id))
                self._feed(e.SignedIn(v.name, principal))
                return
        except PeerError as error:
            if error.code in (400, 413, 426):
                self.counters.malformed += 1
            self._answer(v, c.Refused(id=id_of(text), code=error.code, message=error.message))
            self._work()
            return
        if isinstance(message, c.Listen):
            if message.on != v.listens:
                v.listens = message.on
                self._tell_readings_to(v)
            self._answer(v, c.Result(id=message.id))
            self._work()
            return
        self._feed(e.Asked(v.name, message))

    def _tell_readings_to(self, v: _Viewer) -> None:
        """From now on, first the newest of all; or no more."""
        if v.telemetry and v.listens:
            self._telemetry.came(v.name)
        else:
            self._telemetry.gone(v.name)

    def _told_apart(self, v: _Viewer, principal: Principal) -> Principal:
        """With a number behind the name where somebody here has it: two pages on this computer, or of one operator."""
        taken = {other.principal.name for other in self._viewers.values() if other is not v}
        numbered = (f"{principal.name} ({number})" for number in itertools.count(2))
        return replace(principal, name=next(name for name in itertools.chain([principal.name], numbered) if name not in taken))

    # Devices and the keeper

    def device(self, name: str, phase: str, text: str) -> None:
        """See `DeviceEvents`."""
        info = self._devices.get(name)
        if info is None:
            return
        changed = info.model_copy(update={"phase": phase, "text": text[:300]})
        if changed != info:
            self._devices[name] = changed
            self._news = True
            for v in self._viewers.values():
                v.devices[name] = None
        if phase != "live":
            self._telemetry.forget(name)
        if self.also is not None:
            self.also.device(name, phase, changed.text)
        self._feed(e.DeviceChanged(name, phase, changed.text))
        self._power_changed(self._unread.phase(name, phase == "live", _now()))

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        """See `DeviceEvents`."""
        self._telemetry.update(values)
        if self.also is not None:
            self.also.readings(values, at)
        powers = self._unread.took(values, _now())
        changed = self._alarms.update(values)
        for alarm in changed:
            key = (alarm.device, alarm.key)
            self._alarm_last[key] = alarm
            self._news = True
            for v in self._viewers.values():
                v.alarms[key] = None
            powers.append(key)
        self._power_changed(powers)
        early_s = _EARLY_S if len(values) > 1 else 0.0
        due = self._readings_due()
        if changed or (due is not None and (self._timer is None or self._timer.when() > due or due <= _now() + early_s)):
            self._work(early_s)

    def _power_changed(self, keys: Iterable[Key]) -> None:
        """Tell the arbiter whether these readings let anything move: somebody reads them, and they are not too low."""
        for device, key in keys:
            alarm = self._alarm_last.get((device, key))
            low = alarm.text if alarm is not None and alarm.on and alarm.level == "danger" else ""
            self._feed(e.PowerChanged(f"{device}.{key}", self._unread.text(device, key) or low))

    def stopped(self, device: str, why: str, at: float) -> None:
        """See `KeeperEvents`."""
        self._feed(e.KeeperStopped(device, why, at))

    def up(self, alive: bool) -> None:
        """See `KeeperEvents`."""
        self._feed(e.KeeperChanged(alive))

    # Events in, effects out

    def _feed(self, event: e.Event) -> None:
        if self._closed:
            return
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                for effect in self._arbiter.handle(self._events.popleft(), _now()):
                    self._carry_out(effect)
        except BaseException:
            if self.keeper is not None:  # a fault of ours: nothing may go on moving
                self.keeper.stop(None)
            raise
        finally:
            self._feeding = False
        self._work()

    def _carry_out(self, effect: e.Effect) -> None:
        match effect:
            case e.Apply(_, values, until):
                if self.keeper is not None:
                    self.keeper.set(values, until)
            case e.StopMoving(devices, why):
                if self.keeper is not None:
                    self.keeper.stop(devices)
                self._stops.update(list(self._devices) if devices is None else devices)
                if not self._stop_lines.take(_now()):
                    _log.info("stop of %s: %s", ", ".join(devices) if devices else "everything", why)
            case e.Acknowledge(viewer, ack):
                if not self._channels.send_data(viewer, "control", encode(ack)):
                    self.counters.unsent_acks += 1
            case e.GroupChanged(group):
                self._news = True
                for v in self._viewers.values():
                    v.groups[group] = None
            case e.Answer(viewer, message):
                if v_ := self._viewers.get(viewer):
                    self._answer(v_, message)
            case e.Complain(viewer, message):
                if v_ := self._viewers.get(viewer):
                    self._complain(v_, message)
            case e.Call():
                self._call(effect)

    def _answer(self, v: _Viewer, message: c.Result | c.Refused) -> None:
        if message.id is not None and (waiting := v.waiting.get(message.id)):
            if not waiting.done():
                waiting.set_result(message)
            return
        if len(v.answers) >= _MAX_ANSWERS:
            v.answers.popleft()
            self.counters.unsent_answers += 1
        v.answers.append(encode(message))
        self._news = True

    def _complain(self, v: _Viewer, message: c.Refused) -> None:
        if v.gate.complaint(_now()):
            self._answer(v, message)

    # Commands

    def _call(self, call: e.Call) -> None:
        v = self._viewers.get(call.viewer)
        if v is None:
            return
        if v.calls >= _MAX_CALLS or len(self._tasks) >= _MAX_ALL_CALLS:
            self._answer(v, c.Refused(id=call.id, code=429, message="Other commands are still being carried out; wait for them."))
            return
        v.calls += 1
        self._spawn(self._carry_out_call(call, v, self._stops[call.device]), f"command {call.command} of {call.device}")

    async def _carry_out_call(self, call: e.Call, v: _Viewer, stops: int) -> None:
        """`stops`: how often the device had been stopped when this was asked for; a later stop must not be followed by it."""
        moves = self._devices[call.device].moves
        port = self.keeper if moves else self.local
        answer: c.Result | c.Refused
        try:
            if moves and self._stops[call.device] != stops:
                raise PeerError(409, f"{call.device} was stopped before this began.")
            if port is None:
                raise PeerError(503, f"{call.device} is not there.")
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                value = await port.command(call.device, call.command, call.args)
            answer = c.Result(id=call.id, value=value)
            if len(answer.model_dump_json().encode()) > c.MAX_CONTROL:
                raise PeerError(413, "It was carried out, but what it returns is too long to be sent.")
        except PeerError as error:
            answer = c.Refused(id=call.id, code=error.code, message=error.message[:300])
        except DeviceFault as fault:
            answer = c.Refused(id=call.id, code=503, message=fault.message[:300])
        except TimeoutError:
            answer = c.Refused(id=call.id, code=504, message=f"{call.device} does not answer.")
        except (PydanticSerializationError, ValueError, TypeError):
            _log.exception("what %s.%s returned cannot be sent", call.device, call.command)
            answer = c.Refused(id=call.id, code=500, message="It was carried out, but what it returns cannot be sent.")
        finally:
            v.calls -= 1
        self._answer(v, answer)
        self._work()

    def _spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s failed", task.get_name(), exc_info=error)

    # To viewers

    def _work(self, early_s: float = 0.0) -> None:
        """Tell whoever is to be told something by now, readings up to `early_s` before, and come again when there is more."""
        if self._feeding:
            return
        now = _now()
        if self._news or self._due <= now:
            self._news, self._due = False, math.inf
            for v in list(self._viewers.values()):
                due = v.due
                if due is not None and due <= now:
                    self._tell(v, now)
                    due = v.due
                if due is not None:
                    self._due = min(self._due, due)
        due = self._readings_due()
        if due is not None and due <= now + early_s:
            self._tell_readings(max(now, due))
        self._arm(now)

    def _tell(self, v: _Viewer, now: float) -> None:
        if v.state_at <= now:
            told = self._tell_state(v)
            if told is not None:
                v.state_at = now + _STATE_EVERY_S
            if told is False:
                v.answer_at = v.state_at
                return
        if v.answer_at > now:
            return
        while v.answers:
            if not self._channels.send_data(v.name, "events", v.answers[0]):
                v.answer_at = now + _STATE_EVERY_S
                return
            v.answers.popleft()

    def _tell_state(self, v: _Viewer) -> bool | None:
        """Whether all of it was taken; None where there was nothing."""
        told: bool | None = None
        while not v.introduced or v.devices:
            devices = [self._devices[name] for name in v.devices]
            devices = devices[: leading(devices)]
            rights = [right for right in _RIGHTS if right in v.principal.rights]
            message = c.Devices(you=v.name, name=v.principal.name, rights=rights, devices=devices)
            if not self._channels.send_data(v.name, "events", encode(message)):
                return False
            told = v.introduced = True
            for device in devices:
                del v.devices[device.name]
        while v.groups:
            group = next(iter(v.groups))
            if not self._channels.send_data(v.name, "events", encode(self._arbiter.view(group, v.name))):
                return False
            told = True
            del v.groups[group]
        while v.alarms:
            key = next(iter(v.alarms))
            if not self._channels.send_data(v.name, "events", encode(self._alarm_last[key])):
                return False
            told = True
            del v.alarms[key]
        return told

    def _tell_readings(self, now: float) -> None:
        telemetry = self._telemetry
        at = self._wall() * 1000
        for batch in telemetry.flush(now):
            text = _text(batch, at)
            for viewer in list(telemetry.viewers):
                if self._channels.send_data(viewer, "telemetry", text):
                    telemetry.sent(viewer, batch)
                else:
                    telemetry.missed(viewer, batch)
        for viewer in list(telemetry.viewers):
            for batch in telemetry.owed(viewer):
                if not self._channels.send_data(viewer, "telemetry", _text(batch, at)):
                    break
                telemetry.sent(viewer, batch)

    def _readings_due(self) -> float | None:
        return self._telemetry.next_deadline() if self._telemetry.viewers else None

    def _arm(self, now: float) -> None:
        if self._closed:
            return
        times = [
            self._arbiter.next_deadline(),
            self._unread.next_deadline(),
            self._readings_due(),
            None if self._due == math.inf else self._due,
        ]
        due = min((due for due in times if due is not None), default=None)
        if due is not None:
            due = max(due, now)
        # A timer that rings too early does no harm, and set-points would move it 50 times a second.
        if self._timer and (due is None or self._timer.when() > due):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._power_changed(self._unread.tick(_now()))
        self._feed(e.TimePassed())


def _text(batch: Batch, at: float) -> str:
    # Nothing is looked at again: `Telemetry.update` lets only proper values in.
    return encode(c.ReadingsMessage.model_construct(at=at, values=batch.values))


def _now() -> float:
    """CLOCK_MONOTONIC, which the keeper reads too, or a test's stand-in."""
    return asyncio.get_running_loop().time()
