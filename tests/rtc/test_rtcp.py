from __future__ import annotations

from collections.abc import Callable

import pytest
from aiortc import rtp
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.ratelimit import TokenBucket
from edgeagent.rtc.peer import TOLD
from edgeagent.rtc.rtcp import MAX_ARRIVALS, Arrivals, goodbye, parse_arrivals, parse_feedback, sender_report


def test_feedback_of_a_browser_is_read() -> None:
    data = b"".join(
        [
            bytes(rtp.RtcpRrPacket(1, [rtp.RtcpReceiverInfo(77, 64, -3, 1000, 90, 0x12345678, 65536)])),
            bytes(rtp.RtcpRtpfbPacket(rtp.RTCP_RTPFB_NACK, 1, 77, [5, 6, 20, 65535])),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_PLI, 1, 77)),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_FIR, 1, 0, (88).to_bytes(4, "big") + bytes(4))),
            bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_APP, 1, 0, rtp.pack_remb_fci(2_500_000, [77]))),
            bytes(rtp.RtcpByePacket([77])),
        ]
    )
    feedback = parse_feedback(data)
    (report,) = feedback.reports
    assert (report.ssrc, report.fraction_lost, report.packets_lost, report.jitter) == (77, 0.25, -3, 90)
    assert (report.lsr, report.dlsr) == (0x12345678, 65536)
    assert feedback.nacks == {77: [5, 6, 20, 65535]}
    assert feedback.keyframes == {77, 88}
    assert feedback.remb_bps is not None and abs(feedback.remb_bps - 2_500_000) < 2_500_000 / 2**16
    assert feedback.byes == {77}


def test_reports_are_read_by_another_implementation() -> None:
    report, sdes = rtp.RtcpPacket.parse(sender_report(7, 1 << 40, 123456, 10, 2000, b"abc"))
    assert isinstance(report, rtp.RtcpSrPacket) and isinstance(sdes, rtp.RtcpSdesPacket)
    assert report.sender_info == rtp.RtcpSenderInfo(1 << 40, 123456, 10, 2000)
    assert sdes.chunks == [rtp.RtcpSourceInfo(7, [(1, b"abc")])]
    assert any(isinstance(p, rtp.RtcpByePacket) and p.sources == [7] for p in rtp.RtcpPacket.parse(goodbye(7)))


@given(st.binary(max_size=300))
def test_nonsense_is_survived(data: bytes) -> None:
    parse_feedback(data)


@given(st.lists(st.tuples(st.sampled_from([200, 201, 203, 205, 206]), st.integers(0, 31), st.binary(max_size=80)), max_size=5))
def test_well_framed_nonsense_is_survived_and_bounded(parts: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for kind, count, body in parts:
        body += bytes(-len(body) % 4)
        data += bytes([0x80 | count, kind]) + (len(body) // 4).to_bytes(2, "big") + body
    feedback = parse_feedback(data)
    assert sum(map(len, feedback.nacks.values())) <= 513 * 17 * 5


def control(base: int, count: int, reference: int, chunks: list[int], deltas: bytes) -> bytes:
    """Feedback control information (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1) behind the two SSRCs."""
    body = base.to_bytes(2, "big") + count.to_bytes(2, "big") + (reference & 0xFFFFFF).to_bytes(3, "big") + b"\x07"
    return body + b"".join(chunk.to_bytes(2, "big") for chunk in chunks) + deltas


def encode(base: int, reference: int, quarters: list[int | None], kinds: list[int]) -> bytes:
    """An encoder: arrivals in quarters of a millisecond; `kinds` chooses the chunks in turn (run, one bit, two bits)."""
    at, symbols, deltas = reference * 256, list[int](), b""
    for arrival in quarters:
        if arrival is None:
            symbols.append(0)
            continue
        delta, at = arrival - at, arrival
        symbols.append(1 if 0 <= delta < 256 else 2)
        deltas += delta.to_bytes(1, "big") if symbols[-1] == 1 else delta.to_bytes(2, "big", signed=True)
    chunks, place, turn = list[int](), 0, 0
    while place < len(symbols):
        kind, turn = kinds[turn % len(kinds)], turn + 1
        rest = symbols[place:]
        if kind == 1 and 2 not in rest[:14]:
            bits = rest[:14] + [0] * (14 - len(rest[:14]))
            chunks.append(0x8000 | sum(bit << (13 - n) for n, bit in enumerate(bits)))
            place += 14
        elif kind == 2:
            bits = rest[:7] + [0] * (7 - len(rest[:7]))
            chunks.append(0xC000 | sum(bit << (12 - 2 * n) for n, bit in enumerate(bits)))
            place += 7
        else:
            run = next((n for n, symbol in enumerate(rest) if symbol != rest[0]), len(rest))
            chunks.append(rest[0] << 13 | run)
            place += run
    return control(base, len(quarters), reference, chunks, deltas)


def test_the_chunks_that_the_draft_shows() -> None:
    assert parse_arrivals(control(7, 221, 0, [0x00DD], b"")) == Arrivals(7, [None] * 221)
    vector = parse_arrivals(control(7, 14, 1, [0x9F1C], bytes([4] * 8)))
    assert vector is not None
    assert [time is not None for time in vector.times] == [False] + [True] * 5 + [False] * 3 + [True] * 3 + [False] * 2
    assert [time for time in vector.times if time is not None] == pytest.approx([0.064 + 0.001 * n for n in range(1, 9)])
    large = parse_arrivals(control(65_535, 3, 2, [0xC000 | 0b10_00_10 << 8], b"\xff\xfc\x7f\xff"))
    assert large is not None and large.times[1] is None
    assert [large.times[0], large.times[2]] == pytest.approx([0.127, 0.127 + 32_767 / 4000])
    assert parse_arrivals(control(7, 24, 0, [0x6018], b"")) is None  # a reserved symbol


@pytest.mark.parametrize(
    "body",
    [
        control(1, 5, 0, [0x2005], bytes(4)),  # a delta is missing
        control(1, 5, 0, [0x4005], bytes(9)),
        control(1, 5, 0, [0x2004], bytes(9)[:0]),
        control(1, 5, 0, [], b""),
        control(1, 5, 0, [0x2000], bytes(9)),  # a run of nothing
        control(1, MAX_ARRIVALS + 1, 0, [0x1FFF] * 8, b""),
    ],
)
def test_malformed_feedback_is_none(body: bytes) -> None:
    assert parse_arrivals(body) is None


arrivals = st.lists(st.none() | st.integers(-400, 32_000), min_size=1, max_size=120)


@given(st.integers(0, 0xFFFF), st.integers(1000, 0xFFFFFF), arrivals, st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_transport_wide_feedback_round_trip(base: int, reference: int, gaps: list[int | None], kinds: list[int]) -> None:
    at, quarters = reference * 256, list[int | None]()
    for gap in gaps:
        at += gap or 0
        quarters.append(None if gap is None else at)
    body = encode(base, reference, quarters, kinds)
    expected = Arrivals(base, [None if quarter is None else quarter / 4000 for quarter in quarters])
    assert parse_arrivals(body) == expected
    padded = bytes(8) + body + bytes(-len(body) % 4)
    packet = b"\x8f\xcd" + (len(padded) // 4).to_bytes(2, "big") + padded
    assert parse_feedback(packet + bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_PLI, 1, 77))).arrivals == [expected]


def feedback_of(base: int, count: int, symbol: int = 0) -> bytes:
    """An RTCP packet that tells of `count` packets, all lost (0) or all received (1)."""
    runs = [symbol << 13 | min(0x1FFF, count - done) for done in range(0, count, 0x1FFF)]
    padded = bytes(8) + control(base & 0xFFFF, count, 1, runs, bytes(count * symbol))
    padded += bytes(-len(padded) % 4)
    return b"\x8f\xcd" + (len(padded) // 4).to_bytes(2, "big") + padded


def allowed(bucket: TokenBucket, now: float) -> Callable[[int], bool]:
    return lambda count: not bucket.take(now, count)


def test_a_flood_of_feedback_is_left_out_and_what_comes_with_it_is_not() -> None:
    bucket = TokenBucket(TOLD, 0.0)
    for packet in (feedback_of(7, 4000) * 50, feedback_of(7, 1) * 50):
        told = blocks = 0
        for tick in range(100):
            now = 10.0 + tick / 100
            feedback = parse_feedback(packet + bytes(rtp.RtcpPsfbPacket(rtp.RTCP_PSFB_PLI, 1, 77)), allowed(bucket, now))
            told += sum(len(arrivals.times) for arrivals in feedback.arrivals)
            blocks += len(feedback.arrivals)
            assert feedback.keyframes == {77}
        assert told <= TOLD.burst + TOLD.per_s
        assert 0 < blocks < 1000, "each costs something, however little it tells"
    nacks = bytes(rtp.RtcpRtpfbPacket(rtp.RTCP_RTPFB_NACK, 1, 77, list(range(5000))))
    lost = [parse_feedback(nacks, nacks_allowed=allowed(bucket, 20.0)).nacks[77] for _ in range(9)]
    assert [len(numbers) // 1000 for numbers in lost] == [5, 5, 5, 5, 0, 0, 0, 0, 0]


def test_whatever_a_browser_tells_of_the_fastest_pictures_is_read_also_after_an_outage() -> None:
    bucket, base = TokenBucket(TOLD, 0.0), 0
    for tick in range(200):  # 50 Mbit/s, and three seconds without a way
        now, count = tick / 20, 260 + 3 * 5200 * (tick == 99)
        if 40 <= tick < 99:
            continue
        packet = feedback_of(base, count, int(count < 300))
        assert [len(a.times) for a in parse_feedback(packet, allowed(bucket, now)).arrivals] == [count]
        base += count


@given(st.binary(min_size=8, max_size=200))
def test_nonsense_as_feedback_is_survived_and_bounded(body: bytes) -> None:
    found = parse_arrivals(body)
    assert found is None or len(found.times) == int.from_bytes(body[2:4], "big") <= MAX_ARRIVALS
