"""The public API for hardware: what a driver's file imports, and nothing else of the agent.

A driver is one file with one class. A camera derives from `Camera` and delivers frames in `run`; anything else derives from
`Sensor`, `Actuator` or both. It declares `Options`, is named under the entry-point group `edgeagent.drivers` or lies in the owner's
`drivers_dir`, and is tested by `edgeagent.drivers.conformance`; docs/drivers.md shows the way. Names that are not in `__all__` may
change.
"""

from __future__ import annotations

__all__ = [
    "Actuator",
    "Axis",
    "Backoff",
    "Bitrate",
    "Camera",
    "CameraIO",
    "Capabilities",
    "DeviceFault",
    "Driver",
    "EncodedFrame",
    "Found",
    "ParameterSets",
    "PeerError",
    "PictureSize",
    "Reading",
    "Readings",
    "Renditions",
    "Sensor",
    "Sps",
    "StreamInfo",
    "Value",
    "VideoEncoder",
    "command",
    "h264",
    "picture_rate",
    "stamp",
    "stream_info",
    "v4l2",
]

from edgeagent import v4l2
from edgeagent.core import h264, stamp
from edgeagent.core.backoff import Backoff
from edgeagent.core.h264 import ParameterSets, Sps
from edgeagent.core.layers import picture_rate
from edgeagent.drivers.camera import Camera, CameraIO, Capabilities, Found, VideoEncoder
from edgeagent.drivers.describe import stream_info
from edgeagent.drivers.device import Actuator, Axis, Driver, Reading, Readings, Sensor, command
from edgeagent.drivers.options import Bitrate, PictureSize
from edgeagent.drivers.renditions import Renditions
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.model import EncodedFrame, StreamInfo, Value
