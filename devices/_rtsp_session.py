"""One RTSP session on blocking sockets: it opens, plays and yields RTP packets. Every wait looks at the stop event."""

from __future__ import annotations

__all__ = ["Session", "Stopped"]

import contextlib
import errno
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterator

from edgeagent_devices._rtsp_wire import Address, Interleaved, Reader, Response, Transport, Video, authorize, find_video, request

from edgeagent.drivers import DeviceFault

_POLL_S = 0.2
_REPORT_S = 5.0  # between our RTCP receiver reports, which keep some servers sending
_DEFAULT_SESSION_S = 60.0
_RECEIVE_BYTES = 1 << 16
_UDP_BUFFER = 2 << 20  # an IDR comes in one burst
_REDIRECTS = 3
_OTHER_CODECS = {"H265": "H.265", "HEVC": "H.265", "JPEG": "MJPEG", "MP4V-ES": "MPEG-4", "AV1": "AV1", "VP8": "VP8", "VP9": "VP9"}


class Stopped(Exception):
    """The camera shall stop."""


class Session:
    """A session from `open` to `close`.

    Args:
        address: The camera.
        udp: Over UDP instead of the RTSP connection.
        timeout_s: How long the camera may take for an answer, and how long it may send nothing.
        stopping: Ends every wait.
    """

    def __init__(self, address: Address, *, udp: bool, timeout_s: float, stopping: threading.Event) -> None:
        self._address, self._udp, self._timeout_s, self._stopping = address, udp, timeout_s, stopping
        self._selector = selectors.DefaultSelector()
        self._socket: socket.socket | None = None
        self._ports: list[socket.socket] = []
        self._reader = Reader()
        self._cseq = 0
        self._challenges: tuple[str, ...] = ()
        self._answered = 0
        self._public = ""
        self._session = ""
        self._session_s = _DEFAULT_SESSION_S
        self._video: Video | None = None
        self._channels = Transport(0, 1)
        self._early: list[Interleaved] = []

    def open(self) -> Video:
        """Connect, ask for the video and have it played.

        Raises:
            DeviceFault: The camera is not there, refuses, or sends something else than H.264.
            Stopped: `stopping` was set meanwhile.
        """
        for _ in range(_REDIRECTS):
            self._connect()
            self._public = self._request("OPTIONS", self._address.url, {}).headers.get("public", "")
            described = self._request("DESCRIBE", self._address.url, {"Accept": "application/sdp"})
            if described.status // 100 != 3:
                break
            self._follow(described)
        base = described.headers.get("content-base") or described.headers.get("content-location") or self._address.url
        video = find_video(described.body, base)
        if video is None:
            raise DeviceFault(f"The camera at {self._address.host} offers no video at this address; check the path in `url`.")
        if video.codec != "H264":
            codec = _OTHER_CODECS.get(video.codec, "another codec")
            raise DeviceFault(
                f"The camera sends {codec}, which browsers do not show. Set its video codec to H.264, without B-frames."
            )
        self._video = video
        self._set_up(video)
        self._request("PLAY", video.aggregate, {"Session": self._session, "Range": "npt=0.000-"})
        return video

    def packets(self) -> Iterator[bytes]:
        """RTP packets of the video as they come; ends when `stopping` is set.

        Raises:
            DeviceFault: The camera went away or sends nothing any more.
        """
        early, self._early = self._early, []
        yield from (packet.data for packet in early if packet.channel == self._channels.rtp)
        now = heard = time.monotonic()
        report_at = now
        keepalive_at = now + self._session_s / 2
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_POLL_S):
                for packet in self._read_tcp() if key.fileobj is self._socket else self._read_udp(key.fileobj):
                    heard = now
                    yield packet
            now = time.monotonic()
            if now - heard > self._timeout_s:
                raise DeviceFault(self._silent())
            if now >= report_at:
                report_at = now + _REPORT_S
                self._report()
            if now >= keepalive_at:
                keepalive_at = now + self._session_s / 2
                self._keep_alive()

    def close(self) -> None:
        """Say goodbye where that is possible, and close everything."""
        if self._socket is not None:
            if self._session and self._video:
                with contextlib.suppress(OSError, DeviceFault):
                    self._socket.settimeout(_POLL_S)
                    self._send("TEARDOWN", self._video.aggregate, {"Session": self._session})
            self._disconnect()
        for port in self._ports:
            port.close()
        self._selector.close()

    def _silent(self) -> str:
        seconds = f"{self._timeout_s:.0f} seconds"
        if self._udp:
            return f"Nothing has come from the camera over UDP for {seconds}; where this stays so, set `transport: tcp`."
        return f"The camera at {self._address.host} has sent nothing for {seconds}."

    # Connection

    def _connect(self) -> None:
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
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self._timeout_s)
            self._socket = connection
            self._selector.register(connection, selectors.EVENT_READ)
            return
        if last is not None and last.errno == errno.ECONNREFUSED:
            raise DeviceFault(f"The camera at {host} refuses the connection to port {port}; is RTSP switched on there?")
        raise DeviceFault(f"The camera at {host} does not answer; is it switched on and in this network?")

    def _wait_connected(self, connection: socket.socket, place: object) -> None:
        connection.setblocking(False)
        began = time.monotonic()
        code = connection.connect_ex(place)  # type: ignore[arg-type]
        with selectors.DefaultSelector() as waiting:
            waiting.register(connection, selectors.EVENT_WRITE)
            while code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                if self._stopping.is_set():
                    raise Stopped
                if time.monotonic() - began > self._timeout_s:
                    raise TimeoutError(errno.ETIMEDOUT, "connect")
                if waiting.select(_POLL_S):
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def _follow(self, response: Response) -> None:
        """Go where a redirection points."""
        try:
            target = Address.parse(response.headers.get("location", ""), self._address.user, self._address.password)
        except ValueError:
            raise DeviceFault("The camera redirects to an address that is none.") from None
        self._disconnect()
        self._address, self._reader, self._challenges = target, Reader(), ()

    # Requests

    def _request(self, method: str, url: str, headers: dict[str, str]) -> Response:
        """Ask, answering a challenge; raises DeviceFault for everything but success and redirection."""
        response = self._exchange(method, url, headers)
        for _ in range(2):
            if response.status != 401:
                break
            if not self._address.user:
                raise DeviceFault(
                    f"The camera at {self._address.host} asks for a user name and password; add `username` and `password`.",
                    retry=False,
                )
            if self._challenges and response.challenges == self._challenges:
                break  # the same question again: the answer was wrong
            self._challenges, self._answered = response.challenges, 0
            response = self._exchange(method, url, headers)
        if response.status == 200 or (method == "OPTIONS" and response.status not in (401, 403)):
            return response
        if response.status // 100 == 3 and method == "DESCRIBE":
            return response
        raise self._refused(method, response)

    def _refused(self, method: str, response: Response) -> DeviceFault:
        host = self._address.host
        match response.status:
            case 401:
                return DeviceFault(
                    f"The camera at {host} refuses the user name or password; check `username` and `password`.", retry=False
                )
            case 403:
                return DeviceFault(f"The camera at {host} does not allow this user to watch; give the user that right there.")
            case 404:
                return DeviceFault(f"The camera at {host} has no stream at this address; check the path in `url`.")
            case 453 | 503:
                return DeviceFault(f"The camera at {host} is busy; it may have too many viewers.")
            case 461 if self._udp:
                return DeviceFault(f"The camera at {host} does not send over UDP; set `transport: tcp`.")
            case 461:
                return DeviceFault(f"The camera at {host} does not send over TCP; set `transport: udp`.")
        return DeviceFault(f"The camera at {host} refused {method} with error {response.status}.")

    def _exchange(self, method: str, url: str, headers: dict[str, str]) -> Response:
        cseq = self._send(method, url, headers)
        deadline = time.monotonic() + self._timeout_s
        while True:
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise DeviceFault(f"The camera at {self._address.host} does not answer; is it switched on and in this network?")
            for key, _ in self._selector.select(_POLL_S):
                if key.fileobj is not self._socket:
                    continue
                answer = None
                for item in self._receive():
                    if isinstance(item, Interleaved):
                        self._early.append(item)
                    elif item.cseq in (cseq, -1):
                        answer = item
                if answer is not None:
                    return answer

    def _send(self, method: str, url: str, headers: dict[str, str]) -> int:
        self._cseq += 1
        if self._challenges:
            self._answered += 1
            answer = authorize(
                self._challenges, method, url, self._address.user, self._address.password,
                count=self._answered, nonce=secrets.token_hex(8),
            )  # fmt: skip
            headers = headers | ({"Authorization": answer} if answer else {})
        self._write(request(method, url, self._cseq, headers))
        return self._cseq

    def _write(self, data: bytes) -> None:
        assert self._socket
        try:
            self._socket.sendall(data)
        except OSError:
            raise DeviceFault(f"The camera at {self._address.host} closed the connection.") from None

    def _receive(self) -> list[Response | Interleaved]:
        assert self._socket
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            if data:
                return self._reader.feed(data)
        except ValueError:
            raise DeviceFault(f"What answers at {self._address.host} is no camera with RTSP; check the port in `url`.") from None
        except OSError:
            pass
        raise DeviceFault(f"The camera at {self._address.host} closed the connection.")

    # Media

    def _set_up(self, video: Video) -> None:
        if self._udp:
            rtp = self._open_ports()
            wanted = f"RTP/AVP;unicast;client_port={rtp}-{rtp + 1}"
        else:
            wanted = "RTP/AVP/TCP;unicast;interleaved=0-1"
        response = self._request("SETUP", video.control, {"Transport": wanted})
        session, _, rest = response.headers.get("session", "").partition(";")
        self._session = session.strip()
        seconds = rest.replace(" ", "").lower().removeprefix("timeout=")
        if seconds.isdecimal() and 0 < len(seconds) < 6:
            self._session_s = min(max(float(seconds), 4.0), 120.0)
        transport = Transport.parse(response.headers.get("transport", ""))
        if not self._udp:
            self._channels = transport if transport.rtp >= 0 else Transport(0, 1)
            return
        self._channels = transport
        for port, theirs in zip(self._ports, (transport.rtp, transport.rtcp), strict=True):
            if 0 < theirs < 65_536:
                with contextlib.suppress(OSError):
                    port.sendto(b"\x80\xc9\x00\x01\0\0\0\0", (self._peer(), theirs))  # opens firewalls on the way
            self._selector.register(port, selectors.EVENT_READ)

    def _peer(self) -> str:
        assert self._socket
        return str(self._socket.getpeername()[0])

    def _open_ports(self) -> int:
        """Bind two ports, RTP's even and RTCP's the next (RFC 3550, section 11)."""
        assert self._socket
        here = self._socket.getsockname()[0]
        for _ in range(50):
            rtp, rtcp = (socket.socket(self._socket.family, socket.SOCK_DGRAM) for _ in range(2))
            try:
                rtp.bind((here, 0))
                number = int(rtp.getsockname()[1])
                if number % 2 == 0:
                    rtcp.bind((here, number + 1))
                    rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER)
                    for port in (rtp, rtcp):
                        port.setblocking(False)
                    self._ports = [rtp, rtcp]
                    return number
            except OSError:
                pass
            rtp.close()
            rtcp.close()
        raise DeviceFault("There are no free UDP ports for the camera; set `transport: tcp`.")

    def _read_tcp(self) -> Iterator[bytes]:
        for item in self._receive():
            if isinstance(item, Interleaved):
                if item.channel == self._channels.rtp:
                    yield item.data
            elif item.status == 401:
                self._challenges, self._answered = item.challenges or self._challenges, 0
            elif item.status == 454:
                raise DeviceFault(f"The camera at {self._address.host} ended the session.")

    def _read_udp(self, port: object) -> Iterator[bytes]:
        assert isinstance(port, socket.socket)
        peer = self._peer()
        for _ in range(64):
            try:
                data, place = port.recvfrom(65_536)
            except OSError:
                return
            if place[0] == peer and port is self._ports[0]:
                yield data

    def _report(self) -> None:
        """Send an empty RTCP receiver report (RFC 3550, section 6.4.2)."""
        report = b"\x80\xc9\x00\x01" + secrets.token_bytes(4)
        if not self._udp:
            self._write(bytes((0x24, self._channels.rtcp & 0xFF, 0, len(report))) + report)
        elif 0 < self._channels.rtcp < 65_536:
            with contextlib.suppress(OSError):
                self._ports[1].sendto(report, (self._peer(), self._channels.rtcp))

    def _keep_alive(self) -> None:
        assert self._video
        method = "GET_PARAMETER" if "GET_PARAMETER" in self._public.upper() else "OPTIONS"
        self._send(method, self._video.aggregate, {"Session": self._session})
