"""Messages of control: whatever comes in ends as a message or as a sentence, whatever goes out fits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.errors import PeerError
from edgeagent.wire import control as c
from edgeagent.wire.codec import decode_control_agent, decode_event, decode_set_point, encode, id_of
from edgeagent.wire.fitting import ROOM, fit, leading

SET: dict[str, Any] = {"t": "set", "group": "drive", "lease": 1, "seq": 0, "at": 5, "values": {"rover": {"throttle": 1}}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = [
    "t",
    "v",
    "id",
    "group",
    "lease",
    "seq",
    "at",
    "rtp",
    "mid",
    "values",
    "do",
    "to",
    "why",
    "token",
    "device",
    "command",
    "args",
]
kinds = ["set", "sign_in", "listen", "lease", "halt", "stop", "reset", "command", "ack"]


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100), json_values.map(json.dumps)))
def test_nonsense_ends_in_a_sentence(raw: bytes | str) -> None:
    for decode in (decode_set_point, decode_event, decode_control_agent):
        try:
            decode(raw)
        except PeerError as error:
            assert error.code in (400, 413, 426) and error.message.endswith(".") and len(error.message) < 600
    id_of(raw)


@given(
    st.sampled_from(kinds),
    st.dictionaries(st.sampled_from(keys), json_values | st.integers(-3, 3) | st.just("drive"), max_size=8),
)
def test_near_misses(kind: str, fields: dict[str, Any]) -> None:
    raw = json.dumps({"id": 1, **fields, "t": kind})
    for decode in (decode_set_point, decode_event):
        try:
            message = decode(raw)
        except PeerError as error:
            assert error.message
        else:
            assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": 1e16}, "at at: "),
        ({"seq": -1}, "at seq: "),
        ({"seq": True}, "at seq: "),
        ({"lease": 0}, "at lease: "),
        ({"rtp": 2**32}, "at rtp: "),
        ({"values": {"rover": {"throttle": "1"}}}, "at values.rover.throttle: "),
        ({"values": {"rover": {"Throttle": 1}}}, "at values.rover.Throttle: "),
        ({"values": {f"d{n}": {} for n in range(9)}}, "at values: "),
        ({"values": {"rover": {f"a{n}": 0 for n in range(17)}}}, "at values.rover: "),
        ({"speed": 1}, "at speed: this key is not known"),
        ({"t": "stop"}, "known are set."),
    ],
)
def test_what_is_wrong_with_a_set_point_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(PeerError, match=words):
        decode_set_point(json.dumps(SET | change))
    assert decode_set_point(json.dumps(SET)).values == {"rover": {"throttle": 1.0}}


def test_sizes_and_ids() -> None:
    with pytest.raises(PeerError) as caught:
        decode_event(json.dumps({"t": "command", "id": 1, "device": "a", "command": "b", "args": {"x": "y" * c.MAX_CONTROL}}))
    assert caught.value.code == 413
    assert id_of('{"t":"fly","id":7}') == 7
    for raw in ("", "[]", '{"id":true}', '{"id":-1}', '{"id":"7"}', '{"id":9007199254740992}'):
        assert id_of(raw) is None


def big(commands: int, argument: int) -> c.DeviceInfo:
    return c.DeviceInfo(
        name="big",
        title="Big",
        axes=[c.AxisInfo(name=f"a{n}") for n in range(3)],
        readings=[c.ReadingInfo(name=f"r{n}") for n in range(5)],
        commands=[c.CommandInfo(name=f"c{n}", arguments={"description": "ä" * argument * (n + 1)}) for n in range(commands)],
    )


@pytest.mark.parametrize(("commands", "argument"), [(0, 0), (3, 50), (5, 200), (1, 9000), (100, 1)])
def test_a_device_is_made_to_fit(commands: int, argument: int) -> None:
    device = big(commands, argument)
    fitted = fit(device)
    message = c.Devices(you="v1", name="x" * 64, rights=["watch"], devices=[fitted.model_copy(update={"text": "ö" * 300})])
    assert len(encode(message).encode()) <= c.MAX_CONTROL
    assert fitted.axes == device.axes and fitted.readings == device.readings
    if argument <= 50:
        assert len(fitted.commands) > min(commands, 20) - 1
    if commands <= 3 and argument <= 50:
        assert fitted == device


def test_as_many_devices_as_fit_go_together() -> None:
    devices = [fit(big(n % 4, 40)) for n in range(30)]
    counts = []
    while devices:
        count = leading(devices)
        message = c.Devices(you="v1", rights=["watch"], devices=devices[:count])
        assert len(encode(message).encode()) <= c.MAX_CONTROL
        assert count == len(devices) or sum(len(encode(d).encode()) + 1 for d in devices[: count + 1]) > ROOM
        counts.append(count)
        del devices[:count]
    assert sum(counts) == 30 and min(counts) >= 1
    assert leading([]) == 0
