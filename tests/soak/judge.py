"""What a soak found, said in sentences: each is a fault; none means that the agent may be left alone."""

from __future__ import annotations

__all__ = ["FRAME_MS", "Glass", "Quiet", "complaints", "slope"]

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations

PICTURE_S = 10.0
"""How long a viewer may be without a picture."""
GLASS_RATIO = 1.2
FRAME_MS = 34.0
"""What a page that stays is allowed besides: a browser that has fallen a frame behind remains so until its page is left."""
WARM_UP = 0.25
"""Share of the quiet moments, from the first, that show how the agent settles and are not judged."""
MEMORY_MB, MEMORY_SHARE = 3.0, 0.05
"""Growth of memory that is taken for noise, whichever is more."""
MEMORY_LEAST_S = 1200.0
"""Memory is judged over no less: until then the allocator settles."""
LOOSE = 2
"""Threads, sockets, descriptors or tasks that may come and go between two quiet moments."""


@dataclass(slots=True, frozen=True)
class Quiet:
    """The agent while only one viewer looks on and nothing is broken.

    Attributes:
        at_s: Since the start.
        memory_mb: Its own memory, without what it shares with files.
        threads, descriptors, sockets: Of the agent's process.
        children: Processes that it has started.
        tasks: Of its event loop; None where it does not say.
        sessions: Viewers that it counts.
    """

    at_s: float
    memory_mb: float
    threads: int
    descriptors: int
    sockets: int
    children: int
    tasks: int | None
    sessions: int


@dataclass(slots=True, frozen=True)
class Glass:
    """Glass to glass in ms over a minute on a free link."""

    median_ms: float
    p95_ms: float


def slope(moments: Sequence[tuple[float, float]]) -> float:
    """The growth that most pairs of moments agree on (Theil and Sen), a second."""
    slopes = [(after - before) / (end - begin) for (begin, before), (end, after) in combinations(moments, 2) if end > begin]
    return statistics.median(slopes) if slopes else 0.0


def complaints(
    quiet: Sequence[Quiet],
    glasses: dict[str, tuple[Glass | None, Glass | None, float]],
    gaps: Sequence[str],
    errors: Sequence[str],
) -> list[str]:
    """Everything that is wrong.

    Args:
        quiet: The quiet moments, oldest first.
        glasses: By the page's name: in the first minute, at the end, and by how many ms the latter may be more than `GLASS_RATIO`.
        gaps: Sentences on viewers that were without a picture for too long.
        errors: Lines of the agent's log that must not be there.
    """
    found = [*gaps, *(f"the log says: {line}" for line in errors)]
    for name, (begin, end, more_ms) in glasses.items():
        if begin is None or end is None:
            found.append(f"{name}: no picture was stamped {'at the end' if begin else 'in the first minute'}")
        elif end.median_ms > GLASS_RATIO * begin.median_ms + more_ms:
            found.append(
                f"{name}: glass to glass is {end.median_ms:.0f} ms at the end and was {begin.median_ms:.0f} ms in the first minute"
            )
    judged = quiet[int(len(quiet) * WARM_UP) :]
    if len(judged) < 3:
        return [*found, f"only {len(judged)} quiet moments were judged: run it for longer"]
    first, last = judged[0], judged[-1]
    growth_mb = slope([(one.at_s, one.memory_mb) for one in judged]) * (last.at_s - first.at_s)
    if last.at_s - first.at_s >= MEMORY_LEAST_S and growth_mb > max(MEMORY_MB, MEMORY_SHARE * first.memory_mb):
        found.append(f"memory grew by {growth_mb:.1f} MB in {(last.at_s - first.at_s) / 60:.0f} min, from {first.memory_mb:.1f} MB")
    for field in fields(Quiet):
        if field.name in {"at_s", "memory_mb"}:
            continue
        values = [value for one in judged if (value := getattr(one, field.name)) is not None]
        # what grows does so in the whole run: the least of its second half is more than most of its first
        half = len(values) // 2
        if half and min(values[half:]) > statistics.median(values[:half]) + LOOSE:
            found.append(f"{field.name} grew: {', '.join(map(str, values))} in quiet moments")
    return found
