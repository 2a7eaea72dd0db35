"""The controls: keyboard, snapshot, details, fit, full screen, picture-in-picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PageAgent, Viewer, viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def details(shown: Viewer) -> dict[str, str]:
    found: dict[str, str] = shown.page.evaluate(
        "() => document.querySelector('edge-grid').tile()?.shadowRoot.querySelector('edge-details')?.values ?? {}"
    )
    return found


def save(page: Page, key: str, folder: Path) -> tuple[str, bytes]:
    with page.expect_download() as started:
        page.keyboard.press(key)
    file = folder / "snapshot"
    started.value.save_as(file)
    return started.value.suggested_filename, file.read_bytes()


def test_keyboard_and_snapshots(browser: Browser, porch: PageAgent, tmp_path: Path) -> None:
    with viewer(browser, porch.url) as shown:
        page = shown.page
        shown.wait_live("gate", "back-yard")

        def selected() -> str:
            return str(page.evaluate("() => document.querySelector('edge-grid').selected"))

        for key, camera in [("2", "back-yard"), ("ArrowRight", "gate"), ("ArrowLeft", "back-yard"), ("1", "gate"), ("9", "gate")]:
            page.keyboard.press(key)
            shown.wait(lambda camera=camera: selected() == camera, f"{camera} after {key}")
        name, data = save(page, "s", tmp_path)
        assert re.fullmatch(r"porch-gate-\d{4}-\d\d-\d\d-\d{6}\.jpg", name)
        assert data.startswith(b"\xff\xd8\xff")
        name, data = save(page, "Shift+S", tmp_path)
        assert name.endswith(".png")
        assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (640, 360)
        page.keyboard.press("z")
        expect(shown.tile("gate")).to_have_attribute("fit", "cover")
        page.keyboard.press("f")
        shown.wait(lambda: page.evaluate("() => document.fullscreenElement !== null"), "full screen")
        page.keyboard.press("f")
        shown.wait(lambda: page.evaluate("() => document.fullscreenElement === null"), "the window")
        page.keyboard.press("p")
        shown.wait(lambda: page.evaluate("() => document.pictureInPictureElement !== null"), "picture-in-picture")
        page.keyboard.press("p")
        shown.wait(lambda: page.evaluate("() => document.pictureInPictureElement === null"), "the page")
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
        page.keyboard.press("Escape")
        shown.wait(lambda: page.get_by_role("dialog").count() == 0, "the list to be gone")
        assert selected() == "gate"
        page.keyboard.press("Escape")
        shown.wait(lambda: selected() == "", "all cameras")
        page.reload()
        shown.wait_live("gate")
        page.keyboard.press("1")
        expect(shown.tile("gate"), "remembered").to_have_attribute("fit", "cover")
        assert shown.complaints == []


def test_the_details_have_a_delay_with_its_uncertainty(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, f"{porch.url}#camera=gate") as shown:
        page = shown.page
        shown.wait_live("gate")
        page.keyboard.press("d")
        shown.wait(lambda: re.fullmatch(r"\d+ ms ± \d+", details(shown).get("glass", "")), "a glass-to-glass delay")
        shown.wait(lambda: re.fullmatch(r"\d+\.\d fps", details(shown)["fps"]), "a frame rate")
        values = details(shown)
        assert values["resolution"] == "640 × 360"
        assert re.fullmatch(r"H\.264.*", values["codec"])
        assert re.fullmatch(r"[\d.]+\u00a0(k|M)bit/s", values["bitrate"])
        assert re.fullmatch(r"[\d.]+ ms", values["rtt"])
        assert re.fullmatch(r"[\d.]+ %", values["loss"])
        assert values["path"].startswith("Direct, in your network (host")
        assert (values["door"], values["device"]) == ("The agent (WHEP)", "porch")
        delay: dict[str, Any] = page.evaluate("() => window.edge.camera('gate').delay")
        # Both clocks are this machine's: the offset must be what the browser's own clock says.
        offset = page.evaluate("() => window.edge.clock.offset - performance.timeOrigin")
        assert abs(offset) <= delay["uncertainty"] + 2
        assert 0 < delay["ms"] < 5000
        page.get_by_role("button", name="Close details").click()
        opened = "() => document.querySelector('edge-grid').tile().detailsOpen"
        for is_open, key in (False, "d"), (True, "Escape"), (False, None):
            shown.wait(lambda is_open=is_open: page.evaluate(opened) is is_open, f"the details: {is_open}")
            if key:
                page.keyboard.press(key)
        assert page.evaluate("() => document.querySelector('edge-grid').selected") == "gate", "Escape closed only the details"


def test_a_touch_brings_the_controls_and_three_seconds_take_them(browser: Browser, porch: PageAgent) -> None:
    url = "#camera=gate"
    with viewer(browser, porch.url + url, size=(844, 390), touch=True) as shown:
        shown.wait_live("gate")
        box = shown.tile("gate").bounding_box()
        assert box and (box["width"], box["height"]) == (844, 390)
        snapshot = shown.tile("gate").get_by_role("button", name="Save a snapshot")
        shown.wait(lambda: not snapshot.is_visible(), "the controls to fade")
        shown.page.touchscreen.tap(400, 200)
        shown.wait(snapshot.is_visible, "the controls to return")
        shown.page.touchscreen.tap(400, 200)
        shown.wait(lambda: not snapshot.is_visible(), "the controls to go at a second touch")


def test_a_swipe_shows_the_next_camera(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, f"{porch.url}#camera=gate", size=(390, 844), touch=True) as shown:
        shown.wait_live("gate")
        client = shown.page.context.new_cdp_session(shown.page)
        for kind, x in [("touchStart", 300), ("touchMove", 200), ("touchMove", 90), ("touchEnd", None)]:
            points = [] if x is None else [{"x": x, "y": 420}]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        shown.wait(lambda: shown.page.evaluate("() => location.hash") == "#camera=back-yard", "the next camera")
        shown.wait_live("back-yard")
