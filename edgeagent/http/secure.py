"""Listens for HTTPS, and on the same port for those who came by http:// and are sent on.

The first byte tells: a TLS handshake begins with 22 (RFC 8446, 5.1), a request with a letter. Whoever says nothing, or does not
finish his handshake, is hung up on in time and leaves no line in the log: port scanners do so all day, and browsers that do not
know the certificate.
"""

from __future__ import annotations

__all__ = ["SecureListener"]

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import weakref
from collections.abc import Callable

from aiohttp import web

from edgeagent.http.guests import Guest
from edgeagent.http.problems import problem

_log = logging.getLogger(__name__)
FIRST_BYTE_S = 10.0
HANDSHAKE_S = 10.0
_SHUTDOWN_S = 1.0
_PLAIN_S = 10.0
_BACKLOG = 256
_HANDSHAKE = b"\x16"
_HOST = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?P<port>:[0-9]{1,5})?")


class SecureListener:
    """Accepts connections between `start` and `close`.

    Args:
        door: Makes the guest for a connection, and thereby the protocol of one that speaks TLS.
        context: The TLS of this moment; asked for each connection.
        headers: For the answers to those who are sent on.
    """

    def __init__(
        self,
        door: Callable[[], Guest],
        *,
        context: Callable[[], ssl.SSLContext],
        headers: dict[str, str],
    ) -> None:
        self._door, self._context, self._headers = door, context, headers
        self._server: asyncio.Server | None = None
        self._plain: web.Server | None = None
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: set[asyncio.Task[None]] = set()
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    @property
    def server(self) -> asyncio.Server | None:
        """Holds the addresses that are listened on; accepts nothing itself."""
        return self._server

    async def start(self, host: str | None, port: int) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        quiet = logging.Logger("edgeagent.http.clear", logging.CRITICAL)  # of nonsense there is a traceback otherwise
        self._plain = web.Server(self._send_on, access_log=None, logger=quiet, keepalive_timeout=1.0, lingering_time=1.0)
        self._server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        for bound in self._server.sockets:
            listening = bound.dup()  # the server's own may only be looked at
            self._listening.append(listening)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        self._tasks = {asyncio.create_task(self._accept(listening), name="https") for listening in self._listening}

    async def close(self) -> None:
        """Stop accepting, and hang up on those who have not said yet what they want."""
        for tasks in (self._tasks, self._coming):
            await asyncio.sleep(0)  # a task that has not begun yet would not close its socket
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._listening:
            listening.close()
        if self._server is not None:
            self._server.close()
        if self._plain is not None:
            await self._plain.shutdown(0.0)

    def abort(self) -> None:
        """Hang up on everybody: nobody waits for the other end to say goodbye."""
        for transport in list(self._transports):
            transport.abort()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no file or no memory is left; others may leave meanwhile
                _log.warning("nobody can be let in at the moment: %s", error.strerror or error)
                await asyncio.sleep(1.0)
                continue
            guest = self._door()
            if not guest.come(address[0], connection.close):
                connection.close()
                continue
            task = asyncio.create_task(self._let_in(connection, guest), name="https-connection")
            guest.hang_up = task.cancel
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)
            await asyncio.sleep(0)  # it begins, so that it closes its socket if it is cancelled

    async def _let_in(self, connection: socket.socket, guest: Guest) -> None:
        try:
            await self._serve(connection, guest)
        finally:
            if not guest.connected:
                guest.leave()

    async def _serve(self, connection: socket.socket, guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(FIRST_BYTE_S):
                first = await _first_byte(connection)
        except (OSError, TimeoutError):
            first = b""
        except BaseException:
            connection.close()
            raise
        if first != _HANDSHAKE and not b"A" <= first <= b"Z":  # also where it is nothing
            connection.close()
            return
        assert self._plain is not None
        # From here on the transport closes the connection, also where the handshake fails.
        with contextlib.suppress(OSError):  # TimeoutError and ssl.SSLError are such
            if first == _HANDSHAKE:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: guest,
                    connection,
                    ssl=self._context(),
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=_SHUTDOWN_S,
                )
            else:
                guest.serve = self._plain
                transport, _ = await loop.connect_accepted_socket(lambda: guest, connection)
                loop.call_later(_PLAIN_S, transport.abort)
            self._transports.add(transport)

    async def _send_on(self, request: web.BaseRequest) -> web.Response:
        """To the same address by https://. What is posted here has crossed the network in the clear: it is refused."""
        host = _HOST.fullmatch(request.headers.get("Host", ""))
        if host is None:
            response = problem(400, "This address speaks HTTPS only: write https:// before it.")
        else:
            # Without a port it was http's own, and that is where this door was found.
            base = f"https://{host['name']}{host['port'] or ':80'}"
            if request.method in ("GET", "HEAD"):
                path = request.raw_path if request.raw_path.startswith("/") else "/"
                response = web.Response(status=307, headers={"Location": base + path, "Cache-Control": "no-store"})
            else:
                response = problem(403, f"This address speaks HTTPS only: {base}.")
        response.headers.update(self._headers)
        response.force_close()
        return response


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte that the other end sends, left where it is; nothing where he hangs up."""
    loop = asyncio.get_running_loop()
    there: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if not there.done():
            there.set_result(None)

    loop.add_reader(connection, readable)
    try:
        await there
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)
