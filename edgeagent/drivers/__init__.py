"""The public API for hardware: what a driver's file imports, and nothing else of the agent.

A camera driver is one file with one class: derive from `Camera`, declare `Options`, deliver frames in `run`, name it under the
entry-point group `edgeagent.drivers`, and let `edgeagent.drivers.conformance` test it. Names that are not in `__all__` may change.
"""

from __future__ import annotations

__all__ = [
    "Backoff",
    "Bitrate",
    "Camera",
    "CameraIO",
    "Capabilities",
    "DeviceFault",
    "EncodedFrame",
    "Found",
    "ParameterSets",
    "PictureSize",
    "Sps",
    "Renditions",
    "StreamInfo",
    "VideoEncoder",
    "h264",
    "stamp",
    "stream_info",
    "v4l2",
]

from edgeagent import v4l2
from edgeagent.core import h264, stamp
from edgeagent.core.backoff import Backoff
from edgeagent.core.h264 import ParameterSets, Sps
from edgeagent.drivers.camera import Camera, CameraIO, Capabilities, Found, VideoEncoder
from edgeagent.drivers.describe import stream_info
from edgeagent.drivers.options import Bitrate, PictureSize
from edgeagent.drivers.renditions import Renditions
from edgeagent.errors import DeviceFault
from edgeagent.model import EncodedFrame, StreamInfo
