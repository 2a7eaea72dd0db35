"""How much one viewer may send on his control channels before it is even read. What is beyond is dropped and counted."""

from __future__ import annotations

__all__ = ["Gate"]

from edgeagent.core.ratelimit import Rate, TokenBucket

SET_POINTS = Rate(100, 20)
EVENTS = Rate(20, 40)
STOPS = Rate(10, 10)
COMPLAINTS = Rate(1, 5)
_SHORT = 200


class Gate:
    """One viewer's limits."""

    __slots__ = ("_complaints", "_events", "_set_points", "_stops")

    def __init__(self, now: float) -> None:
        self._set_points = TokenBucket(SET_POINTS, now)
        self._events = TokenBucket(EVENTS, now)
        self._stops = TokenBucket(STOPS, now)
        self._complaints = TokenBucket(COMPLAINTS, now)

    def set_point(self, now: float) -> bool:
        """Whether a message on `control` is read."""
        return not self._set_points.take(now)

    def event(self, text: bytes | str, now: float) -> bool:
        """Whether a message on `events` is read. What may be a stop has room of its own, so that a busy page can still stop."""
        if not self._events.take(now):
            return True
        if len(text) > _SHORT:
            return False
        stops = b'"stop"' in text or b'"halt"' in text if isinstance(text, bytes) else '"stop"' in text or '"halt"' in text
        return stops and not self._stops.take(now)

    def complaint(self, now: float) -> bool:
        """Whether the viewer is told that something was wrong."""
        return not self._complaints.take(now)
