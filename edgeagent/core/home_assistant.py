"""What Home Assistant is told of this agent: MQTT discovery of a device with its components (its "device discovery").

    here                                                       there
    ────────────────────────────────────────────────────────── ─────────────────────────────────────────────────────────────
    reading: number or text                                    sensor; flag: binary_sensor
    command with one argument that must be given, a bool       switch; light where the device's icon is `light`
    … and beside it one that takes `brightness`                light that can be dimmed
    command that may be called without arguments               button; disabled at first where it is marked as dangerous
    camera that the owner has named                            camera: a still picture now and then
    set-points, other commands                                 nothing

What moves has no switches and buttons unless the owner has allowed it by name. A flag that a switch shows is no sensor besides.
Everything is one device of Home Assistant; where it does not fit into one message of MQTT, there are several.
"""

from __future__ import annotations

__all__ = ["BINARY_CLASSES", "SENSOR_CLASSES", "Document", "Home", "documents", "is_document_topic", "may_command", "status_topic"]

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgeagent.wire import topics
from edgeagent.wire.control import CommandInfo, DeviceInfo, ReadingInfo
from edgeagent.wire.home import HomeCommand

Document: TypeAlias = dict[str, Any]
SENDER = "home-assistant"
"""Who the commands come from: the last level of their topic."""
MAX_BYTES = 60_000
"""Of one document; a message of the portable profile has at most 64 kB."""

_LENGTHS = frozenset({"mm", "cm", "m", "km"})
_PRESSURES = frozenset({"Pa", "hPa", "kPa", "bar", "mbar"})
SENSOR_CLASSES: dict[str, frozenset[str]] = {
    "atmospheric_pressure": _PRESSURES,
    "battery": frozenset({"%"}),
    "carbon_dioxide": frozenset({"ppm"}),
    "current": frozenset({"mA", "A"}),
    "distance": _LENGTHS,
    "duration": frozenset({"ms", "s", "min", "h", "d"}),
    "energy": frozenset({"Wh", "kWh"}),
    "frequency": frozenset({"Hz", "kHz", "MHz", "GHz"}),
    "humidity": frozenset({"%"}),
    "illuminance": frozenset({"lx"}),
    "moisture": frozenset({"%"}),
    "power": frozenset({"mW", "W", "kW"}),
    "pressure": _PRESSURES,
    "signal_strength": frozenset({"dB", "dBm"}),
    "sound_pressure": frozenset({"dB"}),
    "speed": frozenset({"m/s", "km/h"}),
    "temperature": frozenset({"°C", "°F", "K"}),
    "voltage": frozenset({"mV", "V"}),
    "weight": frozenset({"g", "kg"}),
}
"""Home Assistant's classes of sensors with the units it takes. It refuses a sensor with another: then its class is left out."""
BINARY_CLASSES = frozenset(
    {
        *(
            "battery",
            "battery_charging",
            "carbon_monoxide",
            "cold",
            "connectivity",
            "door",
            "garage_door",
            "gas",
            "heat",
            "light",
            "lock",
            "moisture",
        ),
        *(
            "motion",
            "moving",
            "occupancy",
            "opening",
            "plug",
            "power",
            "presence",
            "problem",
            "running",
            "safety",
            "smoke",
            "sound",
            "tamper",
            "vibration",
            "window",
        ),
    }
)
"""The same of binary sensors."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Home:
    """How this agent shows itself to Home Assistant.

    Attributes:
        device: The agent's name on the broker.
        title: Its name for people.
        version: Of edgeagent.
        prefix: Where Home Assistant listens.
        allow: Devices that move and may be commanded all the same.
        cameras: Titles by the names of the cameras whose still pictures are shown.
        url: Where people reach the page; "" where unknown.
        classes: Device classes by device and reading, as the drivers name them.
    """

    device: str
    title: str = ""
    version: str = ""
    prefix: str = "homeassistant"
    allow: frozenset[str] = frozenset()
    cameras: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    classes: Mapping[tuple[str, str], str] = field(default_factory=dict)


def status_topic(home: Home) -> str:
    """Where Home Assistant says `online` when it has started, `offline` when it is gone."""
    return f"{home.prefix}/status"


def is_document_topic(topic: str, device: str) -> bool:
    """Whether this agent, and no other, announces itself there, under whatever prefix."""
    return re.fullmatch(rf"[a-z0-9-]{{1,64}}/device/ea-{re.escape(device)}(_[0-9]{{1,3}})?/config", topic, re.ASCII) is not None


def may_command(home: Home, device: DeviceInfo) -> bool:
    """Whether Home Assistant may call commands of this device."""
    return not device.moves or device.name in home.allow


def documents(home: Home, devices: Iterable[DeviceInfo]) -> dict[str, Document]:
    """The discovery messages by their topics; none where there is nothing to show."""
    components: dict[str, Document] = {}
    for info in devices:
        components |= _components(home, info)
    for camera, title in home.cameras.items():
        components[f"{camera}_still"] = _camera(home, camera, title)
    pages: list[dict[str, Document]] = []
    size = MAX_BYTES
    for name, component in components.items():
        more = len(json.dumps(component).encode()) + len(name) + 8
        if size + more > MAX_BYTES:
            pages.append({})
            size = 2_000  # the rest of the document
        pages[-1][name] = component
        size += more
    shown = {
        "ids": [f"edgeagent_{home.device}"],
        "name": home.title or home.device,
        "mf": "edgeagent",
        "sw": home.version,
        **({"cu": home.url} if home.url else {}),
    }
    return {
        f"{home.prefix}/device/ea-{home.device}{f'_{number}' if number > 1 else ''}/config": {
            "dev": shown,
            "o": {"name": "edgeagent", "sw": home.version},
            "cmps": page,
        }
        for number, page in enumerate(pages, 1)
    }


# Components

_UP = "{{ 'online' if value_json.up == 1 else 'offline' }}"
_LIVE = "{{ 'online' if value_json.live else 'offline' }}"


def _components(home: Home, info: DeviceInfo) -> dict[str, Document]:
    calls = info.commands if may_command(home, info) else []
    switches = [(command, argument) for command in calls if (argument := _switched(command))]
    flags = {reading.name for reading in info.readings if reading.kind == "flag"}
    dim = _dimmed(info, calls)
    out: dict[str, Document] = {}
    shown: set[str] = set()
    for command, argument in switches:
        alone = len(switches) == 1
        state = argument if argument in flags and argument not in shown else None
        shown |= {state} if state else set()
        light = info.icon == "light" and alone
        name = _title(info) if alone else f"{_title(info)} {command.title or command.name}"
        part = _light(info, command, argument, state, dim) if light else _switch(info, command, argument, state)
        if light and dim:
            shown.add(dim[1].name)
        out[f"{info.name}_c_{command.name}"] = _common(home, info, name, state is not None) | part | _inbox(home)
    for command in calls:
        if not _switched(command) and not command.arguments.get("required"):
            name = f"{_title(info)} {command.title or command.name}"
            part = {"p": "button", "pl_prs": _call(info, command, {})} | ({"en": False} if command.danger else {})
            out[f"{info.name}_c_{command.name}"] = _common(home, info, name, False) | part | _inbox(home)
    for reading in info.readings:
        if reading.name not in shown:
            name = f"{_title(info)} {reading.title or reading.name}"
            part = _reading(reading, home.classes.get((info.name, reading.name), ""))
            out[f"{info.name}_r_{reading.name}"] = _common(home, info, name, True) | part
    return {key: {**part, "uniq_id": f"ea_{home.device}_{key}"} for key, part in out.items()}


def _common(home: Home, info: DeviceInfo, name: str, state: bool) -> Document:
    told = topics.readings(home.device, info.name)
    return {
        "name": name,
        "avty": [{"t": topics.up(home.device), "val_tpl": _UP}, {"t": told, "val_tpl": _LIVE}],
        "avty_mode": "all",
        **({"stat_t": told} if state else {}),
    }


def _reading(reading: ReadingInfo, device_class: str) -> Document:
    value = {"val_tpl": f"{{{{ {_value(reading.name)} }}}}"}
    if reading.kind == "flag":
        shown = {"dev_cla": device_class} if device_class in BINARY_CLASSES else {}
        return {"p": "binary_sensor", **value, "pl_on": "True", "pl_off": "False", **shown}
    if reading.kind == "text":
        return {"p": "sensor", **value}
    fits = reading.unit in SENSOR_CLASSES.get(device_class, ())
    return {
        "p": "sensor",
        **value,
        "stat_cla": "measurement",
        "sug_dsp_prc": reading.digits,
        **({"unit_of_meas": reading.unit} if reading.unit else {}),
        **({"dev_cla": device_class} if fits else {}),
    }


def _switch(info: DeviceInfo, command: CommandInfo, argument: str, state: str | None) -> Document:
    calls = {"pl_on": _call(info, command, {argument: True}), "pl_off": _call(info, command, {argument: False})}
    shown = {"val_tpl": f"{{{{ {_value(state)} }}}}", "stat_on": "True", "stat_off": "False"} if state else {}
    return {"p": "switch", **calls, **shown}


def _light(
    info: DeviceInfo, command: CommandInfo, argument: str, state: str | None, dim: tuple[CommandInfo, ReadingInfo] | None
) -> Document:
    on = _call(info, command, {argument: True})
    shown: Document = {}
    if state:
        shown["stat_tpl"] = f"{{{{ {{true: 'on', false: 'off'}}.get({_value(state)}) }}}}"
    if dim:
        how, reading = dim
        most = how.arguments["properties"]["brightness"]["maximum"]
        scaled = f"{{{{ (brightness * {most} / 255) | round(2) }}}}"
        dimmed = _call(info, how, {"brightness": 0}).replace('"brightness":0', f'"brightness":{scaled}')
        on = f"{{% if brightness is defined %}}{dimmed}{{% else %}}{on}{{% endif %}}"
        shown["bri_tpl"] = f"{{{{ ({_value(reading.name, 0)} * 255 / {reading.maximum}) | round(0) | int }}}}"
    return {
        "p": "light",
        "schema": "template",
        "cmd_on_tpl": on,
        "cmd_off_tpl": _call(info, command, {argument: False}),
        **shown,
    }


def _camera(home: Home, camera: str, title: str) -> Document:
    page = {"page": f"{home.url.rstrip('/')}/#{camera}"} if home.url else {}
    return {
        "p": "camera",
        "name": title or camera,
        "uniq_id": f"ea_{home.device}_{camera}_still",
        "t": topics.still(home.device, camera),
        "avty": [{"t": topics.up(home.device), "val_tpl": _UP}],
        **({"json_attr_t": topics.up(home.device), "json_attr_tpl": json.dumps(page)} if page else {}),
    }


def _inbox(home: Home) -> Document:
    return {"cmd_t": topics.device_inbox(home.device, SENDER), "qos": 1}


def _call(info: DeviceInfo, command: CommandInfo, args: Mapping[str, Any]) -> str:
    return HomeCommand(device=info.name, command=command.name, args=dict(args)).model_dump_json()


def _value(reading: str, default: float | None = None) -> str:
    return f"value_json.readings.get('{reading}'{'' if default is None else f', {default}'})"


def _title(info: DeviceInfo) -> str:
    return info.title or info.name


def _switched(command: CommandInfo) -> str | None:
    """The argument of a command that switches something on or off: the only one that must be given."""
    required = command.arguments.get("required", [])
    if len(required) != 1 or command.arguments["properties"][required[0]].get("type") != "boolean":
        return None
    return str(required[0])


def _dimmed(info: DeviceInfo, calls: Iterable[CommandInfo]) -> tuple[CommandInfo, ReadingInfo] | None:
    """The command that sets `brightness` from 0 up, and the reading that tells it."""
    reading = next((reading for reading in info.readings if reading.name == "brightness" and reading.maximum), None)
    for command in calls if reading else ():
        if command.arguments.get("required") == ["brightness"]:
            argument = command.arguments["properties"]["brightness"]
            if argument.get("type") == "number" and argument.get("minimum") == 0 and argument.get("maximum", 0) > 0:
                assert reading is not None
                return command, reading
    return None
