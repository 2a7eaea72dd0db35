"""`edgeagent discover cameras`: what is printed, and the whole way in a network of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgeagent import cli, discover
from edgeagent.config import Drivers, load
from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, Found, registry
from tests.support.components import require
from tests.support.onvif_camera import PASSWORD, USER

Output = pytest.CaptureFixture[str]
HERE = "10.78.0.1"


class Finder(Camera):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def run(self, io: CameraIO) -> None:
        raise AssertionError("nothing is run here")


class Usb(Finder):
    found: Sequence[Found] = (Found("HD Pro (1.2)", {"device": "/dev/v4l/by-id/usb-1", "size": (640, 480)}, ["It offers\nYUYV."]),)

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        return cls.found


class Network(Finder):
    asked: tuple[str, str] | None = None

    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        return (Found("Gate (10.0.0.9)", ask="http://10.0.0.9/"),)

    @classmethod
    def ask(cls, found: Found, user: str, password: str, timeout_s: float = 3.0) -> Sequence[Found]:
        cls.asked = (user, password)
        if password != "geheim":
            raise DeviceFault("The camera at 10.0.0.9 does not tell its streams to this user.")
        return [Found("Gate (10.0.0.9)", {"url": "rtsp://10.0.0.9/1", "username": user})]


class Broken(Finder):
    @classmethod
    def discover(cls, timeout_s: float = 3.0) -> Sequence[Found]:
        raise DeviceFault("There is no bus.")


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Camera]]:
    known: dict[str, type[Camera]] = {"v4l2": Usb, "rtsp": Network, "csi": Broken}
    Network.asked = None
    monkeypatch.setattr(registry, "summaries", lambda: [registry.DriverSummary(name, "", "", kind="camera") for name in known])
    monkeypatch.setattr(registry, "load", known.__getitem__)
    monkeypatch.setattr("edgeagent.runtime.log.setup", lambda *_: None)
    return known


def test_everything_that_is_found_can_be_pasted(drivers: dict[str, type[Camera]], capsys: Output) -> None:
    assert cli.main(["discover", "cameras", "--user", "admin", "--password", "geheim"]) == 0
    out, err = capsys.readouterr()
    assert "csi: There is no bus." in err
    assert out == (
        "cameras:\n"
        "\n"
        "  # HD Pro (1.2)\n"
        "  # It offers YUYV.\n"
        "  hd-pro:\n"
        "    driver: v4l2\n"
        '    title: "HD Pro (1.2)"\n'
        '    device: "/dev/v4l/by-id/usb-1"\n'
        "    size: [640, 480]\n"
        "\n"
        "  # Gate (10.0.0.9)\n"
        "  gate:\n"
        "    driver: rtsp\n"
        '    title: "Gate (10.0.0.9)"\n'
        '    url: "rtsp://10.0.0.9/1"\n'
        '    username: "admin"\n'
        '    #password: "…"  # write it here, or better into the environment as EDGEAGENT_CAMERAS__GATE__PASSWORD\n'
    )
    assert "geheim" not in out + err


def test_a_driver_that_fails_costs_nothing_that_others_found(
    drivers: dict[str, type[Camera]], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Sequence[Found]:
        raise RuntimeError("geheim")

    monkeypatch.setattr(Broken, "discover", fails)
    monkeypatch.setattr(Network, "ask", fails)
    assert cli.main(["discover", "cameras", "--user", "admin", "--password", "geheim"]) == 0
    out, err = capsys.readouterr()
    assert "csi: Its driver failed (RuntimeError). Please report it." in err
    assert "  # Its driver failed (RuntimeError)." in out
    assert "driver: v4l2" in out and "geheim" not in out + err
    monkeypatch.setattr(Network, "networked", True)
    assert [name for name, _ in discover.of_this_machine()] == ["v4l2"]


def test_without_a_terminal_nobody_is_asked(
    drivers: dict[str, type[Camera]], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    del drivers["v4l2"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert cli.main(["discover", "cameras"]) == 0
    assert Network.asked is None
    out = capsys.readouterr().out
    assert out.startswith("#cameras:\n"), "nothing that a program would take for a camera"
    assert "# It tells its streams only to a user: run this again with --user." in out


def test_user_and_password_are_asked_for(drivers: dict[str, type[Camera]], capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "admin\n", raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "guess")
    assert cli.main(["discover", "cameras"]) == 0
    assert Network.asked == ("admin", "guess")
    out, err = capsys.readouterr()
    assert "Gate (10.0.0.9)" in err
    assert "# The camera at 10.0.0.9 does not tell its streams to this user." in out
    assert "guess" not in out + err


def test_nothing_found_is_said(drivers: dict[str, type[Camera]], capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    drivers.clear()
    drivers["v4l2"] = Usb
    monkeypatch.setattr(Usb, "found", ())
    assert cli.main(["discover", "cameras"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No camera was found." in err


def test_names_are_valid_and_differ() -> None:
    text = discover.yaml_of([("rtsp", Found(title, {"url": "rtsp://h/"})) for title in ("Ä (1)", "A b!", "a-B", "", "x" * 99)])
    names = [line.strip(" :") for line in text.splitlines() if line.startswith("  ") and line.endswith(":") and line[2] not in "# "]
    assert names == ["camera", "a-b", "a-b-2", "camera-2", "x" * 40]


@pytest.mark.parametrize("text", ["0", "nan", "61", "x"])
def test_nonsense_for_seconds_is_refused(text: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["discover", "cameras", "--timeout", text])


# The whole way


@pytest.fixture
def network() -> Iterator[list[str]]:
    """A network of its own where multicast arrives: the beginning of commands that run in it."""
    require("root")
    ip, name = require("ip"), f"ea-onvif-{os.getpid()}"
    subprocess.run([ip, "netns", "add", name], check=True)
    inside = [ip, "netns", "exec", name]
    try:
        for command in ("link set lo up multicast on", f"address add {HERE}/24 dev lo", "route add 224.0.0.0/4 dev lo"):
            subprocess.run([*inside, ip, *command.split()], check=True)
        yield inside
    finally:
        subprocess.run([ip, "netns", "delete", name], check=True)


@pytest.mark.netns
@pytest.mark.realtime
@pytest.mark.timeout(180)
def test_a_camera_in_the_network_is_found_and_its_yaml_is_right(network: list[str], tmp_path: Path) -> None:
    require("module:onvif")
    require("module:wsdiscovery")
    camera = subprocess.Popen(
        [*network, sys.executable, "-m", "tests.support.onvif_camera", HERE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert camera.stdout
    try:
        assert camera.stdout.readline().startswith("ready ")
        command = [*network, sys.executable, "-m", "edgeagent", "discover", "cameras", "--timeout", "2.5"]
        command += ["--user", USER, "--password", PASSWORD]
        owner = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    finally:
        camera.communicate("")
    assert owner.returncode == 0, owner.stderr
    assert PASSWORD not in owner.stdout + owner.stderr
    file = tmp_path / "edgeagent.yaml"
    file.write_text(owner.stdout)
    loaded = load(file, {"EDGEAGENT_CAMERAS__ACME_EYE_3__PASSWORD": PASSWORD}, Drivers.installed())
    found = loaded.cameras["acme-eye-3"]
    assert found.title == "Acme Eye 3 (10.78.0.1)"
    assert (found.options.url, found.options.sub) == (f"rtsp://{HERE}:554/main?channel=1&subtype=0", f"rtsp://{HERE}/sub")
    assert found.options.password.get_secret_value() == PASSWORD
