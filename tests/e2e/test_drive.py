"""Driving the simulated rover to its first target, 4 m straight ahead: by keys, by two thumbs, by a gamepad."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.test_page_access import at_rest, check
from tests.support.browser import viewer
from tests.support.rover import EYES, Rover
from tests.support.wheel import PADS, Hands, Keys, Pad, Thumbs, Wheel, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


HOLD = """(camera) => {
    location.hash = camera && `#camera=${camera}`;
    const grid = document.querySelector('edge-grid');
    const place = camera ? grid.tile() : document.querySelector('header');
    const button = place?.querySelector('edge-drive-button:not([hidden])')?.shadowRoot.querySelector('button');
    if (grid.selected !== camera || !button) return false;
    grid.tile()?.wakeControls();
    button.focus();
    return true;
}"""
"""Go there; the button to drive has the focus, so that it does not fade."""
WHOLE = """() => {
    const [all, said] = ['.who', '.status'].map((each) => document.querySelector(each).getBoundingClientRect());
    return said.right <= all.right || said.top >= all.bottom;
}"""


@pytest.fixture(scope="module")
def _rover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rover]:
    with Rover(tmp_path_factory.mktemp("rover"), eyes=EYES) as agent:
        yield agent


@pytest.fixture
def rover(_rover: Rover) -> Rover:
    """At its start, with nobody at the wheel."""
    _rover.world.begin()
    return _rover


def reach_the_target(at: Wheel, rover: Rover, hands: Hands) -> None:
    """And see it happen: in the picture, and in the figures beside it."""
    at.wait(lambda: rover.world.still, "the rover to stand")
    before, again = at.shown.pixels("eyes"), at.shown.pixels("eyes")
    frames = at.shown.cameras()["eyes"]["frames"]
    at.drive(hands, lambda: rover.world.ask()["reached"], "the first target")
    assert rover.world.ask()["reached"] == [1]
    hands.rest()
    at.wait(lambda: rover.world.still, "the rover to stand")
    at.shown.wait_live("eyes", frames=3)
    assert at.shown.cameras()["eyes"]["frames"] > frames + 3
    assert difference(before, at.shown.pixels("eyes")) > 10 + difference(before, again)
    tell = at.element.get_by_role("group", name="Targets reached")
    if not tell.is_visible():
        at.element.get_by_role("button", name="Devices").click()
    at.wait(lambda: "1" in tell.locator(".value").inner_text(), "the page to count it")
    assert at.shown.complaints == []


def difference(one: list[int], other: list[int]) -> float:
    """Of two pictures, as the mean of their points."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def test_the_way_to_the_wheel_fits_a_narrow_phone(browser: Browser, rover: Rover) -> None:
    with viewer(browser, rover.base, size=(390, 844), touch=True) as shown:
        page = shown.page
        page.locator("header").get_by_role("button", name="Drive").wait_for()
        page.evaluate("() => (location.hash = '#camera=eyes')")
        shown.wait(lambda: page.evaluate("() => document.querySelector('edge-grid').selected"), "the camera alone")
        assert page.evaluate("() => document.activeElement.tagName") == "BODY", "an address alone puts no frame round the picture"
        for width in (390, 320):
            page.set_viewport_size({"width": width, "height": 844})
            for camera in ("", "eyes"):
                shown.wait(functools.partial(page.evaluate, HOLD, camera), "the button to drive")
                seen = at_rest(shown)
                assert "Drive" in [control["label"] for control in seen["controls"]]
                check(seen)
                assert page.evaluate(WHOLE), "how many cameras are live is said whole or not at all"


def test_by_keys(browser: Browser, rover: Rover) -> None:
    with wheel(browser, rover.drive_page()) as at:
        reach_the_target(at, rover, Keys(at, "ShiftLeft", "KeyW"))


def test_by_two_thumbs(browser: Browser, rover: Rover) -> None:
    """The right one looks about meanwhile."""
    with wheel(browser, rover.drive_page(), touch=True, size=(844, 390)) as at:
        reach_the_target(at, rover, Thumbs(at, left=(0, -60), right=(40, -20)))
        state = rover.world.ask()
        assert state["pan"] > 5
        assert state["tilt"] > 1


def test_by_a_gamepad(browser: Browser, rover: Rover) -> None:
    """Start takes the wheel, the right trigger goes ahead, B stops everything."""
    with wheel(browser, rover.drive_page(), scripts=[PADS]) as at:
        at.wait_said("Take the wheel")
        Pad(at, b9=1).push()
        at.wait(lambda: at.holds, "the lease")
        reach_the_target(at, rover, Pad(at, b7=1))
        rover.world.begin()
        at.go(rover.world, Pad(at, axes=(0.8, -0.8, 0, 0)))
        Pad(at, b1=1).push()
        at.wait_said("Stopped")
        at.stays_still(rover.world)
        at.press("Release the stop")
        at.wait(lambda: at.group()["state"] != "stopped", "the stop to be released")
