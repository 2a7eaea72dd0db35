"""What a configuration holds once it has been read: pydantic models, frozen, unknown keys refused."""

from __future__ import annotations

__all__ = [
    "AxisLimits",
    "CameraConfig",
    "Config",
    "Control",
    "DeviceConfig",
    "HomeAssistant",
    "Http",
    "IceServerConfig",
    "Limits",
    "Log",
    "Media",
    "Mqtt",
    "Operator",
    "Telling",
    "Tls",
    "WebRtc",
]

import re
import socket
import stat
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from edgeagent.config.values import (
    HostName,
    IpAddress,
    Listen,
    ListenAddress,
    MqttUrl,
    Origin,
    PageUrl,
    Rate,
    Text,
    TurnUrl,
    UdpPorts,
    WebUrl,
    split_credentials,
)
from edgeagent.wire.control import Key
from edgeagent.wire.messages import IceServer, Name


def _secret(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("write the path of a directory")
    return Path((info.context or {}).get("folder", ".")) / value


def _switched_on(value: Any) -> Any:
    return {} if value is True else None if value is False else value


def _encrypted(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | dict | Tls):
        raise ValueError("write true for a certificate of the agent's own, or `{cert: FILE, key: FILE}`")
    return _switched_on(value)


def _or_a_switch(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "boolean"}, *schema["anyOf"]]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Secret = Annotated[SecretStr, BeforeValidator(_secret)]


DEFAULT_LISTEN = Listen("127.0.0.1", 8080)
_ONE_OR_MORE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class Section(BaseModel):
    """What every part of the file has."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class Tls(Section):
    """HTTPS, with a certificate of the agent's own or with a given one."""

    names: Annotated[list[HostName], Field(max_length=8)] = []
    """Further names and addresses for the agent's own; the device's, the host's and its addresses are in it already."""

    cert: Text | None = None
    """PEM file with the certificate and those between it and its root, of certbot fullchain.pem. Relative to this file."""

    key: Text | None = None
    """PEM file with its key, of certbot privkey.pem. Both are read again when they change."""

    @field_validator("cert", "key")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        path = Path((info.context or {}).get("folder", ".")) / value
        try:
            found = stat.S_ISREG(path.stat().st_mode)
        except PermissionError:
            found = True  # what it holds is for whoever runs the agent to see
        except (OSError, ValueError):
            found = False
        if not found:
            raise ValueError("there is no such file; write the path of a PEM file")
        return str(path)

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("write both `cert` and `key`, or `tls: true` for a certificate of the agent's own")
        if self.cert is not None and self.names:
            raise ValueError("leave out `names`: a given certificate has the names that it has")
        return self


class Http(Section):
    """The page, WHEP and snapshots."""

    tls: Annotated[Tls | None, BeforeValidator(_encrypted), Field(json_schema_extra=_or_a_switch)] = None
    """`true`: HTTPS with a certificate of the agent's own; or `{cert: FILE, key: FILE}`. Off by default."""

    token: Annotated[Secret, Field(min_length=16, max_length=200)] | None = None
    """Who knows it may watch; at least 16 characters."""

    open: bool = False
    """Whoever reaches the address may watch."""

    cors: list[Origin] = []
    """Origins of other web pages that may use WHEP and snapshots."""

    names: Annotated[list[HostName], Field(max_length=16)] = []
    """Names to open the page by without a `token`; addresses, single words and names in .local, .lan and the like need none."""

    listen: ListenAddress = Field(default=DEFAULT_LISTEN, json_schema_extra={"default": str(DEFAULT_LISTEN)})
    """Address and port. Beyond this machine it needs `token` or `open`."""

    @field_validator("open")
    @classmethod
    def _one_of_both(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("token") is not None:
            raise ValueError("write `token: …` or `open: true`, not both")
        return value

    @field_validator("listen")
    @classmethod
    def _guarded(cls, value: Listen, info: ValidationInfo) -> Listen:
        known = {"token", "open"} <= info.data.keys()  # else they are wrong by themselves
        if known and not value.loopback and info.data["token"] is None and not info.data["open"]:
            raise ValueError(
                "this address is reached from the network: add `token: …` with at least 16 characters, or `open: true` to let "
                "everyone there watch, or listen on 127.0.0.1"
            )
        return value

    @property
    def scheme(self) -> Literal["http", "https"]:
        """How the addresses of the page begin."""
        return "http" if self.tls is None else "https"


class Mqtt(Section):
    """The broker that carries presence and signaling."""

    username: Text | None = None
    """The agent's name at the broker."""

    password: Secret | None = None
    """Its password."""

    url: MqttUrl
    """mqtt://, mqtts://, ws:// or wss://; user and password may stand in it."""

    ca: Text | None = None
    """File with the certificates that the broker's is checked against; the system's by default. Relative to this file."""

    web_url: WebUrl | None = None
    """Where the page reaches the same broker: ws:// or wss://."""

    keepalive_s: Annotated[int, Field(ge=5, le=1160)] = 30
    """Seconds between signs of life; after 1.5 times as many the broker takes the agent for gone."""

    @model_validator(mode="before")
    @classmethod
    def _take_credentials(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("url"), str):
            return data
        url, user, password = split_credentials(data["url"])
        if user is None or data.get("username") is not None or data.get("password") is not None:
            return data
        return {**data, "url": url, "username": user or None, "password": password}

    @field_validator("password")
    @classmethod
    def _whose(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("username", "") is None:
            raise ValueError("a password needs a `username`")
        return value

    @field_validator("url")
    @classmethod
    def _credentials_once(cls, value: str) -> str:
        if split_credentials(value)[1] is not None:
            raise ValueError("write user and password either in `url` or as `username` and `password`")
        return value

    @field_validator("ca")
    @classmethod
    def _ca_serves(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if info.data.get("url", "").startswith(("mqtt:", "ws:")):
            raise ValueError("`ca` needs an encrypted address: write mqtts:// or wss://")
        path = Path((info.context or {}).get("folder", ".")) / value
        try:
            found = path.is_file()
        except (OSError, ValueError):
            found = False
        if not found:
            raise ValueError("there is no such file; write the path of a PEM file with CA certificates")
        return str(path)


class IceServerConfig(Section):
    """A STUN or TURN server, as W3C `RTCIceServer`."""

    username: Text | None = None
    """For TURN."""

    credential: Secret | None = None
    """For TURN."""

    urls: Annotated[list[TurnUrl], Field(min_length=1, max_length=8), BeforeValidator(_listed), WithJsonSchema(_ONE_OR_MORE)]
    """One address or a list, like stun:stun.example:3478."""

    @field_validator("urls")
    @classmethod
    def _turn_has_credentials(cls, value: list[str], info: ValidationInfo) -> list[str]:
        lacking = None in (info.data.get("username", ""), info.data.get("credential", ""))
        if lacking and any(url.startswith("turn") for url in value):
            raise ValueError("a TURN server needs `username` and `credential`")
        return value

    def wire(self) -> IceServer:
        """The same as it goes to viewers, with its credential."""
        credential = self.credential.get_secret_value() if self.credential else None
        return IceServer(urls=list(self.urls), username=self.username, credential=credential)


class WebRtc(Section):
    """How viewers reach the media."""

    ports: UdpPorts | None = None
    """Range of UDP ports, for a firewall; any free port by default."""

    hosts: Annotated[list[IpAddress], Field(max_length=8)] = []
    """Further addresses of this machine as viewers see them: for NAT and containers."""

    ice_servers: Annotated[list[IceServerConfig], Field(max_length=8)] = []
    """STUN and TURN servers; none are needed on a LAN."""


class Media(Section):
    """How pictures are sent."""

    sender: Literal["fanout", "aiortc"] = "fanout"
    """`fanout` packetises once for all viewers; `aiortc` is the library's own sender, for comparison and emergencies."""


class Limits(Section):
    """Bounds on what viewers may use."""

    uplink: Rate | None = None
    """bit/s that viewers beyond the LAN share, like 20M; no limit by default."""

    viewers: Annotated[int, Field(ge=1, le=1000)] = 64
    """How many at once."""

    offers_per_s: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 10
    """How many connections a second may begin."""


class Log(Section):
    """What the agent writes about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """From this severity on."""

    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: lines for people on a terminal and in systemd's journal, JSON otherwise."""

    loop_block_s: Annotated[float, Field(ge=0.01, le=60)] | None = None
    """Report what holds the event loop for longer than this, in seconds; off by default."""


class CameraConfig(Section):
    """One camera. In the file the driver's options stand beside `driver` and `title`."""

    driver: str
    """What makes the pictures; `edgeagent drivers` lists them."""

    title: Text = ""
    """The name that people see; the camera's own by default."""

    options: Any = None
    """An instance of the driver's `Options`."""


class AxisLimits(Section):
    """How far and how fast one axis of a device goes, whoever drives. Shares are of the way from neutral to the end of the axis."""

    top: Annotated[float, Field(ge=0.01, le=1, allow_inf_nan=False)] = 1.0
    """Largest share that is given: 0.6 makes a fast robot one for a living room."""

    expo: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """0 is straight; up to 1 it is finer around neutral."""

    dead_zone: Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)] = 0.0
    """Share around neutral that counts as neutral."""

    slew: Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)] | None = None
    """Largest change in shares a second; no limit by default."""

    invert: bool = False
    """Turn the direction round."""

    trim: Annotated[float, Field(ge=-0.5, le=0.5, allow_inf_nan=False)] = 0.0
    """Where neutral lies, for axes that hold a position."""

    reverse_delay_s: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.0
    """Seconds of rest before the axis goes the other way: for gears and motor bridges."""


class Telling(Section):
    """How often one reading is told to those who watch."""

    dead_band: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """A change smaller than this, in the reading's unit, is not worth telling; the driver's own by default. Numbers only."""

    min_interval_s: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] | None = None
    """Shortest time between two values, in seconds; 0.1 by default."""

    max_interval_s: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] | None = None
    """It is told so often, in seconds, even where it does not change; 5 by default."""


class DeviceConfig(Section):
    """One sensor or actuator. In the file the driver's options stand beside these keys."""

    driver: str
    """What reads or moves it; `edgeagent drivers` lists them."""

    title: Text = ""
    """The name that people see; the device's own by default."""

    group: Name | Literal[""] = ""
    """What moves together under one operator; `drive` by default. For what moves only."""

    interval_s: Annotated[float, Field(ge=0.01, le=86_400, allow_inf_nan=False)] | None = None
    """Seconds from one reading to the next; the driver's own by default."""

    limits: Annotated[dict[Key, AxisLimits], Field(max_length=16)] = {}
    """By axis: dead zone, expo, top speed and more."""

    telemetry: Annotated[dict[Key, Telling], Field(max_length=64)] = {}
    """By reading: from which change on, and how often, it is told to those who watch."""

    mqtt: bool = False
    """Publish its readings on the broker, where all who may read there see them."""

    options: Any = None
    """An instance of the driver's `Options`."""


class Operator(Section):
    """Who may drive and switch, from any page that reaches this machine."""

    token: Annotated[Secret, Field(min_length=16, max_length=200)]
    """What he shows; at least 16 characters, another one for each."""

    role: Literal["operate", "admin"] = "operate"
    """`admin` may also take the lease from another operator."""


class Control(Section):
    """Who may move what, and when it stops by itself."""

    expiry_ms: Annotated[int, Field(ge=100, le=2000)] = 300
    """Milliseconds that a command to move counts; without a newer one everything stops."""

    max_picture_age_ms: Annotated[int, Field(ge=0, le=10_000)] = 1000
    """Nobody drives by an older picture than this, in milliseconds; 0 turns the check off."""

    operators: Annotated[dict[Name, Operator], Field(max_length=64)] = {}
    """By name. Everyone else watches, and may stop."""

    local: Literal["admin", "operate", "watch"] | None = None
    """What a page of this machine (loopback) may do: `admin` by default, `watch` where `http.token` is set."""

    @field_validator("max_picture_age_ms")
    @classmethod
    def _not_shorter_than_a_picture(cls, value: int) -> int:
        if 0 < value < 100:
            raise ValueError("write 100 or more, or 0 to turn the check off")
        return value

    @field_validator("operators")
    @classmethod
    def _each_a_token_of_his_own(cls, value: dict[str, Operator]) -> dict[str, Operator]:
        tokens = [operator.token.get_secret_value() for operator in value.values()]
        if len(set(tokens)) < len(tokens):
            raise ValueError("two operators have the same token; give each one of his own")
        return value


class HomeAssistant(Section):
    """Show sensors, switches and lights to Home Assistant, by way of the broker."""

    prefix: Name = "homeassistant"
    """Its discovery prefix."""

    allow: Annotated[list[Name], Field(max_length=64)] = []
    """Devices that move and that it may command all the same, by name."""

    cameras: Annotated[list[Name], Field(max_length=32)] = []
    """Cameras of which it gets a small still picture every ten seconds, by name; each is opened for that."""

    url: PageUrl | None = None
    """Where people reach the page, for the link to it; by default `http.listen`, where that is an address of the network."""


def default_device() -> str:
    """The host's name, made a valid one."""
    name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower())[:64].strip("-")
    return name or "edgeagent"


class Config(Section):
    """The whole file."""

    device: Annotated[Name, BeforeValidator(_secret), Field(default_factory=default_device)]
    """This machine's name in addresses and topics: a-z, 0-9 and hyphens; the host's name by default."""

    title: Text = ""
    """The name that people see."""

    http: Http = Field(default_factory=Http)
    mqtt: Mqtt | None = None
    join: bool = False
    """While this board belongs to no site: look for a site's code before its own cameras, and say in the network that it waits."""

    webrtc: WebRtc = Field(default_factory=WebRtc)
    media: Media = Field(default_factory=Media)
    limits: Limits = Field(default_factory=Limits)
    log: Log = Field(default_factory=Log)

    cameras: Annotated[dict[Name, CameraConfig], Field(max_length=32)] = {}
    """The cameras by name: a-z, 0-9 and hyphens."""

    drivers_dir: Annotated[Path, BeforeValidator(_beside_the_file)] | None = None
    """Directory with your own drivers, a file each; relative to this file. Refused where others may write to it."""

    devices: Annotated[dict[Name, DeviceConfig], Field(max_length=64)] = {}
    """Sensors and actuators by name: a-z, 0-9 and hyphens."""

    control: Control = Field(default_factory=Control)

    home_assistant: Annotated[HomeAssistant | None, BeforeValidator(_switched_on), Field(json_schema_extra=_or_a_switch)] = None
    """`true`, or more: show everything to Home Assistant. Off by default."""

    @field_validator("mqtt")
    @classmethod
    def _reached_by_the_page(cls, value: Mqtt | None, info: ValidationInfo) -> Mqtt | None:
        http: Http | None = info.data.get("http")
        if value is None or http is None or http.tls is None or not (value.web_url or "").startswith("ws:"):
            return value
        # Browsers make an exception for brokers on their own machine.
        if not Listen(urlsplit(value.web_url or "").hostname or "", 0).loopback:
            raise ValueError(
                "`web_url` needs wss://: the page comes over HTTPS (http.tls), and from there browsers reach no ws:// broker; or "
                "leave it out, and the page does without the broker"
            )
        return value

    @field_validator("devices")
    @classmethod
    def _told_where(cls, value: dict[str, DeviceConfig], info: ValidationInfo) -> dict[str, DeviceConfig]:
        if "mqtt" in info.data and info.data["mqtt"] is None and (name := next((n for n, d in value.items() if d.mqtt), None)):
            raise ValueError(f"`mqtt: true` of {name} needs a broker: add a section `mqtt: {{url: …}}`")
        return value

    @field_validator("home_assistant")
    @classmethod
    def _known_to_home(cls, value: HomeAssistant | None, info: ValidationInfo) -> HomeAssistant | None:
        if value is None:
            return None
        if "mqtt" in info.data and info.data["mqtt"] is None:
            raise ValueError("Home Assistant is reached by way of a broker: add a section `mqtt: {url: …}`")
        for key, section in (("allow", "devices"), ("cameras", "cameras")):
            for name in getattr(value, key):
                if section in info.data and name not in info.data[section]:
                    raise ValueError(f"`{key}` names {name}, but there is no such entry below `{section}`; write one that there is")
        return value

    @field_validator("control")
    @classmethod
    def _watching_is_not_driving(cls, value: Control, info: ValidationInfo) -> Control:
        http: Http | None = info.data.get("http")
        token = http.token.get_secret_value() if http and http.token else None
        if any(operator.token.get_secret_value() == token for operator in value.operators.values()):
            raise ValueError("an operator has the token of `http`, by which everybody watches; give him one of his own")
        return value

    def page_names(self) -> list[str]:
        """Names by which people reach the page, as the file says in one place or another."""
        url = self.home_assistant.url if self.home_assistant else None
        return [*self.http.names, *([urlsplit(url).hostname or ""] if url else [])]

    def secrets(self) -> list[str]:
        """Every secret in the file, for the log's filter; drivers name theirs by `Camera.secrets`."""
        found = [self.http.token, self.mqtt.password if self.mqtt else None, *(s.credential for s in self.webrtc.ice_servers)]
        found += [operator.token for operator in self.control.operators.values()]
        return [secret.get_secret_value() for secret in found if secret is not None]
