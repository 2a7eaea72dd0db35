"""What the WHEP door reads of offers and fragments, and that nothing throws it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.errors import PeerError
from edgeagent.http.sdp import Fragment, OfferOutline, outline, parse_fragment
from edgeagent.wire.messages import Candidate, Ice
from tests.support.sdp import CHROMIUM_OFFER


def test_an_offer_of_a_browser() -> None:
    pair = ("4xxt", "JavC99c0CaI8huR4KGB3XzH8")
    expected = OfferOutline(video=("0",), first_mid="0", credentials=frozenset({pair}))
    assert outline(CHROMIUM_OFFER) == outline(CHROMIUM_OFFER.replace("\n", "\r\n")) == expected


def test_directions_are_inherited_and_audio_is_no_video() -> None:
    read = outline(
        "v=0\na=recvonly\na=ice-ufrag:u\na=ice-pwd:p\n"
        "m=audio 9 x 1\na=mid:a\nm=video 9 x 1\na=mid:b\nm=video 9 x 1\na=mid:c\na=inactive\n"
        "m=video 0 x 1\na=mid:d\na=bundle-only\n"
    )
    assert (read.video, read.first_mid, read.credentials) == (("b", "d"), "a", frozenset({("u", "p")}))


@pytest.mark.parametrize(
    ("sdp", "code"),
    [
        ("", 400),
        ("o=-", 400),
        ("v=0\nm=video 9 x 1\n", 400),
        ("v=0\nm=video 9 x 1\na=mid:a\nm=video 9 x 1\na=mid:a\n", 400),
        ("v=0\nm=video\na=mid:" + "a" * 33, 400),
        ("v=0\nm=\n", 406),
        ("v=0\nm=audio 9 x 1\na=mid:a\n", 406),
    ],
)
def test_offers_without_use(sdp: str, code: int) -> None:
    with pytest.raises(PeerError) as caught:
        outline(sdp)
    assert caught.value.code == code


def test_the_fragment_of_the_draft() -> None:
    text = (
        "a=group:BUNDLE 0 1\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:1\na=ice-ufrag:EsAw\na=ice-pwd:P2uY\n"
        "a=candidate:1 1 udp 2 192.0.2.1 6 typ host\na=end-of-candidates\n"
    )
    candidate = Candidate(candidate="candidate:1 1 udp 2 192.0.2.1 6 typ host", sdpMid="1")
    assert parse_fragment(text, "0") == Fragment(("EsAw", "P2uY"), (candidate,), True)
    assert parse_fragment("a=candidate:1", "0") == Fragment(None, (Candidate(candidate="candidate:1", sdpMid="0"),), False)
    assert parse_fragment("a=candidate:1").candidates[0].sdpMid is None


@pytest.mark.parametrize(
    "text",
    ["", "\r\n", "candidate", "A=x", "a=candidate:" + "x" * 600, "a=candidate:1\n" * 65, "a=mid:" + "m" * 70 + "\na=candidate:1"],
)
def test_fragments_without_use(text: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_fragment(text, "0")
    assert caught.value.code == 400
    assert len(caught.value.message) < 200


lines = st.lists(
    st.sampled_from(
        ["v=0", "m=video 9 x 1", "m=audio 0", "m=", "a=mid:0", "a=mid:", "a=recvonly", "a=inactive", "a=ice-ufrag:u", "a=ice-pwd:"]
    )
    | st.sampled_from(["a=candidate:1", "a=candidate:", "a=end-of-candidates", "a=", "a=:", "a=bundle-only", "", "\r"])
    | st.text(max_size=20),
    max_size=12,
)


@given(lines, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_any_text(parts: list[str], end: str, offer: bool) -> None:
    text = end.join((["v=0"] if offer else []) + parts)
    try:
        assert outline(text).video or "m=application" in text
    except PeerError as error:
        assert error.code in (400, 406)
    try:
        fragment = parse_fragment(text, "0")
    except PeerError as error:
        assert error.code == 400
    else:
        Ice(sid="session1", candidates=list(fragment.candidates), end=fragment.end)


@given(st.text())
def test_any_other_text(text: str) -> None:
    for body in (text, "v=0\n" + text):
        for read in (outline, parse_fragment):
            try:
                read(body)
            except PeerError as error:
                assert error.code in (400, 406)
