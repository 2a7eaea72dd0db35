from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.h264 import split_nals
from edgeagent.media.packetize import MAX_PAYLOAD, packetize
from edgeagent.model import EncodedFrame

START = b"\0\0\0\1"


def frame(*nals: bytes) -> EncodedFrame:
    return EncodedFrame(b"".join(START + n for n in nals), True, 0, 0.0)


def reassemble(payloads: list[bytes]) -> list[bytes]:
    """RFC 6184 depacketizing, written independently of the packetizer."""
    nals: list[bytes] = []
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == 24:
            position = 1
            while position < len(payload):
                size = int.from_bytes(payload[position : position + 2], "big")
                nals.append(payload[position + 2 : position + 2 + size])
                position += 2 + size
        elif kind == 28:
            if payload[1] & 0x80:
                nals.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]))
            nals[-1] += payload[2:]
        else:
            nals.append(payload)
    return nals


nal_bodies = st.integers(1, 9000).flatmap(
    lambda n: st.binary(min_size=1, max_size=8).map(lambda b: (b * n)[:n].replace(b"\0", b"\7"))
)


@given(st.lists(st.tuples(st.sampled_from([1, 5, 7, 8]), nal_bodies), min_size=1, max_size=6))
def test_what_is_cut_can_be_put_together_again(parts: list[tuple[int, bytes]]) -> None:
    nals = [bytes([0x60 | kind]) + body for kind, body in parts]
    packets = packetize(frame(*nals))
    assert reassemble(packets.payloads) == nals == [bytes(n) for n in split_nals(frame(*nals).data)]
    assert all(len(p) <= MAX_PAYLOAD for p in packets.payloads)
    assert packets.size == sum(map(len, packets.payloads))


@given(st.lists(st.tuples(st.sampled_from([1, 5, 7]), nal_bodies), min_size=1, max_size=6))
def test_runs_cover_all_payloads_and_only_the_last_of_a_run_is_shorter(parts: list[tuple[int, bytes]]) -> None:
    packets = packetize(frame(*(bytes([0x60 | kind]) + body for kind, body in parts)))
    position = 0
    for first, end in packets.runs:
        assert first == position < end
        sizes = [len(p) for p in packets.payloads[first:end]]
        assert all(s == sizes[0] for s in sizes[:-1]) and sizes[-1] <= sizes[0]
        position = end
    assert position == len(packets.payloads)


def test_parameter_sets_share_a_packet_and_what_no_browser_reads_is_left_out() -> None:
    packets = packetize(frame(b"\x09\xf0", b"\x06\x05sei", b"\x67abc", b"\x68d", b"\x65" + b"x" * 100))
    assert [p[0] & 0x1F for p in packets.payloads] == [24, 5]


def test_fragments_of_a_large_slice_are_of_equal_size() -> None:
    packets = packetize(frame(b"\x65" + b"x" * 10_000))
    sizes = {len(p) for p in packets.payloads}
    assert max(sizes) - min(sizes) < len(packets.payloads)
    assert packets.payloads[0][1] & 0x80 and packets.payloads[-1][1] & 0x40
