"""How long to wait before the next try: exponential back-off with full jitter."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """Waits drawn anywhere between `min_s` and a bound, which begins at twice `min_s` and doubles with each wait up to `max_s`.

    The jitter keeps a site's devices from coming back in step after a power cut. Randomness is an argument.

    Args:
        min_s: Shortest wait in seconds, above 0.
        max_s: Longest wait in seconds, at least `min_s`.
    """

    def __init__(self, min_s: float, max_s: float) -> None:
        if not 0 < min_s <= max_s:
            raise ValueError("min_s must be above 0 and at most max_s")
        self._min_s, self._max_s = min_s, max_s
        self._bound_s = min(max_s, min_s * 2)

    def next(self, random01: float) -> float:
        """The next wait in seconds, given a random number from 0 to 1."""
        wait_s = self._min_s + (self._bound_s - self._min_s) * random01
        self._bound_s = min(self._max_s, self._bound_s * 2)
        return wait_s

    def reset(self) -> None:
        """Begin again with the shortest wait: the last try was a success."""
        self._bound_s = min(self._max_s, self._min_s * 2)
