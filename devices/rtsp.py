"""Driver `rtsp`: an IP camera, its H.264 passed through untouched.

The client is our own: nothing is probed, since size and parameter sets stand in the SDP, and a picture leaves with its last
packet; libav's parser would hold each one back until the next began (34 ms at 30 frames a second, 67 at 15).
"""

from __future__ import annotations

__all__ = ["RtspCamera"]

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from edgeagent_devices._rtp_h264 import AccessUnit, Depacketizer
from edgeagent_devices._rtsp_session import Session, Stopped
from edgeagent_devices._rtsp_wire import Address, Video
from pydantic import BaseModel, Field, SecretStr, field_validator

from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, EncodedFrame, ParameterSets, StreamInfo, h264

_log = logging.getLogger(__name__)

_TICKS_PER_S = 90_000
_JUMP_S = 5.0  # by which the camera's clock may leave ours before time stamps begin anew
_NO_KEYFRAME_S = 12.0


class RtspCamera(Camera):
    """Plays an IP camera by RTSP."""

    summary: ClassVar[str] = "An IP camera (RTSP, H.264), passed through untouched"

    class Options(BaseModel, extra="forbid", hide_input_in_errors=True):
        """The keys of an `rtsp` camera."""

        url: str = Field(description="Like rtsp://192.168.1.20:554/stream1")
        transport: Literal["tcp", "udp"] = Field(default="tcp", description="udp only where the camera has no tcp")
        on_demand: bool = Field(default=False, description="Open the camera only while somebody watches")
        username: str = Field(default="", description="Where it does not stand in the URL")
        password: SecretStr = Field(default=SecretStr(""), description="Where it does not stand in the URL")
        timeout_s: float = Field(default=5.0, ge=1, le=60, description="Seconds that the camera may be silent")

        @field_validator("url")
        @classmethod
        def _address(cls, url: str) -> str:
            Address.parse(url)
            return url

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._markers_lie = False

    @property
    def capabilities(self) -> Capabilities:
        """Nothing can be asked of an IP camera while it plays; it is kept open, because opening takes up to a GOP."""
        return Capabilities(always_on=not self.options.on_demand)

    def run(self, io: CameraIO) -> None:
        """Deliver the camera's pictures until `io.stopping`."""
        options = self.options
        session = Session(self._address(), udp=options.transport == "udp", timeout_s=options.timeout_s, stopping=io.stopping)
        depacketizer = None
        try:
            video = session.open()
            depacketizer = Depacketizer(video.payload_type, markers_lie=self._markers_lie)
            sink = _Sink(io, video)
            for packet in session.packets():
                for unit in depacketizer.feed(packet):
                    sink.take(unit)
                sink.check()
        except Stopped:
            return
        finally:
            session.close()
            if depacketizer is not None:
                self._markers_lie = depacketizer.markers_lie
                if depacketizer.lost:
                    _log.warning("camera %s: %d packets were lost on the way from the camera", self.name, depacketizer.lost)

    def secrets(self) -> Sequence[str]:
        """The password, plain and as it stands in URLs, and what looks like one in the query."""
        password = self._address().password
        query = [
            value for key, value in parse_qsl(urlsplit(self.options.url).query) if "pass" in key.lower() or "pwd" in key.lower()
        ]
        return [text for plain in (password, *query) if plain for text in {plain, quote(plain), quote(plain, safe="")}]

    def _address(self) -> Address:
        return Address.parse(self.options.url, self.options.username, self.options.password.get_secret_value())


class _Sink:
    """Turns access units into frames: parameter sets, description, time stamps."""

    def __init__(self, io: CameraIO, video: Video) -> None:
        self._io, self._fps = io, video.fps
        try:
            self._sets = h264.parse_sprop(video.fmtp.get("sprop-parameter-sets", ""))
        except ValueError:  # then they come with the keyframes
            self._sets = ParameterSets()
        self._sps = b""
        self._info: StreamInfo | None = None
        self._opened_at = io.now()
        self._playing = False
        self._last = -1
        self._last_at = 0.0
        self._offset = 0

    def take(self, unit: AccessUnit) -> None:
        """Hand over one access unit."""
        own = ParameterSets.of(unit.nals)
        self._sets = self._sets.merged(own)
        if h264.contains_b_slice(unit.nals):
            raise DeviceFault("The camera sends B-frames, which browsers do not show. Set B-frames to 0 or off in the camera.")
        if not any(0 < h264.nal_type(nal) <= h264.IDR for nal in unit.nals):
            return
        data = h264.join_nals(unit.nals)
        if unit.keyframe:
            if not self._sets:
                return
            data = data if own else h264.with_parameter_sets(data, self._sets)
            self._describe()
            self._playing = True
        if self._playing:
            now = self._io.now()
            self._io.emit(EncodedFrame(data, unit.keyframe, self._tick(unit.timestamp, now), now))

    def check(self) -> None:
        """Complain where packets come but nothing that can be shown."""
        if not self._playing and self._io.now() - self._opened_at > _NO_KEYFRAME_S:
            raise DeviceFault("The camera sends no keyframes. Set its keyframe (I-frame) interval to one or two seconds.")

    def _describe(self) -> None:
        if self._sets.sps[-1] == self._sps:
            return
        self._sps = self._sets.sps[-1]
        try:
            sps = h264.parse_sps(self._sps)
        except ValueError:
            raise DeviceFault("The camera's H.264 cannot be read.") from None
        if sps.chroma_format_idc != 1 or sps.bit_depth != 8:
            raise DeviceFault("The camera sends a kind of H.264 that browsers do not show. Set its profile to Main or Baseline.")
        info = StreamInfo(sps.width, sps.height, self._fps or round(sps.fps, 3), sps.profile_level_id)
        if info != self._info:
            self._info = info
            self._io.describe(info)

    def _tick(self, timestamp: int, now: float) -> int:
        """The camera's time stamp, from 0 on and always increasing."""
        if self._last < 0:
            self._offset = -timestamp
        else:
            due = self._last + round((now - self._last_at) * _TICKS_PER_S)
            if abs(timestamp + self._offset - due) > _JUMP_S * _TICKS_PER_S:  # the camera set its clock
                self._offset = due - timestamp
        self._last, self._last_at = max(self._last + 1, timestamp + self._offset), now
        return self._last
