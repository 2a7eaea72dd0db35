"""What goes wrong, and what the page says and does about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from edgeagent import __version__
from tests.support.broker import Broker
from tests.support.browser import PageAgent, page_agent, viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.mark.parametrize("door", ["whep", "mqtt"])
def test_agent_killed_and_started_again(browser: Browser, door: str, tmp_path: Path) -> None:
    with (
        Broker(tmp_path) as broker,
        page_agent(broker if door == "mqtt" else None) as agent,
        viewer(browser, f"{agent.url}#door={door}") as shown,
    ):
        shown.wait_live("gate", "back-yard")
        agent.kill()
        shown.wait_said("gate", "Last picture")
        shown.wait_said("gate", "The agent is not reachable")
        # The last picture is still there, dimmed.
        assert sum(shown.pixels("gate")) > 64 * 36 * 300
        shown.wait(lambda: "dim" in (shown.tile("gate").locator(".pictures").get_attribute("class") or ""), "it to be dimmed")
        agent.start()
        shown.wait_live("gate", "back-yard")
        shown.wait(lambda: shown.said("gate") == "", "nothing to be said any more")
        shown.wait(lambda: shown.connections() == 1, "the old connection to be closed")
        shown.wait(lambda: shown.tile("gate").locator("video").count() == 1, "the old video to be gone")


def test_a_camera_that_is_off_says_why_and_the_others_play(browser: Browser, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    cameras = {"gate": {"driver": "test-pattern", "size": "320x240"}, "clip": {"driver": "file", "path": str(clip)}}
    with page_agent(cameras=cameras) as agent, viewer(browser, agent.url) as shown:
        shown.wait_live("gate")
        shown.wait_said("clip", "Camera is off")
        expect(shown.tile("clip").locator(".hint")).to_contain_text("There is no file clip.mp4; check “path” in the configuration.")
        # There is nothing to save or to detach.
        for button in ("Save a snapshot", "Picture in picture"):
            expect(shown.tile("clip").locator(f"button[aria-label='{button}']")).to_be_disabled()
            expect(shown.tile("gate").locator(f"button[aria-label='{button}']")).to_be_enabled()
        first = shown.link()["current"]["id"]
        shown.wait_live("gate", frames=60)
        assert shown.link()["current"]["id"] == first
        expect(shown.page.locator("header .status")).to_have_text("1 of 2 cameras live")


def test_opened_before_the_agent_runs_it_plays_when_it_does(browser: Browser) -> None:
    with page_agent() as agent, viewer(browser, agent.url) as shown:
        shown.wait_live("gate", "back-yard")
        agent.kill()
        # What a phone does that opens the page from its memory: the files are there, the agent is not.
        shown.page.route("**/api/hello", lambda route: route.abort())
        shown.page.evaluate("() => 0")
        agent.start()
        shown.page.reload()
        shown.page.get_by_text("The agent is not reachable").first.wait_for()
        shown.page.unroute("**/api/hello")
        shown.wait_live("gate", "back-yard")


def test_an_agent_that_was_updated_offers_to_reload(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser) as shown:
        page = shown.page

        def of_yesterday(route: Route) -> None:
            response = route.fetch()
            route.fulfill(response=response, json=response.json() | {"version": "0.0.1"})

        # The page was loaded from an older agent; the one that it is connected to now says its own version.
        page.route("**/api/hello", of_yesterday)
        page.goto(porch.url)
        shown.wait_live("gate", "back-yard")
        notice = page.get_by_role("status").filter(has_text="The agent was updated to")
        notice.wait_for()
        expect(notice).to_contain_text(__version__)
        page.unroute("**/api/hello")
        page.get_by_role("button", name="Reload").click()
        shown.wait_live("gate", "back-yard")
        expect(notice).to_have_count(0)
        shown.wait(lambda: page.evaluate("() => window.edge.state.version") == __version__, "the new version")
