"""How the door comes back, on the virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

from edgeagent.mqtt import door as module
from edgeagent.mqtt.connection import BrokerError, CertificateRefused, NobodyListens
from edgeagent.mqtt.door import MqttDoor, MqttOptions
from edgeagent.wire import messages as m
from tests.mqtt.support import Signaling


class Broker:
    """Stands in for `BrokerConnection`: each connection lasts as long as the script says, None for a refusal."""

    def __init__(self, script: list[float | None], refusal: type[BrokerError] = BrokerError) -> None:
        self.script = script
        self.refusal = refusal
        self.tries: list[float] = []
        self.published: list[tuple[float, str, str]] = []

    async def open(self, *_: Any, **__: Any) -> Any:
        loop = asyncio.get_running_loop()
        self.tries.append(loop.time())
        lasts = self.script.pop(0) if self.script else None
        if lasts is None:
            raise self.refusal("Nothing listens there.")
        broker = self

        class Connection:
            lost: asyncio.Future[str] = loop.create_future()

            def publish(self, topic: str, payload: str, *, qos: int = 1, retain: bool = False) -> bool:
                broker.published.append((loop.time(), topic, payload))
                return True

            async def close(self) -> None:
                handle.cancel()

        handle = loop.call_later(lasts, lambda: Connection.lost.set_result("it was closed at the other end"))
        return Connection()


def door(
    monkeypatch: pytest.MonkeyPatch,
    broker: Broker,
    random01: float = 0.5,
    unwanted: Callable[[], None] = lambda: None,
    **options: Any,
) -> MqttDoor:
    monkeypatch.setattr(module, "BrokerConnection", broker)
    return MqttDoor(
        MqttOptions(url="mqtt://127.0.0.1", **options),
        device="porch",
        epoch="e1",
        signaling=Signaling(),
        hello=lambda: m.Hello(device="porch", version="1", epoch="e1", cameras=[]),
        unwanted=unwanted,
        random01=lambda: random01,
    )


async def test_a_certificate_that_is_refused_is_told_at_each_try_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    for refusal in (BrokerError, CertificateRefused):
        broker = Broker([], refusal)
        await run_for(door(monkeypatch, broker, unwanted=lambda: told.append(asyncio.get_running_loop().time())), 300)
        assert told == (broker.tries if refusal is CertificateRefused else [])


async def run_for(door: MqttDoor, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await door.run()


async def test_waits_grow_from_one_second_to_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker([])
    await run_for(door(monkeypatch, broker), 3000)
    waits = [b - a for a, b in zip(broker.tries, broker.tries[1:], strict=False)]
    assert waits[:4] == pytest.approx([1.5, 2.5, 4.5, 8.5])
    assert all(1 <= wait <= 60 for wait in waits)
    assert waits[-1] == pytest.approx(30.5)
    # Said at once, then every ten minutes.
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 5


@pytest.mark.parametrize("random01", [0.0, 0.5, 1.0])
async def test_a_broker_of_our_own_network_is_asked_often_while_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, random01: float
) -> None:
    broker = Broker([], NobodyListens)
    await run_for(door(monkeypatch, broker, random01), 60)
    waits = [b - a for a, b in zip(broker.tries, broker.tries[1:], strict=False)]
    assert waits[0] == pytest.approx(0.5 + 0.5 * random01)
    assert waits[1:] == pytest.approx([0.5 + 1.5 * random01] * len(waits[1:]))


async def test_a_board_of_a_site_waits_longer_since_it_is_not_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker([], NobodyListens)
    await run_for(door(monkeypatch, broker, cert_file="device.pem", key_file="device.pem"), 600)
    waits = [b - a for a, b in zip(broker.tries, broker.tries[1:], strict=False)]
    assert waits[:3] == pytest.approx([1.5, 2.5, 4.5])
    assert waits[-1] == pytest.approx(30.5)


async def test_a_connection_that_held_begins_anew_and_one_that_did_not_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker([None, None, None, 10.0, 1.0, 1.0, 1.0, 5.0])
    await run_for(door(monkeypatch, broker), 200)
    gaps = [b - a for a, b in zip(broker.tries, broker.tries[1:], strict=False)]
    assert gaps[3] == pytest.approx(10 + 1.5)
    assert gaps[4:7] == pytest.approx([1 + 2.5, 1 + 4.5, 1 + 8.5])
    assert gaps[7] == pytest.approx(5 + 1.5)


async def test_an_hour_without_a_network(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Back within a minute of the network; a line for the fault, one every ten minutes, and one for the return."""
    caplog.set_level(logging.INFO)

    class Away(Broker):
        async def open(self, *_: Any, **__: Any) -> Any:
            if 100 <= asyncio.get_running_loop().time() - began < 3700:
                self.script.insert(0, None)
            return await super().open()

    began = asyncio.get_running_loop().time()
    broker = Away([100.0, 1000.0])
    made = door(monkeypatch, broker, random01=1.0)
    task = asyncio.create_task(run_for(made, 4000))
    await asyncio.sleep(3600)
    assert made.counters.connections == 1
    await asyncio.sleep(100 + 61)
    assert made.connected
    assert len(broker.tries) < 3600 / 30
    assert made.counters.connections == 2
    lines = [record.message for record in caplog.records]
    assert [line.split()[0] for line in lines] == ["connected", "The", *["Nothing"] * 6, "connected"]
    assert lines[-1] == "connected to the broker at 127.0.0.1:1883 again after 60 min"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_second_client_of_that_name_is_suspected(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    made = door(monkeypatch, Broker([0.5]))
    await run_for(made, 1.0)
    assert "another client of this broker use the name porch?" in caplog.text
    caplog.clear()
    await run_for(door(monkeypatch, Broker([50.0])), 51.0)
    assert "another client" not in caplog.text
    assert "broke: it was closed at the other end." in caplog.text


async def test_presence_is_repeated_while_connected_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker([200.0])
    await run_for(door(monkeypatch, broker), 150.0)
    start = broker.tries[0]
    said = [(round(at - start), topic.rsplit("/", 1)[1], '"up":1' in payload) for at, topic, payload in broker.published]
    assert said == [(0, "hello", False), (0, "up", True), (60, "up", True), (120, "up", True), (150, "up", False)]


async def test_a_hello_that_changes_while_away_is_published_on_return(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker([None, 100.0])
    made = door(monkeypatch, broker)
    asyncio.get_running_loop().call_later(0.5, made.hello_changed)
    await run_for(made, 5.0)
    assert [topic.rsplit("/", 1)[1] for _, topic, _ in broker.published] == ["hello", "up", "up"]


@pytest.mark.parametrize(("url", "device"), [("http://h", "porch"), ("mqtt://h", "Porch")])
def test_what_cannot_be_used_is_refused_at_once(url: str, device: str) -> None:
    with pytest.raises(ValueError, match=r"begins with mqtt|is not a name"):
        MqttDoor(
            MqttOptions(url=url),
            device=device,
            epoch="e1",
            signaling=Signaling(),
            hello=lambda: m.Hello(device="porch", version="1", epoch="e1", cameras=[]),
        )
