"""How much is sent and why: the connection bar, the quality of each camera, data saver.

The agent's own words about a session (`flows`, layers, what ails the board) are put into the data channel by the test, so that
each of them is there when it is looked for; all else is real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.test_page_access import SCHEMES, at_rest, check
from tests.support.browser import PageAgent, Viewer, viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CHANNEL = """() => {
    const layers = [{name: 'main', width: 640, height: 360}, {name: 'sub', width: 320, height: 180}];
    const handler = Object.getOwnPropertyDescriptor(RTCDataChannel.prototype, 'onmessage');
    const send = RTCDataChannel.prototype.send;
    window.wishes = [];
    RTCDataChannel.prototype.send = function (text) {
      const message = JSON.parse(text);
      if (message.t === 'quality') window.wishes.push(message.layer);
      // The agent of this test has no such layer.
      if (message.layer !== 'sub') send.call(this, text);
      window.mute = (layer) => {
        window.pongs = 0;
        for (const {mid} of window.edge.link.current.lines) {
          send.call(this, JSON.stringify({v: 1, t: 'quality', sid: message.sid, id: 900000 + Number(mid), mid, layer}));
        }
      };
    };
    Object.defineProperty(RTCDataChannel.prototype, 'onmessage', {
      get() { return handler.get.call(this); },
      set(listener) {
        if (listener) window.say = (message) => listener({data: JSON.stringify({v: 1, ...message})});
        handler.set.call(this, listener && ((event) => {
          const message = JSON.parse(event.data);
          for (const camera of message.cameras ?? []) camera.layers = layers;
          if (message.t === 'pong') window.pongs += 1;
          if (message.t !== 'flows') listener({data: JSON.stringify(message)});
        }));
      },
    });
    window.flow = (limit, text) => window.say({
      t: 'flows', flows: ['0', '1'].map((mid) => ({mid, layer: 'main', kbps: 500, estimate_kbps: 600, limit, text})),
    });
}"""


Shown = Callable[..., contextlib.AbstractContextManager[Viewer]]


@pytest.fixture
def shown_page(browser: Browser, porch: PageAgent) -> Shown:
    """A page with two cameras of two layers each, as far as it knows; options are those of `viewer`."""

    @contextlib.contextmanager
    def show(**options: Any) -> Iterator[Viewer]:
        with viewer(browser, **options) as shown:
            open_page(shown, porch.url)
            yield shown

    return show


def open_page(shown: Viewer, url: str) -> None:
    shown.page.add_init_script(f"({CHANNEL})()")
    shown.page.goto(url)
    shown.wait_live("gate", "back-yard")


def flow(shown: Viewer, limit: str, text: str = "") -> None:
    shown.page.evaluate("([limit, text]) => window.flow(limit, text)", [limit, text])


def test_the_connection_bar_names_who_is_at_fault_and_moves_nothing(shown_page: Shown) -> None:
    with shown_page(size=(390, 844), touch=True) as shown:
        page = shown.page
        health = page.locator("edge-grid edge-health").last
        boxes = [shown.tile(name).bounding_box() for name in ("gate", "back-yard")]
        said = "Your mobile network carries less than the camera sends."
        flow(shown, "network", said)
        button = health.get_by_role("button", name="Connection, at fault: Network")
        button.wait_for()
        expect(health.get_by_role("status")).to_have_text(f"Network: {said}")
        expect(health.locator(".part.bad")).to_have_text("Network")
        expect(health.locator(".part.ok")).to_have_text(["Camera", "Board", "You"])
        assert [shown.tile(name).bounding_box() for name in ("gate", "back-yard")] == boxes, "nothing moved"
        expect(button).to_have_attribute("aria-expanded", "true")
        button.click()
        expect(button).to_have_attribute("aria-expanded", "false")
        expect(health.locator(".text")).not_to_be_visible()
        flow(shown, "none")
        shown.wait(lambda: not button.is_visible(), "the bar to go")
        expect(health.get_by_role("status")).to_have_text("")
        # One camera alone has its own bar.
        shown.tile("gate").locator(".hit").click()
        flow(shown, "camera", "This camera cannot send less.")
        own = shown.tile("gate").locator("edge-health")
        own.get_by_role("button", name="Connection, at fault: Camera").wait_for()
        flow(shown, "none")
        page.evaluate("() => window.say({t: 'state', cameras: [], board: 'The Wi-Fi is weak.'})")
        mild = own.get_by_role("button", name="Connection, at fault: Board")
        mild.wait_for()
        expect(mild, "the picture is well: it does not push itself forward").to_have_attribute("aria-expanded", "false")
        expect(own.get_by_role("status")).to_have_text("")
        flow(shown, "board", "The board is too slow.")
        expect(mild, "now it costs pictures").to_have_attribute("aria-expanded", "true")
        expect(own.get_by_role("status")).to_have_text("Board: The board is too slow.")
        assert shown.complaints == []


def test_pictures_that_are_seldom_on_purpose_are_not_taken_for_a_broken_connection(shown_page: Shown) -> None:
    with shown_page() as shown:
        first = shown.link()["current"]["id"]
        flow(shown, "camera", "This camera cannot send less: only some pictures get through.")
        # Silence, as between two keyframes: the agent is asked to send nothing, behind the page's back.
        shown.page.evaluate("() => window.mute('off')")
        frames = {name: each["frames"] for name, each in shown.cameras().items()}
        shown.wait(lambda: shown.page.evaluate("() => window.pongs") >= 4, "the page to ask whether the agent lives")
        assert shown.link()["current"]["id"] == first and shown.link()["next"] is None
        assert {each["phase"] for each in shown.cameras().values()} == {"live"}
        shown.page.evaluate("() => window.mute('auto')")
        shown.wait_live("gate", "back-yard")
        assert shown.link()["current"]["id"] == first
        assert all(each["frames"] > frames[name] for name, each in shown.cameras().items())


def test_quality_is_chosen_for_each_camera_and_data_saver_for_all(shown_page: Shown) -> None:
    with shown_page() as shown:
        page = shown.page

        def layers() -> dict[str, str]:
            return {line["camera"]: line["layer"] for line in shown.link()["current"]["lines"]}

        page.keyboard.press("1")
        shown.tile("gate").get_by_role("button", name="Picture quality").click()
        sheet = shown.tile("gate").get_by_role("dialog", name="Picture quality")
        expect(sheet.get_by_role("radio")).to_have_count(3)
        expect(sheet.get_by_role("radio", name="Automatic")).to_be_checked()
        sheet.get_by_role("radio", name="Small 320 × 180").check()
        shown.wait(lambda: layers()["gate"] == "sub", "the small picture to be asked for")
        page.keyboard.press("Escape")
        expect(sheet).to_have_count(0)
        assert page.evaluate("() => document.querySelector('edge-grid').selected") == "gate", "Escape closed only the sheet"
        page.keyboard.press("Escape")
        page.wait_for_url(lambda url: "camera=" not in url)
        page.reload()
        shown.wait_live("gate", "back-yard")
        shown.wait(lambda: layers() == {"gate": "sub", "back-yard": "auto"}, "the choice to be remembered")
        saver = page.get_by_role("button", name="Data saver")
        expect(saver).to_have_attribute("aria-pressed", "false")
        saver.click()
        expect(saver).to_have_attribute("aria-pressed", "true")
        shown.wait(lambda: layers() == {"gate": "sub", "back-yard": "sub"}, "all to be small")
        page.reload()
        shown.wait_live("gate", "back-yard")
        shown.wait(lambda: layers() == {"gate": "sub", "back-yard": "sub"}, "data saver to be remembered")
        page.keyboard.press("2")
        page.keyboard.press("q")
        sheet = shown.tile("back-yard").get_by_role("dialog", name="Picture quality")
        expect(sheet.get_by_role("radio", name="Best")).to_be_disabled()
        sheet.get_by_role("switch", name="Data saver").uncheck()
        shown.wait(lambda: layers()["back-yard"] == "auto", "the best there is again")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        shown.wait(lambda: layers() == {"gate": "sub", "back-yard": "auto"}, "each as it was chosen")
        assert shown.complaints == []


def test_a_browser_that_saves_data_begins_with_small_pictures(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser) as shown:
        shown.page.add_init_script("Object.defineProperty(NetworkInformation.prototype, 'saveData', {get: () => true});")
        open_page(shown, porch.url)
        shown.wait(lambda: {line["layer"] for line in shown.link()["current"]["lines"]} == {"sub"}, "small pictures")
        expect(shown.page.get_by_role("button", name="Data saver")).to_have_attribute("aria-pressed", "true")


def test_the_sheet_and_the_bar_are_for_everybody(browser: Browser, porch: PageAgent) -> None:
    for scheme in SCHEMES:
        with viewer(browser, scheme=scheme, size=(390, 844), touch=True) as shown:
            open_page(shown, porch.url)
            shown.page.keyboard.press("1")
            shown.page.keyboard.press("q")
            shown.tile("gate").get_by_role("dialog", name="Picture quality").wait_for()
            seen = at_rest(shown)
            assert any(control["label"].startswith("Data saver") for control in seen["controls"])
            check(seen)
            shown.page.keyboard.press("Escape")
            flow(shown, "network", "Your mobile network carries less than the camera sends.")
            shown.tile("gate").get_by_role("button", name="Connection, at fault: Network").wait_for()
            seen = at_rest(shown)
            assert any(control["label"].startswith("Connection") for control in seen["controls"])
            check(seen)
            bar = shown.tile("gate").locator("edge-health").bounding_box()
            controls = shown.tile("gate").get_by_role("button", name="Picture quality").bounding_box()
            assert bar and controls and bar["y"] + bar["height"] <= controls["y"], "it covers no button"
