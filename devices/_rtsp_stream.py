"""One stream of an IP camera: session, depacketizer and sinks, from opening to the end."""

from __future__ import annotations

__all__ = ["LOW", "MAIN", "SUB", "Settings", "Stream"]

import logging
import time
from dataclasses import dataclass

from edgeagent.drivers import CameraIO, DeviceFault, h264
from edgeagent_devices import _rtp_h264, _rtp_h265, _rtp_jpeg
from edgeagent_devices._reencode import leave_out
from edgeagent_devices._rtp import AccessUnit, Depacketizer
from edgeagent_devices._rtsp_session import Session, Stopped, Trust
from edgeagent_devices._rtsp_sinks import Encoding, NeedsEncoding, PassThrough, Rendition, Tick, has_picture, sprop
from edgeagent_devices._rtsp_wire import Address, Video

_log = logging.getLogger(__name__)

MAIN, SUB, LOW = "main", "sub", "low"
_NO_PICTURE_S = 12.0
_AFTER_SILENCE_S = 7.0  # and so long at least after the longest silence that is allowed
_REORDERED_S = 1.0  # by which time stamps may go back where there may be B-frames
_CODECS: dict[str, type[Depacketizer]] = {
    "H264": _rtp_h264.Depacketizer,
    "H265": _rtp_h265.Depacketizer,
    "JPEG": _rtp_jpeg.Depacketizer,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a stream is opened and shown.

    Attributes:
        udp: Over UDP instead of the RTSP connection.
        timeout_s: How long the camera may be silent.
        trust: Whose certificate is believed.
        encoded: How to encode what browsers do not show; None: complain instead.
        low: A further rendition to make of this stream while somebody watches it.
    """

    udp: bool
    timeout_s: float
    trust: Trust
    encoded: Rendition | None = None
    low: Rendition | None = None


class Stream:
    """A stream that can be played again and again.

    Args:
        name: The camera's.
        layer: That the stream is.
        address: Where it is.
        settings: As above.
    """

    def __init__(self, name: str, layer: str, address: Address, settings: Settings) -> None:
        self.layer = layer
        self._name, self._address, self._settings = name, address, settings
        self._markers_lie = False
        self._encode = False
        self._warned = False
        self._tick = Tick()

    @property
    def layers(self) -> tuple[str, ...]:
        """What is missing while it does not play: its own layer, and the small one where that is made of it."""
        return (self.layer, LOW) if self._settings.low else (self.layer,)

    def play(self, io: CameraIO) -> None:
        """Deliver the stream's pictures until `io.stopping`.

        Raises:
            DeviceFault: It cannot be opened, ends, or cannot be shown.
        """
        if self._settings.trust.insecure and not self._warned:
            self._warned = True
            _log.warning("camera %s: its certificate is not checked: whoever is in its network can pose as it", self._name)
        while not io.stopping.is_set():
            try:
                return self._play(io)
            except NeedsEncoding as fault:
                if not self._settings.encoded or self._encode:
                    raise
                self._encode = True  # opened again at once; from now on it is known
                _log.info("camera %s: its %s stream is transcoded. %s", self._name, self.layer, fault)

    def _play(self, io: CameraIO) -> None:
        settings = self._settings
        session = Session(
            self._address, udp=settings.udp, timeout_s=settings.timeout_s, stopping=io.stopping, trust=settings.trust,
            codecs=_CODECS if settings.encoded else ("H264",),
        )  # fmt: skip
        depacketizer: Depacketizer | None = None
        sinks: list[PassThrough | Encoding] = []
        try:
            video = session.open()
            depacketizer = _CODECS[video.codec](video.payload_type, markers_lie=self._markers_lie)
            self._add_sinks(sinks, io, video)
            shown_at = time.monotonic()
            playing = False
            limit_s = _NO_PICTURE_S
            for packet in session.packets():
                for unit in depacketizer.feed(packet):
                    if self._hand_over(io, video, unit, sinks):
                        shown_at, playing = time.monotonic(), True
                        limit_s = max(_NO_PICTURE_S, settings.timeout_s + _AFTER_SILENCE_S)
                if time.monotonic() - shown_at > limit_s:
                    raise DeviceFault(_no_picture(playing, limit_s))
        except Stopped:
            return
        finally:
            session.close()
            for sink in sinks:
                sink.close()
            if depacketizer is not None:
                self._markers_lie = depacketizer.markers_lie
                if depacketizer.lost:
                    _log.warning(
                        "camera %s: %d packets of its %s stream were lost on the way from the camera",
                        self._name, depacketizer.lost, self.layer,
                    )  # fmt: skip

    def _hand_over(self, io: CameraIO, video: Video, unit: AccessUnit, sinks: list[PassThrough | Encoding]) -> bool:
        """Give every sink the unit; whether the first, the stream's own, could use it. Another that fails is left out."""
        now = io.now()
        ticks = self._tick.of(unit.timestamp, now) if has_picture(video.codec, unit.nals) else None
        shown = sinks[0].take(unit, ticks, now)
        for sink in sinks[1:]:
            try:
                sink.take(unit, ticks, now)
            except Exception as error:  # a bug there must not cost the picture that is passed through
                sinks.remove(sink)
                leave_out(io, sink, LOW, error, name=self._name)
        return shown

    def _add_sinks(self, sinks: list[PassThrough | Encoding], io: CameraIO, video: Video) -> None:
        """The stream's own layer and the small one: one decoder serves both where both are encoded here."""
        settings = self._settings
        layers: dict[str, Rendition] = {}
        encode = settings.encoded if self._encode or video.codec != "H264" else None
        if encode:
            layers[self.layer] = encode
        else:
            sinks.append(PassThrough(io, video, self.layer))
        if settings.low:
            layers[LOW] = settings.low
        self._tick.begin(reorder_s=_REORDERED_S if encode else 0.0)
        if layers:
            sinks.append(Encoding(io, video, layers, name=self._name, extradata=_extradata(video)))


def _extradata(video: Video) -> bytes:
    if video.codec == "H265":
        return _rtp_h265.parameter_sets(video.fmtp)
    sets = sprop(video)
    return h264.join_nals((*sets.sps, *sets.pps)) if sets else b""


def _no_picture(playing: bool, limit_s: float) -> str:
    if playing:
        return f"The camera has sent no whole picture for {limit_s:.0f} seconds; the network loses too much of it."
    return "The camera sends no keyframes. Set its keyframe (I-frame) interval to one or two seconds."
