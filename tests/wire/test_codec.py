"""Whatever comes from outside ends as a message or as a PeerError with a sentence, and what we write can be read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.errors import PeerError
from edgeagent.wire import messages as m
from edgeagent.wire.codec import decode_agent, decode_up, decode_viewer, encode, sid_of

SID = "abcdef0123456789"
OFFER: dict[str, Any] = {"v": 1, "t": "offer", "sid": SID, "n": 1, "sdp": "v=0", "cameras": {"0": "gate"}}


def refused(raw: bytes | str) -> PeerError:
    with pytest.raises(PeerError) as caught:
        decode_viewer(raw)
    return caught.value


def test_an_offer_is_decoded() -> None:
    offer = decode_viewer(json.dumps(OFFER).encode())
    assert offer == m.Offer(sid=SID, sdp="v=0", cameras={"0": "gate"})


def test_the_version_may_be_left_out() -> None:
    assert decode_viewer(f'{{"t":"bye","sid":"{SID}"}}') == m.Bye(sid=SID)


def test_keys_of_a_candidate_that_are_not_used_are_taken() -> None:
    candidate = {
        "candidate": "candidate:1 1 udp 1 192.0.2.1 5 typ host",
        "sdpMid": "0",
        "sdpMLineIndex": 0,
        "usernameFragment": "x",
    }
    ice = decode_viewer(json.dumps({"t": "ice", "sid": SID, "candidates": [candidate, {"candidate": "", "sdpMid": None}]}))
    assert isinstance(ice, m.Ice)
    assert [c.sdpMid for c in ice.candidates] == ["0", None]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"v": 2}, 426, "Version 2 is not spoken here, only version 1"),
        ({"v": True}, 426, "Version True"),
        ({"v": None}, 426, "Version None"),
        ({"t": "order"}, 400, "known are offer, ice"),
        ({"t": None}, 400, "known are offer, ice"),
        ({"t": ["offer"]}, 400, "t = a list"),
        ({"sid": "short"}, 400, "'offer' is wrong at sid: "),
        ({"sid": SID + "\n"}, 400, "at sid: "),
        ({"n": 0}, 400, "at n: "),
        ({"n": "1"}, 400, "at n: "),
        ({"n": 10**30}, 400, "at n: "),
        ({"sdp": ""}, 400, "at sdp: "),
        ({"sdp": "x" * 48_001}, 400, "at sdp: "),
        ({"cameras": {"0": "Gate"}}, 400, "at cameras.0: "),
        ({"cameras": {"ä": "gate"}}, 400, "at cameras.ä: "),
        ({"cameras": {str(i): "gate" for i in range(17)}}, 400, "at cameras: "),
        ({"sdpp": "v=0"}, 400, "at sdpp: this key is not known"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], code: int, words: str) -> None:
    error = refused(json.dumps(OFFER | change))
    assert error.code == code
    assert words in error.message
    assert len(error.message) < 600


def test_a_missing_field_is_named() -> None:
    assert (
        refused(json.dumps({"t": "switch", "sid": SID, "id": 1, "mid": "0"})).message
        == "The message 'switch' is wrong at camera: it is missing."
    )


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b"", 400, "not JSON"),
        (b"\xff\xfe", 400, "not UTF-8"),
        ("\ud800", 400, "not UTF-8"),
        (b'{"t":"bye","sid":"\\ud800"}', 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        (b"null", 400, "not a JSON object"),
        (b"[" * 40_000, 400, "not JSON"),
        (b'{"a":' * 10_000, 400, "not JSON"),
        (b"9" * 60_000, 400, "not JSON"),
        (b'{"t":"ping","sid":"abcdefgh","id":1,"at":NaN}', 400, "not JSON"),
        (b'{"t":"ping","sid":"abcdefgh","id":1,"at":1e999}', 400, "at at: "),
        (b" " * (m.MAX_MESSAGE + 1), 413, "at most 65536"),
        ("ä" * 40_000, 413, "80000 bytes"),
    ],
)
def test_what_is_no_object_is_refused(raw: bytes | str, code: int, words: str) -> None:
    error = refused(raw)
    assert error.code == code
    assert words in error.message


def test_a_sentence_carries_no_control_characters_and_stays_short() -> None:
    error = refused(json.dumps(OFFER | {"\x1b[31m\n" * 1_000: 1}))
    assert error.message.isprintable()
    assert len(error.message) < 300


def test_many_errors_are_counted() -> None:
    assert "(and 7 more)" in refused(json.dumps(OFFER | {f"k{i}": i for i in range(10)})).message


def test_the_session_of_a_refused_message_is_found() -> None:
    assert sid_of(json.dumps({"v": 9, "t": "x", "sid": SID})) == SID
    assert sid_of('{"sid": "UPPER!!!!"}') is None
    assert sid_of('{"sid": 5}') is None
    assert sid_of("nonsense") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(
    ["v", "t", "sid", "n", "epoch", "sdp", "cameras", "candidates", "end", "reason", "id", "mid", "camera", "layer", "at", "zz"]
)
likely = st.sampled_from(
    [1, 2, "offer", "ice", "bye", "switch", "quality", "ping", SID, {"0": "gate"}, [{"candidate": "x"}], True, "gate", 0]
)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_bytes(raw: bytes | str) -> None:
    refused(raw)


@given(st.dictionaries(keys, likely | json_values, max_size=10))
def test_any_object(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields)
    try:
        message = decode_viewer(raw)
    except PeerError as error:
        assert error.code in (400, 413, 426)
        assert error.message.isprintable()
    else:
        assert decode_viewer(encode(message)) == message
    sid_of(raw)


@given(st.text(), st.sampled_from(["off", "starting", "live", "retrying", "failed"]))
def test_what_the_agent_says_can_be_read_again(text: str, phase: Any) -> None:
    hello = m.Hello(device="d", version="1", epoch="e", cameras=[m.CameraState(name="c", phase=phase, text=text)])
    assert decode_agent(encode(hello)) == hello


def test_none_is_left_out_and_the_text_is_compact() -> None:
    assert encode(m.ErrorMessage(code=404, message="No.")) == '{"v":1,"t":"error","code":404,"message":"No."}'


def test_a_lone_surrogate_does_not_stop_a_message() -> None:
    state = m.State(cameras=[m.CameraState(name="c", phase="failed", text="file \udcff.mp4")])
    decoded = decode_agent(encode(state))
    assert isinstance(decoded, m.State)
    assert decoded.cameras[0].text == "file ?.mp4"


def test_presence() -> None:
    assert decode_up(encode(m.Up(up=1, epoch="e", at=5.5))) == m.Up(up=1, epoch="e", at=5.5)
    for raw in ("{}", '{"up":2,"epoch":"e"}', "5", b"\xff"):
        with pytest.raises(PeerError):
            decode_up(raw)
