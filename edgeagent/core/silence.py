"""What the silence of a viewer means. Sans-IO; time in seconds is an argument.

no RTCP for    5 s while packets leave    → MUTE: send nothing more
              15 s                        → DEAD: close
any RTCP, or a message on the channel     → SEND
nothing was sent since the last look      → the clock does not run: there is nothing to report on
"""

from __future__ import annotations

__all__ = ["DEAD_S", "SILENT_S", "SilenceWatch", "Verdict"]

import enum

SILENT_S, DEAD_S = 5.0, 15.0


class Verdict(enum.Enum):
    """What to do now."""

    SEND = enum.auto()
    MUTE = enum.auto()
    DEAD = enum.auto()


class SilenceWatch:
    """Watches one viewer. Call `heard` for each sign of life and `check` about once a second."""

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._sent = 0
        self._muted = False

    def heard(self, now: float) -> bool:
        """A sign of life; true where sending was stopped and may begin again."""
        self._heard_at = now
        was, self._muted = self._muted, False
        return was

    def check(self, sent: int, now: float) -> Verdict:
        """Judge. `sent` counts the packets sent so far."""
        if sent == self._sent and not self._muted:
            self._heard_at = now
        self._sent = sent
        silent_s = now - self._heard_at
        if silent_s >= DEAD_S:
            return Verdict.DEAD
        self._muted = silent_s >= SILENT_S
        return Verdict.MUTE if self._muted else Verdict.SEND
