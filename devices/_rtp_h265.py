"""H.265 out of RTP (RFC 7798): single NAL units, aggregation packets and fragmentation units.

PACI packets and decoding order numbers are refused: no camera is known to send them, and without asking for them none may.
"""

from __future__ import annotations

__all__ = ["AccessUnit", "Depacketizer", "parameter_sets"]

import base64
import binascii
from collections.abc import Mapping

from edgeagent.drivers import h264
from edgeagent_devices._rtp import AccessUnit, bare
from edgeagent_devices._rtp import Depacketizer as Base

_AP, _FU = 48, 49
_HEADER = 2
_FIRST_IRAP, _LAST_IRAP, _LAST_VCL = 16, 23, 31  # table 7-1 of ITU-T H.265
_BEFORE_SLICES = (32, 33, 34, 35, 39)  # VPS, SPS, PPS, AUD, SEI


def _type(nal: bytes) -> int:
    return nal[0] >> 1 & 0x3F


def _layer(nal: bytes) -> int:
    return (nal[0] & 1) << 5 | nal[1] >> 3


class Depacketizer(Base):
    """Makes access units of one H.265 stream's packets; `AccessUnit.nals` are the NAL units of its base layer."""

    def _add(self, payload: bytes, marker: bool) -> None:
        payload = bare(payload)
        if len(payload) <= _HEADER:
            self._damaged = True
            return
        kind = _type(payload)
        if kind == _FU:
            if len(payload) < _HEADER + 2:
                self._damaged = True
                return
            header = payload[2]
            nal_header = bytes((payload[0] & 0x81 | (header & 0x3F) << 1, payload[1]))
            self._fragment(nal_header, payload[3:], first=bool(header & 0x80), last=bool(header & 0x40))
            return
        if self._fragments:  # the rest of a unit never came
            self._fragments, self._damaged = [], True
        if kind == _AP:
            self._aggregate(payload[_HEADER:])
        elif kind < _AP:
            self._keep(payload)
        else:
            self._damaged = True

    def _keep(self, nal: bytes, *, counted: bool = False) -> None:
        nal = bare(nal)
        if len(nal) <= _HEADER:
            self._damaged = True
        elif _type(nal) in _BEFORE_SLICES and b"\0\0\1" in nal:  # as for H.264
            for part in h264.split_nals(h264.START_CODE + nal):
                self._keep(part, counted=counted)
        elif _layer(nal) == 0:
            super()._keep(nal, counted=counted)

    def _part_of(self, payload: bytes) -> str:
        payload = bare(payload)
        if len(payload) > _HEADER + 4 and _type(payload) == _AP:
            payload = bare(payload[_HEADER + 2 :])
        elif len(payload) > _HEADER + 1 and _type(payload) == _FU:
            if not payload[2] & 0x80:
                return "rest"
            payload = bare(bytes(((payload[2] & 0x3F) << 1, payload[1])) + payload[3:])
        if len(payload) > _HEADER and _type(payload) <= _LAST_VCL:
            return "start" if payload[2] & 0x80 else "rest"  # first_slice_segment_in_pic_flag
        return "start"

    def _has_picture(self) -> bool:
        return any(_type(nal) <= _LAST_VCL for nal in self._nals if nal)

    def _is_keyframe(self, nals: list[bytes]) -> bool:
        return any(_FIRST_IRAP <= _type(nal) <= _LAST_IRAP for nal in nals)


def parameter_sets(fmtp: Mapping[str, str]) -> bytes:
    """VPS, SPS and PPS of an SDP (RFC 7798, section 7.1) in Annex B form, b"" where they come with the keyframes."""
    try:
        texts = [fmtp.get(f"sprop-{name}", "") for name in ("vps", "sps", "pps")]
        nals = [base64.b64decode(part.strip(), validate=True) for text in texts for part in text.split(",") if part.strip()]
    except (binascii.Error, ValueError):
        return b""
    return h264.join_nals(nals)
