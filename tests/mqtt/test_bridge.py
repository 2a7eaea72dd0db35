"""Readings and Home Assistant over a real Mosquitto: announce, command, go; what is left behind, malformed, or too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core.home_assistant import Home
from edgeagent.errors import PeerError
from edgeagent.mqtt.bridge import Bridge
from edgeagent.mqtt.door import MqttDoor, MqttOptions
from edgeagent.wire import messages as m
from edgeagent.wire.control import AxisInfo, CommandInfo, DeviceInfo, ReadingInfo
from tests.mqtt.support import Brokers, Doors, Signaling, Witness, until
from tests.support.broker import Broker

pytestmark = pytest.mark.realtime

ON = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
LAMP = DeviceInfo(
    name="lamp", phase="live", readings=[ReadingInfo(name="on", kind="flag")], commands=[CommandInfo(name="switch", arguments=ON)]
)
GATE = DeviceInfo(
    name="gate", phase="live", moves=True, group="drive", axes=[AxisInfo(name="throttle")], commands=[CommandInfo(name="open")]
)
TOPIC = "homeassistant/device/ea-porch/config"
INBOX = "ea/1/d/porch/in/home-assistant"


class Lamp:
    """What the desk and the lamp's driver would do."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.bridge: Bridge | None = None

    async def __call__(self, device: str, command: str, args: Mapping[str, Any]) -> None:
        self.calls.append((device, command, dict(args)))
        if not isinstance(args.get("on"), bool):
            raise PeerError(400, "on: write true or false.")
        assert self.bridge is not None
        self.bridge.readings({device: {"on": args["on"]}}, 0.0)


async def jpeg(camera: str) -> bytes:
    return b"\xff\xd8" + camera.encode()


@contextlib.asynccontextmanager
async def on(url: str, lamp: Lamp | None, *devices: DeviceInfo, home: Home | None = None) -> AsyncIterator[Bridge]:
    """A door with a bridge, for as long as the block lasts."""
    bridge = Bridge("porch", devices, home=home, command=lamp, still=jpeg, wall=lambda: 1_700_000_000.0)
    if lamp:
        lamp.bridge = bridge
    door = MqttDoor(
        MqttOptions(url=url, retry_min_s=0.1, retry_max_s=1.0),
        device="porch",
        epoch="e1",
        signaling=Signaling(),
        hello=lambda: m.Hello(device="porch", version="1", epoch="e1", cameras=[]),
        beside=bridge,
    )
    task = asyncio.create_task(bridge.run())
    try:
        async with Doors.running(door):
            yield bridge
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def mosquitto(folder: Path, **options: Any) -> AsyncIterator[tuple[str, Witness]]:
    async with Brokers.running(Broker(folder, **options)) as broker, Witness.on(broker.url, "#") as witness:
        yield broker.url, witness


def readings(witness: Witness, name: str = "lamp") -> list[dict[str, Any]]:
    return [json.loads(text) for text in witness.payloads(f"ea/1/d/porch/r/{name}") if text]


async def retained(url: str) -> dict[str, str]:
    """What the broker has kept, as a newcomer sees it."""
    async with Witness.on(url, "#", name="newcomer") as newcomer:
        newcomer.say("probe/newcomer", "now")
        await until(lambda: newcomer.payloads("probe/newcomer"))
        return {topic: text for topic, text, kept in newcomer.seen if kept}


async def test_readings_without_home_assistant(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as (url, witness):
        async with on(url, None, LAMP) as bridge:
            bridge.readings({"lamp": {"on": True}}, 0.0)
            await until(lambda: any(message["readings"] == {"on": True} for message in readings(witness)))
            bridge.device("lamp", "retrying", "The pin is taken.")
            await until(lambda: readings(witness)[-1]["text"] == "The pin is taken.")
            assert readings(witness)[-1] == {
                "v": 1,
                "t": "device_readings",
                "at": 1_700_000_000_000,
                "live": False,
                "text": "The pin is taken.",
                "readings": {},
            }
        kept = await retained(url)
        assert "ea/1/d/porch/r/lamp" in kept
        assert not [topic for topic in kept if topic.startswith("homeassistant")]


async def test_announced_commanded_and_announced_again(tmp_path: Path) -> None:
    lamp = Lamp()
    async with mosquitto(tmp_path) as (url, witness), on(url, lamp, LAMP, GATE, home=Home(device="porch")):
        await until(lambda: witness.payloads(TOPIC), "the announcement")
        parts = json.loads(witness.payloads(TOPIC)[0])["cmps"]
        assert parts.keys() == {"lamp_c_switch"}
        witness.say(parts["lamp_c_switch"]["cmd_t"], parts["lamp_c_switch"]["pl_on"])
        await until(lambda: readings(witness)[-1]["readings"] == {"on": True})
        witness.say(parts["lamp_c_switch"]["cmd_t"], parts["lamp_c_switch"]["pl_off"])
        await until(lambda: readings(witness)[-1]["readings"] == {"on": False})
        assert [args for _, _, args in lamp.calls] == [{"on": True}, {"on": False}]
        witness.say("homeassistant/status", "online")
        await until(lambda: len(witness.payloads(TOPIC)) > 1, "the announcement after Home Assistant's birth")
        assert len(set(witness.payloads(TOPIC))) == 1


async def test_what_is_refused_is_answered_by_the_state_and_moves_nothing(tmp_path: Path) -> None:
    lamp = Lamp()
    async with mosquitto(tmp_path) as (url, witness), on(url, lamp, LAMP, GATE, home=Home(device="porch")) as bridge:
        for text in (
            "on",
            "{}",
            '{"t":"home_command","device":"lamp"}',
            '{"t":"home_command","device":"lamp","command":"switch","args":{"on":true},"more":1}',
            '{"t":"home_command","device":"attic","command":"switch","args":{"on":true}}',
            '{"t":"home_command","device":"gate","command":"open"}',
            json.dumps({"t": "home_command", "device": "lamp", "command": "switch", "args": {"on": "x" * 2000}}),
        ):
            witness.say(INBOX, text)
        await until(lambda: bridge.counters.malformed == 7)
        witness.say(INBOX, '{"t":"home_command","device":"lamp","command":"switch","args":{"on":true}}', retain=True)
        await until(lambda: lamp.calls, "the command, which the broker hands on as one of now")
        before = len(readings(witness))
        witness.say(INBOX, '{"t":"home_command","device":"lamp","command":"switch","args":{"on":5}}')
        await until(lambda: bridge.counters.refused == 1)
        await until(lambda: len(readings(witness)) > before, "the state as it is")
        assert [args for _, _, args in lamp.calls] == [{"on": True}, {"on": 5}]
    lamp = Lamp()
    async with Brokers.running(Broker(tmp_path)) as broker, Witness.on(broker.url, "#") as witness:
        witness.say(INBOX, '{"t":"home_command","device":"lamp","command":"switch","args":{"on":true}}', retain=True)
        async with on(broker.url, lamp, LAMP, home=Home(device="porch")):
            await until(lambda: witness.payloads(TOPIC))
            assert not lamp.calls, "a retained command is of another time"


async def test_a_flood_is_dropped_and_the_rest_goes_on(tmp_path: Path) -> None:
    lamp = Lamp()
    async with mosquitto(tmp_path) as (url, witness), on(url, lamp, LAMP, home=Home(device="porch")) as bridge:
        for number in range(200):
            witness.say(
                INBOX, json.dumps({"t": "home_command", "device": "lamp", "command": "switch", "args": {"on": number % 2 == 0}})
            )
        await until(lambda: bridge.counters.flood + bridge.counters.commands == 200)
        assert bridge.counters.flood >= 100
        assert len(lamp.calls) == bridge.counters.commands < 100
        await until(lambda: readings(witness)[-1]["readings"] == {"on": lamp.calls[-1][2]["on"]})


async def test_what_is_no_more_is_taken_back(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as (url, witness):
        garden = DeviceInfo(name="garden", phase="live", readings=[ReadingInfo(name="light")])
        async with on(url, None, LAMP, garden, home=Home(device="porch")):
            await until(lambda: witness.payloads("ea/1/d/porch/announced"))
            await until(lambda: "ea/1/d/porch/r/garden" in {topic for topic, _, _ in witness.seen})
        assert {TOPIC, "ea/1/d/porch/r/garden", "ea/1/d/porch/announced"} <= (await retained(url)).keys()
        witness.seen.clear()
        # Another agent's announcement, which a forged record shall not take back.
        witness.say("homeassistant/device/ea-yard/config", "{}", retain=True)
        async with on(url, None, LAMP, home=Home(device="porch")):
            await until(lambda: len(witness.payloads(TOPIC)) == 2)
            farewell, remaining = (json.loads(text)["cmps"] for text in witness.payloads(TOPIC))
            assert farewell["garden_r_light"] == {"p": "sensor"}
            assert remaining.keys() == {"lamp_c_switch"}
        kept = await retained(url)
        assert "ea/1/d/porch/r/garden" not in kept
        assert json.loads(kept["ea/1/d/porch/announced"])["topics"] == {TOPIC: {"lamp_c_switch": "switch"}}
        forged = {**json.loads(kept["ea/1/d/porch/announced"])}
        forged["topics"]["homeassistant/device/ea-yard/config"] = {"x": "sensor"}
        witness.say("ea/1/d/porch/announced", json.dumps(forged), retain=True)
        async with on(url, None):  # turned off, with no device to publish
            await until(lambda: "" in witness.payloads("ea/1/d/porch/announced"), "the end of the record")
        kept = await retained(url)
        assert kept.keys() == {"ea/1/d/porch/hello", "ea/1/d/porch/up", "homeassistant/device/ea-yard/config"}


async def test_turned_off_it_takes_back_its_own_and_keeps_what_others_read(tmp_path: Path) -> None:
    """The lamp has `mqtt: true`, the garden was published for Home Assistant only; it listened to a prefix of its own."""
    garden = DeviceInfo(name="garden", phase="live", readings=[ReadingInfo(name="light")])
    home = Home(device="porch", prefix="ha", cameras={"door": "Door"})
    async with mosquitto(tmp_path) as (url, witness):
        async with on(url, None, LAMP, garden, home=home):
            await until(lambda: len(witness.payloads("ea/1/d/porch/announced")) == 2, "the announcement")
        assert {"ha/device/ea-porch/config", "ea/1/d/porch/r/lamp", "ea/1/d/porch/r/garden"} <= (await retained(url)).keys()
        for _ in range(2):  # once is enough, and nothing comes back
            async with on(url, None, LAMP) as bridge:
                await until(lambda: bridge._announced_at > 0, "the first look at what is left")
            kept = await retained(url)
            assert kept.keys() == {"ea/1/d/porch/hello", "ea/1/d/porch/up", "ea/1/d/porch/r/lamp"}
            assert json.loads(kept["ea/1/d/porch/up"])["up"] == 0


async def test_pictures_only_while_home_assistant_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.mqtt.bridge._STILL_EVERY_S", 0.05)
    home = Home(device="porch", cameras={"door": "Door"})
    async with mosquitto(tmp_path) as (url, _), Witness.on(url, "homeassistant/status", name="home") as person:
        async with on(url, None, home=home) as bridge:
            await until(lambda: bridge.counters.stills > 2)
            person.say("homeassistant/status", "offline")
            await until(lambda: not bridge._home_there.is_set())
            before = bridge.counters.stills
            await asyncio.sleep(0.3)
            assert bridge.counters.stills <= before + 1  # one may have been on its way
            person.say("homeassistant/status", "online")
            await until(lambda: bridge.counters.stills > before)
        assert "ea/1/d/porch/still/door" not in await retained(url), "a picture is of the moment"


async def test_a_broker_that_lets_us_read_nothing_else(tmp_path: Path) -> None:
    rules = "\n".join(
        [
            "topic read ea/1/d/porch/in/+",
            "topic readwrite ea/1/d/porch/up",
            "topic write #",
        ]
    )
    async with (
        Brokers.running(Broker(tmp_path, acl=rules)) as broker,
        on(broker.url, None, LAMP, home=Home(device="porch")) as bridge,
    ):
        await until(lambda: bridge.counters.announcements)
        assert bridge.counters.readings
