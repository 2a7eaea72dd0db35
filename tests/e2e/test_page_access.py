"""For everybody: names, sizes, contrast, focus, motion."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import Browser

from tests.support.browser import PageAgent, Viewer, page_agent, viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Scheme = Literal["dark", "light"]
SCHEMES: tuple[Scheme, ...] = ("dark", "light")

LOOK = """() => {
    const found = {controls: [], texts: [], width: innerWidth};
    const luminance = ([r, g, b]) => {
      const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n.slice(0, 3), 1]; };
    // The solid colour behind an element; null over a picture or a gradient.
    const behind = (element) => {
      for (let each = element; each; each = each.assignedSlot ?? each.parentElement ?? each.getRootNode().host) {
        const style = getComputedStyle(each);
        if (style.backgroundImage !== 'none' || each.matches?.('edge-camera, .stage, .pictures')) return null;
        const background = colour(style.backgroundColor);
        if (background[3] === 1) return background;
        if (background[3] > 0) return null;
      }
      return [255, 255, 255];
    };
    const look = (root) => {
      for (const each of root.querySelectorAll('*')) {
        if (each.shadowRoot) look(each.shadowRoot);
        const box = each.getBoundingClientRect();
        if (!box.width || !box.height || !each.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
        if (each.matches('button, input, a[href]')) {
          const label = each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.[0]?.textContent.trim() || '';
          const target = each.closest('label') ?? each;
          const {left, right, width, height} = target.getBoundingClientRect();
          found.controls.push({label, left, right, width, height, tag: each.outerHTML.slice(0, 120)});
        }
        const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        const ground = own && !each.matches('.sr, .sr *') ? behind(each) : null;
        if (!ground) continue;
        const [a, b] = [luminance(colour(getComputedStyle(each).color)), luminance(ground)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        found.texts.push({text: each.textContent.trim().slice(0, 40), ratio});
      }
    };
    look(document);
    return found;
}"""


ACTIVE = """() => {
    let each = document.activeElement;
    while (each?.shadowRoot?.activeElement) each = each.shadowRoot.activeElement;
    return [each?.getAttribute('aria-label') ?? each?.textContent ?? '', getComputedStyle(each).outlineStyle];
}"""


def at_rest(shown: Viewer) -> dict[str, Any]:
    """What the page shows once nothing grows or fades any more."""
    looks: list[dict[str, Any]] = []

    def still() -> bool:
        looks.append(shown.page.evaluate(LOOK))
        return len(looks) > 3 and looks[-1] == looks[-2] == looks[-3]

    shown.wait(still, "the page to come to rest")
    return looks[-1]


def check(found: dict[str, Any]) -> None:
    assert found["controls"]
    for control in found["controls"]:
        assert control["label"], f"no name: {control['tag']}"
        assert min(control["width"], control["height"]) >= 43.9, f"too small: {control}"
        assert control["left"] > -0.1 and control["right"] < found["width"] + 0.1, f"not within the window: {control}"
    for text in found["texts"]:
        assert text["ratio"] >= 4.5, text


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_names_sizes_and_contrast(browser: Browser, porch: PageAgent, scheme: Scheme, size: tuple[int, int]) -> None:
    touch = size[0] < 900
    with viewer(browser, porch.url, size=size, scheme=scheme, touch=touch) as shown:
        shown.wait_live("gate", "back-yard")
        check(at_rest(shown))
        shown.page.keyboard.press("1")
        shown.page.keyboard.press("d")
        shown.page.get_by_role("complementary", name="Details of Gate").wait_for()
        seen = at_rest(shown)
        assert any(text["text"] == "Resolution" for text in seen["texts"])
        check(seen)
        shown.page.keyboard.press("Escape")
        shown.page.keyboard.press("Escape")
        shown.page.keyboard.press("?")
        shown.page.get_by_role("dialog").wait_for()
        check(at_rest(shown))


def test_the_sign_in_form(browser: Browser) -> None:
    with page_agent(token="a-long-enough-token") as agent:
        for scheme in SCHEMES:
            with viewer(browser, agent.url, scheme=scheme) as shown:
                shown.page.get_by_label("Token").wait_for()
                check(at_rest(shown))
                focus = "() => document.activeElement?.tagName"
                shown.wait(lambda: shown.page.evaluate(focus) in ("EDGE-GRID", "EDGE-SIGNIN"), "the form to have the focus")  # noqa: B023


def test_tab_reaches_every_camera_and_enter_opens_it(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser, porch.url) as shown:
        page = shown.page
        shown.wait_live("gate", "back-yard")
        names = []
        for _ in range(14):
            page.keyboard.press("Tab")
            name, outline = page.evaluate(ACTIVE)
            names.append(name)
            assert outline != "none", f"the focus on {name!r} cannot be seen"
            if name == "Open Hinterhof":
                break
        assert {"Fill the window", "Keyboard shortcuts", "Full screen", "Open Gate", "Open Hinterhof"} <= set(names)
        page.keyboard.press("Enter")
        page.wait_for_url("**/#camera=back-yard")
        page.keyboard.press("Escape")
        # The focus returns to where it was.
        shown.wait(lambda: page.evaluate(ACTIVE)[0] == "Open Hinterhof", "the focus to return")


def test_reduced_motion_stops_what_moves_by_itself(browser: Browser, porch: PageAgent) -> None:
    with viewer(browser) as shown:
        shown.page.emulate_media(reduced_motion="reduce")
        shown.page.goto(porch.url)
        shown.wait_live("gate", "back-yard")
        shown.tile("gate").locator(".hit").click()
        assert shown.page.evaluate("() => document.getAnimations().length") == 0
