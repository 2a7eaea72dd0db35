"""The broker's other clients: readings for whoever wants them, and Home Assistant, on the connection of the door."""

from __future__ import annotations

__all__ = ["Bridge", "BridgeCounters"]

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeagent.core import home_assistant as ha
from edgeagent.core.publishing import Publishing
from edgeagent.core.ratelimit import Rate, TokenBucket
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.model import Value
from edgeagent.mqtt.connection import BrokerConnection
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_announced, decode_home_command, encode
from edgeagent.wire.control import DeviceInfo
from edgeagent.wire.home import Announced, DeviceReadings, HomeCommand
from edgeagent.wire.messages import MAX_MESSAGE

_log = logging.getLogger(__name__)
_SETTLE_S = 1.0  # what the broker retains of an earlier run arrives right after subscribing
_ANNOUNCE_EVERY_S = 2.0
_COMMANDS = Rate(10, 30)
_LINES = Rate(0.1, 5)
_WAITING = 16
_AT_ONCE = 4
_STILL_EVERY_S = 10.0


@dataclass(slots=True)
class BridgeCounters:
    """What happened since the start."""

    readings: int = 0
    announcements: int = 0
    stills: int = 0
    commands: int = 0
    refused: int = 0
    malformed: int = 0
    flood: int = 0


class Bridge:
    """Publishes readings, announces devices to Home Assistant and carries out its commands; implements `Beside` and `DeviceEvents`.

    With no devices and no home it only takes back what an earlier run has left on the broker.

    Args:
        device: This agent's name.
        devices: What is published.
        home: How it shows itself to Home Assistant; None while that is off.
        command: Carries out a command, or raises PeerError or DeviceFault.
        still: A small JPEG of a camera, or raises one of these.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        device: str,
        devices: Iterable[DeviceInfo] = (),
        *,
        home: ha.Home | None = None,
        command: Callable[[str, str, Mapping[str, Any]], Awaitable[Any]] | None = None,
        still: Callable[[str], Awaitable[bytes]] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._devices = {info.name: info for info in devices}
        self._publishing = Publishing(self._devices.values())
        self._home = home
        self._command = command
        self._still = still
        self._wall = wall
        self._left = (topics.readings_filter(device), topics.announced(device))
        self._status = ha.status_topic(home) if home else None
        self.filters: Sequence[str] = (*self._left, *([self._status] if self._status else []))
        self._inbox = topics.device_inbox(device, ha.SENDER)
        self._connection: BrokerConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._announce_at = math.inf
        self._announced_at = -math.inf
        self._stale: set[str] = set()
        self._record: Mapping[str, Mapping[str, str]] = {}
        self._home_there = asyncio.Event()
        self._wanted: asyncio.Queue[HomeCommand] = asyncio.Queue(_WAITING)
        self._bucket = TokenBucket(_COMMANDS, 0.0)
        self._lines = TokenBucket(_LINES, 0.0)
        self.counters = BridgeCounters()

    async def run(self) -> None:
        """Carry out commands and publish pictures until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(_AT_ONCE if self._home else 0):
                group.create_task(self._obey(), name=f"home-commands-{number}")
            for camera in self._home.cameras if self._home else ():
                group.create_task(self._picture(camera), name=f"home-still-{camera}")
            await asyncio.get_running_loop().create_future()

    # From the door

    def connected(self, connection: BrokerConnection) -> None:
        """See `Beside`."""
        self._connection = connection
        if connection.refused and (self._devices or self._home):
            what = ", ".join(connection.refused)
            _log.warning("the broker does not let this device read %s: what it retains of earlier runs may stay there", what)
        self._publishing.connected()
        self._announce_at = _now() + _SETTLE_S
        self._home_there.set()  # unless it says otherwise
        self._work()

    def lost(self) -> None:
        """See `Beside`."""
        self._connection = None
        self._publishing.lost()
        self._announce_at = math.inf
        self._home_there.clear()
        self._arm()

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        """See `Beside`."""
        if topic == self._inbox:
            if self._home is None:
                return False
            if not retained:  # a retained command was written for another time
                self._asked(payload)
        elif topic == self._status:
            self._home_says(payload)
        elif topic == topics.announced(self._device):
            if retained and payload:
                self._remember(payload)
        elif topic.startswith(prefix := self._left[0].removesuffix("+")):
            if retained and payload and topic.removeprefix(prefix) not in self._devices:
                self._stale.add(topic)
        else:
            return False
        return True

    def _remember(self, payload: bytes) -> None:
        try:
            found = decode_announced(payload).topics
        except PeerError:
            return
        # Whoever may write to the broker may have written this: nothing but what is ours is taken back.
        self._record = {topic: parts for topic, parts in found.items() if ha.is_document_topic(topic, self._device)}

    def _home_says(self, payload: bytes) -> None:
        if payload == b"online":
            self._home_there.set()
            self._announce_at = min(self._announce_at, max(_now(), self._announced_at + _ANNOUNCE_EVERY_S))
            self._work()
        elif payload == b"offline":
            self._home_there.clear()

    # From the devices

    def device(self, name: str, phase: str, text: str) -> None:
        """See `DeviceEvents`."""
        self._publishing.device(name, phase == "live", text)
        self._work()

    def readings(self, values: Mapping[str, Mapping[str, Value]], at: float) -> None:
        """See `DeviceEvents`."""
        self._publishing.readings(values)
        self._work()

    # To the broker

    def _work(self) -> None:
        connection = self._connection
        if connection is None:
            return
        now = _now()
        for name, standing in self._publishing.due(now).items():
            message = DeviceReadings(
                at=round(self._wall() * 1000), live=standing.live, text=standing.text, readings=dict(standing.readings)
            )
            text = encode(message)
            if len(text.encode()) <= MAX_MESSAGE and connection.publish(topics.readings(self._device, name), text, retain=True):
                self.counters.readings += 1
        if self._announce_at <= now:
            self._announce_at, self._announced_at = math.inf, now
            self._announce(connection)
        self._arm()

    def _arm(self) -> None:
        due = min(self._publishing.next_deadline() or math.inf, self._announce_at)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if due != math.inf:
            self._timer = asyncio.get_running_loop().call_at(max(due, _now()), self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._work()

    def _announce(self, connection: BrokerConnection) -> None:
        """Take back what is no more, then say what there is. The record is written before, so that nothing is ever forgotten."""
        for topic in self._stale:
            connection.publish(topic, "", retain=True)
        self._stale.clear()
        connection.unsubscribe(self._left)  # else we would hear ourselves
        documents = ha.documents(self._home, self._devices.values()) if self._home else {}
        before = self._record
        now = {topic: {name: str(part["p"]) for name, part in doc["cmps"].items()} for topic, doc in documents.items()}
        if before or now:
            both = {topic: {**before.get(topic, {}), **now.get(topic, {})} for topic in {**before, **now}}
            self._retain(connection, both)
        for topic, parts in before.items():
            document = documents.get(topic)
            gone = {name: {"p": platform} for name, platform in parts.items() if now.get(topic, {}).get(name) != platform}
            if document is None:
                connection.publish(topic, "", retain=True)
            elif gone:
                # Home Assistant removes a component that has nothing but its platform; retained is what has none of these.
                connection.publish(topic, _json({**document, "cmps": {**gone, **_others(document["cmps"], gone)}}))
        for topic, document in documents.items():
            connection.publish(topic, _json(document), retain=True)
            self.counters.announcements += 1
        if before or now:
            self._retain(connection, now)
        self._record = now

    def _retain(self, connection: BrokerConnection, record: Mapping[str, Mapping[str, str]]) -> None:
        text = encode(Announced(topics={topic: dict(parts) for topic, parts in record.items()})) if record else ""
        connection.publish(topics.announced(self._device), text, retain=True)

    # Commands

    def _asked(self, payload: bytes) -> None:
        if self._bucket.take(_now()):
            self.counters.flood += 1
            return
        try:
            command = decode_home_command(payload)
            self._check(command)
            self._wanted.put_nowait(command)
        except asyncio.QueueFull:
            self.counters.flood += 1
        except PeerError as error:
            self.counters.malformed += 1
            self._tell(f"a command of Home Assistant was dropped: {error.message}")

    def _check(self, command: HomeCommand) -> None:
        info = self._devices.get(command.device)
        if info is None:
            raise PeerError(404, f"There is no device {command.device} here.")
        if self._home is None or not ha.may_command(self._home, info):
            raise PeerError(403, f"{info.name} moves: only what is named below home_assistant.allow may be commanded.")

    async def _obey(self) -> None:
        while True:
            command = await self._wanted.get()
            try:
                if self._command is not None:
                    await self._command(command.device, command.command, command.args)
                    self.counters.commands += 1
            except (PeerError, DeviceFault) as error:
                self.counters.refused += 1
                self._tell(f"{command.command} of {command.device}, wanted by Home Assistant, was refused: {error.message}")
            except Exception:  # a bug of ours: the next command may do
                self.counters.refused += 1
                _log.exception("%s of %s, wanted by Home Assistant, failed", command.command, command.device)
            self._publishing.ask(command.device)  # the answer, whatever became of it
            self._work()

    def _tell(self, sentence: str) -> None:
        if not self._lines.take(_now()):
            _log.warning("%s", sentence[:300])

    # Pictures

    async def _picture(self, camera: str) -> None:
        while self._still is not None:
            await self._home_there.wait()
            try:
                jpeg = await self._still(camera)
            except (PeerError, DeviceFault):
                pass  # the camera's own state says so
            else:
                if self._connection is not None and len(jpeg) <= MAX_MESSAGE:
                    self.counters.stills += self._connection.publish(topics.still(self._device, camera), jpeg, qos=0)
            await asyncio.sleep(_STILL_EVERY_S)


def _others(parts: Mapping[str, Any], gone: Mapping[str, Any]) -> dict[str, Any]:
    """What is announced besides; a component that changes its platform comes after it is gone."""
    return {name: part for name, part in parts.items() if name not in gone}


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _now() -> float:
    return asyncio.get_running_loop().time()
