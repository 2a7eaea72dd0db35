"""The camera API: what a driver author writes, and what the agent hands to it."""

from __future__ import annotations

__all__ = ["Camera", "CameraIO", "Capabilities", "Found", "VideoEncoder"]

import abc
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from edgeagent.model import Capabilities, EncodedFrame, StreamInfo


@dataclass(frozen=True, slots=True)
class Found:
    """A camera that `Camera.discover` found.

    Attributes:
        title: What a person recognises it by: maker, model, where it is plugged in.
        options: The keys to write below its name, ready for `Options`: plain strings, numbers, booleans and lists. A secret that
            the owner must fill in stands there as a word like `user` or `password`, never a real one.
        remarks: Sentences for the owner: what it offers (sizes, formats, streams), or what he has to do first.
        ask: Where `Camera.ask` learns more with a user name and password; "" where everything is known.
    """

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    ask: str = ""


class VideoEncoder(Protocol):
    """An H.264 encoder as `CameraIO.encoder` makes it: constrained baseline, no B-frames, one slice,
    SPS and PPS with every IDR, the level that size and rate demand."""

    def encode(self, frame: Any, *, timestamp: int, captured_at: float, keyframe: bool = False) -> list[EncodedFrame]:
        """Encode one `av.VideoFrame`; `timestamp` in 90 kHz ticks. Blocks for the time that it takes."""

    def set_bitrate(self, bps: int) -> None:
        """Change the rate of a running encoder, without an IDR."""

    def close(self) -> None: ...


class CameraIO(Protocol):
    """What the agent hands to a running camera. Every method may be called from any thread and never blocks."""

    stopping: threading.Event
    """Set when the camera shall return from `run`; wait on it instead of sleeping."""

    def emit(self, frame: EncodedFrame) -> None:
        """Hand over one access unit; of a recording up to a second before its `captured_at`: it is delivered when that comes."""

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        """Say what the layer delivers; again when it changes."""

    def take_keyframe_request(self, layer: str = "main") -> bool:
        """Whether a keyframe was asked for since the last call; the request is then taken."""

    def target_bitrate(self, layer: str = "main") -> int | None:
        """The rate in bit/s that the hub wants now, or None while it has no wish."""

    def wanted(self, layer: str = "main") -> bool:
        """Whether somebody watches this layer now. One that costs work may rest while nobody does; it goes on with a keyframe."""

    def alive(self) -> None:
        """Say that the camera works although it hands over nothing, because nobody wants what it has. Else silence is a fault."""

    def too_slow(self, layer: str = "main", pictures: int = 1) -> None:
        """Say that so many pictures of a layer were left out because this board is too slow to encode all. Viewers are told."""

    def encoder(
        self, *, width: int, height: int, fps: float, bitrate: int, layer: str = "main", options: dict[str, str] | None = None
    ) -> VideoEncoder:
        """Make an encoder for raw frames of this camera. Hardware where the board has it."""

    def now(self) -> float:
        """`time.monotonic()` of the agent, the clock of `EncodedFrame.captured_at`."""


class Camera(abc.ABC):
    """Base of camera drivers: one file, one class, one thread.

    A driver is found by its entry point in the group `edgeagent.drivers`; its `Options` are the keys that
    the owner may write below the camera's name. `run` is called on a thread of its own and again, after a
    back-off, whenever it returns or raises before `io.stopping` is set.
    """

    class Options(BaseModel, extra="forbid"):
        """Pydantic model of this driver's keys in the configuration."""

    summary: ClassVar[str] = ""
    """One line for `edgeagent drivers`."""

    stamped: ClassVar[bool] = False
    """Whether the pictures carry the stamp of `edgeagent.core.stamp`."""

    networked: ClassVar[bool] = False
    """Whether `discover` asks the network, which takes time; else it looks at this machine alone."""

    stall_s: float = 0.0
    """How long the camera may hand over nothing while it is live, where that is longer than the agent's five seconds."""

    def __init__(self, name: str, options: Any) -> None:
        self.name = name
        self.options = options

    @property
    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What this camera can do, known before it runs."""

    def prepare(self) -> None:  # noqa: B027  most drivers have nothing to prepare
        """Do what is slow and needs no picture yet (load a library, draw); called once, on a thread, soon after the agent started.

        `run` may be called before, meanwhile or after.
        """

    @abc.abstractmethod
    def run(self, io: CameraIO) -> None:
        """Deliver frames until `io.stopping` is set. Raise `DeviceFault` with a sentence for the owner."""

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        """The cameras for this driver that this machine has or can see; needs no configuration and changes nothing. May block.

        Args:
            timeout_s: How long to wait for answers, where a network is asked.

        Raises:
            DeviceFault: Nothing can be looked for, and why.
        """
        return ()

    @classmethod
    def ask(cls, found: Found, user: str, password: str, timeout_s: float = 3.0) -> Sequence[Found]:
        """What a found camera with `Found.ask` tells to a user who may log in there; one device may be several cameras.

        Raises:
            DeviceFault: It does not tell, and why.
        """
        return (found,)

    def secrets(self) -> Sequence[str]:
        """Strings (passwords) that must never appear in a log or on a page."""
        return ()
