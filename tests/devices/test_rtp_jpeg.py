"""Against libav's own RTP packetizer for JPEG, and by hand."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent_devices._rtp_jpeg import Depacketizer
from tests.devices.test_rtp_h264 import PT, feed, packets
from tests.support.clips import make_clip

SIZE = 700


def parts_of(jpeg: bytes) -> tuple[bytes, bytes, int]:
    """Both quantization tables, the scan's data, and the restart interval of a baseline JPEG."""
    position, tables, interval = 2, b"", 0
    while jpeg[position + 1] != 0xDA:
        size = int.from_bytes(jpeg[position + 2 : position + 4], "big")
        segment = jpeg[position + 4 : position + 2 + size]
        if jpeg[position + 1] == 0xDB:
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        if jpeg[position + 1] == 0xDD:
            interval = int.from_bytes(segment, "big")
        position += 2 + size
    size = int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return tables, jpeg[position + 2 + size :], interval


def payloads(jpeg: bytes, *, q: int = 255, kind: int = 1, width: int = 320, height: int = 240, tables: bool = True) -> list[bytes]:
    """RFC 2435, section 3.1."""
    own, scan, interval = parts_of(jpeg)
    found = []
    for offset in range(0, len(scan), SIZE):
        restart = interval.to_bytes(2, "big") + b"\xff\xff" if kind >= 64 else b""
        table = (b"\0\0" + (len(own) if tables else 0).to_bytes(2, "big") + own * tables) if q >= 128 and not offset else b""
        head = b"\0" + offset.to_bytes(3, "big") + bytes((kind, q, width // 8, height // 8))
        found.append(head + restart + table + scan[offset : offset + SIZE])
    return found


def stream(*pictures: list[bytes]) -> list[bytes]:
    return packets([(part, n * 3000, i == len(parts) - 1) for n, parts in enumerate(pictures) for i, part in enumerate(parts)])


def pixels(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    (picture,) = decoder.decode(av.Packet(jpeg))
    return np.asarray(picture.to_ndarray(format="gray"), dtype=np.uint8)


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    clip = make_clip(
        tmp_path_factory.mktemp("clips") / "a.mjpeg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-huffman", "default", seconds=0.2
    )
    return [b"\xff\xd8\xff" + rest for rest in Path(clip).read_bytes().split(b"\xff\xd8\xff")[1:]]


def test_the_same_pictures_come_out(jpegs: list[bytes]) -> None:
    kind = 65 if parts_of(jpegs[0])[2] else 1
    units = feed(Depacketizer(PT), stream(*(payloads(jpeg, kind=kind) for jpeg in jpegs)))
    assert len(units) == len(jpegs) > 3
    for unit, jpeg in zip(units, jpegs, strict=True):
        assert unit.keyframe
        assert (pixels(unit.nals[0]) == pixels(jpeg)).all()


def test_tables_that_are_sent_once_are_kept(jpegs: list[bytes]) -> None:
    kind = 65 if parts_of(jpegs[0])[2] else 1
    first, later = payloads(jpegs[0], q=200, kind=kind), payloads(jpegs[0], q=200, kind=kind, tables=False)
    assert len(feed(Depacketizer(PT), stream(first, later))) == 2
    assert feed(Depacketizer(PT), stream(later)) == [], "before they came nothing can be shown"


def test_tables_by_quality_are_the_standard_ones(jpegs: list[bytes]) -> None:
    units = feed(Depacketizer(PT), stream(payloads(jpegs[0], q=50, tables=False)))
    tables, _, _ = parts_of(units[0].nals[0])
    assert tables[:10] == bytes((16, 11, 12, 14, 12, 10, 16, 14, 13, 14)), "K.1 in zigzag order"
    assert (len(tables), tables[64:70], tables[-1]) == (128, bytes((17, 18, 18, 24, 21, 24)), 99)


def test_a_lost_part_costs_one_picture(jpegs: list[bytes]) -> None:
    kind = 65 if parts_of(jpegs[0])[2] else 1
    raw = stream(*(payloads(jpeg, kind=kind) for jpeg in jpegs))
    units = feed(Depacketizer(PT), raw[:2] + raw[3:] + [])
    assert [unit.timestamp // 3000 for unit in units] == list(range(1, len(jpegs)))


def test_a_size_that_is_not_said_is_no_picture(jpegs: list[bytes]) -> None:
    assert feed(Depacketizer(PT), stream(payloads(jpegs[0], width=0))) == []


@given(st.lists(st.binary(max_size=80)))
def test_noise_never_raises(noise: list[bytes]) -> None:
    depacketizer = Depacketizer(PT)
    for number, payload in enumerate(noise):
        depacketizer.feed(packets([(payload, number * 1000, number % 3 == 0)], first=number)[0])
        depacketizer.feed(packets([(b"\0\0\0\0\1" + payload, number * 1000, True)], first=number)[0])
