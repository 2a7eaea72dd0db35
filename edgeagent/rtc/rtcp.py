"""RTCP (RFC 3550, 4585, 5104, REMB) as a sender needs it: reports out, feedback in. Pure functions on bytes."""

from __future__ import annotations

__all__ = ["Arrivals", "Feedback", "NtpClock", "goodbye", "parse_feedback", "sender_report"]

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
NACK, PLI, FIR, AFB, TRANSPORT_CC = 1, 1, 4, 15, 15
NTP_EPOCH = 2_208_988_800
MAX_NACKS = 512
"""Lost packets taken from one compound packet: more is a broken or hostile receiver, or a picture beyond repair."""


MAX_ARRIVALS = 16_384
"""Packets that one transport-wide feedback may tell of: what is lost in an outage of seconds is told at once."""
FEEDBACK_COST = 64
"""What a transport-wide feedback costs besides, as so many packets told of."""


@dataclass(slots=True, frozen=True)
class Report:
    """One reception report block. `fraction_lost` 0..1, `jitter` in RTP ticks, `lsr` and `dlsr` as on the wire."""

    ssrc: int
    fraction_lost: float
    packets_lost: int
    jitter: int
    lsr: int
    dlsr: int


@dataclass(slots=True, frozen=True)
class Arrivals:
    """Transport-wide feedback: when the packets from `base` (16 bits) on arrived, by the receiver's clock in s; None for lost."""

    base: int
    times: list[float | None]


@dataclass(slots=True)
class Feedback:
    """What one compound packet said, by the media SSRC that it is about."""

    reports: list[Report] = field(default_factory=list)
    nacks: dict[int, list[int]] = field(default_factory=dict)
    keyframes: set[int] = field(default_factory=set)
    remb_bps: int | None = None
    byes: set[int] = field(default_factory=set)
    arrivals: list[Arrivals] = field(default_factory=list)


def parse_feedback(
    data: bytes,
    arrivals_allowed: Callable[[int], bool] = lambda count: True,
    nacks_allowed: Callable[[int], bool] = lambda count: True,
) -> Feedback:
    """Parse a compound or reduced-size packet; stops at the first part that is malformed and keeps what came before.

    Args:
        data: Decrypted.
        arrivals_allowed: Whether transport-wide feedback that costs as much as so many packets may be read; else it is left out.
        nacks_allowed: The same for so many packets that are said to be lost.
    """
    result = Feedback()
    position = nacks = 0
    while position + 4 <= len(data):
        first, kind, length = struct.unpack_from("!BBH", data, position)
        end = position + 4 + 4 * length
        if first >> 6 != 2 or end > len(data):
            break
        count, body = first & 0x1F, data[position + 4 : end]
        position = end
        if kind in (SR, RR):
            offset = 24 if kind == SR else 4
            for start in range(offset, min(offset + 24 * count, len(body) - 23), 24):
                ssrc, lost, _, jitter, lsr, dlsr = struct.unpack_from("!IIIIII", body, start)
                cumulative = (lost & 0x7F_FFFF) - (lost & 0x80_0000)
                result.reports.append(Report(ssrc, (lost >> 24) / 256, cumulative, jitter, lsr, dlsr))
        elif kind == RTPFB and count == NACK and len(body) >= 8:
            ssrc = struct.unpack_from("!I", body, 4)[0]
            wanted = result.nacks.setdefault(ssrc, [])
            for start in range(8, len(body) - 3, 4):
                packet, mask = struct.unpack_from("!HH", body, start)
                nacks += 1
                if nacks > MAX_NACKS or not nacks_allowed(1 + mask.bit_count()):
                    break
                wanted.append(packet)
                wanted += [(packet + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1]
        elif kind == RTPFB and count == TRANSPORT_CC and len(body) >= 16:
            told = FEEDBACK_COST + int.from_bytes(body[10:12], "big")
            arrivals = parse_arrivals(body[8:]) if arrivals_allowed(told) else None
            if arrivals is not None:
                result.arrivals.append(arrivals)
        elif kind == PSFB and len(body) >= 8:
            ssrc = struct.unpack_from("!I", body, 4)[0]
            if count == PLI:
                result.keyframes.add(ssrc)
            elif count == FIR:
                result.keyframes |= {struct.unpack_from("!I", body, start)[0] for start in range(8, len(body) - 7, 8)}
            elif count == AFB and body[8:12] == b"REMB" and len(body) >= 16:
                packed = int.from_bytes(body[13:16], "big")
                result.remb_bps = min((packed & 0x3FFFF) << (packed >> 18), 10**10)
        elif kind == BYE:
            result.byes |= {struct.unpack_from("!I", body, start)[0] for start in range(0, min(4 * count, len(body) - 3), 4)}
    return result


def parse_arrivals(body: bytes) -> Arrivals | None:
    """The feedback control information of draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1; None where it is malformed."""
    base, count = struct.unpack_from("!HH", body)
    if count > MAX_ARRIVALS:
        return None
    # Symbols of two bits: 0 not received, 1 received with a small delta, 2 with a large or negative one.
    symbols: list[int] = []
    position = 8
    while len(symbols) < count:
        if position + 2 > len(body):
            return None
        chunk = body[position] << 8 | body[position + 1]
        position += 2
        if not chunk & 0x8000:  # run length
            symbols += [chunk >> 13 & 3] * min(chunk & 0x1FFF, count - len(symbols))
            if not chunk & 0x1FFF:
                return None
        elif chunk & 0x4000:
            symbols += [chunk >> shift & 3 for shift in (12, 10, 8, 6, 4, 2, 0)]
        else:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
    del symbols[count:]
    quarters = int.from_bytes(body[4:7], "big") * 256  # of a millisecond
    times: list[float | None] = []
    end = len(body)
    for symbol in symbols:
        if symbol == 1 and position < end:
            quarters += body[position]
            position += 1
        elif symbol == 2 and position + 1 < end:
            quarters += int.from_bytes(body[position : position + 2], "big", signed=True)
            position += 2
        elif symbol:
            return None
        times.append(quarters / 4000 if symbol else None)
    return Arrivals(base, times)


class NtpClock:
    """NTP time stamps (RFC 3550, 4) by a clock that runs evenly.

    It is set by the wall clock once. When that is set right later, as on a board that starts without knowing the time, this one
    stays as it was: a jump between two reports would falsify the round trip (LSR and DLSR, RFC 3550, 6.4.1), and pull apart
    streams of one viewer that have to stay together. So one viewer's streams share one clock, and a new connection takes a new one.

    Args:
        now: By the even clock, in seconds.
        unix_s: By the wall clock.
    """

    def __init__(self, now: float, unix_s: float) -> None:
        self._ahead = unix_s - now + NTP_EPOCH

    def at(self, now: float) -> int:
        """The 64-bit time stamp of a moment of the even clock."""
        return int((now + self._ahead) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def sender_report(ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, cname: bytes) -> bytes:
    """SR and SDES with CNAME as one compound packet (RFC 3550, 6.4.1 and 6.5)."""
    report = struct.pack("!BBHIQIII", 0x80, SR, 6, ssrc, ntp, timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    chunk = struct.pack("!IBB", ssrc, 1, len(cname)) + cname + b"\0"
    chunk += bytes(-len(chunk) % 4)
    return report + struct.pack("!BBH", 0x81, SDES, len(chunk) // 4) + chunk


def goodbye(ssrc: int) -> bytes:
    """BYE for one source, behind an empty RR as a compound packet must begin with a report."""
    return struct.pack("!BBHI", 0x80, RR, 1, ssrc) + struct.pack("!BBHI", 0x81, BYE, 1, ssrc)
