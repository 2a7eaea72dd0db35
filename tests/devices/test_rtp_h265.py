from __future__ import annotations

import base64
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent_devices._rtp_h265 import AccessUnit, Depacketizer, parameter_sets
from tests.devices.test_rtp_h264 import PT, Packet, check_lost_or_late, feed, packets

TRAIL, IDR, CRA, VPS, SPS, PPS, AUD = 1, 19, 21, 32, 33, 34, 35


def nal(kind: int, body: bytes = b"\x01\x02\x03", *, layer: int = 0) -> bytes:
    return bytes((kind << 1 | layer >> 5, (layer & 31) << 3 | 1)) + body


def slice_of(kind: int, size: int = 20, *, first: bool = True) -> bytes:
    return nal(kind, bytes((0x80 if first else 0x40,)) + b"\x55" * (size - 3))


def fragments(unit: bytes, size: int = 400) -> list[bytes]:
    """FU (RFC 7798, 4.4.3)."""
    kind = unit[0] >> 1
    parts = [unit[2:][i : i + size] for i in range(0, len(unit) - 2, size)]
    return [
        bytes((unit[0] & 0x81 | 49 << 1, unit[1], (i == 0) << 7 | (i == len(parts) - 1) << 6 | kind)) + part
        for i, part in enumerate(parts)
    ]


def aggregate(*units: bytes) -> bytes:
    """AP (RFC 7798, 4.4.2)."""
    return bytes((48 << 1, 1)) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


SETS = [nal(VPS), nal(SPS), nal(PPS)]


def picture(timestamp: int, kind: int = TRAIL, size: int = 1000) -> list[Packet]:
    head: list[Packet] = [(aggregate(*SETS), timestamp, False)] if kind >= 16 else []
    parts = fragments(slice_of(kind, size))
    return head + [(part, timestamp, i == len(parts) - 1) for i, part in enumerate(parts)]


def movie(count: int = 6, gop: int = 100) -> list[Packet]:
    return [item for number in range(count) for item in picture(number * 3000, TRAIL if number % gop else IDR)]


def test_all_kinds_of_packets() -> None:
    items: list[Packet] = [(aggregate(nal(AUD), *SETS), 0, False), *picture(0, IDR)[1:], (slice_of(TRAIL), 3000, True)]
    assert feed(Depacketizer(PT), packets(items)) == [
        AccessUnit([nal(AUD), *SETS, slice_of(IDR, 1000)], 0, True),
        AccessUnit([slice_of(TRAIL)], 3000, False),
    ]


def test_a_picture_leaves_with_its_last_packet() -> None:
    depacketizer = Depacketizer(PT)
    assert [len(depacketizer.feed(packet)) for packet in packets(picture(0, IDR) + picture(3000))] == [0, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("kind", [16, IDR, 20, CRA])
def test_decoding_can_start_at_any_random_access_picture(kind: int) -> None:
    units = feed(Depacketizer(PT), packets([*picture(0), *picture(3000, kind), *picture(6000)]))
    assert [(unit.timestamp, unit.keyframe) for unit in units] == [(3000, True), (6000, False)]


def test_cameras_that_send_start_codes_are_understood() -> None:
    code = b"\0\0\0\1"
    together = code.join((*SETS, slice_of(IDR)))
    for keyframe in (fragments(together), fragments(code + together), [code + unit for unit in (*SETS, slice_of(IDR))]):
        items = [(part, 0, part is keyframe[-1]) for part in keyframe]
        (unit,) = feed(Depacketizer(PT), packets(items))
        assert unit == AccessUnit([*SETS, slice_of(IDR)], 0, True)


def test_other_layers_are_left_out() -> None:
    items: list[Packet] = [(aggregate(*SETS, slice_of(IDR)), 0, False), (nal(IDR, b"\x80\x01\x02", layer=1), 0, True)]
    (unit,) = feed(Depacketizer(PT), packets(items))
    assert unit.nals == [*SETS, slice_of(IDR)]


def test_a_later_slice_alone_is_no_keyframe() -> None:
    raw = packets([(slice_of(IDR, first=False), 0, True), *picture(3000, IDR)])
    assert [unit.timestamp for unit in feed(Depacketizer(PT), raw)] == [3000]


@pytest.mark.parametrize(
    "payload",
    [b"\x62", b"\x62\x01", b"\x62\x01\x93", b"\x60\x01\x00", b"\x60\x01\x00\x09\x26", b"\x64\x01\x00\x00\x00", b"\x02\x01"],
    ids=["cut", "cut", "empty fragment", "cut aggregate", "long aggregate", "PACI", "empty"],
)
def test_nonsense_costs_no_more_than_its_picture(payload: bytes) -> None:
    raw = packets([*picture(0, IDR), (payload, 3000, True), *picture(6000, IDR)])
    assert [unit.timestamp for unit in feed(Depacketizer(PT), raw)] == [0, 6000]


def test_sequence_and_time_wrap() -> None:
    units = feed(Depacketizer(PT), packets(movie(30), first=65_500, base=2**32 - 45_000))
    assert [after.timestamp - before.timestamp for before, after in pairwise(units)] == [3000] * 29


def test_parameter_sets_of_an_sdp() -> None:
    texts = [base64.b64encode(unit).decode() for unit in SETS]
    fmtp = {"sprop-vps": texts[0], "sprop-sps": texts[1], "sprop-pps": f"{texts[2]},{texts[2]}"}
    assert parameter_sets(fmtp) == b"".join(b"\0\0\0\1" + unit for unit in [*SETS, SETS[2]])
    assert parameter_sets({"sprop-vps": "*"}) == parameter_sets({}) == b""


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3))
def test_whatever_is_lost_or_late_the_pictures_are_whole_and_in_order(seed: int, loss: float, late: float) -> None:
    check_lost_or_late(Depacketizer, movie(40, gop=8), random.Random(seed), loss, late)


@given(st.lists(st.binary(max_size=60)))
def test_noise_never_raises(noise: list[bytes]) -> None:
    depacketizer = Depacketizer(PT)
    for number, payload in enumerate(noise):
        depacketizer.feed(payload)
        depacketizer.feed(packets([(payload, number * 1000, number % 3 == 0)], first=number)[0])
