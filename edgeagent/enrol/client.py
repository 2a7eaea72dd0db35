"""The way to the site's service: HTTPS, blocking, for a thread of its own (`aside`).

The root is fetched without trust and checked against the pin of the claim; everything else is TLS below that root. A clock that
cannot be right stops it: a certificate's dates mean nothing by it.
"""

from __future__ import annotations

__all__ = ["Unreachable", "aside", "fetch_roots", "post", "shown_root"]

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from edgeagent.core.renewal import clock_is_sane
from edgeagent.enrol import keys
from edgeagent.errors import EdgeAgentError
from edgeagent.wire.enrolment import MAX_REPLY

T = TypeVar("T")
_TIMEOUT_S = 15.0
_MAX_ROOTS = 32_768
_HTTPS = 8443


class Unreachable(EdgeAgentError):
    """The site was not reached, or not safely; trying again may help. One sentence for the owner."""


async def aside(job: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Run something that blocks in a daemon thread, which holds up no exit. Raises Unreachable when it takes too long."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[T | None, Exception | None]
        try:
            outcome = (job(), None)
        except Exception as error:
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, *outcome)

    threading.Thread(target=run, name="edgeagent-enrol", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError:
        raise Unreachable("The site takes too long to answer; it is tried again.") from None


def fetch_roots(url: str, pin: str) -> str:
    """The root with this pin, as the service at `url` shows it, in PEM. Nothing that comes is trusted before it has matched.

    Raises:
        Unreachable: There is no answer.
        PeerError: 502, another site answers there.
    """
    status, text = _ask(url, "/root.pem", None, _trusting(), _MAX_ROOTS)
    if status != 200:
        raise Unreachable(f"What answers at {_shown(url)} is no site of edgeagent; check the address in the claim.")
    for pem, found in keys.pin_of(text):
        if found == pin:
            return pem
    raise Unreachable(
        f"What answers at {_shown(url)} is not the site of this claim, or somebody stands between: its root is another. "
        "Check the address and the network, or ask the installer for a new claim."
    )


def shown_root(host: str, port: int, pin: str) -> str:
    """The root with this pin, in PEM, as the site's broker shows it behind its certificate: nothing is told to whoever answers.

    Raises:
        Unreachable: There is no answer, or another root: another site, or somebody in between.
        PeerError: 502, what was shown is no certificate.
    """
    place = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as plain,
            _trusting().wrap_socket(plain, server_hostname=host) as tls,
        ):
            shown = _chain(tls)
    except (OSError, ValueError) as error:
        from edgeagent.mqtt.connection import close_sockets_of

        close_sockets_of(error)
        raise Unreachable(_sentence(place, error, "broker")) from None
    # The roots come last: while a root is being changed, the old one's signature on the new one comes before, with the same key.
    for pem, found in reversed(keys.pin_of("".join(map(ssl.DER_cert_to_PEM_cert, shown)))):
        if found == pin:
            return pem
    raise Unreachable(
        f"What answers at {place} does not show the root of this claim: it is the broker of another site, somebody stands between, "
        "or its site must be upgraded (edgeagent provision broker mosquitto). Check the network, or ask the installer."
    )


def post(
    url: str, path: str, text: str, roots: str, now: float, *, cert_file: str | None = None, key_file: str | None = None
) -> str:
    """Send a sealed message to the service and return its answer, whatever its HTTP status: what counts is sealed.

    Args:
        url: `https://host[:port]`.
        roots: What the service's certificate is checked against, PEM.
        now: Unix time by the clock of this board.
        cert_file: The board's certificate with its chain, to be shown; None for none.
        key_file: Its key.

    Raises:
        Unreachable: No connection, no safe one, no answer, or the clock is not set.
    """
    if not clock_is_sane(now):
        raise Unreachable("The clock of this board is not set yet; no certificate can be checked by it.")
    try:
        context = ssl.create_default_context(cadata=roots)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert_file:
            context.load_cert_chain(cert_file, key_file)
    except (ssl.SSLError, OSError) as error:
        raise Unreachable(f"The board's certificates cannot be used: {error.strerror or error}.") from None
    status, answer = _ask(url, path, text.encode(), context, MAX_REPLY)
    if not answer or status in (404, 405, 502, 504):
        raise Unreachable(f"What answers at {_shown(url)} is no site of edgeagent (HTTP status {status}).")
    return answer


def _trusting() -> ssl.SSLContext:
    """For a look at what somebody shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _chain(tls: ssl.SSLSocket) -> list[bytes]:
    """What the other end has shown, in DER: its certificate first."""
    if hasattr(tls, "get_unverified_chain"):  # Python 3.13
        return list(tls.get_unverified_chain())
    inner: Any = tls
    return [shown.public_bytes(2) for shown in inner._sslobj.get_unverified_chain() or ()]  # 2: DER


def _ask(url: str, path: str, body: bytes | None, context: ssl.SSLContext, limit: int) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or _HTTPS, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(
            "GET" if body is None else "POST", path, body, {"Content-Type": "application/jose", "Connection": "close"}
        )
        answer = connection.getresponse()
        data = answer.read(limit + 1)
        if len(data) > limit:
            raise Unreachable(f"What answers at {_shown(url)} sends too much to be a site of edgeagent.")
        return answer.status, data.decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        from edgeagent.mqtt.connection import close_sockets_of

        close_sockets_of(error)  # that of a service which ended before the handshake began
        raise Unreachable(_sentence(_shown(url), error)) from None
    finally:
        connection.close()


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _HTTPS}"


def _sentence(place: str, error: Exception, what: str = "site") -> str:
    match error:
        case socket.gaierror():
            return f"The {what}'s name {place.rpartition(':')[0]} cannot be resolved; check the network."
        case ConnectionRefusedError():
            running = "`edgeagent provision serve`" if what == "site" else "the broker"
            return f"Nothing listens at {place}; is {running} running there?"
        case TimeoutError():
            return f"The {what} at {place} does not answer; check the network, and that nothing blocks its port."
        case ssl.SSLCertVerificationError() if "not yet valid" in error.verify_message or "expired" in error.verify_message:
            return f"The certificate of the site at {place} is not valid at this time: is the clock of this board right?"
        case ssl.SSLCertVerificationError():
            return f"The certificate of the site at {place} is not to be trusted: {error.verify_message}."
        case ssl.SSLError():
            return f"No TLS with the {what} at {place}: {error.reason or error}."
        case OSError():
            return f"No connection with the {what} at {place}: {error.strerror or error}."
        case _:
            return f"What answers at {place} is no site of edgeagent."
