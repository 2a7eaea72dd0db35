"""Where a stream's access units go: through untouched, or decoded and encoded on a thread of their own."""

from __future__ import annotations

__all__ = ["Encoding", "NeedsEncoding", "PassThrough", "Rendition", "Tick", "sprop"]

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from edgeagent.drivers import CameraIO, DeviceFault, EncodedFrame, ParameterSets, StreamInfo, VideoEncoder, h264
from edgeagent_devices._rtp import AccessUnit
from edgeagent_devices._rtsp_wire import Video

_log = logging.getLogger(__name__)

_TICKS_PER_S = 90_000
_AHEAD_S = 3.0  # by which one time stamp may run ahead of the clock: bursts, cameras with a picture each second or two
_BEHIND_S = 5.0  # by which one may stay behind it: a network that stood still
_ENOUGH = 0.75  # of a token: what comes a little early is on time
_MAX_TOKENS = 4.0  # stamps may come in steps of some pictures
_MAX_WAITING = 300  # access units
_MAX_WAITING_BYTES = 16_000_000


class Tick:
    """Makes media time of a layer's time stamps: from 0 on, always increasing, going on evenly when the camera sets its clock."""

    def __init__(self) -> None:
        self._reorder = 0
        self._last: int | None = None
        self._last_at = 0.0
        self._offset = 0
        self._anew = False

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
            return 0
        elapsed = round((now - self._last_at) * _TICKS_PER_S)
        step = timestamp + self._offset - self._last
        anew, self._anew = self._anew, False
        went_back = step < -self._reorder if self._reorder else step <= 0
        if anew or went_back or not elapsed - _BEHIND_S * _TICKS_PER_S <= step <= elapsed + _AHEAD_S * _TICKS_PER_S:
            self._offset += max(1, elapsed) - step
            step = max(1, elapsed)
        tick = self._last + step
        if step > 0:
            self._last, self._last_at = tick, now
        return tick


class NeedsEncoding(DeviceFault):
    """This H.264 cannot be passed through; the sentence says what to set in the camera."""


class PassThrough:
    """Hands H.264 on as it is, with parameter sets before each keyframe."""

    def __init__(self, io: CameraIO, video: Video, layer: str, tick: Tick) -> None:
        self._io, self._fps, self._layer, self._tick = io, video.fps, layer, tick
        tick.begin()
        self._sets = sprop(video)
        self._sps = b""
        self._info: StreamInfo | None = None
        self._playing = False

    def take(self, unit: AccessUnit) -> bool:
        """Hand over one access unit; whether it was one that can be shown.

        Raises:
            NeedsEncoding: Browsers do not show it.
            DeviceFault: Its SPS cannot be read.
        """
        own = ParameterSets.of(unit.nals)
        self._sets = self._sets.merged(own)
        if h264.contains_b_slice(unit.nals):
            raise NeedsEncoding("The camera sends B-frames, which browsers do not show. Set B-frames to 0 or off in the camera.")
        if not any(0 < h264.nal_type(nal) <= h264.IDR for nal in unit.nals):
            return False
        data = h264.join_nals(unit.nals)
        if unit.keyframe:
            if not self._sets:
                return False
            data = data if own else h264.with_parameter_sets(data, self._sets)
            self._describe()
            self._playing = True
        if self._playing:
            now = self._io.now()
            self._io.emit(EncodedFrame(data, unit.keyframe, self._tick.of(unit.timestamp, now), now, self._layer))
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
    """Decodes and encodes one layer on a thread of its own, so that the session goes on meanwhile.

    Args:
        io: The camera's.
        video: Of the SDP.
        layer: That is made.
        tick: The layer's.
        rendition: How.
        name: The camera's, for the log and the thread.
        extradata: Parameter sets of the SDP in Annex B form.
    """

    def __init__(
        self, io: CameraIO, video: Video, layer: str, tick: Tick, rendition: Rendition, *, name: str, extradata: bytes
    ) -> None:
        from edgeagent_devices._transcode import Transcoder

        codecs: dict[str, Literal["h264", "hevc", "mjpeg"]] = {"H264": "h264", "H265": "hevc", "JPEG": "mjpeg"}
        fps = min(video.fps, rendition.fps) if video.fps else 0.0
        self._io, self._layer, self._name = io, layer, name
        self._transcoder = Transcoder(
            _ThinnedIO(io, rendition.fps), codecs[video.codec], bitrate=rendition.bitrate, fps=fps, extradata=extradata,
            layer=layer, name=name, max_size=rendition.size,
        )  # fmt: skip
        self._codec, self._tick = video.codec, tick
        tick.begin(reorder_s=1.0)
        self._sets: list[bytes] = []
        self._waiting: deque[tuple[bytes, int, float]] = deque()
        self._waiting_bytes = 0
        self._skipping = False
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}-{layer}", daemon=True)
        self._thread.start()

    def take(self, unit: AccessUnit) -> bool:
        """Queue one access unit; one that finds no room is left out, with all up to the next keyframe.

        Raises:
            DeviceFault: The decoder or the encoder failed.
        """
        now = self._io.now()
        with self._changed:
            if self._error:
                raise self._error
        if not _has_picture(self._codec, unit.nals):  # parameter sets by themselves: they belong to what follows
            self._sets = unit.nals
            return False
        nals, self._sets = [*self._sets, *unit.nals], []
        data = nals[0] if self._codec == "JPEG" else h264.join_nals(nals)
        with self._changed:
            full = len(self._waiting) >= _MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES
            if full or (self._skipping and not unit.keyframe):
                if not self._skipping:
                    _log.warning(
                        "camera %s: the encoder is too slow for its %s picture; parts are left out", self._name, self._layer
                    )
                self._skipping = True
                return True
            self._skipping = False
            self._waiting.append((data, self._tick.of(unit.timestamp, now), now))
            self._waiting_bytes += len(data)
            self._changed.notify()
        return True

    def close(self) -> None:
        """Drop what waits, and wait until nothing is handed over any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._transcoder.close()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if not self._transcoder.feed(*item) and not self._io.wanted(self._layer):
                    self._io.alive()
        except BaseException as error:  # raised where the owner of this sink sees it
            with self._changed:
                self._error = error

    def _next(self) -> tuple[bytes, int, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            item = self._waiting.popleft()
            self._waiting_bytes -= len(item[0])
            return item


def _has_picture(codec: str, nals: list[bytes]) -> bool:
    match codec:
        case "H264":
            return any(0 < nal[0] & 0x1F <= h264.IDR for nal in nals)
        case "H265":
            return any(nal[0] >> 1 & 0x3F < 32 for nal in nals)
    return True


class _ThinnedIO:
    """A `CameraIO` whose encoder leaves out pictures above a frame rate."""

    def __init__(self, io: CameraIO, fps: float) -> None:
        self._io, self._fps = io, fps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io, name)

    def encoder(self, *, fps: float, **settings: Any) -> VideoEncoder:
        return _Thinned(self._io.encoder(fps=min(fps, self._fps), **settings), self._fps)


class _Thinned:
    """An encoder that is given no more than so many pictures a second on average: each takes a token, time brings them."""

    def __init__(self, encoder: VideoEncoder, fps: float) -> None:
        self._encoder, self._per_tick = encoder, fps / _TICKS_PER_S
        self._tokens = 1.0
        self._at: int | None = None
        self._captured_at = 0.0
        self._keyframe = False

    def encode(self, frame: Any, *, timestamp: int, captured_at: float, keyframe: bool = False) -> list[EncodedFrame]:
        elapsed = timestamp - self._at if self._at is not None else 0
        self._tokens = min(_MAX_TOKENS, self._tokens + elapsed * self._per_tick)
        self._at = timestamp
        self._captured_at = max(
            self._captured_at, captured_at
        )  # a picture that others refer to came before those it is shown after
        self._keyframe |= keyframe
        if self._tokens < _ENOUGH:
            return []
        self._tokens -= 1
        keyframe, self._keyframe = self._keyframe, False
        return self._encoder.encode(frame, timestamp=timestamp, captured_at=self._captured_at, keyframe=keyframe)

    def set_bitrate(self, bps: int) -> None:
        self._encoder.set_bitrate(bps)

    def close(self) -> None:
        self._encoder.close()
