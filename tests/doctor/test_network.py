"""A real broker, a real TURN server, and what may be wrong with them."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgeagent.board import BoardHealth
from edgeagent.config import Config, Drivers, load
from edgeagent.doctor import network
from edgeagent.doctor.agent import RunningAgent
from edgeagent.doctor.report import Finding, Level
from edgeagent.doctor.work import System
from edgeagent.enrol.identity import Identity
from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions
from edgeagent.mqtt.url import parse_url
from tests.rtc.test_servers import coturn
from tests.support.broker import Broker, Certificates, free_port

pytestmark = pytest.mark.realtime

ACL = """user porch
topic write ea/1/d/porch/hello
topic readwrite ea/1/d/porch/up
topic read ea/1/d/porch/in/+
topic write ea/1/v/+/in/porch
user mute
topic read ea/1/d/porch/#
user witness
topic readwrite #
"""
USERS = {"porch": "geheim-1", "mute": "geheim-2", "witness": "geheim-3"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy, what works may take long."""
    for name in ("NAME_S", "ICE_S", "ECHO_S", "BROKER_S"):
        monkeypatch.setattr(network, name, 20.0)


def config(text: str) -> Config:
    return load(f"device: porch\ncameras: {{test: {{driver: test-pattern}}}}\n{text}", {}, Drivers.installed())


@asynccontextmanager
async def running(broker: Broker) -> AsyncIterator[Broker]:
    await asyncio.to_thread(broker.start)
    try:
        yield broker
    finally:
        await asyncio.to_thread(broker.stop)


async def broker_finding(text: str, agent: RunningAgent | None = None) -> Finding:
    (finding,) = await network.look_at_broker(config(text), agent)
    assert finding.check == "broker"
    assert "geheim" not in repr(dataclasses.asdict(finding))
    return finding


def mqtt(url: str, user: str = "", password: str = "") -> str:
    who = f", username: {user}, password: {password}" if user else ""
    return f"mqtt: {{url: '{url}'{who}}}"


async def test_a_broker_with_the_rules_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bytes, bool]] = []
    async with running(Broker(tmp_path, users=USERS, acl=ACL)) as broker:
        address = parse_url(f"mqtt://witness:geheim-3@127.0.0.1:{broker.port}")
        witness = await BrokerConnection.open(BrokerOptions(address, "witness"), None, ["#"], lambda *message: seen.append(message))
        try:
            # As the agent leaves it, so that the doctor disturbs nothing.
            witness.publish("ea/1/d/porch/up", '{"up":1,"epoch":"e7","at":5}', retain=True)
            finding = await broker_finding(mqtt(broker.url, "porch", "geheim-1"))
            assert finding.level is Level.OK, finding
            assert f"127.0.0.1:{broker.port} takes the agent (not encrypted); a message is back in" in finding.text
            assert finding.facts["echo_ms"] > 0
            wrong = await broker_finding(mqtt(broker.url, "porch", "geheim-x"))
            assert wrong.level is Level.PROBLEM
            assert "refused the user name or password" in wrong.text
            monkeypatch.setattr(network, "ECHO_S", 0.3)
            mute = await broker_finding(mqtt(broker.url, "mute", "geheim-2"))
            assert mute.level is Level.PROBLEM
            assert "passes no message on" in mute.text
            assert "user mute must be allowed to write ea/1/d/porch/up" in mute.advice
        finally:
            await witness.close()
        assert set(seen) == {("ea/1/d/porch/up", b'{"up":1,"epoch":"e7","at":5}', False)}, "nothing new was said"
        stored: list[str] = []
        late = await BrokerConnection.open(BrokerOptions(address, "late"), None, ["#"], lambda topic, *_: stored.append(topic))
        async with asyncio.timeout(60):
            while not stored:
                await asyncio.sleep(0.01)
        await late.close()
        assert stored == ["ea/1/d/porch/up"]


async def test_a_fresh_broker_keeps_nothing(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with running(Broker(tmp_path, certificates=certificates)) as broker:
        for url in (broker.url, broker.ws_url):
            finding = await broker_finding(mqtt(url))
            assert finding.level is Level.OK, finding
        untrusted = await broker_finding(mqtt(broker.tls_url))
        assert untrusted.level is Level.PROBLEM
        assert "not trusted" in untrusted.text
        finding = await broker_finding(f"mqtt: {{url: '{broker.tls_url}', ca: '{certificates.ca}'}}")
        assert "(encrypted)" in finding.text
        stored: list[str] = []
        late = await BrokerConnection.open(
            BrokerOptions(parse_url(broker.url), "late"), None, ["#"], lambda topic, *_: stored.append(topic)
        )
        late.publish("test/end", "x")
        async with asyncio.timeout(60):
            while "test/end" not in stored:
                await asyncio.sleep(0.01)
        await late.close()
        assert stored == ["test/end"]


async def test_a_broker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BROKER_S", 0.3)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        finding = await broker_finding(mqtt(f"mqtt://127.0.0.1:{mute.getsockname()[1]}"))
    assert finding.level is Level.PROBLEM
    assert "does not answer within 0.3 s" in finding.text


async def test_no_broker_there() -> None:
    finding = await broker_finding(mqtt(f"mqtt://127.0.0.1:{free_port()}"))
    assert finding.level is Level.PROBLEM
    assert "Nothing listens at" in finding.text


async def test_a_broker_that_the_agent_holds_is_left_alone() -> None:
    text = mqtt(f"mqtt://127.0.0.1:{free_port()}")
    agent = RunningAgent("http://127.0.0.1:1", None, {"ok": True, "device": "porch", "broker": True})
    assert (await broker_finding(text, agent)).text == "The running agent is connected with the broker."
    lost = RunningAgent("http://127.0.0.1:1", None, {"ok": True, "device": "porch", "broker": False})
    assert "Nothing listens at" in (await broker_finding(text, lost)).text
    assert (await broker_finding("")).level is Level.OK


IDENTITY = Identity(
    folder=Path("identity"),
    name="gate-7",
    brokers=("mqtts://site.example:8883",),
    services=(),
    joining=(),
    site_sig={},
    site_enc={},
    pin="",
    door="https",
    enrolled_at=0,
    not_before=0,
    not_after=0,
    serial="1",
)


async def test_the_broker_of_a_site_is_asked_of_the_agent() -> None:
    """Its certificate is one connection; and whoever cannot see whom the board belongs to believes the agent, too."""
    ours = config("").model_copy(update={"device": "gate-7"})

    def agent(broker: bool | None, *, hidden: bool = False) -> RunningAgent:
        return RunningAgent("http://127.0.0.1:1", None, {"ok": True, "device": "gate-7", "broker": broker}, hidden)

    async def level(settings: Config, asked: RunningAgent, identity: Identity | None = None) -> str:
        (finding,) = await network.look_at_broker(settings, asked, identity)
        return finding.level

    elsewhere = config(mqtt(f"mqtt://127.0.0.1:{free_port()}"))
    assert [await level(ours, agent(broker), IDENTITY) for broker in (True, False, None)] == ["ok", "problem", "problem"]
    silent = RunningAgent("http://127.0.0.1:1", None, {}, answers=False)
    assert await level(ours, silent, IDENTITY) == "notice"
    for settings in config(""), elsewhere:
        assert [await level(settings, agent(broker, hidden=True)) for broker in (True, False)] == ["ok", "problem"]
    assert [await level(config(""), agent(broker)) for broker in (None, False)] == ["ok", "problem"]
    assert list(network._names(elsewhere, IDENTITY)) == ["site.example"]
    options = network._options(elsewhere, IDENTITY)
    assert options is not None and (str(options.address), options.cert_file) == ("site.example:8883", "identity/shown.pem")


def test_whose_password_goes_where() -> None:
    public = ["203.0.113.7", "8.8.8.8", "broker.example.com"]
    assert [network._is_public(host) for host in public] == [False, True, True]  # the first is for documentation
    assert not any(network._is_public(host) for host in ("192.168.1.2", "10.0.0.1", "::1", "broker", "pi.local", "fd00::1"))


# STUN and TURN


async def ice(*servers: str) -> list[Finding]:
    findings = await network.look_at_ice(config(f"webrtc: {{ice_servers: [{', '.join(servers)}]}}"))
    assert "secret" not in repr(findings)
    return findings


async def test_stun_and_turn(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port:
        stun, turn, over_tcp, wrong = await ice(
            f"{{urls: 'stun:127.0.0.1:{port}'}}",
            f"{{urls: 'turn:127.0.0.1:{port}', username: cam, credential: secret}}",
            f"{{urls: 'turn:127.0.0.1:{port}?transport=tcp', username: cam, credential: secret}}",
            f"{{urls: 'turn:127.0.0.1:{port}', username: cam, credential: secret-x}}",
        )
    assert [finding.check for finding in (stun, turn, over_tcp, wrong)] == ["ice.1", "ice.2", "ice.3", "ice.4"]
    assert stun.level is Level.OK
    assert "sees this board as 127.0.0.1" in stun.text
    assert turn.level is over_tcp.level is Level.OK, turn
    assert "relays for this board at 127.0.0.1:49" in turn.text
    assert wrong.level is Level.PROBLEM
    assert wrong.text.endswith("It refuses the user name or the credential.")
    assert "Check `username` and `credential`" in wrong.advice


async def test_dead_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ICE_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        silent, refused, unknown = await ice(
            f"{{urls: 'stun:127.0.0.1:{mute.getsockname()[1]}'}}",
            f"{{urls: 'turn:127.0.0.1:{free_port()}?transport=tcp', username: a, credential: b}}",
            "{urls: 'stun:no-such-host.invalid:3478'}",
        )
    assert "does not answer within 0.3 s" in silent.text
    assert "Nothing listens at this address and port" in refused.text
    assert "Its name cannot be looked up" in unknown.text
    assert {finding.level for finding in (silent, refused, unknown)} == {Level.PROBLEM}
    (none,) = await network.look_at_ice(config(""))
    assert none.level is Level.OK


# Names


async def test_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("search home\nnameserver 192.168.1.1\n")
    system = System(tmp_path, run=lambda _: "", board=BoardHealth, user="pi")
    text = """mqtt: {url: "mqtt://localhost:1883"}
webrtc: {ice_servers: [{urls: ["stun:no-such-host.invalid:3478", "stun:192.0.2.1"]}]}"""
    (finding,) = await network.look_at_names(config(text), system)
    assert (finding.check, finding.level) == ("dns", Level.PROBLEM)
    assert finding.text == "The name no-such-host.invalid cannot be looked up."
    assert "192.168.1.1" in finding.advice
    assert finding.facts["names"] == ["localhost", "no-such-host.invalid"]
    (finding,) = await network.look_at_names(config('mqtt: {url: "mqtt://localhost:1883"}'), system)
    assert finding.text == "Names can be looked up: localhost."
    (finding,) = await network.look_at_names(None, system)
    assert finding.level is Level.OK
    (tmp_path / "etc/resolv.conf").unlink()
    (finding,) = await network.look_at_names(None, system)
    assert finding.level is Level.NOTICE


def test_names_in_cameras() -> None:
    text = "device: porch\ncameras: {gate: {driver: rtsp, url: 'rtsp://admin:p%40ss@gate.home.arpa:554/1'}}"
    assert list(network._names(load(text, {}, Drivers.installed()))) == ["gate.home.arpa"]
