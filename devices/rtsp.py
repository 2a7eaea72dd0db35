"""Driver `rtsp`: an IP camera, its H.264 passed through untouched, and where allowed anything else encoded here.

The client is our own: nothing is probed, since size and parameter sets stand in the SDP, and a picture leaves with its last
packet; libav's parser would hold each one back until the next began (34 ms at 30 frames a second, 67 at 15).
"""

from __future__ import annotations

__all__ = ["RtspCamera"]

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from edgeagent.drivers import Bitrate, Camera, CameraIO, Capabilities, DeviceFault, Found, PictureSize
from edgeagent_devices._rtsp_session import Trust
from edgeagent_devices._rtsp_several import play_together
from edgeagent_devices._rtsp_sinks import Rendition
from edgeagent_devices._rtsp_stream import LOW, MAIN, SUB, Settings, Stream
from edgeagent_devices._rtsp_wire import Address

if TYPE_CHECKING:
    from edgeagent_devices._onvif import Profile


_SAY_WHY_S = 1.0  # so much later than the session, which knows the reason, the agent finds the camera silent


class LowOptions(BaseModel, extra="forbid"):
    """The small picture that is made while somebody with a bad connection watches."""

    size: PictureSize = Field(default=(640, 360), description="Largest size")
    fps: float = Field(default=15.0, ge=1, le=60, description="Most frames a second")
    bitrate: Bitrate = Field(default=400_000, description="Rate to begin with")


class TranscodeOptions(BaseModel, extra="forbid"):
    """How pictures are encoded here."""

    size: PictureSize = Field(default=(1920, 1080), description="Largest size of what browsers could not show otherwise")
    fps: float = Field(default=30.0, ge=1, le=60, description="Most frames a second")
    bitrate: Bitrate = Field(default=2_000_000, description="Rate to begin with, like 2M")
    low: LowOptions = Field(default_factory=LowOptions, description="The small picture for bad connections")


def _yes_or_no(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict | TranscodeOptions):
        raise ValueError("write true, false, or settings below it")
    return value


def _true_is_allowed(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "boolean"}, *(part for part in schema["anyOf"] if part.get("type") != "null")]
    schema["default"] = False


class RtspCamera(Camera):
    """Plays an IP camera by RTSP."""

    summary: ClassVar[str] = "An IP camera (RTSP), its H.264 passed through untouched"
    networked: ClassVar[bool] = True

    class Options(BaseModel, extra="forbid", hide_input_in_errors=True):
        """The keys of an `rtsp` camera."""

        url: str = Field(description="Like rtsp://192.168.1.20:554/stream1; rtsps:// is encrypted")
        sub: str | None = Field(default=None, description="Address of the camera's smaller stream, for slow connections")
        transcode: Annotated[TranscodeOptions | None, BeforeValidator(_yes_or_no)] = Field(
            default=None,
            description="Encode here what browsers do not show (H.265, MJPEG, B-frames), and a small picture for bad connections: "
            "true, or what is to be otherwise",
            json_schema_extra=_true_is_allowed,
        )
        transport: Literal["tcp", "udp"] = Field(default="tcp", description="udp only where the camera has no tcp")
        on_demand: bool = Field(default=False, description="Open the camera only while somebody watches")
        username: str = Field(default="", description="Where it does not stand in the URL")
        password: SecretStr = Field(default=SecretStr(""), description="Where it does not stand in the URL")
        timeout_s: float = Field(default=5.0, ge=1, le=60, description="Seconds that the camera may be silent")
        ca: Path | None = Field(
            default=None,
            description="For rtsps: file with the certificates that the camera's is checked against; the system's by default",
        )
        insecure: bool = Field(default=False, description="For rtsps: believe any certificate")

        @field_validator("url", "sub")
        @classmethod
        def _address(cls, url: str | None) -> str | None:
            if url is not None:
                Address.parse(url)
            return url

        @field_validator("ca")
        @classmethod
        def _beside_the_configuration(cls, path: Path | None, info: ValidationInfo) -> Path | None:
            if path is None:
                return None
            path = Path((info.context or {}).get("folder", ".")) / path
            try:
                found = path.is_file()
            except (OSError, ValueError):
                found = False
            if not found:
                raise ValueError("there is no such file; write the path of a PEM file with certificates")
            return path

        @model_validator(mode="after")
        def _fits_together(self) -> RtspCamera.Options:
            secure = [Address.parse(url).secure for url in (self.url, self.sub) if url]
            if (self.ca or self.insecure) and not any(secure):
                raise ValueError("`ca` and `insecure` need an encrypted address: write rtsps://")
            if self.ca and self.insecure:
                raise ValueError("write `ca` or `insecure: true`, not both")
            if any(secure) and self.transport == "udp":
                raise ValueError("an encrypted address (rtsps://) needs `transport: tcp`")
            return self

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self.stall_s = options.timeout_s + _SAY_WHY_S
        self._streams = self._make_streams()

    @property
    def capabilities(self) -> Capabilities:
        """It is kept open, because opening takes up to a GOP. Nothing can be asked of an IP camera while it plays; layers that are
        encoded here say so by `StreamInfo.encoded`, since only the open camera tells its codec."""
        layers = [stream.layer for stream in self._streams] + ([LOW] if self.options.transcode is not None else [])
        return Capabilities(layers=tuple(layers), always_on=not self.options.on_demand)

    def run(self, io: CameraIO) -> None:
        """Deliver the camera's pictures until `io.stopping`."""
        if len(self._streams) == 1:
            self._streams[0].play(io)
        else:
            play_together(self._streams, io, self.name)

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        """The ONVIF cameras of this network; most tell their streams only to a user, by `ask`."""
        from edgeagent_devices import _onvif

        found: list[Found] = []
        for device in _onvif.search(timeout_s):
            title = " ".join(filter(None, (device.name, device.model if device.model != device.name else "")))
            known = Found(f"{title or 'Camera'} ({device.host})", ask=device.address)
            try:
                found += cls.ask(known, "", "", timeout_s)
            except _onvif.Refused:
                found.append(known)
            except DeviceFault as fault:
                found.append(dataclasses.replace(known, ask="", remarks=(fault.message,)))
        return found

    @classmethod
    def ask(cls, found: Found, user: str, password: str, timeout_s: float = 3.0) -> Sequence[Found]:
        """The streams of an ONVIF device, one camera for each of its lenses or inputs."""
        from edgeagent_devices import _onvif

        report = _onvif.ask(found.ask, user, password, timeout_s)
        sources: dict[str, list[_onvif.Profile]] = {}
        for profile in report.profiles:
            sources.setdefault(profile.source, []).append(profile)
        if not sources:
            return (dataclasses.replace(found, ask="", remarks=("It names no RTSP stream.",)),)
        name = " ".join(filter(None, (report.maker, report.model))) or found.title
        host = urlsplit(found.ask).hostname
        return [
            _suggest(f"{name} ({host}{f', input {number}' if len(sources) > 1 else ''})", profiles, user)
            for number, profiles in enumerate(sources.values(), 1)
        ]

    def secrets(self) -> Sequence[str]:
        """The passwords, plain and as they stand in URLs, and what looks like one in the query."""
        urls = [url for url in (self.options.url, self.options.sub) if url]
        query = [
            value for url in urls for key, value in parse_qsl(urlsplit(url).query) if "pass" in key.lower() or "pwd" in key.lower()
        ]
        passwords = [address.password for address in self._addresses().values()]
        return [text for plain in (*passwords, *query) if plain for text in {plain, quote(plain), quote(plain, safe="")}]

    def _addresses(self) -> dict[str, Address]:
        """By layer; the smaller stream takes user and password from the larger one's address where it has none."""
        options = self.options
        main = Address.parse(options.url, options.username, options.password.get_secret_value())
        if options.sub is None:
            return {MAIN: main}
        sub = Address.parse(options.sub, options.username, options.password.get_secret_value())
        return {MAIN: main, SUB: sub if sub.user else Address.parse(options.sub, main.user, main.password)}

    def _make_streams(self) -> list[Stream]:
        options = self.options
        encoded = low = None
        if (how := options.transcode) is not None:
            encoded = Rendition(how.size, how.fps, how.bitrate)
            low = Rendition(how.low.size, how.low.fps, how.low.bitrate)
        addresses = self._addresses()
        smallest = list(addresses)[-1]
        return [
            Stream(
                self.name,
                layer,
                address,
                Settings(
                    udp=options.transport == "udp",
                    timeout_s=options.timeout_s,
                    trust=Trust(options.ca, options.insecure and address.secure),
                    encoded=encoded,
                    low=low if layer == smallest else None,
                ),
            )
            for layer, address in addresses.items()
        ]


def _suggest(title: str, profiles: Sequence[Profile], user: str) -> Found:
    """The options for one source: its largest stream and its smallest, H.264 before others."""
    ranked = sorted(profiles, key=lambda one: (one.codec != "H264", -one.width * one.height))
    main = ranked[0]
    smaller = [one for one in ranked if one.codec == main.codec and one.url != main.url and one.width < main.width]
    sub = smaller[-1] if smaller else None
    options: dict[str, Any] = {"url": main.url}
    remarks = [f"Its main stream: {_describe(main)}."]
    if sub:
        options["sub"] = sub.url
        remarks.append(f"Its sub stream: {_describe(sub)}.")
    if user:
        options["username"] = user
    if main.codec != "H264":
        options["transcode"] = True
        remarks.append("Browsers do not show this codec: better set it to H.264 in the camera and leave `transcode` out.")
    return Found(title, options, remarks)


def _describe(profile: Profile) -> str:
    parts = [profile.codec.replace("H26", "H.26")]
    if profile.width:
        parts.append(f"{profile.width}x{profile.height}")
    if profile.fps:
        parts.append(f"{profile.fps:g} frames a second")
    return ", ".join(filter(None, parts)) or "not described"
