"""What a page that nobody looks at costs, hidden behind another tab or paused, and how soon it shows its picture again."""

from __future__ import annotations

__all__ = ["run"]

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report
from tests.bench.servers import CAMERA, Server, health, ours
from tests.support.chromium import chromium
from tests.support.procs import DEADLINE_S, wait_until
from tests.support.tab import Tab

RUNS = 5
OFF_S, BACK_S = 10.0, 1.0
CPU_S = 10.0
_POLL_S = 0.02

_VIDEO = f"window.edge.camera('{CAMERA}').video"
_ASKED = "window.asked = performance.timeOrigin + performance.now()"
_WATCH = f"""(() => {{
    document.addEventListener('visibilitychange', () => {{ {_ASKED}; }});
    window.arrivals = [];
    const look = (now, frame) => {{
        if (frame.receiveTime) window.arrivals.push([performance.timeOrigin + frame.receiveTime, performance.timeOrigin + now]);
        window.arrivals.splice(0, window.arrivals.length - 500);
        {_VIDEO}.requestVideoFrameCallback(look);
    }};
    {_VIDEO}.requestVideoFrameCallback(look);
}})()"""
# the first frame that came from the agent after it was asked for, not one that had been waiting in the page
_BACK = "window.arrivals.find(([received]) => received > window.asked)?.[1] ?? null"


def run(context: Context) -> Report:
    report = Report("unwatched", "A page that nobody looks at: until nothing is encoded for it, and until its picture is back")
    runs, window_s = (1, 1.0) if context.quick else (context.runs or RUNS, CPU_S)
    report.notes.append(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with ours(TEST) as server, chromium() as browser:
        idle = server.program.cpu_percent(window_s)
        tab = Tab(browser, f"{server.page}/#camera={CAMERA}&door=whep")
        wait_until(lambda: tab.evaluate(f"window.edge?.cameras['{CAMERA}']?.phase") == "live", "the picture", deadline_s=DEADLINE_S)
        tab.evaluate(_WATCH)
        ways: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
            ("hidden", tab.hide, tab.show),
            ("paused", lambda: tab.evaluate(f"{_ASKED}; {_VIDEO}.pause()"), lambda: tab.evaluate(f"{_ASKED}; {_VIDEO}.play()")),
        ]
        for way, leave, look in ways:
            context.log(way)
            _add(report, way, idle, [_once(window_s, server, tab, leave, look) for _ in range(runs)])
    report.notes.append(f"CPU is of one core; without any page {idle:.2f} %")
    report.notes.append(f"load average at the end {os.getloadavg()[0]:.1f}")
    return report


@dataclass(frozen=True, slots=True)
class _Run:
    """One time away: s until the camera was off, % of a core from then on, s until a new picture was on the screen."""

    off_s: float
    cpu_percent: float
    back_s: float


def _add(report: Report, way: str, idle: float, found: Sequence[_Run]) -> None:
    off_s, back_s = [each.off_s for each in found], [each.back_s for each in found]
    cpu = statistics.median(each.cpu_percent for each in found)
    report.rows.append(
        {
            "page": way,
            "off, median s": statistics.median(off_s),
            "off, worst s": max(off_s),
            "CPU then %": cpu,
            "CPU without a page %": idle,
            "back, median s": statistics.median(back_s),
            "back, worst s": max(back_s),
            "runs": len(found),
        }
    )
    report.runs += [{"page": way, "off s": each.off_s, "CPU %": each.cpu_percent, "back s": each.back_s} for each in found]
    report.goals.append(Goal(f"{way}: nothing encoded or sent after, worst", max(off_s), OFF_S, "s"))
    report.goals.append(Goal(f"{way}: CPU from then on", cpu, 1, "% of a core"))
    report.goals.append(Goal(f"{way}: picture back after, worst", max(back_s), BACK_S, "s"))


def _once(window_s: float, server: Server, tab: Tab, leave: Callable[[], Any], look: Callable[[], Any]) -> _Run:
    def asked_s() -> float:
        return float(tab.evaluate("window.asked")) / 1000

    tab.evaluate("window.arrivals.length = 0")
    wait_until(lambda: tab.evaluate("window.arrivals.length") > 30, "a moving picture", deadline_s=DEADLINE_S)
    leave()
    while (state := _camera(server))["phase"] != "off":
        time.sleep(_POLL_S)
    off_s = time.time() - asked_s()
    cpu = server.program.cpu_percent(window_s)
    if _camera(server)["frames"] != state["frames"]:
        raise RuntimeError("the camera that is off has made pictures")
    look()
    wait_until(lambda: tab.evaluate(_BACK) is not None, "the picture to be back", deadline_s=DEADLINE_S)
    return _Run(off_s, cpu, float(tab.evaluate(_BACK)) / 1000 - asked_s())


def _camera(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = health(server.page)["cameras"][CAMERA]
    return found
