"""Who may move what, and for how long: leases, emergency stop, and every fail-safe.

A group of devices that move together obeys one viewer at a time, the holder of its lease. Its state:

    state      event                                               → state      effects, besides telling everybody
    ────────── ─────────────────────────────────────────────────── ──────────── ────────────────────────────────────────────────
    FREE       lease request, or take                                DISARMED     StopMoving; result `yours`
    held       lease request of another                              same         result `waiting`; 503 where the queue is full
    held       take by `admin`, or by `operate` from a silent holder DISARMED     StopMoving, then both are told; else refused 409
    held       hand by the holder to one who waits                   DISARMED     StopMoving
    held       release, holder gone, 10 s without a set-point,       DISARMED     StopMoving; the first who waits has the lease,
               holder may no longer operate                          or FREE      or nobody
    DISARMED   set-point, all axes at neutral, nothing against it    ARMED        Apply(neutral)
    DISARMED   other set-point                                       DISARMED     dropped: `disarmed`
    ARMED      set-point in time and order                           ARMED        Apply until it expires
    held       set-point that is late, out of order or not his       same         dropped, counted; the expiry runs on
    held       set-point by a picture too old or unknown             DISARMED     StopMoving
    ARMED      nothing valid until the last set-point expires        DISARMED     StopMoving
    held       halt by the holder                                    DISARMED     StopMoving
    ARMED      the keeper stopped a device by itself                 DISARMED     StopMoving
    any        stop, by anyone                                       STOPPED      StopMoving(all)
    STOPPED    reset, by `operate`                                   DISARMED, FREE
    any        device not live, keeper gone, power low               FAULT        StopMoving
    FAULT      all of it is over                                     DISARMED, FREE
    any        AgentStopping                                         FREE         StopMoving(all); refuses everything from now on

"held" is DISARMED or ARMED, or STOPPED or FAULT with a holder: a lease outlives both, set-points are then dropped. A command of a
device that moves is refused unless the group is ARMED, where it has axes and its holder has channels to arm it by. Otherwise it is
watched like a set-point: where none follows it in time, the group is stopped. One that moves nothing, as its driver says, is
refused only while another has the lease. Whatever was dropped is counted.
"""

from __future__ import annotations

__all__ = ["Arbiter", "ArbiterCounters"]

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from edgeagent.core import arbiter_events as e
from edgeagent.core.arbiter_events import ArbiterConfig, Effect, Event
from edgeagent.core.arbiter_group import ArbiterGroup, ArbiterViewer
from edgeagent.core.lateness import Lateness
from edgeagent.errors import PeerError
from edgeagent.model import Principal
from edgeagent.wire import control as c

_HALTS = {
    "hidden": "The operator's page is hidden.",
    "gamepad": "The operator's gamepad is gone.",
    "picture": "The operator's picture stands still.",
    "person": "The operator has halted.",
}
_KEEPER = "The part that moves the motors is not running; it is being started."


@dataclass(slots=True)
class ArbiterCounters:
    """What happened since the start, for metrics. All but `applied` and `stops` count what was dropped or refused, by reason."""

    applied: int = 0
    late: int = 0
    order: int = 0
    lease: int = 0
    disarmed: int = 0
    picture: int = 0
    latched: int = 0
    fault: int = 0
    invalid: int = 0
    refused: int = 0
    stops: Counter[str] = field(default_factory=Counter)


class Arbiter:
    """All groups of one agent, without IO: `handle(event, now)` gives the effects to carry out, in order.

    `now` is the monotonic clock, in seconds, that the keeper reads as well. Call `handle(TimePassed(), now)` when `next_deadline()`
    is over. What has expired by `now` is stopped before the event is looked at.
    """

    def __init__(self, config: ArbiterConfig) -> None:
        self._config = config
        self._viewers: dict[str, ArbiterViewer] = {}
        self._devices = {device.name: device for device in config.devices}
        self._groups: dict[str, ArbiterGroup] = {}
        self._keeper = False
        self._power: dict[str, str] = {}
        self._stopped_by: ArbiterViewer | None = None
        self._ended = ""
        self._last_lease = 0
        self.counters = ArbiterCounters()
        for device in config.devices:
            if device.moves:
                group = self._groups.setdefault(device.group, ArbiterGroup(device.group, "", {}, {}))
                group.axes[device.name] = {axis.name: axis for axis in device.axes}
                group.faults[device.name] = _fault(device, device.text)
        for group in self._groups.values():
            only = self._devices[group.devices[0]].title if len(group.axes) == 1 else ""
            group.title = config.titles.get(group.name) or only or group.name

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(self._groups)

    @property
    def latched(self) -> bool:
        """Whether an emergency stop waits for its reset."""
        return self._stopped_by is not None

    def holder(self, group: str) -> tuple[str, int] | None:
        """Who has the lease of the group, and its number."""
        g = self._groups[group]
        return (g.holder.name, g.lease) if g.holder else None

    def drives(self, viewer: str) -> bool:
        """Whether this viewer has a lease, or waits for one."""
        return any(v.name == viewer for g in self._groups.values() for v in (*g.queue, *([g.holder] if g.holder else ())))

    def view(self, group: str, viewer: str) -> c.Group:
        """How the group stands, as this viewer is told."""
        g = self._groups[group]
        state, why, text = self._state(g)
        holder = g.holder
        if state in ("free", "disarmed", "armed") and viewer in g.lost and (holder is None or holder.name != viewer):
            why, text = g.lost[viewer]
        by = self._stopped_by
        if by is not None and by.name == viewer:
            text = f"You pressed stop. Nothing moves until {'you release it' if by.may('operate') else 'an operator releases it'}."
        return c.Group(
            group=g.name,
            title=g.title,
            holder=holder.name if holder else None,
            holder_name=holder.principal.name if holder else "",
            lease=g.lease if holder is not None and holder.name == viewer else None,
            state=state,
            why=why,
            text=text,
            stopped_by=by.name if by is not None else None,
            queue=[c.Waiting(viewer=waiting.name, name=waiting.principal.name) for waiting in g.queue],
            expiry_ms=round(self._config.expiry_s * 1000),
            max_age_ms=round(self._config.max_picture_age_s * 1000),
        )

    def next_deadline(self) -> float | None:
        """When `TimePassed` is due; None for never."""
        deadlines = [g.until for g in self._groups.values() if g.may_move]
        deadlines += [g.heard + self._config.lease_idle_s for g in self._groups.values() if g.holder]
        return min(deadlines, default=None)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; never raises, whatever the order of events and times."""
        out: list[Effect] = []
        self._expire(now, out)
        match event:
            case e.SetPointReceived(viewer, message, captured_at):
                if v := self._viewers.get(viewer):
                    self._set_point(v, message, captured_at, now, out)
            case e.Asked(viewer, message):
                if v := self._viewers.get(viewer):
                    try:
                        out.append(e.Answer(viewer, c.Result(id=message.id, value=self._asked(v, message, now, out))))
                    except _CallInstead:
                        pass
                    except PeerError as error:
                        self.counters.refused += 1
                        out.append(e.Answer(viewer, c.Refused(id=message.id, code=error.code, message=error.message)))
            case e.ViewerCame(viewer, channels):
                silence_s = max(1.0, 1.5 * self._config.expiry_s)
                self._viewers.setdefault(viewer, ArbiterViewer(viewer, Lateness(silence_s=silence_s), channels))
            case e.SignedIn(viewer, principal):
                if v := self._viewers.get(viewer):
                    self._signed_in(v, principal, now, out)
            case e.ViewerGone(viewer):
                if v := self._viewers.pop(viewer, None):
                    self._gone(v, "connection", f"The connection of {v.called} has ended.", now, out)
                    for g in self._groups.values():
                        g.lost.pop(viewer, None)
            case e.DeviceChanged() | e.KeeperChanged() | e.PowerChanged():
                self._health(event, out)
            case e.KeeperStopped(device, why, at):
                for g in self._groups.values():
                    # What it reports of the time before the group was armed is over: everything has been set anew since.
                    if device in g.axes and g.may_move and at >= g.armed_at:
                        self._halt(
                            g, "silence" if why in ("expired", "silence") else "device", _stopped(self._devices[device]), out
                        )
            case e.AgentStopping(reason):
                self._ended = reason
                self._stop(None, "lease", out)
                for g in self._groups.values():
                    g.queue.clear()
                    self._free(g, "lease", reason, out)
            case e.TimePassed():
                pass
        return out

    # Set-points

    def _set_point(self, v: ArbiterViewer, m: c.SetPoint, captured_at: float | None, now: float, out: list[Effect]) -> None:
        g = self._groups.get(m.group)
        try:
            if g is None:
                raise PeerError(404, f"There is no group {m.group} here.")
            g.check(m.values)
        except PeerError as error:
            self.counters.invalid += 1
            out.append(e.Complain(v.name, c.Refused(code=error.code, message=error.message)))
            return
        late, age = 0.0, None
        if g.holder is not v or g.lease != m.lease:
            why = "lease"
        elif m.seq <= g.seq:
            why = "order"
        else:
            g.seq, g.heard = m.seq, now
            late = v.lateness.take(m.at / 1000, now)
            age = now - captured_at if captured_at is not None and captured_at <= now else None
            why = self._judge(g, v, m, late, age, now, out)
        if why:
            setattr(self.counters, why, getattr(self.counters, why) + 1)
        out.append(
            e.Acknowledge(
                v.name,
                c.Ack(
                    group=g.name,
                    lease=m.lease,
                    seq=m.seq,
                    at=m.at,
                    taken=not why,
                    why=why,
                    late_ms=round(late * 1000, 1),
                    age_ms=None if age is None else round(age * 1000, 1),
                ),
            )
        )

    def _judge(
        self, g: ArbiterGroup, v: ArbiterViewer, m: c.SetPoint, late: float, age: float | None, now: float, out: list[Effect]
    ) -> str:
        """Apply a set-point of the holder, or the word why not."""
        config = self._config
        if late >= config.expiry_s:
            return "late"
        if self.latched:
            return "latched"
        if self._trouble(g):
            return "fault"
        if config.max_picture_age_s > 0 and not (
            age <= config.max_picture_age_s if age is not None else now - g.since < config.picture_grace_s
        ):
            text = "The operator sees no picture."
            if age is not None:
                text = f"The operator's picture is over {config.max_picture_age_s:g} s old."
            if g.may_move or g.why != "picture":
                self._halt(g, "picture", text, out)
            return "picture"
        until = now + config.expiry_s - late
        if g.armed:
            values = g.whole(m.values)
        else:
            if g.commanded:
                g.until = until
            if not v.lateness.settled or not g.at_neutral(m.values, config.neutral_band):
                return "disarmed"
            g.armed, g.armed_at, g.why, g.text = True, now, "", ""
            out.append(e.GroupChanged(g.name))
            values = g.whole(m.values, neutral=True)
        g.until = until
        self.counters.applied += 1
        out.append(e.Apply(g.name, values, until))
        return ""

    # Requests

    def _asked(
        self, v: ArbiterViewer, m: c.Lease | c.Halt | c.Stop | c.Reset | c.Command, now: float, out: list[Effect]
    ) -> str | None:
        if isinstance(m, c.Stop):
            first = not self.latched
            self._stopped_by = self._stopped_by or v
            self._stop(None, "stop", out)
            for g in self._groups.values():
                g.disarm()
                if first:
                    out.append(e.GroupChanged(g.name))
            return None
        if self._ended:
            raise PeerError(503, self._ended)
        if isinstance(m, c.Reset):
            self._require_operate(v)
            if self.latched:
                self._stopped_by = None
                for g in self._groups.values():
                    g.why = g.text = ""
                    out.append(e.GroupChanged(g.name))
            return None
        if isinstance(m, c.Command):
            self._command(v, m, now, out)
            raise _CallInstead
        g_ = self._groups.get(m.group)
        if g_ is None:
            raise PeerError(404, f"There is no group {m.group} here.")
        if isinstance(m, c.Halt):
            if g_.holder is not v:
                raise PeerError(409, "You do not operate this.")
            self._halt(g_, m.why, _HALTS[m.why], out)
            return None
        return self._lease(g_, v, m, now, out)

    def _lease(self, g: ArbiterGroup, v: ArbiterViewer, m: c.Lease, now: float, out: list[Effect]) -> str | None:
        holder = g.holder
        if m.do == "cancel":
            if v in g.queue:
                g.queue.remove(v)
                out.append(e.GroupChanged(g.name))
            return None
        if m.do in ("release", "hand"):
            if holder is not v:
                raise PeerError(409, "You do not operate this.")
            if m.do == "release":
                self._pass_on(g, "", "", now, out)
                return None
            to = next((waiting for waiting in g.queue if waiting.name == m.to), None)
            if to is None:
                raise PeerError(404, "Hand over to somebody who waits in the queue.")
            g.lost[v.name] = ("lease", f"You have handed over to {to.called}.")
            self._grant(g, to, "lease", f"{v.called} has handed over to {to.called}.", now, out)
            return None
        self._require_operate(v)
        if holder is v:
            return "yours"
        if holder is None:
            self._grant(g, v, "", "", now, out)
            return "yours"
        if m.do == "take":
            if not v.may("admin") and now - g.heard < self._config.silent_holder_s:
                raise PeerError(409, f"{holder.called} operates this; wait in the queue, or ask for it to be handed over.")
            text = f"{v.called} has taken over from {holder.called}."
            g.lost[holder.name] = ("taken", text)
            self._grant(g, v, "taken", text, now, out)
            return "yours"
        if v not in g.queue:
            if len(g.queue) >= self._config.max_queue:
                raise PeerError(503, "Too many wait already; try again later.")
            g.queue.append(v)
            g.lost.pop(v.name, None)
            out.append(e.GroupChanged(g.name))
        return "waiting"

    def _command(self, v: ArbiterViewer, m: c.Command, now: float, out: list[Effect]) -> None:
        device = self._devices.get(m.device)
        if device is None:
            raise PeerError(404, f"There is no device {m.device} here.")
        self._require_operate(v)
        still = (m.device, m.command) in self._config.still
        if device.moves and still:
            holder = self._groups[device.group].holder
            if holder is not None and holder is not v:
                raise PeerError(409, f"{holder.called} drives {device.title or device.name} at the moment.")
        elif device.moves:
            g = self._groups[device.group]
            if g.holder is not v:
                raise PeerError(409, f"{device.title or device.name} moves: take the wheel of {g.title} first.")
            if self.latched:
                raise PeerError(409, self._state(g)[2])
            if trouble := self._trouble(g):
                raise PeerError(503, trouble[1])
            if v.channels and not g.armed and any(g.axes.values()):  # armed means a fresh picture, too
                text = f"{device.title or device.name} moves, and is not armed: let go of everything first."
                raise PeerError(409, f"{text} {g.text}".rstrip())
            g.heard = now
            if not g.armed:
                g.commanded, g.until = True, now + self._config.expiry_s
        out.append(e.Call(v.name, m.id, m.device, m.command, m.args))

    def _require_operate(self, v: ArbiterViewer) -> None:
        if not v.may("operate"):
            raise PeerError(403, "You may watch and stop; sign in as an operator to do more.")

    def _signed_in(self, v: ArbiterViewer, principal: Principal, now: float, out: list[Effect]) -> None:
        v.principal = principal
        if not v.may("operate"):
            self._gone(v, "lease", f"{v.called} may no longer operate.", now, out)
        out.extend(e.GroupChanged(g.name) for g in self._groups.values() if v in (g.holder, self._stopped_by, *g.queue))

    # Leases

    def _grant(self, g: ArbiterGroup, v: ArbiterViewer, why: str, text: str, now: float, out: list[Effect]) -> None:
        self._stop(g.devices, why or "lease", out)
        g.disarm()
        self._last_lease += 1
        g.holder, g.lease, g.seq, g.since, g.heard = v, self._last_lease, -1, now, now
        if v in g.queue:
            g.queue.remove(v)
        g.lost.pop(v.name, None)
        g.why, g.text = why, text
        out.append(e.GroupChanged(g.name))

    def _free(self, g: ArbiterGroup, why: str, text: str, out: list[Effect]) -> None:
        self._stop(g.devices, why or "lease", out)
        g.disarm()
        g.holder = None
        g.why, g.text = (why, text) if text else ("", "")
        out.append(e.GroupChanged(g.name))

    def _pass_on(self, g: ArbiterGroup, why: str, text: str, now: float, out: list[Effect]) -> None:
        """The lease ends: the first who waits has it next."""
        if g.queue:
            self._grant(g, g.queue[0], why, text, now, out)
        else:
            self._free(g, why, "", out)  # who comes to a free wheel does not ask why

    def _gone(self, v: ArbiterViewer, why: str, text: str, now: float, out: list[Effect]) -> None:
        for g in self._groups.values():
            if v in g.queue:
                g.queue.remove(v)
                out.append(e.GroupChanged(g.name))
            if g.holder is v:
                g.lost[v.name] = (why, text)
                self._pass_on(g, why, text, now, out)

    # Stops

    def _stop(self, devices: tuple[str, ...] | None, why: str, out: list[Effect]) -> None:
        self.counters.stops[why] += 1
        out.append(e.StopMoving(devices, why))

    def _halt(self, g: ArbiterGroup, why: str, text: str, out: list[Effect]) -> None:
        """Stand still, and move again only after a neutral set-point."""
        self._stop(g.devices, why, out)
        g.disarm()
        g.why, g.text = why, text
        out.append(e.GroupChanged(g.name))

    def _expire(self, now: float, out: list[Effect]) -> None:
        for g in self._groups.values():
            if g.may_move and g.until <= now:
                who = g.holder.called if g.holder else "the operator"
                self._halt(g, "silence", f"Nothing has come from {who} for {self._config.expiry_s:g} s.", out)
            if g.holder and g.heard + self._config.lease_idle_s <= now:  # rounded as `next_deadline` is
                text = f"{g.holder.called} has sent nothing for {self._config.lease_idle_s:g} s."
                g.lost[g.holder.name] = ("lease", text)
                self._pass_on(g, "lease", text, now, out)

    # Health

    def _health(self, event: e.DeviceChanged | e.KeeperChanged | e.PowerChanged, out: list[Effect]) -> None:
        before = {g.name: self._trouble(g) for g in self._groups.values()}
        match event:
            case e.DeviceChanged(name, phase, text):
                device = self._devices.get(name)
                if device is None or not device.moves:
                    return
                faults = self._groups[device.group].faults
                if phase == "live":
                    faults.pop(name, None)
                else:
                    faults[name] = _fault(device, text)
            case e.KeeperChanged(alive):
                self._keeper = alive
            case e.PowerChanged(source, text):
                if text:
                    self._power[source] = text
                else:
                    self._power.pop(source, None)
        for g in self._groups.values():
            trouble = self._trouble(g)
            if trouble == before[g.name]:
                continue
            if trouble:
                self._halt(g, *trouble, out)
            else:
                g.why = g.text = ""
                out.append(e.GroupChanged(g.name))

    def _trouble(self, g: ArbiterGroup) -> tuple[str, str] | None:
        """What is in the way of moving this group, besides an emergency stop: one word and one sentence."""
        if self._ended:
            return ("lease", self._ended)
        if not self._keeper:
            return ("keeper", _KEEPER)
        for text in g.faults.values():
            return ("device", text)
        for text in self._power.values():
            return ("battery", text)
        return None

    def _state(self, g: ArbiterGroup) -> tuple[Literal["free", "disarmed", "armed", "stopped", "fault"], str, str]:
        if self.latched:
            who = self._stopped_by.called if self._stopped_by else "Somebody"
            return "stopped", "stop", f"{who} has pressed the emergency stop; an operator must reset it."
        if trouble := self._trouble(g):
            return "fault", *trouble
        return "free" if g.holder is None else "armed" if g.armed else "disarmed", g.why, g.text


class _CallInstead(Exception):
    """The answer comes when the command has been carried out."""


def _fault(device: c.DeviceInfo, text: str) -> str:
    return text or f"{device.title or device.name} is not ready yet."


def _stopped(device: c.DeviceInfo) -> str:
    return f"{device.title or device.name} was stopped, since nothing came in time."
