"""The page with a real agent: pictures that move, one camera alone, and the way back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import PageAgent, viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_two_cameras_move_in_one_connection(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, porch.url) as shown:
        shown.wait_live("gate", "back-yard")
        assert shown.connections() == 1
        assert [line["camera"] for line in shown.link()["current"]["lines"]] == ["gate", "back-yard"]
        before = shown.pixels("gate")
        shown.wait_live("gate", frames=15)
        assert sum(abs(a - b) > 8 for a, b in zip(before, shown.pixels("gate"), strict=True)) > 20
        sizes = {name: (each["width"], each["height"]) for name, each in shown.cameras().items()}
        assert sizes == {"gate": (640, 360), "back-yard": (320, 240)}
        expect(shown.page).to_have_title("Porch")
        shown.wait(lambda: shown.page.locator("header .status").inner_text() == "2 cameras, all live", "the header")
        expect(shown.tile("gate")).to_have_attribute("aria-label", "Camera Gate")
        expect(shown.tile("back-yard")).to_have_attribute("aria-label", "Camera Hinterhof")
        assert shown.complaints == []


def test_one_camera_alone_spares_the_others_and_back_they_are(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, porch.url) as shown:
        page = shown.page
        shown.wait_live("gate", "back-yard")
        shown.tile("gate").locator(".hit").click()
        page.wait_for_url("**/#camera=gate")
        expect(page).to_have_title("Gate · Porch")

        def fills() -> bool:
            box = shown.tile("gate").bounding_box()
            return box is not None and (box["width"], box["height"]) == (1280, 800)

        shown.wait(fills, "the camera to fill the window")  # it grows into it

        def layers() -> dict[str, str]:
            return {line["camera"]: line["layer"] for line in shown.link()["current"]["lines"]}

        shown.wait(lambda: layers() == {"gate": "auto", "back-yard": "off"}, "the other camera to be spared")
        shown.wait_live("gate")
        page.go_back()
        shown.wait(lambda: layers() == {"gate": "auto", "back-yard": "auto"}, "the other camera to be asked for")
        shown.wait_live("gate", "back-yard")
        assert shown.connections() == 1
        page.go_forward()
        shown.wait(lambda: page.title() == "Gate · Porch", "the camera alone again")
        page.keyboard.press("Escape")
        shown.wait(lambda: page.title() == "Porch", "all cameras")


def test_a_link_to_one_camera_takes_only_that_and_adds_the_rest_when_asked(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, f"{porch.url}#camera=back-yard") as shown:
        shown.wait_live("back-yard")
        assert [line["camera"] for line in shown.link()["current"]["lines"]] == ["back-yard"]
        shown.page.reload()
        shown.wait_live("back-yard")
        shown.page.keyboard.press("Escape")
        shown.wait_live("gate", "back-yard")
        current = shown.link()["current"]
        assert [line["camera"] for line in current["lines"]] == ["back-yard", "gate"]
        assert shown.connections() == 1


def test_a_page_that_waits_plays_at_a_click(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, f"{porch.url}#paused&camera=gate") as shown:
        play = shown.tile("gate").get_by_role("button", name="Play", exact=True)
        play.wait_for()
        assert shown.link()["current"] is None
        play.click()
        shown.wait_live("gate")


def test_a_picture_that_is_paused_by_the_browsers_own_controls_is_not_sent(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, f"{porch.url}#camera=gate") as shown:
        shown.wait_live("gate")
        first = shown.link()["current"]["id"]
        # As the buttons of the picture-in-picture window and of a headset do.
        shown.page.evaluate("() => window.edge.camera('gate').video.pause()")
        shown.wait_said("gate", "Paused")
        shown.wait(lambda: shown.link()["current"]["lines"][0]["layer"] == "off", "the picture to be stopped")
        shown.tile("gate").get_by_role("button", name="Play", exact=True).click()
        shown.wait_live("gate")
        assert shown.link()["current"]["id"] == first
        shown.wait(lambda: shown.said("gate") == "", "nothing to be said any more")


@pytest.mark.parametrize(("size", "column"), [((390, 844), True), ((844, 390), False), ((1440, 900), False)])
def test_where_the_pictures_stand(browser: Browser, porch: PageAgent, size: tuple[int, int], column: bool) -> None:
    with viewer(browser, porch.url, size=size, touch=size[0] < 900) as shown:
        shown.wait_live("gate", "back-yard")
        boxes = [shown.tile(name).bounding_box() for name in ("gate", "back-yard")]
        assert all(boxes)
        one, other = (box for box in boxes if box)
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= size[0] + 1 for box in (one, other))
        if column:
            assert one["width"] == other["width"] == size[0]
            assert one["y"] + one["height"] <= other["y"]
            assert abs(one["width"] / one["height"] - 16 / 9) < 0.02
        else:
            assert max(box["y"] + box["height"] for box in (one, other)) <= size[1] + 1
            assert abs(other["width"] / other["height"] - 4 / 3) < 0.02
        # Nothing jumps when a camera's state changes.
        assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= size[0]


def test_a_browser_without_h264_is_told_so_before_anything_is_offered(browser: Browser, porch: PageAgent) -> None:
    without = """(() => {
        const all = RTCRtpReceiver.getCapabilities;
        window.whole = false;
        RTCRtpReceiver.getCapabilities = (kind) => {
          const found = all.call(RTCRtpReceiver, kind);
          return window.whole ? found : {...found, codecs: found.codecs.filter((each) => !/h264/i.test(each.mimeType))};
        };
    })()"""
    with viewer(browser) as shown:
        offers: list[str] = []
        shown.page.on("request", lambda request: offers.append(request.url) if request.method == "POST" else None)
        shown.page.add_init_script(without)
        shown.page.goto(f"{porch.url}#camera=gate")
        shown.wait_said("gate", "This browser has no H.264 for live video")
        assert offers == []
        # As with a plugin that is switched on now.
        shown.page.evaluate("() => { window.whole = true; }")
        shown.tile("gate").get_by_role("button", name="Try again").click()
        shown.wait_live("gate")
        assert shown.complaints == []
