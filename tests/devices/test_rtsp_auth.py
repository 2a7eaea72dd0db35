from __future__ import annotations

import hashlib
import re
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.drivers import DeviceFault
from edgeagent.drivers.conformance import Recording, record
from edgeagent_devices._rtsp_auth import authorize, is_stale, parse_challenges
from edgeagent_devices.rtsp import RtspCamera
from tests.devices.test_rtp_h264 import fragments, packets
from tests.support.clips import make_clip


def answer(
    *challenges: str, user: str = "Mufasa", password: str = "Circle Of Life", method: str = "GET", url: str = "/dir/index.html"
) -> str:
    return authorize(challenges, method, url, user, password, count=1, nonce="0a4f113b")


def test_digest_as_in_rfc_2069_and_rfc_2617() -> None:
    plain = answer('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc"')
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in plain
    assert 'opaque="5ccc"' in plain
    assert "qop" not in plain
    quality = answer(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
        password="Circle Of Life",
    )
    assert 'response="6629fae49393a05397450978507c4ef1"' in quality
    assert "qop=auth, nc=00000001" in quality


def test_digest_sha256_as_in_rfc_7616() -> None:
    text = authorize(
        (
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"',
        ),
        "GET", "/dir/index.html", "Mufasa", "Circle of Life", count=1, nonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )  # fmt: skip
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in text


def test_digest_is_preferred_and_basic_will_do() -> None:
    assert answer("Basic realm=x", 'Digest realm="x", nonce="n"').startswith("Digest ")
    assert answer("Basic realm=x", user="Aladdin", password="open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert answer('Digest realm="x", nonce="n", algorithm=SHA-512-256', "Basic x", user="a", password="b") == "Basic YTpi"
    assert answer("Digest realm=x", "NTLM", "") == ""


def test_two_challenges_in_one_header_are_told_apart() -> None:
    both = 'Digest realm="cam, \\"a\\"", nonce="n1", qop="auth", stale=FALSE, Basic realm="other"'
    digest, basic = parse_challenges([both])
    assert (digest.scheme, digest.values["realm"], digest.values["nonce"]) == ("digest", 'cam, \\"a\\"', "n1")
    assert (basic.scheme, basic.values) == ("basic", {"realm": "other"})
    assert 'realm="cam, \\"a\\""' in answer(both)
    assert [one.scheme for one in parse_challenges(["NTLM", "Negotiate, Basic"])] == ["ntlm", "negotiate", "basic"]


def test_a_digest_for_whole_messages_only_is_not_understood() -> None:
    assert answer('Digest realm="x", nonce="n", qop="auth-int"') == ""
    assert answer('Digest realm="x", nonce="n", qop="auth-int"', "Basic realm=x", user="a", password="b") == "Basic YTpi"


def test_the_first_digest_that_is_understood_is_answered() -> None:
    text = answer(
        'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-512-256',
        'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-256',
        'Digest realm="x", nonce="n", qop="auth", algorithm=MD5',
    )
    assert "algorithm=SHA-256" in text


def test_session_digest_needs_its_nonce() -> None:
    assert 'cnonce="0a4f113b"' in answer('Digest realm="x", nonce="n", algorithm=MD5-sess')


def test_a_name_cannot_end_its_quotes() -> None:
    assert 'username="a\\", uri=\\"b"' in answer('Digest realm="x", nonce="n"', user='a", uri="b')


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Digest nonce="n", stale=true', True),
        ('Digest nonce="n", STALE="TRUE"', True),
        ('Digest nonce="stale=true"', False),
        ("", False),
    ],
)
def test_stale(header: str, expected: bool) -> None:
    assert is_stale([header]) is expected


@example(text="", user='\n"')
@given(st.text(alphabet='Digest ba,="\\\nsicrealmnonce\u00e9-', max_size=80), st.text(max_size=5))
def test_any_challenge_is_read_and_no_answer_splits_a_header(text: str, user: str) -> None:
    for header in (text, f'Digest realm="{text}", nonce="{text}", qop="auth"', f"Basic {text}, Digest {text}"):
        reply = answer(header, user=user)
        assert "\n" not in reply


SDP = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
HASHES: dict[str, Callable[[bytes], Any]] = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class StrictCamera:
    """An RTSP server that takes each nonce for `uses` requests, counts them, and says `stale` to one that it retired.

    Args:
        algorithm: `MD5` or `SHA-256`.
        uses: Requests that a nonce is good for.
        honest: Whether it says `stale` at all.
        media: Sent after PLAY, over and over: RTP packets.
    """

    def __init__(self, media: list[bytes], *, algorithm: str = "SHA-256", uses: int = 2, honest: bool = True) -> None:
        self.media, self.algorithm, self.uses, self.honest = media, algorithm, uses, honest
        self.refused = 0
        self.wrong = 0
        self.methods: list[str] = []
        self._nonce, self._count = secrets.token_hex(8), 0
        self._old: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/live"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._talk(connection)
        except OSError:
            return

    def _talk(self, connection: socket.socket) -> None:
        buffer = b""
        while data := connection.recv(4096):
            buffer += data
            while b"$" in buffer[:1] and len(buffer) >= 4:  # receiver reports
                buffer = buffer[4 + int.from_bytes(buffer[2:4], "big") :]
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                method, url, _ = lines[0].split(" ")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
                connection.sendall(self._answer(method, url, headers))
                if method == "PLAY" and self.methods[-1] == "PLAY":
                    for packet in self.media:
                        connection.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> bytes:
        problem = self._problem(method, url, headers.get("authorization", ""))
        cseq = headers["cseq"]
        if problem:
            self.refused += 1
            self.wrong += problem == "wrong"
            stale = ", stale=true" if problem == "stale" and self.honest else ""
            challenge = f'Digest realm="cam", nonce="{self._nonce}", algorithm={self.algorithm}, qop="auth"{stale}, Basic realm="x"'
            return f"RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: {challenge}\r\n\r\n".encode()
        self.methods.append(method)
        body = SDP if method == "DESCRIBE" else ""
        extra = {"SETUP": "Session: 7;timeout=60\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n"}.get(method, "")
        return f"RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def _problem(self, method: str, url: str, authorization: str) -> str:
        values = dict(re.findall(r'(\w+)="?([^",]*)"?', authorization))
        if not authorization.startswith("Digest ") or values["nonce"] not in {self._nonce, *self._old}:
            return "none"

        def digest(text: str) -> str:
            return str(HASHES[self.algorithm](text.encode()).hexdigest())

        secret, asked = digest("admin:cam:geheim"), digest(f"{method}:{url}")
        right = digest(f"{secret}:{values['nonce']}:{values['nc']}:{values['cnonce']}:auth:{asked}")
        if values["response"] != right or values["uri"] != url:
            return "wrong"
        if values["nonce"] in self._old:
            return "stale"
        assert int(values["nc"], 16) == self._count + 1, "each use of a nonce has its number"
        self._count += 1
        if self._count == self.uses:
            self._old.add(self._nonce)
            self._nonce, self._count = secrets.token_hex(8), 0
        return ""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    from edgeagent.core.h264 import split_nals

    nals = split_nals(make_clip(tmp_path_factory.mktemp("clips") / "a.h264", seconds=0.1).read_bytes())
    head = [nal for nal in nals if nal[0] & 0x1F in (7, 8)]
    parts = fragments(next(nal for nal in nals if nal[0] & 0x1F == 5), 1000)
    return packets([*((nal, 0, False) for nal in head), *((part, 0, part is parts[-1]) for part in parts)])


def watch(url: str, password: str) -> Recording:
    def no_encoder(**_: Any) -> Any:
        raise AssertionError("nothing is encoded here")

    one = RtspCamera("gate", RtspCamera.Options(url=url, username="admin", password=password))
    return record(one, no_encoder, lambda it: it.wait_for(1, 20))


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("uses", [1, 2, 100])
@pytest.mark.parametrize("honest", [True, False])
def test_a_nonce_that_ages_is_replaced(media: list[bytes], algorithm: str, uses: int, honest: bool) -> None:
    with StrictCamera(media, algorithm=algorithm, uses=uses, honest=honest) as server:
        recording = watch(server.url, "geheim")
    assert recording.error is None
    assert len(recording.frames) == 1
    assert server.methods[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert server.wrong == 0
    assert server.refused <= {1: 6, 2: 4, 100: 1}[uses]


def test_a_wrong_password_is_tried_once(media: list[bytes]) -> None:
    with StrictCamera(media) as server:
        fault = watch(server.url, "guess").error
    assert isinstance(fault, DeviceFault)
    assert "refuses the user name or password" in fault.message
    assert not fault.retry
    assert server.wrong == 1, "cameras lock out whoever keeps guessing"
