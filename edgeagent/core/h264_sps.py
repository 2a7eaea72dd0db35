"""Reading the bits of H.264: Exp-Golomb codes and the sequence parameter set (ITU-T H.264, clauses 7.3.2.1, 9.1 and annex E)."""

from __future__ import annotations

__all__ = ["Bits", "Sps", "parse_sps", "unescape"]

from dataclasses import dataclass

_SPS = 7
_MAX_SIDE = 16_384
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244})
_EXTENDED_SAR = 255
_MAX_GOLOMB_ZEROS = 32


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


class Bits:
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
    if not nal or nal[0] & 0x1F != _SPS:
        raise ValueError("not a sequence parameter set")
    bits = Bits(unescape(nal[1:1024]))
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


def _chroma(bits: Bits) -> tuple[int, bool, int]:
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


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _picture_order(bits: Bits) -> int:
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


def _vui(bits: Bits) -> tuple[float, int | None]:
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


def _skip_hrd(bits: Bits) -> None:
    count = bits.ue() + 1
    if count > 32:  # E.2.2
        raise ValueError("too many coded picture buffers")
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.flag()
    bits.u(20)
