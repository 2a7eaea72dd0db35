"""The data channels `control`, `events` and `telemetry` of one viewer (`edgeagent.wire.control`)."""

from __future__ import annotations

__all__ = ["DataChannels"]

import asyncio
from collections.abc import Callable

from aiortc import RTCDataChannel

from edgeagent.core.ports import PeerEvents
from edgeagent.wire.control import MAX_QUEUED

LABELS = frozenset({"control", "events", "telemetry"})


class DataChannels:
    """Takes them as the viewer opens them; how each delivers (RFC 8832) is the viewer's choice, for both ways.

    They go together: when one is closed, the others are closed as well, so that nobody goes on with half of them, unheard.

    Args:
        events: Who hears of them.
        heard: Called at each message: a sign of life.
    """

    def __init__(self, events: PeerEvents, heard: Callable[[], None] = lambda: None) -> None:
        self._events = events
        self._heard = heard
        self._open: dict[str, RTCDataChannel] = {}

    def take(self, channel: RTCDataChannel) -> bool:
        """Whether the channel is one of these, and the first of its name."""
        label = channel.label
        if label not in LABELS or label in self._open:
            return False
        self._open[label] = channel
        channel.on("message", lambda message: self._received(label, message))
        channel.on("close", lambda: self._closed(label, channel))
        self._events.data_opened(label)
        return True

    def send(self, label: str, text: str) -> bool:
        """See `core.ports.PeerPort.send_data`."""
        channel = self._open.get(label)
        if channel is None or channel.readyState != "open" or channel.bufferedAmount + len(text) > MAX_QUEUED:
            return False
        channel.send(text)
        return True

    def _received(self, label: str, message: str | bytes) -> None:
        self._heard()
        self._events.data_message(label, message if isinstance(message, str) else message.decode("utf-8", "replace"))

    def _closed(self, label: str, channel: RTCDataChannel) -> None:
        if self._open.get(label) is channel:
            del self._open[label]
            self._events.data_closed(label)
            for other in self._open.values():  # later: aiortc may be closing all of them at this moment
                asyncio.get_running_loop().call_soon(other.close)
