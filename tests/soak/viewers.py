"""Those who watch: one page for the whole time, pages that come and go, and Pion clients that leave in every way there is."""

from __future__ import annotations

__all__ = ["Counters", "Pages", "Watching"]

import random
import time
from contextlib import AbstractContextManager, ExitStack

from playwright.sync_api import Browser, Error

from tests.bench.browser import Frame, Viewing, our_page
from tests.bench.report import percentile
from tests.soak.judge import PICTURE_S, Glass
from tests.support.link import Link
from tests.support.whep import Viewers

# The frames since the last look, as ms on the page's own clock.
_NEW = "() => window.presented.splice(0).map(([at]) => at - performance.now())"
LEAVING: tuple[tuple[str, ...], ...] = ((), (), ("-delete=false",), ("-silent-after=3s",), ("-rtx=false",), ("-loss=0.03", "-pli"))
"""Whoever loses the first packet of all never misses it: he asks for a keyframe, as browsers do."""


class Watching:
    """One page that has been clicked, and its longest time without a picture."""

    def __init__(self, name: str, opener: AbstractContextManager[Viewing]) -> None:
        self.name = name
        with ExitStack() as stack:
            self.viewing = stack.enter_context(opener)
            self.viewing.click()
            self._stack = stack.pop_all()
        self._seen_s = time.monotonic()
        self._told = False
        self._inbound: dict[str, float] = {}
        self.stamped: dict[float, Frame] = {}
        self.gap_s = 0.0

    def look(self) -> str | None:
        """Look at the picture; a sentence, once, where it has been away for too long."""
        now_s = time.monotonic()
        for at_ms in self.viewing.page.evaluate(_NEW):
            at_s = now_s + at_ms / 1000
            self.gap_s = max(self.gap_s, at_s - self._seen_s)
            self._seen_s = max(self._seen_s, at_s)
        self.stamped |= {frame.at_ms: frame for frame in self.viewing.frames()}
        self.gap_s = max(self.gap_s, now_s - self._seen_s)
        if self.gap_s > PICTURE_S and not self._told:
            self._told = True
            return f"{self.name} had no picture for {self.gap_s:.0f} s"
        return None

    def glass(self, begin_s: float, end_s: float) -> Glass | None:
        """Glass to glass between two moments since the click; None where no picture was stamped."""
        frames = [frame for at_ms, frame in self.stamped.items() if begin_s * 1000 <= at_ms <= end_s * 1000]
        ages = sorted(frame.age_ms for frame in frames if frame.age_ms is not None)
        return Glass(percentile(ages, 0.5), percentile(ages, 0.95)) if ages else None

    def buffer(self) -> str:
        """How long the browser has held pictures back since the last time this was asked, in words."""
        before, self._inbound = self._inbound, self.viewing.inbound()
        if self._inbound.get("ssrc") != before.get("ssrc"):
            return "unknown"
        held, meant, count = (
            self._inbound.get(f"jitterBuffer{name}", 0) - before.get(f"jitterBuffer{name}", 0)
            for name in ("Delay", "TargetDelay", "EmittedCount")
        )
        return f"held {held / count * 1000:.0f} ms, meant {meant / count * 1000:.0f} ms" if count > 0 else "unknown"

    def since_s(self) -> float:
        """Seconds since the click."""
        return self.viewing.now_ms() / 1000

    def forget(self) -> None:
        """Keep no frames from before."""
        self.stamped.clear()

    def close(self) -> None:
        self._stack.close()


class Pages:
    """Pages across the link, at most one besides the first."""

    def __init__(self, browser: Browser, url: str, chance: random.Random) -> None:
        self._browser, self._url, self._chance = browser, url, chance
        self._number = 0
        self._leaves_s = 0.0
        self.page: Watching | None = None
        self.opened = 0

    def open(self, name: str, camera: str, door: str) -> Watching:
        """Open a page and click."""
        self.opened += 1
        return Watching(name, our_page(self._browser, self._url, camera, door))

    def come(self, camera: str, stay_s: float, at: str) -> str | None:
        """One comes, also while the broker is down; a sentence where the page itself failed."""
        self._number += 1
        self._leaves_s = time.monotonic() + stay_s
        try:
            self.page = self.open(f"page {self._number} of {camera}, opened at {at},", camera, "whep")
        except Error as error:
            return f"page {self._number} of {camera} could not be opened at {at}: {str(error).splitlines()[0]}"
        return None

    def look(self) -> list[str]:
        """Look at the page, if one is there; it goes when its time has come."""
        if self.page is None:
            return []
        said = self.page.look()
        if time.monotonic() > self._leaves_s:
            self.go()
        return [said] if said else []

    def go(self) -> None:
        """It leaves."""
        if self.page:
            self.page.close()
            self.page = None


class Counters:
    """Groups of Pion viewers in the board's own namespace, where the link does not matter."""

    MOST = 4

    def __init__(self, program: str, link: Link, url: str, chance: random.Random) -> None:
        self._program, self._link, self._url, self._chance = program, link, url, chance
        self._groups: list[tuple[float, str, tuple[str, ...], Viewers]] = []
        self.sessions = 0

    def come(self, camera: str, stay_s: float, at: str) -> None:
        """A group of one to three comes."""
        if len(self._groups) >= self.MOST:
            return
        options = self._chance.choice(LEAVING)
        count = self._chance.randint(1, 3)
        viewers = Viewers(self._program, f"{self._url}/{camera}/whep", count, *options, prefix=self._link.on_board())
        viewers.__enter__()
        self.sessions += count
        self._groups.append((time.monotonic() + stay_s, f"a Pion viewer of {camera} since {at} {options}", options, viewers))

    def look(self, *, everybody: bool = False) -> list[str]:
        """Those whose time has come leave, or all of them; sentences about who was without a picture."""
        found: list[str] = []
        for group in list(self._groups):
            leaves_s, name, options, viewers = group
            if not everybody and time.monotonic() < leaves_s:
                continue
            self._groups.remove(group)
            snapshot = viewers.snapshot()
            viewers.__exit__()
            if "-silent-after=3s" in options:
                continue  # the agent hears nothing of it any more and lets it go
            for session in snapshot["sessions"]:
                if error := session.get("error"):
                    found.append(f"{name} could not begin: {error}")
                    continue
                stayed_ms = snapshot["at_s"] * 1000
                without_ms = max(
                    session["first_keyframe_ms"] or stayed_ms, session["longest_gap_ms"], stayed_ms - session["last_packet_ms"]
                )
                if without_ms > PICTURE_S * 1000:
                    found.append(f"{name} had no picture for {without_ms / 1000:.0f} s")
        return found
