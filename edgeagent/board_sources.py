"""Where the numbers of `board.BoardHealth` come from: files of Linux and a few commands, each of them optional."""

from __future__ import annotations

__all__ = [
    "BoardReader",
    "command_output",
    "parse_disk",
    "parse_iw_interfaces",
    "parse_iw_link",
    "parse_memory",
    "parse_model",
    "parse_temperature",
    "parse_throttled",
    "parse_wireless",
    "vendor_and_product",
]

import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgeagent.board import BoardHealth, Power

MADE_IN = 2026
"""The year of this program: a clock that shows an earlier one was never set."""

_COMMAND_TIMEOUT_S = 2.0
_MAX_FILE = 65_536
_FILLED_IN = re.compile(
    r"o\.?e\.?m\.?|default string|not (?:applicable|specified)|system (?:product|manufacturer)|none|unknown", re.I
)
_PROCESSOR = ("cpu", "soc", "pkg", "core")


def parse_model(text: str) -> str:
    """`/proc/device-tree/model`: ends with a zero byte; "" where it says nothing."""
    return " ".join(text.partition("\0")[0].split())[:100]


def vendor_and_product(vendor: str, product: str) -> str:
    """A PC by its DMI strings, without what its maker forgot to fill in."""
    vendor, product = (" ".join("" if _FILLED_IN.search(text) else text.split()) for text in (vendor, product))
    return (product if product.lower().startswith(vendor.lower()) else f"{vendor} {product}").strip()[:100]


def parse_memory(text: str) -> tuple[int | None, int | None]:
    """`/proc/meminfo`: all and available memory in bytes."""
    found = {key: int(kib) * 1024 for key, kib in re.findall(r"^(MemTotal|MemAvailable):\s*([0-9]{1,15}) kB$", text, re.M)}
    return found.get("MemTotal"), found.get("MemAvailable")


def parse_temperature(zones: Iterable[tuple[str, str]]) -> float | None:
    """The processor's temperature in °C by `type` and `temp` of each thermal zone; the hottest one where none names a processor."""
    readings = []
    for kind, text in zones:
        if re.fullmatch(r"-?[0-9]{1,7}", text.strip()) and -40 < (celsius := int(text) / 1000) < 150:
            readings.append((any(word in kind.lower() for word in _PROCESSOR), celsius))
    return max(readings)[1] if readings else None


def parse_throttled(text: str) -> Power | None:
    """`vcgencmd get_throttled`, like `throttled=0x50005`: bits 0-3 are now, 16-19 since the start; None where it says else."""
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", text.strip())
    if not found:
        return None
    bits = int(found[1], 16)

    def now_and_since(bit: int) -> tuple[bool, bool]:
        return bool(bits >> bit & 1), bool(bits >> bit + 16 & 1)

    under, capped, throttled, hot = map(now_and_since, range(4))
    return Power(*under, *capped, *throttled, *hot)


def parse_wireless(text: str) -> tuple[str, float] | None:
    """`/proc/net/wireless`: the radio that hears its access point best, and how strongly in dBm."""
    found = []
    for name, level in re.findall(r"^\s*(\S{1,15}):\s+\S+\s+\S+\s+(-[0-9]{1,3})\.?\s", text, re.M):
        if -110 < int(level) < 0:  # what is not connected shows 0 or -256
            found.append((float(level), name))
    return (max(found)[1], max(found)[0]) if found else None


def parse_iw_interfaces(text: str) -> list[str]:
    """`iw dev`: the names of the radios."""
    return re.findall(r"^\s*Interface (\S{1,15})$", text, re.M)


def parse_iw_link(text: str) -> float | None:
    """`iw dev wlan0 link`: the signal in dBm; None where it is not connected."""
    found = re.search(r"^\s*signal: (-[0-9]{1,3}) dBm", text, re.M)
    return float(found[1]) if found else None


def parse_disk(blocks: int, available: int, size: int) -> tuple[int, int]:
    """Free and all bytes of a file system by `statvfs`."""
    return max(0, min(available, blocks)) * size, max(0, blocks) * size


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to `status`; the rest is room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


_TIME_ERROR, _STA_UNSYNC = 5, 0x40


def kernel_clock_synchronised() -> bool | None:
    """What the kernel knows (adjtimex); None where it may not be asked, as under systemd's `ProtectClock=`."""
    try:
        timex = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR and not timex.status & _STA_UNSYNC


def command_output(command: Sequence[str]) -> str:
    """What a command prints; "" where there is none, it fails or takes over 2 s."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        return ""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


class BoardReader:
    """Looks at this board; calling it blocks for some milliseconds.

    Args:
        root: Where `/proc`, `/sys` and `/run` are found.
        run: Runs a command and returns what it prints, "" where it fails.
        disk: A path on the file system that the agent writes to.
        wall: Unix time in seconds.
        kernel_clock: Whether the clock is synchronised, None where that cannot be had.
        load: As `os.getloadavg`.
        cpus: As `os.cpu_count`.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        run: Callable[[Sequence[str]], str] = command_output,
        disk: Path | None = None,
        wall: Callable[[], float] = time.time,
        kernel_clock: Callable[[], bool | None] = kernel_clock_synchronised,
        load: Callable[[], tuple[float, float, float]] = os.getloadavg,
        cpus: Callable[[], int | None] = os.cpu_count,
    ) -> None:
        self._root, self._run, self._wall = root, run, wall
        self._disk = disk or Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or "/")
        self._kernel_clock, self._load, self._cpus = kernel_clock, load, cpus

    def __call__(self) -> BoardHealth:
        """One look."""
        total, available = parse_memory(self._text("proc/meminfo"))
        free, size = self._disk_bytes()
        wifi = self._wifi()
        return BoardHealth(
            model=self._model(),
            memory_total_bytes=total,
            memory_available_bytes=available,
            temperature_c=self._temperature(),
            power=self._power(),
            disk_free_bytes=free,
            disk_total_bytes=size,
            clock_set=time.gmtime(self._wall()).tm_year >= MADE_IN,
            clock_synchronised=self._clock_synchronised(),
            wifi_interface=wifi and wifi[0],
            wifi_signal_dbm=wifi and wifi[1],
            load_1min=self._load_1min(),
            cpus=self._cpus(),
        )

    def _model(self) -> str:
        dmi = self._text("sys/class/dmi/id/sys_vendor"), self._text("sys/class/dmi/id/product_name")
        return parse_model(self._text("proc/device-tree/model")) or vendor_and_product(*dmi)

    def _temperature(self) -> float | None:
        zones = self._root.glob("sys/class/thermal/thermal_zone*")
        return parse_temperature((self._text(zone / "type"), self._text(zone / "temp")) for zone in zones)

    def _power(self) -> Power | None:
        power = parse_throttled(self._run(["vcgencmd", "get_throttled"]))
        if power:
            return power
        # vcgencmd needs a device that a service may not have; the kernel's own alarm is for everyone, and knows only now.
        for sensor in self._root.glob("sys/class/hwmon/hwmon*"):
            alarm = self._text(sensor / "in0_lcrit_alarm").strip()
            if self._text(sensor / "name").strip() == "rpi_volt" and alarm in ("0", "1"):
                return Power(undervoltage_now=alarm == "1")
        return None

    def _disk_bytes(self) -> tuple[int | None, int | None]:
        try:
            stat = os.statvfs(self._disk)
        except OSError:
            return None, None
        return parse_disk(stat.f_blocks, stat.f_bavail, stat.f_frsize) if stat.f_blocks else (None, None)

    def _clock_synchronised(self) -> bool | None:
        known = self._kernel_clock()
        if known is not None:
            return known
        if (self._root / "run/systemd/timesync/synchronized").exists():
            return True
        said = self._run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
        return {"yes": True, "no": False}.get(said)

    def _wifi(self) -> tuple[str, float] | None:
        found = parse_wireless(self._text("proc/net/wireless"))
        if found or not any(self._root.glob("sys/class/net/*/phy80211")):
            return found
        for name in parse_iw_interfaces(self._run(["iw", "dev"])):
            signal = parse_iw_link(self._run(["iw", "dev", name, "link"]))
            if signal is not None:
                return name, signal
        return None

    def _load_1min(self) -> float | None:
        try:
            return self._load()[0]
        except OSError:
            return None

    def _text(self, path: str | Path) -> str:
        try:
            with (self._root / path).open("rb") as file:
                return file.read(_MAX_FILE).decode(errors="replace")
        except OSError:
            return ""
