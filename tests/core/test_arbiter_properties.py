"""Whatever happens: one operator, nothing moves without a lease, after its expiry, before neutral; every silence ends in a stop."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgeagent.core import arbiter_events as e
from edgeagent.core.arbiter import Arbiter
from edgeagent.core.principals import principal_of
from edgeagent.wire import control as c
from tests.support.control import ARM, BATTERY, LAMP, ROVER, TILT, keep_live

EXPIRY_S, MAX_AGE_S, GRACE_S, IDLE_S = 0.3, 1.0, 1.0, 10.0
MOVING = {d.name: d for d in (ROVER, ARM, TILT)}
AXES = {(d.name, axis.name): axis for d in MOVING.values() for axis in d.axes}
GROUPS = {"drive": ("rover", "arm"), "head": ("tilt",)}
NEUTRAL: dict[str, dict[str, dict[str, float]]] = {
    "drive": {"rover": {"throttle": 0, "steer": 0}, "arm": {"lift": 0}},
    "head": {"tilt": {"pan": 0}},
}
DRIVING: dict[str, dict[str, dict[str, float]]] = {
    "drive": {"rover": {"throttle": 1, "steer": -0.5}},
    "head": {"tilt": {"pan": 45}},
}
RESTING: dict[str, dict[str, dict[str, float]]] = {"drive": {"rover": {"throttle": 0.04}, "arm": {"grip": -1}}, "head": {}}
WRONG: list[dict[str, dict[str, float]]] = [
    {"rover": {"throttle": 1.001}},
    {"rover": {"throttle": float("nan")}},
    {"rover": {"brake": 0}},
    {"lamp": {"on": 1}},
    {"arm": {"lift": -1}},
]

viewers = st.sampled_from(["v1", "v2", "v3"])
groups = st.sampled_from(list(GROUPS))
delays = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.05, 0.2, 0.29, 0.31, 1.5])
roles = st.sampled_from(["watch", "operate", "operate", "admin"])


class Control(RuleBasedStateMachine):
    """The model: what the test itself knows to have happened, from events and effects alone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        config = e.ArbiterConfig(
            devices=(ROVER, ARM, TILT, LAMP, BATTERY),
            still=frozenset({("rover", "charge")}),
            expiry_s=EXPIRY_S,
            max_picture_age_s=MAX_AGE_S,
            max_queue=2,
        )
        self.arbiter = Arbiter(config)
        keep_live(self.arbiter, config, self.now)
        self.here: dict[str, str] = {}  # viewers with their roles
        self.latched = self.ended = False
        self.stopped_by: str | None = None
        self.trouble: set[str] = set()
        self.moving: dict[str, tuple[float, int]] = {}  # by group: until when, under which lease
        self.primed: set[str] = set()  # groups that had a neutral set-point since they last stood still
        self.seqs: dict[int, int] = {}
        self.sent: dict[str, int] = {"v1": 0, "v2": 0, "v3": 0}
        self.taken: dict[str, list[tuple[float, float]]] = {}  # by viewer: arrival and delay of what counts
        self.granted: dict[int, float] = {}
        self.leases = {"drive": 0, "head": 0}
        self.id = 0

    @initialize()
    def begin(self) -> None:
        for viewer, role in (("v1", "operate"), ("v2", "admin")):
            self.come(viewer)
            self.sign_in(viewer, role)

    def barred(self, group: str) -> bool:
        return self.latched or self.ended or bool(self.trouble & {"keeper", "battery", *GROUPS[group]})

    # Feeding

    def handle(self, event: e.Event, delay: float = 0.0) -> list[e.Effect]:
        effects = self.arbiter.handle(event, self.now)
        for effect in effects:
            match effect:
                case e.StopMoving(devices):
                    for group, members in GROUPS.items():
                        if devices is None or set(members) <= set(devices):
                            self.moving.pop(group, None)
                            self.primed.discard(group)
                case e.Apply():
                    assert isinstance(event, e.SetPointReceived)
                    self.applied(effect, event, delay)
        for group in GROUPS:
            _, lease = self.arbiter.holder(group) or ("", self.leases[group])
            if lease != self.leases[group]:
                assert lease > max(self.granted, default=0), "no number is given twice"
                self.granted[lease] = self.now
                self.leases[group] = lease
                assert group not in self.moving and group not in self.primed, "it stands still when the lease changes"
        return effects

    def applied(self, effect: e.Apply, event: e.SetPointReceived, delay: float) -> None:
        group, m = effect.group, event.message
        assert group == m.group
        assert self.arbiter.holder(group) == (event.viewer, m.lease), "only the holder moves it"
        assert self.here[event.viewer] != "watch"
        assert not self.barred(group)
        assert m.seq > self.seqs.get(m.lease, -1), "in order, each once"
        known = [d for at, d in self.taken.get(event.viewer, []) if at > self.now - 29]
        late = delay - min([*known, delay])
        assert self.now < effect.until <= self.now + EXPIRY_S - late + 1e-6
        if event.captured_at is None or event.captured_at > self.now:  # unknown
            assert self.now - self.granted[m.lease] < GRACE_S
        else:
            assert self.now - event.captured_at <= MAX_AGE_S
        for device, values in effect.values.items():
            assert device in GROUPS[group]
            for name, value in values.items():
                axis = AXES[device, name]
                assert axis.minimum <= value <= axis.maximum
                if group not in self.primed:
                    assert value == axis.neutral, "neutral comes first"
        for device in GROUPS[group]:
            assert {a.name for a in MOVING[device].axes if not a.position} <= effect.values.get(device, {}).keys()
        self.primed.add(group)
        self.moving[group] = (effect.until, m.lease)

    def ask(self, viewer: str, message: Any) -> bool:
        """Whether it was granted."""
        effects = self.handle(e.Asked(viewer, message))
        answers = [effect for effect in effects if isinstance(effect, e.Answer | e.Call)]
        if viewer not in self.here:
            assert not effects or not answers
            return False
        assert len(answers) == 1, "each request has one answer"
        assert answers[0].viewer == viewer
        return isinstance(answers[0], e.Call) or isinstance(answers[0].message, c.Result)

    def next_id(self) -> int:
        self.id += 1
        return self.id

    def set_point(
        self, viewer: str, group: str, values: Any, *, delay: float = 0.0, age: float | None = 0.1, lease: int = 0, seq: int = 1
    ) -> c.Ack | None:
        _, number = self.arbiter.holder(group) or ("", 1)
        lease = lease or number
        self.sent[viewer] += seq
        offset = {"v1": 0.0, "v2": 1e6, "v3": -5e4}[viewer]
        message = c.SetPoint.model_construct(
            t="set", group=group, lease=lease, seq=max(0, self.sent[viewer]), at=(self.now - delay + offset) * 1000, values=values
        )
        seen = None if age is None else self.now - age
        heard = self.taken.get(viewer)
        fresh = heard is not None and self.now - heard[-1][0] > 1.0
        effects = self.handle(e.SetPointReceived(viewer, message, seen), delay)
        acks = [effect.ack for effect in effects if isinstance(effect, e.Acknowledge)]
        if not acks:
            return None
        ack = acks[0]
        if ack.why not in ("lease", "order"):
            if fresh:
                self.taken[viewer] = []
            self.taken.setdefault(viewer, []).append((self.now, delay))
            self.seqs[lease] = max(self.seqs.get(lease, -1), message.seq)
        assert ack.taken == any(isinstance(effect, e.Apply) for effect in effects)
        return ack

    # What happens

    @rule(viewer=viewers)
    def come(self, viewer: str) -> None:
        self.handle(e.ViewerCame(viewer))
        if viewer not in self.here:
            self.taken.pop(viewer, None)
        self.here.setdefault(viewer, "watch")

    @rule(viewer=viewers, role=roles)
    def sign_in(self, viewer: str, role: str) -> None:
        if viewer in self.here:
            self.here[viewer] = role
        self.handle(e.SignedIn(viewer, principal_of(f"{role} {viewer}", role)))

    @rule(viewer=viewers)
    def go(self, viewer: str) -> None:
        self.here.pop(viewer, None)
        self.handle(e.ViewerGone(viewer))

    @rule(viewer=viewers, group=groups, do=st.sampled_from(["request", "request", "take", "release", "cancel", "hand"]), to=viewers)
    def lease(self, viewer: str, group: str, do: Any, to: str) -> None:
        before, since = self.arbiter.view(group, viewer), self.granted.get(self.leases[group], 0.0)
        granted = self.ask(viewer, c.Lease(id=self.next_id(), group=group, do=do, to=to))
        if granted and do in ("request", "take"):
            assert self.here[viewer] != "watch"
        if granted and do == "take" and before.holder not in (None, viewer) and self.here[viewer] != "admin":
            heard = max((at for at, _ in self.taken.get(before.holder or "", [])), default=0.0)
            assert self.now - max(heard, since) >= 3.0, "only a silent holder is overtaken"

    @rule(viewer=viewers, group=groups, delay=delays, age=st.sampled_from([0.0, 0.2, 0.99, 1.01, None, -5.0]), steady=st.booleans())
    def one_set_point(self, viewer: str, group: str, delay: float, age: float | None, steady: bool) -> None:
        self.set_point(viewer, group, (NEUTRAL if steady else DRIVING)[group], delay=delay, age=age)

    @rule(viewer=viewers, group=groups, lease=st.integers(1, 6), seq=st.integers(-3, 3), steady=st.booleans())
    def forged(self, viewer: str, group: str, lease: int, seq: int, steady: bool) -> None:
        self.set_point(viewer, group, (NEUTRAL if steady else DRIVING)[group], lease=lease, seq=seq)
        self.sent[viewer] += max(0, -seq)

    @rule(viewer=viewers, group=groups, values=st.sampled_from(WRONG))
    def wrong(self, viewer: str, group: str, values: Any) -> None:
        assert self.set_point(viewer, group, values) is None

    @rule(
        viewer=viewers,
        group=groups,
        resting=st.sampled_from([NEUTRAL, NEUTRAL, RESTING]),
        by=st.sampled_from(["request", "take"]),
        then=st.lists(st.tuples(delays, st.sampled_from([0.1, 0.1, 1.5, None]), st.sampled_from([1, 1, 1, 0, -2])), max_size=8),
    )
    def drive(self, viewer: str, group: str, resting: Any, by: Any, then: list[tuple[float, float | None, int]]) -> None:
        """What a page does: asks for the lease, keeps the sticks at rest, moves them; and then what the network makes of it."""
        self.lease(viewer, group, by, viewer)
        for _ in range(8):
            self.pass_time(0.05)
            ack = self.set_point(viewer, group, resting[group])
        mine = viewer in self.here and self.arbiter.view(group, viewer).holder == viewer
        if viewer in self.here:
            assert ack is not None
            assert ack.taken == (mine and not self.barred(group)), "who may drive, drives"
        for delay, age, seq in then:
            self.pass_time(0.05)
            self.set_point(viewer, group, DRIVING[group], delay=delay, age=age, seq=seq)
            self.sent[viewer] += max(0, -seq)

    @rule(group=groups)
    def crowd(self, group: str) -> None:
        """Everybody wants it; then the first lets go."""
        for viewer in ("v1", "v2", "v3", "v2"):
            self.lease(viewer, group, "request", viewer)
        if holder := self.arbiter.holder(group):
            queue = self.arbiter.view(group, "v1").queue
            self.lease(holder[0], group, "release", holder[0])
            now = self.arbiter.holder(group)
            assert (now[0] if now else None) == (queue[0].viewer if queue else None), "the first who waits is next"

    @rule(viewer=viewers, group=groups, why=st.sampled_from(["hidden", "gamepad", "picture", "person"]))
    def halt(self, viewer: str, group: str, why: Any) -> None:
        mine = viewer in self.here and self.arbiter.view(group, viewer).holder == viewer
        if self.ask(viewer, c.Halt(id=self.next_id(), group=group, why=why)):
            assert mine
            assert group not in self.moving

    @rule(viewer=viewers)
    def stop(self, viewer: str) -> None:
        if self.ask(viewer, c.Stop(id=self.next_id())):
            self.latched, self.stopped_by = True, self.stopped_by or viewer
        assert (viewer in self.here) <= self.latched, "anyone may stop"

    @rule(viewer=viewers)
    def reset(self, viewer: str) -> None:
        if self.ask(viewer, c.Reset(id=self.next_id())):
            assert self.here[viewer] != "watch"
            self.latched, self.stopped_by = False, None

    @rule(viewer=viewers)
    def command_that_moves_nothing(self, viewer: str) -> None:
        holder = self.arbiter.holder("drive")
        free = self.here.get(viewer, "watch") != "watch" and not self.ended and (holder is None or holder[0] == viewer)
        moving = dict(self.moving)
        assert self.ask(viewer, c.Command(id=self.next_id(), device="rover", command="charge", args={})) == free
        assert self.moving == moving

    @rule(viewer=viewers, device=st.sampled_from(["rover", "tilt", "lamp", "ghost"]))
    def command(self, viewer: str, device: str) -> None:
        group = MOVING[device].group if device in MOVING else ""
        armed = bool(group) and self.arbiter.view(group, viewer).state == "armed"
        if self.ask(viewer, c.Command(id=self.next_id(), device=device, command="horn", args={})):
            assert self.here[viewer] != "watch"
            if device in MOVING:
                assert armed, "with neutral and a fresh picture, as for set-points"
                assert self.arbiter.view(group, viewer).holder == viewer
                assert not self.barred(group)

    @rule(device=st.sampled_from(["rover", "arm"]), live=st.sampled_from([True, True, False]))
    def device(self, device: str, live: bool) -> None:
        self.handle(e.DeviceChanged(device, "live" if live else "retrying", "" if live else "It does not answer."))
        (self.trouble.discard if live else self.trouble.add)(device)

    @rule(alive=st.sampled_from([True, True, False]))
    def keeper(self, alive: bool) -> None:
        self.handle(e.KeeperChanged(alive))
        (self.trouble.discard if alive else self.trouble.add)("keeper")

    @rule(low=st.sampled_from([False, False, True]))
    def power(self, low: bool) -> None:
        self.handle(e.PowerChanged("battery.voltage", "Low." if low else ""))
        (self.trouble.add if low else self.trouble.discard)("battery")

    @rule(device=st.sampled_from(list(MOVING)), before_s=st.sampled_from([0.0, 0.1, 5.0]))
    def keeper_stopped(self, device: str, before_s: float) -> None:
        self.handle(e.KeeperStopped(device, "expired", self.now - before_s))
        if before_s == 0:
            assert MOVING[device].group not in self.moving

    @rule(by=st.sampled_from([0.0, 0.02, 0.1, 0.29, 0.31, 1.2, 3.5, 11.0]), on_time=st.booleans())
    def pass_time(self, by: float, on_time: bool = True) -> None:
        end = self.now + by
        while on_time and (due := self.arbiter.next_deadline()) is not None and due <= end:
            assert due > self.now - 1e-9, "what was due is done"
            self.now = max(self.now, due)
            self.handle(e.TimePassed())
            self.check()
        self.now = end
        self.handle(e.TimePassed())

    @rule(really=st.sampled_from([False] * 15 + [True]))
    def end(self, really: bool) -> None:
        if really:
            self.handle(e.AgentStopping("The agent is stopping."))
            self.ended = True

    @invariant()
    def check(self) -> None:
        holders = []
        for group in GROUPS:
            views = {viewer: self.arbiter.view(group, viewer) for viewer in ("v1", "v2", "v3")}
            holding = [name for name, view in views.items() if view.lease is not None]
            assert len(holding) <= 1, "at most one operator"
            view = views["v1"]
            assert holding == ([view.holder] if view.holder else [])
            if view.holder is not None:
                assert view.holder in self.here and self.here[view.holder] != "watch"
                holders.append(views[view.holder].lease)
            waiting = [w.viewer for w in view.queue]
            assert len(waiting) == len(set(waiting)) <= 2
            assert all(w in self.here and self.here[w] != "watch" and w != view.holder for w in waiting)
            if waiting:
                assert view.holder is not None, "nobody waits for what is free"
            assert (view.state == "stopped") == self.latched, "latched stays latched"
            assert view.stopped_by == self.stopped_by, "the first who pressed"
            if view.state == "armed":
                assert group in self.moving
            if group in self.moving:
                until, lease_ = self.moving[group]
                assert until > self.now, "every silence ends in a stop"
                assert view.holder is not None and lease_ == self.leases[group]
                assert not self.barred(group)
                due = self.arbiter.next_deadline()
                assert due is not None and due <= until
        assert len(holders) == len(set(holders))


TestControl = Control.TestCase
TestControl.settings = settings(max_examples=60, stateful_step_count=50)
