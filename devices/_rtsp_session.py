"""One RTSP session on blocking sockets: it opens, plays and yields RTP packets. Every wait looks at the stop event."""

from __future__ import annotations

__all__ = ["Session", "Stopped", "Trust"]

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Container, Iterator

from edgeagent.drivers import DeviceFault
from edgeagent_devices._rtsp_auth import authorize, is_stale
from edgeagent_devices._rtsp_link import POLL_S, Link, Stopped, Trust
from edgeagent_devices._rtsp_wire import Address, Interleaved, Reader, Response, Transport, Video, find_video, request

_ANSWER_S = 3.0  # that an answer may take at least: opening is slower than playing
_MOST_EARLY = 512  # packets that come before the answer to PLAY
_REPORT_S = 5.0  # between our RTCP receiver reports, which keep some servers sending
_DEFAULT_SESSION_S = 60.0
_UDP_BUFFER = 2 << 20  # an IDR comes in one burst
_REDIRECTS = 3
_OTHER_CODECS = {"H265": "H.265", "JPEG": "MJPEG", "MP4V-ES": "MPEG-4", "AV1": "AV1", "VP8": "VP8", "VP9": "VP9"}
_ENCODABLE = ("H265", "JPEG")


def _not_shown(codec: str) -> str:
    name = _OTHER_CODECS.get(codec, "another codec")
    remedy = ", or `transcode: true` here" if codec in _ENCODABLE else ""
    return f"The camera sends {name}, which browsers do not show. Set its video codec to H.264, without B-frames{remedy}."


class Session:
    """A session from `open` to `close`.

    Args:
        address: The camera.
        udp: Over UDP instead of the RTSP connection.
        timeout_s: How long it may send nothing, and how long (but at least three seconds) it may take for an answer.
        stopping: Ends every wait.
        trust: Whose certificate is believed, for rtsps.
        codecs: What may be played, as the SDP names it.
    """

    def __init__(
        self,
        address: Address,
        *,
        udp: bool,
        timeout_s: float,
        stopping: threading.Event,
        trust: Trust | None = None,
        codecs: Container[str] = ("H264",),
    ) -> None:
        self._address, self._udp, self._timeout_s, self._stopping = address, udp, timeout_s, stopping
        self._trust, self._codecs = trust or Trust(), codecs
        self._link: Link | None = None
        self._selector = selectors.DefaultSelector()
        self._socket: socket.socket | None = None
        self._ports: list[socket.socket] = []
        self._reader = Reader()
        self._cseq = 0
        self._challenges: tuple[str, ...] = ()
        self._answered = 0
        self._asked_again = False
        self._withheld = False  # whether a redirection led to a host that does not get user and password
        self._accepted = False  # whether an answer to these challenges was right
        self._public = ""
        self._session = ""
        self._session_s = _DEFAULT_SESSION_S
        self._video: Video | None = None
        self._channels = Transport(0, 1)
        self._early: list[Interleaved] = []

    def open(self) -> Video:
        """Connect, ask for the video and have it played.

        Raises:
            DeviceFault: The camera is not there, refuses, or sends another codec.
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
        if video.codec not in self._codecs:
            raise DeviceFault(_not_shown(video.codec))
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
            came = False
            for key, _ in self._selector.select(POLL_S):
                for packet in self._read_tcp() if key.fileobj is self._socket else self._read_udp(key.fileobj):
                    came = True
                    yield packet
            now = time.monotonic()
            if came:  # by the time of now: whoever takes the packets may be slow
                heard = now
            if now - heard > self._timeout_s:
                raise DeviceFault(self._silent())
            if now >= report_at:
                report_at = now + _REPORT_S
                self._report()
            if now >= keepalive_at:
                keepalive_at = now + self._session_s / 2
                self._asked_again = False
                self._keep_alive()

    def close(self) -> None:
        """Say goodbye where that is possible, and close everything."""
        if self._link is not None:
            if self._session and self._video:
                with contextlib.suppress(OSError, DeviceFault):
                    self._link.hurry()
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
        link = Link(self._address, timeout_s=self._timeout_s, stopping=self._stopping, trust=self._trust)
        self._socket = link.open()
        self._link = link
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _disconnect(self) -> None:
        if self._link is not None:
            assert self._socket
            self._selector.unregister(self._socket)
            self._link.close()
            self._link = self._socket = None

    def _follow(self, response: Response) -> None:
        """Go where a redirection points. User and password are for the camera's own host: another one might be anybody's."""
        here = self._address
        location = response.headers.get("location", "")
        try:
            target = Address.parse(location)
            self._withheld = bool(here.user) and not target.user and target.host.lower() != here.host.lower()
            if target.host.lower() == here.host.lower():
                target = Address.parse(location, here.user, here.password)
        except ValueError:
            raise DeviceFault("The camera redirects to an address that is none.") from None
        if self._address.secure and not target.secure:
            raise DeviceFault("The camera redirects to an address that is not encrypted; where that is meant, write it as `url`.")
        self._disconnect()
        self._address, self._reader, self._challenges, self._accepted = target, Reader(), (), False

    # Requests

    def _request(self, method: str, url: str, headers: dict[str, str]) -> Response:
        """Ask, answering a challenge; raises DeviceFault for everything but success and redirection."""
        response = self._exchange(method, url, headers)
        for _ in range(2):
            if response.status != 401:
                break
            if self._withheld:
                raise DeviceFault(
                    f"The camera redirects to {self._address.host}, which asks for a user name and password; they are told to no "
                    "other host: where it is meant, write that address as `url`.",
                    retry=False,
                )
            if not self._address.user:
                raise DeviceFault(
                    f"The camera at {self._address.host} asks for a user name and password; add `username` and `password`.",
                    retry=False,
                )
            if not self._take_challenge(response):
                break
            response = self._exchange(method, url, headers)
        self._accepted = self._accepted or (response.status == 200 and bool(self._challenges))
        if response.status == 200 or (method == "OPTIONS" and response.status not in (401, 403)):
            return response
        if response.status // 100 == 3 and method == "DESCRIBE":
            return response
        raise self._refused(method, response)

    def _take_challenge(self, response: Response) -> bool:
        """Whether another answer may help: to the first question, or where only the nonce has aged. Else the password is wrong."""
        renewed = bool(response.challenges) and response.challenges != self._challenges
        if not renewed or (self._challenges and not self._accepted and not is_stale(response.challenges)):
            return False
        self._challenges, self._answered, self._accepted = response.challenges, 0, False
        return True

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
        deadline = time.monotonic() + max(self._timeout_s, _ANSWER_S)
        while True:
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise DeviceFault(f"The camera at {self._address.host} does not answer; is it switched on and in this network?")
            for key, _ in self._selector.select(POLL_S):
                if key.fileobj is not self._socket:
                    continue
                answer = None
                for item in self._receive():
                    if isinstance(item, Interleaved):
                        if len(self._early) < _MOST_EARLY:
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
        assert self._link
        self._link.send(data)

    def _receive(self) -> list[Response | Interleaved]:
        assert self._link
        try:
            return self._reader.feed(self._link.receive())
        except ValueError:
            raise DeviceFault(f"What answers at {self._address.host} is no camera with RTSP; check the port in `url`.") from None

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
        assert self._link
        return self._link.peer

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
            elif item.status == 401 and self._take_challenge(item) and not self._asked_again:
                self._asked_again = True
                self._keep_alive()  # at once: the session ends soon
            elif item.status == 200:
                self._accepted = bool(self._challenges)
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
