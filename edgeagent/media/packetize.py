"""One access unit cut into RTP payloads (RFC 6184, packetization-mode 1), once for all viewers.

Payloads of a frame are made equal in size as far as possible, so that a viewer's packets lie at a fixed stride in one
buffer and leave in a single `sendmsg` with UDP_SEGMENT.
"""

from __future__ import annotations

__all__ = ["MAX_PAYLOAD", "Packets", "packetize"]

from edgeagent.core.h264 import split_nals
from edgeagent.model import EncodedFrame

MAX_PAYLOAD = 1160
"""Bytes: 1200 (what WebRTC stacks take as safe on any path) less 12 of header, 12 of extensions, 16 of SRTP tag."""

FU_A, STAP_A = 28, 24
SPS, PPS = 7, 8
LEFT_OUT = frozenset({6, 9, 12})
"""SEI, delimiter, filler: no browser reads them, and a small packet of its own in each frame would break every run in two."""


class Packets:
    """The payloads of one access unit, shared by all viewers and by the retransmission history.

    Attributes:
        payloads: RTP payloads in sending order.
        count: How many they are.
        runs: `(first, end)` index pairs; within a run all payloads have the size of its first, but the last may be shorter.
        size: Bytes of all payloads.
        frame: What they were cut from.
        timestamp: Its media time, ticks of 90 kHz.
        epoch: Counts the restarts of its source: time stamps are comparable within one epoch only.
    """

    __slots__ = ("count", "epoch", "frame", "payloads", "runs", "size", "timestamp")

    def __init__(self, frame: EncodedFrame, payloads: list[bytes], epoch: int) -> None:
        self.frame = frame
        self.timestamp = frame.timestamp
        self.payloads = payloads
        self.count = len(payloads)
        self.epoch = epoch
        sizes = list(map(len, payloads))
        self.size = sum(sizes)
        self.runs = equal_runs(sizes)

    def runs_of(self, first: int, end: int) -> list[tuple[int, int]]:
        """Those of payloads `first` to `end`."""
        return [(max(first, low), min(end, high)) for low, high in self.runs if low < end and high > first]


def equal_runs(sizes: list[int]) -> list[tuple[int, int]]:
    """`Packets.runs` of payloads of these sizes in bytes."""
    if sizes and sizes[-1] <= sizes[0] and sizes[:-1].count(sizes[0]) == len(sizes) - 1:  # nearly every picture: one NAL unit, cut
        return [(0, len(sizes))]
    runs: list[tuple[int, int]] = []
    first = 0
    for i in range(1, len(sizes) + 1):
        ended = i == len(sizes) or sizes[i] > sizes[first]
        if ended or sizes[i - 1] < sizes[first]:
            runs.append((first, i))
            first = i
    return runs


def packetize(frame: EncodedFrame, epoch: int = 0) -> Packets:
    """Cut an access unit. Parameter sets travel together in one STAP-A."""
    payloads: list[bytes] = []
    small: list[bytes] = []
    for nal in split_nals(frame.data):
        if (kind := nal[0] & 0x1F) in LEFT_OUT:
            continue
        if kind in (SPS, PPS) and len(nal) < 400 and sum(map(len, small)) + len(nal) + 2 * len(small) + 3 <= MAX_PAYLOAD:
            small.append(nal)
            continue
        if small:
            payloads.append(together(small))
            small = []
        if len(nal) <= MAX_PAYLOAD:
            payloads.append(nal)
        else:
            payloads += fragment(nal)
    if small:
        payloads.append(together(small))
    return Packets(frame, payloads, epoch)


def together(nals: list[bytes]) -> bytes:
    """Small NAL units in one STAP-A (RFC 6184, 5.7.1), or the only one by itself."""
    if len(nals) == 1:
        return nals[0]
    nri = max(nal[0] & 0x60 for nal in nals)
    return bytes([nri | STAP_A]) + b"".join([len(nal).to_bytes(2, "big") + nal for nal in nals])


def fragment(nal: bytes) -> list[bytes]:
    """FU-A fragments (RFC 6184, 5.8) of equal size, the last at most one byte per fragment shorter than the others."""
    head = nal[0]
    indicator, kind = (head & 0xE0) | FU_A, head & 0x1F
    length = len(nal) - 1
    count = -(-length // (MAX_PAYLOAD - 2))
    size = -(-length // count)
    middle = bytes([indicator, kind])
    cut = [middle + nal[i : i + size] for i in range(1, length + 1, size)]
    cut[0] = bytes([indicator, kind | 0x80]) + cut[0][2:]
    cut[-1] = bytes([indicator, kind | 0x40]) + cut[-1][2:]
    return cut
