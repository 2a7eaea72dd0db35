from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent_devices._rtsp_wire import Address, Interleaved, Reader, Response, Transport, find_video, request


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://cam", Address("cam", 554, "rtsp://cam/")),
        (
            " RTSP://10.0.0.7:8554/a/b?channel=1&subtype=0 ",
            Address("10.0.0.7", 8554, "rtsp://10.0.0.7:8554/a/b?channel=1&subtype=0"),
        ),
        ("rtsp://u:p@cam/x", Address("cam", 554, "rtsp://cam/x", "u", "p")),
        ("rtsp://u:p%40ss%3A@cam/x", Address("cam", 554, "rtsp://cam/x", "u", "p@ss:")),
        ("rtsp://u:p@ss:w@cam/x@y", Address("cam", 554, "rtsp://cam/x@y", "u", "p@ss:w")),
        ("rtsp://[fe80::1]:8554/x", Address("fe80::1", 8554, "rtsp://[fe80::1]:8554/x")),
        ("RTSPS://cam/x", Address("cam", 322, "rtsps://cam/x")),
        ("rtsp://cam?user=x", Address("cam", 554, "rtsp://cam?user=x")),
        ("rtsp://cam/übersicht", Address("cam", 554, "rtsp://cam/%C3%BCbersicht")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert Address.parse(text) == expected


def test_separate_user_and_password_win() -> None:
    assert Address.parse("rtsp://a:b@cam/", "u", "p") == Address("cam", 554, "rtsp://cam/", "u", "p")


@pytest.mark.parametrize(
    "text",
    [
        *("", "cam", "http://cam/", "rtspu://cam/", "rtsp://", "rtsp://cam:0/", "rtsp://cam:70000/", "rtsp://u:p/w@cam/"),
        *("rtsp://ca m/", "rtsp://cam/a b", "rtsp://cam\r\nX: 1/", "rtsp://cam/\r\nX: 1"),
    ],
)
def test_addresses_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rtsp://192|the port"):
        Address.parse(text)


@given(st.text())
def test_any_address_is_read_or_refused_and_never_splits_a_header(text: str) -> None:
    for url in (text, f"rtsp://{text}", f"rtsp://cam/{text}", f"rtsp://a:{text}@cam/"):
        try:
            address = Address.parse(url)
        except ValueError:
            continue
        assert address.url.isascii()
        assert address.url.isprintable()
        assert " " not in address.url


def message(text: str, body: bytes = b"") -> bytes:
    return text.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


STREAM = (
    message("RTSP/1.0 200 OK\nCSeq: 1\nPublic: OPTIONS, GET_PARAMETER")
    + b"$\x00\x00\x05hello"
    + message("SET_PARAMETER rtsp://cam/ RTSP/1.0\nCSeq: 9\nContent-Length: 3", b"abc")
    + message(
        "RTSP/1.0 401 Unauthorized\nCSeq:2\nWWW-Authenticate: Digest a\nWWW-Authenticate: Basic b\nContent-length: 4", b"v=0\n"
    )
    + b"\r\n$\x01\x00\x00"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_reading_does_not_depend_on_how_it_is_cut(cuts: list[int]) -> None:
    reader = Reader()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [item for start, end in itertools.pairwise(edges) for item in reader.feed(STREAM[start:end])]
    assert found == [
        Response(200, "OK", {"cseq": "1", "public": "OPTIONS, GET_PARAMETER"}),
        Interleaved(0, b"hello"),
        Response(
            401,
            "Unauthorized",
            {"cseq": "2", "www-authenticate": "Basic b", "content-length": "4"},
            ("Digest a", "Basic b"),
            b"v=0\n",
        ),
        Interleaved(1, b""),
    ]
    assert [item.cseq for item in found if isinstance(item, Response)] == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x16\x03\x01" + b"\0" * 30,
        message("RTSP/1.0 200 OK\nContent-Length: 9999999"),
        message("RTSP/1.0 200 OK\nContent-Length: -1"),
        b"RTSP/1.0 200 OK\r\nX: " + b"x" * 20_000,
    ],
)
def test_what_is_not_rtsp_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Reader().feed(data)


@given(st.lists(st.binary(max_size=100)))
def test_noise_is_read_or_refused(chunks: list[bytes]) -> None:
    for prefix in (b"", b"RTSP/1.0 200 OK\r\n", b"$\x00"):
        reader = Reader()
        try:
            for chunk in (prefix, *chunks):
                reader.feed(chunk)
        except ValueError:
            continue


def test_request() -> None:
    assert request("PLAY", "rtsp://cam/", 4, {"Session": "1"}) == (
        b"PLAY rtsp://cam/ RTSP/1.0\r\nCSeq: 4\r\nUser-Agent: edgeagent\r\nSession: 1\r\n\r\n"
    )


SDP = b"""v=0
o=- 1 1 IN IP4 0.0.0.0
s=x
a=control:*
m=audio 0 RTP/AVP 0
a=control:track1
m=video 0 RTP/AVP 26
a=control:jpeg
m=video 0 RTP/AVP 96 97
a=rtpmap:96 h264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42C01F; sprop-parameter-sets=Z0LA,aM4=
a=fmtp:97 sprop-parameter-sets=wrong
a=framerate:25.0
a=control:track2
"""


def test_video_of_an_sdp() -> None:
    video = find_video(SDP, "rtsp://cam/live/")
    assert video is not None
    assert (video.codec, video.payload_type, video.fps) == ("H264", 96, 25.0)
    assert (video.control, video.aggregate) == ("rtsp://cam/live/track2", "rtsp://cam/live/")
    assert video.fmtp["sprop-parameter-sets"] == "Z0LA,aM4="


@pytest.mark.parametrize(
    ("base", "control", "expected"),
    [
        ("rtsp://cam/live", "trackID=1", "rtsp://cam/live/trackID=1"),
        ("rtsp://cam/live?a=1&b=2/", "trackID=1", "rtsp://cam/live?a=1&b=2/trackID=1"),
        ("rtsp://cam/live", "rtsp://other/x", "rtsp://other/x"),
        ("rtsp://cam/live", "*", "rtsp://cam/live"),
        ("rtsp://cam/live", "", "rtsp://cam/live"),
    ],
)
def test_control_urls(base: str, control: str, expected: str) -> None:
    sdp = f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:{control}\r\n"
    video = find_video(sdp.encode(), base)
    assert video is not None
    assert video.control == expected


@pytest.mark.parametrize(
    "sdp", [b"", b"m=audio 0 RTP/AVP 0", b"m=video", b"m=video 0 RTP/AVP x", b"m=video 0 RTP/AVP 999", b"\xff\xfe"]
)
def test_an_sdp_without_video(sdp: bytes) -> None:
    assert find_video(sdp, "rtsp://cam/") is None


@given(st.binary())
def test_any_sdp_is_read(data: bytes) -> None:
    find_video(data, "rtsp://cam/")
    find_video(SDP.replace(b"track2", data), "rtsp://cam/")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=1", Transport(4, 5)),
        ("RTP/AVP;unicast;client_port=1-2;server_port=6970-6971", Transport(6970, 6971)),
        ("RTP/AVP;unicast;client_port=1-2;server_port=6970", Transport(6970, 6971)),
        ("RTP/AVP;unicast", Transport(-1, -1)),
        ("", Transport(-1, -1)),
    ],
)
def test_transport(value: str, expected: Transport) -> None:
    assert Transport.parse(value) == expected
