"""How the board fares: the numbers, and for each trouble one sentence that tells its owner what to do.

`board_sources` reads the numbers; here they are judged.
"""

from __future__ import annotations

__all__ = ["BoardHealth", "BoardWatch", "Power", "Trouble", "troubles", "watch"]

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
HOLD_S = 90.0
"""How long a trouble is still told after it was last seen, so that one at its limit does not come and go."""

HOT_PI_C, HOT_C = 80.0, 95.0  # where a Pi slows down much, and other processors
WARM_C = 70.0
WEAK_DBM = -75.0
LOW_DISK_BYTES = 100_000_000
LOW_MEMORY = 0.05  # of the whole


@dataclass(frozen=True, slots=True)
class Power:
    """Power and throttling of a Raspberry Pi. Each None where the board does not tell.

    Attributes:
        undervoltage_now: The supply is too weak at this moment.
        undervoltage_since_boot: It was, at some time since the board started.
        capped_now: The processor's frequency is limited.
        capped_since_boot: It was.
        throttled_now: The processor is slowed down.
        throttled_since_boot: It was.
        hot_now: The soft temperature limit is reached.
        hot_since_boot: It was.
    """

    undervoltage_now: bool | None = None
    undervoltage_since_boot: bool | None = None
    capped_now: bool | None = None
    capped_since_boot: bool | None = None
    throttled_now: bool | None = None
    throttled_since_boot: bool | None = None
    hot_now: bool | None = None
    hot_since_boot: bool | None = None


@dataclass(frozen=True, slots=True)
class BoardHealth:
    """One look at the board. Each None, or "", where the board does not tell.

    Attributes:
        model: What it calls itself.
        memory_total_bytes: RAM.
        memory_available_bytes: RAM that programs can still get.
        temperature_c: Of the processor, degrees Celsius.
        power: Power and throttling; None on boards that do not measure them.
        disk_free_bytes: What the agent may still write where it keeps its state.
        disk_total_bytes: The size of that file system.
        clock_set: False where the year is before this program was made.
        clock_synchronised: Whether a time server keeps the clock right.
        wifi_interface: The radio that is connected to a network.
        wifi_signal_dbm: How strongly the board hears the access point; -50 is strong, -80 weak.
        load_1min: Processes that wanted to run, mean of a minute.
        cpus: Processors.
    """

    model: str = ""
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    temperature_c: float | None = None
    power: Power | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    clock_set: bool | None = None
    clock_synchronised: bool | None = None
    wifi_interface: str | None = None
    wifi_signal_dbm: float | None = None
    load_1min: float | None = None
    cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ails the board: `kind` in a word, and a sentence for its owner, without numbers: they would not stand still."""

    kind: str
    text: str


def troubles(health: BoardHealth) -> list[Trouble]:
    """What ails the board at this moment, the worst first."""
    power = health.power or Power()
    limit_c = HOT_PI_C if "raspberry" in health.model.lower() else HOT_C
    celsius = health.temperature_c
    # The soft limit of a Pi 3 B+ is at 60 °C, where it gives up little.
    hot = bool(power.hot_now and (celsius is None or celsius >= WARM_C)) or (celsius is not None and celsius >= limit_c)
    memory, free = health.memory_total_bytes, health.memory_available_bytes
    found = {
        "power": power.undervoltage_now,
        "hot": hot,
        # Slowed down for neither reason that is told apart: the firmware does not say why.
        "slowed": (power.throttled_now or power.capped_now) and not hot and not power.undervoltage_now,
        "clock": health.clock_set is False,
        "disk": health.disk_free_bytes is not None and health.disk_free_bytes < LOW_DISK_BYTES,
        "memory": memory is not None and free is not None and free < LOW_MEMORY * memory,
        "wifi": health.wifi_signal_dbm is not None and health.wifi_signal_dbm <= WEAK_DBM,
    }
    return [Trouble(kind, TEXTS[kind]) for kind, is_so in found.items() if is_so]


TEXTS = {
    "power": "The board gets too little power: use the power supply made for it, with a short, thick cable.",
    "hot": "The board is too hot and slows down: give it air, a heat sink or a fan.",
    "slowed": "The board has slowed itself down: check its power supply and its cooling.",
    "clock": "The board does not know the date: let it reach a time server, or set its clock.",
    "disk": "The board's disk is almost full: remove files that are not needed.",
    "memory": "The board is almost out of memory: end other programs on it.",
    "wifi": "The board's Wi-Fi is weak: bring it nearer to the access point, or use a network cable.",
}
"""A sentence for each kind of trouble, by weight."""


class BoardWatch:
    """Turns looks at the board into one sentence that does not flicker. Time is an argument, in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._browned_out: bool | None = None

    def look(self, health: BoardHealth, now: float) -> str:
        """Take one look; returns what is to be told: the sentence of the worst trouble, "" while there is none."""
        for trouble in troubles(health):
            self._until[trouble.kind] = now + HOLD_S
        before = self._browned_out
        self._browned_out = (health.power or Power()).undervoltage_since_boot
        # A dip between two looks shows only in the bit that stays.
        if self._browned_out and before is False:
            self._until["power"] = now + HOLD_S
        standing = (text for kind, text in TEXTS.items() if self._until.get(kind, now) > now)
        return next(standing, "")


class Reader(Protocol):
    """Looks at the board; may block."""

    def __call__(self) -> BoardHealth: ...


async def watch(read: Reader, tell: Callable[[BoardHealth, str], None], *, every_s: float = LOOK_EVERY_S) -> None:
    """Look at the board for ever, on a thread: `tell` gets each look with the sentence for viewers, the log each change of it."""
    watcher, loop, told = BoardWatch(), asyncio.get_running_loop(), ""
    while True:
        try:
            health = await asyncio.to_thread(read)
        except Exception:  # whatever a board's files hold, the cameras go on
            _log.exception("the board cannot be looked at")
        else:
            text = watcher.look(health, loop.time())
            if text != told:
                _log.log(*(logging.WARNING, "%s") if text else (logging.INFO, "the board is well again%s"), text)
            told = text
            tell(health, text)
        await asyncio.sleep(every_s)
