"""Makes what an operator wants into what an axis is given: dead zone, expo, top speed, inversion, trim, slew rate, reverse delay.

These are settings of the device and not of a page: whoever drives, by whatever means, they hold. A value is first brought to a
share from -1 to 1 on its side of neutral, then

    dead zone → expo → inversion → top → trim        where the axis shall go (`Shaper.target`)
    reverse delay → slew rate                        how it gets there in time (`Shaper.step`)

and back: `Shaper.wanted` says by which value an operator would have brought the axis to where it is.

A stop passes by all of this: the driver's own `stop()` is called, and the ramp begins again from neutral (`Shaper.stopped`).
"""

from __future__ import annotations

__all__ = ["MAX_STEP_S", "AxisRange", "Limits", "Shaper"]

import math
from dataclasses import dataclass

MAX_STEP_S = 0.05
"""The longest time by which one step goes on: a loop that was late, or an axis that rested, makes no leap."""
_NEAR = 0.002
"""What is read so near to neutral, as a share, is neutral: drivers round, and behind a dead zone or expo little becomes much."""


@dataclass(frozen=True, slots=True)
class AxisRange:
    """What the shaping knows of an axis; the words are those of `drivers.Axis`."""

    minimum: float = -1.0
    maximum: float = 1.0
    neutral: float = 0.0
    position: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The owner's settings of one axis. Shares are of the way from neutral to the end of the axis.

    Attributes:
        top: Largest share that is given, 0.01 to 1; trim comes on top.
        expo: From 0 (straight) to 1 (cubic): finer around neutral, the same at the end.
        dead_zone: Share around neutral that counts as neutral, from 0 to 0.9; what lies outside begins at 0 again.
        slew: Largest change in shares a second, 0.01 to 1000; None for no limit.
        invert: Whether the direction is turned round.
        trim: Where neutral lies, in shares from -0.5 to 0.5; of axes that hold a position only, since a motor would creep.
        reverse_delay_s: How long the axis rests at neutral before it goes the other way, 0 to 5 s.
    """

    top: float = 1.0
    expo: float = 0.0
    dead_zone: float = 0.0
    slew: float | None = None
    invert: bool = False
    trim: float = 0.0
    reverse_delay_s: float = 0.0

    def problem(self, axis: AxisRange) -> str:
        """What is wrong with these settings for this axis, in a sentence; "" where nothing is."""
        for name, value, low, high in (
            ("top", self.top, 0.01, 1.0),
            ("expo", self.expo, 0.0, 1.0),
            ("dead_zone", self.dead_zone, 0.0, 0.9),
            ("slew", 1.0 if self.slew is None else self.slew, 0.01, 1000.0),
            ("trim", self.trim, -0.5, 0.5),
            ("reverse_delay_s", self.reverse_delay_s, 0.0, 5.0),
        ):
            if not low <= value <= high:
                return f"`{name}` is {value:g}; write a number from {low:g} to {high:g}."
        if self.trim and not axis.position:
            return "`trim` is for axes that hold a position; here it would move what shall stand still."
        return ""


class Shaper:
    """One axis. Times are seconds of any clock that does not go back.

    Raises:
        ValueError: The settings do not fit the axis, or the axis has no range; a sentence for the owner.
    """

    def __init__(self, axis: AxisRange, limits: Limits | None = None) -> None:
        if not (axis.minimum <= axis.neutral <= axis.maximum and axis.minimum < axis.maximum):
            raise ValueError(f"the axis goes from {axis.minimum:g} to {axis.maximum:g} with neutral at {axis.neutral:g}")
        self._axis, self._limits = axis, limits or Limits()
        if problem := self._limits.problem(axis):
            raise ValueError(problem)
        self._share = self._rest = self._within(self._limits.trim)
        self._side = 0.0  # which way the axis went last: -1, 1, or 0 at first
        self._resting_since: float | None = None
        self._stepped: float | None = None

    @property
    def output(self) -> float:
        """What the axis was given last, in its unit; neutral after a stop."""
        return self._value(self._share)

    @property
    def neutral(self) -> float:
        """What the axis is given while the operator wants neutral."""
        return self._value(self._rest)

    def target(self, value: float) -> float:
        """Where a value wanted by the operator leads in the end, as a share from -1 to 1; what is no number leads to neutral."""
        axis, limits = self._axis, self._limits
        if math.isnan(value):
            return self._rest
        away = min(max(value, axis.minimum), axis.maximum) - axis.neutral
        side_length = axis.maximum - axis.neutral if away > 0 else axis.neutral - axis.minimum
        share = abs(away) / side_length if side_length else 0.0
        if share <= limits.dead_zone:
            return self._rest
        share = (share - limits.dead_zone) / (1 - limits.dead_zone)
        share = (1 - limits.expo) * share + limits.expo * share**3
        sign = math.copysign(1.0, -away if limits.invert else away)
        return self._within(sign * share * limits.top + limits.trim)

    def limited(self, value: float) -> float:
        """Where a value leads in the end, in the axis' unit: for what is no set-point, and so is not brought there by `step`."""
        return self._value(self.target(value))

    def wanted(self, value: float) -> float | None:
        """The inverse of `limited`: which value an operator gives to have the axis there, both in its unit. Of several that is the
        one nearest to neutral, so that the next little change tells; where none leads there, the one that leads nearest.

        Returns:
            None for what is no place of the axis: see `at`.
        """
        limits, place = self._limits, self._share_of(value)
        if place is None:
            return None
        if abs(place - self._rest) <= _NEAR:
            return self._axis.neutral
        share = (place - limits.trim) / limits.top
        away = limits.dead_zone + (1 - limits.dead_zone) * _straightened(min(abs(share), 1.0), limits.expo)
        return self._value(math.copysign(away, -share if limits.invert else share))

    def step(self, target: float, now: float) -> float:
        """Go on towards `target` (a share, from `target()`) and return what the axis is given now, in its unit."""
        limits = self._limits
        passed_s = MAX_STEP_S if self._stepped is None else min(max(now - self._stepped, 0.0), MAX_STEP_S)
        self._stepped = now
        side = self._side_of(target)
        if limits.reverse_delay_s and side and self._side and side != self._side:
            rested_s = 0.0 if self._resting_since is None else now - self._resting_since
            if self._side_of(self._share) or rested_s < limits.reverse_delay_s:
                target = self._rest
        if limits.slew is None:
            self._share = target
        else:
            most = limits.slew * passed_s
            self._share += min(max(target - self._share, -most), most)
        self._note_side(now)
        return self._value(self._share)

    def settled(self, target: float) -> bool:
        """Whether `step` would give the same again."""
        return self._share == target

    def stopped(self, now: float, *, opened: bool = False) -> None:
        """The driver was stopped: a motor stands still, a position is held; the next ramp begins there.

        `opened`: it was opened anew, so that a position is where drivers go then, at neutral.
        """
        if opened or not self._axis.position:
            self._share = self._rest
            if self._resting_since is None:
                self._resting_since = now
        self._stepped = now

    def at(self, value: float, now: float) -> bool:
        """Somebody else (a command) has put the axis there, in its unit: the next ramp begins there.

        Returns:
            Whether it is a place of the axis. One just beyond an end is that end, as is measured; what lies further out than a
            twentieth of the way is in another unit, and changes nothing.
        """
        share = self._share_of(value)
        if share is None:
            return False
        self._share, self._stepped = share, now
        self._note_side(now)
        return True

    def _share_of(self, value: float) -> float | None:
        """A place of the axis as a share from -1 to 1; None for what is none."""
        axis = self._axis
        beyond = (axis.maximum - axis.minimum) / 20
        if not axis.minimum - beyond <= value <= axis.maximum + beyond:
            return None
        away = min(max(value, axis.minimum), axis.maximum) - axis.neutral
        side_length = axis.maximum - axis.neutral if away > 0 else axis.neutral - axis.minimum
        return away / side_length if side_length else 0.0

    def _note_side(self, now: float) -> None:
        if side := self._side_of(self._share):
            self._side, self._resting_since = side, None
        elif self._resting_since is None:
            self._resting_since = now

    def _side_of(self, share: float) -> float:
        away = share - self._rest
        return 0.0 if away == 0 else math.copysign(1.0, away)

    def _within(self, share: float) -> float:
        """On a side that has no length the axis stays at neutral."""
        low = -1.0 if self._axis.neutral > self._axis.minimum else 0.0
        high = 1.0 if self._axis.maximum > self._axis.neutral else 0.0
        return min(max(share, low), high)

    def _value(self, share: float) -> float:
        axis = self._axis
        value = axis.neutral + share * (axis.maximum - axis.neutral if share > 0 else axis.neutral - axis.minimum)
        return min(max(value, axis.minimum), axis.maximum)


def _straightened(share: float, expo: float) -> float:
    """The share of which expo makes this one; both from 0 to 1."""
    if not expo:
        return share
    low, high = 0.0, 1.0
    for _ in range(53):  # a float has no more bits
        middle = (low + high) / 2
        if (1 - expo) * middle + expo * middle**3 < share:
            low = middle
        else:
            high = middle
    return high
