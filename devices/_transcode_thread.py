"""Transcoding on a thread of its own, so that whoever takes the pictures from the camera goes on meanwhile."""

from __future__ import annotations

__all__ = ["TranscodeThread"]

import logging
import threading
from collections import deque

from edgeagent_devices._transcode import Transcoder

_log = logging.getLogger(__name__)

_MAX_WAITING = 300  # access units
_MAX_WAITING_BYTES = 16_000_000


class TranscodeThread:
    """Feeds a transcoder from a bounded queue.

    Args:
        transcoder: Closed with this.
        name: The camera's, for the log and the thread.
        layer: The best one that is made, for the same.
    """

    def __init__(self, transcoder: Transcoder, *, name: str, layer: str) -> None:
        self._transcoder, self._name, self._layer = transcoder, name, layer
        self._waiting: deque[tuple[bytes, int, float]] = deque()
        self._waiting_bytes = 0
        self._skipping = False
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}-{layer}", daemon=True)
        self._thread.start()

    def take(self, data: bytes, timestamp: int, captured_at: float, *, keyframe: bool) -> None:
        """Queue one access unit; one that finds no room is left out, with all up to the next keyframe.

        Args:
            data: As for `Transcoder.feed`.
            timestamp: The same.
            captured_at: The same.
            keyframe: Whether decoding can start here.

        Raises:
            DeviceFault: The decoder or the encoder failed.
        """
        with self._changed:
            if self._error:
                raise self._error
            full = len(self._waiting) >= _MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES
            if full or (self._skipping and not keyframe):
                if not self._skipping:
                    _log.warning(
                        "camera %s: the encoder is too slow for its %s picture; parts are left out", self._name, self._layer
                    )
                self._skipping = True
                return
            self._skipping = False
            self._waiting.append((data, timestamp, captured_at))
            self._waiting_bytes += len(data)
            self._changed.notify()

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
                self._transcoder.feed(*item)
        except BaseException as error:  # raised where the owner sees it
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
