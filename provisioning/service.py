"""The site's permanent service: boards enrol and renew here, over HTTPS and over the broker, and show that they are there.

    GET  /root.pem   roots, for boards that check them against their claim       GET /crl.pem   revoked certificates
    POST /enrol, /renew   requests of `wire.enrolment`                           GET /healthz
    POST /here       a sealed `Here`, with the board's certificate               GET /releases/<sha256>.tar   releases for upgrades

What is decided, and written before it is answered, is `enrolling`'s: the service may be killed at any moment. All of that runs on
one thread of its own, so that the loop never waits for the disk. What other commands change meanwhile (claims, revocations) is seen
by the number of the audit log's last row.
"""

from __future__ import annotations

__all__ = ["BrokerSide", "Service"]

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import logging
import math
import random
import sqlite3
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import web

from edgeagent.core.backoff import Backoff
from edgeagent.core.faultlog import FaultLog
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions
from edgeagent.wire import enrolment as e
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_up
from edgeagent.wire.orders import SITE
from edgeagent_provisioning.enrolling import Enrolling, Event, NoHere
from edgeagent_provisioning.fleet import Carrier
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.revoking import denied
from edgeagent_provisioning.site import Site

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BODY_S = 10.0
_CHORES_S = 3_600.0
_LOOK_S = 2.0
_CRL_EVERY_S = 86_400.0
_AT_ONCE = 256
_NOTE_S = 1.0
_RETAINED_S = 10.0
_PENDING, _PENDING_BYTES = 4_000, 32_000_000
_COMMON = {"Server": "edgeagent", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Service:
    """Listens between `start` and `close`, or as an async context manager; `run` does the rest meanwhile.

    Args:
        site: The open site.
        host: Address to listen on; "" for all.
        port: TCP port; 0 for any free one.
        settings: The first settings of a board (`Enrolling`).
        told: Called for each event, on the service's thread.
        refresh: Brings the broker's files in line with the registry, and tells it; called on the service's thread.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        site: Site,
        host: str = "",
        port: int = 8443,
        *,
        settings: Callable[[Board], Mapping[str, object] | None] = lambda board: None,
        told: Callable[[Event], None] = lambda event: None,
        refresh: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._host, self._wanted_port = host, port
        self._refresh = refresh
        self._wall = wall
        self._thread = ThreadPoolExecutor(1, "edgeagent-site")
        self._stale = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.enrolling = Enrolling(site, time.monotonic, settings=settings, told=told, changed=self._changed)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._crl_at = 0.0
        self._last_audit = -1
        self._shown: tuple[bytes, str] = (b"", "")
        self._busy = 0

    async def __aenter__(self) -> Service:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while none is."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else 0

    async def on_thread(self, job: Callable[[], T]) -> T:
        """Run something that uses the registry, after whatever waits there already."""
        return await self._loop.run_in_executor(self._thread, job)

    async def start(self) -> None:
        """Listen.

        Raises:
            EdgeAgentError: The address cannot be had, or the site's keys cannot be used.
        """
        await self.on_thread(self._tls)
        app = web.Application(client_max_size=e.MAX_REQUEST, middlewares=[self._middleware])
        app.add_routes(
            [
                web.get("/root.pem", self._roots),
                web.get("/crl.pem", self._crl),
                web.get("/healthz", self._health),
                web.post("/enrol", self._request),
                web.post("/renew", self._request),
                web.post("/here", self._here),
                web.get("/releases/{name:[0-9a-f]{64}\\.tar}", self._release),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=30.0, shutdown_timeout=3.0)
        await self._runner.setup()
        assert self._runner.server is not None
        try:
            self._server = await self._loop.create_server(
                self._runner.server, self._host or None, self._wanted_port, ssl=self._context, backlog=512
            )
        except OSError as error:
            await self.close()
            place = f"{self._host or 'all addresses'}, port {self._wanted_port}"
            raise EdgeAgentError(f"The service cannot listen on {place}: {error.strerror}. Give another with --listen.") from None

    async def close(self) -> None:
        """Stop listening, let running requests end, and write what is being written."""
        if self._server:
            self._server.close()
        if self._runner:
            await self._runner.cleanup()
        self._server = self._runner = None
        await self._loop.run_in_executor(None, self._thread.shutdown)

    async def run(self) -> None:
        """Keep the broker's files, the CRL and the service's own certificate up to date, until cancelled."""
        chores_at = 0.0
        while True:
            now = self._loop.time()
            try:
                if now >= chores_at:
                    chores_at = now + _CHORES_S
                    await self.on_thread(self._chores)
                if await self.on_thread(self._changed_elsewhere) or self._stale.is_set():
                    self._stale.clear()
                    await self.on_thread(self._tls)  # maybe by `site rotate-ca`
                    await self.on_thread(self._refresh)
            except (EdgeAgentError, OSError, sqlite3.Error) as error:
                _log.error("%s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._stale.wait()

    # On the service's thread

    def _tls(self) -> None:
        cert, key = self._site.service_certificate(self._wall())
        trusted = self._site.authority.trust_pem
        shown = cert.read_bytes()
        if (shown, trusted) == self._shown:
            return
        try:
            self._context.load_cert_chain(cert, key)
            self._context.load_verify_locations(cadata=trusted)
        except (ssl.SSLError, OSError) as error:
            raise EdgeAgentError(
                f"The service's certificate {cert} or its key cannot be used: {error.strerror or error}."
            ) from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_mode = ssl.CERT_OPTIONAL  # a board shows one at /here; to enrol or renew it needs none
        self._shown = (shown, trusted)

    def _chores(self) -> None:
        self._tls()
        now = self._wall()
        if not 0 <= now - self._crl_at < _CRL_EVERY_S:
            self._crl_at = now
            self._site.write_crl(now)
            self._stale_soon()

    def _changed_elsewhere(self) -> bool:
        last = self._site.registry.rows("SELECT coalesce(max(id), 0) AS last FROM audit")[0]["last"]
        before, self._last_audit = self._last_audit, last
        return bool(before != last)

    def _changed(self) -> None:
        self._stale_soon()

    def _stale_soon(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stale.set)

    # HTTP

    async def answer(self, text: bytes, source: str, door: str) -> str:
        """The reply to a request, from whichever door it came; a plain refusal where the site is out of order."""
        if self._busy >= _AT_ONCE:
            return e.plain_refusal(503, "The site is busy; ask again in a moment.", 5.0)
        self._busy += 1
        try:
            kind = "mqtt" if door == "mqtt" else "https"
            return await self.on_thread(
                lambda: self.enrolling.handle(text, self._wall(), source=source, door="mqtt" if kind == "mqtt" else "https")
            )
        except Exception as error:  # the disk is full, a key is unreadable, or a bug of ours: the next request may do
            _log.error("a request could not be answered: %s", error, exc_info=not isinstance(error, EdgeAgentError | OSError))
            return e.plain_refusal(503, "The site is out of order at the moment; its service log says why.", 30.0)
        finally:
            self._busy -= 1

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=e.plain_refusal(error.status, error.reason))
        response.headers.update(_COMMON)
        return response

    async def _roots(self, request: web.Request) -> web.Response:
        return web.Response(
            text=await self.on_thread(lambda: self._site.authority.roots_pem), content_type="application/x-pem-file"
        )

    async def _crl(self, request: web.Request) -> web.Response:
        try:
            data = await self.on_thread((self._site.folder / "crl.pem").read_bytes)
        except OSError:
            raise web.HTTPNotFound from None
        return web.Response(body=data, content_type="application/x-pem-file")

    async def _release(self, request: web.Request) -> web.StreamResponse:
        """An archive for upgrades (`upgrade`): nothing secret, and boards take it by the hash that the site has signed."""
        path = self._site.folder / "releases" / request.match_info["name"]
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _health(self, request: web.Request) -> web.Response:
        await self.on_thread(lambda: self._site.registry.rows("SELECT 1"))
        return web.json_response({"ok": True})

    async def _request(self, request: web.Request) -> web.Response:
        answer = await self.answer(await _body(request), _source(request), "https")
        status = e.Refused.model_validate_json(answer).code if answer.startswith("{") else 200
        return web.Response(status=status, text=answer, content_type="application/json" if status != 200 else "application/jose")

    async def _here(self, request: web.Request) -> web.Response:
        body = await _body(request)
        shown = _shown_certificate(request)
        if shown is None:
            return _refusal(401, "Show the board's certificate (mutual TLS).")
        name, serial = shown
        try:
            board = await self.on_thread(lambda: self.enrolling.here(body, name, self._wall(), serial=serial))
        except PeerError as error:
            return _refusal(error.code, error.message)
        return web.Response(text=json.dumps({"state": board.state}, separators=(",", ":")), content_type="application/json")


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
        self._presence: dict[str, bool] = {}
        self._heard: set[str] = set()
        self._heard_by = math.inf
        self._carrier = Carrier(site, self._publish, service.on_thread)
        self._connection: BrokerConnection | None = None
        self._faults = FaultLog()

    @property
    def connected(self) -> bool:
        """Whether the broker serves us now."""
        return self._connection is not None

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(), name="site-inbox")
            group.create_task(self._note(), name="site-presence")
            group.create_task(self._carrier.run(), name="site-orders")
            group.create_task(self._connect(), name="site-broker")

    async def _connect(self) -> None:
        backoff = Backoff(1.0, 30.0)
        while True:
            began = asyncio.get_running_loop().time()
            try:
                options = await self._service.on_thread(self._options)
                options = dataclasses.replace(options, max_pending=_PENDING, max_pending_bytes=_PENDING_BYTES)
                connection = await BrokerConnection.open(options, None, self._filters, self._received)
            except (BrokerError, EdgeAgentError, OSError) as error:
                if self._faults.fault(str(error), began):
                    _log.warning("%s", error)
            else:
                self._connection = connection
                self._heard, self._heard_by = set(), asyncio.get_running_loop().time() + _RETAINED_S
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
            if not retained and len(payload) <= e.MAX_REPLY:
                with contextlib.suppress(asyncio.QueueFull):  # whoever asks asks again
                    self._queue.put_nowait((topic.removeprefix(self._inbox), payload))
            return
        board = topic.split("/")[3]
        with contextlib.suppress(PeerError):
            self._presence[board] = decode_up(payload).up == 1
            self._heard.add(board)
        self._carrier.up(board, payload)

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
            _log.info("%s: %s", board, error.message)
        except (EdgeAgentError, OSError, sqlite3.Error) as error:
            _log.error("%s", error)

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
        """Take back what revoked boards have retained: they are denied that themselves, and pages would go on showing them."""
        if not self._heard or self._connection is None:
            return
        for board in self._heard & set(await self._service.on_thread(lambda: denied(self._site))):
            for topic in (topics.hello(board), topics.up(board)):
                self._connection.publish(topic, "", retain=True)
            self._heard.discard(board)

    def _publish(self, topic: str, text: str) -> bool:
        return self._connection is not None and self._connection.publish(topic, text)


def note_presence(site: Site, seen: Mapping[str, bool], now: float) -> None:
    """Write which of these boards are online; those that the site does not know are passed over."""
    known = {row["name"]: row for row in site.registry.rows("SELECT name, online, seen_at FROM boards")}
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


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _refusal(code: int, message: str) -> web.Response:
    return web.Response(status=code, text=e.plain_refusal(code, message), content_type="application/json")


def _source(request: web.Request) -> str:
    """Who shares a limit: an IPv4 address, or the network of an IPv6 one, of which a household has many addresses."""
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def _shown_certificate(request: web.Request) -> tuple[str, str] | None:
    """Name and serial (hexadecimal) of the certificate that TLS has checked; None where none was shown."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    connection = request.transport.get_extra_info("ssl_object") if request.transport else None
    data = connection.getpeercert(True) if connection is not None else None
    if not data:
        return None
    certificate = x509.load_der_x509_certificate(data)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return (str(names[0].value), f"{certificate.serial_number:x}") if len(names) == 1 else None
