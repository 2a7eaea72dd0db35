"""The configuration: what it takes, what it says to what it does not take, and that nothing else can happen."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from edgeagent.config import AxisLimits, Config, Control, Drivers, Listen, PortRange, load
from edgeagent.config.schema import schema
from edgeagent.drivers import (
    Actuator,
    Axis,
    Bitrate,
    Camera,
    Driver,
    PictureSize,
    Reading,
    Readings,
    Sensor,
    registry,
    skeleton,
)
from edgeagent.errors import ConfigError, ConfigProblem, DeviceFault

ROOT = Path(__file__).parents[1]


class Rtsp(BaseModel, extra="forbid"):
    url: str = Field(description="The camera's rtsp:// address")
    fps: float = Field(default=30, ge=1)
    size: PictureSize = (1280, 720)
    bitrate: Bitrate = 3_000_000
    title: str = ""


class Fragile(BaseModel):
    mood: str = ""

    @field_validator("mood")
    @classmethod
    def _check(cls, value: str) -> str:
        raise RuntimeError("driver's own bug")


def options(driver: str) -> type[BaseModel] | None:
    if driver == "broken":
        raise DeviceFault("The driver `broken` cannot be loaded.", retry=False)
    known: dict[str, type[BaseModel]] = {"rtsp": Rtsp, "fragile": Fragile}
    return known.get(driver)


DRIVERS = Drivers(["rtsp", "fragile", "broken"], options)
CAMERA = '\ncameras: {gate: {driver: rtsp, url: "rtsp://192.0.2.1/"}}'


def good(text: str, **variables: str) -> Config:
    return load(text + CAMERA, variables, DRIVERS)


def problems(text: str | Path, **variables: str) -> dict[str, str]:
    """Texts of the problems by their path."""
    with pytest.raises(ConfigError) as caught:
        load(text, variables, DRIVERS)
    assert str(caught.value)
    return {problem.path: str(problem) for problem in caught.value.problems}


def problem(text: str, path: str, **variables: str) -> str:
    """The text of the only problem, which must be at `path`."""
    found = problems(text + CAMERA, **variables)
    assert list(found) == [path]
    return found[path]


def test_the_file_of_the_readme() -> None:
    config = load(
        """
        device: porch
        http: {listen: "127.0.0.1:8080"}
        mqtt: {url: "mqtt://127.0.0.1:1883"}
        webrtc: {ports: 50000-50099, hosts: []}
        limits: {uplink: 20M}
        cameras:
          gate: {driver: rtsp, url: "rtsp://127.0.0.1:8554/gate", title: The gate}
          yard: {driver: rtsp, url: "rtsp://127.0.0.1:8554/yard", size: 640x360, bitrate: 800k}
        """,
        {},
        DRIVERS,
    )
    assert config.device == "porch"
    assert config.http.listen == Listen("127.0.0.1", 8080)
    assert config.mqtt is not None and config.mqtt.url == "mqtt://127.0.0.1:1883"
    assert config.webrtc.ports == PortRange(50000, 50099)
    assert config.limits.uplink == 20_000_000
    assert list(config.cameras) == ["gate", "yard"]
    assert config.cameras["gate"].title == "The gate"
    assert config.cameras["gate"].options.title == "The gate"  # a driver that has a title of its own is told
    assert config.cameras["yard"].options == Rtsp(url="rtsp://127.0.0.1:8554/yard", size=(640, 360), bitrate=800_000)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Front_Door.local")
    config = good("")
    assert config.device == "front-door"
    assert (config.http.listen, config.http.open, config.http.token, config.http.cors) == (
        Listen("127.0.0.1", 8080),
        False,
        None,
        [],
    )
    assert config.mqtt is None
    assert config.webrtc.ports is None and config.webrtc.hosts == [] and config.webrtc.ice_servers == []
    assert (config.media.sender, config.limits.uplink, config.limits.viewers, config.limits.offers_per_s) == (
        "fanout",
        None,
        64,
        10,
    )
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_everything_wrong_is_said_at_once() -> None:
    found = problems(
        """
        devce: porch
        http: {listen: "0.0.0.0:8080", tokn: abcdefgh}
        limits: {viewers: none, uplink: lots}
        cameras:
          gate: {driver: rtps, url: "rtsp://u:p@h/"}
          yard: {driver: rtsp, fps: 0, urll: x}
          Old: {driver: rtsp, url: a}
          shed: 3
          barn: {url: a}
        """
    )
    assert found == {
        "devce": "devce: there is no such key; did you mean `device`?",
        "http.listen": "http.listen: this address is reached from the network: add `token: …` with at least 16 characters, or "
        '`open: true` to let everyone there watch, or listen on 127.0.0.1 (found "0.0.0.0:8080")',
        "http.tokn": "http.tokn: there is no such key; did you mean `token`?",
        "limits.viewers": 'limits.viewers: write a whole number (found "none")',
        "limits.uplink": 'limits.uplink: write a rate like 3M or 500k (found "lots")',
        "cameras.gate.driver": 'cameras.gate.driver: there is no such driver; did you mean `rtsp`? (found "rtps")',
        "cameras.yard.url": "cameras.yard.url: is missing: write `url: …`. The camera's rtsp:// address",
        "cameras.yard.fps": "cameras.yard.fps: write 1 or more (found 0)",
        "cameras.yard.urll": "cameras.yard.urll: there is no such key; did you mean `url`?",
        "cameras.Old": "cameras.Old: write a name of a-z, 0-9 and inner hyphens, at most 64 characters, like front-door "
        '(found "Old")',
        "cameras.shed": "cameras.shed: write settings below it, at least `driver: …` (found 3)",
        "cameras.barn.driver": "cameras.barn.driver: is missing: write `driver: …`; known are broken, fragile, rtsp",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("null", "the file is empty"),
        ("- a\n- b", "write `key: value` lines"),
        ("just words", "write `key: value` lines"),
        ("cameras:\n\ttest: 1", "line 2, column 1: a tab"),
        ("device: a: b", "line 1, column 10: a colon stands where none may"),
        ("device: [a", "a bracket is not closed"),
        ('device: "a', "a quote is not closed"),
        ("device: *a", "an alias (*name) without its anchor"),
        ("http:\n    listen: a\n  open: b", "line 3"),
        ("device: a\n---\ndevice: b", "a second document begins"),
        ('device: "\\q"', "in double quotes"),
        ("device: \0", "a control character"),
        ("device: " + "[" * 200_000, "nested too deeply"),
        ("a: &a {b: *a}", "nested too deeply"),
        ("a: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("x" * 300_000, "larger than 256 kB"),
        # A billion laughs: each alias counts.
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)), "too many values"),
    ],
)
def test_what_is_no_configuration(text: str, said: str) -> None:
    found = problems(text)
    assert list(found) == [""]
    assert said in found[""]


def test_keys_written_twice() -> None:
    found = problems("device: a\nhttp: {open: true, open: false}\ndevice: b")
    assert found["device"] == "device: written twice, in lines 1 and 3; keep one"
    assert found["http.open"] == "http.open: written twice, in lines 2 and 2; keep one"


def test_tags_are_refused() -> None:
    assert "without the tag" in problems("device: !!python/object:os.system x")["device"]
    assert "without the tag" in problems("http: !secret {}")["http"]


def test_words_stay_words() -> None:
    assert good("device: 007").device == "007"
    assert good("device: 12").device == "12"
    assert good("title: 2026-11-22").title == "2026-11-22"
    assert good("device: on").device == "on"
    assert list(load("cameras: {on: {driver: rtsp, url: x}, 1: {driver: rtsp, url: x}}", {}, DRIVERS).cameras) == ["on", "1"]


def test_merge_keys() -> None:
    config = load("cameras: {a: &a {driver: rtsp, url: x, fps: 5}, b: {<<: *a, fps: 6}}", {}, DRIVERS)
    assert config.cameras["b"].options == Rtsp(url="x", fps=6)


@pytest.mark.parametrize("listen", ["localhost:0", "127.8.9.1:65535", '"[::1]:8080"'])
def test_loopback_needs_no_token(listen: str) -> None:
    assert good(f"http: {{listen: {listen}}}").http.listen.loopback


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", '"[::]:80"', "192.0.2.7:1", "porch.example:1"])
def test_the_network_needs_a_token_or_open(listen: str) -> None:
    assert "add `token: …`" in problem(f"http: {{listen: {listen}}}", "http.listen")
    assert good(f"http: {{listen: {listen}, open: true}}").http.open
    token = good(f"http: {{listen: {listen}, token: 0123456789abcdef}}").http.token
    assert token is not None and token.get_secret_value() == "0123456789abcdef"
    assert (
        problem(f"http: {{listen: {listen}, token: short}}", "http.token") == "http.token: write at least 16 characters (found ***)"
    )


def test_the_guard_speaks_although_another_key_is_wrong() -> None:
    assert set(problems("http: {listen: 0.0.0.0:1, cors: ['*']}" + CAMERA)) == {"http.listen", "http.cors.0"}


def test_token_and_open_contradict() -> None:
    assert "not both" in problem("http: {token: 0123456789abcdef, open: true}", "http.open")


@pytest.mark.parametrize(
    "listen", ["8080", '":8080"', '"*:8080"', "127.0.0.1", "1.2.3:80", "127.0.0.1:70000", '"[::1:80"', "a b:80", "[1, 2]"]
)
def test_listen_is_an_address_and_a_port(listen: str) -> None:
    assert "write an address and a port, like 127.0.0.1:8080" in problem(f"http: {{listen: {listen}}}", "http.listen")


@pytest.mark.parametrize("ports", ["5000", "50099-50000", "80-90", "60000-70000", "a-b", "50000-50099,51000-51010", "true"])
def test_ports_are_one_range(ports: str) -> None:
    assert "like 50000-50099" in problem(f"webrtc: {{ports: '{ports}'}}", "webrtc.ports")


@pytest.mark.parametrize(("rate", "bps"), [("3M", 3_000_000), ("800k", 800_000), ("2500000", 2_500_000), ("1.5M", 1_500_000)])
def test_rates(rate: str, bps: int) -> None:
    assert good(f"limits: {{uplink: {rate}}}").limits.uplink == bps


def test_broker() -> None:
    mqtt = good('mqtt: {url: "mqtts://porch:p%40ss%3A@broker.example:8883"}').mqtt
    assert mqtt is not None
    assert (mqtt.url, mqtt.username) == ("mqtts://broker.example:8883", "porch")
    assert mqtt.password is not None and mqtt.password.get_secret_value() == "p@ss:"
    assert "p@ss" not in repr(mqtt)
    assert "either in `url`" in problem('mqtt: {url: "mqtt://a:b@h", username: c}', "mqtt.url")
    assert "needs a `username`" in problem('mqtt: {url: "mqtt://h", password: c}', "mqtt.password")
    assert "every viewer would see them" in problem('mqtt: {url: "mqtt://h", web_url: "ws://a:b@h"}', "mqtt.web_url")
    assert "write the broker's address" in problem('mqtt: {url: "http://h"}', "mqtt.url")
    assert "leave out the path" in problem('mqtt: {url: "mqtt://h/x"}', "mqtt.url")
    assert problem("mqtt: {}", "mqtt.url").startswith("mqtt.url: is missing: write `url: …`.")


def test_broker_certificates_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    file = tmp_path / "a.yaml"
    file.write_text("mqtt: {url: 'mqtts://h', ca: ca.pem}" + CAMERA)
    mqtt = load(file, {}, DRIVERS).mqtt
    assert mqtt is not None and mqtt.ca == str(tmp_path / "ca.pem")
    file.write_text("mqtt: {url: 'mqtts://h', ca: other.pem}" + CAMERA)
    assert "there is no such file" in problems(file)["mqtt.ca"]
    file.write_text("mqtt: {url: 'mqtt://h', ca: ca.pem}" + CAMERA)
    assert "write mqtts://" in problems(file)["mqtt.ca"]


def test_ice_servers() -> None:
    text = "webrtc: {ice_servers: [{urls: 'stun:a.example'}, {urls: ['turn:b:3478?transport=udp'], username: u, credential: 1234}]}"
    stun, turn = good(text).webrtc.ice_servers
    assert stun.wire().urls == ["stun:a.example"]
    assert (turn.wire().username, turn.wire().credential) == ("u", "1234")
    assert good(text).secrets() == ["1234"]
    path = "webrtc.ice_servers.0.urls"
    assert "needs `username` and `credential`" in problem("webrtc: {ice_servers: [{urls: 'turn:a', username: u}]}", path)
    for url in ("http://a", "stun:", "stun:a:99999", "stun:a?transport=udp", "turn:u:p@a"):
        assert "write a server" in problem(f"webrtc: {{ice_servers: [{{urls: ['{url}']}}]}}", path + ".0")


def test_addresses() -> None:
    assert good("webrtc: {hosts: [203.0.113.7, '2001:DB8::7']}").webrtc.hosts == ["203.0.113.7", "2001:db8::7"]
    assert "write an IP address" in problem("webrtc: {hosts: ['fe80::1%eth0']}", "webrtc.hosts.0")
    assert good("http: {cors: ['https://Home.example:1']}").http.cors == ["https://home.example:1"]
    assert good("http: {open: true, names: [Porch.example]}").page_names() == ["porch.example"]
    home = "mqtt: {url: 'mqtt://b'}\nhome_assistant: {url: 'http://Porch.example:8080'}"
    assert good(home).page_names() == ["porch.example"]
    assert set(problems("http: {names: ['porch.example:80']}" + CAMERA)) == {"http.names.0"}


@pytest.mark.parametrize(
    ("settings", "path", "said"),
    [
        ("driver: broken", ".driver", "The driver `broken` cannot be loaded."),
        ("driver: fragile, mood: bad", "", "the driver fragile could not check these options (RuntimeError)"),
        ("driver: [rtsp]", ".driver", "write a driver's name"),
    ],
)
def test_drivers_that_fail(settings: str, path: str, said: str) -> None:
    assert said in problems(f"cameras: {{gate: {{{settings}}}}}")["cameras.gate" + path]


def test_no_camera() -> None:
    assert "at least one camera" in problems("device: a")["cameras"]
    assert "at least one camera" in problems("cameras: {}")["cameras"]
    assert problems("cameras: [a]")["cameras"] == "cameras: write settings below it, `key: value` (found a list)"


class Plain(BaseModel, extra="forbid"):
    pin: int = Field(ge=0, le=27, description="The pin")
    safe: str = "off"


class Probe(Sensor):
    Options = Plain  # type: ignore[assignment]
    readings: Mapping[str, Reading] = {"volts": Reading(), "door": Reading(kind="flag")}

    def open(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Readings:
        return {}


class Lamp(Actuator):
    Options = Plain  # type: ignore[assignment]
    moves = False

    def open(self) -> None: ...

    def close(self) -> None: ...

    def stop(self) -> None: ...


class Rover(Lamp, Sensor):
    moves = True
    readings: Mapping[str, Reading] = {}

    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": Axis(), "steer": Axis()}

    def apply(self, values: Mapping[str, float]) -> None: ...

    def read(self) -> Readings:
        return {}


class Shy(Rover):
    @property
    def axes(self) -> Mapping[str, Axis]:
        raise KeyError("pin")


class Odd(Rover):
    @property
    def axes(self) -> Mapping[str, Axis]:
        return {"throttle": 1.0}  # type: ignore[dict-item]


class TestDevices:
    """Sensors and actuators, and who may move them."""

    kinds: ClassVar[dict[str, type[Driver]]] = {"probe": Probe, "lamp": Lamp, "rover": Rover, "shy": Shy, "odd": Odd}
    drivers = Drivers(
        [*kinds, "rtsp", "broken"],
        lambda driver: TestDevices.kinds[driver].Options if driver in TestDevices.kinds else options(driver),
        kinds.get,
    )

    def good(self, text: str, **variables: str) -> Config:
        return load(text, variables, self.drivers)

    def problems(self, text: str, **variables: str) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            load(text, variables, self.drivers)
        return {problem.path: str(problem) for problem in caught.value.problems}

    def test_devices_alone_are_enough(self) -> None:
        config = self.good(
            """
            cameras:
            devices:
              lamp: {driver: lamp, pin: 17, safe: keep, title: Lamp}
              rover: {driver: rover, pin: 1, interval_s: 0.1, limits: {throttle: {top: 0.6, slew: 2, invert: true}}}
              arm: {driver: rover, pin: 2, group: arm}
            """
        )
        lamp, rover, arm = config.devices.values()
        assert (lamp.title, lamp.group, lamp.interval_s, lamp.limits) == ("Lamp", "", None, {})
        assert lamp.options == Plain(pin=17, safe="keep")
        assert (rover.group, rover.interval_s, rover.options.pin) == ("drive", 0.1, 1)
        assert rover.limits["throttle"] == AxisLimits(top=0.6, slew=2.0, invert=True)
        assert arm.group == "arm"
        assert config.cameras == {}
        assert config.control == Control()

    @pytest.mark.parametrize(
        ("settings", "path", "said"),
        [
            ("{driver: lamp}", "pin", "is missing: write `pin: …`. The pin"),
            ("{driver: lamp, pin: 99}", "pin", "write 27 or less (found 99)"),
            ("{driver: lamp, pin: 1, pni: 2}", "pni", "there is no such key; did you mean `pin`?"),
            ("{driver: lamp, pin: 1, group: a}", "group", "leave it out: this driver moves nothing"),
            ("{driver: lamp, pin: 1, interval_s: 1}", "interval_s", "leave it out: this driver reads nothing"),
            ("{driver: probe, pin: 1, interval_s: 0}", "interval_s", "write 0.01 or more"),
            ("{driver: lamp, pin: 1, limits: {throttle: {top: 1}}}", "limits.throttle", "no such axis; this driver has none"),
            ("{driver: rover, pin: 1, limits: {trottle: {top: 1}}}", "limits.trottle", "did you mean `throttle`?"),
            ("{driver: rover, pin: 1, limits: {throttle: {top: 2}}}", "limits.throttle.top", "write 1 or less"),
            ("{driver: rover, pin: 1, limits: {throttle: {topp: 1}}}", "limits.throttle.topp", "did you mean `top`?"),
            ("{driver: probe, pin: 1, telemetry: {volt: {dead_band: 1}}}", "telemetry.volt", "did you mean `volts`?"),
            ("{driver: probe, pin: 1, telemetry: {door: {dead_band: 1}}}", "telemetry.door.dead_band", "is no number"),
            (
                "{driver: probe, pin: 1, telemetry: {door: {min_interval_s: 0}}}",
                "telemetry.door.min_interval_s",
                "write 0.1 or more",
            ),
            ("{driver: lamp, pin: 1, telemetry: {on: {dead_band: 1}}}", "telemetry.on", "this driver has none"),
            ("{driver: shy, pin: 1}", "", "the driver fails with these options (KeyError)"),
            ("{driver: odd, pin: 1}", "", "the driver fails with these options (AttributeError)"),
            ("{driver: rtsp}", "driver", "this driver is a camera: move x from `devices:` to `cameras:`"),
            ("{driver: lmap}", "driver", "there is no such driver; did you mean `lamp`?"),
            ("{driver: rtps}", "driver", "known are broken, lamp, odd, probe, rover, shy"),
            ("{driver: broken}", "driver", "cannot be loaded"),
        ],
    )
    def test_mistakes(self, settings: str, path: str, said: str) -> None:
        found = self.problems(f"devices: {{x: {settings}}}")
        place = f"devices.x.{path}".rstrip(".")
        assert list(found) == [place]
        assert said in found[place]

    def test_more_than_can_be_driven_together(self) -> None:
        def carts(count: int, group: str) -> str:
            return "".join(f"  {group}{n}: {{driver: rover, pin: {n}, group: {group}}}\n" for n in range(count))

        self.good(f"devices:\n{carts(8, 'a')}{carts(8, 'b')}")
        found = self.problems(f"devices:\n{carts(8, 'a')}{carts(10, 'b')}")
        assert list(found) == ["devices.b8.group"]
        assert "at most 8 devices can be driven together" in found["devices.b8.group"]
        rover = self.kinds["rover"]
        wide = type("Wide", (rover,), {"axes": property(lambda self: {f"a{n}": Axis() for n in range(17)})})
        drivers = dataclasses.replace(self.drivers, device=lambda driver: wide if driver == "rover" else None)
        with pytest.raises(ConfigError, match="has 17 axes; at most 16 can be driven"):
            load("devices: {x: {driver: rover, pin: 1}}", {}, drivers)

    def test_a_sensor_is_no_camera(self) -> None:
        found = self.problems("cameras: {x: {driver: probe, pin: 1}}")["cameras.x.driver"]
        assert "this driver is no camera: move x from `cameras:` to `devices:`" in found

    def test_environment(self) -> None:
        config = self.good(
            "devices: {front-rover: {driver: rover, pin: 1}}",
            EDGEAGENT_DEVICES__FRONT_ROVER__LIMITS__THROTTLE__TOP="0.5",
            EDGEAGENT_DEVICES__FRONT_ROVER__PIN="3",
            EDGEAGENT_CONTROL__OPERATORS__ANNA__TOKEN="1234567890123456",
            EDGEAGENT_CONTROL__EXPIRY_MS="500",
        )
        assert config.devices["front-rover"].limits["throttle"].top == 0.5
        assert config.devices["front-rover"].options.pin == 3
        assert config.control.expiry_ms == 500
        assert "1234567890123456" in config.secrets()

    def test_control(self) -> None:
        camera = CAMERA + "\n"
        operators = "{anna: {token: 1234567890123456, role: admin}}"
        config = self.good(camera + f"control: {{max_picture_age_ms: 0, local: watch, operators: {operators}}}")
        anna = config.control.operators["anna"]
        assert (anna.token.get_secret_value(), anna.role) == ("1234567890123456", "admin")
        for text, path, said in [
            ("{expiry_ms: 99}", "expiry_ms", "write 100 or more"),
            ("{expiry_ms: 2001}", "expiry_ms", "write 2000 or less"),
            ("{max_picture_age_ms: 50}", "max_picture_age_ms", "or 0 to turn the check off"),
            ("{operators: {anna: {token: short}}}", "operators.anna.token", "at least 16 characters (found ***)"),
            ("{operators: {anna: {token: 1234567890123456, role: boss}}}", "operators.anna.role", "'operate' or 'admin'"),
            ("{local: all}", "local", "'admin', 'operate' or 'watch'"),
        ]:
            assert said in self.problems(camera + "control: " + text)[f"control.{path}"]
        twice = "{anna: {token: 1234567890123456}, ben: {token: 1234567890123456}}"
        assert "the same token" in self.problems(camera + f"control: {{operators: {twice}}}")["control.operators"]
        same = "http: {token: 1234567890123456}\ncontrol: {operators: {anna: {token: 1234567890123456}}}"
        said = self.problems(camera + same)["control"]
        assert "has the token of `http`" in said and "1234567890123456" not in said

    def test_own_drivers(self, tmp_path: Path) -> None:
        folder = tmp_path / "own"
        folder.mkdir(mode=0o755)
        _, _ = skeleton.write("my-lamp", "switch", folder)
        (file := tmp_path / "edgeagent.yaml").write_text("drivers_dir: own\ndevices: {lamp: {driver: my-lamp, pin: 5}}")
        config = load(file, {}, Drivers.installed())
        assert config.drivers_dir == folder
        assert config.devices["lamp"].options.pin == 5
        assert load(file, {"EDGEAGENT_DEVICES__LAMP__PIN": "6"}, Drivers.installed()).devices["lamp"].options.pin == 6
        folder.chmod(0o777)
        found = problems_of(file)
        assert "may be written to by others" in found["drivers_dir"]
        assert "there is no such driver" in found["devices.lamp.driver"]
        file.write_text("drivers_dir: [own]" + CAMERA)
        assert "write the path of a directory" in problems_of(file)["drivers_dir"]
        file.write_text("drivers_dir: owm" + CAMERA)
        assert "No such file or directory" in problems_of(file)["drivers_dir"]

    def test_schema(self) -> None:
        described = schema({"rtsp": Rtsp}, {"lamp": Plain})
        lamp = described["$defs"]["driver.lamp"]
        assert lamp["required"] == ["driver", "pin"] and {"pin", "group", "limits"} <= lamp["properties"].keys()
        assert described["properties"]["devices"]["additionalProperties"]["allOf"][0]["then"] == {"$ref": "#/$defs/driver.lamp"}
        assert described["anyOf"] == [{"required": ["cameras"]}, {"required": ["devices"]}]
        assert "patternProperties" not in json.dumps(described)


def problems_of(file: Path) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(file, {}, Drivers.installed())
    return {problem.path: str(problem) for problem in caught.value.problems}


SECRET = "s3cr3t-Word"


@pytest.mark.parametrize(
    "text",
    [
        f"cameras: {{gate: {{driver: rtsp, url: ['rtsp://u:{SECRET}@h/']}}}}",
        f"cameras: {{gate: {{driver: rtsp, url: x, fps: 'rtsp://u:{SECRET}@h/'}}}}",
        f"cameras: {{gate: {{driver: rtsp, url: x, fps: 'http://h/?user=a&pwd={SECRET}'}}}}",
        f"cameras: {{gate: rtsp://u:{SECRET}@h/}}",
        f"mqtt: {{url: 'mqtt://u:{SECRET}@h:99999'}}",
        f"mqtt: mqtt://u:{SECRET}@h",
        f"mqtt: {{url: 'mqtt://h', password: [{SECRET}]}}",
        f"mqtt: {{url: 'mqtt://h', username: u, passwort: {SECRET}}}",
        f"http: {{token: {SECRET}}}",
        f"http: {{token: {{{SECRET}: 1}}}}",
        f"webrtc: {{ice_servers: [{{urls: 'turn:u:{SECRET}@h'}}]}}",
    ],
)
def test_secrets_are_not_repeated(text: str) -> None:
    assert SECRET not in "".join(problems(text).values())


def test_files(tmp_path: Path) -> None:
    assert "there is no file" in problems(tmp_path / "none.yaml")[""]
    assert "cannot be read: Is a directory" in problems(tmp_path)[""]
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\x7fELF\xff\xfe\x00\x00")
    assert "is not a text file in UTF-8" in problems(file)[""]
    file.write_bytes(b"\xff" * 2_000_000)
    assert "larger than 256 kB" in problems(file)[""]
    file.write_bytes("\ufeffdevice: grün".encode())
    assert "a-z" in problems(file)["device"]


class TestEnvironment:
    def test_overrides_and_additions(self) -> None:
        config = good(
            "http: {listen: '127.0.0.1:1'}",
            EDGEAGENT_HTTP__LISTEN="0.0.0.0:8080",
            EDGEAGENT_HTTP__TOKEN="01234567890123456789: [",
            EDGEAGENT_LIMITS__VIEWERS="3",
            EDGEAGENT_LIMITS__UPLINK="5M",
            EDGEAGENT_DEVICE="shed",
            EDGEAGENT_WEBRTC__HOSTS="[192.0.2.1, 192.0.2.2]",
            EDGEAGENT_MQTT__URL="mqtt://u:p@h",
            OTHER="x",
        )
        assert config.http.listen == Listen("0.0.0.0", 8080)
        assert config.http.token is not None and config.http.token.get_secret_value() == "01234567890123456789: ["
        assert (config.limits.viewers, config.limits.uplink, config.device) == (3, 5_000_000, "shed")
        assert config.webrtc.hosts == ["192.0.2.1", "192.0.2.2"]
        assert config.mqtt is not None and config.mqtt.username == "u"

    def test_cameras(self) -> None:
        config = load(
            "cameras: {front-door: {driver: rtsp, url: a}}",
            {
                "EDGEAGENT_CAMERAS__FRONT_DOOR__URL": "rtsp://u:{p@h",
                "EDGEAGENT_CAMERAS__FRONT_DOOR__SIZE": "640x480",
                "EDGEAGENT_CAMERAS__BACK_DOOR__DRIVER": "rtsp",
                "EDGEAGENT_CAMERAS__BACK_DOOR__FPS": "5",
                "EDGEAGENT_CAMERAS__BACK_DOOR__URL": "b",
            },
            DRIVERS,
        )
        assert config.cameras["front-door"].options == Rtsp(url="rtsp://u:{p@h", size=(640, 480))
        assert config.cameras["back-door"].options == Rtsp(url="b", fps=5)

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("EDGEAGENT_HTPT__LISTEN", "x", "there is no setting `htpt`; did you mean `http`?"),
            ("EDGEAGENT_HTTP__LISTN", "x", "there is no setting `listn`; did you mean `listen`?"),
            ("EDGEAGENT_CAMERAS__GATE__ULR", "x", "there is no setting `ulr`; did you mean `url`?"),
            ("EDGEAGENT_DEVICE__NAME", "x", "there is no setting `name`"),
            ("EDGEAGENT_", "x", "there is no setting"),
            ("EDGEAGENT_LIMITS__VIEWERS", "[", "a bracket is not closed"),
        ],
    )
    def test_mistakes(self, name: str, value: str, said: str) -> None:
        assert said in problem("", name, **{name: value})

    def test_plain_value_in_the_way(self) -> None:
        assert "plain value" in problems("http: 3" + CAMERA, EDGEAGENT_HTTP__LISTEN="127.0.0.1:1")["EDGEAGENT_HTTP__LISTEN"]


def tree_drivers() -> Drivers:
    """The drivers of this repository, whatever else is installed."""
    names = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][registry.GROUP])
    return dataclasses.replace(Drivers.installed(), names=names)


def test_shipped_schema_is_current() -> None:
    loaded = {name: registry.load(name) for name in tree_drivers().names}
    cameras = {name: driver.Options for name, driver in loaded.items() if issubclass(driver, Camera)}
    devices = {name: driver.Options for name, driver in loaded.items() if issubclass(driver, Driver)}
    shipped = json.loads((ROOT / "edgeagent" / "config.schema.json").read_text())
    assert shipped == schema(cameras, devices), "run: edgeagent schema > edgeagent/config.schema.json"


def test_schema_knows_what_the_drivers_take() -> None:
    described = schema({"rtsp": Rtsp})
    assert described["$defs"]["driver.rtsp"]["required"] == ["driver", "url"]
    assert described["$defs"]["driver.rtsp"]["properties"]["url"]["description"] == "The camera's rtsp:// address"
    assert described["properties"]["cameras"]["additionalProperties"]["allOf"] == [
        {"if": {"properties": {"driver": {"const": "rtsp"}}}, "then": {"$ref": "#/$defs/driver.rtsp"}}
    ]
    references = re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(described))
    assert references and set(references) <= described["$defs"].keys()


EXAMPLE = ROOT / "docs" / "edgeagent.example.yaml"


def test_example() -> None:
    assert load(EXAMPLE, {}, tree_drivers()).device == "porch"
    assert EXAMPLE.read_text().startswith("# yaml-language-server: $schema=")
    assert (EXAMPLE.parent / EXAMPLE.read_text().splitlines()[0].partition("$schema=")[2]).is_file()


def test_example_with_everything_switched_on() -> None:
    text = re.sub(r"^( *)#(\S)", r"\1\2", EXAMPLE.read_text(), flags=re.MULTILINE).replace("  open: false\n", "")
    text = text.replace("drivers_dir: drivers\n", "")
    config = load(text, {}, tree_drivers())
    assert config.cameras.keys() >= {"test", "gate", "front", "desk"}
    assert config.devices.keys() >= {"rover", "lamp", "drive"}
    assert config.webrtc.ports == PortRange(50000, 50099)
    assert config.http.token is not None


def parts_of(found: ConfigProblem) -> None:
    assert found.message and (found.path or len(found.message) > 20)
    assert str(found).isprintable()


def never_anything_else(text: str, variables: dict[str, str]) -> None:
    try:
        config = load(text, variables, DRIVERS)
    except ConfigError as error:
        assert error.problems
        for found in error.problems:
            parts_of(found)
    else:
        assert config.cameras


KEYS = [
    *Config.model_fields,
    *Rtsp.model_fields,
    "driver",
    "listen",
    "token",
    "urls",
    "ice_servers",
    "ports",
    "hosts",
    "username",
    "ca",
    "tls",
    "cert",
    "key",
    "<<",
]
VALUES = [
    "rtsp",
    "fragile",
    "127.0.0.1:80",
    "0.0.0.0:1",
    "3M",
    "50000-50099",
    "mqtt://u:p@h",
    "ws://[::1",
    "turn:a",
    "\x00",
    "\ud800",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(VALUES[:-2])
structures = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), inner, max_size=5),
    max_leaves=20,
)


@given(st.text())
def test_any_text(text: str) -> None:
    never_anything_else(text, {})


@given(st.text(alphabet="ab:-{}[],&*!|>'\"%@`#\n\t ?0.~<\\x"))
def test_any_text_of_yaml(text: str) -> None:
    never_anything_else(text, {})


@given(structures)
def test_any_structure(value: Any) -> None:
    never_anything_else(yaml.dump(value), {})


@given(st.dictionaries(st.sampled_from(KEYS), structures, max_size=6), st.dictionaries(st.sampled_from(KEYS), scalars, max_size=6))
def test_any_settings(data: dict[str, Any], camera: dict[str, Any]) -> None:
    never_anything_else(yaml.dump({**data, "cameras": {"gate": {"driver": "rtsp", **camera}, "yard": data}}), {})


@given(
    st.lists(st.sampled_from([*KEYS, "gate", "cameras", "http"]) | st.text(max_size=5), min_size=1, max_size=4),
    st.text(max_size=30),
)
def test_any_variable(path: list[str], value: str) -> None:
    assume("\0" not in value)
    never_anything_else(CAMERA, {"EDGEAGENT_" + "__".join(path).upper(): value})


@given(st.binary(max_size=300))
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, DRIVERS)
    for found in caught.value.problems:
        parts_of(found)
