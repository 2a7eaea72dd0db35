"""What a camera must live through: many viewers, a broker that dies, an agent that is killed, a page that is reloaded all day."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.bench import servers
from tests.bench.servers import Agent, free_port, healthy
from tests.support.broker import Broker
from tests.support.chromium import chromium, frames_of
from tests.support.procs import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CAMERAS: dict[str, Any] = {
    "test": {"driver": "test-pattern", "size": "640x360", "bitrate": "800k"},
    "yard": {"driver": "test-pattern", "size": "320x240", "bitrate": "300k"},
}


def config(broker: Broker | None = None, cameras: dict[str, Any] | None = None) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "device": "porch",
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "limits": {"offers_per_s": 100},
        "cameras": cameras or CAMERAS,
    }
    if broker is not None:
        whole["mqtt"] = {"url": broker.url, "web_url": broker.ws_url}
    return whole


def base(settings: dict[str, Any]) -> str:
    return f"http://{settings['http']['listen']}"


def health(settings: dict[str, Any]) -> dict[str, Any]:
    return servers.health(base(settings))


@contextmanager
def agent(settings: dict[str, Any]) -> Iterator[Agent]:
    with Agent(settings) as running:
        running.wait_for(lambda: healthy(f"{base(settings)}/healthz"), "the agent")
        yield running


def wait_for_motion(page: Page, videos: int, *, frames: int = 10) -> None:
    """Until so many videos have each shown that many frames more than now; a new video element begins anew."""
    page.wait_for_function(f"() => document.querySelectorAll('edge-camera').length || {videos}")
    start: list[int] = []

    def moved() -> bool:
        nonlocal start
        now = frames_of(page)
        if len(now) != len(start) or any(a < b for a, b in zip(now, start, strict=True)):
            start = now
        page.wait_for_timeout(20)
        return len(now) >= videos and sum(a - b >= frames for a, b in zip(now, start, strict=True)) >= videos

    wait_until(moved, f"{videos} moving pictures")


def test_ten_viewers_share_one_encoder() -> None:
    settings = config(cameras={"test": CAMERAS["test"]})
    with agent(settings), chromium() as browser:
        pages = [browser.new_page() for _ in range(10)]
        for page in pages:
            page.goto(base(settings))
        for page in pages:
            page.bring_to_front()
            wait_for_motion(page, 1)

        def counts() -> tuple[int, int]:
            facts = health(settings)
            return facts["viewers"], facts["cameras"]["test"]["viewers"]

        wait_until(lambda: counts() == (10, 10), "ten viewers")  # a busy machine may have made one of them connect anew
        before, begin_s = health(settings)["cameras"]["test"]["frames"], time.monotonic()
        pages[0].wait_for_timeout(1000)
        after = health(settings)["cameras"]["test"]["frames"]
        assert (after - before) / (time.monotonic() - begin_s) < 60  # one stream of 30 frames a second, whoever watches


def test_a_broker_that_dies_stops_no_picture_and_serves_again_when_it_is_back(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings = config(broker)
        with agent(settings), chromium() as browser:
            page = browser.new_page()
            page.goto(base(settings))
            wait_for_motion(page, 2)
            broker.kill()
            wait_for_motion(page, 2, frames=60)
            late = browser.new_page()
            late.goto(base(settings))  # through WHEP, since the broker is gone
            wait_for_motion(late, 2)
            broker.start()
            wait_until(lambda: health(settings)["broker"], "the agent on the broker")
            page.bring_to_front()
            wait_for_motion(page, 2)


@pytest.mark.parametrize("door", ["mqtt", "whep"])
def test_a_killed_agent_comes_back_and_so_does_the_picture(door: str, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings = config(broker if door == "mqtt" else None)
        with chromium() as browser:
            with agent(settings) as running:
                page = browser.new_page()
                page.goto(base(settings))
                wait_for_motion(page, 2)
                running.stop(kill=True)

                def stands_still() -> bool:
                    before = frames_of(page)
                    page.wait_for_timeout(300)
                    return frames_of(page) == before

                wait_until(stands_still, "what was on its way to be shown")
            with agent(settings):
                wait_for_motion(page, 2)


def test_fifty_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings = config(broker)
        with agent(settings) as running, chromium() as browser:
            page = browser.new_page()

            def reload(times: int) -> None:
                for _ in range(times):
                    page.goto(base(settings))
                    wait_for_motion(page, 2, frames=1)

            def rest() -> tuple[int, int]:
                page.goto("about:blank")
                wait_until(lambda: health(settings)["viewers"] == 0, "all sessions to end")
                wait_until(lambda: all(c["phase"] == "off" for c in health(settings)["cameras"].values()), "the cameras to go off")
                return len(os.listdir(f"/proc/{running.pid}/fd")), running.rss_bytes()

            reload(5)
            files, memory = rest()
            reload(45)
            files_after, memory_after = rest()
            assert files_after <= files + 2
            assert memory_after < memory + 15e6
            reload(1)
            wait_for_motion(page, 2)
