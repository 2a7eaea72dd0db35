"""Boards made of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent import board_sources as b
from edgeagent.board import BoardHealth, Power

PI_FILES = {
    "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
    "proc/meminfo": "MemTotal:         440088 kB\nMemFree:           55012 kB\nMemAvailable:     210320 kB\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61223\n",
    "proc/net/wireless": (
        "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
        " face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
        " wlan0: 0000   58.  -52.  -256        0      0      0      0     20        0\n"
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in PI_FILES.items():
        put(tmp_path, name, text)
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def reader(root: Path, outputs: dict[str, str] | None = None, **arguments: object) -> b.BoardReader:
    def run(command: Sequence[str]) -> str:
        return (outputs or {}).get(" ".join(command), "")

    given: dict[str, object] = {
        "run": run,
        "disk": root,
        "wall": lambda: 1_800_000_000.0,
        "kernel_clock": lambda: True,
        "load": lambda: (0.5, 0.4, 0.3),
        "cpus": lambda: 4,
    }
    return b.BoardReader(root, **(given | arguments))  # type: ignore[arg-type]


def test_a_zero_2_w(root: Path) -> None:
    health = reader(root, {"vcgencmd get_throttled": "throttled=0x50005\n"})()
    assert health.model == "Raspberry Pi Zero 2 W Rev 1.0"
    assert (health.memory_total_bytes, health.memory_available_bytes) == (440088 * 1024, 210320 * 1024)
    assert health.temperature_c == 61.223
    assert health.power == Power(True, True, False, False, True, True, False, False)
    assert (health.wifi_interface, health.wifi_signal_dbm) == ("wlan0", -52.0)
    assert (health.clock_set, health.clock_synchronised, health.load_1min, health.cpus) == (True, True, 0.5, 4)
    assert health.disk_total_bytes and health.disk_free_bytes is not None


def test_nothing_at_all(tmp_path: Path) -> None:
    def no_load() -> tuple[float, float, float]:
        raise OSError

    made = reader(tmp_path, disk=tmp_path / "none", kernel_clock=lambda: None, load=no_load, wall=lambda: 0.0)()
    assert made == BoardHealth(clock_set=False, cpus=4)


@pytest.mark.parametrize(
    ("alarm", "power"), [("1", Power(undervoltage_now=True)), ("0", Power(undervoltage_now=False)), ("?", None)]
)
def test_without_vcgencmd_the_kernel_tells_of_now(root: Path, alarm: str, power: Power | None) -> None:
    put(root, "sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    put(root, "sys/class/hwmon/hwmon2/name", "rpi_volt\n")
    put(root, "sys/class/hwmon/hwmon2/in0_lcrit_alarm", f"{alarm}\n")
    assert reader(root)().power == power


def test_a_pc(root: Path) -> None:
    (root / "proc/device-tree/model").unlink()
    put(root, "sys/class/dmi/id/sys_vendor", "LENOVO\n")
    put(root, "sys/class/dmi/id/product_name", "20XW0026GE\n")
    assert reader(root)().model == "LENOVO 20XW0026GE"
    assert b.vendor_and_product("To Be Filled By O.E.M.", "System Product Name") == ""
    assert b.vendor_and_product("Intel Corporation", "Intel Corporation NUC") == "Intel Corporation NUC"


def test_the_processor_goes_before_warmer_things() -> None:
    assert b.parse_temperature([("acpitz", "90000"), ("x86_pkg_temp", "45000"), ("cpu-x", "47500")]) == 47.5
    assert b.parse_temperature([("acpitz", "16800"), ("iwlwifi_1", "27800"), ("bad", "-274000"), ("x", "")]) == 27.8


def test_wifi_without_the_old_file(root: Path) -> None:
    (root / "proc/net/wireless").unlink()
    asked: list[str] = []
    outputs = {
        "iw dev": "phy#0\n\tUnnamed/non-netdev interface\n\tInterface wlan1\n\t\ttype managed\n\tInterface wlan0\n",
        "iw dev wlan1 link": "Not connected.\n",
        "iw dev wlan0 link": "Connected to 3c:00:00:00:00:01 (on wlan0)\n\tSSID: home\n\tsignal: -71 dBm\n\ttx bitrate: 72.2\n",
    }

    def run(command: Sequence[str]) -> str:
        asked.append(" ".join(command))
        return outputs.get(asked[-1], "")

    assert reader(root, run=run)().wifi_interface is None
    assert "iw dev" not in asked, "a board without a radio is not asked"
    put(root, "sys/class/net/wlan0/phy80211/index", "0")
    health = reader(root, run=run)()
    assert (health.wifi_interface, health.wifi_signal_dbm) == ("wlan0", -71.0)


@pytest.mark.parametrize(
    ("kernel", "file", "said", "synchronised"),
    [(True, False, "", True), (False, True, "yes", False), (None, True, "no", True), (None, False, "yes", True),
     (None, False, "no", False), (None, False, "", None)],
)  # fmt: skip
def test_where_the_kernel_may_not_be_asked_systemd_is(
    root: Path, kernel: bool | None, file: bool, said: str, synchronised: bool | None
) -> None:
    if file:
        put(root, "run/systemd/timesync/synchronized", "")
    outputs = {"timedatectl show --property=NTPSynchronized --value": f"{said}\n"}
    assert reader(root, outputs, kernel_clock=lambda: kernel)().clock_synchronised is synchronised


def test_this_machine() -> None:
    health = b.BoardReader()()
    assert health.memory_total_bytes and health.memory_available_bytes
    assert health.memory_available_bytes <= health.memory_total_bytes
    assert health.cpus == os.cpu_count()
    assert b.kernel_clock_synchronised() in (True, False, None)


def test_commands_that_are_missing_fail_or_speak() -> None:
    assert b.command_output(["no-such-program-anywhere"]) == ""
    assert b.command_output(["false"]) == ""
    assert b.command_output(["echo", "throttled=0x0"]) == "throttled=0x0\n"


@given(st.text(max_size=300))
def test_nonsense_is_no_reading(text: str) -> None:
    parsers: list[Callable[[str], object]] = [
        b.parse_model, b.parse_memory, b.parse_throttled, b.parse_wireless, b.parse_iw_interfaces, b.parse_iw_link,
    ]  # fmt: skip
    for parse in parsers:
        parse(text)
    found = b.parse_temperature([(text, text), ("cpu", text)])
    assert found is None or -40 < found < 150
    assert len(b.vendor_and_product(text, text)) <= 100
    assert len(b.parse_model(text)) <= 100


@given(st.integers(0, 2**32 - 1))
def test_each_bit_means_one_thing(bits: int) -> None:
    power = b.parse_throttled(f"throttled=0x{bits:x}\n")
    assert power is not None
    told = [power.undervoltage_now, power.capped_now, power.throttled_now, power.hot_now]
    told += [power.undervoltage_since_boot, power.capped_since_boot, power.throttled_since_boot, power.hot_since_boot]
    assert told == [bool(bits & 1 << bit) for bit in (0, 1, 2, 3, 16, 17, 18, 19)]


@given(st.dictionaries(st.from_regex(r"wl[a-z]{1,5}[0-9]", fullmatch=True), st.integers(-300, 5), max_size=4))
def test_the_radio_that_hears_best(levels: dict[str, int]) -> None:
    text = "".join(f"{name:>6}: 0000   50. {level}.  -256  0  0  0  0  0  0\n" for name, level in levels.items())
    connected = {name: level for name, level in levels.items() if -110 < level < 0}
    found = b.parse_wireless(text)
    if connected:
        assert found is not None
        assert connected[found[0]] == found[1] == max(connected.values())
    else:
        assert found is None


@given(st.integers(), st.integers(), st.integers(0, 2**20))
def test_free_space_is_never_more_than_all(blocks: int, available: int, size: int) -> None:
    free, total = b.parse_disk(blocks, available, size)
    assert 0 <= free <= total or total == 0 == free
