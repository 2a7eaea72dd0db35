"""One connection: what goes over the wire, and what is said when the other end is no proper broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from paho.mqtt import client as paho

from edgeagent.mqtt import connection as module
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, NobodyListens, Will
from edgeagent.mqtt.url import parse_url
from tests.mqtt.support import until

pytestmark = pytest.mark.realtime
CONNACK, SUBACK = b"\x20\x02\x00\x00", b"\x90\x04\x00\x01\x01\x01"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    """Something that listens and talks as told; yields its URL."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(client, "127.0.0.1", 0)
    async with listening:
        yield f"mqtt://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next MQTT packet: its first byte and its body."""
    first, length, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first, await reader.readexactly(length)


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
    """Take CONNECT and SUBSCRIBE and say yes; returns their bodies."""
    connect = await packet(reader)
    writer.write(CONNACK)
    subscribe = await packet(reader)
    writer.write(SUBACK)
    return [connect[1], subscribe[1]]


async def open_(url: str, heard: Callable[[str, bytes, bool], None] = lambda *_: None, **options: int) -> BrokerConnection:
    will = Will("ea/1/d/porch/up", '{"up":0}')
    return await BrokerConnection.open(BrokerOptions(parse_url(url), "porch", **options), will, ["a/+", "b"], heard)  # type: ignore[arg-type]


async def refused(url: str) -> str:
    with pytest.raises(BrokerError) as caught:
        await open_(url)
    return str(caught.value)


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NobodyListens, match="Nothing listens at"):
            await open_(url)
        # Beyond our own network others knock there as well.
        monkeypatch.setattr(module, "_is_near", lambda host: False)
        with pytest.raises(BrokerError) as caught:
            await open_(url)
        assert not isinstance(caught.value, NobodyListens)


@pytest.mark.parametrize(
    ("host", "near"), [("127.0.0.1", True), ("192.168.1.9", True), ("fe80::1", True), ("1.1.1.1", False), ("", True)]
)
def test_brokers_of_our_own_network(host: str, near: bool) -> None:
    assert module._is_near(host or "localhost") is near


async def test_the_packets_are_of_the_portable_profile() -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await accept(reader, writer))
        seen.append(bytes([(await packet(reader))[0]]))
        assert not await reader.read()

    async with server(talk) as url:
        connection = await open_(url.replace("//", "//me:pass@"))
        await connection.close()
        await until(lambda: len(seen) == 3)
    connect, subscribe, last = seen
    protocol, flags, keepalive, rest = connect[:7], connect[7], connect[8:10], connect[10:]
    assert protocol == b"\x00\x04MQTT\x04"  # 3.1.1
    assert flags == 0b1110_1110  # user, password, will retained with QoS 1, clean session
    assert keepalive == b"\x00\x1e"
    assert rest == b"\x00\x05porch" + b"\x00\x0fea/1/d/porch/up" + b'\x00\x08{"up":0}' + b"\x00\x02me" + b"\x00\x04pass"
    assert subscribe[2:] == b"\x00\x03a/+\x01\x00\x01b\x01"
    assert last == b"\xe0"  # DISCONNECT


async def test_one_that_hangs_up() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)

    async with server(talk) as url:
        assert "closed the connection before accepting it; is this a port for MQTT?" in await refused(url)


async def test_one_that_speaks_http() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + b"This is a web server. " * 9)
        await reader.read()

    async with server(talk) as url:
        assert "is this a port for MQTT?" in await refused(url)


async def test_one_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONNACK_TIMEOUT_S", 0.1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(talk) as url:
        assert "does not speak MQTT" in await refused(url)


async def test_one_that_is_silent_when_asked_for_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        monkeypatch.setattr(module, "_CONNACK_TIMEOUT_S", 0.1)  # from here on: the welcome itself may take its time
        writer.write(CONNACK)
        await reader.read()

    async with server(talk) as url:
        assert "silent when asked for messages" in await refused(url)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "closed the connection before accepting it"),
        (2, "refused the device's name"),
        (3, "not available at the moment"),
        (4, "refused a connection without user name and password"),
        (5, "refused a connection without user name and password"),
        (77, "refused the connection"),
    ],
)
async def test_one_that_refuses(code: int, words: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x02\x00" + bytes([code]))
        await reader.read()

    async with server(talk) as url:
        assert words in await refused(url)


async def test_one_that_refuses_the_subscription() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        await packet(reader)
        writer.write(b"\x90\x04\x00\x01\x01\x80")
        await reader.read()

    async with server(talk) as url:
        assert "does not let this device read b" in await refused(url)


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\x30\x00", b"\x30\x04\x00\xffab", b"\x00" * 9, b"\x40\x00", b"\x90\x00"])
async def test_packets_that_no_broker_sends(garbage: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        writer.write(garbage)
        await reader.read(1)
        # Here the client has hung up, or lives on; both are well as long as it says so.

    async with server(talk) as url:
        connection = await open_(url)
        await asyncio.sleep(0.05)
        if not connection.lost.done():
            assert connection.publish("x", "y")
        await connection.close()
        assert connection._watched == -1


async def test_a_topic_that_is_not_utf8_is_skipped() -> None:
    heard: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        writer.write(b"\x30\x04\x00\x01\xffx" + b"\x30\x04\x00\x01ax")
        await reader.read()

    async with server(talk) as url:
        connection = await open_(url, lambda topic, *_: heard.append(topic))
        await until(lambda: heard)
        assert heard == ["a"]
        assert not connection.lost.done()
        await connection.close()


async def test_what_is_retained_is_not_lost_to_a_flood() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        await reader.read()

    async with server(talk) as url:
        connection = await open_(url, max_pending=2, max_pending_bytes=1000)
        assert connection.publish("x", "1")
        assert not connection.publish("x", "y" * 1000)
        assert connection.publish("x", "2")
        assert not connection.publish("x", "3")
        assert connection.publish("up", "4", retain=True)
        await connection.close(timeout_s=0.05)  # which does not wait for a broker that acknowledges nothing
        assert not connection.publish("x", "5")


async def test_giving_up_while_connecting_leaves_nothing() -> None:
    accepted = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        told = await reader.read()  # everything, up to the end: the client has closed, maybe before it said anything
        assert not told or b"MQTT" in told

    async with server(talk) as url:
        for _ in range(5):
            accepted.clear()
            task = asyncio.create_task(open_(url))
            await accepted.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name 127.0.0.1 cannot be resolved"),
        (TimeoutError(), "does not answer"),
        (OSError(113, "No route to host"), "No route to host"),
        (paho.WebsocketConnectionError("WebSocket handshake error"), "takes no MQTT over WebSocket at /mqtt"),
    ],
)
async def test_what_the_network_says(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(paho.Client, "connect", fail)
    assert words in await refused("ws://127.0.0.1:9")


async def test_a_web_server_that_takes_no_websocket() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")

    async with server(talk) as url:
        assert "takes no MQTT over WebSocket at /mqtt" in await refused(url.replace("mqtt:", "ws:"))
