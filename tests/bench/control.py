"""Control while video runs: command to motor, round trip, expiry on a bad link, from each cause to standstill, cost of telemetry.

The operator is a Pion client (client/operate.go), the motor a driver that writes down when it is told what. All times are of one
clock, CLOCK_MONOTONIC.
"""

from __future__ import annotations

__all__ = ["run"]

import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import stopping
from tests.bench.clips import clip
from tests.bench.motor import TOKEN, Motor, driven_agent
from tests.bench.operating import VALUE_WRAP, Operator, seq_of, ticket
from tests.bench.operating import Report as Driven
from tests.bench.report import Context, Goal, Report, Row, median, percentile
from tests.bench.servers import CAMERA, ours
from tests.support.link import Link
from tests.support.procs import wait_until
from tests.support.whep import Viewers

EXPIRY_MS, PICTURE_MS = 300, 1000
VIEWERS = 4
LINK_DELAY_MS, LINK_LOSS = 40, 0.02
SENSORS, SENSOR_HZ = 20, 10
KINDS = ("temperature", "humidity", "light")
STALL = "stalls of 0.5 s"


def run(context: Context) -> Report:
    report = Report("control", "Control: command to motor, on bad links, from cause to standstill, telemetry")
    source = clip(640, 360, kbps=800, seconds=10) if context.quick else clip(1280, 720, kbps=3000, seconds=20)
    report.notes.append(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    _latency(context, report, source)
    if os.geteuid() == 0:
        _bad_link(context, report, source)
    else:
        report.notes.append("no bad link: network namespaces need root")
    _stops(context, report, source)
    _telemetry(context, report, source)
    report.notes.append(f"load average at the end {os.getloadavg()[0]:.1f}")
    return report


# Command to motor


def _latency(context: Context, report: Report, source: Path) -> None:
    """Without video, with video to four viewers of whom one drives, and without once more: what the machine does beside passes."""
    seconds = 1.5 if context.quick else 10.0
    with driven_agent(source, max_picture_age_ms=0) as (agent, motor):  # one may drive without a picture
        found = {
            title: _driving(context, agent.base, motor, viewers, seconds, title)
            for title, viewers in (("no video", 0), (f"video to {VIEWERS}", VIEWERS), ("no video, again", 0))
        }
    report.rows += found.values()
    with_video, without = found[f"video to {VIEWERS}"], [found["no video"], found["no video, again"]]

    def ratio(column: str) -> float | None:
        known = [row[column] for row in without if row[column] is not None]
        return with_video[column] / statistics.mean(known) if known and with_video[column] is not None else None

    report.goals += [
        Goal("p99 from set-point to motor, with video", with_video["p99 ms"], 15.0, "ms"),
        Goal("p99 of the round trip, with video", with_video["round trip p99 ms"], 15.0, "ms"),
        Goal("the same, wished for", with_video["round trip p99 ms"], 8.0, "ms"),
        Goal("median with video, of that without", ratio("median ms"), 1.5),
        Goal("median of the round trip with video, of that without", ratio("round trip ms"), 1.5),
    ]


def _driving(context: Context, base: str, motor: Motor, viewers: int, seconds: float, title: str) -> Row:
    context.log(title)
    with ExitStack() as stack:
        if viewers:
            others = stack.enter_context(Viewers(context.whep_count, f"{base}/{CAMERA}/whep", viewers - 1))
            others.wait_open()
        camera = CAMERA if viewers else ""
        operator = stack.enter_context(Operator(context.whep_count, base, ticket(base), camera=camera))
        return {"drive": title} | _paced(operator, motor, 2 * seconds if viewers else seconds)


def _paced(operator: Operator, motor: Motor, seconds: float, expiry_s: float = EXPIRY_MS / 1000) -> Row:
    """Drive at an even pace; where a busy machine lets everything stand still, that is counted, and it goes on."""
    operator.take_lease()
    operator.arm()
    operator.drive()
    time.sleep(0.5)
    operator.report()
    since, stops = time.monotonic(), 0
    while time.monotonic() < since + seconds:
        time.sleep(0.1)
        if operator.group["state"] != "armed":
            stops += 1
            operator.arm()
            operator.drive()
    operator.tell("pause")
    time.sleep(expiry_s + 0.2)
    return _figures(operator.report(), motor, since, expiry_s) | {"stops": stops}


def _figures(driven: Driven, motor: Motor, since: float, expiry_s: float) -> Row:
    sent = {point.seq % VALUE_WRAP: point.at for point in driven.points if point.at > since}
    applied: dict[int, float] = {}
    for line in motor.lines(since):
        if line["what"] == "apply" and (seq := seq_of(line["throttle"])) is not None and seq in sent:
            applied.setdefault(seq, line["at"])
    ways = [(at - sent[seq]) * 1000 for seq, at in applied.items()]
    trips = [(ack.at - sent[ack.seq % VALUE_WRAP]) * 1000 for ack in driven.acks if ack.seq % VALUE_WRAP in sent]
    dropped = [ack.why for ack in driven.acks if not ack.taken and ack.seq % VALUE_WRAP in sent]
    return {
        "sent": len(sent),
        "applied %": 100 * len(applied) / len(sent),
        "dropped": ", ".join(f"{dropped.count(why)} {why}" for why in sorted(set(dropped))) or "none",
        "median ms": median(ways),
        "p99 ms": percentile(ways, 0.99) if ways else None,
        "worst ms": max(ways, default=None),
        "round trip ms": median(trips),
        "round trip p99 ms": percentile(trips, 0.99) if trips else None,
        "after expiry": sum(way > expiry_s * 1000 for way in ways),
    }


# Bad links


def _bad_link(context: Context, report: Report, source: Path) -> None:
    """A set-point may be applied `expiry` after it was sent, besides the link's own delay, which no clock here can tell."""
    seconds = 3.0 if context.quick else 10.0
    life_s = (EXPIRY_MS + LINK_DELAY_MS) / 1000
    rows: list[Row] = []
    with (
        Link(delay=LINK_DELAY_MS, loss=LINK_LOSS) as link,
        driven_agent(source, prefix=link.on_board(), remote=True) as (agent, motor),
    ):
        wait_until(lambda: link.answers(agent.port), "the agent to answer across the link")
        for stalls in (False, True):
            title = f"{LINK_DELAY_MS} ms, {LINK_LOSS:.0%} loss" + (f", {STALL}" if stalls else "")
            context.log(title)
            with Operator(context.whep_count, agent.base, TOKEN, camera=CAMERA, prefix=link.on_viewer()) as operator:
                rows.append(
                    {"drive": title}
                    | (_stalled(operator, motor, link, life_s) if stalls else _paced(operator, motor, seconds, life_s))
                )
    report.rows += rows
    report.goals.append(Goal("set-points applied after their expiry, on bad links", sum(row["after expiry"] for row in rows), 0))
    report.goals.append(Goal(f"set-points applied at {LINK_LOSS:.0%} loss", rows[0]["applied %"], 96.0, "%", at_least=True))


def _stalled(operator: Operator, motor: Motor, link: Link, life_s: float) -> Row:
    """Packets are held up for half a second and come then, late: none of them may move anything."""
    operator.take_lease()
    operator.arm()
    operator.drive()
    time.sleep(0.5)
    operator.report()
    since = time.monotonic()
    for _ in range(3):
        link.change(delay=LINK_DELAY_MS + 500)
        time.sleep(0.4)
        link.change(delay=LINK_DELAY_MS)
        wait_until(lambda: operator.group["state"] != "armed", "the standstill to be told")
        operator.arm()
        operator.drive()
        time.sleep(0.6)
    operator.tell("pause")
    time.sleep(life_s + 0.7)
    return _figures(operator.report(), motor, since, life_s)


# Standstill


def _stops(context: Context, report: Report, source: Path) -> None:
    runs = 1 if context.quick else 5
    rows: list[Row] = []
    with driven_agent(source) as (agent, motor), stopping.Drive(context.whep_count, agent, motor) as drive:
        for cause in stopping.causes(EXPIRY_MS, PICTURE_MS):
            context.log(cause.what)
            rows.append(stopping.stops(drive, cause, runs))
    context.log("agent killed")
    rows.append(stopping.agent_killed(context.whep_count, source, runs))
    if os.geteuid() == 0:
        context.log("link cut")
        rows.append(stopping.across_the_link(context.whep_count, source, runs, EXPIRY_MS))
        report.goals.append(Goal("from the cut of the link to standstill, worst", rows[-1]["worst ms"], EXPIRY_MS + 50, "ms"))
    report.rows += rows
    limited = [row for row in rows if row["limit ms"] is not None]
    report.goals.append(Goal("worst of all causes with a limit, of that", max(r["worst ms"] / r["limit ms"] for r in limited), 1.0))
    report.goals.append(Goal("stops after which something moved", sum(row["moved again"] for row in rows), 0))


# Telemetry


def _telemetry(context: Context, report: Report, source: Path) -> None:
    """What 20 sensors cost: read by nobody, told to four viewers; against the same agent and viewers without sensors."""
    sensors = {
        f"sensor-{n}": {"driver": "sim-sensor", "readings": [KINDS[n % len(KINDS)]], "day_s": 4.0, "interval_s": 1 / SENSOR_HZ}
        for n in range(SENSORS)
    }
    shares: dict[str, float] = {}
    for title, devices, viewers in (
        ("no sensors, 4 viewers", {}, VIEWERS),
        ("20 sensors, nobody", sensors, 0),
        ("20 sensors, 4 viewers", sensors, VIEWERS),
    ):
        context.log(title)
        row = _cost(context, source, devices, viewers)
        shares[title] = row["% of a core"]
        report.rows.append({"telemetry": title} | row)
    cost = shares["20 sensors, 4 viewers"] - shares["no sensors, 4 viewers"]
    report.goals.append(Goal("telemetry of 20 sensors at 10 Hz to 4 viewers, of a core", cost, 3.0, "%"))


def _cost(context: Context, source: Path, devices: dict[str, Any], viewers: int) -> Row:
    seconds, windows = (1.0, 2) if context.quick else (3.0, 3)
    with ours(source, devices=devices) as server, ExitStack() as stack:
        clients = None
        if viewers:
            url = server.whep.replace(f"/{CAMERA}/", "/-/")
            clients = stack.enter_context(Viewers(context.whep_count, url, viewers, "-video=false", "-telemetry"))
            wait_until(lambda: _served(clients, viewers, bool(devices)), "the viewers to be connected")
        time.sleep(1.5)
        shares: list[float] = []
        told, octets, began = _told(clients)
        for _ in range(windows):
            shares.append(server.program.cpu_percent(seconds))
        told_after, octets_after, ended = _told(clients)
    passed_s = (ended - began) * max(1, viewers)
    return {
        "% of a core": statistics.median(shares),
        "messages/s": (told_after - told) / passed_s,
        "bytes/s": (octets_after - octets) / passed_s,
    }


def _served(clients: Viewers, viewers: int, told: bool) -> bool:
    sessions = clients.snapshot()["sessions"]
    return len(sessions) == viewers and all(s["state"] == "connected" and (s["told"] or not told) for s in sessions)


def _told(clients: Viewers | None) -> tuple[int, int, float]:
    sessions = clients.snapshot()["sessions"] if clients else []
    return sum(s["told"] for s in sessions), sum(s["told_bytes"] for s in sessions), time.monotonic()
