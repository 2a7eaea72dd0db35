"""The systemd unit: how far it confines the agent, and that it does not confine it too far."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support import require

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "edgeagent.service"


def settings() -> list[str]:
    return [line for line in UNIT.read_text().splitlines() if line and not line.startswith("#")]


def test_exposure() -> None:
    done = subprocess.run(
        [require("systemd-analyze"), "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"exposure level for edgeagent.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 2.0


def test_what_breaks_the_agent_is_left_out() -> None:
    names = {line.partition("=")[0] for line in settings()}
    # DTLS runs through cffi callbacks; the others hide the cameras and the board's description.
    assert not names & {"MemoryDenyWriteExecute", "PrivateDevices", "PrivateUsers", "ProcSubset"}


def test_wrong_configuration_is_not_tried_again() -> None:
    assert "RestartPreventExitStatus=78" in settings()
    assert "Type=notify" in settings()


def test_it_always_comes_back() -> None:
    """Whatever ends it, however often: no limit of starts, and the network is not waited for."""
    wanted = {"Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=30", "After=network.target", "OOMPolicy=stop"}
    assert wanted <= set(settings())
    assert not any("network-online" in line for line in settings())


def test_what_moved_is_stopped_by_whatever_the_service_ended() -> None:
    """The keeper's record lies in the runtime directory, which stays until this has run; lgpio needs a folder it may write to."""
    assert {"ExecStopPost=-/opt/edgeagent/current/bin/python -P -m edgeagent.keeper --stop", "RuntimeDirectory=edgeagent"} <= set(
        settings()
    )
    assert {"LimitNICE=-10", "WorkingDirectory=/run/edgeagent", "DeviceAllow=char-gpiochip rw"} <= set(settings())
    # Control groups: the keeper is told and ended with the agent, never left alone.
    assert not any(line.startswith(("KillMode=", "SendSIGKILL=")) for line in settings())


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    program = tmp_path / "edgeagent"
    program.touch(mode=0o755)
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace("/opt/edgeagent/current/bin/edgeagent", str(program)))
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_account_and_folders_are_made(tmp_path: Path) -> None:
    """By systemd's own programs, in a root of the test's."""
    require("root")
    base = ROOT / "systemd"
    (tmp_path / "etc" / "edgeagent").mkdir(parents=True)
    (tmp_path / "etc" / "edgeagent" / "edgeagent.yaml").touch(mode=0o644)
    for program, folder, options in ("systemd-sysusers", "sysusers.d", ()), ("systemd-tmpfiles", "tmpfiles.d", ("--create",)):
        target = tmp_path / "etc" / folder
        target.mkdir()
        (target / "edgeagent.conf").write_text((base / folder / "edgeagent.conf").read_text())
        command = [require(program), f"--root={tmp_path}", *options, str(target / "edgeagent.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (user,) = [line.split(":") for line in (tmp_path / "etc" / "passwd").read_text().splitlines() if line.startswith("edgeagent:")]
    for name, mode in (".", 0o750), ("edgeagent.yaml", 0o640):
        found = (tmp_path / "etc" / "edgeagent" / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, int(user[3]), mode)


def test_udev_rules_give_what_the_unit_may_open() -> None:
    rules = (ROOT / "systemd" / "udev" / "70-edgeagent.rules").read_text()
    lines = [line for line in rules.splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r'SUBSYSTEM=="(\w+)", GROUP="(\w+)", MODE="0660"', line) for line in lines]
    assert found
    allowed = {line.removeprefix("DeviceAllow=char-").split()[0] for line in settings() if line.startswith("DeviceAllow=")}
    groups = next(line.partition("=")[2] for line in settings() if line.startswith("SupplementaryGroups=")).split()
    for rule in found:
        assert rule
        assert rule[1] in allowed
        assert rule[2] in groups


def test_account_is_the_units() -> None:
    account = (ROOT / "systemd" / "sysusers.d" / "edgeagent.conf").read_text()
    user = next(line.partition("=")[2] for line in settings() if line.startswith("User="))
    groups = next(line.partition("=")[2] for line in settings() if line.startswith("SupplementaryGroups=")).split()
    assert re.search(rf"^u {user} ", account, re.MULTILINE)
    assert set(re.findall(rf"^m {user} (\S+)", account, re.MULTILINE)) == set(groups)
