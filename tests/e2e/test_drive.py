"""Driving the simulated rover to its first target, 4 m straight ahead: by keys, by two thumbs, by a gamepad."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Error as PlaywrightError

from edgeagent_devices._sim_physics import PAN_DEG
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


FELT = "() => { window.felt = 0; navigator.vibrate = () => { window.felt += 1; return true; }; }"
"""Script for a new page: how often one was to feel something."""
FIT = """() => {
    window.fits = [];
    const set = Element.prototype.setAttribute;
    Element.prototype.setAttribute = function (name, value) {
        if (name === 'fit' && this.hasAttribute('bare')) window.fits.push(value);
        return set.call(this, name, value);
    };
}"""
"""Script for a new page: whether the picture one drives by was to be whole, or to fill the window, each time that was said."""
PEDAL = """(at) => {
    const buttons = [0, 0, 0].map((value) => ({pressed: false, value}));
    window.pads = [{id: 'Odd pad', index: 0, connected: true, mapping: '', timestamp: 0, axes: [0, 0, at], buttons}];
}"""
"""A pedal on the third axis of a pad that nobody knows."""
FITS = """() => {
    const all = ['.dock', '.figures', '.stop', '.gauge', '.pill', '.icon', '.left .stick', '.right .stick', '.hinder'];
    const seen = all.flatMap((each) => [...document.querySelector('edge-drive').shadowRoot.querySelectorAll(each)])
        .filter((each) => each.checkVisibility({visibilityProperty: true, opacityProperty: true}))
        .map((each) => ({name: each.className, box: each.getBoundingClientRect()}));
    return seen.flatMap(({name, box}, i) => seen.slice(i + 1).flatMap((other) =>
        Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left) > 1 &&
        Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top) > 1 ? `${name} and ${other.name}` : []));
}"""
"""What lies on top of each other."""


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
    with wheel(browser, rover.drive_page(), touch=True, size=(844, 390), scripts=[FIT]) as at:
        reach_the_target(at, rover, Thumbs(at, left=(0, -60), right=(40, -20)))
        assert at.page.evaluate("() => window.fits") == ["cover"], "the picture does not jump"
        state = rover.world.ask()
        assert state["pan"] > 5
        assert state["tilt"] > 1
        at.element.get_by_role("button", name="How to drive").click()
        at.element.get_by_role("dialog", name="How to drive").get_by_text("Left thumb").wait_for()


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


def armed(at: Wheel) -> None:
    at.take()
    at.wait(lambda: at.group()["state"] == "armed", "it to be armed")


def test_keys_lists_and_what_stops(browser: Browser, rover: Rover) -> None:
    """A list keeps the keyboard to itself: nobody hears of a key that is let go meanwhile."""
    with wheel(browser, rover.drive_page(), size=(1440, 900), scripts=[FELT]) as at:
        page = at.page
        figure = at.element.locator(".figures")
        keys = at.go(rover.world)
        at.wait(lambda: "%" in figure.locator(".battery").inner_text(), "the battery")
        assert not figure.locator(".rtt").is_visible()
        figure.get_by_role("button").click()
        for name, unit in (("rtt", "ms"), ("glass", "ms"), ("loss", "%")):
            at.wait(lambda name=name, unit=unit: unit in figure.locator(f".{name}").inner_text(), f"a figure: {name}")  # type: ignore[misc]
        at.element.get_by_role("button", name="Devices", exact=True).click()
        colour = at.element.get_by_label("Colour")
        colour.scroll_into_view_if_needed()
        at.drive(keys, lambda: rover.world.moving, "the rover to move")
        colour.click()
        at.wait(lambda: not at.pushed(), "the hands to be off")
        at.wait(lambda: rover.world.still, "the rover to stand")
        keys.rest()
        page.keyboard.press("Escape")  # the list is shut, and has the focus
        armed(at)
        before = page.evaluate("() => window.felt")
        colour.focus()
        page.keyboard.press("Space")
        at.wait_said("Stopped", "You pressed stop.")
        assert page.evaluate("() => window.felt") == before + 1
        at.press("Release the stop")

        def pan() -> float:
            return float(rover.world.ask()["pan"])

        look = Keys(at, "KeyL")
        at.drive(look, lambda: pan() > 40, "the mast to look right")
        page.keyboard.press("Escape")
        at.wait_said("Stopped", "You pressed stop.")
        assert page.evaluate("() => window.felt") == before + 2
        look.rest()
        at.press("Release the stop")
        armed(at)
        stood, seen = pan(), [pan()]

        def further() -> bool:
            seen.append(pan())
            return seen[-1] > min(stood + 3, PAN_DEG - 2)  # a busy machine may have seen it late, far to the right

        at.drive(look, further, "the mast to look further")
        look.rest()
        assert min(seen) > stood - 3, "it goes on from where it stood"
        assert at.shown.complaints == []


def test_a_pad_that_appears_and_one_that_is_bound(browser: Browser, rover: Rover) -> None:
    with wheel(browser, rover.drive_page(), scripts=[PADS]) as at:
        waits = at.element.get_by_text("Gamepad: let go")

        def waiting() -> bool:
            at.take()
            return waits.is_visible()

        armed(at)
        Pad(at, b7=1).appear()
        at.wait(waiting, "the page to wait for the pad to rest")
        at.stays_still(rover.world)
        Pad(at)
        at.wait(lambda: not waits.is_visible(), "the page to see it at rest")
        at.drive(Pad(at, axes=(0, 0, 0.9, 0)), lambda: rover.world.ask()["pan"] > 5, "the mast to look right")
        Pad(at).unplug()
        at.page.evaluate(PEDAL, 0)
        at.element.get_by_role("button", name="How to drive").click()
        sheet = at.element.get_by_role("dialog", name="How to drive")
        sheet.get_by_role("button", name="Set it up").click()
        sheet.get_by_text("Drive forward").wait_for()
        # The page sees each of these, and the pedal rests at the end of its way.
        for place in (0, 1, -1):
            at.page.evaluate(PEDAL, place)
            at.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        sheet.get_by_text("Drive back").wait_for()

        def bound() -> bool:
            done = sheet.get_by_text("Set up by you.").is_visible()
            if not done:
                with suppress(PlaywrightError):  # that was the last by now
                    sheet.get_by_role("button", name="Skip").click(timeout=1000)
            return done

        at.wait(bound, "the rest to be skipped")
        sheet.get_by_role("button", name="Close").click()
        pedal = Pedal(at)
        at.drive(pedal, lambda: rover.world.moving, "the rover to move")
        pedal.rest()
        at.wait(lambda: not at.pushed(), "the page to see it")
        at.stays_still(rover.world)
        assert at.shown.complaints == []


class Pedal:
    """See `PEDAL`."""

    def __init__(self, at: Wheel) -> None:
        self._page = at.page

    def push(self) -> None:
        self._page.evaluate(PEDAL, 1)

    def rest(self) -> None:
        self._page.evaluate(PEDAL, -1)


def test_it_fits_and_can_be_read_on_any_screen(browser: Browser, rover: Rover) -> None:
    sizes = [(320, 568), (390, 844), (844, 390)]
    with wheel(browser, rover.drive_page(), size=(390, 844), touch=True) as at:

        def look() -> None:
            for width, height in sizes:
                at.page.set_viewport_size({"width": width, "height": height})
                check(at_rest(at.shown))
                assert at.page.evaluate(FITS) == [], f"{width} x {height}: {at.said()}"

        at.wait_said("Take the wheel")
        look()
        armed(at)
        look()
        at.element.get_by_role("button", name="Stop everything that moves").tap()
        at.wait_said("Stopped")
        look()
        at.press("Release the stop")
        at.wait(lambda: at.group()["state"] != "stopped", "the stop to be released")
