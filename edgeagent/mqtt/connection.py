"""One connection to a broker: paho's client driven by the running loop, MQTT 3.1.1, QoS 0 and 1, clean session.

paho is used through its documented hooks for foreign loops. Only connecting blocks (name, TCP, TLS, WebSocket) and runs in a
thread; from then on everything happens on the loop, so that no descriptor is ever watched after it was closed.
"""

from __future__ import annotations

__all__ = ["BrokerConnection", "BrokerError", "BrokerOptions", "CertificateRefused", "NobodyListens", "Will", "close_sockets_of"]

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.url import BrokerAddress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")
_CONNACK_TIMEOUT_S = 10.0
_MISC_INTERVAL_S = 5.0
_USER_TIMEOUT_MS = 20_000
_REFUSED = 128
_ALERT = "_ALERT_"  # in OpenSSL's name for what the other end says before it closes (RFC 8446, 6.2)
_OF_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
_REASONS = {"Unspecified error": "it was closed at the other end", "Keep alive timeout": "the broker fell silent"}
_IDENTIFIER, _BAD_USER, _NOT_AUTHORISED, _UNAVAILABLE = 133, 134, 135, 136


class BrokerError(EdgeAgentError):
    """No connection, or no longer: one sentence for the owner, without credentials."""


class NobodyListens(BrokerError):
    """A machine in our own network is there and has no broker yet: the refusal came at once and cost one packet each way."""


class CertificateRefused(BrokerError):
    """The broker does not take this device's certificate."""


@dataclass(slots=True, frozen=True)
class BrokerOptions:
    """How to connect.

    Attributes:
        address: Where, and as whom.
        client_id: The device's name.
        ca_file: Certificates that vouch for the broker; None for those of the system.
        ca_data: The same as PEM, beside or instead of a file.
        cert_file: The device's own certificate, for brokers that ask for one.
        key_file: Its private key.
        verify: Whether the broker has to prove who it is; false only for a look at what it lets strangers do (`broker check`).
        keepalive_s: The longest silence; the broker notices a death after 1.5 times as long.
        max_pending: Messages that wait to be sent or acknowledged; more are dropped.
        max_pending_bytes: The same in bytes.
    """

    address: BrokerAddress
    client_id: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    keepalive_s: int = 30
    max_pending: int = 256
    max_pending_bytes: int = 2_000_000
    ca_data: str | None = None


@dataclass(slots=True, frozen=True)
class Will:
    """What the broker publishes, retained, when this connection breaks."""

    topic: str
    payload: str


class BrokerConnection:
    """Made by `open`; ends with `close`, or by itself: then `lost` holds the reason."""

    def __init__(self, options: BrokerOptions, will: Will | None, on_message: Callable[[str, bytes, bool], None]) -> None:
        self._options = options
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[int] = self._loop.create_future()
        self._subscribed: dict[int, asyncio.Future[list[int]]] = {}
        self._pending: dict[int, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._misc: asyncio.TimerHandle | None = None
        self._watched = -1
        self._alert = ""
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.refused: list[str] = []
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            transport="tcp" if options.address.websocket_path is None else "websockets",
            reconnect_on_failure=False,
        )
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        if options.address.username is not None:
            client.username_pw_set(options.address.username, options.address.password)
        if options.address.websocket_path is not None:
            client.ws_set_options(path=options.address.websocket_path)
        client.on_connect = lambda _c, _u, _f, code, _p: self._connack(code)
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self._suback(mid, codes)
        client.on_publish = lambda _c, _u, mid, _r, _p: self._published(mid)
        client.on_message = lambda _c, _u, message: self._deliver(message)
        client.on_disconnect = lambda _c, _u, _f, code, _p: self._end(_REASONS.get(str(code), str(code)))

    @classmethod
    async def open(
        cls,
        options: BrokerOptions,
        will: Will | None,
        filters: Sequence[str],
        on_message: Callable[[str, bytes, bool], None],
        *,
        optional: Sequence[str] = (),
    ) -> BrokerConnection:
        """Connect and subscribe (QoS 1); `on_message(topic, payload, retained)` is called from then on.

        What the broker does not let us read of `optional` is left in `refused`. Raises BrokerError with what the owner can do.
        """
        connection = cls(options, will, on_message)
        try:
            await connection._connect()
            if filters or optional:
                await connection._subscribe(filters, optional)
        except BaseException:
            connection._abandon()
            raise
        return connection

    def publish(self, topic: str, payload: str | bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand over a message, never blocking; False where it was dropped: no connection, or too many on their way."""
        data = payload.encode() if isinstance(payload, str) else payload
        pending, options = self._pending, self._options
        # What is retained is little, and must not be lost to a flood of the rest.
        full = len(pending) >= options.max_pending or sum(pending.values()) + len(data) > options.max_pending_bytes
        if self._watched < 0 or (full and not retain):
            return False
        info = self._client.publish(topic, data, qos=qos, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if not info.is_published():
            pending[info.mid] = len(data)
            self._idle.clear()
        return True

    def subscribe(self, filters: Sequence[str]) -> None:
        """Hear these as well (QoS 1), if the broker lets us: what is retained there comes before what is published after this."""
        if self._watched >= 0 and filters:
            self._client.subscribe([(text, 1) for text in filters])

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Hear no more of these."""
        if self._watched >= 0 and filters:
            self._client.unsubscribe(list(filters))

    async def close(self, timeout_s: float = 1.0) -> None:
        """Wait a moment for what is on its way, then disconnect: the broker drops the will."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
                if self._watched >= 0:
                    self._client.disconnect()
                    await asyncio.wait([self.lost])
        except TimeoutError:
            pass
        finally:
            self._abandon()

    # Connecting

    async def _connect(self) -> None:
        address, client = self._options.address, self._client
        near = False

        def connect() -> None:
            nonlocal near
            if address.tls:
                context = ssl.create_default_context(cafile=self._options.ca_file, cadata=self._options.ca_data)
                if not self._options.verify:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                if self._options.cert_file:
                    context.load_cert_chain(self._options.cert_file, self._options.key_file)
                    # By TLS 1.3 the refusal comes when the handshake is over for us, and paho keeps it to itself.
                    context.sslsocket_class = _listening(self._alerted)
                client.tls_set_context(context)
            try:
                client.connect(address.host, address.port, self._options.keepalive_s)
            except Exception as error:
                close_sockets_of(error)
                near = isinstance(error, ConnectionRefusedError) and _is_near(address.host)
                raise

        try:
            await _in_thread(connect, undo=self._close_socket)
        except (OSError, ValueError, paho.WebsocketConnectionError) as error:
            if isinstance(error, ssl.SSLError):
                self._alerted(error.reason or "")
            if self._alert:
                raise CertificateRefused(_unwanted(address, self._alert)) from None
            raise (NobodyListens if near else BrokerError)(_sentence(address, error)) from None
        self._watch()
        await self._first_of(self._accepted)
        if self._accepted.done():
            if code := self._accepted.result():
                raise BrokerError(_refusal(address, code))
        elif self._alert:
            raise CertificateRefused(_unwanted(address, self._alert))
        elif self.lost.done():
            raise BrokerError(f"The broker at {address} closed the connection before accepting it; is this a port for MQTT?")
        else:
            raise BrokerError(f"What listens at {address} does not speak MQTT, or takes over {_CONNACK_TIMEOUT_S:g} s to answer.")

    def _alerted(self, reason: str) -> None:
        """What TLS at the other end has said, as OpenSSL names it; counts where it is about our certificate."""
        _, found, what = reason.partition(_ALERT)
        if found and self._options.cert_file and any(word in what for word in _OF_CERTIFICATES):
            self._alert = what.lower().replace("_", " ")

    async def _subscribe(self, filters: Sequence[str], optional: Sequence[str]) -> None:
        address = self._options.address
        code, mid = self._client.subscribe([(text, 1) for text in (*filters, *optional)])
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS and mid is not None:
            answer = self._subscribed[mid] = self._loop.create_future()
            await self._first_of(answer)
            if answer.done():
                refused = [text for text, code in zip((*filters, *optional), answer.result(), strict=False) if code >= _REFUSED]
                if needed := [text for text in refused if text in filters]:
                    raise BrokerError(f"The broker at {address} does not let this device read {needed[0]}; check its access rules.")
                self.refused = refused
                return
        raise BrokerError(f"The broker at {address} ended the connection or was silent when asked for messages.")

    async def _first_of(self, answer: asyncio.Future[Any]) -> None:
        await asyncio.wait([answer, self.lost], timeout=_CONNACK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)

    # The loop's side of paho

    def _watch(self) -> None:
        client = self._client
        sock = client.socket()
        if sock is None:  # it was closed again within `connect`
            self._end("closed")
            return
        self._watched = sock.fileno()
        _tune(self._watched)
        client.on_socket_close = lambda _c, _u, _s: self._unwatch()
        client.on_socket_register_write = lambda _c, _u, _s: self._loop.add_writer(self._watched, self._write)
        client.on_socket_unregister_write = lambda _c, _u, _s: self._stop_writing()
        self._loop.add_reader(self._watched, self._read)
        if client.want_write():
            self._loop.add_writer(self._watched, self._write)
        self._misc = self._loop.call_later(_MISC_INTERVAL_S, self._tick)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._watched)
            self._watched = -1

    def _stop_writing(self) -> None:
        self._loop.remove_writer(self._watched)

    def _read(self) -> None:
        def read() -> None:
            self._client.loop_read()
            # TLS may hold decrypted bytes that no descriptor announces.
            while (sock := self._client.socket()) and getattr(sock, "pending", int)() > 0:
                self._client.loop_read()

        self._guarded(read)

    def _write(self) -> None:
        self._guarded(self._client.loop_write)

    def _tick(self) -> None:
        self._misc = self._loop.call_later(_MISC_INTERVAL_S, self._tick)
        self._guarded(self._client.loop_misc)

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # malformed packets raise whatever they hit
            self._end(f"{type(error).__name__}: {error}")

    def _deliver(self, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(UnicodeDecodeError):  # a topic that no broker should have let through
            self._on_message(message.topic, bytes(message.payload), message.retain)

    def _connack(self, code: ReasonCode) -> None:
        if not self._accepted.done():
            self._accepted.set_result(code.value if code.is_failure else 0)

    def _suback(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        future = self._subscribed.pop(mid, None)
        if future and not future.done():
            future.set_result([code.value for code in codes])

    def _published(self, mid: int) -> None:
        self._pending.pop(mid, None)
        if not self._pending:
            self._idle.set()

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        self._idle.set()
        if self._misc:
            self._misc.cancel()
            self._misc = None

    def _abandon(self) -> None:
        self._end("closed here")
        self._close_socket()
        self._unwatch()

    def _close_socket(self) -> None:
        # paho closes its socket with its client; there is no other public way without a DISCONNECT.
        sock = self._client.socket()
        if sock is not None:
            self._unwatch()
            sock.close()


def _listening(told: Callable[[str], None]) -> type[ssl.SSLSocket]:
    """A TLS socket that tells by which alert it ended."""

    class Listening(ssl.SSLSocket):
        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            try:
                return super().recv(buflen, flags)
            except ssl.SSLError as error:
                told(error.reason or "")
                raise

        def send(self, data: ReadableBuffer, flags: int = 0) -> int:
            try:
                return super().send(data, flags)
            except (ConnectionError, ssl.SSLEOFError):
                with contextlib.suppress(OSError):  # it was closed; what was said before that waits to be read
                    self.recv(1)
                raise

    return Listening


def _is_near(host: str) -> bool:
    """Whether all addresses of this name belong to private networks; blocks."""
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return not any(ipaddress.ip_address(each.partition("%")[0]).is_global for each in found)


def _unwanted(address: BrokerAddress, alert: str) -> str:
    return f"The broker at {address} does not take this device's certificate ({alert})."


def _tune(descriptor: int) -> None:
    """No Nagle, and a death that TCP notices in 20 s; through a copy, since paho wraps sockets in its own classes."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def close_sockets_of(error: Exception) -> None:
    """paho and `ssl` leave the socket of a failed TLS or WebSocket handshake to the collector: close what its frames hold."""
    trace = error.__traceback__
    while trace:
        for value in trace.tb_frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()
        trace = trace.tb_next


async def _in_thread(job: Callable[[], T], undo: Callable[[], object]) -> T:
    """Run `job` in a daemon thread, which holds up no exit; if nobody waits any more when it is done, `undo` it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            undo()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = (job(), None)
        except Exception as error:
            outcome = (None, error)
        try:
            loop.call_soon_threadsafe(deliver, *outcome)
        except RuntimeError:  # the loop is closed
            undo()

    threading.Thread(target=run, name="edgeagent-mqtt-connect", daemon=True).start()
    return await future


def _refusal(address: BrokerAddress, code: int) -> str:
    if code in (_BAD_USER, _NOT_AUTHORISED):
        given = "the user name or password" if address.username else "a connection without user name and password"
        return f"The broker at {address} refused {given}; check mqtt.url."
    if code == _IDENTIFIER:
        return f"The broker at {address} refused the device's name; check device."
    if code == _UNAVAILABLE:
        return f"The broker at {address} is not available at the moment."
    return f"The broker at {address} refused the connection (code {code})."


def _sentence(address: BrokerAddress, error: Exception) -> str:
    match error:
        case socket.gaierror():
            return f"The broker's name {address.host} cannot be resolved; check mqtt.url and the network."
        case ConnectionRefusedError():
            return f"Nothing listens at {address}; is the broker running?"
        case TimeoutError():
            return f"The broker at {address} does not answer; check mqtt.url and the network."
        case ssl.SSLCertVerificationError() if "not yet valid" in error.verify_message:
            return f"The certificate of the broker at {address} is not valid yet: is the clock of this board set?"
        case ssl.SSLCertVerificationError():
            return f"The certificate of the broker at {address} is not trusted: {error.verify_message}."
        case ssl.SSLError():
            return f"No TLS with the broker at {address}: {error.reason or error}; is this its TLS port?"
        case ConnectionResetError() if address.tls:
            return f"No TLS with the broker at {address}: it closed the connection; is this its TLS port?"
        case FileNotFoundError() | PermissionError():
            return f"A certificate file for the broker cannot be read: {error.strerror}."
        case paho.WebsocketConnectionError():
            return f"What listens at {address} takes no MQTT over WebSocket at {address.websocket_path}: {error}."
        case _:
            return f"No connection with the broker at {address}: {error}."
