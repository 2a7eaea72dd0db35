"""CPU per packet and per viewer, and memory, of each sender at 1, 8, 24 and 64 viewers of one pre-encoded clip.

The clients only count. On loopback the kernel's receiving half is charged to the sender, for all of them alike.
"""

from __future__ import annotations

__all__ = ["run"]

import itertools
import statistics
import time

from tests.bench.clips import clip
from tests.bench.report import Context, Goal, Report
from tests.bench.servers import SENDERS, Server, available
from tests.support.procs import wait_until
from tests.support.whep import Viewers

VIEWERS = (1, 8, 24, 64)
MOST = {"aiortc": 24}
"""aiortc's own sender has more than it can do beyond."""
SETTLE_S, WINDOW_S, WINDOWS = 3.0, 5.0, 3


def run(context: Context) -> Report:
    source = clip(640, 360, kbps=800, seconds=10) if context.quick else clip(1920, 1080)
    report = Report("sender", "CPU of the sender: one pre-encoded clip, clients that count")
    counts = (1, 4) if context.quick else VIEWERS
    for name, make in SENDERS.items():
        if not available(name):
            report.notes.append(f"{name} is not on the PATH")
            continue
        with make(source) as server:
            for count in counts:
                if count <= MOST.get(name, count):
                    context.log(f"{name}, {count} viewers")
                    report.rows.append({"sender": name} | measure(context, server, count))
    _judge(report)
    return report


def measure(context: Context, server: Server, count: int) -> dict[str, float | int]:
    """One row: `count` viewers of a server that runs."""
    _await_camera(context, server)
    costs, shares, rates, frames = [], [], [], []
    with Viewers(context.whep_count, server.whep, count, "-stagger=30ms") as viewers:
        viewers.wait_open(deadline_s=60)
        time.sleep(0.0 if context.quick else SETTLE_S)
        for _ in range(1 if context.quick else WINDOWS):
            before, cpu, start = viewers.snapshot(), server.program.cpu_s(), time.monotonic()
            time.sleep(1.0 if context.quick else WINDOW_S)
            wait_until(lambda so_far=before["frames"]: viewers.snapshot()["frames"] > so_far, "a frame")  # type: ignore[misc]
            after, cpu_after, end = viewers.snapshot(), server.program.cpu_s(), time.monotonic()
            costs.append((cpu_after - cpu) / (after["packets"] - before["packets"]) * 1e6)
            shares.append((cpu_after - cpu) / (end - start) / count * 100)
            rates.append((after["bytes"] - before["bytes"]) * 8e-6 / (end - start) / count)
            frames.append((after["frames"] - before["frames"]) / (end - start) / count)
        rss = server.program.rss_bytes()
        last = viewers.result()
    return {
        "viewers": count,
        "µs/packet": statistics.median(costs),
        "%core/viewer": statistics.median(shares),
        "Mbit/s/viewer": statistics.median(rates),
        "fps": statistics.median(frames),
        "lost": last["lost"] + last["missing"],
        "RSS MB": rss / 1e6,
        "first keyframe ms": last["first_keyframe_ms_median"],
    }


def _await_camera(context: Context, server: Server) -> None:
    """Wait until one viewer gets a picture: a publisher may just be coming."""

    def served() -> bool:
        with Viewers(context.whep_count, server.whep) as probe:
            try:
                probe.wait_open(deadline_s=10)
            except (RuntimeError, TimeoutError):
                return False
        return True

    wait_until(served, f"{server.name} to serve its camera", deadline_s=60)


def _judge(report: Report) -> None:
    """The limits of the project: against aiortc, against the better peer, and that more viewers cost less each."""
    cost = {(row["sender"], row["viewers"]): row["µs/packet"] for row in report.rows}
    memory = {(row["sender"], row["viewers"]): row["RSS MB"] for row in report.rows}
    counts = sorted({row["viewers"] for row in report.rows})

    def ratio(values: dict[tuple[str, int], float], count: int, *others: str) -> float | None:
        known = [values[name, count] for name in others if (name, count) in values]
        return values["edgeagent", count] / min(known) if known and ("edgeagent", count) in values else None

    report.goals.append(Goal("CPU per packet at 8 viewers, of aiortc's", ratio(cost, 8, "aiortc"), 0.2))
    for count in (8, 24):
        report.goals.append(
            Goal(f"CPU per packet at {count} viewers, of the better peer's", ratio(cost, count, "mediamtx", "go2rtc"), 0.7)
        )
    report.goals.append(Goal("memory at 64 viewers, of the better peer's", ratio(memory, 64, "mediamtx", "go2rtc"), 1.0))
    for fewer, more in itertools.pairwise(counts):
        if ("edgeagent", fewer) in cost and ("edgeagent", more) in cost:
            rise = cost["edgeagent", more] / cost["edgeagent", fewer]
            report.goals.append(Goal(f"CPU per packet at {more} viewers, of that at {fewer}", rise, 1.0))
