"""The command line, as a person or systemd meets it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from edgeagent import __version__, cli
from edgeagent.config import Config
from edgeagent.drivers import Found, registry
from edgeagent.errors import DeviceFault, EdgeAgentError
from edgeagent.install.places import Places

GOOD = "device: porch\ncameras: {test: {driver: test-pattern}}\n"

Output = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edgeagent.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Config], int]], None]:
    """Puts a function in the place of `edgeagent.app.run`."""

    def install(run: Callable[[Config], int]) -> None:
        module = types.ModuleType("edgeagent.app")
        module.__dict__["run"] = lambda config, membership, state: run(config)
        monkeypatch.setitem(sys.modules, "edgeagent.app", module)
        monkeypatch.setattr("edgeagent.app", module, raising=False)
        monkeypatch.setattr("edgeagent.runtime.log.setup", lambda *_: None)
        monkeypatch.setattr("edgeagent.runtime.leaving.prepare", lambda: None)

    return install


def test_version_and_help(capsys: Output) -> None:
    for arguments, said in (["--version"], __version__), (["--help"], "demo"), (["run", "--help"], "--config"):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        assert said in capsys.readouterr().out


def test_the_demo_shows_what_own_drivers_drive(tmp_path: Path) -> None:
    """Written by the skeleton, each with its defaults; what moves has a wheel of its own."""
    from edgeagent import config, demo
    from edgeagent.drivers import skeleton

    assert config.load(demo.configuration(8080, 1883, 9001), {}, config.Drivers.installed()).drivers_dir is None
    own = tmp_path / "own"
    for kind in skeleton.KINDS:
        skeleton.write(f"my-{kind}", kind, own)
    found = config.load(demo.configuration(8080, 1883, 9001, own), {}, config.Drivers.installed())
    assert {f"my-{kind}" for kind in skeleton.KINDS} == set(found.devices) - {"rover", "weather", "board"}
    assert found.devices["my-actuator"].group == "my-actuator"
    for name, kind in (("rover", "actuator"), ("rover-2", "sensor"), ("weather", "sensor"), ("drive", "actuator")):
        skeleton.write(name, kind, own)
    found = config.load(demo.configuration(8080, 1883, 9001, own), {}, config.Drivers.installed())
    drivers = {name: device.driver for name, device in found.devices.items()}
    assert (drivers["rover"], drivers["rover-2"], drivers["rover-2-2"]) == ("sim-rover", "rover", "rover-2")
    assert (drivers["weather"], drivers["weather-2"]) == ("sim-sensor", "weather")
    assert found.devices["rover"].group not in {found.devices[name].group for name in ("rover-2", "drive-2")}
    own.chmod(0o777)
    with pytest.raises(DeviceFault, match="Drivers are not loaded"):
        demo.configuration(8080, 1883, 9001, own)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["demo", "--port", "99999"], ["demo", "--port", "٣"]])
def test_misuse(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: edgeagent" in capsys.readouterr().err


def test_check_of_a_good_file(file: Path, capsys: Output) -> None:
    assert cli.main(["check", str(file)]) == 0
    assert "is right. Device porch" in capsys.readouterr().out


def test_check_says_everything(file: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("devce: a\ncameras: {test: {driver: test-patern}, b: {driver: test-pattern, fsp: 3}}")
    monkeypatch.setenv("EDGEAGENT_LIMITS__VIEWERS", "many")
    assert cli.main(["check", str(file)]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert any("did you mean `test-pattern`?" in line for line in lines)
    assert any("did you mean `fps`?" in line for line in lines)


def test_check_reads_what_the_service_has_in_its_environment(
    file: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc, open_read = tmp_path / "etc", Path.read_bytes
    etc.mkdir()
    monkeypatch.setattr(Places, "etc", etc)
    file = file.rename(etc / "edgeagent.yaml")
    file.write_text(f"http: {{listen: '0.0.0.0:8080'}}\n{GOOD}")
    assert cli.main(["check", str(file)]) == 78
    assert "sudo" not in capsys.readouterr().err
    (etc / "environment").write_text("EDGEAGENT_HTTP__TOKEN=0123456789abcdef\n")
    assert cli.main(["check", str(file)]) == 0

    def refused(path: Path) -> bytes:
        if path.name == "environment":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open_read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert cli.main(["check", str(file)]) == 78
    assert "run this with sudo" in capsys.readouterr().err


def test_run_passes_the_configuration_on(file: Path, app: Callable[[Callable[[Config], int]], None]) -> None:
    seen: list[Config] = []

    def run(config: Config) -> int:
        seen.append(config)
        return 0

    app(run)
    assert cli.main(["run", "--config", str(file)]) == 0
    assert cli.main(["run", "--debug-loop", "--config", str(file)]) == 0
    assert [config.log.loop_block_s for config in seen] == [None, 0.25]
    assert seen[0].device == "porch"


def test_run_with_a_wrong_file(file: Path, capsys: Output, app: Callable[[Callable[[Config], int]], None]) -> None:
    app(lambda config: pytest.fail("must not run"))
    file.write_text("cameras: {}")
    assert cli.main(["run", "--config", str(file)]) == 78
    assert capsys.readouterr().err.startswith("cameras: ")


def failing(error: BaseException) -> Callable[[Config], int]:
    def run(config: Config) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.EADDRINUSE, "address ('127.0.0.1', 8080) already in use"), 1, "give another port"),
        (ExceptionGroup("g", [ExceptionGroup("h", [OSError(errno.EADDRINUSE, "in use")])]), 1, "give another port"),
        (OSError(errno.EACCES, "Permission denied"), 1, "give another address"),
        (EdgeAgentError("The broker is gone."), 1, "The broker is gone."),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_that_are_no_bugs(
    error: BaseException, code: int, said: str, file: Path, capsys: Output, app: Callable[[Callable[[Config], int]], None]
) -> None:
    app(failing(error))
    assert cli.main(["run", "--config", str(file)]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_bug_leaves_a_trace(file: Path, caplog: pytest.LogCaptureFixture, app: Callable[[Callable[[Config], int]], None]) -> None:
    app(failing(ExceptionGroup("g", [EdgeAgentError("known"), ZeroDivisionError("unknown")])))
    assert cli.main(["run", "--config", str(file)]) == 70
    assert "bug in edgeagent" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_drivers(capsys: Output) -> None:
    assert cli.main(["drivers"]) == 0
    text = capsys.readouterr().out
    assert "test-pattern: A moving test card" in text
    assert "    bitrate: " in text


def test_drivers_with_a_camera_plugged_in(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Found("HD Pro Webcam C920", {"device": "/dev/v4l/by-id/usb-C920", "fps": 30}, ["MJPEG: 1280x720"])]
    monkeypatch.setattr(registry.load("v4l2"), "discover", lambda: found)
    assert cli.main(["drivers"]) == 0
    _, _, pasted = capsys.readouterr().out.partition("\ncameras:")
    assert yaml.safe_load("cameras:" + pasted)["cameras"]["hd-pro-webcam-c920"] == {
        "driver": "v4l2", "title": "HD Pro Webcam C920", "device": "/dev/v4l/by-id/usb-C920", "fps": 30
    }  # fmt: skip


def test_one_driver(capsys: Output) -> None:
    assert cli.main(["drivers", "relay"]) == 0
    text = capsys.readouterr().out
    for part in (
        "    actuator, of edgeagent",
        "Options:",
        "pin (required)",
        "Readings, every",
        "Commands:",
        "switch(on: boolean)",
        "Wiring:",
    ):
        assert part in text
    assert "  relay: {driver: relay, pin: …}" in text
    assert cli.main(["drivers", "test-pattern"]) == 0
    assert "    cameras:" in capsys.readouterr().out
    assert cli.main(["drivers", "relais"]) == 1
    assert "There is no driver `relais`; did you mean `relay`?" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sensor", "actuator", "switch"])
def test_a_driver_of_ones_own(kind: str, tmp_path: Path, capsys: Output) -> None:
    """From nothing to a configuration that is right, by what is printed."""
    folder = tmp_path / "own"
    assert cli.main(["drivers", "new", "my-thing", "--kind", kind, "--dir", str(folder)]) == 0
    _, _, rest = capsys.readouterr().out.partition("3. Write into the configuration")
    written = "drivers_dir" + rest.partition("drivers_dir")[2].partition("4. ")[0]
    (file := tmp_path / "edgeagent.yaml").write_text(written)
    assert cli.main(["check", str(file)]) == 0
    assert "devices: my-thing (my-thing)." in capsys.readouterr().out
    assert cli.main(["drivers", "my-thing", "--dir", str(folder)]) == 0
    assert {"actuator": "throttle: -1 to 1", "sensor": "load: a number", "switch": "switch(on: boolean)"}[
        kind
    ] in capsys.readouterr().out
    assert cli.main(["drivers", "new", "my-thing", "--kind", kind, "--dir", str(folder)]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["new", "Mein Ding"], 1, "is no name for a driver"),
        (["new", "class"], 1, "is no name for a driver"),
        (["new", "relay"], 1, "There is a driver `relay` already"),
        (["relay", "led"], 2, "write one name"),
        (["new"], 2, "write a name behind `new`"),
        (["--kind", "sensor"], 2, "write one name, or `new`"),
        (["--dir", "no/such/place"], 1, "cannot be used: No such file"),
    ],
)
def test_drivers_asked_for_wrongly(arguments: list[str], code: int, said: str, capsys: Output) -> None:
    try:
        got = cli.main(["drivers", *arguments])
    except SystemExit as end:
        assert isinstance(end.code, int)
        got = end.code
    assert got == code
    assert said in capsys.readouterr().err


def test_schema(capsys: Output) -> None:
    assert cli.main(["schema"]) == 0
    assert "driver.test-pattern" in json.loads(capsys.readouterr().out)["$defs"]


def test_output_into_a_pipe_that_closes() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "edgeagent", "schema"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""
