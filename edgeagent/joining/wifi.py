"""Wi-Fi through NetworkManager: join a network so that the one before comes back by itself unless the new one is kept.

NetworkManager's checkpoint does that: it remembers what the adapter was connected with, and goes back to it when it is told to or
its time is over, also where this process has died meanwhile. The calls are those of NetworkManager 1.12 and later (D-Bus
reference: `org.freedesktop.NetworkManager`). A user other than root needs the rights of `systemd/polkit/50-edgeagent-wifi.rules`.
"""

from __future__ import annotations

__all__ = ["NetworkManager", "WifiAbsent", "by_hand"]

import asyncio
import contextlib
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgeagent.errors import DeviceFault
from edgeagent.wire.wifi import Wifi

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus

log = logging.getLogger(__name__)

_NM = "org.freedesktop.NetworkManager"
_ROOT = "/org/freedesktop/NetworkManager"
_SETTINGS = f"{_ROOT}/Settings"
_WIFI_DEVICE = 2  # NMDeviceType
_UNMANAGED, _USABLE = 10, 30  # NMDeviceState
_ACTIVATED, _DEACTIVATED = 2, 4  # NMActiveConnectionState
_PSK, _SAE = 0x100, 0x400  # NM80211ApSecurityFlags
_DELETE_NEW = 2  # NMCheckpointCreateFlags
_ROLLBACK_S = 240
_CALL_S, _SCAN_S, _UP_S = 10.0, 12.0, 45.0
_LOOK_S = 0.5
_PREFIX = "edgeagent "
_WHY = {  # NMDeviceStateReason
    5: "it gives no address",
    6: "it gives no address",
    7: "its key is wrong",
    8: "it sends this board away: is the key right?",
    9: "it sends this board away: is the key right?",
    10: "it does not let this board in: is the key right?",
    11: "it does not answer: is the key right?",
    15: "it gives no address",
    16: "it gives no address",
    17: "it gives no address",
    53: "no such network is in reach",
}


class WifiAbsent(DeviceFault):
    """This board has no Wi-Fi that we could change; the sentence shows what to type instead."""


def by_hand(ssid: str) -> str:
    """The command that does the same, and asks for the key."""
    return f"sudo nmcli --ask device wifi connect {shlex.quote(ssid)}"


class NetworkManager:
    """One adapter's Wi-Fi; one join at a time.

    Args:
        bus: Address of the D-Bus; the system's where empty.
    """

    def __init__(self, bus: str = "") -> None:
        self._address = bus
        self._bus: MessageBus | None = None
        self._checkpoint = ""
        self._new = ""
        self._profile = ""

    async def join(self, wifi: Wifi) -> None:
        """Join a network, and return once it has given an address. `keep` or `restore` must follow; whoever does neither goes back
        after four minutes.

        Raises:
            WifiAbsent: There is no NetworkManager, no adapter, or no right to; nothing has changed.
            DeviceFault: It cannot be joined, and why.
        """
        await self._end()
        try:
            await self._connect()
            device = await self._adapter()
            if await self._joined_already(device, wifi.ssid):
                return
            flags = await self._scan(device, wifi.ssid)
            self._checkpoint = (await self._nm("CheckpointCreate", "aouu", [device], _ROLLBACK_S, _DELETE_NEW))[0]
        except WifiAbsent as error:
            await self._end()
            raise WifiAbsent(f"{error} To join by hand: {by_hand(wifi.ssid)}", retry=False) from None
        self._profile = f"{_PREFIX}{wifi.ssid}"
        added = await self._nm("AddAndActivateConnection", "a{sa{sv}}oo", _settings(self._profile, wifi, flags), device, "/")
        self._new, active = added
        await self._up(device, active, wifi.ssid)
        log.info("joined the Wi-Fi %s", wifi.ssid)

    async def keep(self) -> None:
        """Stay in what was joined."""
        if self._checkpoint:
            with self._told("The new Wi-Fi cannot be made to stay"):
                await self._nm("CheckpointDestroy", "o", self._checkpoint)
            with contextlib.suppress(DeviceFault):
                # Of the profiles that we made for this network only the newest stays.
                await self._delete(lambda profile, name: name == self._profile and profile != self._new)
        await self._end()

    async def restore(self) -> None:
        """Go back to what was before `join`."""
        if self._checkpoint:
            with self._told("The Wi-Fi before does not come back at once"):
                await self._nm("CheckpointRollback", "o", self._checkpoint)
        await self._end()

    async def forget(self) -> list[str]:
        """Delete every network that `join` has made, as for a board that is given away, and return their names. The board leaves
        the one that it is in.

        Raises:
            DeviceFault: They cannot be deleted, and why.
        """
        await self._end()
        try:
            await self._connect()
            return [name.removeprefix(_PREFIX) for name in await self._delete(lambda profile, name: name.startswith(_PREFIX))]
        finally:
            await self._end()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except DeviceFault as error:  # NetworkManager goes back by itself; there is nothing more to be done
            log.warning("%s: %s", what, error)

    async def _end(self) -> None:
        self._checkpoint = self._new = self._profile = ""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect()
            with contextlib.suppress(Exception):  # whatever ended the connection
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        try:
            from dbus_fast import BusType
            from dbus_fast.aio import MessageBus
        except ImportError:
            raise WifiAbsent(f"Wi-Fi cannot be changed without dbus-fast: `{sys.executable} -m pip install dbus-fast`.") from None
        try:
            bus = MessageBus(bus_address=self._address) if self._address else MessageBus(bus_type=BusType.SYSTEM)
            async with asyncio.timeout(_CALL_S):
                self._bus = await bus.connect()
        except Exception as error:  # a missing socket, a wrong address, a refusal: of many kinds
            log.debug("no D-Bus: %s", error)
            raise WifiAbsent("This board's system bus does not answer, so that NetworkManager cannot be asked.") from None

    async def _adapter(self) -> str:
        if not (await self._properties(_ROOT, _NM)).get("WirelessEnabled", True):
            await self._set(_ROOT, _NM, "WirelessEnabled", True)
        found = []
        for device in (await self._nm("GetDevices"))[0]:
            properties = await self._properties(device, f"{_NM}.Device")
            if properties["DeviceType"] == _WIFI_DEVICE:
                found.append((properties["State"], device))
        usable = [(state, device) for state, device in found if state != _UNMANAGED]
        if not usable:
            raise WifiAbsent("NetworkManager leaves this board's Wi-Fi alone." if found else "This board has no Wi-Fi adapter.")
        device = str(max(usable)[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CALL_S):  # of one that was switched on just now
                while (await self._properties(device, f"{_NM}.Device"))["State"] < _USABLE:
                    await asyncio.sleep(_LOOK_S)
                return device
        raise WifiAbsent("This board's Wi-Fi is switched off or blocked; on a Raspberry Pi, set its country (`sudo raspi-config`).")

    async def _joined_already(self, device: str, ssid: str) -> bool:
        active = (await self._properties(device, f"{_NM}.Device"))["ActiveConnection"]
        if active == "/" or (await self._properties(active, f"{_NM}.Connection.Active"))["State"] != _ACTIVATED:
            return False
        point = (await self._properties(device, f"{_NM}.Device.Wireless"))["ActiveAccessPoint"]
        return point != "/" and (await self._point(point))[0] == ssid.encode()

    async def _scan(self, device: str, ssid: str) -> int | None:
        """How the network is secured (the flags of its access points together); None where it is not seen, as where it hides."""
        with contextlib.suppress(DeviceFault):  # another scan goes on
            await self._call(device, f"{_NM}.Device.Wireless", "RequestScan", "a{sv}", {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SCAN_S):
                while True:
                    flags = [f for name, f in await self._points(device) if name == ssid.encode()]
                    if flags:
                        together = 0
                        for flag in flags:
                            together |= flag
                        return together
                    await asyncio.sleep(_LOOK_S)
        return None

    async def _points(self, device: str) -> list[tuple[bytes, int]]:
        found = []
        for point in (await self._call(device, f"{_NM}.Device.Wireless", "GetAllAccessPoints"))[0]:
            with contextlib.suppress(DeviceFault):  # it went meanwhile
                found.append(await self._point(point))
        return found

    async def _point(self, point: str) -> tuple[bytes, int]:
        properties = await self._properties(point, f"{_NM}.AccessPoint")
        return bytes(properties["Ssid"]), properties["RsnFlags"] | properties["WpaFlags"]

    async def _up(self, device: str, active: str, ssid: str) -> None:
        reason = 0
        try:
            async with asyncio.timeout(_UP_S):
                while True:
                    try:
                        state = (await self._properties(active, f"{_NM}.Connection.Active"))["State"]
                    except DeviceFault:  # NetworkManager drops what has failed
                        state = _DEACTIVATED
                    reason = (await self._properties(device, f"{_NM}.Device"))["StateReason"][1] or reason
                    if state == _ACTIVATED:
                        return
                    if state == _DEACTIVATED:
                        break
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            pass
        raise DeviceFault(
            f"The Wi-Fi {ssid} cannot be joined: {_WHY.get(reason, f'it does not answer in time (reason {reason})')}."
        )

    async def _delete(self, chosen: Callable[[str, str], bool]) -> list[str]:
        """Delete the profiles that are chosen by path and name; their names."""
        gone = []
        for profile in (await self._call(_SETTINGS, f"{_NM}.Settings", "ListConnections"))[0]:
            settings = (await self._call(profile, f"{_NM}.Settings.Connection", "GetSettings"))[0]
            name = str(settings["connection"]["id"].value)
            if chosen(profile, name):
                await self._call(profile, f"{_NM}.Settings.Connection", "Delete")
                gone.append(name)
        return gone

    async def _nm(self, member: str, signature: str = "", *body: Any) -> list[Any]:
        return await self._call(_ROOT, _NM, member, signature, *body)

    async def _properties(self, path: str, interface: str) -> dict[str, Any]:
        (found,) = await self._call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        return {name: variant.value for name, variant in found.items()}

    async def _set(self, path: str, interface: str, name: str, value: bool) -> None:
        from dbus_fast import Variant

        await self._call(path, "org.freedesktop.DBus.Properties", "Set", "ssv", interface, name, Variant("b", value))

    async def _call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> list[Any]:
        from dbus_fast import Message, MessageType

        assert self._bus is not None
        message = Message(_NM, path, interface, member, signature=signature, body=list(body))
        try:
            async with asyncio.timeout(_CALL_S):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise DeviceFault("NetworkManager does not answer in time.") from None
        except (OSError, EOFError) as error:
            raise DeviceFault(f"The connection with the system bus has broken ({error}).") from None
        if reply is None or reply.message_type is not MessageType.ERROR:
            return list(reply.body) if reply is not None else []
        match reply.error_name:
            case "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner":
                raise WifiAbsent("NetworkManager does not run on this board.")
            case str(name) if name.endswith(("PermissionDenied", "AccessDenied")):
                raise WifiAbsent(
                    "NetworkManager does not let the agent's user change the Wi-Fi: `sudo edgeagent install` sets that right."
                )
            case name:
                # The error's own text may quote the settings, and so the key: its name says enough.
                raise DeviceFault(f"NetworkManager refuses {member} ({(name or 'unknown').removeprefix(_NM + '.')}).")


def _settings(profile: str, wifi: Wifi, flags: int | None) -> dict[str, dict[str, Any]]:
    """A connection profile as of `nm-settings-dbus`; `flags` as seen on the air."""
    from dbus_fast import Variant

    settings = {
        "connection": {"id": Variant("s", profile), "type": Variant("s", "802-11-wireless"), "autoconnect": Variant("b", True)},
        "802-11-wireless": {
            "ssid": Variant("ay", wifi.ssid.encode()),
            "mode": Variant("s", "infrastructure"),
            "hidden": Variant("b", flags is None),
        },
        "ipv4": {"method": Variant("s", "auto")},
        "ipv6": {"method": Variant("s", "auto")},
    }
    if wifi.key:
        only_wpa3 = flags is not None and flags & _SAE and not flags & _PSK
        method = Variant("s", "sae" if only_wpa3 else "wpa-psk")
        settings["802-11-wireless-security"] = {"key-mgmt": method, "psk": Variant("s", wifi.key)}
    return settings
