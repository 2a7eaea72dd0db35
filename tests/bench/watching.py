"""One viewing across a link, second by second, and the figures that are drawn from it."""

from __future__ import annotations

__all__ = ["END_S", "Watched", "add_traffic", "longest_freeze_s", "watch"]

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.bench.browser import Frame, Shown, Viewing
from tests.bench.report import Row, percentile
from tests.bench.traffic import Traffic

BEGIN_S, END_S = 1.0, 30.0
"""What is judged, in seconds since the click."""

_RISING = {
    "lost": "packetsLost",
    "NACKs": "nackCount",
    "repaired": "retransmittedPacketsReceived",
    "PLIs": "pliCount",
    "decoded": "framesDecoded",
    "dropped": "framesDropped",
    "keyframes": "keyFramesDecoded",
    "bytes": "bytesReceived",
    "qp": "qpSum",
}


@dataclass(slots=True)
class Watched:
    """What one viewer saw.

    Attributes:
        clicked_s: When the click was, on the monotonic clock.
        end_s: How long it was watched, from the click.
        first_ms: From the click to the first picture; None where none came.
        shown: All frames that were on the screen.
        stamped: Those whose stamp could be read.
        seconds: A line of figures for each second.
        connections: How many media streams there were, one after another; more than one: the page has reconnected.
    """

    clicked_s: float
    end_s: float = END_S
    first_ms: float | None = None
    shown: list[Shown] = field(default_factory=list)
    stamped: list[Frame] = field(default_factory=list)
    seconds: list[Row] = field(default_factory=list)
    connections: int = 0

    def fps(self, begin_s: float = BEGIN_S, end_s: float = END_S) -> float:
        """Frames shown a second in an interval since the click."""
        return len(self.moments_s(begin_s, end_s)) / (end_s - begin_s)

    def moments_s(self, begin_s: float, end_s: float) -> list[float]:
        """When frames were shown in an interval, s since the click."""
        return sorted(frame.at_ms / 1000 for frame in self.shown if begin_s <= frame.at_ms / 1000 < end_s)

    def composed(self, begin_s: float, end_s: float) -> int:
        """Frames that were handed to the compositor in an interval, as the browser counts them."""
        total, before = 0, 0
        for frame in self.shown:
            if begin_s <= frame.at_ms / 1000 < end_s:
                total += frame.number - before if frame.number > before else frame.number
            before = frame.number
        return total

    def ages_ms(self, begin_s: float = BEGIN_S, end_s: float = END_S) -> list[float]:
        """Glass to glass of the frames of an interval whose stamp could be read."""
        return [frame.age_ms for frame in self.stamped if frame.age_ms is not None and begin_s <= frame.at_ms / 1000 < end_s]

    def width_at(self, at_s: float) -> int:
        """Width of the latest picture on show at a moment; 0 before the first."""
        return max(((frame.at_ms, frame.width) for frame in self.shown if frame.at_ms <= at_s * 1000), default=(0.0, 0))[1]

    def row(self) -> Row:
        """The figures of the table."""
        ages = self.ages_ms()
        shown = len(self.moments_s(BEGIN_S, END_S))
        return {
            "fps shown": self.fps(),
            "freeze s": longest_freeze_s(self.moments_s(BEGIN_S, END_S), BEGIN_S, END_S),
            "p50 ms": statistics.median(ages) if ages else None,
            "p95 ms": percentile(ages, 0.95) if ages else None,
            "read %": len(ages) / shown * 100 if ages else None,
            "first picture ms": self.first_ms,
            "NACKs": sum(second["NACKs"] for second in self.seconds),
            "repaired": sum(second["repaired"] for second in self.seconds),
            "PLIs": sum(second["PLIs"] for second in self.seconds),
            "reconnects": max(0, self.connections - 1),
        }


def longest_freeze_s(moments_s: Sequence[float], begin_s: float, end_s: float) -> float:
    """The longest time without a new frame between two moments."""
    return max(later - earlier for earlier, later in pairwise([begin_s, *moments_s, end_s]))


def watch(viewing: Viewing, *, end_s: float, begun: Callable[[float], None] = lambda clicked_s: None) -> Watched:
    """Click, and look on until `end_s` seconds later; `begun` is called with the moment of the click on the monotonic clock."""
    viewing.click()
    watched = Watched(time.monotonic() - viewing.now_ms() / 1000, end_s)
    begun(watched.clicked_s)
    stamped: dict[float, Frame] = {}
    before: dict[str, Any] = {}
    for second in range(1, round(end_s) + 1):
        viewing.page.wait_for_timeout(max(0.0, second * 1000 - viewing.now_ms()))
        now = viewing.inbound()
        if now and now["ssrc"] != before.get("ssrc"):
            watched.connections, before = watched.connections + 1, {}
        line: Row = {"s": second}
        line |= {name: now.get(key, 0) - before.get(key, 0) if now else 0 for name, key in _RISING.items()}
        line["qp"] = line["qp"] / line["decoded"] if line["decoded"] else None
        line["kbit/s"] = line.pop("bytes") * 8e-3
        line["size"] = f"{now.get('frameWidth', 0)}x{now.get('frameHeight', 0)}" if now else None
        line["buffer ms"] = _mean_ms(before, now, "jitterBufferDelay", "jitterBufferEmittedCount")
        watched.seconds.append(line)
        before = now or before
        stamped |= {frame.at_ms: frame for frame in viewing.frames()}  # the page keeps the latest only
    watched.shown = viewing.shown()
    watched.stamped = sorted(stamped.values(), key=lambda frame: frame.at_ms)
    watched.first_ms = min((frame.at_ms for frame in watched.shown), default=None)
    for line in watched.seconds:
        begin = line["s"] - 1
        ages = watched.ages_ms(begin, line["s"])
        line["fps"] = len(watched.moments_s(begin, line["s"]))
        line["composed"] = watched.composed(begin, line["s"])
        line["freeze s"] = longest_freeze_s(watched.moments_s(begin, line["s"]), begin, line["s"])
        line["age ms"] = statistics.median(ages) if ages else None
        line["oldest ms"] = max(ages, default=None)
    return watched


def add_traffic(watched: Watched, traffic: Traffic) -> None:
    """Add what the board sent and what came across to the time line, kbit/s of IP."""
    for line in watched.seconds:
        end_s = watched.clicked_s + line["s"]
        sent, carried = traffic.mbps(end_s - 1, end_s)
        line["sent kbit/s"], line["carried kbit/s"] = sent * 1000, carried * 1000


def _mean_ms(before: dict[str, Any], now: dict[str, Any], total: str, count: str) -> float | None:
    number = now.get(count, 0) - before.get(count, 0)
    return (now.get(total, 0) - before.get(total, 0)) / number * 1000 if number > 0 else None
