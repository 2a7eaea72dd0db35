"""What the keeper decides: which set-points move something, and when everything that moves is stopped.

    device     event                                    next     effects
    AWAY       Opened (its thread has stopped it)       STILL
    STILL      SetPoint that counts                     MOVING   Apply
    MOVING     SetPoint that counts                     MOVING   Apply
    MOVING     a step of its ramp is due                MOVING   Apply
    MOVING     its set-point has expired                STILL    Stop; Told unless another device of its group still moves
    STILL, MOVING   StopAsked                           STILL    Stop
    STILL, MOVING   Commanded                           same     (set-points before it turn its positions no more, those after it
                                                                 only when it is over)
    STILL, MOVING   Carried: a command is over          same     (its positions are where the command put them)
    STILL, MOVING   Failed                              AWAY     Stop, Told for all of its group

    keeper     event                                    next     effects
    LISTENING  no Alive for silence_s                   DEAF     Stop, Told for all
    DEAF       Alive, sent within silence_s             LISTENING
    not gone   Held (the keeper itself was held up)     same     Stop, Told for all
    LISTENING, DEAF   Terminated                        LEAVING  Stop, Told for all
    not gone   InputEnded                               GONE     Stop for all, End
    LEAVING    leave_s passed                           GONE     Stop for all, End

A set-point counts while the keeper is LISTENING, all devices of the group are there, its deadline lies ahead, and it was sent by
somebody who knew of the last stop that the keeper told (`halts`), to this run of the keeper (`run`): what was on its way
meanwhile moves nothing. Whether neutral must come first is the arbiter's to decide, who has then been told. Whatever the tables
leave out changes nothing. The keeper opens and stops everything before it takes the first set-point.
"""

from __future__ import annotations

__all__ = ["KeeperState", "Keeping"]

import enum
from collections import Counter
from collections.abc import Iterable, Mapping

from edgeagent.core.keeping_events import (
    Alive,
    Apply,
    Carried,
    Commanded,
    Effect,
    End,
    Event,
    Failed,
    Held,
    InputEnded,
    KeepPolicy,
    Kept,
    Opened,
    Seen,
    SetPoint,
    Stop,
    StopAsked,
    Terminated,
    Told,
)
from edgeagent.core.numbers import finite
from edgeagent.core.shaping import Shaper


class KeeperState(enum.Enum):
    """See the table in this module's docstring."""

    LISTENING = enum.auto()
    DEAF = enum.auto()
    LEAVING = enum.auto()
    GONE = enum.auto()


class _Device:
    """A device's state: `there` is STILL or MOVING, the latter while `until` is set."""

    def __init__(self, kept: Kept) -> None:
        self.group = kept.group
        self.shapers = {name: Shaper(axis, kept.limits.get(name)) for name, axis in kept.axes.items()}
        self.positions = {name for name, axis in kept.axes.items() if axis.position}
        self.targets: dict[str, float] = {}
        self.there = False
        self.commands = 0  # that wait or are under way
        self.unsure: set[str] = set()  # positions that may be elsewhere than their ramp
        self.until: float | None = None
        self.step_at: float | None = None


class Keeping:
    """The machine of this module's tables. Times are seconds of CLOCK_MONOTONIC, the agent's and the keeper's.

    Args:
        devices: What it keeps, by name.
        run: Which run of the keeper this is; set-points must name it.
        now: The time.

    Raises:
        ValueError: Settings do not fit an axis; see `Shaper`.
    """

    def __init__(self, devices: Mapping[str, Kept], run: int, now: float, policy: KeepPolicy | None = None) -> None:
        self._policy = policy or KeepPolicy()
        self._devices = {name: _Device(kept) for name, kept in devices.items()}
        self._run = run
        self._heard = now
        self._leave_at = 0.0
        self.state = KeeperState.LISTENING
        self.halts = 0
        """How often the keeper stopped something by itself."""
        self.refused: Counter[str] = Counter()
        """Set-points that moved nothing, by the reason: `run`, `halts`, `late`, `deaf`, `leaving`, `fault`, `unknown`."""

    def moving(self) -> list[str]:
        """Devices that a living set-point moves."""
        return [name for name, device in self._devices.items() if device.until is not None]

    def next_deadline(self) -> float | None:
        """When `tick` must be called at the latest; None while nothing is awaited."""
        times = [t for d in self._devices.values() if d.until is not None for t in (d.until, d.step_at) if t is not None]
        if self.state is KeeperState.LISTENING:
            times.append(self._heard + self._policy.silence_s)
        elif self.state is KeeperState.LEAVING:
            times.append(self._leave_at)
        return min(times, default=None)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event. What has become due by `now` comes first."""
        if self.state is KeeperState.GONE:
            return []
        if isinstance(event, Alive):  # before `tick`: a keeper that was late itself does not take that for the agent's silence
            self._heard = max(self._heard, min(event.at, now))
            if self.state is KeeperState.DEAF and now < self._heard + self._policy.silence_s:
                self.state = KeeperState.LISTENING
        effects = self.tick(now)
        if self.state is not KeeperState.GONE:  # `tick` may have ended it
            effects += self._take(event, now)
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Let time pass; before `next_deadline` nothing happens."""
        if self.state is KeeperState.GONE:
            return []
        if self.state is KeeperState.LEAVING and now >= self._leave_at:
            return self._end(now)
        if self.state is KeeperState.LISTENING and now >= self._heard + self._policy.silence_s:
            self.state = KeeperState.DEAF
            return self._halt(self._devices, "silence", now)
        effects: list[Effect] = []
        if expired := [name for name, device in self._devices.items() if device.until is not None and now >= device.until]:
            effects += self._stop(expired, now)
            moving = {self._devices[name].group for name in self.moving()}
            if told := tuple(name for name in expired if self._devices[name].group not in moving):
                effects.append(self._told(told, "expired", now))
        for name, device in self._devices.items():
            if device.until is not None and device.step_at is not None and now >= device.step_at:
                effects += self._step(name, device, now)
        return effects

    def _take(self, event: Event, now: float) -> list[Effect]:
        match event:
            case SetPoint():
                return self._set(event, now)
            case StopAsked(devices):
                return self._stop(self._devices if devices is None else [name for name in devices if name in self._devices], now)
            case Commanded(name) if name in self._devices:
                device = self._devices[name]
                device.commands += 1
                device.unsure |= device.positions
                for axis in device.positions:
                    device.targets.pop(axis, None)
            case Carried(name, count, places) if name in self._devices:
                self._carried(self._devices[name], count, places, now)
            case Seen(name, values) if name in self._devices and not self._devices[name].commands:
                device = self._devices[name]
                for axis in device.unsure & values.keys():
                    self._found(device, axis, values[axis], now)
            case InputEnded():
                return self._end(now)
            case Held():
                return self._halt(self._devices, "held", now)
            case Terminated() if self.state is not KeeperState.LEAVING:
                self.state, self._leave_at = KeeperState.LEAVING, now + self._policy.leave_s
                return self._halt(self._devices, "ending", now)
            case Opened(name) if name in self._devices:
                device = self._devices[name]
                device.there = True
                device.unsure |= device.positions
                for shaper in device.shapers.values():
                    shaper.stopped(now, opened=True)
            case Failed(name) if name in self._devices and self._devices[name].there:
                effects = self._halt(self._group(self._devices[name].group), "device", now)
                self._devices[name].there = False
                return effects
        return []

    def _set(self, event: SetPoint, now: float) -> list[Effect]:
        if why := self._why_not(event, now):
            self.refused[why] += 1
            return []
        effects: list[Effect] = []
        until = min(event.until, now + self._policy.max_life_s)
        for name, values in event.values.items():
            device = self._devices.get(name)
            if device is None or not device.shapers:
                self.refused["unknown"] += 1
            elif not all(self._devices[other].there for other in self._group(device.group)):
                self.refused["fault"] += 1
            else:
                for axis, shaper in device.shapers.items():
                    if axis in values:
                        device.targets[axis] = shaper.target(values[axis])
                    elif axis not in device.positions:
                        device.targets[axis] = shaper.target(float("nan"))
                device.until = until
                effects += self._step(name, device, now)  # nothing where all of it are positions that nobody has told anything yet
        return effects

    def _why_not(self, event: SetPoint, now: float) -> str:
        if event.run != self._run:
            return "run"
        if event.halts != self.halts:
            return "halts"
        if self.state is not KeeperState.LISTENING:
            return "deaf" if self.state is KeeperState.DEAF else "leaving"
        return "" if event.until > now else "late"

    def _carried(self, device: _Device, count: int, places: Mapping[str, float], now: float) -> None:
        device.commands = max(0, device.commands - count)
        for axis, value in places.items():
            if axis in device.positions:
                self._found(device, axis, value, now)
        if not device.commands and device.until is not None and device.targets.keys() & device.positions:
            device.step_at = now  # what was wanted meanwhile

    def _found(self, device: _Device, axis: str, value: object, now: float) -> None:
        place = finite(value)
        if place is not None and device.shapers[axis].at(place, now) and not device.commands:
            device.unsure.discard(axis)

    def _step(self, name: str, device: _Device, now: float) -> list[Effect]:
        device.step_at = None
        # Where a command will leave it nobody knows yet.
        targets = {axis: target for axis, target in device.targets.items() if not (device.commands and axis in device.positions)}
        if not targets:
            return []
        values = {axis: device.shapers[axis].step(target, now) for axis, target in targets.items()}
        device.unsure -= targets.keys()
        if not all(device.shapers[axis].settled(target) for axis, target in targets.items()):
            device.step_at = now + self._policy.step_s
        assert device.until is not None
        return [Apply(name, values, device.until)]

    def _group(self, group: str) -> list[str]:
        return [name for name, device in self._devices.items() if device.group == group]

    def _stop(self, names: Iterable[str], now: float) -> list[Effect]:
        """Stop those that are there; what is away was stopped and closed by its own thread."""
        effects: list[Effect] = []
        for name in names:
            device = self._devices[name]
            device.until = device.step_at = None
            for shaper in device.shapers.values():
                shaper.stopped(now)
            device.targets.clear()  # of a position, too: it stays where its ramp has come to until it is told anew
            if device.there:
                effects.append(Stop(name))
        return effects

    def _halt(self, names: Iterable[str], why: str, now: float) -> list[Effect]:
        devices = tuple(names)
        return [*self._stop(devices, now), self._told(devices, why, now)]

    def _told(self, devices: tuple[str, ...], why: str, now: float) -> Told:
        self.halts += 1
        return Told(devices, why, now, self.halts)

    def _end(self, now: float) -> list[Effect]:
        self.state = KeeperState.GONE
        return [*self._stop(self._devices, now), End()]
