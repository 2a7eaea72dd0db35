from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent_devices import _rtp
from edgeagent_devices._rtp_h264 import AccessUnit, Depacketizer

PT = 96
SPS, PPS = b"\x67\x42\xc0\x1f", b"\x68\xce\x3c\x80"
Packet = tuple[bytes, int, bool]  # payload, time stamp, marker


def slice_of(kind: int, size: int = 20, *, first: bool = True) -> bytes:
    return bytes([0x60 | kind, 0x88 if first else 0x28]) + b"\x55" * (size - 2)


def fragments(nal: bytes, size: int = 400) -> list[bytes]:
    """FU-A (RFC 6184, 5.8)."""
    parts = [nal[1:][i : i + size] for i in range(0, len(nal) - 1, size)]
    return [
        bytes([nal[0] & 0xE0 | 28, (i == 0) << 7 | (i == len(parts) - 1) << 6 | nal[0] & 0x1F]) + part
        for i, part in enumerate(parts)
    ]


def aggregate(*nals: bytes) -> bytes:
    """STAP-A (RFC 6184, 5.7.1)."""
    return b"\x78" + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)


def packets(items: list[Packet], *, first: int = 65_530, ssrc: int = 7, base: int = 0) -> list[bytes]:
    return [
        bytes([0x80, PT | marker << 7])
        + ((first + i) % 65_536).to_bytes(2, "big")
        + ((base + timestamp) % 2**32).to_bytes(4, "big")
        + ssrc.to_bytes(4, "big")
        + payload
        for i, (payload, timestamp, marker) in enumerate(items)
    ]


def picture(timestamp: int, kind: int = 1, size: int = 1000) -> list[Packet]:
    head: list[Packet] = [(aggregate(SPS, PPS), timestamp, False)] if kind == 5 else []
    parts = fragments(slice_of(kind, size))
    return head + [(part, timestamp, i == len(parts) - 1) for i, part in enumerate(parts)]


def movie(count: int = 6, gop: int = 100) -> list[Packet]:
    return [item for number in range(count) for item in picture(number * 3000, 1 if number % gop else 5)]


def feed(depacketizer: _rtp.Depacketizer, raw: list[bytes]) -> list[AccessUnit]:
    return [unit for packet in raw for unit in depacketizer.feed(packet)]


def test_a_picture_leaves_with_its_last_packet() -> None:
    depacketizer = Depacketizer(PT)
    raw = packets(picture(0, 5) + picture(3000))
    counts = [len(depacketizer.feed(packet)) for packet in raw]
    assert counts == [0, 0, 0, 1, 0, 0, 1]


def test_all_kinds_of_packets() -> None:
    units = feed(
        Depacketizer(PT), packets([(aggregate(b"\x09\xf0", SPS), 0, False), (PPS, 0, False), *picture(0, 5)[1:], *picture(3000)])
    )
    assert units == [
        AccessUnit([b"\x09\xf0", SPS, PPS, slice_of(5, 1000)], 0, True),
        AccessUnit([slice_of(1, 1000)], 3000, False),
    ]


def test_header_extension_sources_and_padding_are_taken_off() -> None:
    (raw,) = packets([(slice_of(5), 0, True)])
    dressed = bytes([0x80 | 0x20 | 0x10 | 2]) + raw[1:12] + b"\1" * 8 + b"\xbe\xde\0\1abcd" + raw[12:] + b"\0\0\3"
    assert feed(Depacketizer(PT), [dressed])[0].nals == [slice_of(5)]


def test_sequence_and_time_wrap() -> None:
    units = feed(Depacketizer(PT), packets(movie(30), first=65_500, base=2**32 - 45_000))
    assert len(units) == 30
    assert all(after.timestamp - before.timestamp == 3000 for before, after in pairwise(units))


def test_packets_out_of_order_are_sorted() -> None:
    raw = packets(movie(12))
    mixed = raw[:1] + [packet for i in range(1, len(raw), 4) for packet in reversed(raw[i : i + 4])]
    depacketizer = Depacketizer(PT)
    assert feed(depacketizer, mixed) == feed(Depacketizer(PT), raw)
    assert depacketizer.lost == 0


def test_packets_that_come_twice_count_once() -> None:
    raw = packets(movie(5))
    assert feed(Depacketizer(PT), [packet for packet in raw for _ in range(2)]) == feed(Depacketizer(PT), raw)


def test_after_a_loss_only_whole_pictures_come_from_the_next_keyframe_on() -> None:
    raw = packets(movie(60, gop=20))
    depacketizer = Depacketizer(PT)
    units = feed(depacketizer, raw[:10] + raw[11:])
    assert [unit.timestamp // 3000 for unit in units] == [0, 1, 2, *range(20, 60)]
    assert depacketizer.lost == 1


def test_a_lost_end_does_not_cost_the_keyframe_behind_it() -> None:
    raw = packets([*movie(3), *(item for n in range(3, 40) for item in picture(n * 3000, 5 if n == 3 else 1))])
    last_of_second = 4 + 3 + 3 - 1
    units = feed(Depacketizer(PT), raw[:last_of_second] + raw[last_of_second + 1 :])
    assert [unit.timestamp // 3000 for unit in units] == [0, 1, *range(3, 40)]


def test_joining_in_the_middle_waits_for_a_keyframe() -> None:
    raw = packets(movie(30, gop=10))
    units = feed(Depacketizer(PT), raw[6:])
    assert [unit.timestamp // 3000 for unit in units] == list(range(10, 30))


def test_a_second_slice_that_comes_first_is_no_keyframe() -> None:
    raw = packets([(slice_of(5, first=False), 0, True), *picture(3000, 5)])
    assert [unit.timestamp for unit in feed(Depacketizer(PT), raw)] == [3000]


def test_a_camera_that_sets_markers_too_often_is_found_out() -> None:
    def slices(timestamp: int, kind: int) -> list[Packet]:
        return [(slice_of(kind, first=part == 0), timestamp, True) for part in range(3)]

    raw = packets([item for n in range(30) for item in slices(n * 3000, 1 if n % 10 else 5)])
    depacketizer = Depacketizer(PT)
    whole = [unit.timestamp // 3000 for unit in feed(depacketizer, raw) if len(unit.nals) == 3]
    assert whole == list(range(10, 29))
    assert depacketizer.markers_lie
    known = Depacketizer(PT, markers_lie=True)
    assert [unit.timestamp // 3000 for unit in feed(known, raw)] == list(range(29))


def test_a_camera_without_markers_is_cut_by_time() -> None:
    raw = packets([(payload, timestamp, False) for payload, timestamp, _ in movie(10)])
    assert [unit.timestamp // 3000 for unit in feed(Depacketizer(PT), raw)] == list(range(9))


def test_parameter_sets_by_themselves_are_handed_over() -> None:
    raw = packets([(SPS, 0, True), (PPS, 0, True), *picture(3000, 5)[1:]])
    units = feed(Depacketizer(PT), raw)
    assert [unit.nals for unit in units] == [[SPS, PPS], [slice_of(5, 1000)]]


CODE = b"\0\0\0\1"


@pytest.mark.parametrize(
    "keyframe",
    [
        fragments(CODE.join((SPS, PPS, slice_of(5, 1000)))),
        [CODE.join((SPS, PPS, slice_of(5, 1000)))],
        fragments(b"\0\0\1".join((b"", SPS, PPS, slice_of(5, 1000)))),
        [CODE + SPS, b"\0\0\1" + PPS, CODE + slice_of(5, 1000)],
        [aggregate(CODE + SPS, PPS), *fragments(CODE + slice_of(5, 1000))],
    ],
)
def test_cameras_that_send_start_codes_are_understood(keyframe: list[bytes]) -> None:
    items = [(part, 0, part is keyframe[-1]) for part in keyframe]
    depacketizer = Depacketizer(PT)
    units = feed(depacketizer, packets([*items, (CODE + slice_of(1), 3000, True)]))
    assert units == [AccessUnit([SPS, PPS, slice_of(5, 1000)], 0, True), AccessUnit([slice_of(1)], 3000, False)]
    assert not depacketizer.markers_lie


def test_a_later_slice_behind_a_start_code_is_one() -> None:
    later = CODE + slice_of(1, first=False)
    depacketizer = Depacketizer(PT)
    feed(depacketizer, packets([*picture(0, 5), (CODE + slice_of(1), 3000, True), (later, 3000, True)]))
    assert depacketizer.markers_lie


def test_a_new_source_begins_anew() -> None:
    depacketizer = Depacketizer(PT)
    assert len(feed(depacketizer, packets(movie(5)))) == 5
    units = feed(depacketizer, packets(movie(8, gop=5), first=9, ssrc=8, base=777)[4:])
    assert [unit.timestamp for unit in units] == [777 + 15_000, 777 + 18_000, 777 + 21_000]


NONSENSE = [b"", b"\x7c", b"\x7c\x85", b"\x78", b"\x78\x00", b"\x78\x00\x09\x65", b"\x7f\x00\x00", b"\x60\x00", b"\0\0\0\1"]


@pytest.mark.parametrize("payload", NONSENSE)
def test_nonsense_costs_no_more_than_its_picture(payload: bytes) -> None:
    raw = packets([*picture(0, 5), (payload, 3000, True), *picture(6000, 5)])
    timestamps = [unit.timestamp for unit in feed(Depacketizer(PT), raw)]
    assert timestamps == [0, 6000]


STRAYS = [b"", b"\x80", b"\x00" * 20, b"\x80\x61" + b"\0" * 20, b"\x9f\xe0" + b"\xff" * 20, b"\xb0\xe0" + b"\xff" * 10]


@pytest.mark.parametrize("packet", STRAYS)
def test_what_is_no_packet_is_ignored(packet: bytes) -> None:
    depacketizer = Depacketizer(PT)
    raw = packets(movie(4))
    assert len(feed(depacketizer, [*raw[:4], packet, *raw[4:]])) == 4


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3))
def test_whatever_is_lost_or_late_the_pictures_are_whole_and_in_order(seed: int, loss: float, late: float) -> None:
    check_lost_or_late(Depacketizer, movie(60, gop=8), random.Random(seed), loss, late)


def check_lost_or_late(
    kind: Callable[[int], _rtp.Depacketizer], items: list[Packet], chance: random.Random, loss: float, late: float
) -> None:
    """Of a movie with a keyframe every 8 pictures."""
    original = {unit.timestamp: unit for unit in feed(kind(PT), packets(items))}
    arriving: list[tuple[float, bytes]] = []
    for position, packet in enumerate(packets(items)):
        if chance.random() >= loss:
            arriving.append((position + (chance.randrange(8) if chance.random() < late else 0), packet))
    units = feed(kind(PT), [packet for _, packet in sorted(arriving, key=lambda pair: pair[0])])
    for unit in units:  # parameter sets may be lost: the camera's SDP has them too
        assert unit.nals[-1:] == original[unit.timestamp].nals[-1:]
    times = [unit.timestamp // 3000 for unit in units]
    assert times == sorted(set(times))
    for before, after in pairwise(times):
        assert after == before + 1 or after % 8 == 0, "nothing follows a gap but a keyframe"


@given(st.lists(st.binary(max_size=60)))
def test_noise_never_raises(noise: list[bytes]) -> None:
    depacketizer = Depacketizer(PT)
    for number, payload in enumerate(noise):
        depacketizer.feed(payload)
        depacketizer.feed(packets([(payload, number * 1000, number % 3 == 0)], first=number)[0])
