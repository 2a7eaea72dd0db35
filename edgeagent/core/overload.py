"""Whether a board is too slow for a layer: by the pictures that it had to leave out, not by how busy it is.

Looked at in periods of `LOOK_S`; `PERIODS` in a row turn the answer, so that neither an encoder that opens nor a moment's load
does, and the two shares are so far apart that a board at its limit does not come and go.
"""

from __future__ import annotations

__all__ = ["Overload"]

LOOK_S = 3.0
PERIODS = 2
TOO_MANY = 1 / 3
"""From this share of pictures left out on a layer has too few."""
FEW = 1 / 6
"""Below this one it has enough again."""


class Overload:
    """Of one layer. Time is an argument, in seconds of any monotonic clock.

    Attributes:
        shown: Pictures that came; count them here.
        left_out: Pictures that did not because the board is too slow; the same.
    """

    __slots__ = ("_began", "_in_a_row", "_slow", "left_out", "shown")

    def __init__(self) -> None:
        self.shown = self.left_out = 0
        self._began = float("-inf")
        self._in_a_row = 0
        self._slow = False

    def look(self, fps: float, now: float) -> bool:
        """Whether too many are left out; ask every second or so. Where nobody asked for long, what was is forgotten.

        Args:
            fps: Pictures a second that the layer should have, 0 where unknown: fewer may come on purpose, for a low bitrate.
            now: Seconds.
        """
        passed = now - self._began
        if passed < LOOK_S:
            return self._slow
        if passed > 2 * LOOK_S:
            self._slow, self._in_a_row = False, 0
        else:
            share = self.left_out / max(1.0, fps * passed, self.shown + self.left_out)
            turns = share < FEW if self._slow else share >= TOO_MANY
            self._in_a_row = self._in_a_row + 1 if turns else 0
            if self._in_a_row >= PERIODS:
                self._slow, self._in_a_row = not self._slow, 0
        self.shown = self.left_out = 0
        self._began = now
        return self._slow
