"""What to say in the log of something that fails again and again: each fault once, its end once, a reminder now and then."""

from __future__ import annotations

__all__ = ["FaultLog", "duration"]

REMIND_S = 600.0
"""A fault that lasts is said again after so long."""
_KEPT = 16


class FaultLog:
    """Sentences about one thing (a camera, the broker). Times are seconds of any clock that does not go back."""

    def __init__(self, remind_s: float = REMIND_S) -> None:
        self._remind_s = remind_s
        self._since: float | None = None
        self._said: dict[str, float] = {}

    def fault(self, sentence: str, now: float) -> bool:
        """It failed; whether to say so: not while the same was said of this outage within `remind_s`."""
        if self._since is None:
            self._since = now
        said = self._said.get(sentence)
        if said is not None and now - said < self._remind_s:
            return False
        self._said.pop(sentence, None)
        self._said[sentence] = now
        if len(self._said) > _KEPT:
            del self._said[next(iter(self._said))]
        return True

    def good(self, now: float) -> float | None:
        """It works; how many seconds it did not, or None where no fault was told since it last did."""
        since = self._since
        self.forget()
        return None if since is None else now - since

    def forget(self) -> None:
        """Nobody needs it any more: a later fault is a new one."""
        self._since = None
        self._said.clear()


def duration(seconds: float) -> str:
    """A time span in words: `0.4 s`, `42 s`, `12 min`, `3 h`, `5 days`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, unit_s, unit in (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
