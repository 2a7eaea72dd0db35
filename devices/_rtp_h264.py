"""H.264 out of RTP (RFC 6184): single NAL units, STAP-A and FU-A."""

from __future__ import annotations

__all__ = ["AccessUnit", "Depacketizer"]

from edgeagent.drivers import h264
from edgeagent_devices._rtp import AccessUnit, bare
from edgeagent_devices._rtp import Depacketizer as Base

_STAP_A, _FU_A = 24, 28
_BEFORE_SLICES = (h264.SEI, h264.SPS, h264.PPS, h264.AUD)


class Depacketizer(Base):
    """Makes access units of one H.264 stream's packets; `AccessUnit.nals` are its NAL units."""

    def _add(self, payload: bytes, marker: bool) -> None:
        payload = bare(payload)
        if not payload:
            return
        kind = payload[0] & 0x1F
        if kind == _FU_A:
            if len(payload) < 3:
                self._damaged = True
                return
            header = payload[1]
            nal_header = bytes((payload[0] & 0xE0 | header & 0x1F,))
            self._fragment(nal_header, payload[2:], first=bool(header & 0x80), last=bool(header & 0x40))
            return
        if self._fragments:  # the rest of a unit never came
            self._fragments, self._damaged = [], True
        if kind == _STAP_A:
            self._aggregate(payload[1:])
        elif 0 < kind < _STAP_A:
            self._keep(payload)
        else:
            self._damaged = True

    def _keep(self, nal: bytes, *, counted: bool = False) -> None:
        nal = bare(nal)
        if h264.nal_type(nal) in _BEFORE_SLICES and b"\0\0\1" in nal:  # no unit holds that: a camera puts several into one
            for part in h264.split_nals(h264.START_CODE + nal):
                super()._keep(part, counted=counted)
        else:
            super()._keep(nal, counted=counted)

    def _part_of(self, payload: bytes) -> str:
        payload = bare(payload)
        if len(payload) > 3 and payload[0] & 0x1F == _STAP_A:
            payload = bare(payload[3:])
        elif len(payload) > 2 and payload[0] & 0x1F == _FU_A:
            if not payload[1] & 0x80:
                return "rest"
            payload = bare(bytes((payload[1] & 0x1F,)) + payload[2:])
        if len(payload) > 1 and 0 < payload[0] & 0x1F <= h264.IDR:
            return "start" if payload[1] & 0x80 else "rest"  # first_mb_in_slice is 0, written as a single 1
        return "start"

    def _has_picture(self) -> bool:
        return any(0 < nal[0] & 0x1F <= h264.IDR for nal in self._nals if nal)

    def _is_keyframe(self, nals: list[bytes]) -> bool:
        return h264.is_keyframe(nals)
