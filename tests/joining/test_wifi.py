"""Against a NetworkManager of paper (`fake_nm`) on a real D-Bus."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.errors import DeviceFault
from edgeagent.joining import wifi as wifi_module
from edgeagent.joining.wifi import NetworkManager, WifiAbsent, by_hand
from edgeagent.wire.wifi import Wifi
from tests.joining.fake_nm import FakeNetworkManager, bus_daemon
from tests.support import require

pytestmark = pytest.mark.realtime

HOME = Wifi("home", "a-long-key")


@asynccontextmanager
async def fake(folder: Path, keys: dict[str, str], **options: Any) -> AsyncIterator[tuple[FakeNetworkManager, NetworkManager]]:
    require("module:dbus_fast")
    async with bus_daemon(folder) as address, FakeNetworkManager(address, keys, **options) as manager:
        yield manager, NetworkManager(address)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked soon."""
    monkeypatch.setattr(wifi_module, "_LOOK_S", 0.01)
    monkeypatch.setattr(wifi_module, "_SCAN_S", 60.0)


async def test_a_new_network_is_joined_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake(tmp_path, {"old": "old-long-key", "home": HOME.key}) as (manager, wifi):
        manager.connected("old", "old profile")
        await wifi.join(HOME)
        assert manager.ssid == "home" and len(manager.checkpoints) == 1
        await wifi.keep()
        assert not manager.checkpoints and manager.ids() == ["edgeagent home", "old profile"]
        manager.ssid = "old"  # it came back to the old one, and is told again
        await wifi.join(HOME)
        await wifi.keep()
        assert manager.ids() == ["edgeagent home", "old profile"]
        (settings,) = [found for found in manager.profiles.values() if found["connection"]["id"].value == "edgeagent home"]
        assert (
            settings["802-11-wireless-security"]["key-mgmt"].value == "wpa-psk" and not settings["802-11-wireless"]["hidden"].value
        )
    assert HOME.key not in caplog.text


async def test_what_was_before_comes_back(tmp_path: Path) -> None:
    async with fake(tmp_path, {"old": "old-long-key", "home": "another-key"}) as (manager, wifi):
        manager.connected("old", "old profile")
        with pytest.raises(DeviceFault, match="home cannot be joined: its key is wrong") as caught:
            await wifi.join(HOME)
        assert not isinstance(caught.value, WifiAbsent) and HOME.key not in str(caught.value)
        await wifi.restore()
        assert (manager.ssid, manager.ids(), manager.checkpoints) == ("old", ["old profile"], {})
        await wifi.restore()  # there is nothing more to go back to
        assert manager.calls.count("CheckpointRollback") == 1


async def test_a_network_out_of_reach_is_tried_as_a_hidden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wifi_module, "_SCAN_S", 0.3)
    async with fake(tmp_path, {"old": "old-long-key"}) as (manager, wifi):
        with pytest.raises(DeviceFault, match="no such network is in reach"):
            await wifi.join(HOME)
        (settings,) = manager.profiles.values()
        assert settings["802-11-wireless"]["hidden"].value
        await wifi.restore()
        assert manager.ids() == []


async def test_wpa3_and_open_networks(tmp_path: Path) -> None:
    async with fake(tmp_path, {"home": HOME.key, "guests": ""}, sae=("home",)) as (manager, wifi):
        await wifi.join(HOME)
        assert manager.ssid == "home"
        await wifi.restore()
        await wifi.join(Wifi("guests"))
        assert manager.ssid == "guests"
        await wifi.keep()


async def test_the_network_that_the_board_is_in_is_left_alone(tmp_path: Path) -> None:
    async with fake(tmp_path, {"home": HOME.key}) as (manager, wifi):
        manager.connected("home", "by hand")
        await wifi.join(HOME)
        await wifi.restore()
        assert manager.ids() == ["by hand"] and "CheckpointCreate" not in manager.calls


async def test_what_was_joined_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    async with fake(tmp_path, {"home": HOME.key, "shop": HOME.key}) as (manager, wifi):
        manager.connected("old", "old profile")
        for ssid in ("home", "shop"):
            await wifi.join(Wifi(ssid, HOME.key))
            await wifi.keep()
        assert manager.ids() == ["edgeagent home", "edgeagent shop", "old profile"]
        assert await wifi.forget() == ["home", "shop"]
        assert manager.ids() == ["old profile"]


async def test_an_adapter_that_is_off_is_switched_on(tmp_path: Path) -> None:
    async with fake(tmp_path, {"home": HOME.key}) as (manager, wifi):
        manager.enabled = False
        await wifi.join(HOME)
        assert manager.enabled and manager.ssid == "home"
        await wifi.keep()


@pytest.mark.parametrize(
    ("options", "why"),
    [({"wifi": False}, "no Wi-Fi adapter"), ({"refuses": ("CheckpointCreate",)}, "does not let the agent's user change the Wi-Fi")],
)
async def test_without_wifi_the_command_is_shown(tmp_path: Path, options: dict[str, Any], why: str) -> None:
    async with fake(tmp_path, {"home": HOME.key}, **options) as (manager, wifi):
        with pytest.raises(WifiAbsent, match=f"{why}.*nmcli --ask device wifi connect home"):
            await wifi.join(HOME)
        assert manager.profiles == {}


async def test_without_networkmanager_and_without_a_bus(tmp_path: Path) -> None:
    require("module:dbus_fast")
    async with bus_daemon(tmp_path) as address:
        with pytest.raises(WifiAbsent, match=r"NetworkManager does not run on this board.*nmcli --ask"):
            await NetworkManager(address).join(HOME)
    with pytest.raises(WifiAbsent, match="system bus does not answer"):
        await NetworkManager(f"unix:path={tmp_path}/none").join(HOME)


def test_a_name_with_spaces_is_quoted() -> None:
    assert by_hand("Mum's home").endswith("""connect 'Mum'"'"'s home'""")
