"""Chromium as a viewer: our own page, and one plain WHEP page that is the same for every server."""

from __future__ import annotations

__all__ = [
    "HOOKS",
    "MARKS",
    "SAMPLES",
    "Frame",
    "Scripted",
    "Shown",
    "Viewing",
    "chromium",
    "frozen_s",
    "our_page",
    "stats_of",
    "whep_page",
]

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from playwright.sync_api import Browser, Page, Route, WebSocket

from tests.bench.servers import ORIGIN
from tests.support.chromium import driver
from tests.support.procs import DEADLINE_S

PAGES = Path(__file__).parent / "pages"
STAMP = Path(__file__).resolve().parents[2] / "edgeagent" / "web" / "stamp.js"
MARKS = ("offer", "answer", "connected", "first-frame")
"""Moments after `edge:start` that both pages mark."""

_FLAGS = (
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=LocalNetworkAccessChecks",  # the plain page comes from no address at all
    "--disable-dev-shm-usage",
)
_QUIET_S = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame on the screen.

    Attributes:
        at_ms: When it was expected on the screen, since the click.
        age_ms: From the stamp in the picture to its expected display; None without a stamp. Both sides share this machine's clock.
    """

    at_ms: float
    age_ms: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame on the screen.

    Attributes:
        at_ms: When it was expected there, since the click.
        width: In pixels.
        number: How many frames its `<video>` has handed to the compositor up to this one: some of them pass between two callbacks.
    """

    at_ms: float
    width: int
    number: int


@contextmanager
def chromium(prefix: Sequence[str] = ()) -> Iterator[Browser]:
    """A headless Chromium; `prefix` are words before its command, such as those of `Link.on_viewer`."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("chromium is missing: sudo apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-") as folder:
        if prefix:
            wrapper = Path(folder, "chromium")
            wrapper.write_text(f'#!/bin/sh\nexec {" ".join(prefix)} {program} "$@"\n')
            wrapper.chmod(0o755)
            program = str(wrapper)
        with driver() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS), chromium_sandbox=os.geteuid() != 0)
            try:
                yield browser
            finally:
                browser.close()


class Scripted(Protocol):
    """What of Playwright's `Page` is needed of any browser."""

    def evaluate(self, expression: str, arg: Any = None) -> Any:
        """The value of an expression, of the function that it is, or of the promise that comes."""

    def wait_for_timeout(self, timeout: float) -> None:
        """Wait, in ms, while the page's events are dispatched."""


class Viewing:
    """A page that shows one camera, or will after `click`."""

    def __init__(self, page: Scripted, press: Callable[[], None], frames: str, stats: str) -> None:
        self.page = page
        self._press, self._frames, self._stats = press, frames, stats
        self.errors: list[str] = []
        self._started_ms: float | None = None

    @property
    def _start_ms(self) -> float:
        """The click on the page's clock; kept, since a page may mark a new start when it has lost its connection."""
        if self._started_ms is None:
            self._started_ms = float(self.page.evaluate("performance.getEntriesByName('edge:start').at(-1).startTime"))
        return self._started_ms

    def click(self) -> None:
        """Press the button, as a person does."""
        self._press()

    def wait_picture(self, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait for the first frame; raises TimeoutError with what the page complained of."""
        first = "performance.getEntriesByName('edge:first-frame').length > 0"
        try:
            _await(self.page, lambda: bool(self.page.evaluate(first)), "the first picture", deadline_s=deadline_s)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *self.errors])) from None

    def now_ms(self) -> float:
        """Milliseconds since the click."""
        return float(self.page.evaluate("performance.now()")) - self._start_ms

    def moments(self) -> dict[str, float]:
        """Milliseconds from the click to each of `MARKS` that has come."""
        names = ["start", *MARKS]
        marks = self.page.evaluate(
            "names => names.map(name => performance.getEntriesByName('edge:' + name).at(-1)?.startTime ?? null)", names
        )
        start = marks[0]
        return {name: at - start for name, at in zip(names[1:], marks[1:], strict=True) if at is not None}

    def frames(self) -> list[Frame]:
        """The latest frames, oldest first."""
        start = self._start_ms
        age = "((performance.timeOrigin + f.display) % 2 ** 40) - f.time"
        found = self.page.evaluate(f"() => ({self._frames}).map(f => [f.display - {start}, f.time === null ? null : {age}])")
        return [Frame(at, age) for at, age in found]

    def wait_fresh(self, limit_ms: float, *, deadline_s: float = DEADLINE_S) -> Frame:
        """Wait for a picture that is at most `limit_ms` old when it is shown; a replayed GOP begins with older ones."""
        fresh: list[Frame] = []

        def come() -> bool:
            fresh[:] = [frame for frame in self.frames() if frame.age_ms is not None and frame.age_ms <= limit_ms]
            return bool(fresh)

        _await(self.page, come, f"a picture at most {limit_ms:g} ms old", deadline_s=deadline_s)
        return fresh[0]

    def shown(self) -> list[Shown]:
        """Every frame that has been on the screen since the page was opened, stamped or not, oldest first."""
        found = self.page.evaluate("() => window.presented")
        return [Shown(at - self._start_ms, width, number) for at, width, number in found]

    def inbound(self) -> dict[str, Any]:
        """What WebRTC's statistics say of the video that comes in (W3C `RTCInboundRtpStreamStats`); {} while none does."""
        found: dict[str, Any] = self.page.evaluate(self._stats)
        return found


@contextmanager
def our_page(browser: Browser, base: str, camera: str, door: str) -> Iterator[Viewing]:
    """The agent's page, paused before a camera, its door open: `door` is mqtt or whep."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = context.new_page()
    arrived: list[float] = []

    def opened(socket: WebSocket) -> None:
        socket.on("framereceived", lambda _: arrived.append(1))

    page.on("websocket", opened)
    page.add_init_script(HOOKS)
    try:
        page.goto(f"{base}/#camera={camera}&paused&probe&door={door}")
        page.locator("edge-camera button.plain:visible").wait_for()
        if door == "mqtt":
            # CONNACK and SUBACK at least, then the retained messages
            _await(page, lambda: len(arrived) >= 2, "the page to reach the broker")
        page.wait_for_timeout(_QUIET_S * 1000)
        yield _viewing(page, "edge-camera button.plain:visible", SAMPLES, stats_of("window.made"))
    finally:
        context.close()


@contextmanager
def whep_page(browser: Browser, url: str) -> Iterator[Viewing]:
    """The plain page, before the click that asks `url` for a picture."""
    context = browser.new_context(viewport={"width": 1280, "height": 760})
    page = context.new_page()
    page.add_init_script(HOOKS)

    def serve(route: Route) -> None:
        name = route.request.url.split("#")[0].rpartition("/")[2]
        path = STAMP if name == "stamp.js" else PAGES / name
        route.fulfill(path=path, content_type="text/html" if path.suffix == ".html" else "text/javascript")

    page.route(f"{ORIGIN}/**", serve)
    try:
        page.goto(f"{ORIGIN}/whep.html#url={quote(url, safe='')}")
        page.wait_for_timeout(_QUIET_S * 1000)
        yield _viewing(page, "button", "globalThis.shown", stats_of("[globalThis.connection()]"))
    finally:
        context.close()


def _await(page: Scripted, condition: Callable[[], bool], what: str, *, deadline_s: float = DEADLINE_S) -> None:
    """Wait while the page's events are dispatched, which plain waiting would not do."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        page.wait_for_timeout(50)


HOOKS = """
window.presented = [];
window.made = [];
const ask = HTMLVideoElement.prototype.requestVideoFrameCallback;
HTMLVideoElement.prototype.requestVideoFrameCallback = function (callback) {
  return ask.call(this, (at, data) => {
    window.presented.push([data.expectedDisplayTime, data.width, data.presentedFrames]);
    callback(at, data);
  });
};
const answer = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function (...all) {
  if (!window.made.includes(this)) window.made.push(this);
  return answer.apply(this, all);
};
"""
"""Keeps every frame that the page's own `requestVideoFrameCallback`s are told of, and every connection that gets an answer."""

SAMPLES = "document.querySelector('edge-grid').cameras.flatMap(c => c.samples)"
"""The frames of our page whose stamp was read."""

# The newest connection that has a picture: a page may have others, spare ones and old ones.
_INBOUND = """
const isVideo = (each) => each.type === 'inbound-rtp' && each.kind === 'video';
const inbound = async (all) => {
  const alive = all.filter((pc) => pc?.connectionState === 'connected').reverse();
  const found = await Promise.all(alive.map(async (pc) => [...(await pc.getStats()).values()].find(isVideo)));
  return found.find((each) => each?.framesDecoded) ?? {};
};
"""


def stats_of(connections: str) -> str:
    """A function that returns the statistics of the incoming video of whichever of some connections is in use."""
    return f"async () => {{ {_INBOUND} return inbound({connections}); }}"


def _viewing(page: Page, button: str, frames: str, stats: str) -> Viewing:
    def press() -> None:
        found = page.locator(button)
        found.hover()  # the pointer comes first
        found.click()

    viewing = Viewing(page, press, frames, stats)
    page.on("pageerror", lambda error: viewing.errors.append(str(error)))
    page.on("console", lambda message: viewing.errors.append(message.text) if message.type == "error" else None)
    return viewing


def frozen_s(frames: Sequence[Frame], *, begin_ms: float, end_ms: float, limit_ms: float = 200) -> float:
    """Seconds without a new frame from `begin_ms` to `end_ms`, of all pauses longer than `limit_ms`."""
    moments = [begin_ms, *(frame.at_ms for frame in frames), end_ms]
    return sum(pause for earlier, later in pairwise(moments) if (pause := later - earlier) > limit_ms) / 1000
