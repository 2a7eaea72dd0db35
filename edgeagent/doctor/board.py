"""The board itself: power, heat, memory, disk, radio, clock."""

from __future__ import annotations

__all__ = ["judge", "look_at_board"]

import dataclasses
import time

from edgeagent.board import LOW_DISK_BYTES, BoardHealth, Power, troubles
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.doctor.work import System, off_loop

_OVERLOAD = 1.5  # processes that want to run, for each CPU
_FAIR_DBM = -67.0
_SUPPLY = "Use the power supply made for it, with a short, thick cable, and give thirsty USB devices a powered hub."


async def look_at_board(system: System) -> list[Finding]:
    """All about the board."""
    return judge(await off_loop(system.board))


def judge(health: BoardHealth) -> list[Finding]:
    """What one look at the board means to its owner."""
    ailing = {trouble.kind: trouble.text for trouble in troubles(health)}
    return [
        _model(health),
        *_power(health.power),
        *_temperature(health, ailing),
        *_memory(health, ailing),
        *_disk(health, ailing),
        *_load(health),
        *_wifi(health),
        _clock(health),
    ]


def _model(health: BoardHealth) -> Finding:
    parts = [health.model or "A computer that does not tell its model"]
    if health.cpus:
        parts.append(f"{health.cpus} processor{'s' if health.cpus > 1 else ''}")
    if health.memory_total_bytes:
        parts.append(f"{_size(health.memory_total_bytes)} of memory")
    return ok("board.model", ", ".join(parts) + ".", model=health.model, cpus=health.cpus)


def _power(power: Power | None) -> list[Finding]:
    if power is None:
        return []
    facts = {key: value for key, value in dataclasses.asdict(power).items() if value is not None}
    if power.undervoltage_now:
        return [problem("board.power", "The board gets too little power at this moment; pictures may stall.", _SUPPLY, **facts)]
    if power.throttled_now or power.capped_now:
        text = "The board has slowed itself down at this moment, for want of power or for heat."
        return [problem("board.power", text, "Check its power supply and its cooling.", **facts)]
    if power.undervoltage_since_boot:
        return [notice("board.power", "The board got too little power at some time since it started.", _SUPPLY, **facts)]
    if power.throttled_since_boot or power.capped_since_boot:
        text = "The board slowed itself down at some time since it started, for want of power or for heat."
        return [notice("board.power", text, "Check its power supply and its cooling.", **facts)]
    return [ok("board.power", "Power is good.", **facts)]


def _temperature(health: BoardHealth, ailing: dict[str, str]) -> list[Finding]:
    celsius = health.temperature_c
    if celsius is None and "hot" in ailing:  # the firmware says so, and there is no thermometer to read
        text = "The processor is too hot and slows down."
        return [problem("board.temperature", text, "Give the board air, a heat sink or a fan.")]
    if celsius is None:
        return []
    if "hot" in ailing:
        text = f"The processor is too hot, {celsius:.0f} °C, and slows down."
        return [problem("board.temperature", text, "Give the board air, a heat sink or a fan.", celsius=celsius)]
    if health.power and health.power.hot_since_boot:
        text = f"The processor has {celsius:.0f} °C; it was so hot at some time since it started that it slowed down."
        return [notice("board.temperature", text, "Give the board air, a heat sink or a fan.", celsius=celsius)]
    return [ok("board.temperature", f"The processor has {celsius:.0f} °C.", celsius=celsius)]


def _memory(health: BoardHealth, ailing: dict[str, str]) -> list[Finding]:
    if health.memory_available_bytes is None:
        return []
    facts = {"available_bytes": health.memory_available_bytes, "total_bytes": health.memory_total_bytes}
    text = f"{_size(health.memory_available_bytes)} of memory are free."
    if "memory" in ailing:
        return [problem("board.memory", f"Only {text}", "End other programs on this board.", **facts)]
    return [ok("board.memory", text, **facts)]


def _disk(health: BoardHealth, ailing: dict[str, str]) -> list[Finding]:
    if health.disk_free_bytes is None:
        return []
    facts = {"free_bytes": health.disk_free_bytes, "total_bytes": health.disk_total_bytes}
    text = f"{_size(health.disk_free_bytes)} of disk are free."
    if "disk" in ailing:
        advice = "Remove files that are not needed; `sudo apt-get clean` and `sudo journalctl --vacuum-size=50M` often help."
        return [problem("board.disk", f"Only {text}", advice, **facts)]
    if health.disk_free_bytes < 5 * LOW_DISK_BYTES:
        return [notice("board.disk", f"Only {text}", "Remove files that are not needed.", **facts)]
    return [ok("board.disk", text, **facts)]


def _load(health: BoardHealth) -> list[Finding]:
    if health.load_1min is None or not health.cpus:
        return []
    facts = {"load_1min": health.load_1min, "cpus": health.cpus}
    if health.load_1min > _OVERLOAD * health.cpus:
        text = f"The board has more to do than it can: {health.load_1min:.1f} programs want to run on {health.cpus} processors."
        return [notice("board.load", text, "End other programs (`top` lists them), or choose smaller pictures.", **facts)]
    return [ok("board.load", f"The board is {_busy(health.load_1min / health.cpus)}.", **facts)]


def _busy(share: float) -> str:
    return "almost idle" if share < 0.25 else "half busy" if share < 0.75 else "busy"


def _wifi(health: BoardHealth) -> list[Finding]:
    signal = health.wifi_signal_dbm
    if signal is None:
        return []
    facts = {"interface": health.wifi_interface, "signal_dbm": signal}
    text = f"The board hears Wi-Fi ({health.wifi_interface}) at {signal:.0f} dBm"
    if signal <= _FAIR_DBM:
        advice = "Bring board and access point nearer to each other, or use a network cable."
        return [notice("board.wifi", f"{text}, which is weak: pictures may stall.", advice, **facts)]
    return [ok("board.wifi", f"{text}, which is good.", **facts)]


def _clock(health: BoardHealth) -> Finding:
    facts = {"set": health.clock_set, "synchronised": health.clock_synchronised}
    now = time.strftime("%Y-%m-%d %H:%M %Z")
    if health.clock_set is False:
        advice = (
            "Let it reach a time server (`sudo timedatectl set-ntp true`), or set its clock: without it, secure connections fail."
        )
        return problem("clock", f"The board does not know the date: it believes that it is {now}.", advice, **facts)
    if health.clock_synchronised is False:
        advice = "Switch that on with `sudo timedatectl set-ntp true`; the network must let NTP (UDP port 123) through."
        return notice("clock", f"It is {now}, but no time server keeps this clock right.", advice, **facts)
    kept = ", kept right by a time server" if health.clock_synchronised else ""
    return ok("clock", f"It is {now}{kept}.", **facts)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
