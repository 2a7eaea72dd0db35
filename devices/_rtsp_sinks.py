"""Where a stream's access units go: through untouched, or decoded and encoded on a thread of their own."""

from __future__ import annotations

__all__ = ["Encoding", "NeedsEncoding", "PassThrough", "Rendition", "Tick", "has_picture", "sprop"]

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeagent.drivers import CameraIO, DeviceFault, EncodedFrame, ParameterSets, StreamInfo, h264
from edgeagent_devices._rtp import AccessUnit
from edgeagent_devices._rtsp_wire import Video

_TICKS_PER_S = 90_000
_AHEAD_S = 3.0  # by which one time stamp may run ahead of the clock: bursts, cameras with a picture each second or two
_BEHIND_S = 5.0  # by which one may stay behind it: a network that stood still
_WINDOW_S = 3.0  # over which the earliest picture is looked for; a new session may first send what it has kept
_EARLY_S = 0.3  # by which one may come before the earliest of them: what is held up comes late, never early
_DRIFT = 0.01  # by which a camera's clock may be too fast or too slow for good, and is followed


class Tick:
    """Makes media time of a stream's time stamps: from 0 on, always increasing, going on evenly when the camera sets its clock."""

    def __init__(self) -> None:
        self._reorder = 0
        self._last: int | None = None
        self._last_at = 0.0
        self._offset = 0
        self._anew = False
        self._lead = _Lead()

    def begin(self, reorder_s: float = 0.0) -> None:
        """Expect the time stamps of a session that was just opened.

        Args:
            reorder_s: By how much they may go back because pictures come in decoding order; 0 where they always increase.
        """
        self._reorder = round(reorder_s * _TICKS_PER_S)
        self._anew = True

    def of(self, timestamp: int, now: float) -> int:
        """Ticks of 90 kHz for an access unit that came at `now`; above those of the one before, but for `reorder_s`."""
        if self._last is None:
            self._offset, self._last, self._last_at, self._anew = -timestamp, 0, now, False
            self._lead.begin(0, now)
            return 0
        elapsed = round((now - self._last_at) * _TICKS_PER_S)
        step = timestamp + self._offset - self._last
        anew, self._anew = self._anew, False
        went_back = step < -self._reorder if self._reorder else step <= 0
        near = elapsed - _BEHIND_S * _TICKS_PER_S <= step <= elapsed + _AHEAD_S * _TICKS_PER_S
        if anew or went_back or not near or self._lead.is_early(self._last + step - self._reorder, now):
            self._offset += max(1, elapsed) - step
            step = max(1, elapsed)
        tick = self._last + step
        if anew:
            self._lead.begin(tick, now)
        elif step > 0:
            self._lead.note(tick, now)
        if step > 0:
            self._last, self._last_at = tick, now
        return tick


class _Lead:
    """By how much a session's time stamps run ahead of our clock at the most: many small steps forward are a large one."""

    def begin(self, tick: int, now: float) -> None:
        self._most = self._newest = tick - now * _TICKS_PER_S  # ever, but for the drift; in the window
        self._window_at = now
        self._known = False

    def is_early(self, tick: float, now: float) -> bool:
        """Whether a picture with this media time would be too early to be true."""
        return self._known and tick - now * _TICKS_PER_S > self._most + _EARLY_S * _TICKS_PER_S

    def note(self, tick: int, now: float) -> None:
        """Take a picture's media time."""
        self._newest = max(self._newest, tick - now * _TICKS_PER_S)
        if not self._known:
            self._most = self._newest
        if now - self._window_at < _WINDOW_S:
            return
        drift = _DRIFT * _WINDOW_S * _TICKS_PER_S
        self._most += max(-drift, min(drift, self._newest - self._most))
        self._known, self._window_at, self._newest = True, now, -math.inf


class NeedsEncoding(DeviceFault):
    """This H.264 cannot be passed through; the sentence says what to set in the camera."""


class PassThrough:
    """Hands H.264 on as it is, with parameter sets before each keyframe."""

    def __init__(self, io: CameraIO, video: Video, layer: str) -> None:
        self._io, self._fps, self._layer = io, video.fps, layer
        self._sets = sprop(video)
        self._sps = b""
        self._info: StreamInfo | None = None
        self._playing = False

    def take(self, unit: AccessUnit, ticks: int | None, now: float) -> bool:
        """Hand over one access unit; whether it was one that can be shown.

        Args:
            unit: In decoding order.
            ticks: Its media time; None where it holds no picture.
            now: `CameraIO.now()` when it came.

        Raises:
            NeedsEncoding: Browsers do not show it.
            DeviceFault: Its SPS cannot be read.
        """
        own = ParameterSets.of(unit.nals)
        self._sets = self._sets.merged(own)
        if h264.contains_b_slice(unit.nals):
            raise NeedsEncoding("The camera sends B-frames, which browsers do not show. Set B-frames to 0 or off in the camera.")
        if ticks is None:
            return False
        data = h264.join_nals(unit.nals)
        if unit.keyframe:
            if not self._sets:
                return False
            data = data if own else h264.with_parameter_sets(data, self._sets)
            self._describe()
            self._playing = True
        if self._playing:
            self._io.emit(EncodedFrame(data, unit.keyframe, ticks, now, self._layer))
        return self._playing

    def close(self) -> None:
        """Nothing is held."""

    def _describe(self) -> None:
        if self._sets.sps[-1] == self._sps:
            return
        self._sps = self._sets.sps[-1]
        try:
            sps = h264.parse_sps(self._sps)
        except ValueError:
            raise DeviceFault("The camera's H.264 cannot be read.") from None
        if sps.chroma_format_idc != 1 or sps.bit_depth != 8:
            raise NeedsEncoding("The camera sends a kind of H.264 that browsers do not show. Set its profile to Main or Baseline.")
        info = StreamInfo(sps.width, sps.height, self._fps or round(sps.fps, 3), sps.profile_level_id)
        if info != self._info:
            self._info = info
            self._io.describe(info, self._layer)


def sprop(video: Video) -> ParameterSets:
    """H.264's parameter sets in the SDP; empty where they come with the keyframes."""
    try:
        return h264.parse_sprop(video.fmtp.get("sprop-parameter-sets", ""))
    except ValueError:
        return ParameterSets()


@dataclass(frozen=True, slots=True)
class Rendition:
    """What is encoded here: largest size in pixels, most frames a second, bit/s while the agent has no wish."""

    size: tuple[int, int]
    fps: float
    bitrate: int


class Encoding:
    """Decodes once and encodes one layer or two, on a thread of its own, so that the session goes on meanwhile.

    Args:
        io: The camera's.
        video: Of the SDP.
        layers: How each is made, best first.
        name: The camera's, for the log and the thread.
        extradata: Parameter sets of the SDP in Annex B form.
    """

    def __init__(self, io: CameraIO, video: Video, layers: Mapping[str, Rendition], *, name: str, extradata: bytes) -> None:
        from edgeagent_devices._reencode import Reencoder, Reencoders
        from edgeagent_devices._transcode import Codec, Transcoder
        from edgeagent_devices._transcode_thread import TranscodeThread

        codecs: dict[str, Codec] = {"H264": "h264", "H265": "hevc", "JPEG": "mjpeg"}
        colorspace = "smpte170m" if video.codec == "JPEG" else ""
        encoders = [
            Reencoder(
                io, bitrate=how.bitrate, fps=video.fps, layer=layer, max_size=how.size, max_fps=how.fps, colorspace=colorspace
            )
            for layer, how in layers.items()
        ]  # fmt: skip
        for encoder in encoders:
            encoder.offer()
        transcoder = Transcoder(io, codecs[video.codec], Reencoders(io, encoders, name=name), extradata=extradata, name=name)
        self._codec = video.codec
        self._sets: list[bytes] = []
        self._thread = TranscodeThread(transcoder, name=name, layer=encoders[0].layer)

    def take(self, unit: AccessUnit, ticks: int | None, now: float) -> bool:
        """Queue one access unit; whether it holds a picture. Arguments as for `PassThrough.take`.

        Raises:
            DeviceFault: The decoder or the encoder failed.
        """
        if ticks is None:  # parameter sets by themselves: they belong to what follows
            self._sets = unit.nals
            return False
        nals, self._sets = [*self._sets, *unit.nals], []
        data = nals[0] if self._codec == "JPEG" else h264.join_nals(nals)
        self._thread.take(data, ticks, now, keyframe=unit.keyframe)
        return True

    def close(self) -> None:
        """Drop what waits, and wait until nothing is handed over any more."""
        self._thread.close()


def has_picture(codec: str, nals: list[bytes]) -> bool:
    """Whether an access unit holds more than parameter sets and the like."""
    match codec:
        case "H264":
            return any(0 < nal[0] & 0x1F <= h264.IDR for nal in nals)
        case "H265":
            return any(nal[0] >> 1 & 0x3F < 32 for nal in nals)
    return True
