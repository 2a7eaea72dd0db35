"""How soon a picture is back by itself in Chromium when what took it away has ended: agent, broker, network, a reload of the page.

Nobody touches the page meanwhile. A cause lasts until the screen has stood still for 3 to 8 s, so that its end falls anywhere
between two attempts of page and agent, and on either side of the 5 s after which an agent that hears nothing stops sending. Frames
have the time at which the browser expected them on the screen; causes end on the same machine's clock.
"""

from __future__ import annotations

__all__ = ["run"]

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser

from tests.bench.browser import HOOKS, chromium
from tests.bench.first_picture import TEST
from tests.bench.report import Context, Goal, Report, Row, median
from tests.bench.servers import CAMERA, Agent, free_port, health, healthy
from tests.bench.surroundings import broker as broker_running
from tests.bench.watching import longest_freeze_s
from tests.support.broker import Broker
from tests.support.browser import Viewer, viewer
from tests.support.link import BOARD, Link
from tests.support.procs import DEADLINE_S, wait_until

RUNS = 5
LIMIT_S = 3.0
STILL_S = 3.0, 8.0
STABLE_S = 4.0
PLAYING = 30
"""So many frames, and a picture plays."""
DOORS = ("mqtt", "whep")
PORT = 8080
_POLL_S = 0.005

_STILL_MS = "performance.now() - (window.presented.at(-1)?.[0] ?? 0)"
_OFFER = "(performance.timeOrigin + (performance.getEntriesByName('edge:offer').at(-1)?.startTime ?? 0)) / 1000"
_MOMENTS = "window.presented.map(([at]) => (performance.timeOrigin + at) / 1000)"


def run(context: Context) -> Report:
    report = Report("recovery", "The picture is back by itself in Chromium, s after what took it away has ended")
    runs = 1 if context.quick else context.runs or RUNS
    report.notes.append(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with broker_running() as broker, chromium() as browser:
        for door in DOORS:
            context.log(f"agent killed, {door}")
            found = [_killed(browser, broker, door) for _ in range(runs)]
            _add(report, "agent killed", door, "its door answers", [each for each, _ in found])
            _add(report, "agent killed", door, "its process starts", [each for _, each in found], limit_s=None)
        with _agent(_settings(broker)) as (agent, began):
            context.log("broker restarted")
            _restarted(report, browser, broker, began.base, runs)
            context.log("broker down when the page opens")
            _add(report, "no broker at first", "mqtt", "it listens", [_late(broker, began.base) for _ in range(runs)])
            for door in DOORS:
                context.log(f"page reloaded, {door}")
                _add(report, "page reloaded", door, "navigation", _reloaded(browser, began.base, door, runs))
            context.log("agent halted")
            halted = [_halted(browser, agent, began.base) for _ in range(runs)]
            _add(report, "agent halted (SIGSTOP)", "whep", "SIGCONT", halted)
    if os.geteuid() == 0:
        context.log("link down")
        _add(report, "link down", "whep", "it is up", _unplugged(runs))
    else:
        report.notes.append("no link that goes down: network namespaces need root")
    report.notes.append(f"load average at the end {os.getloadavg()[0]:.1f}")
    return report


def _row(cause: str, door: str, since: str, took_s: Sequence[float]) -> Row:
    return {
        "cause": cause,
        "door": door,
        "since": since,
        "median s": statistics.median(took_s),
        "worst s": max(took_s),
        "runs": len(took_s),
    }


def _add(report: Report, cause: str, door: str, since: str, found: Sequence[_Back], limit_s: float | None = LIMIT_S) -> None:
    """A row, and its goal where something was promised. Where no offer was needed, none came after the end of the cause."""
    offers_s = [each.offer_s for each in found if each.offer_s > 0]
    took_s = [each.picture_s for each in found]
    report.rows.append(_row(cause, door, since, took_s) | {"to offer s": median(offers_s)})
    report.runs += [{"cause": cause, "door": door, "since": since, "offer s": each.offer_s, "s": each.picture_s} for each in found]
    if limit_s is not None:
        report.goals.append(Goal(f"{cause}, {door}: picture after {since}, worst", max(took_s), limit_s, "s"))


# Who takes part


@dataclass(frozen=True, slots=True)
class _Began:
    """An agent's address, and in s since 1970 when its process started and when it first answered."""

    base: str
    started_s: float
    answered_s: float


def _settings(broker: Broker | None, listen: str = "") -> dict[str, Any]:
    return {
        "device": "bench",
        "http": {"listen": f"{listen}:{PORT}", "open": True} if listen else {"listen": f"127.0.0.1:{free_port()}"},
        "cameras": {CAMERA: TEST},
    } | ({"mqtt": {"url": broker.url, "web_url": broker.ws_url}} if broker else {})


@contextmanager
def _agent(settings: dict[str, Any]) -> Iterator[tuple[Agent, _Began]]:
    """A running agent; looked at more often than `wait_for` does, since it is timed."""
    base = f"http://{settings['http']['listen']}"
    started_s, end = time.time(), time.monotonic() + DEADLINE_S
    with Agent(settings) as agent:
        while True:
            asked_s = time.time()
            if healthy(f"{base}/healthz"):
                break
            if not agent.running or time.monotonic() > end:
                raise RuntimeError(f"the agent does not answer\n{agent.log}")
            time.sleep(_POLL_S)
        yield agent, _Began(base, started_s, asked_s)


def _on_broker(base: str) -> bool:
    return bool(health(base)["broker"])


@dataclass(frozen=True, slots=True)
class _Back:
    """When the page made its latest offer and when the first picture was there, s since 1970 or since what ended then."""

    offer_s: float
    picture_s: float

    def since(self, at_s: float) -> _Back:
        return _Back(self.offer_s - at_s, self.picture_s - at_s)


class _Watcher:
    """A page that shows the camera, and every frame that it has shown since it was loaded."""

    def __init__(self, shown: Viewer) -> None:
        self._shown = shown

    def moments_s(self) -> list[float]:
        """When each frame was on the screen, s since 1970."""
        found: list[float] = self._shown.page.evaluate(_MOMENTS)
        return found

    def count(self) -> int:
        return int(self._shown.page.evaluate("window.presented.length"))

    def wait_playing(self, frames: int = PLAYING) -> None:
        """Until so many more frames have been shown."""
        until = self.count() + frames
        self._shown.wait(lambda: self.count() >= until, "a moving picture")

    def wait_still(self) -> int:
        """Until nothing new has come for as long as a cause lasts; returns how many frames there were."""
        still_ms = random.uniform(*STILL_S) * 1000
        self._shown.wait(lambda: self._shown.page.evaluate(_STILL_MS) >= still_ms, "the picture to stand still")
        return self.count()

    def wait_after(self, frames: int) -> _Back:
        """Wait for the first frame after so many."""
        self._shown.wait(lambda: self.count() > frames, "the picture to be back")
        return _Back(float(self._shown.page.evaluate(_OFFER)), self.moments_s()[frames])

    def wait_without_broker(self) -> None:
        """Until the page says that it does not reach the broker."""
        self._shown.wait(lambda: self._shown.cameras().get(CAMERA, {}).get("phase") == "unreachable", "the broker to be missed")

    def reload(self) -> _Back:
        """Load the page again; as `since_navigation`."""
        self._shown.page.reload()
        return self.since_navigation()

    def since_navigation(self) -> _Back:
        """Wait for the first frame of all; times since the navigation."""
        return self.wait_after(0).since(float(self._shown.page.evaluate("performance.timeOrigin / 1000")))

    def connection(self) -> str:
        """What the session in use is called; '' for none, as between two."""
        return str((self._shown.link().get("current") or {}).get("sid", ""))


@contextmanager
def _watcher(browser: Browser, base: str, door: str) -> Iterator[_Watcher]:
    with viewer(browser) as shown:
        shown.page.add_init_script(HOOKS)
        shown.page.goto(f"{base}/#camera={CAMERA}&door={door}")
        yield _Watcher(shown)


# What happens


def _killed(browser: Browser, broker: Broker, door: str) -> tuple[_Back, _Back]:
    """Since the new agent's first answer, and since its process's start."""
    settings = _settings(broker)
    with ExitStack() as stack:
        with _agent(settings) as (agent, began):
            watcher = stack.enter_context(_watcher(browser, began.base, door))
            watcher.wait_playing()
            agent.stop(kill=True)
            frames = watcher.wait_still()
        with _agent(settings) as (_, began):
            back = watcher.wait_after(frames)
            return back.since(began.answered_s), back.since(began.started_s)


def _restarted(report: Report, browser: Browser, broker: Broker, base: str, runs: int) -> None:
    """Whoever watches sees nothing of a broker that goes and returns; whoever comes then sees the picture."""
    gaps_s: list[float] = []
    new: list[_Back] = []
    reconnects = 0
    for _ in range(runs):
        wait_until(lambda: _on_broker(base), "the agent on the broker")
        with _watcher(browser, base, "mqtt") as watcher:
            watcher.wait_playing()
            before, begin_s = watcher.connection(), watcher.moments_s()[-1]
            broker.kill()
            watcher.wait_playing(random.randint(2 * PLAYING, 5 * PLAYING))
            broker.start()
            wait_until(lambda: _on_broker(base), "the agent on the broker")
            watcher.wait_playing(2 * PLAYING)
            moments_s = watcher.moments_s()
            gaps_s.append(longest_freeze_s([at for at in moments_s if at > begin_s], begin_s, moments_s[-1]))
            reconnects += watcher.connection() != before
        with _watcher(browser, base, "mqtt") as late:
            new.append(late.since_navigation())
    report.rows.append(_row("broker restarted, longest gap", "mqtt", "the frame before", gaps_s))
    report.goals.append(Goal("broker restarted: runs in which the page had to connect anew", reconnects, 0))
    _add(report, "page opened after its restart", "mqtt", "navigation", new)


def _late(broker: Broker, base: str) -> _Back:
    """Since the broker listens, on a page that knows no other way and was there before.

    In a browser of its own: after some fifteen WebSockets that failed within minutes Chromium holds back the next for up to 5 s,
    whichever page opens it, and no page can help that. And an agent whose connection broke within 3 s waits longer each time.
    """
    time.sleep(STABLE_S)
    broker.kill()
    with chromium() as browser, _watcher(browser, base, "mqtt") as watcher:
        watcher.wait_without_broker()
        watcher.wait_still()
        broker.start()
        listens_s = time.time()
        return watcher.wait_after(0).since(listens_s)


def _reloaded(browser: Browser, base: str, door: str, runs: int) -> list[_Back]:
    with _watcher(browser, base, door) as watcher:
        found: list[_Back] = []
        for _ in range(runs):
            watcher.wait_playing()
            found.append(watcher.reload())
        return found


def _halted(browser: Browser, agent: Agent, base: str) -> _Back:
    """As where the network to a board goes and returns, and nothing that was sent is lost."""
    with _watcher(browser, base, "whep") as watcher:
        watcher.wait_playing()
        os.kill(agent.pid, signal.SIGSTOP)
        try:
            frames = watcher.wait_still()
        finally:
            ended_s = time.time()
            os.kill(agent.pid, signal.SIGCONT)
        return watcher.wait_after(frames).since(ended_s)


def _unplugged(runs: int) -> list[_Back]:
    """Board and page on two sides of a link that loses everything for a while."""
    found: list[_Back] = []
    with (
        Link() as link,
        Agent(_settings(None, "0.0.0.0"), prefix=link.on_board()) as agent,
        chromium(link.on_viewer()) as browser,
    ):
        agent.wait_for(lambda: link.answers(PORT), "the agent")
        for _ in range(runs):
            with _watcher(browser, f"http://{BOARD}:{PORT}", "whep") as watcher:
                watcher.wait_playing()
                link.change(down=1)
                frames = watcher.wait_still()
                ended_s = time.time()
                link.change(down=0)
                found.append(watcher.wait_after(frames).since(ended_s))
    return found
