from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.errors import PeerError
from edgeagent.rtc.sdp import AnswerMedia, choose_h264, is_data, make_answer, parse_offer
from tests.support.sdp import CHROMIUM_OFFER, video_offer


def test_chromiums_offer_is_understood() -> None:
    offer = parse_offer(CHROMIUM_OFFER)
    assert [m.kind for m in offer.media] == ["video", "application"]
    assert offer.setup == "actpass"
    assert offer.bundle == ["0", "1"]
    assert offer.fingerprints[0][0] == "sha-256"
    assert is_data(offer.media[1])
    chosen = choose_h264(offer.media[0])
    assert chosen is not None
    assert chosen.payload_type == 108  # 42e01f, mode 1: neither VP8, which stands first, nor baseline 42001f
    assert chosen.rtx_payload_type == 109
    assert chosen.remb and chosen.nack and chosen.abs_send_time_id == 2


@pytest.mark.parametrize(
    ("offered", "stream", "expected"),
    [
        (["42001f:1", "42e01f:1", "4d001f:1", "64001f:1"], "42e01f", 1),
        (["64001f:1", "42e01f:1"], "640028", 0),
        (["64001f:1"], "42e01f", 0),
        (["4d001f:1", "64001f:1"], "42e01f", 0),
        (["42e01f:0", "4d001f:1"], "42e01f", 1),
        (["42e01f:1"], "640028", 0),
        ([":1"], "42e01f", 0),
        (["42e01f:0"], "42e01f", None),
        (["42e01f:"], "42e01f", None),
        (["f4001f:1"], "42e01f", None),
        ([], "42e01f", None),
    ],
)
def test_the_nearest_profile_of_mode_1_is_answered_wherever_it_stands(
    offered: list[str], stream: str, expected: int | None
) -> None:
    chosen = choose_h264(parse_offer(video_offer(offered)).media[0], stream)
    assert (chosen.payload_type if chosen else None) == (None if expected is None else 100 + expected)


def test_the_answer_is_read_by_another_implementation() -> None:
    from aiortc.sdp import SessionDescription

    offer = parse_offer(CHROMIUM_OFFER)
    text = make_answer(
        [AnswerMedia(offer.media[0], choose_h264(offer.media[0]), 11, 12, "x"), AnswerMedia(offer.media[1], data=True)],
        session_id=1,
        version=1,
        ufrag="abcd",
        password="p" * 22,
        fingerprint="AA:BB",
        setup="passive",
        cname="me",
        candidates=["candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"],
        end_of_candidates=True,
    )
    parsed = SessionDescription.parse(text)
    video, data = parsed.media
    assert video.direction == "sendonly"
    assert [c.mimeType for c in video.rtp.codecs] == ["video/H264", "video/rtx"]
    assert video.ssrc_group[0].items == [11, 12]
    uris = {extension.id: extension.uri.rpartition("/")[2] for extension in video.rtp.headerExtensions}
    assert uris == {2: "abs-send-time", 4: "draft-holmer-rmcat-transport-wide-cc-extensions-01", 5: "playout-delay"}
    assert video.ice_candidates_complete and len(video.ice_candidates) == 1
    assert data.sctp_port == 5000
    assert parsed.group[0].items == ["0", "1"]


def test_a_refused_section_names_a_format_that_any_parser_can_look_up() -> None:
    audio = "m=audio 9 UDP/TLS/RTP/SAVPF 101 0\r\na=mid:7\r\na=rtpmap:101 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
    offer = parse_offer(CHROMIUM_OFFER + audio)
    text = make_answer(
        [AnswerMedia(m, choose_h264(m) if m.kind == "video" else None, data=is_data(m)) for m in offer.media],
        session_id=1, version=1, ufrag="abcd", password="p" * 22, fingerprint="AA:BB", setup="passive", cname="me",
        candidates=[], end_of_candidates=True,
    )  # fmt: skip
    refused = text[text.index("m=audio") :].splitlines()
    assert refused == [
        "m=audio 0 UDP/TLS/RTP/SAVPF 101", "c=IN IP4 0.0.0.0", "a=inactive", "a=mid:7", "a=rtpmap:101 opus/48000/2"
    ]  # fmt: skip
    assert "7" not in text[text.index("a=group:BUNDLE") :].splitlines()[0].split()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: "", "v=0"),
        (lambda s: s.replace("a=ice-ufrag", "a=x-ufrag"), "ice-ufrag"),
        (lambda s: s.replace("a=fingerprint:sha-256", "a=fingerprint:md5"), "fingerprint"),
        (lambda s: s.replace("a=mid:1", "a=mid:0"), "mid"),
        (lambda s: s.replace("a=setup:actpass", "a=setup:holdconn"), "setup"),
        (lambda s: s.replace("a=rtpmap:108 H264/90000", "a=rtpmap:108 H264/abc"), "clock rate"),
        (lambda s: s + "a=x\r\n" * 5000, "lines"),
        (lambda s: s + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 40, "m-lines"),
    ],
)
def test_what_is_wrong_is_named(change: object, word: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_offer(change(CHROMIUM_OFFER))  # type: ignore[operator]
    assert caught.value.code == 400
    assert word in caught.value.message


@given(st.text(max_size=400))
def test_text_is_an_offer_or_a_peer_error(text: str) -> None:
    try:
        parse_offer("v=0\r\n" + text)
    except PeerError:
        return


@given(
    st.lists(st.tuples(st.integers(0, CHROMIUM_OFFER.count("\n") - 1), st.sampled_from("dxs"), st.text(max_size=20)), max_size=6)
)
def test_a_damaged_offer_is_an_offer_or_a_peer_error(damage: list[tuple[int, str, str]]) -> None:
    lines = CHROMIUM_OFFER.splitlines()
    for place, what, text in damage:
        place %= len(lines)
        if what == "d" and len(lines) > 1:
            del lines[place]
        elif what == "x":
            lines.insert(place, lines[place])
        else:
            lines[place] = lines[place][: len(text)] + text
    try:
        offer = parse_offer("\r\n".join(lines))
        for media in offer.media:
            choose_h264(media)
    except PeerError:
        return
