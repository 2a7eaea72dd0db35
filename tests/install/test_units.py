"""The units besides the agent's own (tests/runtime/test_unit.py): how far they are confined, and that they fit the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgeagent.install.files import FILES, SITE_FILES
from edgeagent.install.places import Places
from tests.support import require

SYSTEMD = Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize(("unit", "limit"), [("edgeagent-site", 1.5), ("edgeagent-upgrade", 4.0)])
def test_exposure(unit: str, limit: float) -> None:
    """The one that upgrades is root, for as long as that takes, and may become the agent's user: it has no network instead."""
    argv = [require("systemd-analyze"), "security", "--offline=true", "--no-pager", str(SYSTEMD / f"{unit}.service")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= limit


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    program = tmp_path / "edgeagent"
    program.touch(mode=0o755)
    for path in SYSTEMD.glob("edgeagent*.*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/edgeagent/current/bin/edgeagent", str(program)))
    units = [str(tmp_path / name) for name in ("edgeagent-site.service", "edgeagent-upgrade.path", "edgeagent-upgrade.service")]
    argv = [require("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_file_is_put_in_place() -> None:
    assert {str(path.relative_to(SYSTEMD)) for path in SYSTEMD.rglob("*") if path.is_file()} == {*FILES, *SITE_FILES}


def test_refused_orders_do_not_keep_out_the_next() -> None:
    """systemd's limit of 5 starts in 10 s would end the path unit for good."""
    text = (SYSTEMD / "edgeagent-upgrade.service").read_text()
    assert "\nStartLimitIntervalSec=0\n" in text.partition("[Service]")[0]
    assert "\nExecStopPost=/bin/sleep 5\n" in text


def test_paths_are_those_of_the_program() -> None:
    places = Places()
    watched = re.findall(r"^PathExists=(\S+)", (SYSTEMD / "edgeagent-upgrade.path").read_text(), re.MULTILINE)
    assert watched == [str(places.orders / "order"), str(places.trial)]
    for unit in SYSTEMD.glob("*.service"):
        programs = re.findall(r"^Exec(?:Start|Reload)\w*=-?(\S+)", unit.read_text(), re.MULTILINE)
        assert programs and all(program.startswith(f"{places.current}/bin/") for program in programs)
