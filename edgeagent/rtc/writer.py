"""RTP packets (RFC 3550) of one viewer's stream: header, encryption in place, and as few system calls as the kernel allows."""

from __future__ import annotations

__all__ = ["RtpWriter", "abs_send_time", "ntp_time"]

import errno
import logging
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edgeagent.media.packetize import Packets
from edgeagent.rtc.private import Route, SrtpContext

log = logging.getLogger(__name__)

SOL_UDP, UDP_SEGMENT = 17, 103  # linux/udp.h; Python has no names for them
NTP_EPOCH = 2_208_988_800
HISTORY_PACKETS = 4096
SRTP_WINDOW = 1000
"""How far back a packet may be sent again under its own number: libsrtp's replay window is 1024."""
MAX_BLOCKED = 8
NO_SEGMENTATION = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT})
HEADERS = {(False, False): struct.Struct("!HHQ"), (True, False): struct.Struct("!HHQQ")}
HEADERS |= {(False, True): struct.Struct("!HHQQ"), (True, True): struct.Struct("!HHQQI")}
"""By whether there is `abs-send-time` and a transport-wide number: flags and payload type, sequence number, time stamp and SSRC;
then the header extension (RFC 8285, 4.2) with one or two elements."""
ONE_BYTE_HEADER = 0xBEDE << 48


def ntp_time(unix_s: float) -> int:
    """64-bit NTP time stamp (RFC 3550, 4) of a Unix time."""
    return int((unix_s + NTP_EPOCH) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def abs_send_time(seconds: float) -> int:
    """24-bit time stamp of 6.18 fixed point; any clock that runs evenly serves."""
    return int(seconds * (1 << 18)) & 0xFF_FFFF


class Sent(NamedTuple):
    """Packets that left together; `sequence` (not wrapped) is that of payload `first`."""

    sequence: int
    packets: Packets
    first: int
    end: int
    timestamp: int
    at: float


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
    ) -> None:
        self.route = route
        self.srtp = srtp
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.rtx_ssrc = rtx_ssrc
        self.rtx_payload_type = rtx_payload_type
        self._transport = transport if transport_extension else None
        self._number = ONE_BYTE_HEADER | 1 << 32 | transport_extension << 28 | 1 << 24  # where it is the only element
        self._second = transport_extension << 28 | 1 << 24
        self._extension = (ONE_BYTE_HEADER | (2 if self._transport else 1) << 32 | extension << 28 | 2 << 24) if extension else 0
        self._layout = HEADERS[bool(extension), self._transport is not None]
        self._header = self._layout.size
        # The lower half: a first packet lost just before the wrap would put both ends a roll-over apart (RFC 3711, 3.3.1).
        self._sequence = random.randrange(1, 1 << 15)
        self._rtx_sequence = random.randrange(1, 1 << 15)
        self._history: deque[Sent] = deque()
        self._history_packets = 0
        self._pending: deque[tuple[bytes, int]] = deque()
        self.packets = self.octets = self.repaired = self.repair_octets = self.blocked = self.failed = 0

    @property
    def sequence(self) -> int:
        """The next packet's number, not wrapped."""
        return self._sequence

    @property
    def pending(self) -> bool:
        """Whether encrypted packets wait for room in the kernel's buffer; call `flush` in a while."""
        return bool(self._pending)

    def write(self, packets: Packets, first: int, end: int, timestamp: int, now: float) -> None:
        """Send payloads `first` to `end` of a frame; `timestamp` is the RTP time stamp, 32 bits."""
        self._remember(Sent(self._sequence, packets, first, end, timestamp, now))
        header, tag = self._header, self.srtp.tag
        buffer, view = SrtpContext.BUFFER, SrtpContext.VIEW
        sequence, last = self._sequence, len(packets.payloads) - 1
        # The header as few large numbers: half of what each packet costs here is the count of fields.
        extended = self._extension or self._transport is not None
        kind, clock = (0x9000 if extended else 0x8000) | self.payload_type, timestamp << 32 | self.ssrc
        pack, numbered = self._layout.pack_into, self._transport
        tail = (self._extension | abs_send_time(now),) if self._extension else ()
        for (run_first, run_end), template in zip(packets.runs, packets.templates(header, tag), strict=True):
            low, high = max(first, run_first), min(end, run_end)
            if low >= high:
                continue
            stride = header + len(packets.payloads[run_first]) + tag
            offset = (low - run_first) * stride
            total = min(len(template) - offset, (high - low) * stride)
            view[:total] = template[offset : offset + total]
            last_of_run = (high - low - 1) * stride
            marker = 0x80 if high > last else 0
            if numbered is None:  # the loops are written out: they are where a sender's time goes
                for position in range(0, last_of_run, stride):
                    pack(buffer, position, kind, sequence & 0xFFFF, clock, *tail)
                    sequence += 1
                pack(buffer, last_of_run, kind | marker, sequence & 0xFFFF, clock, *tail)
                sequence += 1
            else:
                number = numbered.take(high - low, stride)
                element = self._second if tail else self._number
                for position in range(0, last_of_run, stride):
                    pack(buffer, position, kind, sequence & 0xFFFF, clock, *tail, element | (number & 0xFFFF) << 8)
                    sequence += 1
                    number += 1
                pack(buffer, last_of_run, kind | marker, sequence & 0xFFFF, clock, *tail, element | (number & 0xFFFF) << 8)
                sequence += 1
            self.srtp.protect_run(high - low, stride, total)
            self._send(total, stride)
            self.packets += high - low
            self.octets += total - (high - low) * (header + tag)
        self._sequence = sequence

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
        payload = sent.packets.payloads[index]
        buffer, marker = SrtpContext.BUFFER, 0x80 if index == len(sent.packets.payloads) - 1 else 0
        rtx = self.rtx_payload_type != 0
        ssrc, kind, number = (
            (self.rtx_ssrc, self.rtx_payload_type, self._rtx_sequence) if rtx else (self.ssrc, self.payload_type, wanted)
        )
        position = self._header
        total = position + len(payload) + (2 if rtx else 0) + self.srtp.tag
        first = self._transport.take(1, total) if self._transport is not None else 0
        self._head(0, marker | kind, number, sent.timestamp, ssrc, first, now)
        if rtx:
            self._rtx_sequence += 1
            buffer[position : position + 2] = (wanted & 0xFFFF).to_bytes(2, "big")
            position += 2
        SrtpContext.VIEW[position : position + len(payload)] = payload
        self.srtp.protect_run(1, total, total)
        self._send(total, total)
        self.repaired += 1
        self.repair_octets += total
        return total

    def probe(self, count: int, now: float) -> int:
        """Send `count` copies of the newest packet together, by RTX; how they spread on the way tells the bottleneck's rate.

        Returns their size in bytes, 0 where there is no RTX or nothing was sent yet. The receiver drops what it has already.
        """
        if not self.rtx_payload_type or not self._history or self._pending:
            return 0
        sent = self._history[-1]
        payload = max(sent.packets.payloads[sent.first : sent.end], key=len)
        original = sent.sequence + sent.packets.payloads.index(payload, sent.first) - sent.first
        body = (original & 0xFFFF).to_bytes(2, "big") + payload
        stride = self._header + len(body) + self.srtp.tag
        first = self._transport.take(count, stride) if self._transport is not None else 0
        for place in range(count):
            flags = self.rtx_payload_type  # no marker: the picture's end is told by the original
            self._head(place * stride, flags, self._rtx_sequence + place, sent.timestamp, self.rtx_ssrc, first + place, now)
            position = place * stride + self._header
            SrtpContext.VIEW[position : position + len(body)] = body
        self._rtx_sequence += count
        self.srtp.protect_run(count, stride, count * stride)
        self._send(count * stride, stride)
        return count * stride

    def _head(self, position: int, flags: int, sequence: int, timestamp: int, ssrc: int, number: int, now: float) -> None:
        """Write one packet's header; `number` is its transport-wide one."""
        elements = [self._extension | abs_send_time(now)] if self._extension else []
        if self._transport is not None:
            elements.append((self._second if elements else self._number) | (number & 0xFFFF) << 8)
        flags |= 0x9000 if elements else 0x8000
        self._layout.pack_into(SrtpContext.BUFFER, position, flags, sequence & 0xFFFF, timestamp << 32 | ssrc, *elements)

    def flush(self) -> None:
        """Try again to send what there was no room for."""
        while self._pending:
            data, stride = self._pending.popleft()
            sent = self._try(data, len(data), stride)
            if sent < len(data):
                self._pending.appendleft((data[sent:], stride))
                return

    def _send(self, total: int, stride: int) -> None:
        """Send `total` bytes of the shared buffer as packets of `stride` bytes, the last may be shorter."""
        view = SrtpContext.VIEW[:total]
        sent = 0 if self._pending else self._try(view, total, stride)
        if sent < total:
            self.blocked += 1
            if len(self._pending) < MAX_BLOCKED:
                self._pending.append((bytes(view[sent:]), stride))
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
                sock.sendmsg((data,), ((SOL_UDP, UDP_SEGMENT, struct.pack("=H", stride)),), 0, route.address)
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

    def _remember(self, sent: Sent) -> None:
        self._history.append(sent)
        self._history_packets += sent.end - sent.first
        while self._history_packets > HISTORY_PACKETS or sent.at - self._history[0].at > 2.0:
            gone = self._history.popleft()
            self._history_packets -= gone.end - gone.first
            if not self._history:
                break


def udp_segment_supported() -> bool:
    """Whether this kernel knows UDP_SEGMENT (Linux 4.18)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        except OSError:
            return False
    return True
