"""What an access unit says about its stream."""

from __future__ import annotations

__all__ = ["stream_info"]

from edgeagent.core.h264 import SPS, nal_type, parse_sps, split_nals
from edgeagent.model import StreamInfo


def stream_info(data: bytes, fps: float = 0.0) -> StreamInfo | None:
    """Size and profile by the SPS in an Annex B access unit; None where it has none that can be read.

    Args:
        data: A keyframe, or an encoder's extradata.
        fps: The nominal rate where it is known better than from the SPS; 0 takes the SPS's.
    """
    for nal in split_nals(data):
        if nal_type(nal) == SPS:
            try:
                sps = parse_sps(nal)
            except ValueError:
                return None
            return StreamInfo(sps.width, sps.height, fps or sps.fps, sps.profile_level_id)
    return None
