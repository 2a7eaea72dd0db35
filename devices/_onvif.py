"""IP cameras in this network and their streams, by ONVIF: WS-Discovery, then GetProfiles and GetStreamUri.

The libraries (extra `onvif`) are needed for `edgeagent discover cameras` only, never while a camera plays.
"""

from __future__ import annotations

__all__ = ["Device", "Profile", "Refused", "Report", "ask", "search"]

import asyncio
import datetime
import ipaddress
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeagent.drivers import DeviceFault

_log = logging.getLogger(__name__)

_NETWORK = "http://www.onvif.org/ver10/network/wsdl"
_DEVICE = "{http://www.onvif.org/ver10/device/wsdl}DeviceBinding"
_MEDIA = "{http://www.onvif.org/ver10/media/wsdl}MediaBinding"
_RTSP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
_MAX_PROFILES = 32
_MISSING = (
    f"Cameras in the network are found with two more libraries: `{sys.executable} -m pip install WSDiscovery onvif-zeep-async`."
)


class Refused(DeviceFault):
    """The camera tells nothing to this user."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that answered: its service's address, its name and model as it gave them, perhaps empty."""

    address: str
    name: str = ""
    model: str = ""

    @property
    def host(self) -> str:
        """Its name or IP address."""
        return urlsplit(self.address).hostname or ""


@dataclass(frozen=True, slots=True)
class Profile:
    """A stream of a device.

    Attributes:
        source: Of the pictures; a recorder or a camera with several lenses has more than one.
        url: For RTSP, without user and password.
        codec: As ONVIF names it: `H264`, `JPEG`, `MPEG4`, or what else the device says.
        width: Pixels, 0 where it does not say.
        height: Pixels, 0 where it does not say.
        fps: Frames a second at most, 0 where it does not say.
    """

    source: str
    url: str
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a device tells about itself."""

    maker: str = ""
    model: str = ""
    profiles: list[Profile] = field(default_factory=list)


def search(timeout_s: float) -> list[Device]:
    """The cameras that answer a probe in this network, ordered by address. Takes `timeout_s` seconds.

    Raises:
        DeviceFault: The libraries are missing, or this machine cannot ask.
    """
    try:
        from wsdiscovery import QName
        from wsdiscovery.discovery import ThreadedWSDiscovery
    except ImportError:
        raise DeviceFault(_MISSING, retry=False) from None
    discovery = ThreadedWSDiscovery()
    try:
        discovery.start()
        services = discovery.searchServices(types=[QName(_NETWORK, "NetworkVideoTransmitter", "dn")], timeout=timeout_s)
        found = [device for service in services if (device := _device(service.getXAddrs(), map(str, service.getScopes())))]
    except OSError as error:
        raise DeviceFault(f"Cameras in the network cannot be looked for ({error.strerror or error}).") from None
    finally:
        discovery.stop()
    return sorted({device.address: device for device in found}.values(), key=lambda device: device.address)


def _device(addresses: Iterable[str], scopes: Iterable[str]) -> Device | None:
    usable = {address: host for address in addresses if (host := _host(address))}
    if not usable:
        return None
    told: dict[str, str] = {}
    for scope in scopes:
        kind, _, value = scope.partition("onvif://www.onvif.org/")[2].partition("/")
        told.setdefault(kind, unquote(value).strip())
    # IPv4 first: the link-local IPv6 address that many cameras give as well needs a zone.
    address = min(usable, key=lambda one: ":" in usable[one])
    return Device(address, told.get("name", ""), told.get("hardware", ""))


def _host(address: str) -> str:
    """The host of a service's address, "" where that is none."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "") if parts.scheme in ("http", "https") else ""
    except ValueError:
        return ""


def ask(address: str, user: str, password: str, timeout_s: float) -> Report:
    """What the device at `address` tells this user about itself; "" for nobody.

    Raises:
        Refused: Nothing, to this user.
        DeviceFault: It does not answer as ONVIF devices do, or the libraries are missing.
    """
    try:
        import onvif  # noqa: F401
        from zeep.exceptions import Fault, TransportError
    except ImportError:
        raise DeviceFault(_MISSING, retry=False) from None
    host = urlsplit(address).hostname or address
    try:
        return asyncio.run(_ask(address, user, password, timeout_s))
    except Fault as fault:
        words = f"{fault.subcodes} {fault.message}".lower()
        if "notauthorized" in words or "authoriz" in words or "failedauthentication" in words:
            raise Refused(f"The camera at {host} does not tell its streams to this user.", retry=False) from None
        raise DeviceFault(f"The camera at {host} refuses to name its streams ({fault.message}).") from None
    except TransportError as error:
        if error.status_code in (401, 403):
            raise Refused(f"The camera at {host} does not tell its streams to this user.", retry=False) from None
        raise DeviceFault(f"The camera at {host} does not answer as ONVIF cameras do (error {error.status_code}).") from None
    except Exception as error:  # of any of the libraries, about whatever a device may answer
        _log.debug("%s: %s", host, error)
        raise DeviceFault(f"The camera at {host} does not answer as ONVIF cameras do ({type(error).__name__}).") from None


async def _ask(address: str, user: str, password: str, timeout_s: float) -> Report:
    services: list[Any] = []
    questions = _Questions(address, user, password, timeout_s, services)
    try:
        async with asyncio.timeout(4 * timeout_s):
            await questions.put()
    except TimeoutError:
        if not questions.report.profiles:
            raise
    finally:
        for service in services:
            await service.close()
    return questions.report


class _Questions:
    def __init__(self, address: str, user: str, password: str, timeout_s: float, services: list[Any]) -> None:
        self._address, self._user, self._password, self._timeout_s, self._services = address, user, password, timeout_s, services
        self._skew: datetime.timedelta | None = None
        self.report = Report()
        """What is known so far."""

    async def put(self) -> None:
        """Ask everything; raises where no stream is told at all."""
        plain = await self._service(self._address, "devicemgmt.wsdl", _DEVICE)
        self._skew = await self._clock_skew(plain)
        device = await self._service(self._address, "devicemgmt.wsdl", _DEVICE)
        about = await self._call(device, "GetDeviceInformation")
        capabilities = await self._call(device, "GetCapabilities", {"Category": "Media"})
        media = await self._service(str(capabilities.Media.XAddr), "media.wsdl", _MEDIA)
        self.report = Report(str(about.Manufacturer or ""), str(about.Model or ""), [])
        failed: Exception | None = None
        for profile in (await self._call(media, "GetProfiles") or [])[:_MAX_PROFILES]:
            try:
                known = await self._profile(media, profile)
            except Exception as error:  # of this profile, for example one that nobody has set up
                failed = failed or error
                _log.debug("%s: %s", self._address, error)
                continue
            if known:
                self.report.profiles.append(known)
        if failed and not self.report.profiles:
            raise failed

    async def _profile(self, media: Any, profile: Any) -> Profile | None:
        encoder = profile.VideoEncoderConfiguration
        if encoder is None:
            return None
        told = await self._call(media, "GetStreamUri", {"StreamSetup": _RTSP, "ProfileToken": profile.token})
        url = _clean(str(told.Uri or ""), urlsplit(self._address).hostname or "")
        if not url:
            return None
        size, limits = encoder.Resolution, encoder.RateControl
        return Profile(
            source=str(profile.VideoSourceConfiguration.SourceToken) if profile.VideoSourceConfiguration else "",
            url=url,
            codec=str(encoder.Encoding or ""),
            width=int(size.Width or 0) if size else 0,
            height=int(size.Height or 0) if size else 0,
            fps=float(limits.FrameRateLimit or 0) if limits else 0.0,
        )

    async def _clock_skew(self, device: Any) -> datetime.timedelta | None:
        """How far the camera's clock is from ours: it takes a password's digest for a few seconds only."""
        from zeep.exceptions import Error

        try:
            told = (await device.authless_GetSystemDateAndTime()).UTCDateTime
            theirs = datetime.datetime(
                told.Date.Year, told.Date.Month, told.Date.Day, told.Time.Hour, told.Time.Minute, told.Time.Second,
                tzinfo=datetime.UTC,
            )  # fmt: skip
        except (Error, AttributeError, TypeError, ValueError):
            return None
        return theirs - datetime.datetime.now(datetime.UTC)

    async def _service(self, address: str, wsdl: str, binding: str) -> Any:
        import onvif

        service = onvif.ONVIFService(
            address, self._user or None, self._password or None, str(Path(onvif.__file__).parent / "wsdl" / wsdl),
            no_cache=True, dt_diff=self._skew, binding_name=binding, read_timeout=max(1, round(self._timeout_s)),
        )  # fmt: skip
        self._services.append(service)
        await service.setup()
        return service

    async def _call(self, service: Any, name: str, parameters: dict[str, Any] | None = None) -> Any:
        return await getattr(service, name if self._user else f"authless_{name}")(parameters)


def _clean(url: str, host: str) -> str:
    """A stream's address without user and password, at the device's own host where it names none that could be reached."""
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port else ""
        named = parts.hostname or ""
    except ValueError:
        return ""
    if parts.scheme not in ("rtsp", "rtsps"):
        return ""
    try:
        ip = ipaddress.ip_address(named)
        unreachable = ip.is_unspecified or ip.is_loopback
    except ValueError:
        unreachable = not named
    place = host if unreachable else named
    place = f"[{place}]" if ":" in place else place
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{place}{port}{parts.path}{query}"
