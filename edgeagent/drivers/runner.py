"""Runs a camera's driver on a thread of its own and brings what it delivers to the event loop.

The decisions (when to run it again, what to tell people) are `edgeagent.core.camera_life`'s; here are thread, queue and timer.
"""

from __future__ import annotations

__all__ = ["CameraRunner", "EncoderFactory"]

import asyncio
import dataclasses
import logging
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edgeagent.core.camera_life import (
    Abandon,
    CameraLife,
    Described,
    Effect,
    End,
    Ended,
    Event,
    Frames,
    LifePolicy,
    LifeState,
    Report,
    Run,
    Start,
    Stop,
)
from edgeagent.core.faultlog import FaultLog, duration
from edgeagent.drivers.camera import Camera, VideoEncoder
from edgeagent.drivers.faults import hide
from edgeagent.errors import DeviceFault
from edgeagent.model import CameraPhase, CameraStatus, EncodedFrame, StreamInfo

_log = logging.getLogger(__name__)

_DUE_S = 0.0005


class EncoderFactory(Protocol):
    """Makes the encoder behind `CameraIO.encoder`; called on the camera's thread.

    `bitrate` is what to begin with, `max_bitrate` the highest that will be asked for.
    """

    def __call__(
        self,
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        layer: str = "main",
        options: dict[str, str] | None = None,
        max_bitrate: int | None = None,
    ) -> VideoEncoder: ...


class CameraRunner:
    """Keeps one camera running from `start` to `stop`. All methods and all callbacks belong to the event loop.

    Args:
        camera: The driver.
        on_frame: Gets each frame.
        on_status: Gets each change of phase, text or description.
        on_info: Gets what a layer delivers: name and description.
        on_too_slow: Gets how many pictures of a layer the board was too slow for since the last time: name and number.
        encoder_factory: Makes encoders for the driver.
        clock: `time.monotonic` or its stand-in.
        policy: Time-outs and back-off.
        max_pending: Frames that may wait for a loop that lags. Beyond it frames are dropped (and counted) up to
            the layer's next keyframe, which is asked for.
        random01: Random numbers from 0 to 1 for the back-off.
    """

    def __init__(
        self,
        camera: Camera,
        *,
        on_frame: Callable[[EncodedFrame], None],
        on_status: Callable[[CameraStatus], None],
        on_info: Callable[[str, StreamInfo], None],
        encoder_factory: EncoderFactory,
        on_too_slow: Callable[[str, int], None] = lambda layer, pictures: None,
        clock: Callable[[], float] = time.monotonic,
        policy: LifePolicy | None = None,
        max_pending: int = 120,
        random01: Callable[[], float] = random.random,
    ) -> None:
        self.camera = camera
        self.dropped = 0
        """Frames lost because the loop lagged, since the runner was made."""
        self.rests = 0
        """How often its driver said, live, that it is alive, instead of a frame that nobody wants."""
        self._on_frame, self._on_status, self._on_info = on_frame, on_status, on_info
        self._on_too_slow = on_too_slow
        self._encoder_factory, self._clock, self._random01 = encoder_factory, clock, random01
        policy = policy or LifePolicy()
        self.stall_s = max(policy.stall_s, camera.stall_s)
        """How long the camera may send nothing while it is live."""
        self._life = CameraLife(dataclasses.replace(policy, stall_s=self.stall_s))
        self._max_pending = max_pending
        self._bitrates: dict[str, int] = {}
        self._unwanted: set[str] = set()
        self._io: _RunIO | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: list[asyncio.Future[None]] = []
        self._told: CameraPhase | None = None
        self._faults, self._bugs = FaultLog(), FaultLog()

    @property
    def runs(self) -> int:
        """How often the driver was run so far."""
        return self._life.runs

    @property
    def hung(self) -> int:
        """Threads of the driver that were given up and have not returned."""
        return self._life.hung

    @property
    def lost(self) -> bool:
        """Whether the driver says that only a restart of the agent may help (`DeviceFault.restart`)."""
        return self._life.lost

    @property
    def status(self) -> CameraStatus:
        """What people are told now."""
        return self._life.status

    def start(self) -> None:
        """Run the camera, and again after each failure, until `stop`. Starting what runs changes nothing."""
        self._loop = asyncio.get_running_loop()
        self._handle(Start())

    async def stop(self) -> None:
        """End the camera; returns when its thread has ended or was given up (`LifePolicy.end_s`), or `start` was called again."""
        self._handle(Stop())
        if self._life.state is LifeState.CLOSING:
            closed = asyncio.get_running_loop().create_future()
            self._closing.append(closed)
            await closed

    def request_keyframe(self, layer: str = "main") -> None:
        """Ask the running driver for a keyframe; a later request replaces one that was not yet taken."""
        if self._io:
            self._io.keyframes.add(layer)

    def set_bitrate(self, layer: str, bps: int) -> None:
        """Wish a rate in bit/s; it stands for later runs too."""
        self._bitrates[layer] = bps

    def set_wanted(self, layer: str, wanted: bool) -> None:
        """Say whether somebody watches a layer; it stands for later runs too. A layer that was never named is wanted."""
        if wanted:
            self._unwanted.discard(layer)
        else:
            self._unwanted.add(layer)

    def _handle(self, event: Event) -> None:
        self._apply(self._life.handle(event, self._clock(), self._random01()))

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run(run):
                    self._run(run)
                case End() if self._io:
                    self._io.stopping.set()
                case Abandon() if self._io:
                    self._io.close()
                    _log.warning(
                        "camera %s: its driver does not return; its thread is given up", self.camera.name, extra=self._extra
                    )
                case Report(status):
                    self._tell(status)
                    self._on_status(status)
        if self._life.state is not LifeState.CLOSING:
            closing, self._closing = self._closing, []
            for closed in closing:
                if not closed.done():
                    closed.set_result(None)
        self._arm()

    @property
    def _extra(self) -> dict[str, str]:
        return {"camera": self.camera.name, "phase": self._life.status.phase.value}

    def _tell(self, status: CameraStatus) -> None:
        """One line in the log for each fault and each return."""
        name, now, phase = self.camera.name, self._clock(), status.phase
        if phase is CameraPhase.RETRYING:
            if self._life.state is LifeState.WAITING and self._faults.fault(status.text, now):
                _log.warning("camera %s: %s", name, status.text, extra=self._extra)
        elif phase is CameraPhase.FAILED:
            if self._faults.fault(status.text, now):
                _log.error("camera %s: %s", name, status.text, extra=self._extra)
        elif phase is not self._told:
            if phase is CameraPhase.OFF:
                self._faults.forget()
            away_s = self._faults.good(now) if phase is CameraPhase.LIVE else None
            if away_s is not None:
                _log.warning("camera %s: the picture is back after %s", name, duration(away_s), extra=self._extra)
            else:
                level = logging.DEBUG if phase is CameraPhase.STARTING else logging.INFO
                _log.log(level, "camera %s: %s", name, phase.value, extra=self._extra)
        self._told = phase

    def _arm(self) -> None:
        """Let the timer fire no later than the next deadline; earlier does no harm and saves re-arming at each frame."""
        deadline = self._life.next_deadline()
        if deadline is None or self._loop is None:
            if self._timer:
                self._timer.cancel()
                self._timer = None
            return
        at = self._loop.time() + max(0.0, deadline - self._clock())
        if self._timer and self._timer.when() <= at:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        if self._io:
            self._drain(self._io)  # frames that a blocked loop kept waiting are no stall
        self._apply(self._life.tick(self._clock(), self._random01()))

    def _run(self, run: int) -> None:
        assert self._loop
        self._io = io = _RunIO(
            run, self._loop, self._drain, self._encoder_factory, self._clock, self._bitrates, self._unwanted, self._max_pending
        )
        threading.Thread(target=self._thread, args=(io, self._loop), name=f"camera-{self.camera.name}", daemon=True).start()

    def _thread(self, io: _RunIO, loop: asyncio.AbstractEventLoop) -> None:
        fault, retry, restart, bug = "", True, False, ""
        try:
            self.camera.run(io)
        except DeviceFault as error:
            fault, retry, restart = hide(error.message, self.camera.secrets()), error.retry, error.restart
        except BaseException as error:  # whatever a driver does, the agent lives on
            fault = f"The camera's driver failed ({type(error).__name__})."
            bug = hide("".join(traceback.format_exception(error)), self.camera.secrets())
        try:
            loop.call_soon_threadsafe(self._run_ended, io, fault, retry, restart, bug)
        except RuntimeError:  # the loop is closed, and nobody is left to tell
            return

    def _run_ended(self, io: _RunIO, fault: str, retry: bool, restart: bool, bug: str) -> None:
        if bug and self._bugs.fault(bug, self._clock()):  # a driver that fails at each try shall not fill the disk with tracebacks
            _log.error("camera %s: its driver failed\n%s", self.camera.name, bug, extra=self._extra)
        self._drain(io)
        io.close()
        self._handle(Ended(io.run, fault, retry, restart))

    def _drain(self, io: _RunIO) -> None:
        """Take what a run has handed over."""
        items, dropped, too_slow = io.take()
        self.dropped += dropped
        for layer, pictures in too_slow.items():
            self._on_too_slow(layer, pictures)
        if items:
            io.ahead.extend(items)
            self._deliver(io)

    def _deliver(self, io: _RunIO) -> None:
        """Deliver what is due; what is of a recording may be handed over before."""
        ahead, alive, now = io.ahead, False, self._clock()
        while ahead:
            item = ahead[0]
            if isinstance(item, EncodedFrame) and item.captured_at > now + _DUE_S:
                io.wait(item.captured_at - now, self._deliver)
                break
            ahead.popleft()
            if item is None:
                self._delivers(io)
                self.rests += self._life.state is LifeState.LIVE
                continue
            if not isinstance(item, EncodedFrame):
                layer, info = item
                if layer == self.camera.capabilities.layers[0]:
                    self._handle(Described(io.run, info))
                self._on_info(layer, info)
                continue
            if not alive:
                alive = True
                self._delivers(io)
            if self._life.state is LifeState.LIVE:  # not what a run sends while it is being ended
                self._on_frame(item)

    def _delivers(self, io: _RunIO) -> None:
        """A sign of life. While the camera is live it only puts off the deadline; the timer that stands looks again by itself."""
        now = self._clock()
        effects = [] if self._life.alive(io.run, now) else self._life.handle(Frames(io.run), now)
        if effects:
            self._apply(effects)


class _RunIO:
    """The `CameraIO` of one run. Its queue wakes the loop once for whatever gathers until the loop gets to it."""

    def __init__(
        self,
        run: int,
        loop: asyncio.AbstractEventLoop,
        drain: Callable[[_RunIO], None],
        encoder_factory: EncoderFactory,
        clock: Callable[[], float],
        bitrates: dict[str, int],
        unwanted: set[str],
        max_pending: int,
    ) -> None:
        self.run = run
        self.stopping = threading.Event()
        self.keyframes: set[str] = set()
        self._loop, self._drain, self._encoder_factory = loop, drain, encoder_factory
        self._clock, self._bitrates, self._unwanted, self._max_pending = clock, bitrates, unwanted, max_pending
        self._lock = threading.Lock()
        self._items: list[EncodedFrame | tuple[str, StreamInfo] | None] = []  # None: alive
        self._skipping: set[str] = set()
        self._dropped = 0
        self._too_slow: dict[str, int] = {}
        self._closed = False
        # The loop's:
        self.ahead: deque[EncodedFrame | tuple[str, StreamInfo] | None] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, frame: EncodedFrame) -> None:
        with self._lock:
            full = len(self._items) + len(self.ahead) >= self._max_pending
            if full or (frame.layer in self._skipping and not frame.keyframe):
                self._dropped += 1
                if frame.layer not in self._skipping:
                    self._skipping.add(frame.layer)
                    self.keyframes.add(frame.layer)
                return
            self._skipping.discard(frame.layer)
            self._put(frame)

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        with self._lock:
            if self._items and isinstance(self._items[-1], tuple) and self._items[-1][0] == layer:
                self._items[-1] = (layer, info)
            else:
                self._put((layer, info))

    def take_keyframe_request(self, layer: str = "main") -> bool:
        if layer not in self.keyframes:
            return False
        self.keyframes.discard(layer)
        return True

    def target_bitrate(self, layer: str = "main") -> int | None:
        return self._bitrates.get(layer)

    def wanted(self, layer: str = "main") -> bool:
        return layer not in self._unwanted

    def alive(self) -> None:
        with self._lock:
            if not self._items:
                self._put(None)

    def too_slow(self, layer: str = "main", pictures: int = 1) -> None:
        with self._lock:  # goes along with the next frame
            self._too_slow[layer] = self._too_slow.get(layer, 0) + pictures

    def encoder(
        self, *, width: int, height: int, fps: float, bitrate: int, layer: str = "main", options: dict[str, str] | None = None
    ) -> VideoEncoder:
        begin = min(bitrate, self._bitrates.get(layer, bitrate))
        return self._encoder_factory(
            width=width, height=height, fps=fps, bitrate=begin, layer=layer, options=options, max_bitrate=bitrate
        )

    def now(self) -> float:
        return self._clock()

    def take(self) -> tuple[Sequence[EncodedFrame | tuple[str, StreamInfo] | None], int, dict[str, int]]:
        """What has gathered since the last call, how many frames were dropped, and how many pictures the board was too slow for."""
        with self._lock:
            items, self._items = self._items, []
            dropped, self._dropped = self._dropped, 0
            too_slow, self._too_slow = self._too_slow, {}
            return items, dropped, too_slow

    def wait(self, delay_s: float, then: Callable[[_RunIO], None]) -> None:
        """Look again when what is ahead is due."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, then, self)

    def close(self) -> None:
        """Deliver nothing any more, whatever the driver still does."""
        with self._lock:
            self._closed = True
            self._items = []
        self.ahead.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.stopping.set()

    def _put(self, item: EncodedFrame | tuple[str, StreamInfo] | None) -> None:
        if self._closed:
            return
        self._items.append(item)
        if len(self._items) == 1:
            try:
                self._loop.call_soon_threadsafe(self._drain, self)
            except RuntimeError:  # the loop is closed
                self._closed = True
                self.stopping.set()
