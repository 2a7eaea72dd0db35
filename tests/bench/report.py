"""What a bench found: rows for the table, ratios, goals; the machine it ran on; JSON for whoever compares runs."""

from __future__ import annotations

__all__ = ["Context", "Goal", "Report", "Row", "median", "percentile"]

import itertools
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """How to measure.

    Attributes:
        quick: A short run that shows that everything works; its figures mean little.
        whep_count: Path of the counting client.
        go2rtc: Path of go2rtc as built here, which serves as IP camera; not to be mixed up with a peer on the PATH.
        runs: How often each row of `link`, `recovery` and `unwatched` is measured; 0: as often as these think right.
        rows: Those that are measured, by their short names; all where empty.
        alone: Whether `link` measures nothing but our own page in Chromium.
        out: Folder for the results.
        log: Called with a line on how far a bench is.
    """

    quick: bool
    whep_count: str
    go2rtc: str
    runs: int = 0
    rows: tuple[str, ...] = ()
    alone: bool = False
    out: Path = Path("bench-results")

    def log(self, text: str) -> None:
        print(f"  {text}", flush=True)


@dataclass(slots=True)
class Goal:
    """A figure and the limit that it should keep, from above or (`at_least`) from below; `met` is judged here, never by a test."""

    name: str
    value: float | None
    limit: float
    unit: str = ""
    at_least: bool = False
    met: bool | None = None

    def __post_init__(self) -> None:
        if self.value is not None:
            self.met = self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(slots=True)
class Report:
    """The outcome of one bench; `runs` are details that only the JSON has."""

    bench: str
    title: str
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)

    def table(self) -> str:
        """Text for people. Rows that begin with another column are a table of their own."""
        lines = [f"== {self.title}"]
        for _, rows in itertools.groupby(self.rows, key=lambda row: next(iter(row))):
            lines += _table(list(rows))
        verdict = {True: "met", False: "NOT met", None: "not measured"}
        for goal in self.goals:
            side = "at least" if goal.at_least else "at most"
            lines.append(f"-- {goal.name}: {_cell(goal.value)} {goal.unit} ({side} {goal.limit:g}): {verdict[goal.met]}")
        lines += [f"   {note}" for note in self.notes]
        return "\n".join(lines)

    def save(self, folder: Path, *, quick: bool) -> Path:
        """Write `<bench>.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.bench}.json"
        when = datetime.now(UTC).isoformat(timespec="seconds")
        path.write_text(json.dumps({"when": when, "quick": quick, "machine": _machine(), **asdict(self)}, indent=2) + "\n")
        return path


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, min(len(ranked) - 1, round(share * len(ranked) + 0.499999) - 1))]


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _table(rows: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _machine() -> dict[str, Any]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.partition(":")[2].strip()
            break
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
