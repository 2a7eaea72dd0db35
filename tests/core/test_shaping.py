"""What an axis is given: within its range, never faster than its slew rate, neutral where that is wanted, after a stop at once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.shaping import MAX_STEP_S, AxisRange, Limits, Shaper

STEP_S = 0.02
share = st.floats(0, 1)
ranges = st.builds(
    AxisRange, minimum=st.floats(-100, -0.5), maximum=st.floats(0.5, 100), neutral=st.floats(-0.4, 0.4), position=st.just(False)
)
limits = st.builds(
    Limits,
    top=st.floats(0.01, 1),
    expo=share,
    dead_zone=st.floats(0, 0.9),
    slew=st.none() | st.floats(0.05, 50),
    invert=st.booleans(),
    reverse_delay_s=st.sampled_from([0.0, 0.1, 0.3]),
)
wishes = st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 0.2)), max_size=60)


def run(shaper: Shaper, value: float, seconds: float, start: float = 0.0) -> list[float]:
    target = shaper.target(value)
    return [shaper.step(target, start + n * STEP_S) for n in range(round(seconds / STEP_S))]


@given(axis=ranges, limits=limits, wishes=wishes)
def test_never_outside_its_range_nor_faster_than_it_may(axis: AxisRange, limits: Limits, wishes: list[tuple[float, float]]) -> None:
    shaper, now = Shaper(axis, limits), 100.0
    longest = max(axis.maximum - axis.neutral, axis.neutral - axis.minimum)
    before: tuple[float, float] | None = None
    for value, passed_s in wishes:
        now += passed_s
        out = shaper.step(shaper.target(value), now)
        assert axis.minimum <= out <= axis.maximum
        away = out - axis.neutral
        side = axis.maximum - axis.neutral if away > 0 else axis.neutral - axis.minimum
        assert abs(away) <= limits.top * side + 1e-9
        if before and limits.slew:
            most = limits.slew * min(now - before[1], MAX_STEP_S)
            assert abs(out - before[0]) <= most * longest + 1e-9
        before = out, now


@given(axis=ranges, limits=limits, wishes=wishes)
def test_neutral_leads_to_neutral_and_a_stop_there_at_once(
    axis: AxisRange, limits: Limits, wishes: list[tuple[float, float]]
) -> None:
    shaper, now = Shaper(axis, limits), 100.0
    for value, passed_s in wishes:
        now += passed_s
        shaper.step(shaper.target(value), now)
    stopped = Shaper(axis, limits)
    for _ in range(2):
        stopped.step(stopped.target(axis.maximum), now)
    stopped.stopped(now)
    assert stopped.output == axis.neutral
    target = shaper.target(axis.neutral)
    for _ in range(round(1 / (limits.slew or 1) / STEP_S) + 3):
        now += STEP_S
        shaper.step(target, now)
    assert shaper.output == axis.neutral
    assert shaper.settled(target)


@given(axis=ranges, limits=limits, value=st.floats(-100, 100), other=st.floats(-100, 100))
def test_more_is_never_less(axis: AxisRange, limits: Limits, value: float, other: float) -> None:
    """Whatever the settings, an operator who asks for more does not get less."""
    shaper = Shaper(axis, limits)
    low, high = sorted((value, other))
    first, second = shaper.target(low), shaper.target(high)
    assert second <= first + 1e-12 if limits.invert else first <= second + 1e-12


@given(
    axis=ranges | st.builds(AxisRange, minimum=st.sampled_from([-1.0, 0.0]), maximum=st.just(1.0), neutral=st.just(0.0)),
    limits=limits,
    trim=st.floats(-0.5, 0.5),
    wish=share,
    place=share,
)
def test_where_it_stands_is_told_as_what_leads_there(
    axis: AxisRange, limits: Limits, trim: float, wish: float, place: float
) -> None:
    """The stick goes on from there: what it says moves the axis no further than a reading is rounded."""
    shaper = Shaper(replace(axis, position=True), replace(limits, trim=trim))
    value = axis.minimum + wish * (axis.maximum - axis.minimum)
    told = shaper.wanted(shaper.limited(value))
    assert told is not None and axis.minimum <= told <= axis.maximum
    rounded = abs(shaper.target(value) - shaper.target(axis.neutral)) <= 0.0021
    assert shaper.target(told) == pytest.approx(shaper.target(value), abs=0.0021 if rounded else 1e-9)
    assert told == axis.neutral or abs(told - axis.neutral) <= abs(value - axis.neutral) + 1e-6 * (axis.maximum - axis.minimum)
    if not rounded and -0.999 < shaper.target(value) < 0.999 and not limits.expo:  # where one value only leads there
        assert told == pytest.approx(value, abs=1e-6)
    there = axis.minimum + place * (axis.maximum - axis.minimum)
    told = shaper.wanted(there)
    assert told is not None
    ends = sorted((shaper.limited(axis.minimum), shaper.limited(axis.maximum)))
    nearest = min(max(there, ends[0]), ends[1])
    assert shaper.limited(told) == pytest.approx(nearest, abs=0.0021 * (axis.maximum - axis.minimum)), "or as near as it may go"


@pytest.mark.parametrize(
    ("limits", "places"),
    [
        (Limits(), {-90: -90, 30: 30, 93: 90, 512: None, math.nan: None}),
        (Limits(invert=True), {90: -90, -30: 30}),
        (Limits(top=0.5), {15: 30, 45: 90, 80: 90, -80: -90}),
        (Limits(trim=0.2), {18: 0, 18.1: 0, 17.9: 0, 48: 30, 90: 72, 0: -18}),
        (Limits(trim=0.2, invert=True), {18: 0, 48: -30, 90: -72}),
        (Limits(dead_zone=0.5), {0: 0, 0.1: 0, -0.1: 0, 45: 67.5, 90: 90}),
        (Limits(expo=1.0), {0.72: 18, 90: 90, 0: 0}),
        (Limits(expo=0.5), {28.125: 45}),
    ],
)
def test_places_in_the_operators_words(limits: Limits, places: dict[float, float | None]) -> None:
    shaper = Shaper(AxisRange(-90, 90, position=True), limits)
    for place, told in places.items():
        assert shaper.wanted(place) == (None if told is None else pytest.approx(told, abs=1e-9)), place


@given(limits=limits, sign=st.sampled_from([-1.0, 1.0]))
def test_the_other_way_only_after_a_rest(limits: Limits, sign: float) -> None:
    shaper = Shaper(AxisRange(), limits)
    now, rest_began, was = 0.0, None, 0.0
    for n in range(400):
        now += STEP_S
        wish = sign if (n // 70) % 2 == 0 else -sign
        out = shaper.step(shaper.target(wish), now)
        if out == 0:
            rest_began = now if rest_began is None else rest_began
        else:
            if was and math.copysign(1, was) != math.copysign(1, out) and limits.reverse_delay_s:
                assert rest_began is not None and now - rest_began >= limits.reverse_delay_s
            was, rest_began = out, None
    assert was


def test_by_the_numbers() -> None:
    shaper = Shaper(AxisRange(minimum=-2, maximum=10), Limits(top=0.5, expo=1.0, dead_zone=0.2))
    assert shaper.target(1.9) == 0
    assert shaper.target(6) == pytest.approx(0.5 * 0.5**3)
    assert shaper.target(10) == 0.5
    assert shaper.target(-2) == -0.5
    assert shaper.step(shaper.target(10), 0.0) == 5
    assert shaper.step(shaper.target(-2), 0.1) == -1
    assert Shaper(AxisRange(), Limits(invert=True)).target(0.25) == -0.25
    arm = Shaper(AxisRange(-90, 90, position=True), Limits(top=0.2, slew=0.1))
    assert (arm.limited(90), arm.limited(-400), arm.limited(0)) == (18, -18, 0)
    assert arm.output == 0


def test_ramps() -> None:
    shaper = Shaper(AxisRange(), Limits(slew=2.0))
    out = run(shaper, 1.0, 1.0)
    assert out[10] - out[9] == pytest.approx(2.0 * STEP_S)
    assert out[-1] == 1.0
    shaper.stopped(1.0)
    assert shaper.output == 0
    assert shaper.step(1.0, 60.0) <= 2.0 * MAX_STEP_S  # a long rest makes no leap
    assert run(Shaper(AxisRange()), 0.7, STEP_S) == [0.7]


def test_a_position_is_held_and_may_be_trimmed() -> None:
    shaper = Shaper(AxisRange(-90, 90, 0, position=True), Limits(trim=0.1, slew=1.0))
    assert shaper.output == shaper.neutral == pytest.approx(9)
    run(shaper, 90, 2.0)
    assert shaper.output == 90
    shaper.stopped(3.0)
    assert shaper.output == 90


def test_an_axis_with_one_side() -> None:
    shaper = Shaper(AxisRange(0, 1, 0))
    assert (shaper.target(-1), shaper.target(0.5)) == (0, 0.5)
    assert Shaper(AxisRange(0, 1, 0), Limits(invert=True)).target(0.5) == 0


@pytest.mark.parametrize(
    ("axis", "wrong", "words"),
    [
        (AxisRange(), Limits(top=0), "`top`"),
        (AxisRange(), Limits(top=1.1), "0.01 to 1"),
        (AxisRange(), Limits(slew=0), "`slew`"),
        (AxisRange(), Limits(expo=math.nan), "`expo`"),
        (AxisRange(), Limits(trim=0.1), "shall stand still"),
        (AxisRange(1, 1, 1), Limits(), "the axis goes from 1 to 1"),
        (AxisRange(0, 1, 2), Limits(), "neutral at 2"),
    ],
)
def test_what_is_refused(axis: AxisRange, wrong: Limits, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Shaper(axis, wrong)
