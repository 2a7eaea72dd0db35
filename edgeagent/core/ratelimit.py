"""Token buckets: how often something may happen, with room for a burst. Time is an argument."""

from __future__ import annotations

__all__ = ["KeyedBuckets", "Rate", "TokenBucket"]

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Rate:
    """So many a second in the long run, and so many at once after a rest; both above 0."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.per_s > 0 and self.burst >= 1):
            raise ValueError("per_s must be above 0 and burst at least 1")


class TokenBucket:
    """Starts full; `take` removes tokens where there are so many."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = now

    def take(self, now: float, tokens: int = 1) -> float:
        """0.0 and so many tokens less, or the seconds until there are so many. A clock that steps back is taken as standing."""
        self._fill(now)
        if self._tokens < tokens - 1e-9:
            return (tokens - self._tokens) / self._rate.per_s
        self._tokens = max(0.0, self._tokens - tokens)
        return 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until `take` would succeed; 0.0 where it would now."""
        self._fill(now)
        return 0.0 if self._tokens >= 1 - 1e-9 else (1 - self._tokens) / self._rate.per_s

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_s)
            self._at = now


class KeyedBuckets:
    """A bucket for each key, of at most `max_keys` keys: the one used longest ago is forgotten first.

    Who changes his key with every try is not held back here; another bucket over all of them must do that.
    """

    def __init__(self, rate: Rate, max_keys: int = 1024) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._buckets: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """As `TokenBucket.take`."""
        return self._bucket(key, now).take(now)

    def wait_s(self, key: str, now: float) -> float:
        """As `TokenBucket.wait_s`; does not count as use."""
        bucket = self._buckets.get(key)
        return bucket.wait_s(now) if bucket else 0.0

    def _bucket(self, key: str, now: float) -> TokenBucket:
        # A dict keeps the order of insertion: popping and inserting again makes it the order of use.
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, now)
        while len(self._buckets) >= self._max_keys:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket
