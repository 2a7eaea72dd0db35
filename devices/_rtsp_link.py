"""The connection of an RTSP session, plain or TLS, on a blocking thread. Every wait looks at the stop event."""

from __future__ import annotations

__all__ = ["POLL_S", "Link", "Stopped", "Trust"]

import errno
import logging
import selectors
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from edgeagent.drivers import DeviceFault
from edgeagent_devices._rtsp_wire import Address

_log = logging.getLogger(__name__)

POLL_S = 0.2
"""How long a wait lasts before the stop event is looked at."""
_RECEIVE_BYTES = 1 << 16  # above a TLS record: nothing stays behind in the TLS layer, where a selector would not see it


class Stopped(Exception):
    """The camera shall stop."""


@dataclass(slots=True, frozen=True)
class Trust:
    """Whose certificate is believed.

    Attributes:
        ca: File with certificates (PEM) that the camera's is checked against; the system's where None.
        insecure: Believe any certificate.
    """

    ca: Path | None = None
    insecure: bool = False


class Link:
    """A connection to a camera.

    Args:
        address: The camera.
        timeout_s: How long each step of opening may take, and each send.
        stopping: Ends every wait.
        trust: For rtsps.
    """

    def __init__(self, address: Address, *, timeout_s: float, stopping: threading.Event, trust: Trust) -> None:
        self._address, self._timeout_s, self._stopping, self._trust = address, timeout_s, stopping, trust
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Connect, and return the socket for a selector.

        Raises:
            DeviceFault: Nobody answers, or the certificate is not believed.
            Stopped: `stopping` was set meanwhile.
        """
        host = self._address.host
        context = self._context() if self._address.secure else None
        connection = self._connect()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
                connection = secured
                self._shake_hands(secured)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise DeviceFault(
                f"The certificate of the camera at {host} is not trusted ({error.verify_message.rstrip('.')}). Write the file with "
                "its certificate as `ca`, or `insecure: true` where this network is safe."
            ) from None
        except (OSError, ValueError) as error:
            connection.close()
            _log.debug("TLS with %s: %s", host, error)
            raise DeviceFault(
                f"The camera at {host} does not speak RTSP over TLS on port {self._address.port}; check the port, or write rtsp://."
            ) from None
        except BaseException:
            connection.close()
            raise
        connection.settimeout(self._timeout_s)
        self._socket = connection
        return connection

    @property
    def peer(self) -> str:
        """The camera's address."""
        assert self._socket
        return str(self._socket.getpeername()[0])

    def send(self, data: bytes) -> None:
        """Send all of it."""
        assert self._socket
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except OSError:
            raise DeviceFault(f"The camera at {self._address.host} closed the connection.") from None

    def receive(self) -> bytes:
        """What has come, b"" where that was nothing but TLS's own; call it when the socket is readable."""
        assert self._socket
        try:
            self._socket.settimeout(0)
            data = self._socket.recv(_RECEIVE_BYTES)
            if data:
                return data
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError:
            pass
        raise DeviceFault(f"The camera at {self._address.host} closed the connection.")

    def hurry(self) -> None:
        """Let sending take no longer than a blink from now on: for a goodbye."""
        self._timeout_s = POLL_S

    def close(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        host, port = self._address.host, self._address.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise DeviceFault(f"The name {host} is not known in this network; check `url` or write the camera's address.") from None
        last: OSError | None = None
        for family, kind, protocol, _, place in found:
            connection = socket.socket(family, kind, protocol)
            try:
                self._wait_connected(connection, place)
            except OSError as error:
                last = error
                connection.close()
                continue
            except BaseException:
                connection.close()
                raise
            return connection
        if last is not None and last.errno == errno.ECONNREFUSED:
            raise DeviceFault(f"The camera at {host} refuses the connection to port {port}; is RTSP switched on there?")
        raise DeviceFault(f"The camera at {host} does not answer; is it switched on and in this network?")

    def _wait_connected(self, connection: socket.socket, place: object) -> None:
        connection.setblocking(False)
        began = time.monotonic()
        code = connection.connect_ex(place)  # type: ignore[arg-type]
        while code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
            if self._wait(connection, selectors.EVENT_WRITE, began):
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")

    def _shake_hands(self, connection: ssl.SSLSocket) -> None:
        began = time.monotonic()
        while True:
            try:
                connection.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(connection, selectors.EVENT_READ, began)
            except ssl.SSLWantWriteError:
                self._wait(connection, selectors.EVENT_WRITE, began)

    def _wait(self, connection: socket.socket, event: int, began: float) -> bool:
        if self._stopping.is_set():
            raise Stopped
        if time.monotonic() - began > self._timeout_s:
            raise TimeoutError(errno.ETIMEDOUT, "connect")
        with selectors.DefaultSelector() as waiting:
            waiting.register(connection, event)
            return bool(waiting.select(POLL_S))

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self._trust.ca) if self._trust.ca else None)
        except (OSError, ValueError) as error:
            _log.debug("ca %s: %s", self._trust.ca, error)
            raise DeviceFault("The file under `ca` cannot be read or holds no certificates in PEM form.") from None
        if self._trust.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
