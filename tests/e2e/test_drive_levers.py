"""Axes that no stick steers have sliders: a place stays where it is put, a speed lasts while its slider is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator

from tests.support.browser import PageAgent
from tests.support.wheel import Wheel, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CHANNELS: dict[str, Any] = {
    "throttle": {"channel": 0, "kind": "motor", "role": "throttle"},
    "grip": {"channel": 4, "kind": "servo"},
    "belt": {"channel": 5, "kind": "motor"},
}
CAMERAS: dict[str, Any] = {"gate": {"driver": "test-pattern", "size": "320x240", "fps": 15, "bitrate": "300k"}}
SENT = """() => {
    const make = RTCPeerConnection.prototype.createDataChannel;
    RTCPeerConnection.prototype.createDataChannel = function (label, options) {
        const channel = make.call(this, label, options);
        const send = channel.send.bind(channel);
        if (label === 'control') channel.send = (text) => {
            window.sent = JSON.parse(text).values.arm;
            send(text);
        };
        return channel;
    };
}"""
"""Script for a new page: the set-point that left last."""


@pytest.fixture(scope="module")
def agent() -> Iterator[PageAgent]:
    made = PageAgent(cameras=CAMERAS, open=True)
    made.settings["devices"] = {"arm": {"driver": "pca9685", "bus": "fake", "channels": CHANNELS}}
    made.settings["control"] = {"expiry_ms": 2000, "max_picture_age_ms": 0, "local": "admin"}
    try:
        made.start()
        yield made
    finally:
        made.kill()


def sent(at: Wheel, **wanted: float | None) -> None:
    """Until set-points say so; None for an axis that is left out."""
    at.wait(
        lambda: all((at.page.evaluate("() => window.sent") or {}).get(name) == value for name, value in wanted.items()),
        f"set-points of {wanted}",
    )


def armed(at: Wheel) -> None:
    at.take()
    at.wait(lambda: at.group().get("state") == "armed", "it to be armed")


def slider(at: Wheel, name: str) -> Locator:
    return at.element.get_by_role("group", name="What else moves").get_by_role("slider", name=name, exact=True)


def place(lever: Locator, share: float) -> tuple[float, float]:
    """A point of its track."""
    box = lever.bounding_box()
    assert box
    return box["x"] + box["width"] * share, box["y"] + box["height"] / 2


def test_by_mouse_and_by_keys(browser: Browser, agent: PageAgent) -> None:
    with wheel(browser, f"{agent.url}#drive/gate", scripts=[SENT]) as at:
        armed(at)
        sent(at, throttle=0, belt=0, grip=None)
        grip, belt = slider(at, "Grip"), slider(at, "Belt, while held")
        at.page.mouse.move(*place(grip, 0.5))
        at.page.mouse.down()
        at.page.mouse.move(*place(grip, 0.8), steps=3)
        at.page.mouse.up()
        at.wait(lambda: 0.4 < at.page.evaluate("() => window.sent.grip ?? 0") < 0.9, "the grip to move")
        put = float(grip.input_value())
        at.page.mouse.move(*place(belt, 0.5))
        at.page.mouse.down()
        at.page.mouse.move(*place(belt, 0.8), steps=3)
        at.wait(lambda: at.page.evaluate("() => window.sent.belt") > 0.4, "the belt to run")
        x, y = place(belt, 0.8)
        at.page.mouse.move(x, y - 150, steps=3)  # let go beside it
        at.page.mouse.up()
        sent(at, belt=0)
        # None: a busy machine was disarmed in between.
        assert at.page.evaluate("() => window.sent.grip") in (put, None)
        at.wait(lambda: float(belt.input_value()) == 0, "the slider to be back")
        belt.focus()
        at.page.keyboard.down("ArrowRight")
        at.wait(lambda: at.page.evaluate("() => window.sent.belt") > 0, "the belt to run")
        at.page.keyboard.up("ArrowRight")
        sent(at, belt=0, throttle=0)
        at.page.keyboard.down("ArrowRight")
        at.wait(lambda: at.page.evaluate("() => window.sent.belt") > 0, "the belt to run")
        at.page.keyboard.press("Space")
        at.wait_said("Stopped")
        at.wait(lambda: float(belt.input_value()) == 0, "the slider to be back")
        at.page.keyboard.up("ArrowRight")
        at.press("Release the stop")
        armed(at)
        sent(at, belt=0, grip=None)
        at.page.keyboard.down("KeyW")
        at.wait(lambda: at.page.evaluate("() => window.sent.throttle") > 0, "the throttle")
        at.page.keyboard.down("Meta")  # on macOS nobody hears of a key that is let go from here on
        sent(at, throttle=0)
        at.page.keyboard.up("Meta")
        at.page.keyboard.up("KeyW")
        assert at.shown.complaints == []


def test_by_a_thumb(browser: Browser, agent: PageAgent) -> None:
    with wheel(browser, f"{agent.url}#drive/gate", scripts=[SENT], touch=True, size=(844, 390)) as at:
        armed(at)
        belt, cdp = slider(at, "Belt, while held"), at.page.context.new_cdp_session(at.page)
        for share in (0.5, 0.6, 0.7, 0.8):
            x, y = place(belt, share)
            kind = "touchStart" if share == 0.5 else "touchMove"
            cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        at.wait(lambda: at.page.evaluate("() => window.sent.belt") > 0.4, "the belt to run")
        cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        sent(at, belt=0, throttle=0)
        assert at.shown.complaints == []
