"""The layers that a driver encodes itself from one sequence of raw pictures: `main`, and a small `low` while somebody needs it."""

from __future__ import annotations

__all__ = ["Renditions"]

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeagent.core.layers import low_layer, picture_rate
from edgeagent.drivers.camera import CameraIO, VideoEncoder
from edgeagent.drivers.describe import stream_info
from edgeagent.model import Capabilities, EncodedFrame, StreamInfo


@dataclass(slots=True)
class _Layer:
    name: str
    width: int
    height: int
    bitrate: int
    encoder: VideoEncoder | None = None
    info: StreamInfo | None = None
    due: float = -math.inf  # number of the next picture to encode, where some are left out


@dataclass(slots=True)
class Renditions:
    """Encodes each picture for every layer that is wanted, at the rates that the hub asks for.

    Where a rate is too low for all pictures to look well, some are left out before they are encoded.

    Args:
        width: Of the pictures, and of the layer `main`, in pixels.
        height: The same.
        fps: Nominal pictures a second.
        bitrate: The highest rate of `main` in bit/s.
        options: For libav's encoder.
    """

    width: int
    height: int
    fps: float
    bitrate: int
    options: dict[str, str] = field(default_factory=dict)
    _layers: list[_Layer] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self._layers = [_Layer("main", self.width, self.height, self.bitrate)]
        small = low_layer(self.width, self.height, self.bitrate)
        if small is not None:
            self._layers.append(_Layer("low", *small))

    @property
    def capabilities(self) -> Capabilities:
        """Of a camera whose pictures are all encoded here."""
        names, rates = tuple(layer.name for layer in self._layers), tuple(layer.bitrate for layer in self._layers)
        sizes = tuple((layer.width, layer.height) for layer in self._layers)
        return Capabilities(keyframe_on_demand=True, live_bitrate=True, layers=names, bitrates=rates, sizes=sizes)

    def encode(self, io: CameraIO, picture: Any, *, number: int, timestamp: int, captured_at: float) -> Iterator[EncodedFrame]:
        """Encode one `av.VideoFrame` for each layer that is wanted, and describe a layer before its first frame.

        Args:
            io: Of the running camera.
            picture: Of the size given; it is not changed.
            number: Of the picture, rising by one with each at the nominal rate, by more where the board was too slow for some.
            timestamp: Ticks of 90 kHz.
            captured_at: `io.now()` of the picture.
        """
        wanted, skipped = False, number - self._number - 1
        self._number = number
        for layer in self._layers:
            if not io.wanted(layer.name):
                if layer.encoder is not None:  # opened anew when it is needed, with a keyframe and for the rate of then
                    layer.encoder.close()
                    layer.encoder = None
                continue
            wanted = True
            if layer.encoder is not None and skipped > 0:
                io.too_slow(layer.name, skipped)
            yield from self._encode(io, layer, picture, number, timestamp, captured_at)
        if not wanted:
            io.alive()

    def _encode(
        self, io: CameraIO, layer: _Layer, picture: Any, number: int, timestamp: int, captured_at: float
    ) -> Iterator[EncodedFrame]:
        rate = min(layer.bitrate, io.target_bitrate(layer.name) or layer.bitrate)
        fps = picture_rate(layer.width, layer.height, self.fps, rate)
        keyframe = io.take_keyframe_request(layer.name)
        if layer.encoder is None:
            layer.encoder = io.encoder(
                width=layer.width, height=layer.height, fps=self.fps, bitrate=layer.bitrate, layer=layer.name, options=self.options
            )
            keyframe, layer.due = True, -math.inf
        if number < layer.due - 0.5 and not keyframe:
            return
        step = self.fps / fps
        layer.due = number + step if number > layer.due + step else layer.due + step
        # The encoder counts pictures, not time: of fewer pictures each gets more.
        layer.encoder.set_bitrate(round(rate * step))
        for frame in layer.encoder.encode(picture, timestamp=timestamp, captured_at=captured_at, keyframe=keyframe):
            if frame.keyframe and layer.info is None:
                layer.info = stream_info(frame.data, self.fps) or StreamInfo(layer.width, layer.height, self.fps)
                io.describe(layer.info, layer.name)
            yield frame

    def close(self) -> None:
        """Close the encoders; the next `encode` opens them anew."""
        for layer in self._layers:
            if layer.encoder is not None:
                layer.encoder.close()
            layer.encoder = layer.info = None
