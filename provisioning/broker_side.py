"""The service on the broker: boards that reach nothing else, who is there, and the site's orders."""

from __future__ import annotations

__all__ = ["BrokerSide", "note_absence", "note_presence"]

import asyncio
import contextlib
import dataclasses
import logging
import math
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog
from edgeagent.core.ratelimit import KeyedBuckets, Rate
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
from edgeagent.wire import enrolment as e
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_up
from edgeagent.wire.orders import SITE
from edgeagent_provisioning.broker import mosquitto
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.ending import Ending
from edgeagent_provisioning.enrolling import NoHere
from edgeagent_provisioning.fleet import Carrier
from edgeagent_provisioning.revoking import denied
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site

_log = logging.getLogger(__name__)
_NOTE_S = 1.0
_HANDS = 32  # the service's thread takes requests in turn: one at a time, the broker's would wait for all others each time
_RETAINED_S = 10.0
_BOARDS = 20_000
_SENDER = Rate(50, 500)  # an answer of 2 MB has a hundred parts; nobody fills the queue for all others
_LINES = Rate(1 / 60, 5)  # of each, in the log
_PENDING, _PENDING_BYTES = 4_000, 32_000_000


class BrokerSide:
    """The service on the broker: requests of boards that reach nothing else, who is there, and the site's orders.

    Args:
        service: Answers.
        options: How the broker is reached; called anew for each connection, on the service's thread.
    """

    def __init__(
        self,
        service: Service,
        site: Site,
        options: Callable[[], BrokerOptions],
        *,
        wall: Callable[[], float] = time.time,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self._service = service
        self._site = site
        self._options = options
        self._wall = wall
        self._random01 = random01
        self._inbox = topics.viewer_inbox(SITE, "x").removesuffix("x")
        self._filters = [f"{self._inbox}+", topics.up("x").replace("/x/", "/+/")]
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(2_000)
        self._senders = KeyedBuckets(_SENDER, _BOARDS)
        self._lines = KeyedBuckets(_LINES, _BOARDS)
        self._presence: dict[str, bool] = {}
        self._heard: set[str] = set()
        self._heard_by = math.inf
        self._leaving: dict[str, tuple[float, list[str]]] = {}
        self._carrier = Carrier(site, self._publish, service.on_thread)
        self._ending = Ending(service, site, options, wall=wall, random01=random01)
        self._connection: BrokerConnection | None = None
        self._faults = FaultLog()

    @property
    def connected(self) -> bool:
        """Whether the broker serves us now."""
        return self._connection is not None

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_HANDS):
                group.create_task(self._serve(), name="site-inbox")
            group.create_task(self._note(), name="site-presence")
            group.create_task(self._carrier.run(), name="site-orders")
            group.create_task(self._ending.run(), name="site-endings")
            group.create_task(self._connect(), name="site-broker")

    async def _connect(self) -> None:
        backoff = Backoff(1.0, 30.0)
        while True:
            began = asyncio.get_running_loop().time()
            try:
                options = await self._service.on_thread(self._options)
                options = dataclasses.replace(options, max_pending=_PENDING, max_pending_bytes=_PENDING_BYTES)
                self._heard, self._heard_by = set(), math.inf  # before: what is retained may come while it is being opened
                connection = await BrokerConnection.open(options, None, self._filters, self._received)
            except (BrokerError, EdgeAgentError, OSError) as error:
                if self._faults.fault(str(error), began):
                    _log.warning("%s", error)
            else:
                self._connection = connection
                self._leaving.clear()
                self._heard_by = asyncio.get_running_loop().time() + _RETAINED_S
                self._faults.good(began)
                _log.info("connected to the broker at %s", options.address)
                try:
                    reason = await asyncio.shield(connection.lost)
                finally:
                    self._connection = None
                    await connection.close()
                if asyncio.get_running_loop().time() - began > 10:
                    backoff.reset()
                if self._faults.fault(reason, began):
                    _log.warning("the connection to the broker broke: %s", reason)
            await asyncio.sleep(backoff.next(self._random01()))

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic.startswith(self._inbox):
            sender = topic.removeprefix(self._inbox)
            if not retained and len(payload) <= e.MAX_REPLY and not self._senders.take(sender, time.monotonic()):
                with contextlib.suppress(asyncio.QueueFull):  # whoever asks asks again
                    self._queue.put_nowait((sender, payload))
            return
        board, _, what = topic.removeprefix("ea/1/d/").partition("/")
        if board in self._leaving and what != "up":
            self._left_behind(board, topic, payload)
            return
        if not topics.is_name(board) or topic != topics.up(board) or (board not in self._heard and len(self._heard) >= _BOARDS):
            return  # nothing that we asked the broker for
        with contextlib.suppress(PeerError):
            self._presence[board] = decode_up(payload).up == 1
            self._heard.add(board)
        self._carrier.up(board, payload, missed=retained)

    async def _serve(self) -> None:
        while True:
            sender, payload = await self._queue.get()
            if not topics.is_name(sender):
                continue
            if payload.count(b".") == 4:  # an envelope (JWE): an enrolled board
                await self._enrolled(sender, payload)
                continue
            answer = await self._service.answer(payload, f"mqtt:{sender}", "mqtt")
            self._publish(topics.device_inbox(sender, SITE), answer)

    async def _enrolled(self, board: str, payload: bytes) -> None:
        def here() -> None:
            with contextlib.suppress(NoHere):
                self._service.enrolling.here(payload, board, self._wall())

        try:
            await self._service.on_thread(here)
            await self._carrier.report(board, payload)
        except PeerError as error:
            if not self._lines.take(board, time.monotonic()):  # whoever has a claim may say here what he likes
                _log.info("%s: %s", board, error.message)
        except Exception as error:  # the disk is full, or a bug of ours: no board shall end the service by it
            _log.error("%s: %s", board, error, exc_info=not isinstance(error, EdgeAgentError | OSError | sqlite3.Error))

    async def _note(self) -> None:
        """Write who is online, many at once: a broker that comes back tells of all boards together."""
        while True:
            await asyncio.sleep(_NOTE_S)
            seen, self._presence = self._presence, {}
            missing = None
            if self._connection and asyncio.get_running_loop().time() > self._heard_by:
                missing, self._heard_by = self._heard, math.inf
            try:
                if missing is not None:  # the broker knows nothing of all others
                    await self._service.on_thread(lambda known=missing: note_absence(self._site, known))  # type: ignore[misc]
                await self._tidy()
                if seen:
                    await self._service.on_thread(lambda seen=seen: note_presence(self._site, seen, self._wall()))  # type: ignore[misc]
            except (EdgeAgentError, OSError, sqlite3.Error) as error:
                _log.error("%s", error)

    async def _tidy(self) -> None:
        """Take back what revoked boards have retained: they are denied that themselves, and all would go on showing them."""
        clock = asyncio.get_running_loop().time
        if self._heard and self.connected:
            gone, home = await self._service.on_thread(lambda: (set(denied(self._site)), _home(self._site)))
            connection = self._connection
            if connection is None:  # the broker went meanwhile
                return
            for board in (self._heard & gone) - self._leaving.keys():
                theirs = mosquitto.announcements(home, board) if home else []
                self._leaving[board] = (clock() + _RETAINED_S, theirs)
                connection.publish(topics.hello(board), "", retain=True)
                connection.subscribe([topics.readings_filter(board), topics.announced(board)])
                # We hear this ourselves, after all that is retained there.
                connection.publish(topics.announced(board), "", retain=True)
        for board in [board for board, (end, _) in self._leaving.items() if clock() > end]:  # a broker that is not ours
            self._forgotten(board)

    def _left_behind(self, board: str, topic: str, payload: bytes) -> None:
        if topic != topics.announced(board):
            if payload and self._connection is not None:
                self._connection.publish(topic, "", retain=True)
        elif not payload:
            self._forgotten(board)

    def _forgotten(self, board: str) -> None:
        """Its presence goes last: while that is there, whoever comes after us tidies up."""
        _, theirs = self._leaving.pop(board)
        self._heard.discard(board)
        if self._connection is not None:
            self._connection.unsubscribe([topics.readings_filter(board), topics.announced(board)])
            for topic in (*theirs, topics.up(board)):
                self._connection.publish(topic, "", retain=True)

    def _publish(self, topic: str, text: str) -> bool:
        return self._connection is not None and self._connection.publish(topic, text)


def _home(site: Site) -> str:
    """Where boards tell Home Assistant of themselves; "" where it has no user at the broker."""
    settings = Settings.load(site)
    return settings.home_prefix if settings and settings.home else ""


def note_presence(site: Site, seen: Mapping[str, bool], now: float) -> None:
    """Write which of these boards are online; revoked ones and those that the site does not know are passed over."""
    query = "SELECT name, online, seen_at FROM boards WHERE state != 'revoked'"  # what these have retained may still say so
    known = {row["name"]: row for row in site.registry.rows(query)}
    changes = []
    for name, online in seen.items():
        row = known.get(name)
        if row is not None and (bool(row["online"]) != online or (online and now - (row["seen_at"] or 0) > 300)):
            changes.append((int(online), int(now) if online else row["seen_at"], name))
    if changes:
        with site.registry.transaction() as connection:
            connection.executemany("UPDATE boards SET online = ?, seen_at = ? WHERE name = ?", changes)


def note_absence(site: Site, heard: Collection[str]) -> None:
    """Write that boards of which the broker retains nothing are not online, as after it lost its memory."""
    gone = [(board.name,) for board in site.registry.boards() if board.online and board.name not in heard]
    if gone:
        with site.registry.transaction() as connection:
            connection.executemany("UPDATE boards SET online = 0 WHERE name = ?", gone)
