"""Run the soak: `python -m tests.soak [--minutes 120] [--seed N] [--out FOLDER]`. Needs root, for network namespaces.

Prints what happens, writes `soak.json` and the agent's log; exit status 1 with a sentence for everything that is wrong. The first
minute and the last are calm: one page over a free link. The same seed plays the same faults at nearly the same moments.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.bench.browser import chromium
from tests.soak.judge import FRAME_MS, Glass, Quiet, complaints
from tests.soak.viewers import Counters, Pages, Watching
from tests.soak.world import CAMERAS, World
from tests.support import gobuild
from tests.support.rtsp import RtspServer

CALM_S = 60.0
SETTLE_S = 25.0
"""Until a viewer that left without a word is given up, and a camera that nobody watches is closed."""
FRESH_PAGES = 5
LOOK_MS = 500
FREE: dict[str, float] = {"rate": 0, "loss": 0, "delay": 0, "jitter": 0, "queue": 300, "down": 0}
RATES, LOSSES, DELAYS, JITTERS = (0, 8000, 4000, 2000, 1000, 500), (0, 0, 0.01, 0.03), (0, 5, 20, 60), (0, 0, 3)


class Undo:
    """Ends a fault in time, on a thread of its own: a page that is being opened holds up everything else."""

    def __init__(self, delay_s: float, what: Callable[[], None]) -> None:
        self._what = what
        self._lock = threading.Lock()
        self.done = False
        self._timer = threading.Timer(delay_s, self)
        self._timer.start()

    def __call__(self) -> None:
        """Do it, once."""
        with self._lock:
            if not self.done:
                self._what()
                self.done = True
                self._timer.cancel()


class Soak:
    """One run. Faults are drawn from `chance` in advance of their time, so that a seed repeats them."""

    def __init__(self, world: World, pages: Pages, counters: Counters, seed: int, minutes: float) -> None:
        self.world, self.pages, self.counters = world, pages, counters
        self.chance = random.Random(seed)
        self.length_s = minutes * 60
        self.began_s = time.monotonic()
        self.quiet: list[Quiet] = []
        self.said: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.glasses: dict[str, tuple[Glass | None, Glass | None, float]] = {}
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._undo: list[Undo] = []

    def at_s(self) -> float:
        return time.monotonic() - self.began_s

    def at(self) -> str:
        return f"{int(self.at_s()) // 60}:{int(self.at_s()) % 60:02}"

    def tell(self, text: str) -> None:
        """Note and print what happens."""
        self.events.append({"at_s": round(self.at_s(), 1), "what": text})
        print(f"{self.at():>7}  {text}", flush=True)

    def run(self) -> None:
        fresh = self.fresh_glass()
        first = self.pages.open("the first page", CAMERAS[0], "mqtt")
        begin = self.calm_glass(first)
        self.note_quiet()
        end_s = self.length_s - 1.5 * CALM_S - SETTLE_S
        every_s = min(600.0, max(40.0, (end_s - CALM_S) / 10))
        while self.at_s() < end_s:
            self.trouble(first, min(every_s, max(20.0, end_s - self.at_s() - SETTLE_S)))
            self.calm(first)
            self.note_quiet()
        end = self.calm_glass(first)
        self.note_quiet()
        first.close()
        self.glasses = {"a new page": (fresh, self.fresh_glass(), 0.0), "the page that stayed": (begin, end, FRAME_MS)}
        for name, (before, after, _) in self.glasses.items():
            self.tell(f"{name}: glass to glass {_words(after)} at the end, {_words(before)} in the first minute")
        self.tell(f"longest time without a picture on the page that stayed: {first.gap_s:.1f} s")

    def fresh_glass(self) -> Glass | None:
        """The mean of new pages, one after another, a minute in all: each begins at another moment of the display's period."""
        found: list[Glass] = []
        for _ in range(FRESH_PAGES):
            page = self.pages.open("a fresh page", CAMERAS[0], "mqtt")
            self.wait(page, CALM_S / FRESH_PAGES)
            if glass := page.glass(3, page.since_s()):
                found.append(glass)
            page.close()
        if not found:
            return None
        return Glass(statistics.mean(one.median_ms for one in found), statistics.mean(one.p95_ms for one in found))

    def calm_glass(self, first: Watching) -> Glass | None:
        """Glass to glass of the page that stays over half a minute; what its buffer did and how busy the machine was is told."""
        first.forget()
        began_s = first.since_s()
        self.wait(first, 5)
        first.buffer()
        psutil.cpu_percent()
        self.wait(first, CALM_S / 2 - 5)
        glass = first.glass(began_s + 5, first.since_s())
        self.tell(f"calm: {_words(glass)}, buffer {first.buffer()}, the machine was {psutil.cpu_percent():.0f} % busy")
        return glass

    def wait(self, first: Watching, duration_s: float) -> None:
        """Look on for some time, doing what is due."""
        end_s = time.monotonic() + duration_s
        while (now_s := time.monotonic()) < end_s:
            for due in [due for due in self._due if due[0] <= now_s]:
                self._due.remove(due)
                due[1]()
            for said in filter(None, [first.look(), *self.pages.look(), *self.counters.look()]):
                self.complain(said)
            if not self.world.agent.running:
                raise RuntimeError(f"the agent has ended:\n{self.world.agent.log[-3000:]}")
            first.viewing.page.wait_for_timeout(LOOK_MS)

    def complain(self, said: str) -> None:
        self.said.append(f"{said} (at {self.at()})")
        self.tell(f"FAULT: {said}")

    def trouble(self, first: Watching, duration_s: float) -> None:
        """Viewers come and go, the link changes, cameras and broker fail."""
        draw = self.chance.uniform
        self.repeat(duration_s, 8, 25, self.change_link)
        self.repeat(duration_s, 25, 60, self.interrupt_link)
        self.repeat(duration_s, 15, 45, self.fail_camera)
        self.repeat(duration_s, 25, 70, self.fail_broker)
        self.repeat(duration_s, 3, 12, lambda: self.counters.come(self.chance.choice(CAMERAS), draw(3, 45), self.at()))
        self.repeat(duration_s, 8, 30, self.open_page)
        self.wait(first, duration_s)

    def repeat(self, duration_s: float, least_s: float, most_s: float, what: Callable[[], None]) -> None:
        """Do something again and again, until a few seconds before the end."""
        now_s = time.monotonic()
        at_s = self.chance.uniform(0.3, 1) * least_s
        while at_s < duration_s - 6:
            self._due.append((now_s + at_s, what))
            at_s += self.chance.uniform(least_s, most_s)

    def calm(self, first: Watching) -> None:
        """Everything works again, everybody but the first page leaves."""
        self._due.clear()
        self.undo_all()
        self.world.link.change(**FREE)
        self.pages.go()
        for said in self.counters.look(everybody=True):
            self.complain(said)
        self.wait(first, SETTLE_S)

    def note_quiet(self) -> None:
        self.quiet.append(self.world.quiet(self.at_s()))
        one = self.quiet[-1]
        self.tell(
            f"quiet: {one.memory_mb:.1f} MB, {one.threads} threads, {one.descriptors} descriptors, {one.sockets} sockets,"
            f" {one.children} children, {one.tasks} tasks, {one.sessions} sessions"
        )

    def undo(self, delay_s: float, what: Callable[[], None]) -> None:
        self._undo = [undo for undo in self._undo if not undo.done]
        self._undo.append(Undo(delay_s, what))

    def undo_all(self) -> None:
        """Everything works again, now."""
        for undo in self._undo:
            undo()

    def change_link(self) -> None:
        pick = self.chance.choice
        knobs = {"rate": pick(RATES), "loss": pick(LOSSES), "delay": pick(DELAYS), "jitter": pick(JITTERS)}
        self.world.link.change(**knobs)
        self.tell(f"link {knobs}")

    def interrupt_link(self) -> None:
        pause_s = self.chance.uniform(0.3, 3)
        self.world.link.change(down=1)
        self.undo(pause_s, lambda: self.world.link.change(down=0))
        self.tell(f"link down for {pause_s:.1f} s")

    def fail_camera(self) -> None:
        pause_s = self.chance.uniform(0.3, 3)
        which, streams = self.chance.choice(
            [("", self.world.streams), (" (main)", self.world.streams[:1]), (" (sub)", self.world.streams[1:])]
        )
        if self.chance.random() < 0.5:
            self._fail(streams, pause_s, lambda stream: stream.say("stall"), lambda stream: stream.say("go"))
            self.tell(f"{CAMERAS[1]}{which} sends nothing for {pause_s:.1f} s")
        else:
            self._fail(streams, pause_s, RtspServer.stop, RtspServer.start)
            self.tell(f"{CAMERAS[1]}{which} gone for {pause_s:.1f} s")

    def _fail(
        self, streams: Sequence[RtspServer], pause_s: float, begin: Callable[[RtspServer], None], end: Callable[[RtspServer], None]
    ) -> None:
        for stream in streams:
            begin(stream)
            self.undo(pause_s, partial(end, stream))

    def fail_broker(self) -> None:
        pause_s = self.chance.uniform(0.5, 5)
        self.world.stop_broker()
        self.undo(pause_s, self.world.start_broker)
        self.tell(f"broker gone for {pause_s:.1f} s")

    def open_page(self) -> None:
        camera, stay_s = self.chance.choice(CAMERAS), self.chance.uniform(5, 40)
        if self.pages.page is None and (said := self.pages.come(camera, stay_s, self.at())):
            self.complain(said)


def _errors(log: str) -> list[str]:
    """The lines of a JSON log that tell of a bug; whatever is no JSON (a traceback of the interpreter's own) does."""
    found = []
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found.append(line)
            continue
        if entry.get("level") in {"error", "critical"}:
            found.append(str(entry.get("message")))
    return found


def _words(glass: Glass | None) -> str:
    return f"{glass.median_ms:.0f} ms (p95 {glass.p95_ms:.0f})" if glass else "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="at least 5; 120 by default")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--out", type=Path, default=Path("soak-results"))
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.exit(1, "Network namespaces need root: sudo make soak.\n")
    if args.minutes < 5:
        parser.error("--minutes is at least 5: the first minute and the last are calm")
    go = shutil.which("go")
    if go is None:
        parser.exit(1, "The Pion viewers are written in Go: install Go 1.25 or newer.\n")
    program = gobuild.whep_count(go)
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"seed {args.seed}, {args.minutes:g} minutes", flush=True)
    with ExitStack() as stack:
        world = stack.enter_context(World(args.seed))
        stack.callback(lambda: (args.out / "agent.log").write_text(world.agent.log))
        browser = stack.enter_context(chromium(world.link.on_viewer()))
        chance = random.Random(args.seed + 1)
        counters = Counters(program, world.link, world.url, chance)
        stack.callback(counters.look, everybody=True)
        soak = Soak(world, Pages(browser, world.url, chance), counters, args.seed, args.minutes)
        stack.callback(soak.undo_all)
        try:
            soak.run()
        except (RuntimeError, TimeoutError) as error:
            soak.complain(str(error))
        errors = _errors(world.agent.log)
    found = complaints(soak.quiet, soak.glasses, soak.said, errors[:10])
    report = {
        "seed": args.seed,
        "minutes": args.minutes,
        "pages": soak.pages.opened,
        "pion_sessions": counters.sessions,
        "quiet": [asdict(one) for one in soak.quiet],
        "glass": {name: [one and asdict(one) for one in pair] for name, (*pair, _) in soak.glasses.items()},
        "complaints": found,
        "events": soak.events,
    }
    (args.out / "soak.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{soak.pages.opened} pages, {counters.sessions} Pion sessions -> {args.out / 'soak.json'}")
    print("\n".join(found) or "nothing grew, nobody was without a picture")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
