from __future__ import annotations

import base64
import struct

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.h264 import (
    AUD,
    IDR,
    PPS,
    SEI,
    SLICE,
    SPS,
    ParameterSets,
    contains_b_slice,
    is_keyframe,
    join_nals,
    level_for,
    nal_type,
    parse_avcc,
    parse_sprop,
    parse_sps,
    slice_type,
    split_avcc,
    split_nals,
    unescape,
    with_parameter_sets,
)

B_FRAMES = {"bf": "2", "x264-params": "b-adapt=0"}
HRD = "cqm=jvt:nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500"


def encode(width: int, height: int, options: dict[str, str] | None = None, frames: int = 6) -> list[bytes]:
    """Access units of x264, the judge of these tests, in decoding order."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = width, height
    options = dict(options or {})
    context.pix_fmt = options.pop("pix_fmt", "yuv420p")
    context.framerate = 25  # type: ignore[assignment]
    context.time_base = 1 / context.framerate
    context.options = {"preset": "veryfast", **options}
    units = []
    for number in range(frames):
        frame = av.VideoFrame(width, height, context.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes([60 + 20 * number]) * plane.buffer_size)
        frame.pts = number
        units += [bytes(packet) for packet in context.encode(frame)]
    return units + [bytes(packet) for packet in context.encode(None)]


def sps_of(unit: bytes) -> bytes:
    return ParameterSets.of(split_nals(unit)).sps[0]


def test_split_takes_both_start_codes_and_drops_trailing_zeros() -> None:
    data = b"\x99\0\0\0\1\x67a\0\0\1\x68b\0\0\0\0\1\x65c\0\0\3d\0\0"
    assert split_nals(data) == [b"\x67a", b"\x68b", b"\x65c\0\0\3d"]


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\1", b"\0\0\0\1\0\0\1", b"\0" * 50, b"no start code"])
def test_split_finds_nothing_in_nothing(data: bytes) -> None:
    assert split_nals(data) == []


# A NAL unit holds neither start code nor trailing zero byte (7.4.1).
nal_units = st.binary(min_size=1, max_size=200).filter(
    lambda nal: nal[-1] and b"\0\0\0" not in nal and b"\0\0\1" not in nal and not nal.startswith(b"\0")
)


@given(st.lists(nal_units), st.lists(st.integers(0, 3)))
def test_split_undoes_join(nals: list[bytes], zeros: list[int]) -> None:
    padding = zeros + [0] * len(nals)
    data = b"".join(b"\0" * padding[i] + b"\0\0\1" + nal for i, nal in enumerate(nals))
    assert split_nals(data) == nals == split_nals(join_nals(nals))


@given(st.binary())
def test_unescape_takes_out_emulation_prevention_only(payload: bytes) -> None:
    escaped = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    assert unescape(bytes(escaped)) == payload


@pytest.mark.parametrize(
    ("size", "options", "profile"),
    [
        ((1280, 720), {"profile": "baseline", "level": "3.1"}, "42c01f"),
        ((1920, 1080), {"profile": "baseline", "level": "4.0"}, "42c028"),
        ((638, 358), {"profile": "main", "level": "3.0"}, "4d401e"),
        ((64, 64), {"profile": "high", "level": "1.0"}, "64000a"),
        ((322, 182), {"profile": "high", "level": "2.0", "x264-params": HRD}, "640014"),
        ((320, 240), {"profile": "high444", "pix_fmt": "yuv444p", "level": "2.0"}, "f40014"),
        ((320, 240), {"profile": "high10", "pix_fmt": "yuv420p10le", "level": "2.0"}, "6e0014"),
        ((640, 480), {"flags": "+ilme+ildct", "profile": "main", "level": "3.0"}, "4d401e"),
    ],
)  # fmt: skip
def test_sps_of_a_real_encoder(size: tuple[int, int], options: dict[str, str], profile: str) -> None:
    sps = parse_sps(sps_of(encode(*size, options)[0]))
    assert (sps.width, sps.height) == size
    assert sps.profile_level_id == profile
    assert sps.fps == 25
    assert sps.frame_mbs_only == ("flags" not in options)
    assert sps.chroma_format_idc == (3 if "444" in profile or profile.startswith("f4") else 1)
    assert sps.bit_depth == (10 if profile.startswith("6e") else 8)


def test_sps_tells_whether_pictures_are_reordered() -> None:
    plain = parse_sps(sps_of(encode(64, 64, {"bf": "0"})[0]))
    reordered = parse_sps(sps_of(encode(64, 64, B_FRAMES)[0]))
    assert (plain.max_num_reorder_frames, plain.may_reorder) == (0, False)
    assert (reordered.max_num_reorder_frames, reordered.may_reorder) == (2, True)


def test_slice_types() -> None:
    units = [split_nals(unit) for unit in encode(64, 64, B_FRAMES, frames=9)]
    kinds = [slice_type(nal) for nals in units for nal in nals if nal_type(nal) in (SLICE, IDR)]
    assert set(kinds) == {"I", "P", "B"}
    assert kinds[0] == "I"
    assert [contains_b_slice(nals) for nals in units] == [kind == "B" for kind in kinds]


@pytest.mark.parametrize("nal", [b"", b"\x67", b"\x41", b"\x41\0\0", b"\x65\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_slice_type_refuses_nonsense(nal: bytes) -> None:
    with pytest.raises(ValueError):
        slice_type(nal)


@given(st.binary(max_size=80))
def test_parsers_never_fail_but_by_value_error(data: bytes) -> None:
    for nal in (data, b"\x67" + data, b"\x67\x64\0\x1f" + data, b"\x41" + data):
        for parse in (parse_sps, slice_type, parse_avcc):
            try:
                parse(nal)
            except ValueError:
                continue
    assert contains_b_slice([data]) in (True, False)
    split_nals(data)
    for size in (1, 2, 4):
        try:
            split_avcc(data, size)
        except ValueError:
            continue


@given(st.data())
def test_a_damaged_sps_is_read_or_refused(data: st.DataObject) -> None:
    nal = bytearray(b"gB\xc0\x1f\xd9\x00P\x05\xba\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\xc0\xf1\x83$\x80")
    for _ in range(data.draw(st.integers(1, 4))):
        nal[data.draw(st.integers(1, len(nal) - 1))] = data.draw(st.integers(0, 255))
    try:
        sps = parse_sps(bytes(nal[: data.draw(st.integers(1, len(nal)))]))
    except ValueError:
        return
    assert 0 < sps.width <= 16_384
    assert 0 < sps.height <= 16_384


def test_parameter_sets_are_put_where_they_are_missing() -> None:
    nals = split_nals(encode(64, 64)[0])
    sets = ParameterSets.of(nals)
    bare = [nal for nal in nals if nal_type(nal) == IDR]
    aud = b"\x09\xf0"
    full = with_parameter_sets(join_nals([aud, *bare]), sets)
    assert [nal_type(nal) for nal in split_nals(full)] == [AUD, SPS, PPS, IDR]
    assert is_keyframe(split_nals(full))
    assert with_parameter_sets(full, sets) == full
    assert with_parameter_sets(join_nals(bare), ParameterSets()) == join_nals(bare)
    half = with_parameter_sets(join_nals([sets.sps[0], b"\x06\x05\x01\x00\x80", *bare]), sets)
    assert [nal_type(nal) for nal in split_nals(half)] == [SPS, PPS, SEI, IDR]


def test_parameter_sets_stay_out_of_other_pictures() -> None:
    units = encode(64, 64, {"bf": "0"})
    sets = ParameterSets.of(split_nals(units[0]))
    assert sets
    assert with_parameter_sets(units[1], sets) == units[1]


def test_newer_parameter_sets_win() -> None:
    old, new = ParameterSets((b"\x67a",), (b"\x68a",)), ParameterSets((b"\x67b",), ())
    assert old.merged(new) == ParameterSets((b"\x67b",), (b"\x68a",))
    assert not new


def avcc(sps: bytes, pps: bytes) -> bytes:
    return (
        bytes([1, *sps[1:4], 0xFF, 0xE1])
        + struct.pack(">H", len(sps)) + sps + b"\x01" + struct.pack(">H", len(pps)) + pps
    )  # fmt: skip


def test_avcc() -> None:
    sps, pps = b"\x67\x42\xc0\x1f\xaa", b"\x68\xce"
    record = avcc(sps, pps)
    assert parse_avcc(record) == (ParameterSets((sps,), (pps,)), 4)
    for end in range(len(record)):
        with pytest.raises(ValueError):
            parse_avcc(record[:end])
    assert split_avcc(b"\0\0\0\2ab\0\0\0\0\0\0\0\1c", 4) == [b"ab", b"c"]
    with pytest.raises(ValueError, match="longer"):
        split_avcc(b"\0\0\0\5ab", 4)


def test_sprop_parameter_sets() -> None:
    text = ",".join(base64.b64encode(nal).decode() for nal in (b"\x67a", b"\x68b"))
    assert parse_sprop(text) == ParameterSets((b"\x67a",), (b"\x68b",))
    assert parse_sprop("") == ParameterSets()
    with pytest.raises(ValueError, match="base64"):
        parse_sprop("Z0LAH,!!")


@pytest.mark.parametrize(
    ("width", "height", "fps", "bitrate", "level"),
    [
        (176, 144, 15, 60_000, 10),
        (320, 240, 15, 300_000, 12),
        (640, 480, 30, 1_000_000, 30),
        (1280, 720, 30, 3_000_000, 31),
        (1280, 720, 30, 15_000_000, 32),
        (1280, 720, 60, 3_000_000, 32),
        (1920, 1080, 30, 6_000_000, 40),
        (1920, 1080, 30, 25_000_000, 41),
        (1920, 1080, 60, 6_000_000, 42),
        (3840, 2160, 30, 20_000_000, 51),
        (4096, 160, 5, 1_000_000, 40),  # the longest side of level 3.2 is 202 macroblocks
    ],
)
def test_levels(width: int, height: int, fps: float, bitrate: int, level: int) -> None:
    assert level_for(width, height, fps, bitrate) == level


def test_no_level_is_enough() -> None:
    with pytest.raises(ValueError, match="allows 16000x16000"):
        level_for(16_000, 16_000, 60, 1)
