"""Watching across a bad network: the agent and Chromium in two network namespaces with an impaired link between them. Needs root.

720p30 of 3 Mbit/s, over our own page; the bottleneck holds 300 ms. `--rows` takes the names in the first column, `--runs` how often
each is measured; figures are medians of the runs, the JSON has every run second by second. MediaMTX and go2rtc on the plain page.
"""

from __future__ import annotations

__all__ = ["run"]

import os
import shutil
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import psutil

from tests.bench import clips, servers
from tests.bench.browser import Viewing, chromium, our_page, whep_page
from tests.bench.firefox import COMMAND, firefox, firefox_page
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, Row
from tests.bench.surroundings import ROOT
from tests.bench.traffic import Change, Traffic, overloaded_s, worst_ratio
from tests.bench.watching import END_S, Watched, add_traffic, longest_freeze_s, watch
from tests.support.link import BOARD, Link
from tests.support.procs import Program
from tests.support.rtsp import RtspServer

PORT = 8080
CAMERA_MBPS = 3.0
SETTLED_S = 15.0
HEAD_START_S = 5.0
"""For how long the near one of two viewers has been watching when the far one comes."""
SETTLE_S = 4.0
RUNS, OTHERS_RUNS = 7, 3
OURS, IN_FIREFOX = "edgeagent", "edgeagent, Firefox"

BURSTS = [change for at in range(0, 300, 6) for change in (Change(at / 10, {"down": 1}), Change(at / 10 + 0.06, {"down": 0}))]


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table.

    Attributes:
        title: The link, for people.
        impairment: Options of `Link`.
        at_least, at_most: Goals: column and limit.
        plan: What happens to the link after the click.
        share: Share of the time in which the link is up.
        source: What is watched: the test pattern, an RTSP camera, or one with a sub stream.
        near: Whether another viewer in the board's own namespace watches, too.
        climbs: Whether it is told how soon after the click the picture has its full size and bitrate.
        others: Whether MediaMTX and go2rtc are measured as well, and ours in Firefox.
    """

    title: str
    impairment: dict[str, Any]
    at_least: dict[str, float] = field(default_factory=dict)
    at_most: dict[str, float] = field(default_factory=dict)
    plan: Sequence[Change] = ()
    share: float = 1.0
    source: str = "test pattern"
    near: bool = False
    climbs: bool = False
    others: bool = False

    def capacity(self, begin_s: float, end_s: float, most: float = 1e3) -> float:
        """Mbit/s that the link carries at most between two moments since the click, of a camera that sends `most`."""
        rate, since = self.impairment.get("rate", 0.0), 0.0
        steps: list[tuple[float, float]] = []
        for change in self.plan:
            if "rate" in change.knobs:
                steps.append((since, rate))
                rate, since = change.knobs["rate"], change.at_s
        steps.append((since, rate))
        total = 0.0
        for (since, rate), (until, _) in pairwise([*steps, (float("inf"), 0.0)]):
            total += max(0.0, min(end_s, until) - max(begin_s, since)) * min(rate or 1e6, most * 1000 / self.share)
        return self.share * total / (end_s - begin_s) / 1000


def _bottleneck(rate: float, **more: float) -> dict[str, Any]:
    return {"delay": 10, "queue": 300, "rate": rate} | more


_USED = {"use %": 75.0}
_CALM = {"over 1.3x s": 2.0}
_STEADY = _CALM | {"sent/carried 2 s": 1.3}

CASES: dict[str, Case] = {
    "free": Case("free", {}, {"camera %": 90.0}, others=True),
    "2M": Case(
        "2 Mbit/s",
        _bottleneck(2000),
        {"fps shown": 27} | _USED,
        {"freeze s": 0.5, "p95 ms": 250, "first picture ms": 1000} | _STEADY,
        others=True,
    ),
    "1M": Case(
        "1 Mbit/s",
        _bottleneck(1000),
        {"fps shown": 24} | _USED,
        {"freeze s": 1.0, "p95 ms": 350, "first picture ms": 1500} | _STEADY,
        others=True,
    ),
    "500k": Case("500 kbit/s", _bottleneck(500), {"fps shown": 15} | _USED, {"p95 ms": 600, "first picture ms": 2000} | _STEADY),
    "loss": Case(
        "5 Mbit/s, 40 ms, 2 % loss",
        _bottleneck(5000, delay=40, loss=0.02),
        {"fps shown": 28} | _USED,
        {"p95 ms": 250, "first picture ms": 1000} | _STEADY,
    ),
    "bursts": Case(
        "3 Mbit/s, 40 ms, down 60 of 600 ms",
        _bottleneck(3000, delay=40),
        {"fps shown": 20} | _USED,
        {"p95 ms": 500, "first picture ms": 2000} | _STEADY,
        plan=BURSTS,
        share=0.9,
    ),
    "drop": Case(
        "4, 0.7, 4 Mbit/s, 10 s each",
        _bottleneck(4000),
        _USED,
        {"smooth after s": 2.0, "sharp after s": 5.0} | _CALM,
        plan=[Change(10, {"rate": 700}), Change(20, {"rate": 4000})],
    ),
    "pair": Case("0.7 Mbit/s, and one near viewer", _bottleneck(700), {"near fps": 29.5, "near %": 90} | _USED, _STEADY, near=True),
    "far": Case(
        "10 Mbit/s, and one near viewer",
        _bottleneck(10_000),
        {"near fps": 29.5, "near %": 90} | _USED,
        {"sharp after s": 2.0} | _STEADY,
        near=True,
        climbs=True,
    ),
    "sub": Case(
        "10 Mbit/s, RTSP camera of 3 and 0.5",
        _bottleneck(10_000),
        _USED,
        {"sharp after s": 4.0} | _STEADY,  # two seconds, and two until the camera's next keyframe
        source="sub",
        climbs=True,
    ),
    "fixed": Case("1 Mbit/s, RTSP camera of 3", _bottleneck(1000), {}, {"freeze s": 1.0} | _STEADY, source="RTSP"),
}
QUICK = ("free", "2M")


def run(context: Context) -> Report:
    report = Report("link", "Across a bad link, 720p30 of 3 Mbit/s, medians; frames shown from second 1 to 30 after the click")
    if os.geteuid() != 0:
        report.notes.append("not measured: network namespaces need root")
        return report
    if unknown := set(context.rows) - set(CASES):
        raise SystemExit(f"no row named {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    for name in context.rows or (QUICK if context.quick else CASES):
        case = CASES[name]
        _measure(context, report, name, case, OURS, _ours)
        if case.others and not context.quick and not context.alone:
            _others(context, report, name, case)
    return report


def _others(context: Context, report: Report, name: str, case: Case) -> None:
    kinds: dict[str, tuple[str, Run]] = {
        IN_FIREFOX: (COMMAND, partial(_ours, opener=_in_firefox)),
        "mediamtx": ("mediamtx", partial(_peer, "mediamtx")),
        "go2rtc": ("go2rtc", partial(_peer, "go2rtc")),
    }
    for sender, (program, once) in kinds.items():
        if shutil.which(program):
            _measure(context, report, name, case, sender, once)
        elif (note := f"{program} is not on the PATH") not in report.notes:
            report.notes.append(note)


Run = Callable[[Context, Case, str], tuple[Watched, Row]]


def _measure(context: Context, report: Report, name: str, case: Case, sender: str, once: Run) -> None:
    """One row: medians over the runs, goals for our own."""
    rows: list[Row] = []
    runs: list[Row] = []
    often = context.runs or RUNS
    for number in range(1, 1 + (1 if context.quick else often if sender == OURS else min(often, OTHERS_RUNS))):
        context.log(f"{name}, {sender}, run {number}")
        watched, row = once(context, case, f"{name}-{number}")
        rows.append(row)
        runs.append({"row": name, "sender": sender, "figures": row, "seconds": watched.seconds})
        if context.runs == 1:
            context.log(_time_line(watched))
    columns = dict.fromkeys(column for row in rows for column in row)
    medians: Row = {column: _median([row.get(column) for row in rows]) for column in columns}
    report.rows.append(
        {"row": name, "link": case.title, "sender": sender} | medians | {"worst fps": min(row["fps shown"] for row in rows)}
    )
    report.runs += runs
    if sender in {OURS, IN_FIREFOX}:
        for at_least, limits in ((True, case.at_least), (False, case.at_most)):
            for column, limit in limits.items():
                goal = Goal(f"{case.title}{sender.removeprefix(OURS)}: {column}", medians[column], limit, at_least=at_least)
                goal.met = bool(goal.met)  # what never came is not met either
                report.goals.append(goal)


def _median(values: Sequence[float | None]) -> float | None:
    """The median, where None is worse than any number."""
    median = statistics.median([float("inf") if value is None else value for value in values])
    return median if median < float("inf") else None


@contextmanager
def _in_chromium(link: Link) -> Iterator[Viewing]:
    with (
        chromium(link.on_viewer()) as browser,
        our_page(browser, f"http://{BOARD}:{PORT}", servers.CAMERA, "whep") as viewing,
    ):
        yield viewing


@contextmanager
def _in_firefox(link: Link) -> Iterator[Viewing]:
    with (
        firefox(link.on_viewer(), link.viewer) as browser,
        firefox_page(browser, f"http://{BOARD}:{PORT}", servers.CAMERA, "whep") as viewing,
    ):
        yield viewing


def _ours(
    context: Context, case: Case, label: str, opener: Callable[[Link], AbstractContextManager[Viewing]] = _in_chromium
) -> tuple[Watched, Row]:
    """Our agent, its page, and where the case has one the near viewer."""
    end_s = 4.0 if context.quick else END_S + 0.5
    with ExitStack() as stack:
        link = stack.enter_context(Link(**case.impairment))
        camera: dict[str, Any] = TEST
        if case.source != "test pattern":
            camera = {"driver": "rtsp", "url": stack.enter_context(_rtsp(link))}
        if case.source == "sub":
            camera["sub"] = stack.enter_context(_rtsp(link, (640, 360), 0.5))
        config = {
            "device": "bench",
            "http": {"listen": f"{BOARD}:{PORT}", "open": True},
            "cameras": {servers.CAMERA: camera},
        }
        agent = stack.enter_context(servers.Agent(config, prefix=link.on_board()))
        stack.callback(_keep_log, context, label, agent)
        agent.wait_for(lambda: link.answers(PORT), "the agent to listen")
        viewing = stack.enter_context(opener(link))
        if case.near:
            return _pair(stack, link, agent, case, viewing, end_s)
        return _watch_link(stack, link, agent, case, viewing, end_s)


def _watch_link(stack: ExitStack, link: Link, program: Program, case: Case, viewing: Viewing, end_s: float) -> tuple[Watched, Row]:
    """Watch across the link; the figures of the viewer, of the link, of the sender's and the machine's CPU."""
    traffic = stack.enter_context(Traffic(link))
    psutil.cpu_percent()
    cpu_s = program.cpu_s()
    watched = watch(viewing, end_s=end_s, begun=lambda clicked_s: traffic.begin(case.plan, clicked_s))
    busy = {"sender CPU %": (program.cpu_s() - cpu_s) / end_s * 100, "machine CPU %": psutil.cpu_percent()}
    add_traffic(watched, traffic)
    return watched, watched.row() | _link_row(watched, traffic, case) | busy


def _link_row(watched: Watched, traffic: Traffic, case: Case) -> Row:
    end_s = min(END_S, watched.end_s)
    since_s = SETTLED_S if end_s > SETTLED_S else end_s / 2
    clicked_s = watched.clicked_s
    sent, carried = traffic.mbps(clicked_s + since_s, clicked_s + end_s)
    row: Row = {
        "sent Mbit/s": sent,
        "use %": carried / case.capacity(since_s, end_s, CAMERA_MBPS) * 100,
        "camera %": carried / CAMERA_MBPS * 100,
        "sent/carried 2 s": worst_ratio(traffic, clicked_s, case.capacity, end_s=end_s),
        "over 1.3x s": overloaded_s(traffic, clicked_s, case.capacity, end_s=end_s),
    }
    if rates := [change.at_s for change in case.plan if "rate" in change.knobs]:
        drop_s, rise_s = rates
        row["smooth after s"] = _smooth_after_s(watched, drop_s, rise_s)
        row["sharp after s"] = _sharp_after_s(watched, traffic, rise_s)
    if case.climbs:
        row["sharp after s"] = _sharp_after_s(watched, traffic, 0.0)
    return row


def _smooth_after_s(watched: Watched, drop_s: float, rise_s: float) -> float:
    """How long after the drop the last pause of more than 0.5 s ended; 24 fps from then on, or it counts as never smooth."""
    moments = [drop_s, *watched.moments_s(drop_s, rise_s), rise_s]
    after = max((later - drop_s for earlier, later in pairwise(moments) if later - earlier > 0.5), default=0.0)
    smooth = after < rise_s - drop_s - 1 and watched.fps(drop_s + max(after, 2.0), rise_s) >= 24
    return after if smooth else rise_s - drop_s


def _sharp_after_s(watched: Watched, traffic: Traffic, rise_s: float) -> float:
    """How long after the rise the picture has its full size again and a second of 24 frames and 75 % of the bitrate begins."""
    full = max((frame.width for frame in watched.shown), default=0)
    for step in range(round((END_S - 1 - rise_s) * 10)):
        at_s = rise_s + step / 10
        begin_s = watched.clicked_s + at_s
        smooth = watched.fps(at_s, at_s + 1) >= 24
        if smooth and watched.width_at(at_s) == full and traffic.mbps(begin_s, begin_s + 1)[1] >= 0.75 * CAMERA_MBPS:
            return step / 10
    return END_S - rise_s


def _pair(stack: ExitStack, link: Link, agent: Program, case: Case, viewing: Viewing, end_s: float) -> tuple[Watched, Row]:
    """One viewer across the link, while another has been watching in the board's own namespace for some seconds."""
    ready = threading.Event()
    found: list[Watched] = []

    def look() -> None:  # on a thread of its own, as Playwright wants it
        try:
            with (
                chromium(link.on_board()) as browser,
                our_page(browser, f"http://{BOARD}:{PORT}", servers.CAMERA, "whep") as viewing,
            ):
                found.append(watch(viewing, end_s=HEAD_START_S + end_s + 2, begun=lambda _: ready.set()))
        finally:
            ready.set()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        ready.wait()
        viewing.page.wait_for_timeout(HEAD_START_S * 1000)
        watched, row = _watch_link(stack, link, agent, case, viewing, end_s)
    finally:
        thread.join()
    if not found:
        raise RuntimeError("the near viewer saw nothing; its error stands above")
    near = found[0]
    begin_s = watched.clicked_s - near.clicked_s
    during = [line for line in near.seconds if begin_s + 1 <= line["s"] - 1 and line["s"] <= begin_s + END_S]
    return watched, row | {
        "near fps": near.fps(begin_s + 1, begin_s + END_S),
        "near %": statistics.mean(line["kbit/s"] for line in during) / CAMERA_MBPS / 10,
        "near freeze s": longest_freeze_s(near.moments_s(begin_s + 1, begin_s + END_S), begin_s + 1, begin_s + END_S),
    }


def _peer(name: str, context: Context, case: Case, label: str) -> tuple[Watched, Row]:
    """A peer, into which a camera of 3 Mbit/s with the same picture publishes, on the plain page."""
    with ExitStack() as stack:
        link = stack.enter_context(Link(**case.impairment))
        place = servers.Place(tuple(link.on_board()), BOARD, link.answers)
        maker = {"mediamtx": servers.mediamtx, "go2rtc": servers.go2rtc}[name]
        server = stack.enter_context(maker("", place=place))
        camera = [*link.on_board(), sys.executable, "-m", "tests.bench.ip_camera", server.rtsp]
        stack.enter_context(Program(camera, cwd=ROOT))
        browser = stack.enter_context(chromium(link.on_viewer()))
        viewing = stack.enter_context(whep_page(browser, server.whep))
        viewing.page.wait_for_timeout(SETTLE_S * 1000)  # its camera has begun by then
        return _watch_link(stack, link, server.program, case, viewing, END_S + 0.5)


@contextmanager
def _rtsp(link: Link, size: tuple[int, int] = (1280, 720), mbps: float = CAMERA_MBPS) -> Iterator[str]:
    """An RTSP camera on the board's side: a constant bitrate, an IDR every two seconds, without a stamp."""
    clip = clips.raw(clips.clip(*size, kbps=round(mbps * 1000)))
    with RtspServer(clip, prefix=link.on_board()) as server:
        yield server.url


def _keep_log(context: Context, label: str, agent: Program) -> None:
    folder = context.out / "link-logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{label}.log").write_text(agent.log)


_COLUMNS = (
    "fps",
    "composed",
    "decoded",
    "freeze s",
    "sent kbit/s",
    "carried kbit/s",
    "kbit/s",
    "age ms",
    "oldest ms",
    "buffer ms",
    "lost",
    "NACKs",
    "repaired",
    "PLIs",
    "keyframes",
    "qp",
    "size",
)


def _time_line(watched: Watched) -> str:
    rows = [{"s": line["s"]} | {column: line[column] for column in _COLUMNS} for line in watched.seconds]
    return Report("", "second by second", rows).table()
