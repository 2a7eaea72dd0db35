"""The desk on a virtual clock, with a keeper and channels that only remember: two people, one rover."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from edgeagent.config import Drivers, load
from edgeagent.controls import Controls
from edgeagent.core.arbiter_events import ArbiterConfig
from edgeagent.core.principals import Principals
from edgeagent.desk import Desk
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.wire import control as c
from edgeagent.wire.codec import decode_control_agent, encode
from tests.support.control import BATTERY, LAMP, OPERATOR, OWNER, ROVER

DEVICES = (ROVER, LAMP, BATTERY)
TOKENS = {"the owner's token": OWNER, "the operator's token": OPERATOR}


class Keeper:
    """Remembers what moves: stopped, or the newest values with their end."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.values: Mapping[str, Mapping[str, float]] = {}
        self.until = 0.0
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answer: Any = None

    def set(self, values: Mapping[str, Mapping[str, float]], until: float) -> None:
        self.values, self.until = values, until
        self.log.append("set")

    def stop(self, devices: Sequence[str] | None = None) -> None:
        self.values = {}
        self.log.append("stop")

    @property
    def throttle(self) -> float:
        """What the rover does at this moment."""
        return self.values["rover"]["throttle"] if self.values and self.until > now() else 0.0

    async def command(self, device: str, command: str, args: Mapping[str, Any]) -> Any:
        self.calls.append((device, command, dict(args)))
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, asyncio.Event):
            await self.answer.wait()
            return None
        return self.answer


class Person:
    """A viewer with his page's three channels."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.heard: list[Any] = []
        self.bytes = {"control": 0, "events": 0, "telemetry": 0}
        self.room = True
        self.id = 0
        self.seq = 0
        self.lags_s = 0.0
        self.sees: int | None = 0  # age of his picture in ms
        for label in ("control", "events", "telemetry"):
            world.desk.opened(name, label)

    def ask(self, message_type: type[BaseModel], **fields: Any) -> Any:
        self.id += 1
        self.say("events", message_type(id=self.id, **fields))
        return self.answer(self.id)

    def answer(self, number: int) -> Any:
        return next((m for m in reversed(self.heard) if isinstance(m, c.Result | c.Refused) and m.id == number), None)

    def say(self, label: str, message: BaseModel) -> None:
        self.world.desk.message(self.name, label, encode(message))

    @property
    def group(self) -> c.Group:
        group = [m for m in self.heard if isinstance(m, c.Group)][-1]
        assert isinstance(group, c.Group)
        return group

    def set(self, throttle: float) -> c.Ack | None:
        self.seq += 1
        before = len(self.heard)
        lease = self.group.lease or 1
        self.say(
            "control",
            c.SetPoint(
                group="drive",
                lease=lease,
                seq=self.seq,
                at=(now() - self.lags_s) * 1000 + 77,
                rtp=self.sees,
                mid="0" if self.sees is not None else None,
                values={"rover": {"throttle": throttle}},
            ),
        )
        return next((m for m in self.heard[before:] if isinstance(m, c.Ack)), None)

    async def hold(self, throttle: float, seconds: float) -> c.Ack | None:
        ack = None
        for _ in range(round(seconds / 0.03)):
            await asyncio.sleep(0.03)
            ack = self.set(throttle)
        return ack

    async def drive(self) -> None:
        """Take the lease, let go, push forward."""
        assert self.ask(c.Lease, group="drive", do="request").value == "yours"
        await self.hold(0, 0.5)
        assert self.group.state == "armed"
        ack = await self.hold(0.6, 0.3)
        assert ack is not None and ack.taken
        assert self.world.keeper.throttle == 0.6


class World:
    def __init__(self, *, reads_s: Mapping[str, float] | None = None, **config: Any) -> None:
        self.devices = config.setdefault("devices", DEVICES)
        self.keeper, self.local = Keeper(), Keeper()
        self.people: dict[str, Person] = {}
        self.desk = Desk(
            ArbiterConfig(**config),
            channels=self,
            principals=Principals(TOKENS, bytes, local=OWNER),
            captured_at=lambda viewer, mid, rtp: now() - rtp / 1000,
            keeper=self.keeper,
            local=self.local,
            reads_s=reads_s,
            wall=lambda: 1_700_000_000.0 + now(),
        )

    def begin(self) -> None:
        """All is well."""
        self.desk.up(True)
        for info in self.devices:
            self.desk.device(info.name, "live", "")
        self.desk.readings({"battery": {"voltage": 12.0}}, now())

    def send_data(self, viewer: str, label: str, text: str) -> bool:
        person = self.people.get(viewer)
        if person is None or not person.room:
            return False
        assert len(text.encode()) <= c.MAX_CONTROL
        person.bytes[label] += len(text.encode())
        person.heard.append(decode_control_agent(text))
        return True

    def person(self, name: str, token: str | None = None) -> Person:
        new = Person.__new__(Person)
        self.people[name] = new
        new.__init__(self, name)  # type: ignore[misc]  # the desk speaks to him from the first moment on
        if token:
            assert isinstance(new.ask(c.SignIn, token=token), c.Result)
        return new

    def anna(self) -> Person:
        return self.person("v1", "the owner's token")

    def ben(self, name: str = "v2") -> Person:
        return self.person(name, "the operator's token")


def now() -> float:
    return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def world(**config: Any) -> AsyncIterator[World]:
    made = World(**config)
    made.begin()
    yield made
    await made.desk.close()


async def test_a_newcomer_learns_who_he_is_what_there_is_and_how_it_stands() -> None:
    async with world() as w:
        guest = w.person("v9")
        first, group = guest.heard[:2]
        assert isinstance(first, c.Devices)
        assert (first.you, first.rights, [d.name for d in first.devices]) == ("v9", ["watch"], ["rover", "lamp", "battery"])
        assert isinstance(group, c.Group)
        assert (group.state, group.title, group.expiry_ms, group.max_age_ms) == ("free", "Rover", 300, 1000)
        anna = w.anna()
        await asyncio.sleep(0.1)
        assert [m.rights for m in anna.heard if isinstance(m, c.Devices)][-1] == ["watch", "operate", "admin"]


async def test_driving_and_letting_go() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        await asyncio.sleep(0.29)
        assert w.keeper.log[-1] == "set"
        await asyncio.sleep(0.05)
        assert (w.keeper.log[-1], anna.group.state, anna.group.why) == ("stop", "disarmed", "silence")
        ack = anna.set(0.6)
        assert ack is not None and (ack.taken, ack.why) == (False, "disarmed")
        await anna.hold(0, 0.1)
        await anna.hold(0.3, 0.1)
        assert w.keeper.throttle == 0.3


async def test_the_queue_and_the_hand_over() -> None:
    async with world() as w:
        anna, ben = w.anna(), w.ben()
        await anna.drive()
        assert ben.ask(c.Lease, group="drive", do="request").value == "waiting"
        refused = ben.ask(c.Lease, group="drive", do="take")
        assert (refused.code, refused.message) == (409, "Anna operates this; wait in the queue, or ask for it to be handed over.")
        await anna.hold(0.6, 0.1)
        assert [waiting.name for waiting in anna.group.queue] == ["Ben"]
        assert anna.ask(c.Lease, group="drive", do="hand", to="v7").code == 404
        anna.ask(c.Lease, group="drive", do="hand", to="v2")
        assert w.keeper.log[-1] == "stop"
        await asyncio.sleep(0.06)
        assert (anna.group.lease, anna.group.why, anna.group.text) == (None, "lease", "You have handed over to Ben.")
        assert ben.group.lease is not None and ben.group.state == "disarmed"
        ack = anna.set(0.6)
        assert ack is not None and ack.why == "lease"
        assert w.keeper.throttle == 0
        await ben.hold(0, 0.5)
        await ben.hold(-0.2, 0.1)
        assert w.keeper.throttle == -0.2


async def test_two_of_one_name_are_told_apart() -> None:
    async with world() as w:
        ticket = w.desk.page_ticket(None, local=True)
        first, other, third = (w.person(name, ticket) for name in ("v1", "v2", "v3"))
        await asyncio.sleep(0.1)
        names = [[m.name for m in person.heard if isinstance(m, c.Devices)][-1] for person in (first, other, third)]
        assert names == ["Anna", "Anna (2)", "Anna (3)"]
        other.ask(c.Lease, group="drive", do="request")
        third.ask(c.Lease, group="drive", do="request")
        await asyncio.sleep(0.1)
        assert (first.group.holder_name, [waiting.name for waiting in first.group.queue]) == ("Anna (2)", ["Anna (3)"])
        other.ask(c.SignIn, token=ticket)  # again
        w.desk.closed("v1")
        again = w.person("v4", ticket)
        await asyncio.sleep(0.1)
        assert again.group.holder_name == "Anna (2)"
        assert [m.name for m in again.heard if isinstance(m, c.Devices)][-1] == "Anna"


async def test_a_take_over_in_the_middle_of_a_drive_stops_first_and_tells_both() -> None:
    async with world() as w:
        ben, anna = w.ben(), w.anna()
        await ben.drive()
        assert anna.ask(c.Lease, group="drive", do="take").value == "yours"
        assert w.keeper.log[-1] == "stop"
        ben.set(0.6)
        assert w.keeper.log[-1] == "stop"
        for person in (ben, anna):
            assert (person.group.why, person.group.text) == ("taken", "Anna has taken over from Ben.")
        ack = anna.set(0.5)
        assert ack is not None and ack.why == "disarmed"
        await anna.hold(0, 0.5)
        await anna.hold(0.5, 0.1)
        assert w.keeper.throttle == 0.5
        assert (ben.group.holder_name, ben.group.text) == ("Anna", "Anna has taken over from Ben."), "he still reads why"


async def test_an_operator_who_does_not_answer_may_be_overtaken_by_his_like() -> None:
    async with world() as w:
        ben, other = w.ben(), w.ben("v3")
        await ben.drive()
        await asyncio.sleep(3)
        assert other.ask(c.Lease, group="drive", do="take").value == "yours"


async def test_a_watcher_stops_it_and_it_stays_stopped_until_an_operator_resets() -> None:
    async with world() as w:
        anna, guest = w.anna(), w.person("v9")
        assert guest.ask(c.Lease, group="drive", do="request").code == 403
        await anna.drive()
        assert isinstance(guest.ask(c.Stop), c.Result)
        assert w.keeper.log[-1] == "stop"
        assert anna.group.state == "stopped" and anna.group.text.startswith("Somebody has pressed the emergency stop")
        ack = await anna.hold(0, 0.5)
        assert ack is not None and ack.why == "latched"
        assert guest.ask(c.Reset).message == "You may watch and stop; sign in as an operator to do more."
        assert anna.ask(c.Command, device="rover", command="horn").code == 409
        assert isinstance(anna.ask(c.Reset), c.Result)
        ack = await anna.hold(0.6, 0.2)
        assert ack is not None and ack.why == "disarmed", "neutral first"
        await anna.hold(0, 0.1)
        await anna.hold(0.6, 0.1)
        assert w.keeper.throttle == 0.6


@pytest.mark.parametrize("why", ["hidden", "gamepad", "picture", "person"])
async def test_the_page_halts(why: str) -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        assert isinstance(anna.ask(c.Halt, group="drive", why=why), c.Result)
        assert (w.keeper.log[-1], anna.group.state, anna.group.why) == ("stop", "disarmed", why)
        assert anna.group.text.endswith(".")


async def test_a_picture_that_is_too_old_or_missing_stops() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        await asyncio.sleep(0)
        for sees in (1_200, None):
            await anna.hold(0.5, 0.8)
            anna.sees = sees
            ack = anna.set(0.5)
            assert ack is not None and (ack.taken, ack.why) == (False, "picture")
            assert (w.keeper.log[-1], w.keeper.throttle) == ("stop", 0)
            await asyncio.sleep(0.06)
            assert (anna.group.state, anna.group.why) == ("disarmed", "picture")
            anna.sees = 40
            ack = anna.set(0)
            assert ack is not None and ack.taken and ack.age_ms == pytest.approx(40)


async def test_whoever_waits_for_his_first_picture_keeps_the_lease_and_moves_nothing() -> None:
    async with world() as w:
        anna, ben = w.anna(), w.ben()
        anna.ask(c.Lease, group="drive", do="request")
        await asyncio.sleep(0.1)
        lease = anna.group.lease
        assert lease is not None
        for seq in range(8):
            await asyncio.sleep(2.5)
            anna.say("control", c.SetPoint(group="drive", lease=lease, seq=seq, at=now() * 1000, values={}))
        await asyncio.sleep(0.1)
        assert (anna.group.lease, anna.group.state, anna.group.why) == (lease, "disarmed", "picture")
        assert ben.ask(c.Lease, group="drive", do="take").code == 409
        assert "set" not in w.keeper.log
        await asyncio.sleep(10)
        assert (anna.group.lease, anna.group.state) == (None, "free")


async def test_what_comes_late_is_not_applied_and_shortens_what_is() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        anna.lags_s = 0.1
        ack = anna.set(0.2)
        assert ack is not None and ack.taken and ack.late_ms == pytest.approx(100)
        assert w.keeper.until == pytest.approx(now() + 0.2)
        anna.lags_s = 0.31
        ack = anna.set(0.9)
        assert ack is not None and ack.why == "late"
        assert w.keeper.throttle == 0.2
        counts = w.desk.counts()
        assert (counts["late"], counts["stop_lease"], counts.get("stop_silence", 0)) == (1, 1, 0)
        assert all(type(count) is int for count in counts.values())


async def test_a_connection_that_ends_stops_and_the_next_in_the_queue_has_it() -> None:
    async with world() as w:
        anna, ben = w.anna(), w.ben()
        await anna.drive()
        assert [w.desk.drives(name) for name in ("v1", "v2", "nobody")] == [True, False, False]
        ben.ask(c.Lease, group="drive", do="request")
        assert w.desk.drives("v2"), "who waits for the wheel counts as well"
        w.desk.closed("v1")
        assert w.keeper.log[-1] == "stop"
        assert w.desk.counts()["stop_connection"] == 1
        assert not w.desk.drives("v1") and w.desk.drives("v2")
        await asyncio.sleep(0.06)
        assert ben.group.lease is not None
        assert (ben.group.why, ben.group.text) == ("connection", "The connection of Anna has ended.")


async def test_devices_keeper_and_battery_stop_it() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        troubles: list[tuple[Callable[[], None], Callable[[], None], str]] = [
            (lambda: w.desk.device("rover", "retrying", "It fell over."), lambda: w.desk.device("rover", "live", ""), "device"),
            (lambda: w.desk.up(False), lambda: w.desk.up(True), "keeper"),
            (
                lambda: w.desk.readings({"battery": {"voltage": 9.9}}, now()),
                lambda: w.desk.readings({"battery": {"voltage": 10.4}}, now()),
                "battery",
            ),
        ]
        for begin, end, why in troubles:
            begin()
            assert w.keeper.log[-1] == "stop"
            await asyncio.sleep(0.06)
            assert (anna.group.state, anna.group.why) == ("fault", why)
            ack = await anna.hold(0, 0.1)
            assert ack is not None and ack.why == "fault"
            end()
            await anna.hold(0, 0.1)
            assert anna.group.state == "armed"
            await anna.hold(0.6, 0.1)
        w.desk.stopped("rover", "expired", now())
        assert w.keeper.log[-1] == "stop"
        alarms = [m for m in anna.heard if isinstance(m, c.Alarm)]
        assert [(m.on, m.level) for m in alarms] == [(True, "danger"), (True, "warning")]
        assert alarms[0].text == "Voltage of Battery is 9.9 V, below 10.0 V; nothing may move."


async def test_the_owner_says_from_which_change_on_a_reading_is_told() -> None:
    config = load(
        """
        devices:
          air:
            driver: sim-sensor
            readings: [temperature, humidity]
            telemetry: {temperature: {dead_band: 0.7, min_interval_s: 2, max_interval_s: 60}}
        """,
        {},
        Drivers.installed(),
    )
    w = World()
    controls = Controls(config, w, lambda viewer, mid, rtp: None)
    desk = controls.desk
    (air,) = desk.devices
    assert {reading.name: reading.dead_band for reading in air.readings}["temperature"] == 0.7
    w.desk = desk
    anna = w.person("v1")
    desk.device("air", "live", "")
    told: dict[str, list[Any]] = {"temperature": [], "humidity": []}
    for second in range(10):
        desk.readings({"air": {"temperature": 20.0 + 0.4 * second, "humidity": 50.0 + 10 * (second % 2)}}, now())
        await asyncio.sleep(1)
    for message in anna.heard:
        if isinstance(message, c.ReadingsMessage):
            for name, value in message.values["air"].items():
                told[name].append(value)
    assert told["humidity"] == [50.0, 60.0] * 5
    assert told["temperature"] == pytest.approx([20.0, 20.8, 21.6, 22.4, 23.2])
    await desk.close()


async def test_a_battery_that_nobody_reads_stops_it() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        w.desk.device("battery", "retrying", "Look at its cable.")
        assert w.keeper.log[-1] == "stop"
        await asyncio.sleep(0.06)
        assert (anna.group.state, anna.group.why) == ("fault", "battery")
        assert anna.group.text == "Voltage of Battery is not known, since that does not work; nothing may move."
        w.desk.device("battery", "starting", "")
        ack = await anna.hold(0, 0.1)
        assert ack is not None and ack.why == "fault"
        w.desk.device("battery", "live", "")
        ack = await anna.hold(0, 0.1)
        assert ack is not None and ack.why == "fault"
        assert anna.group.text == "Voltage of Battery is not known yet; nothing may move."
        w.desk.readings({"battery": {"voltage": 12.0}}, now())
        await anna.hold(0, 0.1)
        assert anna.group.state == "armed"
        w.desk.readings({"battery": {"voltage": 9.9}}, now())
        w.desk.device("battery", "retrying", "Look at its cable.")
        w.desk.device("battery", "live", "")
        w.desk.readings({"battery": {"voltage": 9.9}}, now())
        await anna.hold(0, 0.1)
        assert anna.group.text == "Voltage of Battery is 9.9 V, below 10.0 V; nothing may move.", "as it was before"
        w.desk.device("lamp", "retrying", "Look at its cable.")
        w.desk.readings({"battery": {"voltage": 12.0}}, now())
        await anna.hold(0, 0.1)
        assert anna.group.state == "armed", "what nobody needs for driving may fail"


async def test_a_battery_that_is_read_no_more_stops_it() -> None:
    async with world(reads_s={"battery": 5.0}, expiry_s=2.0) as w:
        anna = w.anna()
        await anna.drive()

        async def on(seconds: int) -> None:
            for _ in range(seconds):
                await asyncio.sleep(1)
                anna.set(0.6)

        for _ in range(3):
            await on(10)
            w.desk.readings({"battery": {"voltage": 12.0}}, now())
        await asyncio.sleep(0.5)
        w.desk.readings({"battery": {}}, now())
        await on(14)
        assert (anna.group.state, w.keeper.throttle) == ("armed", 0.6)
        await on(1)
        assert w.keeper.throttle == 0
        assert (anna.group.state, anna.group.why) == ("fault", "battery")
        assert anna.group.text == "Voltage of Battery has not been read for 15 s; nothing may move."


async def test_the_battery_of_something_that_moves_stops_other_groups_too() -> None:
    cart = ROVER.model_copy(update={"name": "cart", "title": "Cart", "group": "cart", "readings": BATTERY.readings})
    async with world(devices=(ROVER, cart)) as w:
        w.desk.readings({"cart": {"voltage": 12.0}}, now())
        anna = w.anna()
        await anna.drive()
        w.desk.device("cart", "retrying", "Its cable is out.")
        await asyncio.sleep(0.06)
        groups = {m.group: m for m in anna.heard if isinstance(m, c.Group)}
        assert (groups["drive"].why, groups["cart"].why, groups["cart"].text) == ("battery", "device", "Its cable is out.")
        w.desk.device("cart", "live", "")
        assert (await anna.hold(0, 0.1)).why == "fault"  # type: ignore[union-attr]
        w.desk.readings({"cart": {"voltage": 12.0}}, now())
        await anna.hold(0, 0.1)
        assert {m.group: m.state for m in anna.heard if isinstance(m, c.Group)} == {"drive": "armed", "cart": "free"}


async def test_who_pressed_stop_is_told_so_and_the_first_is_named() -> None:
    async with world() as w:
        anna, ben, guest = w.anna(), w.ben(), w.person("v3")
        guest.ask(c.Stop)
        anna.ask(c.Stop)
        await asyncio.sleep(0.06)
        newcomer = w.person("v9")
        assert {who.group.stopped_by for who in (anna, ben, guest, newcomer)} == {"v3"}
        named = "Somebody has pressed the emergency stop; an operator must reset it."
        assert [who.group.text for who in (anna, ben, newcomer)] == [named] * 3
        assert guest.group.text == "You pressed stop. Nothing moves until an operator releases it."
        guest.ask(c.SignIn, token="the owner's token")
        await asyncio.sleep(0.06)
        assert guest.group.text == "You pressed stop. Nothing moves until you release it."
        ben.ask(c.Reset)
        await asyncio.sleep(0.06)
        assert (guest.group.text, guest.group.stopped_by) == ("", None)


async def test_a_command_that_moves_nothing_needs_no_wheel_and_no_battery_but_that_nobody_else_drives() -> None:
    async with world(still=frozenset({("rover", "charge")})) as w:
        anna, ben, guest = w.anna(), w.ben(), w.person("v3")
        w.desk.readings({"battery": {"voltage": 1.0}}, now())

        async def calls(who: Person) -> bool:
            before = len(w.keeper.calls)
            who.ask(c.Command, device="rover", command="charge")
            await asyncio.sleep(0.06)
            return len(w.keeper.calls) > before

        assert [await calls(who) for who in (anna, ben, guest)] == [True, True, False]
        await w.desk.command(OPERATOR, "rover", "charge", {})
        w.desk.readings({"battery": {"voltage": 12.0}}, now())
        await anna.drive()
        assert [await calls(who) for who in (anna, ben, guest)] == [True, False, False]
        assert ben.answer(ben.id).message == "Anna drives Rover at the moment."
        with pytest.raises(PeerError, match="Anna drives"):
            await w.desk.command(OPERATOR, "rover", "charge", {})
        guest.ask(c.Stop)
        assert await calls(anna), "though stopped"
        assert anna.ask(c.Command, device="rover", command="horn").code == 409
        assert w.keeper.throttle == 0


async def test_the_agent_that_ends_stops_and_says_so() -> None:
    w = World()
    w.begin()
    anna = w.anna()
    await anna.drive()
    await w.desk.close()
    assert w.keeper.log[-1] == "stop"
    assert (anna.group.holder, anna.group.text) == (None, "The agent is stopping.")
    anna.set(0.5)
    assert w.keeper.log[-1] == "stop"


async def test_commands_find_their_way_and_their_answer() -> None:
    async with world() as w:
        anna, guest = w.anna(), w.person("v9")
        assert guest.ask(c.Command, device="lamp", command="switch").code == 403
        assert anna.ask(c.Command, device="rover", command="horn").message == "Rover moves: take the wheel of Rover first."
        assert anna.ask(c.Command, device="ghost", command="horn").code == 404
        w.local.answer = {"on": True}
        anna.ask(c.Command, device="lamp", command="switch", args={"on": True})
        await asyncio.sleep(0)
        assert anna.answer(anna.id).value == {"on": True}
        assert w.local.calls == [("lamp", "switch", {"on": True})]
        for answer, code in (
            (PeerError(400, "No."), 400),
            (DeviceFault("It fell over."), 503),
            ("x" * 5000, 413),
            (object(), 500),
        ):
            w.local.answer = answer
            anna.ask(c.Command, device="lamp", command="switch")
            await asyncio.sleep(0)
            assert anna.answer(anna.id).code == code
        anna.ask(c.Lease, group="drive", do="request")
        assert "let go of everything first" in anna.ask(c.Command, device="rover", command="horn").message
        await anna.hold(0.6, 0.1)
        assert anna.ask(c.Command, device="rover", command="horn").code == 409, "the sticks were never at rest"
        await anna.hold(0, 0.5)
        anna.ask(c.Command, device="rover", command="horn")
        await asyncio.sleep(0)
        assert w.keeper.calls == [("rover", "horn", {})]
        await asyncio.sleep(0.35)
        assert w.keeper.log[-1] == "stop", "nothing followed it"
        w.local.answer = asyncio.Event()
        for _ in range(5):
            anna.ask(c.Command, device="lamp", command="switch")
        assert anna.answer(anna.id).code == 429
        await asyncio.sleep(31)
        assert anna.answer(anna.id - 1).code == 504


async def test_a_command_that_has_not_begun_does_not_follow_a_stop() -> None:
    """Both arrive in one packet: the stop is carried out at once, the command by a task of its own."""
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        anna.ask(c.Command, device="rover", command="horn")
        number = anna.id
        w.local.answer = "done"
        anna.ask(c.Command, device="lamp", command="switch")
        w.person("v9").ask(c.Stop)
        await asyncio.sleep(0.01)
        assert w.keeper.calls == []
        assert "stopped before" in anna.answer(number).message
        assert anna.answer(number + 1).value == "done", "a lamp is none of its business"


async def test_nonsense_and_floods_are_answered_or_dropped_and_move_nothing() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        stops, sets = w.keeper.log.count("stop"), w.keeper.log.count("set")
        for text in (
            "",
            "{}",
            "[]",
            "\ud800",
            b"\xff",
            "x" * 5000,
            '{"t":"set"}',
            '{"t":"stop"}',
            json.dumps({"t": "set", "group": 1}),
        ):
            w.desk.message("v1", "control", text)
        refused = [m for m in anna.heard if isinstance(m, c.Refused)]
        assert 1 <= len(refused) <= 6
        w.desk.message("v1", "events", '{"t":"lease","id":71,"group":"drive","do":"steal"}')
        assert anna.answer(71).code == 400
        w.desk.message("v1", "telemetry", "{}")
        w.desk.message("nobody", "control", "{}")
        assert w.desk.counts()["malformed"] == 11
        guest = w.person("v9")
        for _ in range(500):
            guest.say("events", c.Reset(id=1))
            guest.say("control", c.SetPoint(group="drive", lease=1, seq=1, at=0, values={"rover": {"throttle": 1}}))
        assert w.desk.counts()["flood"] > 900
        assert w.keeper.log.count("stop") == stops and w.keeper.log.count("set") == sets
        assert isinstance(guest.ask(c.Stop), c.Result), "even who sends too much may stop"
        assert w.keeper.log[-1] == "stop"


async def test_tokens_and_tickets() -> None:
    async with world() as w:
        guest = w.person("v9")
        assert guest.ask(c.SignIn, token="wrong").code == 401
        assert w.desk.page_ticket(None, local=False) is None
        ticket = w.desk.page_ticket(None, local=True)
        assert ticket is not None
        assert isinstance(guest.ask(c.SignIn, token=ticket), c.Result)
        await asyncio.sleep(0.06)
        assert [m.name for m in guest.heard if isinstance(m, c.Devices)][-1] == "Anna"


async def test_who_was_deaf_for_a_while_is_told_the_newest_state_and_not_all_between() -> None:
    async with world() as w:
        anna, guest = w.anna(), w.person("v9")
        await asyncio.sleep(0.1)
        guest.room, heard = False, len(guest.heard)
        await anna.drive()
        for n in range(40):
            w.desk.readings({"rover": {"speed": float(n)}}, now())
            await asyncio.sleep(0.1)
        w.desk.device("lamp", "retrying", "It burnt out.")
        guest.room = True
        await asyncio.sleep(0.2)
        fresh = guest.heard[heard:]
        assert [m.state for m in fresh if isinstance(m, c.Group)] == ["disarmed"]
        assert [[d.text for d in m.devices] for m in fresh if isinstance(m, c.Devices)] == [["It burnt out."]]
        assert [m.values["rover"]["speed"] for m in fresh if isinstance(m, c.ReadingsMessage)] == [39.0]


async def test_readings_are_written_once_for_all_and_batched() -> None:
    async with world() as w:
        people = [w.person(f"v{n}") for n in range(4)]
        for n in range(100):
            w.desk.readings(
                {"rover": {"speed": float(n)}, "battery": {"voltage": 12.0 + n / 100}, "lamp": {"on": n % 2 == 0}}, now()
            )
            await asyncio.sleep(0.1)
        for person in people:
            readings = [m for m in person.heard if isinstance(m, c.ReadingsMessage)]
            assert 90 <= len(readings) <= 101
            assert readings[-1].values["rover"] == {"speed": 99.0}
            assert readings[-1].at / 1000 == pytest.approx(1_700_000_000 + now(), abs=0.2)
        assert w.desk.counts()["telemetry_batches"] <= 101


async def test_readings_of_a_round_are_told_at_once_though_rounds_come_a_little_early() -> None:
    async with world() as w:
        person = w.person("v1")
        await asyncio.sleep(1)
        began, told = now(), len(person.heard)
        for n in range(50):
            await asyncio.sleep(began + n / 10 + 0.015 * (n % 2) - now())
            w.desk.readings({"rover": {"speed": float(n)}, "battery": {"voltage": 12.0 + n / 10}}, now())
            newest = person.heard[-1]
            assert isinstance(newest, c.ReadingsMessage) and newest.values["rover"] == {"speed": float(n)}
        assert sum(isinstance(message, c.ReadingsMessage) for message in person.heard[told:]) == 50


async def test_who_does_not_look_is_told_no_readings_but_alarms_and_the_newest_of_all_when_he_looks_again() -> None:
    async with world() as w:
        anna, guest = w.anna(), w.person("v9")
        await asyncio.sleep(0.2)
        assert isinstance(guest.ask(c.Listen, on=False), c.Result)
        told = guest.bytes["telemetry"], anna.bytes["telemetry"]
        for n in range(30):
            w.desk.readings({"rover": {"speed": float(n)}, "battery": {"voltage": 12.0 - n / 3}}, now())
            await asyncio.sleep(0.1)
        w.desk.readings({"lamp": {"on": True}}, now())
        w.desk.opened("v9", "telemetry")  # a channel may open only now
        await asyncio.sleep(0.2)
        assert guest.bytes["telemetry"] == told[0] and anna.bytes["telemetry"] > told[1]
        assert any(isinstance(m, c.Alarm) for m in guest.heard)
        heard = len(guest.heard)
        for _ in range(2):
            assert isinstance(guest.ask(c.Listen, on=True), c.Result)
        await asyncio.sleep(0.1)
        (fresh,) = [m for m in guest.heard[heard:] if isinstance(m, c.ReadingsMessage)]
        assert fresh.values == {"rover": {"speed": 29.0}, "battery": {"voltage": pytest.approx(2.333)}, "lamp": {"on": True}}
        w.desk.readings({"rover": {"speed": 30.0}}, now())
        await asyncio.sleep(0.1)
        assert guest.heard[-1].values == {"rover": {"speed": 30.0}}
        assert w.desk.counters.malformed == 0


async def test_with_nobody_to_tell_no_readings_are_written_and_who_comes_is_told_the_newest() -> None:
    async with world() as w:
        for n in range(20):
            w.desk.readings({"rover": {"speed": float(n)}, "battery": {"voltage": 12.0}}, now())
            await asyncio.sleep(0.1)
        assert w.desk.counts()["telemetry_batches"] == 0
        person = w.person("v1")
        (told,) = [message for message in person.heard if isinstance(message, c.ReadingsMessage)]
        assert told.values == {"rover": {"speed": 19.0}, "battery": {"voltage": 12.0}}
