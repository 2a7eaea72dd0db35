"""What Home Assistant is told, as pure documents; tests/rootfs has Home Assistant itself read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeagent.core.home_assistant import MAX_BYTES, Document, Home, documents, is_document_topic, may_command, status_topic
from edgeagent.wire.codec import decode_home_command
from edgeagent.wire.control import AxisInfo, CommandInfo, DeviceInfo, ReadingInfo

ON = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
NONE: dict[str, Any] = {"type": "object", "properties": {}}
DIM = {
    "type": "object",
    "properties": {"brightness": {"type": "number", "minimum": 0, "maximum": 100}},
    "required": ["brightness"],
}
IS_ON = ReadingInfo(name="on", kind="flag")
BRIGHTNESS = ReadingInfo(name="brightness", unit="%", maximum=100)
LAMP = DeviceInfo(name="lamp", title="Lamp", readings=[IS_ON], commands=[CommandInfo(name="switch", arguments=ON)])
STRIP = DeviceInfo(
    name="strip",
    icon="light",
    readings=[IS_ON, BRIGHTNESS],
    commands=[CommandInfo(name="switch", arguments=ON), CommandInfo(name="dim", arguments=DIM)],
)
GATE = DeviceInfo(
    name="gate",
    moves=True,
    group="drive",
    axes=[AxisInfo(name="throttle")],
    readings=[ReadingInfo(name="angle", unit="°")],
    commands=[
        CommandInfo(name="open", title="Open", arguments=NONE),
        CommandInfo(name="turn", arguments={**DIM, "required": ["brightness"]}),
        CommandInfo(name="reset", arguments=NONE, danger=True),
        CommandInfo(name="lights", arguments=ON),
    ],
)
HOME = Home(device="porch", title="Front porch", version="1.2")


def components(*devices: DeviceInfo, home: Home = HOME) -> dict[str, Document]:
    (document,) = documents(home, devices).values()
    parts: dict[str, Document] = document["cmps"]
    return parts


def test_the_document() -> None:
    ((topic, document),) = documents(HOME, [LAMP]).items()
    assert topic == "homeassistant/device/ea-porch/config"
    assert is_document_topic(topic, "porch")
    assert document["dev"] == {"ids": ["edgeagent_porch"], "name": "Front porch", "mf": "edgeagent", "sw": "1.2"}
    assert document["o"] == {"name": "edgeagent", "sw": "1.2"}
    assert documents(HOME, []) == {}


def test_a_switch_is_commanded_and_tells_its_state() -> None:
    (lamp,) = components(LAMP).values()
    assert (lamp["p"], lamp["name"], lamp["uniq_id"]) == ("switch", "Lamp", "ea_porch_lamp_c_switch")
    assert (lamp["cmd_t"], lamp["stat_t"]) == ("ea/1/d/porch/in/home-assistant", "ea/1/d/porch/r/lamp")
    for payload, on in ((lamp["pl_on"], True), (lamp["pl_off"], False)):
        command = decode_home_command(payload)
        assert (command.device, command.command, command.args) == ("lamp", "switch", {"on": on})
    assert [one["t"] for one in lamp["avty"]] == ["ea/1/d/porch/up", "ea/1/d/porch/r/lamp"]


def test_a_switch_whose_state_nobody_tells_has_none() -> None:
    (lamp,) = components(LAMP.model_copy(update={"readings": []})).values()
    assert lamp["p"] == "switch"
    assert "stat_t" not in lamp
    assert "val_tpl" not in lamp


def test_a_light_that_can_be_dimmed() -> None:
    parts = components(STRIP)
    assert parts.keys() == {"strip_c_switch"}, "brightness and on are the light's own"
    light = parts["strip_c_switch"]
    assert (light["p"], light["schema"]) == ("light", "template")
    assert '"command":"dim"' in light["cmd_on_tpl"]
    assert '"command":"switch"' in light["cmd_on_tpl"]
    assert {"bri_tpl", "stat_tpl", "cmd_off_tpl"} <= light.keys()


def test_what_moves_is_only_read_unless_it_is_allowed_by_name() -> None:
    assert components(GATE).keys() == {"gate_r_angle"}
    assert not may_command(HOME, GATE)
    allowed = Home(device="porch", allow=frozenset({"gate"}))
    assert may_command(allowed, GATE)
    parts = components(GATE, home=allowed)
    assert {name: part["p"] for name, part in parts.items()} == {
        "gate_c_open": "button",
        "gate_c_reset": "button",
        "gate_c_lights": "switch",
        "gate_r_angle": "sensor",
    }
    assert parts["gate_c_reset"]["en"] is False
    assert "en" not in parts["gate_c_open"]


@pytest.mark.parametrize(
    ("reading", "named", "shown"),
    [
        (ReadingInfo(name="t", unit="°C"), "temperature", "temperature"),
        (ReadingInfo(name="t", unit="%"), "temperature", None),  # Home Assistant would refuse the sensor
        (ReadingInfo(name="t", unit="°C"), "motion", None),
        (ReadingInfo(name="t", unit="°C"), "", None),
        (ReadingInfo(name="t", kind="flag"), "motion", "motion"),
        (ReadingInfo(name="t", kind="flag"), "temperature", None),
        (ReadingInfo(name="t", kind="text"), "temperature", None),
    ],
)
def test_a_device_class_only_where_it_fits(reading: ReadingInfo, named: str, shown: str | None) -> None:
    home = Home(device="porch", classes={("garden", "t"): named})
    (part,) = components(DeviceInfo(name="garden", readings=[reading]), home=home).values()
    assert part.get("dev_cla") == shown
    assert part["p"] == ("binary_sensor" if reading.kind == "flag" else "sensor")


def test_cameras_and_the_pages_address() -> None:
    home = Home(device="porch", cameras={"door": ""}, url="http://porch.local:8080/", prefix="ha")
    ((topic, document),) = documents(home, []).items()
    assert topic.startswith("ha/device/")
    assert document["dev"]["cu"] == "http://porch.local:8080/"
    (camera,) = document["cmps"].values()
    assert (camera["p"], camera["t"], camera["name"]) == ("camera", "ea/1/d/porch/still/door", "door")
    assert json.loads(camera["json_attr_tpl"]) == {"page": "http://porch.local:8080/#door"}
    assert status_topic(home) == "ha/status"


def test_very_many_components_go_in_several_messages_of_one_device() -> None:
    names = [f"sensor-{number}" for number in range(64)]
    devices = [DeviceInfo(name=n, title="ä" * 60, readings=[ReadingInfo(name=f"r{i}") for i in range(8)]) for n in names]
    found = documents(HOME, devices)
    assert len(found) > 1
    assert all(is_document_topic(topic, "porch") for topic in found)
    assert all(len(json.dumps(document).encode()) <= MAX_BYTES + 2_000 for document in found.values())
    assert sum(len(document["cmps"]) for document in found.values()) == 64 * 8
    assert len({json.dumps(document["dev"]) for document in found.values()}) == 1


@pytest.mark.parametrize(
    "topic",
    [
        "homeassistant/device/ea-porch-2/config",
        "homeassistant/device/ea-yard/config",
        "homeassistant/device/ea-porch/config/more",
        "a/b/device/ea-porch/config",
        "ea/1/d/porch/up",
        "",
    ],
)
def test_what_is_not_ours_is_never_taken_back(topic: str) -> None:
    assert not is_document_topic(topic, "porch")
