"""What crosses a link: both sides' packet counters ten times a second, and a plan of changes to the link."""

from __future__ import annotations

__all__ = ["Change", "Traffic", "overloaded_s", "worst_ratio"]

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Self

from tests.bench.namespaces import within
from tests.support.link import Link

SLICE_S = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """Knobs of the link (`Link.change`) that are turned `at_s` seconds after the click."""

    at_s: float
    knobs: dict[str, float]


@dataclass(frozen=True, slots=True)
class Count:
    """Counters at a moment: `at_s` on the monotonic clock, bytes of IP and packets that the board sent and the viewer got."""

    at_s: float
    sent_bytes: int
    sent_packets: int
    carried_bytes: int
    carried_packets: int


class Traffic:
    """Counts what crosses a link, while the `with` block lasts, and carries out a plan from `begin` on."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._files: list[IO[str]] = []
        self.counts: list[Count] = []

    def __enter__(self) -> Self:
        self._files = [within(side, _counters) for side in (self._link.board, self._link.viewer)]
        self._start(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for file in self._files:
            file.close()

    def begin(self, plan: Sequence[Change], clicked_s: float) -> None:
        """Carry out a plan, counted from `clicked_s` on the monotonic clock."""

        def carry_out() -> None:
            for change in plan:
                if self._stop.wait(max(0.0, clicked_s + change.at_s - time.monotonic())):
                    return
                self._link.change(**change.knobs)

        self._start(carry_out)

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def _count(self) -> None:
        next_s = time.monotonic()
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            next_s += SLICE_S
            (_, _, sent_bytes, sent), (got_bytes, got, _, _) = (_read(file) for file in self._files)
            self.counts.append(Count(time.monotonic(), sent_bytes, sent, got_bytes, got))

    def between(self, begin_s: float, end_s: float) -> tuple[Count, Count] | None:
        """The first and last count of an interval on the monotonic clock; None where it holds fewer than two."""
        inside = [count for count in self.counts if begin_s - SLICE_S / 2 <= count.at_s <= end_s + SLICE_S / 2]
        return (inside[0], inside[-1]) if len(inside) > 1 else None

    def mbps(self, begin_s: float, end_s: float) -> tuple[float, float]:
        """Mbit/s that the board sent and that the viewer got in an interval."""
        ends = self.between(begin_s, end_s)
        if ends is None:
            return 0.0, 0.0
        first, last = ends
        per_s = 8e-6 / (last.at_s - first.at_s)
        return (last.sent_bytes - first.sent_bytes) * per_s, (last.carried_bytes - first.carried_bytes) * per_s


Capacity = Callable[[float, float], float]
"""Mbit/s that the link carries at most, on average between two moments since the click."""


def worst_ratio(traffic: Traffic, clicked_s: float, capacity: Capacity, *, end_s: float, window_s: float = 2.0) -> float:
    """The most that was sent in any window of that length, as a multiple of what the link carries in that time."""
    return max((ratio for _, ratio in _ratios(traffic, clicked_s, capacity, window_s, end_s)), default=0.0)


def overloaded_s(
    traffic: Traffic, clicked_s: float, capacity: Capacity, *, end_s: float, limit: float = 1.3, window_s: float = 0.5
) -> float:
    """The longest time without a break in which every window saw more than `limit` times what the link carries."""
    longest, began = 0.0, None
    for at, ratio in _ratios(traffic, clicked_s, capacity, window_s, end_s):
        if ratio <= limit:
            began = None
            continue
        began = at if began is None else began
        longest = max(longest, at - began + window_s)
    return longest


def _ratios(traffic: Traffic, clicked_s: float, capacity: Capacity, window_s: float, end_s: float) -> list[tuple[float, float]]:
    counts = [count for count in traffic.counts if clicked_s <= count.at_s <= clicked_s + end_s]
    found: list[tuple[float, float]] = []
    last = 0
    for first in counts:
        while last < len(counts) and counts[last].at_s < first.at_s + window_s - SLICE_S / 2:
            last += 1
        if last == len(counts):
            break
        end = counts[last]
        carries = capacity(first.at_s - clicked_s, end.at_s - clicked_s)
        sent = (end.sent_bytes - first.sent_bytes) * 8e-6 / (end.at_s - first.at_s)
        found.append((first.at_s - clicked_s, sent / carries))
    return found


def _counters() -> IO[str]:
    return open("/proc/thread-self/net/dev")


def _read(file: IO[str]) -> tuple[int, int, int, int]:
    """Bytes and packets got, bytes and packets sent, of `link0`."""
    file.seek(0)
    for line in file:
        name, _, rest = line.partition(":")
        if name.strip() == "link0":
            words = rest.split()
            return int(words[0]), int(words[1]), int(words[8]), int(words[9])
    return 0, 0, 0, 0
