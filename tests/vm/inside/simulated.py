"""GPIO lines of `gpio-sim`, a chip of the kernel's own without wires; and a Raspberry Pi's revision, which gpiozero looks for."""

from __future__ import annotations

__all__ = ["Lines", "Waves", "boot_a_pi", "wait_until"]

import itertools
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Literal

_CONFIG = Path("/sys/kernel/config/gpio-sim/header")
_TRACE = Path("/sys/kernel/tracing")


def modprobe(*arguments: str) -> None:
    subprocess.run(["modprobe", "-d", os.environ["EA_KERNEL"], *arguments], check=True)


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 60) -> None:
    """Look again and again, ever more rarely, since looking takes time as well; fails with `what` at the deadline."""
    never, start = threading.Event(), monotonic()
    while not condition():
        waited = monotonic() - start
        assert waited < deadline_s, f"waited for {what}"
        never.wait(min(0.2, max(0.005, waited / 20)))


class Lines:
    """The 28 lines of a header, seen from the other side of the wires."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def value(self, line: int) -> int:
        """What the line carries."""
        return int((self._folder / f"sim_gpio{line}/value").read_text())

    def values(self, *lines: int) -> tuple[int, ...]:
        """The same of several."""
        return tuple(map(self.value, lines))

    def pull(self, line: int, way: Literal["up", "down"]) -> None:
        """Drive an input; what an output carries when its program gives it back."""
        (self._folder / f"sim_gpio{line}/pull").write_text(f"pull-{way}")


def boot_a_pi() -> Lines:
    """The chip as /dev/gpiochip0, and a Pi 4 in /proc/cpuinfo."""
    info = Path("/run/cpuinfo")
    if not info.exists():
        info.write_text("Revision\t: c03111\n")
        subprocess.run(["mount", "--bind", str(info), "/proc/cpuinfo"], check=True)
    modprobe("gpio-sim")
    if not _CONFIG.parent.exists():
        subprocess.run(["mount", "-t", "configfs", "configfs", "/sys/kernel/config"], check=True)
    bank = _CONFIG / "bank0"
    if not bank.exists():
        bank.mkdir(parents=True)
        (bank / "num_lines").write_text("28")
        (bank / "label").write_text("header")
        (_CONFIG / "live").write_text("1")
    chip = (bank / "chip_name").read_text().strip()
    assert chip == "gpiochip0", chip
    return Lines(Path("/sys/devices/platform") / (_CONFIG / "dev_name").read_text().strip() / chip)


class Waves:
    """What the kernel's tracer saw of the lines."""

    def __init__(self) -> None:
        self._events: list[tuple[float, int, int]] = []

    def take(self, text: str, base: int) -> None:
        pattern = re.compile(r"\s(\d+\.\d+): gpio_value: (\d+) set ([01])")
        self._events = [(float(at), int(line) - base, int(value)) for at, line, value in pattern.findall(text)]

    def all_of(self, line: int) -> list[tuple[float, int]]:
        """Times (of CLOCK_MONOTONIC, s) and values that were set."""
        return [(at, value) for at, number, value in self._events if number == line]

    def of(self, line: int) -> list[tuple[float, int]]:
        """The same, changes only."""
        kept: list[tuple[float, int]] = []
        for at, value in self.all_of(line):
            if not kept or kept[-1][1] != value:
                kept.append((at, value))
        return kept

    def pulses_us(self, line: int) -> list[float]:
        """Lengths of the whole pulses."""
        edges = self.of(line)
        pairs = itertools.pairwise(edges)
        return [(later - at) * 1e6 for (at, value), (later, _) in pairs if value]


@contextmanager
def traced() -> Iterator[Waves]:
    """Record what is set while the block runs."""
    if not (_TRACE / "trace").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(_TRACE)], check=True)
    (_TRACE / "trace_clock").write_text("mono")
    (_TRACE / "trace").write_text("")
    switch = _TRACE / "events/gpio/gpio_value/enable"
    switch.write_text("1")
    waves = Waves()
    try:
        yield waves
    finally:
        switch.write_text("0")
        waves.take((_TRACE / "trace").read_text(), _base())


def _base() -> int:
    (found,) = re.findall(r"GPIOs (\d+)-", Path("/sys/kernel/debug/gpio").read_text()) if _debug() else ("512",)
    return int(found)


def _debug() -> bool:
    if not Path("/sys/kernel/debug/gpio").exists():
        subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False)
    return Path("/sys/kernel/debug/gpio").exists()
