"""A NetworkManager of paper on a real D-Bus: one Wi-Fi adapter, the networks that it sees, and checkpoints that go back.

Paths, interfaces, signatures and numbers are those of NetworkManager's D-Bus reference; a call with another signature is refused.
"""

from __future__ import annotations

__all__ = ["FakeNetworkManager", "bus_daemon"]

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

from tests.support import require

NM = "org.freedesktop.NetworkManager"
ROOT = "/org/freedesktop/NetworkManager"
DEVICE, WIRED = f"{ROOT}/Devices/3", f"{ROOT}/Devices/1"
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""


@contextlib.asynccontextmanager
async def bus_daemon(folder: Path) -> AsyncIterator[str]:
    """A D-Bus of its own; yields its address."""
    config = folder / "bus.conf"
    config.write_text(_CONFIG.format(path=folder / "bus"))
    process = await asyncio.create_subprocess_exec(
        require("dbus-daemon"), "--nofork", "--print-address", f"--config-file={config}", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


class FakeNetworkManager:
    """Answers as NetworkManager does.

    Args:
        address: Of the bus.
        keys: The networks in reach with their keys; "" for an open one.
        sae: Those that take WPA3 only.
        wifi: Whether there is an adapter.
        refuses: Calls that end in PermissionDenied.
    """

    def __init__(
        self, address: str, keys: dict[str, str], *, sae: tuple[str, ...] = (), wifi: bool = True, refuses: tuple[str, ...] = ()
    ) -> None:
        self._address, self.keys, self.sae, self._refuses = address, keys, sae, refuses
        self.devices = [WIRED, DEVICE] if wifi else [WIRED]
        self.profiles: dict[str, dict[str, Any]] = {}
        self.active = "/"
        self.ssid = ""
        self.reason = 0
        self.enabled = True
        self.checkpoints: dict[str, tuple[str, str, set[str]]] = {}
        self.calls: list[str] = []
        self._count = 100

    async def __aenter__(self) -> FakeNetworkManager:
        self._bus = await MessageBus(bus_address=self._address).connect()
        self._bus.add_message_handler(self._handle)
        assert await self._bus.request_name(NM) is RequestNameReply.PRIMARY_OWNER
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.disconnect()
        await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    def connected(self, ssid: str, profile: str) -> None:
        """What was there before."""
        self.profiles[f"{ROOT}/Settings/1"] = {"connection": {"id": Variant("s", profile)}}
        self.active, self.ssid = f"{ROOT}/ActiveConnection/1", ssid

    def ids(self) -> list[str]:
        """The profiles by their names."""
        return sorted(str(settings["connection"]["id"].value) for settings in self.profiles.values())

    def _handle(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL or message.destination not in (NM, self._bus.unique_name):
            return False
        member = message.member or ""
        if member not in ("GetAll", "Set"):
            self.calls.append(member)
        if member in self._refuses:
            return Message.new_error(message, f"{NM}.PermissionDenied", "Not authorized")
        try:
            signature, body = self._answer(message.path or "", message.interface or "", member, message.signature, message.body)
        except KeyError as error:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", f"there is no {error}")
        return Message.new_method_return(message, signature, body)

    def _answer(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> tuple[str, list[Any]]:
        match interface.removeprefix(NM), member, signature:
            case "org.freedesktop.DBus.Properties", "GetAll", "s":
                return "a{sv}", [self._properties(path, body[0])]
            case "org.freedesktop.DBus.Properties", "Set", "ssv":
                assert body[1] == "WirelessEnabled"
                self.enabled = body[2].value
                return "", []
            case "", "GetDevices", "":
                return "ao", [self.devices]
            case "", "CheckpointCreate", "aouu":
                assert body[0] == [DEVICE] and body[2] == 2 and body[1] >= 180
                made = self._path("Checkpoint")
                self.checkpoints[made] = (self.active, self.ssid, set(self.profiles))
                return "o", [made]
            case "", "CheckpointDestroy", "o":
                del self.checkpoints[body[0]]
                return "", []
            case "", "CheckpointRollback", "o":
                self.active, self.ssid, kept = self.checkpoints.pop(body[0])
                self.profiles = {profile: settings for profile, settings in self.profiles.items() if profile in kept}
                return "a{su}", [{DEVICE: 0}]
            case "", "AddAndActivateConnection", "a{sa{sv}}oo":
                return "oo", self._activated(*body)
            case ".Device.Wireless", "RequestScan", "a{sv}":
                return "", []
            case ".Device.Wireless", "GetAllAccessPoints", "":
                return "ao", [[f"{ROOT}/AccessPoint/{number}" for number in range(len(self.keys))]]
            case ".Settings", "ListConnections", "":
                return "ao", [list(self.profiles)]
            case ".Settings.Connection", "GetSettings", "":
                return "a{sa{sv}}", [self.profiles[path]]
            case ".Settings.Connection", "Delete", "":
                del self.profiles[path]
                return "", []
        raise KeyError(f"{interface}.{member}({signature})")

    def _activated(self, settings: dict[str, Any], device: str, specific: str) -> list[str]:
        assert device == DEVICE and specific == "/"
        ssid = bytes(settings["802-11-wireless"]["ssid"].value).decode()
        security = settings.get("802-11-wireless-security")
        profile = self._path("Settings")
        self.profiles[profile] = settings
        active = self._path("ActiveConnection")
        right = "sae" if ssid in self.sae else "wpa-psk"
        if ssid not in self.keys:
            self.active, self.reason = "/", 53
        elif self.keys[ssid] == (security["psk"].value if security else "") and (
            not security or security["key-mgmt"].value == right
        ):
            self.active, self.ssid, self.reason = active, ssid, 0
        else:
            self.active, self.reason = "/", 7
        return [profile, active]

    def _properties(self, path: str, interface: str) -> dict[str, Variant]:
        match path.removeprefix(ROOT), interface.removeprefix(NM):
            case "", "":
                return {"WirelessEnabled": Variant("b", self.enabled)}
            case "/Devices/1", ".Device":
                return {"DeviceType": Variant("u", 1), "State": Variant("u", 100)}
            case "/Devices/3", ".Device":
                state = 20 if not self.enabled else 100 if self.active != "/" else 30
                return {
                    "DeviceType": Variant("u", 2),
                    "State": Variant("u", state),
                    "StateReason": Variant("(uu)", [state, self.reason]),
                    "ActiveConnection": Variant("o", self.active),
                }
            case "/Devices/3", ".Device.Wireless":
                names = list(self.keys)
                seen = self.active != "/" and self.ssid in names
                return {"ActiveAccessPoint": Variant("o", f"{ROOT}/AccessPoint/{names.index(self.ssid)}" if seen else "/")}
            case point, ".AccessPoint":
                ssid = list(self.keys)[int(point.rpartition("/")[2])]
                flags = 0 if not self.keys[ssid] else 0x400 if ssid in self.sae else 0x100
                facts = {"Ssid": Variant("ay", ssid.encode()), "RsnFlags": Variant("u", flags), "WpaFlags": Variant("u", 0)}
                return facts
            case active, ".Connection.Active" if f"{ROOT}{active}" == self.active:
                return {"State": Variant("u", 2)}
        raise KeyError(path)

    def _path(self, kind: str) -> str:
        self._count += 1
        return f"{ROOT}/{kind}/{self._count}"
