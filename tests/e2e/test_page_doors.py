"""The ways to the agent: by itself, by a broker, from a page that lives elsewhere; and who may come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.broker import Broker
from tests.support.browser import PageAgent, StaticHost, page_agent, viewer
from tests.support.chromium import chromium

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TOKEN = "correct-horse-battery"


def test_whep_alone(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, porch.url) as shown:
        shown.wait_live("gate", "back-yard")
        assert shown.link()["current"]["door"] == "whep"


def test_mqtt_alone(browser: Browser, tmp_path: Path) -> None:
    with (
        Broker(tmp_path) as broker,
        page_agent(broker) as agent,
        viewer(browser, f"{agent.url}#door=mqtt") as shown,
    ):
        shown.wait_live("gate", "back-yard")
        assert shown.link()["current"]["door"] == "mqtt"
        shown.wait(lambda: shown.link()["agent"]["up"] is True, "the agent's presence")
        assert shown.complaints == []


def test_a_static_host_with_the_device_in_the_address(browser: Browser, tmp_path: Path) -> None:
    with (
        Broker(tmp_path) as broker,
        page_agent(broker),
        StaticHost() as host,
        viewer(browser, f"{host.url}#device=porch&broker={broker.ws_url}") as shown,
    ):
        shown.wait_live("gate", "back-yard")
        assert shown.link()["current"]["door"] == "mqtt"
        expect(shown.page).to_have_title("Porch")


def test_a_static_host_asks_which_device_and_remembers(browser: Browser, tmp_path: Path) -> None:
    users = {"agent": "agent-password", "anna": "anna-password"}
    mine = {"username": "agent", "password": "agent-password"}
    with (
        Broker(tmp_path, users=users) as broker,
        StaticHost() as host,
        page_agent(broker, mqtt=mine),
        viewer(browser, host.url) as shown,
    ):
        page = shown.page
        page.get_by_role("textbox", name="Device").fill("The Porch")
        page.get_by_label("Broker").fill(broker.ws_url)
        page.get_by_role("button", name="Connect").click()
        expect(page.get_by_role("alert")).to_contain_text("A device has a name of lower-case letters")
        page.get_by_role("textbox", name="Device").fill("porch")
        page.get_by_label("User name").fill("anna")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Connect").click()
        page.get_by_text("The broker refused the user name or password.").wait_for()
        page.get_by_label("Password").fill("anna-password")
        page.get_by_role("button", name="Connect").click()
        shown.wait_live("gate", "back-yard")
        page.reload()
        shown.wait_live("gate", "back-yard")
        assert "anna-password" not in page.url


def test_a_token_is_asked_for_once(browser: Browser) -> None:
    with page_agent(token=TOKEN) as agent, viewer(browser, agent.url) as shown:
        page = shown.page
        token = page.get_by_label("Token")
        token.fill("not-the-right-token")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("That token is not right.").wait_for()
        assert shown.cameras() == {}
        token.fill(TOKEN)
        page.keyboard.press("Enter")
        shown.wait_live("gate", "back-yard")
        expect(token).to_have_count(0)
        page.reload()
        shown.wait_live("gate", "back-yard")
        expect(token).to_have_count(0)


def test_a_token_in_the_address_does_not_stay_there(browser: Browser) -> None:
    with (
        page_agent(token=TOKEN) as agent,
        viewer(browser, f"{agent.url}#agent={agent.url}&token={TOKEN}") as shown,
    ):
        shown.wait_live("gate", "back-yard")
        shown.wait(lambda: TOKEN not in shown.page.evaluate("() => location.href"), "the address to be cleaned")


def test_a_camera_on_somebody_elses_page(browser: Browser) -> None:
    with StaticHost() as host, page_agent(cors=[host.url.rstrip("/")], token=TOKEN) as agent:
        host.files["/home.html"] = f"""<!doctype html><title>Home</title>
            <script type="module" src="/camera.js"></script>
            <edge-camera src="{agent.url}" camera="gate" token="{TOKEN}"></edge-camera>
            <edge-camera src="{agent.url}" token="{TOKEN}"></edge-camera>
            <edge-camera src="{agent.url}" camera="moon" token="{TOKEN}"></edge-camera>"""
        with viewer(browser, f"{host.url}home.html") as shown:
            page = shown.page
            frames = "() => [...document.querySelectorAll('edge-camera')].map((each) => each.frames)"
            shown.wait(lambda: min(page.evaluate(frames)[:2]) > 10, "two pictures")
            first, second, third = page.locator("edge-camera").all()
            for one in first, second:
                expect(one).to_have_attribute("aria-label", "Camera Gate")
            expect(third.locator(".message")).to_contain_text("There is no camera “moon”")
            # An attribute changed: the same element shows another camera.
            page.evaluate("() => document.querySelector('edge-camera').setAttribute('camera', 'back-yard')")
            shown.wait(lambda: page.evaluate("() => document.querySelector('edge-camera').video?.videoWidth") == 320, "the other")


@pytest.mark.parametrize("answer", ["granted", "denied"])
def test_a_page_from_elsewhere_explains_before_the_browser_asks(answer: str) -> None:
    """Chromium's Local Network Access: a public page may reach a local agent only after the person allowed it."""
    with StaticHost() as host:
        port = host.url.rstrip("/").rpartition(":")[2]
        origin = f"http://view.example:{port}"
        arguments = [
            "--host-resolver-rules=MAP view.example 127.0.0.1",
            f"--ip-address-space-overrides=127.0.0.1:{port}=public",
            f"--unsafely-treat-insecure-origin-as-secure={origin}",
        ]
        with page_agent(cors=[origin]) as agent, chromium(arguments) as browser, viewer(browser) as shown:
            page = shown.page
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url) if request.url.startswith(agent.url) else None)
            page.goto(f"{origin}/#agent={agent.url}")
            page.get_by_text("Your browser is about to ask a question").wait_for()
            assert asked == []
            # What the person answers to the browser's own question.
            permission = {"permission": {"name": "loopback-network"}, "setting": answer, "origin": origin}
            context = page.context.new_cdp_session(page).send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
            browser.new_browser_cdp_session().send("Browser.setPermission", permission | {"browserContextId": context})
            page.get_by_role("button", name="Continue").click()
            if answer == "granted":
                shown.wait_live("gate", "back-yard")
            else:
                page.get_by_text("The browser keeps this page from your network").wait_for()
            assert asked
