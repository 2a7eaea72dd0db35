"""The site's permanent service: boards enrol and renew here, over HTTPS and over the broker, and show that they are there.

    GET  /root.pem   roots, for boards that check them against their claim       GET /crl.pem   revoked certificates
    POST /enrol, /renew   requests of `wire.enrolment`                           GET /healthz
    POST /here       a sealed `Here`, with the board's certificate               GET /releases/<sha256>.tar   releases for upgrades

What is decided, and written before it is answered, is `enrolling`'s: the service may be killed at any moment. All of that runs on
one thread of its own, so that the loop never waits for the disk. What other commands change meanwhile (claims, revocations) is seen
by the number of the audit log's last row.
"""

from __future__ import annotations

__all__ = ["Service"]

import asyncio
import contextlib
import json
import logging
import resource
import sqlite3
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from edgeagent.core.network import network_of
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.http.guests import Guest, Guests
from edgeagent.http.secure import SecureListener
from edgeagent.wire import enrolment as e
from edgeagent_provisioning.enrolling import Enrolling, Event
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BODY_S = 10.0
_OTHER_FILES = 256
_FROM_ONE = 64  # connections of one network
_CHORES_S = 3_600.0
_LOOK_S = 2.0
_AGAIN_S, _TELL_AGAIN_S = 60.0, 10.0
_REST, _REST_S = 4.0, 5.0  # between two refreshes: so many times as long as one takes, and at most so long
_CRL_EVERY_S = 86_400.0
_AT_ONCE = 256
_UNLIMITED = 65_536
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
        # Whoever opens connections and asks nothing shall take neither the files that the registry needs nor the others' places.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._guests = Guests(_UNLIMITED if files == resource.RLIM_INFINITY else max(64, files - _OTHER_FILES), _FROM_ONE)
        self._listener: SecureListener | None = None
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
        server = self._listener.server if self._listener else None
        return int(server.sockets[0].getsockname()[1]) if server and server.sockets else 0

    async def on_thread(self, job: Callable[[], T]) -> T:
        """Run something that uses the registry, after whatever waits there already."""
        return await self._loop.run_in_executor(self._thread, job)

    def refresh(self) -> None:
        """Bring the broker's files in line now; on the service's thread. Raises what that does."""
        self._refresh()

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
        self._listener = SecureListener(self._connection, context=lambda: self._context, headers=_COMMON)
        try:
            await self._listener.start(self._host or None, self._wanted_port)
        except OSError as error:
            await self.close()
            place = f"{self._host or 'all addresses'}, port {self._wanted_port}"
            raise EdgeAgentError(f"The service cannot listen on {place}: {error.strerror}. Give another with --listen.") from None

    async def close(self) -> None:
        """Stop listening, let running requests end, and write what is being written."""
        if self._listener:
            await self._listener.close()
        if self._runner:
            await self._runner.cleanup()
        if self._listener:
            self._listener.abort()
        self._listener = self._runner = None
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
                    await asyncio.sleep(min(_REST_S, _REST * await self.on_thread(self._refreshed)))
            except (EdgeAgentError, OSError, sqlite3.Error) as error:
                _log.error("%s", error)
                chores_at = min(chores_at, now + _AGAIN_S)
                self._loop.call_later(_TELL_AGAIN_S, self._stale.set)  # or a revocation would wait for the next change
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

    def _refreshed(self) -> float:
        """Bring all in line; how long that took. With a thousand claims it is much, and each board that comes asks for it."""
        began = self._loop.time()
        self._tls()  # maybe by `site rotate-ca`
        self._refresh()
        return self._loop.time() - began

    def _chores(self) -> None:
        self._tls()
        now = self._wall()
        if not 0 <= now - self._crl_at < _CRL_EVERY_S:
            self._site.write_crl(now)
            self._crl_at = now
            self._stale_soon()

    def _changed_elsewhere(self) -> bool:
        last = self._site.registry.rows("SELECT coalesce(max(id), 0) AS last FROM audit")[0]["last"]
        before, self._last_audit = self._last_audit, last
        query = "SELECT 1 FROM audit WHERE id > ? AND action IN ('revoke', 'transfer') LIMIT 1"
        if before != last and self._site.registry.rows(query, (before,)):
            self._unlisted()
        return bool(before != last)

    def _unlisted(self) -> None:
        """Write the CRL where somebody has revoked boards who has no issuing key: that may be our credential."""
        before, self._crl_at = self._crl_at, 0.0  # whatever fails now, the next chores do it
        if self._site.crl_is_whole(self._wall()):
            self._crl_at = before
        else:
            self._chores()

    def _changed(self) -> None:
        self._stale_soon()

    def _stale_soon(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stale.set)

    # HTTP

    def _connection(self) -> Guest:
        return Guest(self._guests, self._protocol)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner else None
        return _HangUp() if server is None else server()

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
        with _busy(request):
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
        return _Download(path)

    async def _health(self, request: web.Request) -> web.Response:
        await self.on_thread(lambda: self._site.registry.rows("SELECT 1"))
        return web.json_response({"ok": True})

    async def _request(self, request: web.Request) -> web.Response:
        answer = await self.answer(await _body(request), network_of(request.remote or ""), "https")
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


class _Download(web.FileResponse):
    """A file whose connection is not idle before it is sent."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        with _busy(request):
            return await super().prepare(request)


class _HangUp(asyncio.Protocol):
    """For who comes while the service closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@contextlib.contextmanager
def _busy(request: web.BaseRequest) -> Iterator[None]:
    """Its connection does not give way to another one meanwhile."""
    guest = request.transport.get_protocol() if request.transport else None
    if not isinstance(guest, Guest):  # it has gone
        yield
        return
    guest.began()
    try:
        yield
    finally:
        guest.ended()


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _refusal(code: int, message: str) -> web.Response:
    return web.Response(status=code, text=e.plain_refusal(code, message), content_type="application/json")


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
