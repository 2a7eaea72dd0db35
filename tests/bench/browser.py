"""Chromium as a viewer: our own page, and one plain WHEP page that is the same for every server."""

from __future__ import annotations

__all__ = ["MARKS", "Frame", "Viewing", "chromium", "frozen_s", "our_page", "whep_page"]

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, Route, WebSocket, sync_playwright

from tests.bench.servers import ORIGIN

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
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS), chromium_sandbox=os.geteuid() != 0)
            try:
                yield browser
            finally:
                browser.close()


class Viewing:
    """A page that shows one camera, or will after `click`."""

    def __init__(self, page: Page, play: str, frames: str, stats: str) -> None:
        self.page = page
        self._play, self._frames, self._stats = play, frames, stats
        self._errors: list[str] = []
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("console", lambda message: self._errors.append(message.text) if message.type == "error" else None)

    def click(self) -> None:
        """Press the button, as a person does: the pointer comes first."""
        button = self.page.locator(self._play)
        button.hover()
        button.click()

    def wait_picture(self, *, deadline_s: float = 20.0) -> None:
        """Wait for the first frame; raises TimeoutError with what the page complained of."""
        first = "performance.getEntriesByName('edge:first-frame').length > 0"
        try:
            _await(self.page, lambda: bool(self.page.evaluate(first)), "the first picture", deadline_s=deadline_s)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *self._errors])) from None

    def now_ms(self) -> float:
        """Milliseconds since the click."""
        return float(self.page.evaluate("performance.now() - performance.getEntriesByName('edge:start').at(-1).startTime"))

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
        start = "performance.getEntriesByName('edge:start').at(-1).startTime"
        age = "((performance.timeOrigin + f.display) % 2 ** 40) - f.time"
        found = self.page.evaluate(f"() => ({self._frames}).map(f => [f.display - {start}, f.time === null ? null : {age}])")
        return [Frame(at, age) for at, age in found]

    def wait_fresh(self, limit_ms: float, *, deadline_s: float = 20.0) -> Frame:
        """Wait for a picture that is at most `limit_ms` old when it is shown; a replayed GOP begins with older ones."""
        fresh: list[Frame] = []

        def come() -> bool:
            fresh[:] = [frame for frame in self.frames() if frame.age_ms is not None and frame.age_ms <= limit_ms]
            return bool(fresh)

        _await(self.page, come, f"a picture at most {limit_ms:g} ms old", deadline_s=deadline_s)
        return fresh[0]

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
    # W3C statistics are kept inside of the page's modules: a look at every connection that it makes.
    page.add_init_script(
        "const Made = RTCPeerConnection; globalThis.made = [];"
        "globalThis.RTCPeerConnection = class extends Made { constructor(...all) { super(...all); made.push(this); } };"
    )
    try:
        page.goto(f"{base}/#camera={camera}&paused&probe&door={door}")
        page.locator("edge-camera button.plain:visible").wait_for()
        if door == "mqtt":
            # CONNACK and SUBACK at least, then the retained messages
            _await(page, lambda: len(arrived) >= 2, "the page to reach the broker")
        page.wait_for_timeout(_QUIET_S * 1000)
        stats = f"async () => {{ {_INBOUND} return inbound(globalThis.made); }}"
        yield Viewing(
            page, "edge-camera button.plain:visible", "document.querySelector('edge-grid').cameras.flatMap(c => c.samples)", stats
        )
    finally:
        context.close()


@contextmanager
def whep_page(browser: Browser, url: str) -> Iterator[Viewing]:
    """The plain page, before the click that asks `url` for a picture."""
    context = browser.new_context(viewport={"width": 1280, "height": 760})
    page = context.new_page()

    def serve(route: Route) -> None:
        name = route.request.url.split("#")[0].rpartition("/")[2]
        path = STAMP if name == "stamp.js" else PAGES / name
        route.fulfill(path=path, content_type="text/html" if path.suffix == ".html" else "text/javascript")

    page.route(f"{ORIGIN}/**", serve)
    try:
        page.goto(f"{ORIGIN}/whep.html#url={quote(url, safe='')}")
        page.wait_for_timeout(_QUIET_S * 1000)
        yield Viewing(
            page, "button", "globalThis.shown", f"async () => {{ {_INBOUND} return inbound([globalThis.connection()]); }}"
        )
    finally:
        context.close()


def _await(page: Page, condition: Callable[[], bool], what: str, *, deadline_s: float = 20.0) -> None:
    """Wait while the page's events are dispatched, which plain waiting would not do."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        page.wait_for_timeout(50)


# The newest connection that has a picture: a page may have others, spare ones and old ones.
_INBOUND = """
const isVideo = (each) => each.type === 'inbound-rtp' && each.kind === 'video';
const inbound = async (all) => {
  const alive = all.filter((pc) => pc?.connectionState === 'connected').reverse();
  const found = await Promise.all(alive.map(async (pc) => [...(await pc.getStats()).values()].find(isVideo)));
  return found.find((each) => each?.framesDecoded) ?? {};
};
"""


def frozen_s(frames: Sequence[Frame], *, begin_ms: float, end_ms: float, limit_ms: float = 200) -> float:
    """Seconds without a new frame from `begin_ms` to `end_ms`, of all pauses longer than `limit_ms`."""
    moments = [begin_ms, *(frame.at_ms for frame in frames), end_ms]
    return sum(pause for earlier, later in pairwise(moments) if (pause := later - earlier) > limit_ms) / 1000
