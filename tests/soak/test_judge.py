from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.judge import Glass, Quiet, complaints, slope

ONE = Quiet(0, 100.0, 9, 40, 20, 1, 30, 1)
STEADY = [replace(ONE, at_s=600.0 * i, memory_mb=100 + (i % 3) / 2, sockets=20 + i % 2) for i in range(12)]
FINE: dict[str, tuple[Glass | None, Glass | None, float]] = {"page": (Glass(50, 60), Glass(59, 300), 0.0)}


def test_a_steady_agent_is_fine() -> None:
    assert complaints(STEADY, FINE, [], []) == []


def test_settling_is_not_growth() -> None:
    settling = [replace(one, memory_mb=one.memory_mb - 40, threads=2) if i < 3 else one for i, one in enumerate(STEADY)]
    assert complaints(settling, FINE, [], []) == []


@pytest.mark.parametrize("name", ["threads", "descriptors", "sockets", "children", "tasks", "sessions"])
def test_what_grows_is_named(name: str) -> None:
    growing = [replace(one, **{name: getattr(ONE, name) + i}) for i, one in enumerate(STEADY)]
    (said,) = complaints(growing, FINE, [], [])
    assert said.startswith(f"{name} grew: ")


def test_memory_grows() -> None:
    (said,) = complaints([replace(one, memory_mb=100 + i) for i, one in enumerate(STEADY)], FINE, [], [])
    assert said == "memory grew by 8.0 MB in 80 min, from 103.0 MB"


def test_memory_of_a_short_run_is_not_judged() -> None:
    assert complaints([replace(one, at_s=one.at_s / 10, memory_mb=100 + i) for i, one in enumerate(STEADY)], FINE, [], []) == []


def test_one_peak_is_no_growth() -> None:
    assert complaints([*STEADY[:-1], replace(STEADY[-1], memory_mb=150, tasks=90)], FINE, [], []) == []


def test_delay_pictures_and_log() -> None:
    worse = FINE | {
        "old page": (Glass(50, 60), Glass(61, 70), 0.0),
        "page that stays": (Glass(50, 60), Glass(61, 70), 2.0),
        "new page": (None, Glass(1, 2), 0.0),
    }
    assert complaints(STEADY, worse, ["a viewer had none"], ["Traceback"]) == [
        "a viewer had none",
        "the log says: Traceback",
        "old page: glass to glass is 61 ms at the end and was 50 ms in the first minute",
        "new page: no picture was stamped in the first minute",
    ]


def test_too_short() -> None:
    assert complaints(STEADY[:3], FINE, [], []) == [] and "run it for longer" in complaints(STEADY[:2], FINE, [], [])[0]


def test_slope() -> None:
    assert slope([]) == 0
    assert slope([(0, 1), (10, 2), (20, 3), (30, 4), (40, 99)]) == pytest.approx(0.1, abs=0.001)
