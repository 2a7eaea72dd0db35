"""How streams of one viewer share his path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.sharing import Wish, shares

RATES = st.floats(0, 1e8)


def test_each_gets_what_it_wants_and_the_rest_goes_to_who_wants_more() -> None:
    assert shares(6e6, [Wish(4e6, True), Wish(0.5e6, True), Wish(9e6, True)]) == pytest.approx([2.75e6, 0.5e6, 2.75e6])
    assert shares(20e6, [Wish(1e6, True), Wish(3e6, True)]) == pytest.approx([1e6, 19e6])
    assert shares(1e6, []) == []


def test_a_stream_of_uneven_pictures_may_send_a_large_one_at_its_fair_part() -> None:
    """Of 1 Mbit/s on average, and a keyframe of 100 kB: at 1 Mbit/s the pictures after it would wait for 0.8 s."""
    clip, other = shares(20e6, [Wish(1e6, False), Wish(3e6, True)])
    assert clip == pytest.approx(10e6)
    assert other == pytest.approx(19e6), "it takes no more than it did, in the long run"


def test_one_that_is_paused_takes_nothing_and_is_not_left_without_a_rate() -> None:
    assert shares(6e6, [Wish(0.0, True), Wish(9e6, True), Wish(0.0, False)]) == pytest.approx([2e6, 6e6, 2e6])
    assert shares(6e6, [Wish(0.0, True), Wish(0.0, True)]) == pytest.approx([3e6, 3e6])


@given(st.floats(0, 1e8), st.lists(st.builds(Wish, RATES, st.booleans()), min_size=1, max_size=6))
def test_nobody_gets_less_than_a_fair_part_or_his_wish(total: float, wishes: list[Wish]) -> None:
    found = shares(total, wishes)
    for wish, part in zip(wishes, found, strict=True):
        assert part >= min(wish.wanted_bps or total, total / len(wishes)) * 0.999
    long_run = sum(min(wish.wanted_bps, part) for wish, part in zip(wishes, found, strict=True))
    assert long_run <= total * 1.001
