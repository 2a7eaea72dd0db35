"""H.264 bitstream tools on bytes: splitting, parameter sets, slice types, levels (ITU-T H.264, clauses 7 and A, annex B).

Everything is pure, never trusts its input and raises `ValueError` for what cannot be H.264. `split_nals` is in the path of
every frame: it searches with `bytes.find` only.
"""

from __future__ import annotations

__all__ = [
    "AUD",
    "IDR",
    "PPS",
    "SEI",
    "SLICE",
    "SPS",
    "START_CODE",
    "ParameterSets",
    "Sps",
    "contains_b_slice",
    "is_keyframe",
    "join_nals",
    "level_for",
    "nal_type",
    "parse_avcc",
    "parse_sprop",
    "parse_sps",
    "slice_type",
    "split_avcc",
    "split_nals",
    "unescape",
    "with_parameter_sets",
]

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeagent.core.h264_sps import Bits, Sps, parse_sps, unescape

SLICE, IDR, SEI, SPS, PPS, AUD = 1, 5, 6, 7, 8, 9
"""NAL unit types of table 7-1."""
LAST_VCL = 5
START_CODE = b"\x00\x00\x00\x01"

_SLICE_NAMES = "PBIsi"  # slice_type modulo 5: P, B, I, SP, SI (table 7-6)


def nal_type(nal: bytes) -> int:
    """The type of a NAL unit without start code; 0 (unspecified) for an empty one."""
    return nal[0] & 0x1F if nal else 0


def split_nals(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, without start codes and trailing zeros.

    Start codes may have three or four bytes; bytes before the first one are ignored; empty units are left out.
    """
    find = data.find
    nals: list[bytes] = []
    start = find(b"\0\0\1")
    while start >= 0:
        start += 3
        following = find(b"\0\0\1", start)
        nal = data[start:] if following < 0 else data[start:following]
        if nal[-1:] == b"\0":  # trailing_zero_8bits, or the first byte of a four-byte start code
            nal = nal.rstrip(b"\0")
        if nal:
            nals.append(nal)
        start = following
    return nals


def join_nals(nals: Iterable[bytes]) -> bytes:
    """An Annex B byte stream of these NAL units, each behind a four-byte start code."""
    return b"".join([part for nal in nals for part in (START_CODE, nal)])


def is_keyframe(nals: Sequence[bytes]) -> bool:
    """Whether these NAL units of one access unit hold an IDR slice."""
    return any(nal[0] & 0x1F == IDR for nal in nals if nal)


def slice_type(nal: bytes) -> str:
    """`P`, `B`, `I`, `s` (SP) or `i` (SI) for a slice of types 1, 2 and 5.

    Raises:
        ValueError: The unit holds no slice header.
    """
    if nal_type(nal) not in (SLICE, 2, IDR):
        raise ValueError("not a slice")
    if len(nal) > 2 and nal[1] & 0x80:  # first_mb_in_slice is 0, as in nearly every slice there is: a look at two bytes tells
        rest = int.from_bytes(nal[1:3], "big") & 0x7FFF
        if (zeros := 15 - rest.bit_length()) <= 3 and (kind := (rest >> (14 - 2 * zeros)) - 1) <= 9:
            return _SLICE_NAMES[kind % 5]
    bits = Bits(unescape(nal[1:16]))
    bits.ue()  # first_mb_in_slice
    kind = bits.ue()
    if kind > 9:  # table 7-6
        raise ValueError(f"slice_type {kind} is unknown")
    return _SLICE_NAMES[kind % 5]


def contains_b_slice(nals: Sequence[bytes]) -> bool:
    """Whether one of these NAL units is a readable B slice."""
    for nal in nals:
        try:
            if nal_type(nal) in (SLICE, 2) and slice_type(nal) == "B":
                return True
        except ValueError:
            continue
    return False


@dataclass(slots=True, frozen=True)
class ParameterSets:
    """Sequence and picture parameter sets, each without start code."""

    sps: tuple[bytes, ...] = ()
    pps: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, nals: Iterable[bytes]) -> ParameterSets:
        """Those among `nals`."""
        units = list(nals)
        return cls(
            tuple(nal for nal in units if nal_type(nal) == SPS),
            tuple(nal for nal in units if nal_type(nal) == PPS),
        )

    def merged(self, newer: ParameterSets) -> ParameterSets:
        """`newer` where it has something, else this."""
        return ParameterSets(newer.sps or self.sps, newer.pps or self.pps)

    def __bool__(self) -> bool:
        return bool(self.sps and self.pps)


def with_parameter_sets(data: bytes, sets: ParameterSets) -> bytes:
    """The access unit `data` (Annex B) with `sets` before its first slice, if it has an IDR and lacks one of the two kinds."""
    nals = split_nals(data)
    if not is_keyframe(nals):
        return data
    own = ParameterSets.of(nals)
    if own or not sets:
        return data
    head = [nal for nal in nals if nal_type(nal) == AUD]
    full = sets.merged(own)
    rest = [nal for nal in nals if nal_type(nal) not in (AUD, SPS, PPS)]
    return join_nals([*head, *full.sps, *full.pps, *rest])


def parse_avcc(extradata: bytes) -> tuple[ParameterSets, int]:
    """Parameter sets and length size (1, 2 or 4) of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).

    Raises:
        ValueError: It is none, or cut short.
    """
    if len(extradata) < 7 or extradata[0] != 1:
        raise ValueError("not an avcC record")
    length_size = (extradata[4] & 3) + 1
    sps, position = _read_units(extradata, 6, extradata[5] & 0x1F)
    if position >= len(extradata):
        raise ValueError("the avcC record is cut short")
    pps, _ = _read_units(extradata, position + 1, extradata[position])
    return ParameterSets.of([*sps, *pps]), length_size


def _read_units(record: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    units = []
    for _ in range(count):
        size = int.from_bytes(record[position : position + 2], "big")
        unit = record[position + 2 : position + 2 + size]
        if not size or len(unit) != size:
            raise ValueError("the avcC record is cut short")
        units.append(unit)
        position += 2 + size
    return units, position


def split_avcc(data: bytes, length_size: int) -> list[bytes]:
    """The NAL units of an access unit that stand behind lengths of `length_size` bytes; empty ones are left out.

    Raises:
        ValueError: A length runs past the end.
    """
    nals, position, end = [], 0, len(data)
    while position < end:
        size = int.from_bytes(data[position : position + length_size], "big")
        position += length_size
        if position + size > end:
            raise ValueError("a NAL unit is longer than its access unit")
        if size:
            nals.append(data[position : position + size])
        position += size
    return nals


def parse_sprop(value: str) -> ParameterSets:
    """The parameter sets of an SDP's `sprop-parameter-sets` (RFC 6184, section 8.1).

    Raises:
        ValueError: It is not a list of base64 strings.
    """
    try:
        nals = [base64.b64decode(part.strip(), validate=True) for part in value.split(",") if part.strip()]
    except (binascii.Error, ValueError) as error:
        raise ValueError("sprop-parameter-sets is not base64") from error
    return ParameterSets.of(nals)


# level_idc, MaxMBPS, MaxFS, MaxBR in units of 1000 bit/s (table A-1; 1b is left out)
_LEVELS = (
    (10, 1_485, 99, 64),
    (11, 3_000, 396, 192),
    (12, 6_000, 396, 384),
    (13, 11_880, 396, 768),
    (20, 11_880, 396, 2_000),
    (21, 19_800, 792, 4_000),
    (22, 20_250, 1_620, 4_000),
    (30, 40_500, 1_620, 10_000),
    (31, 108_000, 3_600, 14_000),
    (32, 216_000, 5_120, 20_000),
    (40, 245_760, 8_192, 20_000),
    (41, 245_760, 8_192, 50_000),
    (42, 522_240, 8_704, 50_000),
    (50, 589_824, 22_080, 135_000),
    (51, 983_040, 36_864, 240_000),
    (52, 2_073_600, 36_864, 240_000),
    (60, 4_177_920, 139_264, 240_000),
    (61, 8_355_840, 139_264, 480_000),
    (62, 16_711_680, 139_264, 800_000),
)


def level_for(width: int, height: int, fps: float, bitrate: int) -> int:
    """The lowest level_idc (ten times the level) that allows this stream (table A-1).

    Args:
        width: Pixels.
        height: Pixels.
        fps: Frames a second.
        bitrate: The highest rate in bit/s.

    Raises:
        ValueError: No level allows it.
    """
    columns, rows = -(-width // 16), -(-height // 16)
    size = columns * rows
    for level, max_rate, max_size, max_bitrate in _LEVELS:
        fits = size <= max_size and max(columns, rows) ** 2 <= 8 * max_size
        if fits and size * fps <= max_rate and bitrate <= max_bitrate * 1000:
            return level
    raise ValueError(f"no H.264 level allows {width}x{height} at {fps:g} frames a second and {bitrate} bit/s")
