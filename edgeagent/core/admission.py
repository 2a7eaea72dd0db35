"""Who gets a place: limits on offers, and who gives way when every place is taken."""

from __future__ import annotations

__all__ = ["Admission", "Place", "TryLater"]

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from edgeagent.core.ratelimit import KeyedBuckets, TokenBucket
from edgeagent.core.session_events import SessionConfig
from edgeagent.errors import PeerError


class TryLater(PeerError):
    """A refusal that ends by itself after `wait_s` seconds."""

    def __init__(self, code: int, message: str, wait_s: float) -> None:
        super().__init__(code, message)
        self.wait_s = wait_s


@dataclass(slots=True, frozen=True)
class Place:
    """One session as far as its place is concerned; `key` and `origin` as in `ReplyTo`, `drives` as in `ViewerEvents`."""

    peer: int
    key: str
    origin: str
    opened_at: float
    connected: bool
    drives: bool = False


class Admission:
    """Keeps `SessionConfig`'s limits on offers and places."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._config = config
        self._origins = KeyedBuckets(config.offers_per_origin)
        self._offers = TokenBucket(config.offers, now)

    def count_offer(self, origin: str, now: float) -> None:
        """Raise TryLater (429) where there were too many. One origin's flood is stopped before it costs the others."""
        if wait_s := self._origins.take(origin, now) or self._offers.take(now):
            raise TryLater(429, "Too many offers in a short time; try again in a moment.", wait_s)

    def replaced(self, places: Iterable[Place], key: str) -> int | None:
        """The peer that a new session of the viewer `key` replaces, where he has as many as he may."""
        own = [place for place in places if place.key == key]
        if len(own) < self._config.max_per_viewer:
            return None
        return min(own, key=lambda place: (place.connected, place.drives)).peer

    def evicted(self, places: Iterable[Place], origin: str, now: float) -> int | None:
        """The peer that gives way to a newcomer, or None while there is room; TryLater (503) where none gives way.

        Of those that are not connected the oldest of the origin that holds most places gives way to an origin that waits
        for none; then the oldest of all, once it had its time. So a flood of offers that never connect keeps nobody
        out for long. Whoever is connected stays, unless his origin holds more than half of all places: then its newest of those
        who only watch gives way to an origin that has none. Since that one has others left, the two do not drive each other out
        in turn.
        """
        places = list(places)
        if len(places) < self._config.max_viewers:
            return None
        waiting = [place for place in places if not place.connected]
        held = Counter(place.origin for place in waiting)
        if origin not in held:
            greediest, count = held.most_common(1)[0] if held else ("", 0)
            if count > 1:
                return next(place.peer for place in waiting if place.origin == greediest)
        for place in waiting:
            if now - place.opened_at >= self._config.evict_after_s:
                return place.peer
        of_all = Counter(place.origin for place in places)
        greediest, count = of_all.most_common(1)[0]
        if origin not in of_all and count > max(1, self._config.max_viewers // 2):
            watching = [place for place in places if place.origin == greediest and not place.drives]
            if watching:
                return watching[-1].peer
        raise TryLater(503, f"All {self._config.max_viewers} places for viewers are taken; try again later.", 5.0)
