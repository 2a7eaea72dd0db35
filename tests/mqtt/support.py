"""What the tests of the MQTT door share."""

from __future__ import annotations

__all__ = ["Brokers", "Doors", "Signaling", "Witness", "door_of", "until"]

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from edgeagent.core.ports import ReplyTo
from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions, Will
from edgeagent.mqtt.door import MqttDoor, MqttOptions
from edgeagent.mqtt.url import parse_url
from edgeagent.wire import messages as m
from tests.support.broker import Broker

PATIENCE_S = 60.0


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until `condition()` holds."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about within {PATIENCE_S:g} s") from None


class Signaling:
    """A `SignalingPort` that keeps what it is given."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes | str, ReplyTo]] = []

    def receive(self, raw: bytes | str, reply: ReplyTo) -> None:
        self.received.append((raw, reply))

    def gone(self, reply: ReplyTo) -> None:
        raise AssertionError("MQTT never knows that a viewer is gone")


class Witness:
    """Another client of the broker; `seen` are (topic, payload, retained) in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []
        self._connection: BrokerConnection | None = None

    @property
    def connection(self) -> BrokerConnection:
        assert self._connection
        return self._connection

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, url: str, *filters: str, name: str = "witness") -> AsyncIterator[Witness]:
        self = cls()
        self._connection = await BrokerConnection.open(
            BrokerOptions(parse_url(url), name), Will(f"wills/{name}", "gone"), filters, self._heard
        )
        try:
            yield self
        finally:
            await self._connection.close()

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        self.seen.append((topic, payload.decode(), retained))

    def payloads(self, topic: str) -> list[str]:
        return [payload for seen, payload, _ in self.seen if seen == topic]

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        assert self.connection.publish(topic, payload, retain=retain)


def door_of(url: str, signaling: Any = None, *, epoch: str = "e2", **options: Any) -> MqttDoor:
    """A door that tries again after 0.1 s."""
    return MqttDoor(
        MqttOptions(url=url, **{"retry_min_s": 0.1, "retry_max_s": 1.0} | options),
        device="porch",
        epoch=epoch,
        signaling=signaling or Signaling(),
        hello=lambda: m.Hello(device="porch", version="1", epoch=epoch, cameras=[]),
        wall=lambda: 1_700_000_000.0,
        random01=lambda: 0.0,
    )


class Brokers:
    """Runs a broker within a test, which may kill and restart it."""

    @staticmethod
    @contextlib.asynccontextmanager
    async def running(broker: Broker) -> AsyncIterator[Broker]:
        await asyncio.to_thread(broker.start)
        try:
            yield broker
        finally:
            await asyncio.to_thread(broker.stop)


class Doors:
    """Runs a door beside the test."""

    @staticmethod
    @contextlib.asynccontextmanager
    async def running(door: MqttDoor, *, connected: bool = True) -> AsyncIterator[MqttDoor]:
        task = asyncio.create_task(door.run())
        try:
            if connected:
                await until(lambda: door.connected or task.done(), f"a connection ({door.status})")
                assert not task.done(), task.exception()
            yield door
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
