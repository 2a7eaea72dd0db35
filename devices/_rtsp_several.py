"""Several streams of one camera at once, none of which takes the others down."""

from __future__ import annotations

__all__ = ["play_together"]

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from edgeagent.drivers import Backoff, CameraIO, DeviceFault, EncodedFrame, StreamInfo
from edgeagent_devices._rtsp_stream import Stream

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_GOOD_S = 10.0  # a stream that played for so long begins with the shortest back-off again
_END_S = 3.0
_SURE_S = 1.0  # for which one that failed must have played before viewers take it again: some fail after each keyframe
_GRACE_S = 0.5  # in which the others fail, too, where the whole camera is away: it takes them no longer to notice
RETRY_S = (1.0, 30.0)
"""Shortest and longest back-off of a stream that failed while another plays."""
FAILED_S = 600.0
"""How long it waits where only another configuration should help: as the agent does for a whole camera."""


def play_together(streams: Sequence[Stream], io: CameraIO, name: str) -> None:
    """Play all of them, the first on this thread, until `io.stopping`. One that fails is tried again while another plays.

    Raises:
        DeviceFault: None of them plays; the sentence is the first stream's.
    """
    together = _Together(streams, io, name)
    threads = [
        threading.Thread(target=together.keep, args=(stream,), name=f"camera-{name}-{stream.layer}-rtsp", daemon=True)
        for stream in streams[1:]
    ]
    for thread in threads:
        thread.start()
    try:
        together.keep(streams[0])
        together.wait()
    finally:
        together.end()
        until = time.monotonic() + _END_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    together.raise_fault()


class _Either(threading.Event):
    """Set by itself or by the agent."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


class _Together:
    def __init__(self, streams: Sequence[Stream], io: CameraIO, name: str) -> None:
        self._streams, self._io, self._name = streams, io, name
        self._over = _Either(io.stopping)
        self._lock = threading.Lock()
        self._failed: dict[str, DeviceFault] = {}  # streams that do not play and have said why
        self._absent: set[str] = set()  # of whose layers viewers know that they are missing
        self._infos: dict[str, StreamInfo] = {}
        self._bug: BaseException | None = None

    def keep(self, stream: Stream) -> None:
        """Play one stream, again after each failure, until all is over."""
        backoff = Backoff(*RETRY_S)
        told = ""
        while not self._over.is_set():
            io = _StreamIO(self, stream)
            try:
                stream.play(io)
                return
            except DeviceFault as fault:
                if self._fail(stream, fault):
                    return
                if fault.message != told:
                    told = fault.message
                    retry = "again" if fault.retry else f"again in {FAILED_S / 60:.0f} minutes"
                    _log.warning(
                        "camera %s: its %s stream: %s It is tried %s; the others go on.",
                        self._name, stream.layer, fault.message, retry,
                    )  # fmt: skip
                if io.played_at and time.monotonic() - io.played_at > _GOOD_S:
                    backoff.reset()
                    told = ""
                delay_s = backoff.next(random.random()) if fault.retry else FAILED_S
                self._sleep(min(_GRACE_S, delay_s))
                self._miss(stream, fault)
                self._sleep(delay_s - _GRACE_S)
            except BaseException as error:  # a bug: the runner reports it
                self._bug = error
                self.end()
                return
            finally:
                io.close()

    def wait(self) -> None:
        """Return when all is over."""
        while not self._over.is_set():
            self._io.stopping.wait(_POLL_S)

    def end(self) -> None:
        """Let every stream end."""
        self._over.set()

    def raise_fault(self) -> None:
        """Raise why it is over, where it was not the agent's wish."""
        if self._bug:
            raise self._bug
        with self._lock:
            faults = dict(self._failed)
        if not self._io.stopping.is_set() and len(faults) == len(self._streams):
            first = faults[self._streams[0].layer]
            raise DeviceFault(first.message, retry=any(fault.retry for fault in faults.values()))

    def described(self, stream: Stream, info: StreamInfo, layer: str) -> None:
        """A stream says what a layer delivers: handed on once it plays, as one that opens may still give no picture."""
        with self._lock:
            self._infos[layer] = info
            if stream.layer not in self._absent.union(self._failed):
                self._io.describe(info, layer)

    def begins(self, stream: Stream) -> None:
        """A stream gives its first picture (again)."""
        with self._lock:
            self._failed.pop(stream.layer, None)

    def is_absent(self, stream: Stream) -> bool:
        """Whether viewers were told that it is missing."""
        with self._lock:
            return stream.layer in self._absent

    def plays(self, stream: Stream) -> None:
        """Viewers may take a stream (again)."""
        with self._lock:
            if stream.layer not in self._absent:
                return
            self._absent.remove(stream.layer)
            for layer in stream.layers:
                if layer in self._infos:
                    self._io.describe(self._infos[layer], layer)
        _log.info("camera %s: its %s stream plays again", self._name, stream.layer)

    def _fail(self, stream: Stream, fault: DeviceFault) -> bool:
        """Note it; whether none plays any more."""
        with self._lock:
            self._failed[stream.layer] = fault
            if len(self._failed) < len(self._streams):
                return False
        self.end()
        return True

    def _miss(self, stream: Stream, fault: DeviceFault) -> None:
        """Let viewers take another stream."""
        if self._over.is_set():
            return
        with self._lock:
            self._absent.add(stream.layer)
            for layer in stream.layers:
                info = self._infos.get(layer, StreamInfo())
                self._io.describe(dataclasses.replace(info, absent=True, fault=fault.message), layer)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._over.is_set() and (left := until - time.monotonic()) > 0:
            self._io.stopping.wait(min(_POLL_S, left))


class _StreamIO:
    """The `CameraIO` of one stream's one run."""

    def __init__(self, together: _Together, stream: Stream) -> None:
        self.stopping: threading.Event = together._over
        self.played_at = 0.0
        """When its first picture came; 0 before."""
        self._together, self._io, self._stream = together, together._io, stream
        self._closed = self._sure = False

    def emit(self, frame: EncodedFrame) -> None:
        if not self._closed and self._plays(frame.keyframe):
            self._io.emit(frame)

    def describe(self, info: StreamInfo, layer: str = "main") -> None:
        if not self._closed:
            self._together.described(self._stream, info, layer)

    def alive(self) -> None:
        if not self._closed:
            self._plays(True)
            self._io.alive()

    def close(self) -> None:
        """Hand over nothing any more: a name look-up that hangs may outlive the camera's run."""
        self._closed = True

    def _plays(self, clean: bool) -> bool:
        """Note that it plays; whether it is shown. Where it was absent it begins anew, with what can be decoded by itself."""
        now = time.monotonic()
        if not self.played_at:
            self.played_at = now
            self._together.begins(self._stream)
        if not self._sure and ((clean and now - self.played_at >= _SURE_S) or not self._together.is_absent(self._stream)):
            self._sure = True
            self._together.plays(self._stream)
        return self._sure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io, name)
