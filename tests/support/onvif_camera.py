"""An ONVIF camera for tests: answers WS-Discovery probes and a camera's SOAP requests, strict about WS-Security digests.

    python -m tests.support.onvif_camera 10.78.0.1

prints `ready PORT` and answers until its standard input ends. Its clock is an hour slow, as cameras' clocks are.
"""

from __future__ import annotations

__all__ = ["PASSWORD", "USER", "OnvifCamera", "Stream"]

import base64
import contextlib
import datetime
import hashlib
import socket
import struct
import sys
import threading
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from xml.etree import ElementTree
from xml.sax.saxutils import escape

USER, PASSWORD = "admin", "geheim/1"
GROUP, PORT = "239.255.255.250", 3702
FRESH_S = 5.0

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_DIGEST = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest"
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_SCHEMA = "http://www.onvif.org/ver10/schema"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"


@dataclass(frozen=True)
class Stream:
    """A profile: its token, its source, what it sends."""

    token: str
    url: str
    codec: str = "H264"
    width: int = 1920
    height: int = 1080
    source: str = "lens"


class OnvifCamera:
    """A camera while the `with` block lasts.

    Args:
        host: To listen at.
        streams: Its profiles.
        open_to_all: Whether it asks for no password.
        discoverable: Whether it answers probes; needs a network where multicast arrives.
    """

    def __init__(
        self, host: str = "127.0.0.1", *, streams: list[Stream] | None = None, open_to_all: bool = False, discoverable: bool = False
    ) -> None:
        self.host, self.open_to_all = host, open_to_all
        self.streams = streams if streams is not None else _streams(host)
        self.asked: list[str] = []
        self.nonces: set[str] = set()
        self.skew = datetime.timedelta(hours=-1)
        self._server = ThreadingHTTPServer((host, 0), _Handler)
        self._server.daemon_threads = False
        self._server.camera = self  # type: ignore[attr-defined]
        self.address = f"http://{host}:{self._server.server_port}/onvif/device_service"
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(0.05,))]
        self._udp: socket.socket | None = None
        if discoverable:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._udp.bind((GROUP, PORT))
            membership = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(host))
            self._udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            self._udp.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._answer_probes))
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()
        if self._udp:
            self._udp.close()

    @property
    def now(self) -> datetime.datetime:
        """By the camera's clock."""
        return datetime.datetime.now(datetime.UTC) + self.skew

    def answer(self, body: bytes) -> tuple[int, str]:
        """Status and body for a request."""
        envelope = ElementTree.fromstring(body)
        request = envelope.find(f"{{{_SOAP}}}Body")
        assert request is not None
        operation = request[0]
        name = operation.tag.rpartition("}")[2]
        self.asked.append(name)
        if name != "GetSystemDateAndTime" and not self.open_to_all and (reason := self._refusal(envelope)):
            return 400, _fault(reason)
        made: str = getattr(self, f"_{name}")(operation)
        return 200, _envelope(made)

    def _refusal(self, envelope: ElementTree.Element) -> str:
        """Why this request is not allowed, "" where it is (WS-Security UsernameToken profile, section 3.1)."""
        token = envelope.find(f"{{{_SOAP}}}Header/{{{_WSSE}}}Security/{{{_WSSE}}}UsernameToken")
        if token is None:
            return "no token"
        user = token.findtext(f"{{{_WSSE}}}Username", "")
        password = token.find(f"{{{_WSSE}}}Password")
        nonce, created = token.findtext(f"{{{_WSSE}}}Nonce", ""), token.findtext(f"{{{_WSU}}}Created", "")
        if password is None or password.get("Type") != _DIGEST or not created.endswith("Z"):
            return "no digest"
        age = self.now - datetime.datetime.fromisoformat(created)
        if abs(age.total_seconds()) > FRESH_S:
            return "too old"
        if nonce in self.nonces:
            return "nonce used twice"
        self.nonces.add(nonce)
        right = hashlib.sha1(base64.b64decode(nonce) + created.encode() + PASSWORD.encode()).digest()
        if user != USER or base64.b64decode(password.text or "") != right:
            return "wrong"
        return ""

    def _GetSystemDateAndTime(self, _: Any) -> str:
        now = self.now
        return (
            f'<d:GetSystemDateAndTimeResponse xmlns:d="{_DEVICE}" xmlns:s="{_SCHEMA}"><d:SystemDateAndTime>'
            "<s:DateTimeType>NTP</s:DateTimeType><s:DaylightSavings>false</s:DaylightSavings><s:UTCDateTime>"
            f"<s:Time><s:Hour>{now.hour}</s:Hour><s:Minute>{now.minute}</s:Minute><s:Second>{now.second}</s:Second></s:Time>"
            f"<s:Date><s:Year>{now.year}</s:Year><s:Month>{now.month}</s:Month><s:Day>{now.day}</s:Day></s:Date>"
            "</s:UTCDateTime></d:SystemDateAndTime></d:GetSystemDateAndTimeResponse>"
        )

    def _GetDeviceInformation(self, _: Any) -> str:
        return (
            f'<d:GetDeviceInformationResponse xmlns:d="{_DEVICE}"><d:Manufacturer>Acme</d:Manufacturer><d:Model>Eye 3</d:Model>'
            "<d:FirmwareVersion>1</d:FirmwareVersion><d:SerialNumber>1</d:SerialNumber><d:HardwareId>1</d:HardwareId>"
            "</d:GetDeviceInformationResponse>"
        )

    def _GetCapabilities(self, _: Any) -> str:
        address = escape(self.address.replace("device_service", "media_service"))
        return (
            f'<d:GetCapabilitiesResponse xmlns:d="{_DEVICE}" xmlns:s="{_SCHEMA}"><d:Capabilities><s:Media>'
            f"<s:XAddr>{address}</s:XAddr><s:StreamingCapabilities/></s:Media></d:Capabilities></d:GetCapabilitiesResponse>"
        )

    def _GetProfiles(self, _: Any) -> str:
        profiles = "".join(map(_profile, self.streams))
        return f'<m:GetProfilesResponse xmlns:m="{_MEDIA}" xmlns:s="{_SCHEMA}">{profiles}</m:GetProfilesResponse>'

    def _GetStreamUri(self, operation: ElementTree.Element) -> str:
        token = operation.findtext(f"{{{_MEDIA}}}ProfileToken", "")
        protocol = operation.findtext(f"{{{_MEDIA}}}StreamSetup/{{{_SCHEMA}}}Transport/{{{_SCHEMA}}}Protocol")
        assert protocol == "RTSP"
        url = next(stream.url for stream in self.streams if stream.token == token)
        return (
            f'<m:GetStreamUriResponse xmlns:m="{_MEDIA}" xmlns:s="{_SCHEMA}"><m:MediaUri><s:Uri>{escape(url)}</s:Uri>'
            "<s:InvalidAfterConnect>false</s:InvalidAfterConnect><s:InvalidAfterReboot>false</s:InvalidAfterReboot>"
            "<s:Timeout>PT0S</s:Timeout></m:MediaUri></m:GetStreamUriResponse>"
        )

    def _answer_probes(self) -> None:
        assert self._udp
        while not self._closing.is_set():
            try:
                data, place = self._udp.recvfrom(65_535)
                envelope = ElementTree.fromstring(data)
            except (TimeoutError, ElementTree.ParseError):
                continue
            header = f"{{{_SOAP}}}Header"
            if envelope.findtext(f"{header}/{{{_ADDRESSING}}}Action") != f"{_DISCOVERY}/Probe":
                continue
            asked = envelope.findtext(f"{header}/{{{_ADDRESSING}}}MessageID", "")
            self._udp.sendto(self._match(asked).encode(), place)

    def _match(self, asked: str) -> str:
        return (
            f'<e:Envelope xmlns:e="{_SOAP}" xmlns:a="{_ADDRESSING}" xmlns:d="{_DISCOVERY}" '
            'xmlns:n="http://www.onvif.org/ver10/network/wsdl"><e:Header>'
            f"<a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID><a:RelatesTo>{escape(asked)}</a:RelatesTo>"
            "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>"
            f"<a:Action>{_DISCOVERY}/ProbeMatches</a:Action></e:Header><e:Body><d:ProbeMatches><d:ProbeMatch>"
            f"<a:EndpointReference><a:Address>urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, self.address)}</a:Address>"
            "</a:EndpointReference>"
            "<d:Types>n:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/name/Front%20Door "
            f"onvif://www.onvif.org/hardware/Eye3</d:Scopes><d:XAddrs>{escape(self.address)}</d:XAddrs>"
            "<d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></e:Body></e:Envelope>"
        )


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        camera: OnvifCamera = self.server.camera  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = camera.answer(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


def _streams(host: str) -> list[Stream]:
    return [
        Stream("p1", f"rtsp://{host}:554/main?channel=1&subtype=0"),
        Stream("p2", f"rtsp://admin:secret@{host}/sub", width=640, height=360),
        Stream("p3", f"rtsp://{host}/jpeg", codec="JPEG", width=320, height=240),
    ]


def _profile(stream: Stream) -> str:
    return (
        f'<m:Profiles token="{stream.token}" fixed="true"><s:Name>{stream.token}</s:Name>'
        '<s:VideoSourceConfiguration token="v"><s:Name>v</s:Name><s:UseCount>1</s:UseCount>'
        f"<s:SourceToken>{stream.source}</s:SourceToken>"
        f'<s:Bounds x="0" y="0" width="{stream.width}" height="{stream.height}"/></s:VideoSourceConfiguration>'
        '<s:VideoEncoderConfiguration token="e"><s:Name>e</s:Name><s:UseCount>1</s:UseCount>'
        f"<s:Encoding>{stream.codec}</s:Encoding>"
        f"<s:Resolution><s:Width>{stream.width}</s:Width><s:Height>{stream.height}</s:Height></s:Resolution>"
        "<s:Quality>5</s:Quality>"
        "<s:RateControl><s:FrameRateLimit>25</s:FrameRateLimit><s:EncodingInterval>1</s:EncodingInterval>"
        "<s:BitrateLimit>4096</s:BitrateLimit></s:RateControl><s:Multicast><s:Address><s:Type>IPv4</s:Type></s:Address>"
        "<s:Port>0</s:Port><s:TTL>1</s:TTL><s:AutoStart>false</s:AutoStart></s:Multicast><s:SessionTimeout>PT60S</s:SessionTimeout>"
        "</s:VideoEncoderConfiguration></m:Profiles>"
    )


def _envelope(body: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><e:Envelope xmlns:e="{_SOAP}"><e:Body>{body}</e:Body></e:Envelope>'


def _fault(reason: str) -> str:
    return _envelope(
        '<e:Fault xmlns:t="http://www.onvif.org/ver10/error"><e:Code><e:Value>e:Sender</e:Value><e:Subcode>'
        "<e:Value>t:NotAuthorized</e:Value></e:Subcode></e:Code><e:Reason>"
        f'<e:Text xml:lang="en">Sender not authorized: {escape(reason)}</e:Text></e:Reason></e:Fault>'
    )


def main() -> None:
    with OnvifCamera(sys.argv[1], discoverable=True) as camera, contextlib.suppress(KeyboardInterrupt):
        print("ready", camera.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
