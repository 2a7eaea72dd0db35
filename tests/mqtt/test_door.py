"""The MQTT door against a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.core.session_events import SessionConfig
from edgeagent.mqtt.door import MqttDoor
from edgeagent.rtc.sessions import Sessions
from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_agent, encode
from tests.mqtt.support import Brokers, Doors, Signaling, Witness, door_of, until
from tests.support.broker import Broker, Certificates, free_port
from tests.support.components import require
from tests.support.peers import ScriptedPeers
from tests.support.viewers import Reply, camera, ice, offer

pytestmark = pytest.mark.realtime
UP, HELLO, INBOX = "ea/1/d/porch/up", "ea/1/d/porch/hello", "ea/1/d/porch/in/alice"
UP_1 = '{"up":1,"epoch":"e2","at":1700000000000.0}'
UP_0 = '{"up":0,"epoch":"e2","at":1700000000000.0}'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as started:
        yield started


async def test_presence_is_retained(broker: Broker) -> None:
    async with Doors.running(door_of(broker.url)), Witness.on(broker.url, "ea/1/d/+/hello", "ea/1/d/+/up") as witness:
        await until(lambda: len(witness.seen) == 2)
        assert sorted(witness.seen) == [
            (
                HELLO,
                '{"v":1,"t":"hello","device":"porch","title":"","version":"1","epoch":"e2","cameras":[],"devices":0,"ice_servers":[]}',
                True,
            ),
            (UP, UP_1, True),
        ]


async def test_presence_for_a_client_that_is_not_ours(broker: Broker) -> None:
    async with Doors.running(door_of(broker.url)):
        command = [
            require("mosquitto_sub"),
            "-h",
            "127.0.0.1",
            "-p",
            str(broker.port),
            "-t",
            UP,
            "-C",
            "1",
            "-W",
            "10",
            "-F",
            "%r %q %p",
        ]
        seen = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert seen.stdout == f"1 0 {UP_1}\n"


async def test_a_viewer_is_heard_and_answered(broker: Broker) -> None:
    signaling = Signaling()
    async with Doors.running(door_of(broker.url, signaling)), Witness.on(broker.url, "ea/1/v/alice/in/+", name="alice") as alice:
        alice.say(INBOX, "anything at all")
        await until(lambda: signaling.received)
        ((raw, reply),) = signaling.received
        assert raw == b"anything at all"
        assert (reply.key, reply.trickles, reply.principal, reply.origin) == ("mqtt:alice", True, "", "mqtt:alice")
        reply.send(m.Pong(sid="session1", id=1, at=2, now=3))
        reply.send(m.ErrorMessage(code=404, message="No."))
        await until(lambda: len(alice.seen) == 2)
        assert alice.seen[0] == ("ea/1/v/alice/in/porch", '{"v":1,"t":"pong","sid":"session1","id":1,"at":2.0,"now":3.0}', False)
        assert json.loads(alice.seen[1][1])["code"] == 404


@pytest.mark.realtime(block_limit_s=20)  # paho masks what goes into a WebSocket byte by byte
@pytest.mark.parametrize("kind", ["url", "ws_url", "tls_url", "wss_url"])
async def test_every_transport(tmp_path: Path, kind: str) -> None:
    certificates = Certificates(tmp_path)
    async with Brokers.running(Broker(tmp_path, certificates=certificates)) as broker:
        signaling = Signaling()
        door = door_of(getattr(broker, kind), signaling, ca_file=str(certificates.ca))
        async with Doors.running(door), Witness.on(broker.url, "ea/1/v/alice/in/+", name="alice") as alice:
            assert door._connection
            fd = os.dup(door._connection._watched)
            with socket.socket(fileno=fd) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            # Larger than one TLS record and one read.
            alice.say(INBOX, "x" * 60_000)
            await until(lambda: signaling.received)
            for _ in range(20):
                signaling.received[0][1].send(m.Answer(sid="session1", n=1, sdp="y" * 40_000, cameras={}))
            await until(lambda: len(alice.seen) == 20)
            assert all(len(payload) > 40_000 for _, payload, _ in alice.seen)
        assert "Socket error" not in broker.log


async def test_signaling_from_end_to_end(tmp_path: Path) -> None:
    async with Brokers.running(Broker(tmp_path)) as broker:
        peers = ScriptedPeers()
        async with Sessions(SessionConfig(device="porch", epoch="e2", version="1"), peers) as sessions:
            sessions.cameras_changed([camera("gate")])
            async with (
                Doors.running(door_of(broker.url, sessions)),
                Witness.on(broker.url, "ea/1/v/alice/in/+", name="alice") as alice,
            ):
                alice.say(INBOX, encode(offer()))
                alice.say(INBOX, encode(ice("session1", "a", end=True)))
                await until(lambda: alice.seen)
                assert isinstance(decode_agent(alice.seen[0][1]), m.Answer)
                await until(lambda: peers.made[0].remote_ended)
                alice.say(INBOX, "nonsense")
                await until(lambda: len(alice.seen) == 2)
                assert decode_agent(alice.seen[1][1]).t == "error"
                # The broker dies and returns: the session does not notice, and goes on by its channel.
                peers.made[0].connect()
                await asyncio.to_thread(broker.restart)
                assert peers.alive
                peers.made[0].events.channel_message(encode(m.Ping(sid="session1", id=1, at=0)))
                assert peers.made[0].sent[-1].t == "pong"


async def test_the_broker_is_killed_and_returns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Brokers.running(Broker(tmp_path)) as broker:
        caplog.set_level(logging.INFO)
        signaling = Signaling()
        async with Doors.running(door_of(broker.url, signaling)) as door:
            async with Witness.on(broker.url, name="alice") as alice:
                alice.say(INBOX, "before")
                await until(lambda: signaling.received)
            await asyncio.to_thread(broker.kill)
            await until(lambda: not door.connected)
            reply = signaling.received[0][1]
            reply.send(m.Bye(sid="session1"))
            assert door.counters.dropped_offline == 1
            await until(lambda: "Nothing listens" in door.status)
            await asyncio.to_thread(broker.start)
            await until(lambda: door.connected)
            async with Witness.on(broker.url, UP, HELLO, "ea/1/v/alice/in/+", name="alice") as alice:
                await until(lambda: (UP, UP_1, True) in alice.seen and alice.payloads(HELLO))
                reply.send(m.Bye(sid="session1", reason="after"))
                await until(lambda: alice.payloads("ea/1/v/alice/in/porch"))
            assert door.counters.connections == 2
        warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert sum("Nothing listens" in text for text in warnings) == 1, "a lasting fault is said once"


async def test_many_restarts_leave_nothing_behind(tmp_path: Path) -> None:
    async with Brokers.running(Broker(tmp_path)) as broker, Doors.running(door_of(broker.url)) as door:
        before = len(os.listdir("/proc/self/fd"))
        for count in range(2, 7):
            await asyncio.to_thread(broker.restart)
            await until(lambda count=count: door.connected and door.counters.connections == count)  # type: ignore[misc]
        assert len(os.listdir("/proc/self/fd")) <= before
        await until(lambda: len(asyncio.all_tasks()) == 2)


async def test_a_cut_connection_leaves_the_will_and_is_mended(broker: Broker) -> None:
    async with Doors.running(door_of(broker.url, retry_min_s=0.5)) as door, Witness.on(broker.url, UP) as witness:
        await until(lambda: witness.payloads(UP) == [UP_1])
        _cut(door)
        await until(lambda: len(witness.seen) == 3)
        assert witness.payloads(UP) == [UP_1, UP_0, UP_1]


def _cut(door: MqttDoor) -> None:
    assert door._connection
    with socket.socket(fileno=os.dup(door._connection._watched)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


async def test_a_late_will_is_overwritten(broker: Broker) -> None:
    async with Doors.running(door_of(broker.url)), Witness.on(broker.url, UP) as witness:
        for late in ('{"up":0,"epoch":"e1","at":5}', '{"up":0,"epoch":"e2","at":5}', '{"up":1,"epoch":"e1","at":5}', "nonsense"):
            await until(lambda: witness.seen and witness.payloads(UP)[-1] == UP_1)
            witness.say(UP, late, retain=True)
            await until(lambda late=late: late in witness.payloads(UP))  # type: ignore[misc]
        await until(lambda: witness.payloads(UP)[-1] == UP_1)


async def test_the_presence_of_an_earlier_run_is_replaced(broker: Broker) -> None:
    async with Witness.on(broker.url, UP) as witness:
        witness.say(UP, '{"up":1,"epoch":"e1"}', retain=True)
        await until(lambda: witness.seen)
        async with Doors.running(door_of(broker.url)):
            await until(lambda: witness.payloads(UP)[-1] == UP_1)


async def test_leaving_says_so_and_spares_the_will(broker: Broker) -> None:
    async with Witness.on(broker.url, UP) as witness:
        async with Doors.running(door_of(broker.url)) as door:
            await until(lambda: witness.payloads(UP) == [UP_1])
        assert not door.connected
        async with Witness.on(broker.url, UP, name="later") as later:
            await until(lambda: later.seen)
            assert later.seen == [(UP, UP_0, True)]
        await until(lambda: witness.payloads(UP) == [UP_1, UP_0])


async def test_hello_follows_the_cameras(broker: Broker) -> None:
    cameras = [camera("gate")]
    door = door_of(broker.url)
    door._hello = lambda: m.Hello(device="porch", version="1", epoch="e2", cameras=cameras)
    door._presence._hello_interval_s = 0.2
    async with Doors.running(door), Witness.on(broker.url, HELLO) as witness:
        await until(lambda: witness.seen)
        for phase in ("starting", "live", "failed"):
            cameras[:] = [camera("gate", phase)]
            door.hello_changed()
        await until(lambda: '"failed"' in witness.payloads(HELLO)[-1])
        assert len(witness.seen) <= 3


async def test_what_is_not_for_us_is_ignored(broker: Broker) -> None:
    signaling = Signaling()
    async with Doors.running(door_of(broker.url, signaling)) as door, Witness.on(broker.url) as witness:
        witness.say("ea/1/d/porch/in/Alice", "capital letters")
        witness.say("ea/1/d/porch/in/a_b", "an underscore")
        witness.say(f"ea/1/d/porch/in/{'x' * 65}", "too long")
        witness.say("ea/1/d/desk/in/alice", "another device")
        witness.say("ea/1/d/porch/in/bob", "the last")
        await until(lambda: signaling.received)
        assert [raw for raw, _ in signaling.received] == [b"the last"]
        assert door.counters.ignored == 3


async def test_an_offer_that_the_broker_retained_is_ignored(broker: Broker) -> None:
    signaling = Signaling()
    async with Witness.on(broker.url) as witness:
        witness.say(INBOX, "written for another time", retain=True)
        async with Doors.running(door_of(broker.url, signaling)) as door:
            await until(lambda: door.counters.ignored == 1)
            witness.say(INBOX, "written for now")
            await until(lambda: signaling.received)
            assert [raw for raw, _ in signaling.received] == [b"written for now"]


async def test_a_wrong_password_is_said_without_saying_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Brokers.running(Broker(tmp_path, users={"porch": "right-secret"})) as broker:
        wrong = door_of(f"mqtt://porch:wrong-secret@127.0.0.1:{broker.port}")
        async with Doors.running(wrong, connected=False):
            await until(lambda: "refused" in wrong.status)
            assert wrong.status == f"The broker at 127.0.0.1:{broker.port} refused the user name or password; check mqtt.url."
            # It goes on trying, quietly.
            tries = broker.log.count("not authorised")
            await until(lambda: broker.log.count("not authorised") > tries)
        anonymous = door_of(broker.url)
        async with Doors.running(anonymous, connected=False):
            await until(lambda: "without user name" in anonymous.status)
        async with Doors.running(door_of(f"mqtt://porch:right-secret@127.0.0.1:{broker.port}")):
            pass
        assert "secret" not in caplog.text
        assert caplog.text.count("refused the user name") == 1


async def test_access_rules_of_the_security_notes_suffice(tmp_path: Path) -> None:
    """With per-device rules, the device reaches its own topics only; presence watches itself, so it may read `up` too."""
    acl = "\n".join(
        [
            "user porch",
            "topic write ea/1/d/porch/hello",
            "topic readwrite ea/1/d/porch/up",
            "topic read ea/1/d/porch/in/+",
            "topic write ea/1/v/+/in/porch",
            "user alice",
            "topic read ea/1/d/+/hello",
            "topic read ea/1/d/+/up",
            "topic write ea/1/d/+/in/alice",
            "topic read ea/1/v/alice/in/+",
        ]
    )
    async with Brokers.running(Broker(tmp_path, users={"porch": "p", "alice": "a"}, acl=acl)) as broker:
        signaling = Signaling()
        url = f"127.0.0.1:{broker.port}"
        async with (
            Doors.running(door_of(f"mqtt://porch:p@{url}", signaling)),
            Witness.on(f"mqtt://alice:a@{url}", UP, HELLO, "ea/1/v/alice/in/+", name="alice") as alice,
        ):
            await until(lambda: len(alice.seen) == 2)
            alice.say("ea/1/d/porch/in/bob", "spoofed")
            alice.say(INBOX, "honest")
            await until(lambda: signaling.received)
            assert [raw for raw, _ in signaling.received] == [b"honest"]
            signaling.received[0][1].send(m.Bye(sid="session1"))
            await until(lambda: len(alice.seen) == 3)


async def test_a_broker_that_is_not_trusted(tmp_path: Path) -> None:
    async with Brokers.running(Broker(tmp_path, certificates=Certificates(tmp_path))) as broker:
        door = door_of(broker.tls_url)
        async with Doors.running(door, connected=False):
            await until(lambda: "is not trusted" in door.status, door.status)
        door = door_of(broker.tls_url, ca_file=str(tmp_path / "missing.pem"))
        async with Doors.running(door, connected=False):
            await until(lambda: "certificate file" in door.status, door.status)
        door = door_of(f"mqtts://localhost:{broker.port}")
        async with Doors.running(door, connected=False):
            await until(lambda: "No TLS with the broker" in door.status or "does not answer" in door.status, door.status)


async def test_nobody_at_that_address() -> None:
    door = door_of(f"mqtt://127.0.0.1:{free_port()}")
    async with Doors.running(door, connected=False):
        await until(lambda: "Nothing listens at 127.0.0.1" in door.status, door.status)


async def test_too_many_messages_on_their_way_are_dropped_and_counted(broker: Broker) -> None:
    signaling = Signaling()
    async with (
        Doors.running(door_of(broker.url, signaling)) as door,
        Witness.on(broker.url, "ea/1/v/alice/in/+", name="alice") as alice,
    ):
        alice.say(INBOX, "hello")
        await until(lambda: signaling.received)
        await until(lambda: door._connection is not None and not door._connection._pending)
        reply = signaling.received[0][1]
        for _ in range(1000):  # without giving the loop a chance to send
            reply.send(m.Bye(sid="session1"))
        assert door.counters.dropped_full == 1000 - 256
        assert door.counters.sent == 256
        await until(lambda: len(alice.seen) == 256)
        reply.send(m.Bye(sid="session1", reason="the line is free again"))
        await until(lambda: len(alice.seen) == 257)


async def test_a_flood_of_offers_leaves_the_door_alive(broker: Broker) -> None:
    peers = ScriptedPeers()
    async with Sessions(SessionConfig(device="porch", epoch="e2", version="1"), peers) as sessions:
        sessions.cameras_changed([camera("gate")])
        async with (
            Doors.running(door_of(broker.url, sessions)) as door,
            Witness.on(broker.url, name="mallory") as mallory,
            Witness.on(broker.url, "ea/1/v/alice/in/+", name="alice") as alice,
        ):
            for i in range(1000):
                mallory.connection._pending.clear()
                mallory.say("ea/1/d/porch/in/mallory", encode(offer(sid=f"flood{i:05}", sdp="v=0 " + "x" * 3000)))
            await until(lambda: door.counters.received == 1000)
            alice.say(INBOX, encode(offer()))
            await until(lambda: alice.seen)
            assert isinstance(decode_agent(alice.seen[0][1]), m.Answer)
            assert sessions.viewers <= 5


async def test_a_reply_without_a_broker_is_dropped() -> None:
    door = door_of("mqtt://127.0.0.1:1")
    reply = Reply()
    assert not reply.sent
    door._send("alice", m.Bye(sid="session1"))
    assert door.counters.dropped_offline == 1
