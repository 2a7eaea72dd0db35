from __future__ import annotations

import math

import pytest

from edgeagent.core.numbers import finite


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, 10**400, "1", None, [1]])
def test_what_is_no_number(value: object) -> None:
    assert finite(value) is None


@pytest.mark.parametrize("value", [0, -1.5, 2**1000])
def test_numbers(value: float) -> None:
    assert finite(value) == value
