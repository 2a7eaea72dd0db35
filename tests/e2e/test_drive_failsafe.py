"""Whatever fails while the rover goes, between the page and its wheels: it stands, and goes on only when the hands were at rest.

What the keeper does by itself is tried without a browser in tests/keeper/test_causes.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Error as PlaywrightError

from tests.bench.namespaces import within
from tests.support import blocker, faulty, recorder
from tests.support.chromium import chromium
from tests.support.link import BOARD, Link
from tests.support.procs import wait_until
from tests.support.rover import Rover
from tests.support.tab import Tab
from tests.support.wheel import CHANNELS, CIRCLE, PADS, Hands, Keys, Pad, Wheel, wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TOKEN = "the token of Anna, kept well"
OPERATORS = {"operators": {"anna": {"token": TOKEN, "role": "operate"}}}


class Yard(Rover):
    """Beside the rover: a camera `gate` whose encoder freezes, and what holds up the agent's loop, both when they are told to."""

    def __init__(self, folder: Path) -> None:
        self.faults, modules = folder / "faults", folder / "modules"
        self.faults.mkdir()
        modules.mkdir()
        faulty.install(modules)
        blocker.install(modules)
        super().__init__(
            folder,
            cameras={"gate": {"driver": "faulty", "folder": str(self.faults)}},
            devices={"blocker": {"driver": "loop-blocker", "folder": str(self.faults)}},
            env=recorder.install(modules),
        )


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Yard(tmp_path_factory.mktemp("yard")) as agent:
        yield agent


@pytest.fixture(scope="module")
def _at(browser: Browser, yard: Yard) -> Iterator[Wheel]:
    with wheel(browser, yard.drive_page(), scripts=[PADS]) as page:
        yield page


@pytest.fixture
def at(_at: Wheel, yard: Yard) -> Iterator[Wheel]:
    """A drive page that all tests share whose cause leaves it open. The rover is at its start."""
    yard.world.begin()
    yield _at
    Keys(_at, *CIRCLE).rest()
    if _at.holds:
        _at.ask("lease", "drive", "release")
        _at.wait(lambda: not _at.holds, "the wheel to be free for the next page")


def stopped(at: Wheel, yard: Rover, since: float) -> None:
    at.wait(lambda: yard.world.stopped(since), "the rover to be stopped, and to stand")


def goes_on_only_after_rest(at: Wheel, yard: Rover, hands: Hands) -> None:
    """Once all is well again: hands that were never at rest move nothing, then they do."""
    at.wait(lambda: at.group().get("state") in ("free", "disarmed"), "all to be well again")
    at.stays_still(yard.world)
    if at.holds:
        at.wait_said("Let go of the keys")
    hands.rest()
    at.go(yard.world, hands)


def test_the_gamepad_is_unplugged(at: Wheel, yard: Yard) -> None:
    pad = Pad(at, axes=(0.8, -0.8, 0, 0))
    at.go(yard.world, pad)
    before, cause = yard.stops("gamepad"), time.monotonic()
    pad.unplug()
    stopped(at, yard, cause)
    yard.wait_stops("gamepad", before)


def test_the_page_hangs(at: Wheel, yard: Yard) -> None:
    keys = at.go(yard.world)
    before, cause = yard.stops("silence"), time.monotonic()
    at.page.evaluate("() => void setTimeout(() => { const end = performance.now() + 4000; while (performance.now() < end); })")
    wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
    yard.wait_stops("silence", before)
    goes_on_only_after_rest(at, yard, keys)


def test_the_picture_stands_still(browser: Browser, yard: Yard) -> None:
    yard.world.begin()
    with wheel(browser, yard.drive_page("gate")) as at:
        keys = at.go(yard.world)
        before, cause = yard.stops("picture"), time.monotonic()
        (yard.faults / "encoder-frozen").touch()
        stopped(at, yard, cause)
        at.wait_said("The picture stands still", "Nothing moves until it is live.")
        yard.wait_stops("picture", before)
        (yard.faults / "encoder-frozen").unlink()
        goes_on_only_after_rest(at, yard, keys)


@pytest.mark.parametrize("channel", ["control", "events"])
def test_a_channel_closes(channel: str, browser: Browser, yard: Yard) -> None:
    yard.world.begin()
    with wheel(browser, yard.drive_page(), scripts=[CHANNELS]) as at:
        at.go(yard.world)
        before, cause = yard.stops("connection"), time.monotonic()
        at.page.evaluate("(label) => window.channels[label].close()", channel)
        stopped(at, yard, cause)
        yard.wait_stops("connection", before)  # not by the silence that follows, nor by the lease's end that follows that
        at.stays_still(yard.world)


def test_the_page_is_closed(browser: Browser, yard: Yard) -> None:
    """It says so itself, or its connection does: whichever comes first, it is not left to silence."""

    def heard() -> int:
        return sum(map(yard.stops, ("connection", "person", "hidden")))

    yard.world.begin()
    with wheel(browser, yard.drive_page()) as at:
        at.go(yard.world)
        before, cause = heard(), time.monotonic()
        at.page.close()
        wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
        wait_until(lambda: heard() > before, "the agent to hear that the page is gone")


def test_the_page_is_hidden(browser: Browser, yard: Yard) -> None:
    """By another tab, and Chromium knows it; when it is shown again, it has the wheel no more."""
    yard.world.begin()
    tab = Tab(browser, yard.drive_page())
    state = "window.edge?.state?.desk?.control.group('drive')?.state"
    wait_until(lambda: tab.evaluate(f"{state} === 'free' && window.edge.camera('eyes').frames > 2"), "a rover that can be driven")

    def press(kind: str) -> None:
        for code, key in zip(CIRCLE, "wd", strict=True):
            tab.send("Input.dispatchKeyEvent", type=kind, code=code, key=key)

    def moves() -> bool:
        now = tab.evaluate(state)
        if now == "free":  # at first, and where a busy machine showed no picture for so long that the lease was lost
            tab.evaluate("window.edge.state.desk.control.lease('drive', 'request', performance.now()).then(() => null, () => null)")
        press("keyDown" if now == "armed" else "keyUp")
        return yard.world.moving

    wait_until(moves, "the rover to move")
    before, cause = yard.stops("hidden"), time.monotonic()
    tab.hide()
    wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
    yard.wait_stops("hidden", before)
    tab.show()
    wait_until(lambda: tab.evaluate(f"document.visibilityState === 'visible' && {state} === 'free'"), "the page to be shown")
    wait_until(lambda: yard.world.still, "the rover to stand")
    tab.close()


def test_the_browser_is_killed(yard: Yard) -> None:
    yard.world.begin()
    stopped_at = 0.0
    # Nothing of a browser that was killed can be closed.
    with contextlib.suppress(PlaywrightError), chromium() as browser, wheel(browser, yard.drive_page()) as at:
        at.go(yard.world)
        processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        before, cause = yard.stops("silence"), time.monotonic()
        for process in processes:
            os.kill(process["id"], signal.SIGKILL)
        wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
        yard.wait_stops("silence", before)
        stopped_at = time.monotonic()
    assert stopped_at > 0


def test_the_agent_is_halted(at: Wheel, yard: Yard) -> None:
    keys = at.go(yard.world)
    cause = time.monotonic()
    yard.kill(signal.SIGSTOP)
    try:
        wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
    finally:
        yard.kill(signal.SIGCONT)
    goes_on_only_after_rest(at, yard, keys)


def test_the_agents_loop_is_held_up(at: Wheel, yard: Yard) -> None:
    """By the keeper, which hears nothing of the agent: its loop does not turn yet when the rover stops."""
    keys, seconds = at.go(yard.world), 4.0
    cause = time.monotonic()
    at.page.evaluate(
        "(s) => void window.edge.state.desk.control.command('blocker', 'block', {seconds: s}, performance.now()).catch(() => {})",
        seconds,
    )
    stopped(at, yard, cause)
    at.wait((yard.faults / "lines").exists, "the loop to be held up")  # a busy machine may stop it before
    (held,) = [json.loads(line) for line in (yard.faults / "lines").read_text().splitlines()]
    assert yard.world.ask()["stopped_at"] < held["at"] + seconds
    goes_on_only_after_rest(at, yard, keys)


@pytest.mark.parametrize("who", ["worker", "both"])
def test_the_keeper_is_killed(who: str, at: Wheel, yard: Yard) -> None:
    """Its successor stops what the dead one left moving."""
    keys = at.go(yard.world)
    guard, worker = yard.keeper()
    before, cause = yard.stops("keeper"), time.monotonic()
    for pid in (guard, worker) if who == "both" else (worker,):
        os.kill(pid, signal.SIGKILL)
    stopped(at, yard, cause)
    yard.wait_stops("keeper", before)
    goes_on_only_after_rest(at, yard, keys)


def test_the_battery_is_low(at: Wheel, yard: Yard) -> None:
    yard.world.begin(drain=400)
    keys, cause, before = at.go(yard.world), time.monotonic(), yard.stops("battery")

    def low() -> bool:
        if at.group().get("state") == "armed":
            keys.push()
        elif at.group().get("state") == "disarmed":  # a busy machine's picture stood still: only who drives empties it
            keys.rest()
        return all(word in at.said() for word in ("It cannot move now", "Battery"))

    at.wait(low, "the battery to be low")
    keys.push()
    stopped(at, yard, cause)
    yard.wait_stops("battery", before)
    assert at.ask("command", "rover", "charge", {}) == "", "what is there for an empty battery works with one"
    wait_until(lambda: yard.world.ask()["battery"] > 90, "a fresh battery")
    yard.world.begin()
    goes_on_only_after_rest(at, yard, keys)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_agent_dies_and_comes_back(number: signal.Signals, browser: Browser, tmp_path: Path) -> None:
    with Yard(tmp_path) as yard, wheel(browser, yard.drive_page()) as at:
        keys, cause = at.go(yard.world), time.monotonic()
        yard.kill(number)
        wait_until(lambda: yard.world.stopped(cause), "the rover to be stopped")
        yard.restart()
        goes_on_only_after_rest(at, yard, keys)


class Board(Rover):
    """At the other end of a link; its figures are asked for there."""

    def __init__(self, folder: Path, link: Link) -> None:
        super().__init__(folder, control=OPERATORS, prefix=link.on_board(), listen="0.0.0.0")
        self._namespace = link.board

    def get(self, path: str) -> str:
        return within(self._namespace, lambda: Rover.get(self, path))


@pytest.mark.netns
def test_the_link_is_cut(tmp_path: Path) -> None:
    with (
        Link() as link,
        Board(tmp_path, link) as rover,
        chromium(prefix=link.on_viewer()) as browser,
        wheel(browser, rover.drive_page(host=BOARD)) as at,
    ):
        at.sign_in(TOKEN)
        keys = at.go(rover.world)
        cause = time.monotonic()
        link.change(down=1)
        stopped(at, rover, cause)
        link.change(down=0)
        goes_on_only_after_rest(at, rover, keys)
