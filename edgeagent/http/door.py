"""The HTTP door: the page, WHEP, snapshots and health, behind one guard."""

from __future__ import annotations

__all__ = ["HttpDoor", "HttpOptions"]

import asyncio
import errno
import json
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp import web

from edgeagent.core.ports import SignalingPort
from edgeagent.errors import DeviceFault, EdgeAgentError, PeerError
from edgeagent.http.guard import Guard, Refused, is_own
from edgeagent.http.guests import Guest, Guests
from edgeagent.http.metrics import Metric, render
from edgeagent.http.names import Names, is_loopback
from edgeagent.http.pages import Pages, content_security_policy
from edgeagent.http.problems import problem, problem_of
from edgeagent.http.secure import SecureListener
from edgeagent.http.snapshots import Snapshot, Snapshots
from edgeagent.http.whep import FRAGMENT, SDP, Whep
from edgeagent.tls.source import Loaded, Source
from edgeagent.wire.codec import encode
from edgeagent.wire.messages import Hello, PageConfig, PageMqtt

_log = logging.getLogger(__name__)
_KEEPALIVE_S = 75.0
_SHUTDOWN_S = 2.0
_MAX_LOGIN = 1024
_LOOK_S = 60.0
_HEALTH = "/healthz"
"""Whoever watches over the agent may ask by any name."""
_COMMON = {"Server": "edgeagent", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True, frozen=True, kw_only=True)
class HttpOptions:
    """The door, as the owner configures it.

    Attributes:
        host: Address to listen on, `localhost` or `` for all.
        port: TCP port; 0 for any free one.
        token: What viewers must know; None where everybody who reaches the address may watch.
        cors: Origins of foreign pages that may use the API and frame the page.
        mqtt_url: Where the page reaches the broker, `ws:` or `wss:`, without credentials; None without a broker.
        names: Names by which an open door may be asked for, besides those that nobody else can have.
        operators: Tokens of those who may do more than watch, by name.
        max_connections: TCP connections at once; for more the longest idle are hung up on.
        tls: Where the certificate comes from; None for plain HTTP.
        web_root: Folder of the page's files.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    cors: tuple[str, ...] = ()
    mqtt_url: str | None = None
    names: tuple[str, ...] = ()
    operators: Mapping[str, str] = field(default_factory=dict)
    max_connections: int = 256
    tls: Source | None = None
    web_root: Path = Path(__file__).resolve().parent.parent / "web"


class HttpDoor:
    """Listens between `start` and `close`, or as an async context manager.

    Args:
        options: Where and for whom.
        device: The device's name.
        signaling: Takes the viewers' messages.
        hello: Who the device is and how its cameras are now.
        snapshot: Makes a JPEG of a camera; raises DeviceFault or PeerError with a sentence.
        health: Facts for `GET /healthz` without secrets; where `ok` is false, the answer is 503.
        metrics: What `GET /metrics` tells; called on the loop.
        ticket: Makes what a page shows on its data channel to be known: for the operator whose token it has, if any, and for
            whether it is opened on this machine; None where it may only watch.
    """

    def __init__(
        self,
        options: HttpOptions,
        *,
        device: str,
        signaling: SignalingPort,
        hello: Callable[[], Hello],
        snapshot: Snapshot,
        health: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], Sequence[Metric]] = tuple,
        ticket: Callable[[str | None, bool], str | None] = lambda operator, local: None,
    ) -> None:
        self._options = options
        self._device = device
        self._hello = hello
        self._health = health
        self._metrics = metrics
        self._ticket = ticket
        local_only = options.token is None and is_loopback(options.host)
        # The pages that are allowed are the owner's own, and so are their hosts.
        hosts = [urlsplit(origin).hostname or "" for origin in options.cors]
        names = Names([*options.names, *hosts, socket.gethostname()], self._certified)
        self._guard = Guard(options.token, options.cors, local_only=local_only, names=names, operators=options.operators)
        policy = content_security_policy(websockets=options.mqtt_url is not None, frame_ancestors=self._guard.frame_ancestors)
        self._pages = Pages(options.web_root, policy)
        self._snapshots = Snapshots(snapshot)
        self._whep = Whep(signaling, hello)
        self._guests = Guests(options.max_connections)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._secure: SecureListener | None = None
        self._loaded: Loaded | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while none is."""
        sockets = self._server.sockets if self._server else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def start(self) -> None:
        """Listen; raises EdgeAgentError with a sentence where the address cannot be had, or the certificate cannot be used."""
        tls = self._options.tls
        if tls is not None:
            self._loaded = await asyncio.to_thread(tls.load)
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(self._routes())
        # Cancellation: who hangs up while his offer is answered needs no peer.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=1.0,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = self._expecting(server.request_handler)
        try:
            if tls is not None:
                await self._listen_securely(tls)
            else:
                self._server = await asyncio.get_running_loop().create_server(
                    self._connection, self._options.host or None, self._options.port, backlog=256
                )
        except OSError as error:
            await self.close()
            raise EdgeAgentError(_sentence(self._options, error)) from None
        _log.info("listening on %s%s", self._address(), f" with {self._loaded.said}" if self._loaded else "")

    async def _listen_securely(self, tls: Source) -> None:
        """Raises OSError."""
        self._secure = SecureListener(self._connection, context=self._context, headers=_COMMON)
        try:
            await self._secure.start(self._options.host or None, self._options.port)
        finally:
            self._server = self._secure.server
        self._renewing = asyncio.create_task(self._renew(tls), name="https-certificate")

    async def close(self) -> None:
        """Stop listening, let running requests end for a moment, hang up."""
        if self._renewing:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._secure:
            await self._secure.close()
        if self._server:
            self._server.close()
        await self._snapshots.close()
        if self._runner:
            await self._runner.cleanup()
        if self._secure:
            self._secure.abort()
        if self._server:
            await self._server.wait_closed()
        self._server = self._runner = self._secure = self._renewing = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # Every request

    def _routes(self) -> list[web.RouteDef]:
        whep = self._whep
        return [
            web.get(_HEALTH, self._get_health),
            web.get("/metrics", self._private(self._get_metrics)),
            web.get("/api/config", self._get_config),
            web.post("/api/login", self._post_login),
            web.post("/api/logout", self._post_logout),
            web.get("/api/hello", self._private(self._get_hello)),
            web.get("/{camera}.jpg", self._private(self._get_snapshot)),
            web.get("/{camera}/whep", self._private(whep.get)),
            web.post("/{camera}/whep", self._private(whep.post)),
            web.options("/{camera}/whep", self._options_whep),
            web.get("/{camera}/whep/{sid}", self._private(whep.get)),
            web.patch("/{camera}/whep/{sid}", self._private(whep.patch)),
            web.delete("/{camera}/whep/{sid}", self._private(whep.delete)),
            web.options("/{camera}/whep/{sid}", self._options_whep),
            web.options("/{path:.*}", self._options_any),
            web.get("/{path:.*}", self._get_page),
        ]

    def _private(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self._guard.require(request, _now())
            return await handler(request)

        return guarded

    def _expecting(self, handle: _Handle) -> _Handle:
        """With an answer of ours to what one may not expect (RFC 9110, 10.1.1): the router gives one before it comes to us, and
        fails at letters beyond ASCII."""

        async def refuse(_: web.Request) -> web.StreamResponse:
            raise PeerError(417, "Expect may say 100-continue only.")

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            expect = request.headers.get("Expect")
            if expect and expect.lower() != "100-continue" and request.version >= (1, 1):
                assert isinstance(request, web.Request)
                return await self._middleware(request, refuse)
            return await handle(request)

        return handler

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guest = request.transport.get_protocol() if request.transport else None
        if not isinstance(guest, Guest):  # it has gone
            return await self._respond(request, handler)
        guest.began()
        try:
            return await self._respond(request, handler)
        finally:
            guest.ended()

    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path != _HEALTH:
                self._guard.admit(request)
            response = await handler(request)
        except PeerError as error:
            response = problem_of(error, error.headers if isinstance(error, Refused) else None)
        except DeviceFault as error:
            response = problem_of(PeerError(503, error.message))
        except web.HTTPException as error:
            allow = error.headers.get("Allow")
            text = f"{request.method} is not possible here." if allow else "There is nothing at this address."
            response = problem(error.status, text, {"Allow": allow} if allow else None)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("a request failed: %s %s", request.method, request.path)
            response = problem(500, "The agent failed at this request.")
        response.headers.update(_COMMON)
        response.headers.update(self._guard.cors(request))
        # Pictures are for our own page and for those that are allowed by name.
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin" if self._options.cors else "same-origin"
        return response

    def _connection(self) -> Guest:
        return Guest(self._guests, self._protocol)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner else None
        return _HangUp() if server is None else server()

    # The certificate

    def _context(self) -> ssl.SSLContext:
        assert self._loaded is not None
        return self._loaded.context

    def _certified(self) -> tuple[str, ...]:
        return self._loaded.certificate.names if self._loaded else ()

    async def _renew(self, tls: Source) -> None:
        """Take a new certificate as soon as there is one; who is connected already stays so."""
        told = trouble = told_trouble = ""
        while True:
            if (warning := tls.warning()) != told:
                told = warning
                if warning:
                    _log.warning("%s", warning)
            await asyncio.sleep(_LOOK_S)
            before, trouble = trouble, ""
            try:
                if loaded := await asyncio.to_thread(tls.look):
                    self._loaded = loaded
                    _log.info("new connections get %s", loaded.said)
            except EdgeAgentError as error:
                trouble = str(error)
            except Exception:
                _log.exception("no new certificate can be looked for")
            # Said at the second time: who renews writes one file after the other.
            if not trouble or trouble == before != told_trouble:
                told_trouble = trouble
                if trouble:
                    _log.warning("the certificate stays the one before. %s", trouble)

    # What is asked

    async def _get_page(self, request: web.Request) -> web.Response:
        return await self._pages.respond(request, request.match_info["path"] or "index.html")

    async def _get_health(self, request: web.Request) -> web.Response:
        facts = dict(self._health())
        status = 200 if facts.get("ok") else 503
        # Names of cameras are for viewers; a watchdog needs the yes or no.
        if not self._guard.knows_name(request) or not self._guard.authorized(request, _now()):
            facts = {"ok": bool(facts.get("ok"))}
        return web.json_response(facts, status=status, headers={"Cache-Control": "no-store"})

    async def _get_metrics(self, request: web.Request) -> web.Response:
        metrics = [*self._metrics()]
        if self._loaded:
            ends = self._loaded.certificate.not_after
            metrics.append(Metric("certificate_end_timestamp_seconds", "When the certificate of the page ends.", [({}, ends)]))
        body, content_type = await asyncio.to_thread(render, metrics, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def _get_hello(self, _: web.Request) -> web.Response:
        return web.json_response(text=encode(self._hello()), headers={"Cache-Control": "no-store"})

    async def _get_config(self, request: web.Request) -> web.Response:
        if not self._guard.authorized(request, _now()):
            config = PageConfig(auth="token")
        else:
            mqtt = PageMqtt(url=self._options.mqtt_url) if self._options.mqtt_url else None
            operator = self._guard.who(request, _now()) or None
            ticket = self._ticket(operator, self._guard.is_local(request)) if _from_own_page(request) else None
            config = PageConfig(device=self._device, mqtt=mqtt, auth="ok" if self._guard.needs_token else "none", ticket=ticket)
        # With its nulls: the page reads `mqtt: null` as the word that there is no broker.
        return web.json_response(text=config.model_dump_json(), headers={"Cache-Control": "no-store"})

    async def _post_login(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise PeerError(415, "Send this as Content-Type: application/json.")
        if (request.content_length or _MAX_LOGIN + 1) > _MAX_LOGIN:
            raise PeerError(413, f"The body may have {_MAX_LOGIN} bytes at most, and must say how many.")
        try:
            async with asyncio.timeout(10):
                body = json.loads(await request.read())
        except TimeoutError:
            raise PeerError(408, "The body did not arrive within 10 s.") from None
        except (ValueError, RecursionError, web.RequestPayloadError):
            raise PeerError(400, "The body is not JSON.") from None
        token = body.get("token") if isinstance(body, dict) else None
        if not isinstance(token, str):
            raise PeerError(400, 'The body must read {"token": "…"}.')
        response = web.Response(status=204)
        if self._guard.knows_tokens:
            owner = self._guard.try_token(token, request, _now())
            if owner is None:
                raise Refused(401, "This token is not right.", {"WWW-Authenticate": 'Bearer realm="edgeagent"'})
            self._guard.sign_in(response, request, owner)
        return response

    async def _post_logout(self, _: web.Request) -> web.Response:
        response = web.Response(status=204)
        self._guard.sign_out(response)
        return response

    async def _get_snapshot(self, request: web.Request) -> web.Response:
        camera = request.match_info["camera"]
        if camera not in {known.name for known in self._hello().cameras}:
            raise PeerError(404, f"There is no camera {camera[:64]!r} here.")
        data = await self._snapshots.get(camera)
        return web.Response(body=data, content_type="image/jpeg", headers={"Cache-Control": "no-store"})

    async def _options_whep(self, request: web.Request) -> web.Response:
        endpoint = "sid" not in request.match_info
        headers = {"Allow": "GET, HEAD, POST, OPTIONS" if endpoint else "GET, HEAD, PATCH, DELETE, OPTIONS"}
        headers["Accept-Post" if endpoint else "Accept-Patch"] = SDP if endpoint else FRAGMENT
        response = web.Response(status=200, headers=headers)
        # Asked without a token by every browser before a foreign page's request; servers' credentials are for viewers only.
        if endpoint and self._guard.authorized(request, _now()):
            self._whep.add_links(response)
        return response

    async def _options_any(self, _: web.Request) -> web.Response:
        return web.Response(status=200, headers={"Allow": "GET, HEAD, OPTIONS"})

    def _address(self) -> str:
        host = self._options.host or "*"
        scheme = "https" if self._options.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


class _HangUp(asyncio.Protocol):
    """For who comes while the door closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _from_own_page(request: web.Request) -> bool:
    """Not from a page of another origin, though it may read the answer by `http.cors`: who watches there shall not drive."""
    origin = request.headers.get("Origin")
    return origin is None or is_own(origin, request)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _sentence(options: HttpOptions, error: OSError) -> str:
    where = f"port {options.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where.capitalize()} is in use by another program: end it, or set http.listen to another port."
        case errno.EACCES | errno.EPERM:
            return f"This user may not listen on {where}: take one above 1023 in http.listen."
        case errno.EADDRNOTAVAIL:
            return f"This computer has no address {options.host}: check http.listen."
        case _:
            return f"Cannot listen on {options.host} {where}: {error.strerror or error}."
