"""The drive page as the person at the wheel has it: hands, what is said, what can be pressed."""

from __future__ import annotations

__all__ = ["CIRCLE", "CHANNELS", "PADS", "Keys", "Pad", "Thumbs", "Wheel", "wheel"]

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from playwright.sync_api import Browser
from playwright.sync_api import Error as PlaywrightError

from tests.support.browser import Viewer, viewer
from tests.support.rover import World

CIRCLE = ("KeyW", "KeyD")
"""Ahead and to the right: from its start the rover goes round for ever, and meets nothing."""

PADS = "() => { window.pads = []; navigator.getGamepads = () => window.pads; }"
"""Script for a new page: its gamepads are those that a test plugs in."""
CHANNELS = """() => {
    window.channels = {};
    const make = RTCPeerConnection.prototype.createDataChannel;
    RTCPeerConnection.prototype.createDataChannel = function (label, options) {
        const channel = make.call(this, label, options);
        if (!(label in window.channels)) window.channels[label] = channel;
        return channel;
    };
}"""
"""Script for a new page: its own data channels are within reach, as for any other script of it."""

_PAD = """(pad) => {
    if (!pad) return void (window.pads = []);
    const buttons = Array.from({length: 17}, (_, i) => ({pressed: (pad.buttons[i] ?? 0) > 0.5, value: pad.buttons[i] ?? 0}));
    window.pads = [{id: 'Test pad', index: 0, connected: true, mapping: 'standard', timestamp: 0, axes: pad.axes, buttons}];
}"""


class Hands(Protocol):
    """What a person drives with."""

    def push(self) -> None:
        """Move as wanted; again changes nothing."""

    def rest(self) -> None:
        """Let go; again changes nothing."""


class Wheel:
    """One open drive page."""

    def __init__(self, shown: Viewer) -> None:
        self.shown, self.page = shown, shown.page
        self.element = self.page.locator("edge-drive")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """As `wait_until`; where time is up, with how the page stood."""
        try:
            self.shown.wait(condition, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.group()}\n{self.said()}") from None

    def group(self) -> dict[str, Any]:
        """How the agent says that the group stands; nothing while it says nothing."""
        found: dict[str, Any] | None = self.page.evaluate("() => window.edge?.state?.desk?.control.group('drive') ?? null")
        return found or {}

    def said(self) -> str:
        """What stands in the middle, its buttons included."""
        dock = self.element.locator(".dock")
        return dock.inner_text() if dock.is_visible() else ""

    def wait_said(self, *words: str) -> None:
        """Until that stands there."""
        self.wait(lambda: all(word in self.said() for word in words), f"the page to say {words}")

    @property
    def holds(self) -> bool:
        return bool(self.group().get("lease"))

    def press(self, label: str) -> None:
        """One of the buttons in the middle."""
        self.element.locator(".dock").get_by_role("button", name=label).click()

    def sign_in(self, token: str) -> None:
        """By the page's own form."""
        self.press("Sign in to drive")
        sheet = self.element.get_by_role("dialog", name="Sign in")
        sheet.get_by_label("Token").fill(token)
        sheet.get_by_role("button", name="Sign in").click()
        sheet.wait_for(state="detached")

    def pushed(self) -> bool:
        """Whether the page knows of hands that are not at rest."""
        return bool(self.page.evaluate("() => Object.values(window.edge.state.desk?.wheel?.hands ?? {}).some(Boolean)"))

    def take(self) -> None:
        """Take the wheel, which is free, or held already."""
        self.wait(self._taken, "the lease")

    def _taken(self) -> bool:
        button = self.element.locator(".dock").get_by_role("button", name="Take the wheel", disabled=False)
        if not self.holds and button.is_visible():
            with suppress(PlaywrightError):  # it is gone by now
                button.click(timeout=1000)
        return self.holds

    def drive(self, hands: Hands, until: Callable[[], object], what: str) -> None:
        """Drive as people do: whoever is told to let go does so, and goes on."""
        self.page.bring_to_front()
        self.take()

        def going() -> object:
            if self.group().get("state") != "armed":
                hands.rest()
                self._taken()  # a page that a busy machine held up has lost it
                return False
            hands.push()
            return until()

        self.wait(going, what)

    def go(self, world: World, hands: Hands | None = None) -> Hands:
        """Drive round and round; returns while the rover moves, and with it the hands that are held."""
        hands = hands or Keys(self, *CIRCLE)
        self.drive(hands, lambda: world.moving, "the rover to move")
        return hands

    def ask(self, what: str, *args: Any) -> str:
        """A request by a script of the page, by its name in control.js: what was refused, in words, or ''."""
        call = (
            f"([...args]) => window.edge.state.desk.control.{what}(...args, performance.now()).then(() => '', (no) => no.message)"
        )
        return str(self.page.evaluate(call, list(args)))

    def stays_still(self, world: World) -> None:
        """Whether the rover stands, and goes on standing while the page has looked at its hands ten times more."""
        self.wait(lambda: world.still, "the rover to stand")
        before = world.ask()
        self.page.evaluate(
            "() => new Promise((done) => { let n = 20; const turn = () => --n ? setTimeout(turn, 20) : done(); turn(); })"
        )
        after = world.ask()
        assert world.still
        assert (after["x"], after["y"], after["heading"]) == (before["x"], before["y"], before["heading"])


class Keys:
    """Keys held down, by their place on the keyboard."""

    def __init__(self, at: Wheel, *codes: str) -> None:
        self._at, self._page, self._codes = at, at.page, codes

    def push(self) -> None:
        # A window that loses the keyboard forgets what is held.
        if not self._at.pushed():
            self.rest()
            for code in self._codes:
                self._page.keyboard.down(code)

    def rest(self) -> None:
        for code in self._codes:
            self._page.keyboard.up(code)


class Pad:
    """A gamepad of the standard layout; see `PADS`."""

    def __init__(self, at: Wheel, axes: Sequence[float] = (0, 0, 0, 0), **buttons: float) -> None:
        self._page, self._axes = at.page, list(axes)
        self._buttons = {name.removeprefix("b"): value for name, value in buttons.items()}
        self.rest()

    def push(self) -> None:
        self._page.evaluate(_PAD, {"axes": self._axes, "buttons": self._buttons})

    def appear(self) -> None:
        """It is switched on while it is pushed, and was not there before."""
        self.unplug()
        self._page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.push()

    def rest(self) -> None:
        # Sticks never rest at exactly 0.
        self._page.evaluate(_PAD, {"axes": [0.02, -0.03, 0.01, 0], "buttons": {}})

    def unplug(self) -> None:
        self._page.evaluate(_PAD, None)


class Thumbs:
    """Two thumbs on the two sticks of a touch screen, each so many pixels right and down of where it was put."""

    def __init__(self, at: Wheel, left: tuple[int, int], right: tuple[int, int] | None = None) -> None:
        self._cdp = at.page.context.new_cdp_session(at.page)
        size = at.page.viewport_size
        assert size
        y = round(size["height"] * 0.7)
        self._thumbs = [(round(size["width"] * 0.2), y, left)]
        if right:
            self._thumbs.append((round(size["width"] * 0.8), y, right))
        self._down = False

    def push(self) -> None:
        if not self._down:
            self._touch("touchStart", 0.0)
            self._touch("touchMove", 1.0)
        self._down = True

    def rest(self) -> None:
        if self._down:
            self._cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self._down = False

    def _touch(self, kind: str, share: float) -> None:
        points = [{"x": x + share * dx, "y": y + share * dy, "id": number} for number, (x, y, (dx, dy)) in enumerate(self._thumbs)]
        self._cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@contextmanager
def wheel(browser: Browser, url: str, *, scripts: Sequence[str] = (), **options: Any) -> Iterator[Wheel]:
    """A drive page in a profile of its own, which has pictures and knows what may be driven."""
    with viewer(browser, **options) as shown:
        for script in scripts:
            shown.page.add_init_script(f"({script})()")
        shown.page.goto(url)
        shown.wait_live(url.rpartition("/")[2], frames=2)
        found = Wheel(shown)
        found.wait(lambda: found.group().get("state") not in (None, "fault"), "a rover that can be driven")
        yield found
