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


def test_account_is_the_units() -> None:
    account = (ROOT / "systemd" / "sysusers.d" / "edgeagent.conf").read_text()
    user = next(line.partition("=")[2] for line in settings() if line.startswith("User="))
    groups = next(line.partition("=")[2] for line in settings() if line.startswith("SupplementaryGroups=")).split()
    assert re.search(rf"^u {user} ", account, re.MULTILINE)
    assert set(re.findall(rf"^m {user} (\S+)", account, re.MULTILINE)) == set(groups)
