"""The vocabulary that every part shares: plain values, no behaviour worth testing alone."""

from __future__ import annotations

__all__ = [
    "CameraPhase",
    "CameraStatus",
    "Capabilities",
    "DevicePhase",
    "EncodedFrame",
    "Principal",
    "Right",
    "StreamInfo",
    "Value",
]

import enum
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = float | bool | str
"""What a sensor's reading may be."""
Right: TypeAlias = Literal["watch", "operate", "admin"]


@dataclass(slots=True, frozen=True)
class Principal:
    """Who somebody is, and what he may do. Everybody may watch, and stop whatever moves.

    Attributes:
        name: For people and for the log; "" for whoever has not said who he is.
        rights: `operate`: drive, switch, end an emergency stop; `admin`: also take a lease from its holder.
    """

    name: str = ""
    rights: frozenset[Right] = frozenset({"watch"})


@dataclass(slots=True, frozen=True)
class EncodedFrame:
    """One access unit of a camera's layer.

    Attributes:
        data: H.264 in Annex B form (start codes); SPS and PPS stand before each IDR. No B-frames.
        keyframe: Whether decoding can start here (IDR with its parameter sets).
        timestamp: Media time in ticks of 90 kHz, not wrapped, increasing within one run of the camera.
        captured_at: `time.monotonic()` in seconds when the picture was taken (or arrived, for an IP camera).
        layer: Which rendition of the camera this is.
    """

    data: bytes
    keyframe: bool
    timestamp: int
    captured_at: float
    layer: str = "main"


@dataclass(slots=True, frozen=True)
class StreamInfo:
    """What a running layer delivers, as read from its SPS or its settings.

    Attributes:
        width: Pixels; 0 while unknown.
        height: Pixels; 0 while unknown.
        fps: Nominal frames a second; 0 while unknown.
        profile_level_id: Six hex digits of the SPS (RFC 6184, 8.1), "" while unknown.
        encoded: Whether the layer is encoded here although the camera's capabilities do not promise it: keyframe requests and
            bitrate wishes of this layer are then honoured as if `keyframe_on_demand` and `live_bitrate` were true.
        bitrate: The highest rate of a layer that is encoded here, in bit/s; 0 where only measuring tells.
        absent: The open camera turned out not to have this layer (H.264 that goes through untouched has no small rendition). It is
            offered to nobody until it is described anew.
        fault: Why it is absent for now, a sentence for the owner; "" where there just is no such layer.
    """

    width: int = 0
    height: int = 0
    fps: float = 0.0
    profile_level_id: str = ""
    encoded: bool = False
    bitrate: int = 0
    absent: bool = False
    fault: str = ""


class CameraPhase(enum.StrEnum):
    """Where a camera is in its life."""

    OFF = "off"  # nobody needs it
    STARTING = "starting"
    LIVE = "live"
    RETRYING = "retrying"  # failed or stalled; opened again after a back-off
    FAILED = "failed"  # only a changed configuration should help; looked at again after ten minutes all the same


class DevicePhase(enum.StrEnum):
    """Where a sensor or an actuator is in its life: as a camera, but never off."""

    STARTING = "starting"
    LIVE = "live"
    RETRYING = "retrying"
    FAILED = "failed"


@dataclass(slots=True, frozen=True)
class CameraStatus:
    """A camera's phase and, where it is not live, the reason in one sentence for a homeowner."""

    phase: CameraPhase
    text: str = ""
    info: StreamInfo = StreamInfo()


@dataclass(slots=True, frozen=True)
class Capabilities:
    """What a camera can do while it runs; the hub decides by these, never by the driver's name.

    Attributes:
        keyframe_on_demand: `CameraIO.take_keyframe_request` is honoured, within a frame or two.
            Where false, the hub keeps the current GOP and replays it to a newcomer.
        live_bitrate: `CameraIO.target_bitrate` is honoured without a restart and without an IDR.
        layers: Names of the renditions, best first. Where only the open camera tells whether there is one, name it, and let
            `StreamInfo.absent` take it back.
        bitrates: The highest rate of each layer in bit/s, as the owner set it; 0, or a shorter list, where only measuring tells.
        always_on: The source is kept open when nobody watches (an IP camera that takes long to open).
        sizes: Width and height that each layer is planned to have; (0, 0), or a shorter list, where only opening the camera tells.
    """

    keyframe_on_demand: bool = False
    live_bitrate: bool = False
    layers: tuple[str, ...] = ("main",)
    bitrates: tuple[int, ...] = ()
    always_on: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
