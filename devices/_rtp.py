"""Access units out of RTP (RFC 3550), sans-IO: datagrams in, access units out, the moment they are complete.

A marker bit ends an access unit, so that no picture waits for the next one; a camera that sets it too often is found out and
from then on a new time stamp ends it. Where something was lost, everything up to the next keyframe is left out. What stands in
the payloads is the codec's own: `_rtp_h264`, `_rtp_h265`, `_rtp_jpeg`.
"""

from __future__ import annotations

__all__ = ["AccessUnit", "Depacketizer", "bare"]

import abc
from dataclasses import dataclass

_HEADER = 12
_RTP_VERSION = 2
_REORDER = 24  # packets that wait for a missing one
_WRAP16, _WRAP32 = 1 << 16, 1 << 32
_MAX_UNIT = 8_000_000  # bytes; more is no picture
_MAX_NALS = 1024
_MISORDER = 100  # packets: what is further behind is no latecomer but a new count (RFC 3550, A.1)


@dataclass(slots=True, frozen=True)
class AccessUnit:
    """One complete access unit.

    Attributes:
        nals: Its NAL units without start codes, without any slice where a camera sends parameter sets by themselves; or one JPEG.
        timestamp: RTP's, 90 kHz, unwrapped: it may begin anywhere and goes back where pictures are reordered.
        keyframe: Whether decoding can start here.
    """

    nals: list[bytes]
    timestamp: int
    keyframe: bool


class Depacketizer(abc.ABC):
    """Makes access units of one stream's packets; each codec derives from it.

    Args:
        payload_type: Of the stream; packets of others are ignored.
        markers_lie: Whether this camera is known to set its markers wrongly.
    """

    def __init__(self, payload_type: int, *, markers_lie: bool = False) -> None:
        self.lost = 0
        """Packets that never came."""
        self.markers_lie = markers_lie
        """Whether the camera sets the marker in the middle of pictures."""
        self._payload_type = payload_type
        self._ssrc: int | None = None
        self._stray: bytes | None = None  # the newest packet, where it is of another source
        self._expected = -1
        self._restarted = -1  # the sequence number after a packet from far behind
        self._waiting: dict[int, bytes] = {}
        self._nals: list[bytes] = []
        self._fragments: list[bytes] = []
        self._size = 0
        self._timestamp: int | None = None
        self._ended_at: int | None = None
        self._damaged = False
        self._gap = True  # nothing is known about what came just before
        self._until_keyframe = True

    def feed(self, packet: bytes) -> list[AccessUnit]:
        """Take one RTP packet; nonsense is ignored."""
        if len(packet) < _HEADER or packet[0] >> 6 != _RTP_VERSION or packet[1] & 0x7F != self._payload_type:
            return []
        ssrc = int.from_bytes(packet[8:12], "big")
        sequence = packet[2] << 8 | packet[3]
        if ssrc != self._ssrc:
            if self._ssrc is None:
                self._begin_source(ssrc, sequence)
            else:  # a single packet may be a stray, two are a camera that began anew
                first, self._stray = self._stray, packet
                if first is None or first[8:12] != packet[8:12]:
                    return []
                self._begin_source(ssrc, first[2] << 8 | first[3])
                return self.feed(first) + self.feed(packet)
        self._stray = None
        ahead = (sequence - self._expected) % _WRAP16
        if ahead == 0 and not self._waiting:
            self._expected = (sequence + 1) % _WRAP16
            return self._take(packet)
        if ahead >= _WRAP16 // 2:  # too late, or twice; two in a row from far behind are a camera that counts anew
            if _WRAP16 - ahead <= _MISORDER or sequence != self._restarted:
                self._restarted = (sequence + 1) % _WRAP16
                return []
            self._begin_source(ssrc, (sequence + 1) % _WRAP16)
            return self._take(packet)
        self._waiting[sequence] = packet
        return self._in_order()

    def _begin_source(self, ssrc: int, sequence: int) -> None:
        self._ssrc, self._expected = ssrc, sequence
        self._waiting.clear()
        self._begin(None)
        self._ended_at = None
        self._gap = self._until_keyframe = True

    def _in_order(self) -> list[AccessUnit]:
        units: list[AccessUnit] = []
        while self._waiting:
            packet = self._waiting.pop(self._expected, None)
            if packet is None:
                if len(self._waiting) < _REORDER:
                    return units
                nearest = min((sequence - self._expected) % _WRAP16 for sequence in self._waiting)
                self.lost += nearest
                self._expected = (self._expected + nearest) % _WRAP16
                self._gap = self._damaged = self._until_keyframe = True
                continue
            self._expected = (self._expected + 1) % _WRAP16
            units += self._take(packet)
        return units

    def _take(self, packet: bytes) -> list[AccessUnit]:
        payload = _payload_of(packet)
        timestamp = int.from_bytes(packet[4:8], "big")
        units = []
        if self._timestamp is not None and timestamp != self._timestamp & 0xFFFFFFFF:
            units += self._end()
        if self._timestamp is None:
            part = self._part_of(payload)
            if part == "rest" and self._ended_at is not None and timestamp == self._ended_at & 0xFFFFFFFF:
                self.markers_lie = True  # more of a picture that its marker had ended
                self._gap = True
            self._begin(self._unwrap(timestamp))
            self._damaged = self._gap and part == "rest"
        self._gap = False
        if payload:
            self._add(payload, bool(packet[1] & 0x80))
        if packet[1] & 0x80 and not self.markers_lie and self._has_picture():
            units += self._end()
        return units

    def _unwrap(self, timestamp: int) -> int:
        if self._ended_at is None:
            return timestamp
        step = (timestamp - self._ended_at + _WRAP32 // 2) % _WRAP32 - _WRAP32 // 2
        return self._ended_at + step

    def _begin(self, timestamp: int | None) -> None:
        self._timestamp = timestamp
        self._nals, self._fragments, self._size = [], [], 0
        self._damaged = False

    def _keep(self, nal: bytes, *, counted: bool = False) -> None:
        self._size += 0 if counted else len(nal)
        if self._size > _MAX_UNIT or len(self._nals) >= _MAX_NALS:
            self._damaged = True
            return
        # Cameras exist that put trailing zeros into RTP.
        self._nals.append(nal.rstrip(b"\0") if nal[-1:] == b"\0" else nal)

    def _end(self) -> list[AccessUnit]:
        nals, timestamp, damaged = [nal for nal in self._nals if nal], self._timestamp, self._damaged or bool(self._fragments)
        picture = self._has_picture()
        self._begin(None)
        if timestamp is None:
            return []
        self._ended_at = timestamp
        if not nals and not damaged:
            return []
        if damaged:
            self._until_keyframe = True
            return []
        keyframe = self._is_keyframe(nals)
        if keyframe:
            self._until_keyframe = False
        return [AccessUnit(nals, timestamp, keyframe)] if not picture or not self._until_keyframe else []

    def _fragment(self, head: bytes, rest: bytes, *, first: bool, last: bool) -> None:
        """Take a part of a NAL unit; `head` is the unit's own header, needed with the first."""
        if first:
            if self._fragments:
                self._damaged = True
            self._fragments = [head, rest]
        elif self._fragments:
            self._fragments.append(rest)
        else:
            self._damaged = True
            return
        self._size += len(rest)
        if self._size > _MAX_UNIT:
            self._fragments, self._damaged = [], True
        elif last:
            nal, self._fragments = b"".join(self._fragments), []
            self._keep(nal, counted=True)

    def _aggregate(self, units: bytes) -> None:
        """Take NAL units that stand behind lengths of two bytes."""
        position = 0
        while position < len(units):
            size = int.from_bytes(units[position : position + 2], "big")
            nal = units[position + 2 : position + 2 + size]
            if not size or len(nal) != size:
                self._damaged = True
                return
            self._keep(nal)
            position += 2 + size

    # The codec's own

    @abc.abstractmethod
    def _add(self, payload: bytes, marker: bool) -> None:
        """Take a payload of the current picture: `_keep`, `_fragment`, `_aggregate`, or `_damaged` for nonsense."""

    @abc.abstractmethod
    def _part_of(self, payload: bytes) -> str:
        """`start` for what may begin a picture, `rest` for what cannot: a later slice or a later fragment."""

    @abc.abstractmethod
    def _has_picture(self) -> bool:
        """Whether the current access unit holds more than parameter sets."""

    @abc.abstractmethod
    def _is_keyframe(self, nals: list[bytes]) -> bool:
        """Whether decoding can start at this access unit."""


def bare(unit: bytes) -> bytes:
    """A payload or a NAL unit without the start code that some cameras put in front of it."""
    return unit.lstrip(b"\0")[1:] if unit.startswith((b"\0\0\1", b"\0\0\0\1")) else unit


def _payload_of(packet: bytes) -> bytes:
    start = _HEADER + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    end = len(packet) - (packet[-1] if packet[0] & 0x20 else 0)
    return packet[start:end] if start < end else b""
