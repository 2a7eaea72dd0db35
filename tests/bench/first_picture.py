"""From a click to the first picture in Chromium that is at most 250 ms old, page loaded and broker connected.

A replayed GOP shows older pictures before: when the very first frame came is in a column of its own.
Our page over MQTT and over WHEP; and one plain WHEP page for every server, so that the servers compare. The IP camera sends an IDR
every two seconds; clicks fall anywhere between them.
"""

from __future__ import annotations

__all__ = ["run"]

import json
import random
import statistics
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

from playwright.sync_api import Browser

from tests.bench import servers
from tests.bench.browser import MARKS, Frame, Viewing, chromium, our_page, whep_page
from tests.bench.report import Context, Goal, Report, Row
from tests.bench.surroundings import broker as broker_running
from tests.bench.surroundings import ip_camera
from tests.support.broker import Broker
from tests.support.procs import wait_until

TEST = {"driver": "test-pattern", "size": "1280x720", "fps": 30, "bitrate": "3M"}
RUNS = 20
FRESH_MS = 250.0

Opener = Callable[[], AbstractContextManager[Viewing]]


def run(context: Context) -> Report:
    report = Report("first_picture", f"Click to a picture at most {FRESH_MS:.0f} ms old in Chromium, ms")
    with ExitStack() as stack:
        camera = stack.enter_context(ip_camera(context.go2rtc))
        broker = stack.enter_context(broker_running())
        browser = stack.enter_context(chromium())
        _ours(context, report, browser, broker, camera)
        for name in ("mediamtx", "go2rtc"):
            if not servers.available(name):
                report.notes.append(f"{name} is not on the PATH")
                continue
            with servers.SENDERS[name](camera) as server:
                _case(context, report, f"{name}, RTSP", "plain page", partial(whep_page, browser, server.whep))
    _judge(report)
    return report


def _ours(context: Context, report: Report, browser: Browser, broker: Broker, camera: str) -> None:
    rtsp = {"driver": "rtsp", "url": camera}
    sources: dict[str, dict[str, Any]] = {
        "test pattern": TEST,
        "RTSP, warm": rtsp,
        "RTSP, cold": rtsp | {"on_demand": True},
    }
    for source, options in sources.items():
        with servers.ours(options, mqtt={"url": broker.url, "web_url": broker.ws_url}) as server:
            pages: dict[str, Opener] = {
                "MQTT": partial(our_page, browser, server.page, servers.CAMERA, "mqtt"),
                "WHEP": partial(our_page, browser, server.page, servers.CAMERA, "whep"),
                "plain page": partial(whep_page, browser, server.whep),
            }
            if source == "RTSP, cold":
                del pages["plain page"]  # the peers keep their cameras open
            for door, opener in pages.items():
                before = partial(_await_off, server.page) if source == "RTSP, cold" else None
                _case(context, report, f"edgeagent, {source}", door, opener, before)


def _await_off(base: str) -> None:
    """Wait until the agent has closed its camera, after the last viewer has left."""

    def off() -> bool:
        with urllib.request.urlopen(f"{base}/api/hello", timeout=5) as response:
            hello: dict[str, Any] = json.load(response)
        return bool(hello["cameras"][0]["phase"] == "off")

    wait_until(off, "the camera to be closed", deadline_s=60)


def _case(
    context: Context, report: Report, source: str, door: str, opener: Opener, before: Callable[[], None] | None = None
) -> None:
    """One row: many clicks, each on a page of its own."""
    context.log(f"{source}, {door}")
    moments: list[dict[str, float]] = []
    pictures: list[Frame] = []
    for _ in range(2 if context.quick else RUNS):
        if before:
            before()
        with opener() as viewing:
            viewing.page.wait_for_timeout(random.uniform(0, 2000))
            viewing.click()
            viewing.wait_picture()
            pictures.append(viewing.wait_fresh(FRESH_MS))
            moments.append(viewing.moments())
    shown = [picture.at_ms for picture in pictures]
    row: Row = {"source": source, "door": door, "median": statistics.median(shown), "worst": max(shown)}
    for name in MARKS:
        known = [each[name] for each in moments if name in each]
        row[f"to {name}"] = statistics.median(known) if known else None
    row |= {"its age": statistics.median(each.age_ms or 0.0 for each in pictures), "runs": len(pictures)}
    report.rows.append(row)


def _judge(report: Report) -> None:
    for row in report.rows:
        if not row["source"].startswith("edgeagent") or row["door"] == "plain page":
            continue
        what = f"{row['source'].removeprefix('edgeagent, ')} over {row['door']}"
        if "cold" in row["source"]:
            report.goals.append(Goal(f"{what}, median", row["median"], 1800, "ms"))
            continue
        report.goals.append(Goal(f"{what}, median", row["median"], 350, "ms"))
        report.goals.append(Goal(f"{what}, worst", row["worst"], 700, "ms"))
