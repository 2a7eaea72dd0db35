"""What the bench of bad links says of what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from tests.bench.browser import Frame, Shown
from tests.bench.link import CASES, _median, _sharp_after_s, _smooth_after_s
from tests.bench.traffic import Count, Traffic, overloaded_s, worst_ratio
from tests.bench.watching import Watched, longest_freeze_s
from tests.support.components import require
from tests.support.link import Link

ROOT = Path(__file__).resolve().parents[2]


def traffic(*mbps: float, carried: float = 1.0) -> Traffic:
    """Ten counts a second, where `mbps` is sent in each second."""
    found = Traffic(cast(Link, None))
    total = 0.0
    for step in range(len(mbps) * 10 + 1):
        found.counts.append(Count(100 + step / 10, round(total), 0, round(step * carried * 12_500), 0))
        total += mbps[min(step // 10, len(mbps) - 1)] * 12_500
    return found


def watched(*fps: int, width: int = 1280) -> Watched:
    """A picture with so many frames in each second."""
    shown = [Shown(1000 * (second + frame / rate), width, 0) for second, rate in enumerate(fps) for frame in range(rate)]
    return Watched(100.0, len(fps), shown=shown)


def test_bitrates_of_an_interval() -> None:
    assert traffic(2, 4, carried=1.5).mbps(101, 102) == pytest.approx((4, 1.5))
    assert traffic(2).mbps(300, 301) == (0, 0)


def test_what_is_sent_is_compared_with_what_the_link_carries() -> None:
    def two_mbps(begin_s: float, end_s: float) -> float:
        return 2.0

    storm = traffic(2, 2, 8, 8, 2, 2, 2)
    assert worst_ratio(storm, 100, two_mbps, end_s=7) == pytest.approx(4, rel=0.01)
    assert overloaded_s(storm, 100, two_mbps, end_s=7) == pytest.approx(2.8, abs=0.15)  # windows of 0.5 s reach over both ends
    calm = traffic(*[2.4] * 7)
    assert worst_ratio(calm, 100, two_mbps, end_s=7) == pytest.approx(1.2, rel=0.01)
    assert overloaded_s(calm, 100, two_mbps, end_s=7) == 0


def test_capacity_follows_the_plan() -> None:
    case = CASES["drop"]
    assert case.capacity(0, 10) == pytest.approx(4)
    assert case.capacity(10, 20) == pytest.approx(0.7)
    assert case.capacity(5, 15) == pytest.approx(2.35)
    assert case.capacity(15, 30) == pytest.approx((5 * 0.7 + 10 * 4) / 15)
    assert CASES["bursts"].capacity(3, 5) == pytest.approx(2.7)
    assert CASES["free"].capacity(0, 1) > 100


def test_freezes_reach_to_both_ends() -> None:
    assert longest_freeze_s([], 1, 30) == 29
    assert longest_freeze_s([4, 5, 6], 1, 7) == 3
    assert longest_freeze_s([1.5, 2], 1, 7) == 5


def test_what_never_came_is_worse_than_any_number() -> None:
    assert _median([3, None, 1]) == 3
    assert _median([None, None, 1]) is None


def test_smooth_again_is_after_the_last_long_pause() -> None:
    assert _smooth_after_s(watched(*[30] * 30), 10, 20) == 0
    pause = watched(*[30] * 10, 0, *[30] * 19)
    assert _smooth_after_s(pause, 10, 20) == pytest.approx(1, abs=0.05)
    assert _smooth_after_s(watched(*[30] * 10, *[5] * 20), 10, 20) == 10
    assert _smooth_after_s(watched(*[30] * 10, *[0] * 20), 10, 20) == 10


def test_sharp_again_takes_size_bitrate_and_smoothness() -> None:
    seen = watched(*[30] * 30)
    assert _sharp_after_s(seen, traffic(*[1] * 30, carried=3), 20) == 0
    assert _sharp_after_s(seen, traffic(*[1] * 30, carried=2), 20) == 10
    assert _sharp_after_s(watched(*[30] * 20, *[10] * 10), traffic(*[1] * 30, carried=3), 20) == 10
    small = Watched(100.0, 30, shown=[Shown(f.at_ms, 640 if 20_000 <= f.at_ms < 24_000 else 1280, 0) for f in seen.shown])
    assert _sharp_after_s(small, traffic(*[1] * 30, carried=3), 20) == pytest.approx(4, abs=0.11)


def test_a_row_counts_from_second_one() -> None:
    seen = watched(*[30] * 30)
    seen.stamped = [Frame(500, 9000), Frame(1500, 40), Frame(2500, 60), Frame(30_500, 9000)]
    row = seen.row()
    assert row["fps shown"] == pytest.approx(30)
    assert (row["p50 ms"], row["p95 ms"]) == (50, 60)
    assert row["first picture ms"] is None


@pytest.mark.e2e
@pytest.mark.netns
@pytest.mark.timeout(240)
def test_a_quick_run(tmp_path: Path) -> None:
    require("chromium")
    command = [sys.executable, "-m", "tests.bench", "link", "--quick", "--rows", "2M", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "link.json").read_text())
    (run,) = report["runs"]
    assert [line["s"] for line in run["seconds"]] == [1, 2, 3, 4]
    assert sum(line["carried kbit/s"] for line in run["seconds"]) > 100
    assert any(line["composed"] for line in run["seconds"])
    assert (tmp_path / "link-logs" / "2M-1.log").read_text()
