"""Glass to glass in Chromium, 720p30 at 3 Mbit/s: from the stamp in the pixels to the display that the browser expects.

Ours from its test pattern, on its own page and on the plain one; ours and the peers from an IP camera, on the plain one.
"""

from __future__ import annotations

__all__ = ["run"]

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from tests.bench import servers
from tests.bench.browser import Frame, Viewing, chromium, frozen_s, our_page, whep_page
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, Row, percentile
from tests.bench.surroundings import ip_camera
from tests.support.procs import wait_until

SETTLE_S, WINDOW_S, SESSIONS = 3.0, 6.0, 5


def run(context: Context) -> Report:
    report = Report("glass", "Glass to glass in Chromium, 720p30 at 3 Mbit/s, ms")
    with ip_camera(context.go2rtc) as camera, chromium() as browser:
        with servers.ours(TEST) as server:
            page = partial(our_page, browser, server.page, servers.CAMERA, "whep")
            _case(context, report, "edgeagent, test pattern", "own page", page)
            _case(context, report, "edgeagent, test pattern", "plain page", partial(whep_page, browser, server.whep))
        for name in ("edgeagent", "mediamtx", "go2rtc"):
            if not servers.available(name):
                report.notes.append(f"{name} is not on the PATH")
                continue
            with servers.SENDERS[name](camera) as server:
                _case(context, report, f"{name}, RTSP", "plain page", partial(whep_page, browser, server.whep))
    report.goals.append(Goal("from the test pattern, median", report.rows[0]["median"], 45, "ms"))
    return report


def _case(context: Context, report: Report, source: str, door: str, opener: Callable[[], AbstractContextManager[Viewing]]) -> None:
    """One row: the median over sessions, since a browser that has fallen a frame behind stays so for the whole session."""
    context.log(f"{source}, {door}")
    sessions = [_session(context, opener) for _ in range(1 if context.quick else SESSIONS)]
    medians = [one["median"] for one in sessions]
    row: Row = {"source": source, "page": door}
    row |= {name: statistics.median(one[name] for one in sessions) for name in sessions[0]}
    report.rows.append(row | {"best": min(medians), "worst": max(medians)})


def _session(context: Context, opener: Callable[[], AbstractContextManager[Viewing]]) -> dict[str, float]:
    with opener() as viewing:
        viewing.click()
        viewing.wait_picture()
        viewing.page.wait_for_timeout(0 if context.quick else SETTLE_S * 1000)
        begin_ms = viewing.now_ms()
        viewing.page.wait_for_timeout(1_000 if context.quick else WINDOW_S * 1000)
        end_ms, frames, ages = begin_ms, list[Frame](), list[float]()

        def stamped() -> bool:
            nonlocal end_ms, frames, ages
            end_ms = viewing.now_ms()
            frames = [frame for frame in viewing.frames() if begin_ms <= frame.at_ms <= end_ms]
            ages = [frame.age_ms for frame in frames if frame.age_ms is not None]
            return bool(ages)

        wait_until(stamped, "a frame with a stamp that can be read")
        inbound = viewing.inbound()
    return {
        "median": statistics.median(ages),
        "p95": percentile(ages, 0.95),
        "fps": len(frames) * 1000 / (end_ms - begin_ms),
        "frozen s": frozen_s(frames, begin_ms=begin_ms, end_ms=end_ms),
        "jitter buffer": inbound.get("jitterBufferDelay", 0) / max(1, inbound.get("jitterBufferEmittedCount", 0)) * 1000,
        "decode": inbound.get("totalDecodeTime", 0) / max(1, inbound.get("framesDecoded", 0)) * 1000,
    }
