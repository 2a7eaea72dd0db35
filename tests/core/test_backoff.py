from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.backoff import Backoff


def test_bound_doubles_up_to_the_longest_wait() -> None:
    backoff = Backoff(1, 30)
    assert [backoff.next(1.0) for _ in range(7)] == [2, 4, 8, 16, 30, 30, 30]
    backoff.reset()
    assert backoff.next(1.0) == 2


def test_waits_are_spread() -> None:
    assert [Backoff(1, 30).next(share) for share in (0, 0.5, 1)] == [1, 1.5, 2]


@given(st.floats(0.001, 100), st.floats(1, 100), st.lists(st.floats(0, 1)))
def test_never_outside_its_limits(min_s: float, factor: float, shares: list[float]) -> None:
    backoff = Backoff(min_s, min_s * factor)
    assert all(min_s <= backoff.next(share) <= min_s * factor * (1 + 1e-9) for share in shares)


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (2, 1)])
def test_refuses_impossible_limits(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="min_s"):
        Backoff(*limits)
