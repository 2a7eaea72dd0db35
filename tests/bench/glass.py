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
from tests.bench.browser import Viewing, chromium, frozen_s, our_page, whep_page
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, percentile
from tests.bench.surroundings import ip_camera

SETTLE_S = 3.0


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
    context.log(f"{source}, {door}")
    with opener() as viewing:
        viewing.click()
        viewing.wait_picture()
        viewing.page.wait_for_timeout(2_000 if context.quick else 20_000)
        frames, inbound = viewing.frames(), viewing.inbound()
    span_ms = frames[-1].at_ms - frames[0].at_ms
    frames = [frame for frame in frames if frame.at_ms > frames[0].at_ms + min(SETTLE_S * 1000, span_ms / 2)]
    ages = [frame.age_ms for frame in frames if frame.age_ms is not None]
    emitted = inbound.get("jitterBufferEmittedCount", 0)
    report.rows.append(
        {
            "source": source,
            "page": door,
            "median": statistics.median(ages) if ages else None,
            "p95": percentile(ages, 0.95) if ages else None,
            "fps": (len(frames) - 1) * 1000 / (frames[-1].at_ms - frames[0].at_ms),
            "frozen s": frozen_s(frames),
            "jitter buffer": inbound.get("jitterBufferDelay", 0) / emitted * 1000 if emitted else None,
            "decode": inbound.get("totalDecodeTime", 0) / max(1, inbound.get("framesDecoded", 0)) * 1000,
        }
    )
