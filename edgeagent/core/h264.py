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
    "avcc_to_annexb",
    "contains_b_slice",
    "is_keyframe",
    "join_nals",
    "level_for",
    "nal_type",
    "parse_avcc",
    "parse_sprop",
    "parse_sps",
    "slice_type",
    "split_nals",
    "unescape",
    "with_parameter_sets",
]

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SLICE, IDR, SEI, SPS, PPS, AUD = 1, 5, 6, 7, 8, 9
"""NAL unit types of table 7-1."""
LAST_VCL = 5
START_CODE = b"\x00\x00\x00\x01"

_MAX_SIDE = 16_384
_SLICE_NAMES = "PBIsi"  # slice_type modulo 5: P, B, I, SP, SI (table 7-6)
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244})
_EXTENDED_SAR = 255
_MAX_GOLOMB_ZEROS = 32


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


def unescape(nal: bytes) -> bytes:
    """The raw payload of a NAL unit: emulation prevention bytes (00 00 03) taken out."""
    pieces: list[bytes] = []
    start = 0
    while (found := nal.find(b"\0\0\3", start)) >= 0:
        pieces.append(nal[start : found + 2])
        start = found + 3
    if not pieces:
        return nal
    pieces.append(nal[start:])
    return b"".join(pieces)


class _Bits:
    """A reader of bit fields and Exp-Golomb codes (clause 9.1)."""

    def __init__(self, payload: bytes) -> None:
        self._value = int.from_bytes(payload, "big")
        self._left = len(payload) * 8

    def u(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the NAL unit ends too early")
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.u(1) == 1

    def ue(self) -> int:
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > _MAX_GOLOMB_ZEROS:
                raise ValueError("an Exp-Golomb code is longer than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(slots=True, frozen=True)
class Sps:
    """What a sequence parameter set says (clause 7.3.2.1).

    Attributes:
        width: Pixels after cropping.
        height: Pixels after cropping.
        profile_idc: 66 baseline, 77 main, 100 high, …
        constraints: The byte of constraint_set flags.
        level_idc: Ten times the level, e.g. 31.
        chroma_format_idc: 1 for 4:2:0.
        bit_depth: The larger of luma's and chroma's.
        max_num_ref_frames: Reference pictures that a decoder keeps.
        poc_type: pic_order_cnt_type; 2 means that output order is decoding order.
        frame_mbs_only: False for a stream that may be interlaced.
        max_num_reorder_frames: From the VUI's bitstream restriction; None where it says nothing.
        fps: Frames a second by the VUI's timing; 0 where it says nothing.
    """

    width: int
    height: int
    profile_idc: int
    constraints: int
    level_idc: int
    chroma_format_idc: int = 1
    bit_depth: int = 8
    max_num_ref_frames: int = 0
    poc_type: int = 0
    frame_mbs_only: bool = True
    max_num_reorder_frames: int | None = None
    fps: float = 0.0

    @property
    def profile_level_id(self) -> str:
        """Six lower-case hex digits (RFC 6184, section 8.1)."""
        return f"{self.profile_idc:02x}{self.constraints:02x}{self.level_idc:02x}"

    @property
    def may_reorder(self) -> bool:
        """Whether pictures may be shown in another order than sent (B-frames): false only where it is excluded."""
        return not (self.profile_idc == 66 or self.poc_type == 2 or self.max_num_reorder_frames == 0)  # baseline


def parse_sps(nal: bytes) -> Sps:
    """Read a sequence parameter set, given without start code.

    Raises:
        ValueError: It is none, or its values cannot be.
    """
    if nal_type(nal) != SPS:
        raise ValueError("not a sequence parameter set")
    bits = _Bits(unescape(nal[1:1024]))
    profile, constraints, level = bits.u(8), bits.u(8), bits.u(8)
    bits.ue()  # seq_parameter_set_id
    chroma, separate, depth = 1, False, 8
    if profile in _HIGH_PROFILES:
        chroma, separate, depth = _chroma(bits)
    bits.ue()  # log2_max_frame_num_minus4
    poc_type = _picture_order(bits)
    refs = bits.ue()
    bits.flag()  # gaps_in_frame_num_value_allowed_flag
    width, height = (bits.ue() + 1) * 16, (bits.ue() + 1) * 16
    frame_mbs_only = bits.flag()
    if not frame_mbs_only:
        height *= 2
        bits.flag()  # mb_adaptive_frame_field_flag
    bits.flag()  # direct_8x8_inference_flag
    if bits.flag():  # frame_cropping_flag
        step_x = 2 if chroma in (1, 2) and not separate else 1
        step_y = (2 if chroma == 1 and not separate else 1) * (1 if frame_mbs_only else 2)
        width -= step_x * (bits.ue() + bits.ue())
        height -= step_y * (bits.ue() + bits.ue())
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError(f"a picture of {width} by {height} pixels cannot be")
    try:
        fps, reorder = _vui(bits) if bits.flag() else (0.0, None)
    except ValueError:  # cameras with a broken or cut VUI exist, and decoders play them
        fps, reorder = 0.0, None
    return Sps(width, height, profile, constraints, level, chroma, depth, refs, poc_type, frame_mbs_only, reorder, fps)


def _chroma(bits: _Bits) -> tuple[int, bool, int]:
    chroma = bits.ue()
    if chroma > 3:  # 4:4:4
        raise ValueError(f"chroma_format_idc {chroma} is unknown")
    separate = bits.flag() if chroma == 3 else False
    depth = 8 + max(bits.ue(), bits.ue())
    bits.flag()  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():  # seq_scaling_matrix_present_flag
        for index in range(8 if chroma != 3 else 12):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, separate, depth


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _picture_order(bits: _Bits) -> int:
    kind = bits.ue()
    if kind == 0:
        bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.flag()  # delta_pic_order_always_zero_flag
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        cycle = bits.ue()
        if cycle > 255:  # 7.4.2.1.1
            raise ValueError("too many frames in the picture order cycle")
        for _ in range(cycle):
            bits.se()
    elif kind > 2:
        raise ValueError(f"pic_order_cnt_type {kind} is unknown")
    return kind


def _vui(bits: _Bits) -> tuple[float, int | None]:
    """Frames a second and max_num_reorder_frames (annex E.1.1)."""
    fps = 0.0
    if bits.flag() and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.flag():  # overscan_info_present_flag
        bits.flag()
    if bits.flag():  # video_signal_type_present_flag
        bits.u(4)
        if bits.flag():
            bits.u(24)
    if bits.flag():  # chroma_loc_info_present_flag
        bits.ue()
        bits.ue()
    if bits.flag():  # timing_info_present_flag
        units, scale = bits.u(32), bits.u(32)
        bits.flag()
        fps = scale / (2 * units) if units else 0.0
    hrds = 0
    for _ in range(2):  # NAL, then VCL
        if bits.flag():
            _skip_hrd(bits)
            hrds += 1
    if hrds:
        bits.flag()  # low_delay_hrd_flag
    bits.flag()  # pic_struct_present_flag
    if not bits.flag():  # bitstream_restriction_flag
        return fps, None
    bits.flag()
    for _ in range(4):
        bits.ue()
    return fps, bits.ue()


def _skip_hrd(bits: _Bits) -> None:
    count = bits.ue() + 1
    if count > 32:  # E.2.2
        raise ValueError("too many coded picture buffers")
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.flag()
    bits.u(20)


def slice_type(nal: bytes) -> str:
    """`P`, `B`, `I`, `s` (SP) or `i` (SI) for a slice of types 1, 2 and 5.

    Raises:
        ValueError: The unit holds no slice header.
    """
    if nal_type(nal) not in (SLICE, 2, IDR):
        raise ValueError("not a slice")
    bits = _Bits(unescape(nal[1:16]))
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


def avcc_to_annexb(data: bytes, length_size: int) -> bytes:
    """An access unit whose NAL units stand behind lengths of `length_size` bytes, as Annex B.

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
    return join_nals(nals)


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
