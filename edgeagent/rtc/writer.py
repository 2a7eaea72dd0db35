"""RTP packets (RFC 3550) of one viewer's stream: header, encryption in place, and as few system calls as the kernel allows."""

from __future__ import annotations

__all__ = ["RtpWriter", "abs_send_time"]

import errno
import logging
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from edgeagent.media.packetize import Packets
from edgeagent.rtc.private import Route, SrtpContext

log = logging.getLogger(__name__)

SOL_UDP, UDP_SEGMENT = 17, 103  # linux/udp.h; Python has no names for them
HISTORY_PACKETS, HISTORY_S = 4096, 2.0
SRTP_WINDOW = 1000
"""How far back a packet may be sent again under its own number: libsrtp's replay window is 1024."""
MAX_BLOCKED = 8
NO_SEGMENTATION = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT})
HEADER = struct.Struct("!HHIIQI")
"""Flags and payload type, sequence number, time stamp, SSRC; header extension (RFC 8285, 4.2) with one element, and a second one.
What is not agreed on is cut off behind. Where the receiver is told how long to hold pictures, that element goes before them."""
ONE_BYTE_HEADER = 0xBEDE << 48
HIGH = b"".join(bytes((high,)) * 256 for high in range(256)) + bytes(256)
LOW = bytes(range(256)) * 2
"""The bytes of 16-bit numbers that count up: those of `count` numbers from `number` on are `HIGH[number : number + count]`, and the
same of `LOW` from `number & 0xFF` on."""


def abs_send_time(seconds: float) -> int:
    """24-bit time stamp of 6.18 fixed point; any clock that runs evenly serves."""
    return int(seconds * (1 << 18)) & 0xFF_FFFF


class Sent(NamedTuple):
    """Packets that left together; `sequence` and the transport-wide `number` (neither wrapped) are those of payload `first`."""

    sequence: int
    packets: Packets
    first: int
    end: int
    timestamp: int
    at: float
    head: bytes
    number: int


_sent: Callable[[tuple[int, Packets, int, int, int, float, bytes, int]], Sent] = partial(tuple.__new__, Sent)
"""`Sent` of its fields, without the call in Python that `Sent(…)` takes for each frame of each viewer."""


@lru_cache(maxsize=2048)
def _segments(stride: int) -> tuple[tuple[int, int, bytes]]:
    """The ancillary data that has the kernel cut what is sent into datagrams of `stride` bytes."""
    return ((SOL_UDP, UDP_SEGMENT, struct.pack("=H", stride)),)


class TransportNumbers:
    """Counts the packets of one transport for the receiver's transport-wide feedback.

    Args:
        on_sent: Told of packets that leave together: their first number (not wrapped), how many, and their size in bytes.
    """

    def __init__(self, on_sent: Callable[[int, int, int], None]) -> None:
        self.next = 1
        self._on_sent = on_sent

    def take(self, count: int, size: int) -> int:
        """Numbers for `count` packets of `size` bytes; returns the first."""
        first = self.next
        self.next += count
        self._on_sent(first, count, size)
        return first


class RtpWriter:
    """Writes one SSRC (and its RTX SSRC, RFC 4588).

    Counters: `packets`, `octets` (payload, as in an SR), `repaired`, `repair_octets`, `blocked` (kernel's buffer was full),
    `failed` (sends that the kernel refused).
    """

    def __init__(
        self,
        route: Route,
        srtp: SrtpContext,
        *,
        ssrc: int,
        payload_type: int,
        rtx_ssrc: int,
        rtx_payload_type: int,
        extension: int,
        transport: TransportNumbers | None = None,
        transport_extension: int = 0,
        playout_extension: int = 0,
    ) -> None:
        self.route = route
        self.srtp = srtp
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.rtx_ssrc = rtx_ssrc
        self.rtx_payload_type = rtx_payload_type
        self._transport = transport if transport_extension else None
        # Header extension: of two elements the transport-wide number is the second, where it is the only one it is the first.
        self._timed = bool(extension)
        self._elements = self._timed + (self._transport is not None)
        self._second = transport_extension << 28 | 1 << 24
        self._first_element = extension << 28 | 2 << 24 if extension else self._second
        self._playout_extension = playout_extension
        self.hold(None)
        # The lower half: a first packet lost just before the wrap would put both ends a roll-over apart (RFC 3711, 3.3.1).
        self._sequence = random.randrange(1, 1 << 15)
        self._rtx_sequence = random.randrange(1, 1 << 15)
        self._history: deque[Sent] = deque()
        self._history_packets = 0
        self.pending: deque[tuple[bytes, int]] = deque()
        """Encrypted packets that found no room in the kernel's buffer, and their stride: `flush` in a while."""
        self.packets = self.octets = self.repaired = self.repair_octets = self.blocked = self.failed = 0

    @property
    def sequence(self) -> int:
        """The next packet's number, not wrapped."""
        return self._sequence

    def hold(self, limits: int | None) -> None:
        """Tell the receiver from now on how long to hold pictures, where that was agreed on; None: no more.

        It keeps to what it was last told. `limits` are 24 bits of two times in units of 10 ms: at least, and at most. Such a packet
        is 4 bytes longer, up to 1,206: that still goes through where IPv6 does (1,280 less 48 of headers).
        """
        told = limits is not None and self._playout_extension > 0
        elements = self._elements + told
        self._playout = struct.pack("!I", self._playout_extension << 28 | 2 << 24 | (limits or 0)) if told else b""
        self._flags = 0x9000 if elements else 0x8000
        self._first = ONE_BYTE_HEADER | elements << 32 | self._first_element
        self._header = 16 + 4 * elements if elements else 12
        self._fixed = self._header - len(self._playout)

    def write(self, packets: Packets, first: int, end: int, timestamp: int, now: float) -> None:
        """Send payloads `first` to `end` of a frame; `timestamp` is the RTP time stamp, 32 bits."""
        payloads, head = packets.payloads, self._head(self.payload_type, timestamp, self.ssrc, now)
        number = self._transport.next if self._transport is not None else 0
        history = self._history
        history.append(_sent((self._sequence, packets, first, end, timestamp, now, head, number)))
        self._history_packets += end - first
        while self._history_packets > HISTORY_PACKETS or now - history[0].at > HISTORY_S:
            gone = history.popleft()
            self._history_packets -= gone.end - gone.first
        whole = packets.count
        for low, high in packets.runs if end - first == whole else packets.runs_of(first, end):
            count = high - low
            total = self._send_run(head, payloads if count == whole else payloads[low:high], self._sequence, high == whole)
            self._sequence += count
            self.packets += count
            self.octets += total - count * (self._header + self.srtp.tag)

    def _head(self, payload_type: int, timestamp: int, ssrc: int, now: float) -> bytes:
        """The header of packets that leave together, but for their numbers."""
        first = self._first | int(now * (1 << 18)) & 0xFF_FFFF if self._timed else self._first  # `abs_send_time`
        head = HEADER.pack(self._flags | payload_type, 0, timestamp, ssrc, first, self._second)[: self._fixed]
        return head[:16] + self._playout + head[16:] if self._playout else head

    def _send_run(self, head: bytes, payloads: Sequence[bytes], sequence: int, marker: bool, again: int | None = None) -> int:
        """Send payloads of one size, the last may be shorter, numbered from `sequence` on; returns the bytes that left.

        `marker`: the last packet is its picture's last. `again`: the transport-wide number that a packet had when it left first.
        All packets are made at once: what is done for each of them in Python is where a sender's time goes.
        """
        buffer, view, srtp = SrtpContext.BUFFER, SrtpContext.VIEW, self.srtp
        header, count = len(head), len(payloads)
        body = (srtp.gap + head).join(payloads)
        stride, end = header + len(payloads[0]) + srtp.tag, header + len(body)
        view[:header] = head
        view[header:end] = body
        number = sequence & 0xFFFF
        view[2:end:stride] = HIGH[number : number + count]
        number &= 0xFF
        view[3:end:stride] = LOW[number : number + count]
        if self._transport is not None:
            number = (self._transport.take(count, stride) if again is None else again) & 0xFFFF
            view[header - 3 : end : stride] = HIGH[number : number + count]
            number &= 0xFF
            view[header - 2 : end : stride] = LOW[number : number + count]
        if marker:
            buffer[(count - 1) * stride + 1] |= 0x80
        total = end + srtp.tag
        srtp.protect_run(count, stride, total)
        view = view[:total]
        if self.pending or (sent := self._try(view, total, stride)) < total:
            self._block(view[0 if self.pending else sent :], stride)
        return total

    def repair(self, sequence: int, now: float, max_age_s: float) -> int:
        """Send a lost packet again, by RTX where negotiated; returns its size in bytes, 0 where it is gone or too old."""
        delta = (sequence - self._sequence) & 0xFFFF
        wanted = self._sequence + delta - 0x10000
        if not self.rtx_payload_type and self._sequence - wanted > SRTP_WINDOW:
            return 0
        for sent in reversed(self._history):
            if sent.sequence <= wanted < sent.sequence + sent.end - sent.first:
                break
            if sent.sequence < wanted or now - sent.at > max_age_s:
                return 0
        else:
            return 0
        if now - sent.at > max_age_s:
            return 0
        index = sent.first + wanted - sent.sequence
        payload, marker = sent.packets.payloads[index], index == len(sent.packets.payloads) - 1
        if self.rtx_payload_type:
            head = self._head(self.rtx_payload_type, sent.timestamp, self.rtx_ssrc, now)
            total = self._send_run(head, [(wanted & 0xFFFF).to_bytes(2, "big") + payload], self._rtx_sequence, marker)
            self._rtx_sequence += 1
        else:  # bit by bit as it left first: its nonce may not serve for anything else (RFC 7714, 8.4)
            total = self._send_run(sent.head, [payload], wanted, marker, sent.number + wanted - sent.sequence)
        self.repaired += 1
        self.repair_octets += total
        return total

    def keyframe_since(self, at: float) -> bool:
        """Whether a keyframe began to leave at this time or later, `HISTORY_S` ago at most."""
        return any(sent.at >= at and not sent.first and sent.packets.frame.keyframe for sent in self._history)

    def probe(self, count: int, now: float) -> int:
        """Send `count` copies of the newest packet together, by RTX; how they spread on the way tells the bottleneck's rate.

        Returns their size in bytes, 0 where there is no RTX or nothing was sent yet. The receiver drops what it has already.
        """
        if not self.rtx_payload_type or not self._history or self.pending:
            return 0
        sent = self._history[-1]
        payload = max(sent.packets.payloads[sent.first : sent.end], key=len)
        original = sent.sequence + sent.packets.payloads.index(payload, sent.first) - sent.first
        body = (original & 0xFFFF).to_bytes(2, "big") + payload
        head = self._head(self.rtx_payload_type, sent.timestamp, self.rtx_ssrc, now)
        total = self._send_run(head, [body] * count, self._rtx_sequence, marker=False)  # the picture's end is told by the original
        self._rtx_sequence += count
        return total

    def flush(self) -> None:
        """Try again to send what there was no room for."""
        while self.pending:
            data, stride = self.pending.popleft()
            sent = self._try(data, len(data), stride)
            if sent < len(data):
                self.pending.appendleft((data[sent:], stride))
                return

    def _block(self, data: memoryview, stride: int) -> None:
        """Keep what there is no room for."""
        self.blocked += 1
        if len(self.pending) < MAX_BLOCKED:
            self.pending.append((bytes(data), stride))
        else:
            self.failed += 1  # the receiver asks for it again

    def _try(self, data: bytes | memoryview, total: int, stride: int) -> int:
        """Send what there is room for; returns the bytes that are done with, sent or given up."""
        route = self.route
        if not route.follow():
            self.failed += 1
            return total
        sock, done = route.sock, 0
        if sock is None:
            while done < total and not route.congested:
                route.send_slow(bytes(data[done : done + stride]))
                done += stride
            return min(done, total)
        try:
            if total <= stride:
                sock.sendto(data, route.address)
            elif route.gso:
                sock.sendmsg((data,), _segments(stride), 0, route.address)
            else:
                while done < total:
                    sock.sendto(data[done : done + stride], route.address)
                    done += stride
        except BlockingIOError:
            return done
        except OSError as error:
            if route.gso and total > stride and error.errno in NO_SEGMENTATION:
                # Not on this interface or kernel: packet by packet from here on.
                log.info("sending packet by packet to %s: %s", route.address[0], error)
                route.gso = False
                return self._try(data, total, stride)
            self.failed += 1  # unreachable for the moment: ICE consent and RTCP silence decide what becomes of it
        return total


def udp_segment_supported() -> bool:
    """Whether this kernel knows UDP_SEGMENT (Linux 4.18)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        except OSError:
            return False
    return True
