"""The MQTT door: presence on the broker, and viewers' messages to and from the sessions."""

from __future__ import annotations

__all__ = ["Beside", "MqttCounters", "MqttDoor", "MqttOptions", "Together"]

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeagent.core import presence as p
from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog, duration
from edgeagent.core.ports import SignalingPort
from edgeagent.errors import PeerError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, CertificateRefused, NobodyListens, Will
from edgeagent.mqtt.url import parse_url
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_up, encode
from edgeagent.wire.messages import MAX_MESSAGE, AgentMessage, Hello, Pong, State, Up

_log = logging.getLogger(__name__)
_STABLE_S = 3.0
_REFUSED_MIN_S = 0.5


@dataclass(slots=True, frozen=True, kw_only=True)
class MqttOptions:
    """The broker, as the owner configures it.

    Attributes:
        url: `mqtt:`, `mqtts:`, `ws:` or `wss:`, with user name and password where the broker wants them.
        ca_file: PEM file that vouches for the broker; None for the system's certificates.
        cert_file: PEM file of this device, for mutual TLS.
        key_file: Its private key.
        keepalive_s: The longest silence on the connection.
        retry_min_s: The shortest wait before connecting again.
        retry_max_s: The longest.
        refused_max_s: The longest while a machine in our own network says that nothing listens there: a viewer may look only by
            this broker, and his picture shall be back within three seconds. A board of a site waits as long as otherwise: a
            thousand of them may have one broker, and their handshakes would come all at once.
    """

    url: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    keepalive_s: int = 30
    retry_min_s: float = 1.0
    retry_max_s: float = 60.0
    refused_max_s: float = 2.0


@dataclass(slots=True)
class MqttCounters:
    """What happened since the start."""

    connections: int = 0
    received: int = 0
    sent: int = 0
    dropped_offline: int = 0
    dropped_full: int = 0
    ignored: int = 0


class Beside(Protocol):
    """What else uses the connection to the broker. Implemented by `mqtt.bridge.Bridge`."""

    filters: Sequence[str]
    """What it wants to hear; the broker may refuse it."""

    def connected(self, connection: BrokerConnection) -> None:
        """The broker serves us, by this connection."""

    def lost(self) -> None:
        """No longer."""

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        """Take a message, maybe before `connected`; false where it is for somebody else."""


class Together:
    """Several that use the connection, as one `Beside`; a message goes to the first who takes it."""

    def __init__(self, parts: Sequence[Beside]) -> None:
        self._parts = tuple(parts)
        self.filters: Sequence[str] = tuple(name for part in parts for name in part.filters)

    def connected(self, connection: BrokerConnection) -> None:
        """See `Beside`."""
        for part in self._parts:
            part.connected(connection)

    def lost(self) -> None:
        """See `Beside`."""
        for part in self._parts:
            part.lost()

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        """See `Beside`."""
        return any(part.received(topic, payload, retained) for part in self._parts)


class _HelloSource(Protocol):
    def __call__(self) -> Hello: ...


class MqttDoor:
    """Keeps one connection to the broker as long as `run` runs; viewers never notice more than its absence.

    Args:
        options: Where and how.
        device: This device's name, also its client id on the broker.
        epoch: Names this run of the agent.
        signaling: Takes the viewers' messages.
        hello: What to publish.
        beside: What else uses the connection; None where nothing does.
        unwanted: Called whenever the broker refuses this device's certificate.
        wall: Unix time in seconds.
        random01: A number from 0 to 1 for the jitter of the back-off.

    Raises ValueError from the constructor for a `url` or `device` that cannot be used.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        device: str,
        epoch: str,
        signaling: SignalingPort,
        hello: _HelloSource,
        beside: Beside | None = None,
        unwanted: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._options = BrokerOptions(
            address=parse_url(options.url),
            client_id=device,
            ca_file=options.ca_file,
            cert_file=options.cert_file,
            key_file=options.key_file,
            keepalive_s=options.keepalive_s,
        )
        self._filters = topics.agent_filters(device)
        self._up_topic, self._hello_topic = topics.up(device), topics.hello(device)
        self._device = device
        self._epoch = epoch
        self._signaling = signaling
        self._hello = hello
        self._beside = beside
        self._unwanted = unwanted
        self._wall = wall
        self._random01 = random01
        self._backoff = Backoff(options.retry_min_s, options.retry_max_s)
        soonest_s = min(_REFUSED_MIN_S, options.retry_min_s)
        self._refused = None if options.cert_file else Backoff(soonest_s, max(soonest_s, options.refused_max_s))
        self._presence = p.Presence(epoch)
        self._connection: BrokerConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._faults = FaultLog()
        self._stable = self._anew = False
        self.counters = MqttCounters()
        self.status = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether the broker serves us now; `status` says more, in words."""
        return self._connection is not None

    def hello_changed(self) -> None:
        """Publish `hello` anew, soon."""
        self._present(p.HelloChanged())

    def reconnect(self, why: str) -> None:
        """Make the connection anew, with what now lies in the files of its certificate."""
        if self._connection is not None and not self._connection.lost.done():
            _log.info("connecting to the broker anew: %s", why)
            self._stable = self._anew = True
            self._connection.lost.set_result(why)

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled; then say `up: 0` and leave."""
        loop = asyncio.get_running_loop()
        while True:
            self._stable = False
            backoff = self._backoff
            try:
                await self._serve_once()
            except BrokerError as error:
                self._tell(str(error), loop.time())
                if isinstance(error, NobodyListens) and self._refused:
                    backoff = self._refused
                if isinstance(error, CertificateRefused):
                    self._unwanted()
            if self._stable:
                self._backoff.reset()
            await asyncio.sleep(backoff.next(self._random01()))

    async def _serve_once(self) -> None:
        """One connection from beginning to end; raises BrokerError when it fails or breaks."""
        will = Will(self._up_topic, encode(Up(up=0, epoch=self._epoch, at=self._now_ms())))
        beside = self._beside
        connection = await BrokerConnection.open(
            self._options, will, self._filters, self._received, optional=beside.filters if beside else ()
        )
        try:
            self._connection = connection
            connected_at = asyncio.get_running_loop().time()
            self.counters.connections += 1
            self.status = f"connected to {self._options.address}"
            if (away_s := self._faults.good(connected_at)) is None:
                _log.info("connected to the broker at %s", self._options.address)
            else:
                _log.warning("connected to the broker at %s again after %s", self._options.address, duration(away_s))
            self._present(p.BrokerConnected())
            if beside:
                beside.connected(connection)
            # Shielded: a future that is awaited bare is cancelled with the waiter.
            reason = await asyncio.shield(connection.lost)
            if self._anew:
                self._anew = False
                return
            self._stable = asyncio.get_running_loop().time() - connected_at >= _STABLE_S
        except asyncio.CancelledError:
            self._present(p.Leaving())
            raise
        finally:
            self._connection = None
            self._present(p.BrokerLost())
            if beside:
                beside.lost()
            await connection.close()
        doubt = "" if self._stable else f" Does another client of this broker use the name {self._device}?"
        raise BrokerError(f"The connection to the broker at {self._options.address} broke: {reason}.{doubt}")

    def _tell(self, sentence: str, now: float) -> None:
        """Log a new fault once, and a lasting one every ten minutes."""
        self.status = sentence
        if self._faults.fault(sentence, now):
            _log.warning("%s", sentence)

    # Presence

    def _present(self, event: p.PresenceEvent) -> None:
        loop = asyncio.get_running_loop()
        for effect in self._presence.handle(event, loop.time()):
            if self._connection is None:
                continue
            if isinstance(effect, p.PublishUp):
                up = Up(up=effect.up, epoch=self._epoch, at=self._now_ms())
                self._connection.publish(self._up_topic, encode(up), retain=True)
            else:
                self._connection.publish(self._hello_topic, encode(self._hello()), retain=True)
        due = self._presence.next_deadline()
        if self._timer and (due is None or self._timer.when() != due):
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = loop.call_at(due, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._present(p.TimePassed())

    def _now_ms(self) -> float:
        return round(self._wall() * 1000)

    # Viewers

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._up_topic:
            try:
                up = decode_up(payload)
            except PeerError:
                self._present(p.UpSeen(0, ""))
            else:
                self._present(p.UpSeen(up.up, up.epoch))
            return
        if self._beside and self._beside.received(topic, payload, retained):
            return
        viewer = topics.sender_of(topic, self._device)
        # A retained message was written for another time.
        if viewer is None or retained:
            self.counters.ignored += 1
            return
        self.counters.received += 1
        self._signaling.receive(payload, _Inbox(self, viewer))

    def _send(self, viewer: str, message: AgentMessage) -> None:
        if self._connection is None:
            self.counters.dropped_offline += 1
            return
        text = encode(message)
        if len(text) > MAX_MESSAGE:
            _log.error("a message of %d characters is too large for MQTT and was dropped", len(text))
            return
        qos = 0 if isinstance(message, Pong | State) else 1
        if self._connection.publish(topics.viewer_inbox(viewer, self._device), text, qos=qos):
            self.counters.sent += 1
        else:
            self.counters.dropped_full += 1


class _Inbox:
    """A viewer's inbox on the broker; implements `ReplyTo`."""

    trickles = True
    principal = ""

    def __init__(self, door: MqttDoor, viewer: str) -> None:
        self.key = self.origin = f"mqtt:{viewer}"
        self._door = door
        self._viewer = viewer

    def send(self, message: AgentMessage) -> None:
        self._door._send(self._viewer, message)
