"""Watching across a bad network: the agent and Chromium in two network namespaces with an impaired link between them. Needs root.

The test pattern is asked for 3 Mbit/s at 30 fps.
"""

from __future__ import annotations

__all__ = ["run"]

import os
import statistics
from typing import Any

from tests.bench import servers
from tests.bench.browser import chromium, frozen_s, our_page
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, Row, percentile
from tests.support.link import BOARD, Link

LINKS: dict[str, dict[str, float]] = {
    "free": {},
    "40 ms, 2 % loss": {"delay": 40, "loss": 0.02},
    "40 ms, 10 % loss": {"delay": 40, "loss": 0.1},
    "2 Mbit/s": {"delay": 10, "rate": 2000, "queue": 300},
    "1 Mbit/s": {"delay": 10, "rate": 1000, "queue": 300},
}
PORT = 8080
SETTLE_S = 5.0


def run(context: Context) -> Report:
    report = Report("link", "Across a bad link, 720p30 test pattern of 3 Mbit/s, our page")
    if os.geteuid() != 0:
        report.notes.append("not measured: network namespaces need root")
        return report
    for name, impairment in LINKS.items():
        if context.quick and name not in {"free", "40 ms, 2 % loss"}:
            continue
        context.log(name)
        report.rows.append({"link": name} | _watch(context, impairment))
    for row in report.rows:
        if row["link"] == "40 ms, 2 % loss":
            report.goals.append(Goal("frames of 30 that were not shown, 40 ms and 2 % loss", 30 - row["fps shown"], 1, "a second"))
            report.goals.append(Goal("packets that never came, 40 ms and 2 % loss", row.get("never came %"), 0.1, "%"))
    return report


def _watch(context: Context, impairment: dict[str, Any]) -> Row:
    config = {
        "device": "bench",
        "http": {"listen": f"{BOARD}:{PORT}", "open": True},
        "cameras": {servers.CAMERA: TEST},
    }
    window_s = 3.0 if context.quick else 20.0
    with (
        Link(**impairment) as link,
        servers.Agent(config, prefix=link.on_board()) as agent,
        chromium(link.on_viewer()) as browser,
    ):
        agent.wait_for(lambda: link.answers(PORT), "the agent to listen")
        with our_page(browser, f"http://{BOARD}:{PORT}", servers.CAMERA, "whep") as viewing:
            viewing.click()
            try:
                viewing.wait_picture(deadline_s=30)
            except TimeoutError:
                return {"fps shown": 0.0}
            first = viewing.moments()["first-frame"]
            viewing.page.wait_for_timeout(1000 if context.quick else SETTLE_S * 1000)
            before, now_ms = viewing.inbound(), viewing.now_ms()
            viewing.page.wait_for_timeout(window_s * 1000)
            after, end_ms = viewing.inbound(), viewing.now_ms()
            frames = [frame for frame in viewing.frames() if frame.at_ms >= now_ms]
    ages = [frame.age_ms for frame in frames if frame.age_ms is not None]
    row: Row = {
        "fps shown": len(frames) * 1000 / (end_ms - now_ms),
        "frozen s": frozen_s(frames, begin_ms=now_ms, end_ms=end_ms),
        "median ms": statistics.median(ages) if ages else None,
        "p95 ms": percentile(ages, 0.95) if ages else None,
        "first picture ms": first,
    }
    if before.get("ssrc") != after.get("ssrc") or not after:
        return row | {"note": "reconnected"}

    def rise(name: str) -> float:
        return float(after.get(name, 0) - before.get(name, 0))

    # by RTX, on an SSRC of its own: what it repairs stays in `packetsLost`
    lost, repaired = rise("packetsLost"), rise("retransmittedPacketsReceived")
    return row | {
        "fps decoded": rise("framesDecoded") / window_s,
        "dropped": rise("framesDropped"),
        "Mbit/s": rise("bytesReceived") * 8e-6 / window_s,
        "lost": lost,
        "repaired": repaired,
        "never came %": max(0.0, lost - repaired) / max(1.0, rise("packetsReceived")) * 100,
        "NACKs": rise("nackCount"),
        "PLIs": rise("pliCount"),
    }
