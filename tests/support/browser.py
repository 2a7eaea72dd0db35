"""The page as a person has it before him: what it shows and says, and the agent behind it."""

from __future__ import annotations

__all__ = ["LIVE_S", "PageAgent", "StaticHost", "Viewer", "page_agent", "viewer"]

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Locator, Page, expect

from tests.bench.servers import Agent, free_port, healthy
from tests.support.broker import Broker
from tests.support.procs import DEADLINE_S, wait_until

WEB = Path(__file__).resolve().parents[2] / "edgeagent" / "web"
LIVE_S = DEADLINE_S
"""How long a picture may take on a busy machine."""
expect.set_options(timeout=LIVE_S * 1000)

CAMERAS: dict[str, Any] = {
    "gate": {"driver": "test-pattern", "size": "640x360", "fps": 25, "bitrate": "800k"},
    "back-yard": {"driver": "test-pattern", "size": "320x240", "fps": 15, "bitrate": "300k", "title": "Hinterhof"},
}

_FRAME = """(name) => {
    const video = window.edge.camera(name).video;
    const canvas = new OffscreenCanvas(64, 36);
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, 64, 36);
    return [...context.getImageData(0, 0, 64, 36).data];
}"""


class PageAgent:
    """An agent that can be killed and started again on the same address."""

    def __init__(
        self,
        broker: Broker | None = None,
        cameras: dict[str, Any] | None = None,
        mqtt: dict[str, Any] | None = None,
        **http: Any,
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self.settings: dict[str, Any] = {
            "device": "porch",
            "http": {"listen": f"127.0.0.1:{port}", **http},
            "limits": {"offers_per_s": 100},
            "cameras": CAMERAS if cameras is None else cameras,
        }
        if broker:
            self.settings["mqtt"] = {"url": broker.url, "web_url": broker.ws_url, **(mqtt or {})}
        self._agent: Agent | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        assert self._agent is None
        self._agent = Agent(self.settings)
        self._agent.__enter__()
        self._agent.wait_for(lambda: healthy(f"{self.url}healthz"), "the agent")

    def kill(self) -> None:
        """As `kill -9`; nothing happens where it does not run."""
        agent, self._agent = self._agent, None
        if agent:
            agent.stop(kill=True)
            agent.__exit__(None, None, None)


@contextmanager
def page_agent(
    broker: Broker | None = None,
    cameras: dict[str, Any] | None = None,
    mqtt: dict[str, Any] | None = None,
    **http: Any,
) -> Iterator[PageAgent]:
    """A running agent with two cameras, `gate` and `back-yard`, or others; `mqtt` and `http` add to those sections."""
    agent = PageAgent(broker, cameras, mqtt, **http)
    try:
        agent.start()
        yield agent
    finally:
        agent.kill()


class Viewer:
    """One open page. `complaints` are what the browser wrote to its console as errors, and uncaught exceptions."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def cameras(self) -> dict[str, Any]:
        """By name: phase, text, frames, width, height."""
        found: dict[str, Any] = self.page.evaluate("() => window.edge?.cameras ?? {}")
        return found

    def link(self) -> dict[str, Any]:
        """The connection: current, next, retiring peer."""
        found: dict[str, Any] = self.page.evaluate("() => window.edge?.link ?? {}")
        return found

    def connections(self) -> int:
        """Peer connections of the page that are not closed."""
        return 1 + sum(self.link()[name] is not None for name in ("next", "retiring")) if self.link().get("current") else 0

    def wait_live(self, *names: str, frames: int = 5) -> None:
        """Until all of these cameras, or all there are, have shown so many frames more."""
        begin: dict[str, int] = {}

        def playing() -> bool:
            now = {name: each for name, each in self.cameras().items() if not names or name in names}
            for name, each in now.items():
                if each["phase"] != "live" or name not in begin:
                    begin[name] = each["frames"]
            return len(now) >= max(1, len(names)) and all(each["frames"] >= begin[name] + frames for name, each in now.items())

        self.wait(playing, "moving pictures")

    def wait(self, condition: Any, what: str, *, deadline_s: float = LIVE_S) -> None:
        """As `wait_until`, and where time is up, with what the page said."""
        try:
            wait_until(condition, what, deadline_s=deadline_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.cameras()}\n{self.link()}\n{self.complaints}") from None

    def pixels(self, camera: str) -> list[int]:
        """The picture on show, 64 by 36, RGBA."""
        found: list[int] = self.page.evaluate(_FRAME, camera)
        return found

    def tile(self, camera: str) -> Locator:
        """The camera's element."""
        return self.page.locator(f"edge-camera[camera='{camera}']")

    def said(self, camera: str) -> str:
        """What is written over the picture, '' where nothing is."""
        message = self.tile(camera).locator(".message")
        return message.inner_text() if "on" in (message.get_attribute("class") or "").split() else ""

    def wait_said(self, camera: str, text: str) -> None:
        """Until this is written over the picture."""
        self.wait(lambda: text in self.said(camera), f"{text!r} over {camera}, not {self.said(camera)!r}")


@contextmanager
def viewer(
    browser: Browser,
    url: str = "",
    *,
    size: tuple[int, int] = (1280, 800),
    scheme: Literal["dark", "light"] = "dark",
    touch: bool = False,
) -> Iterator[Viewer]:
    """A page in a profile of its own, opened where `url` is given."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=touch, is_mobile=touch, locale="en-GB"
    )
    context.set_default_timeout(LIVE_S * 1000)
    try:
        shown = Viewer(context.new_page())
        if url:
            shown.page.goto(url)
        yield shown
    finally:
        context.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, files: dict[str, str], **kwargs: Any) -> None:
        self.files = files
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        text = self.files.get(self.path.split("?")[0])
        if text is None:
            return super().do_GET()
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        pass


class StaticHost:
    """A host that serves the page's files and nothing else; `files` adds pages by path."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        handler = functools.partial(_Quiet, directory=str(WEB), files=self.files)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> StaticHost:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
