"""Install, upgrade, go back, uninstall: in a root folder of the test's own, with venvs and pip as on a board."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import edgeagent
from edgeagent.errors import EdgeAgentError
from edgeagent.install import files, service
from edgeagent.install.installing import Installation
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps
from edgeagent.install.wheels import Wheelhouse
from edgeagent_provisioning import here
from edgeagent_provisioning.broker import acme
from tests.install.wheels import ROOT, Service, wheelhouse
from tests.support import require


class Board:
    """A root folder, and what works on it."""

    def __init__(self, root: Path) -> None:
        require("root")  # accounts and folders of other users
        for program in ("systemd-sysusers", "systemd-tmpfiles", "systemctl"):
            require(program)
        (root / "root").mkdir()
        self.base = root
        self.places = Places(root / "root")
        self.said: list[str] = []
        self.steps = Steps(self.places, say=self.said.append)
        self.service = Service(self.places.current)
        self.installation = Installation(self.steps, self.service)
        self.slots = self.installation.slots

    def make(self, version: str, app: str = "", cli: str = "def main(): print('fine')") -> Wheelhouse:
        return Wheelhouse.open(wheelhouse(self.base / f"house-{version}", version, app=app, cli=cli))

    @property
    def runs(self) -> str:
        current = self.slots.current()
        return self.slots.version(current) if current else ""


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_board_is_installed_upgraded_and_cleared(board: Board) -> None:
    """All in one, since a venv takes its second."""
    places = board.places
    board.installation.install(board.make("1.0"), index=False, config="cameras: {}\n")
    assert (board.runs, board.service.started, board.service.enabled) == ("1.0", ["1.0"], True)
    assert mode(places.config) == 0o640
    assert mode(places.state) == 0o700
    assert "system-site-packages = true" in (places.current / "pyvenv.cfg").read_text()
    assert (places.units / "multi-user.target.wants" / "edgeagent-upgrade.path").is_symlink()
    unit = (places.units / "edgeagent.service").read_text()
    program = unit.partition("ExecStart=")[2].split()[0]
    # The link is absolute on a board; here it is looked at from outside.
    assert places.at(program).is_file() and (places.at("/usr/local/bin/edgeagent")).readlink() == Path(program)

    # A better one: the one before stays beside it, the configuration as the owner has it.
    places.config.write_text("cameras: {gate: {driver: test-pattern}}\n")
    board.installation.install(board.make("1.1"), index=False, config="cameras: {}\n", start=False)
    assert (board.runs, len(board.slots.names())) == ("1.1", 2)
    assert "gate" in places.config.read_text()

    # One that does not load is never tried, and leaves nothing.
    started = list(board.service.started)
    with pytest.raises(EdgeAgentError, match="no such thing"):
        board.installation.upgrade(board.make("1.2", app="raise ImportError('no such thing')"), index=False)
    assert (board.runs, board.service.started, len(board.slots.names())) == ("1.1", started, 2)

    # One that loads and does not start, or not for long, or is not well: back, and the unit of the one before with it.
    board.service.bad, board.service.dying, board.service.deaf = {"1.3"}, {"1.4"}, {"1.5"}
    (places.units / "edgeagent.service").write_text("of 1.1")
    for version in "1.3", "1.4", "1.5":
        with pytest.raises(EdgeAgentError, match=r"1\.1-\w+ runs again"):
            board.installation.upgrade(board.make(version), index=False, healthy=board.installation.heard)
        assert (board.runs, board.service.started[-1], places.trial.exists()) == ("1.1", "1.1", False)
    assert (places.units / "edgeagent.service").read_text() == unit

    # What stands beside it goes, but for one; and a person may go back to that. It is tried with the secrets of the service.
    places.environment.write_text("EDGEAGENT_HTTP__TOKEN='a b'\n")
    cli = "import os, sys\ndef main(): sys.exit('check' in sys.argv and os.environ.get('EDGEAGENT_HTTP__TOKEN') != 'a b')"
    board.installation.upgrade(board.make("1.6", cli=cli), index=False, healthy=board.installation.heard)
    assert (board.runs, len(list(places.releases.iterdir()))) == ("1.6", 2)
    board.installation.back()
    assert board.runs == "1.1"

    (places.state / "identity").mkdir()
    board.installation.uninstall(purge=False)
    assert not places.home.exists() and not (places.units / "edgeagent.service").exists()
    assert places.config.exists() and (places.state / "identity").exists()
    board.installation.uninstall(purge=True)
    assert not places.etc.exists() and not places.state.exists()
    assert "edgeagent:" not in places.at("/etc/passwd").read_text()


def test_a_trial_that_lost_its_power_is_finished(board: Board) -> None:
    """Without venvs: what counts is which release the link names."""
    places, slots = board.places, board.slots
    for name in "1.0-a", "1.1-b":
        slot = slots.path(name)
        shutil.copytree(Path(__file__).parents[2] / "systemd", slot / "share" / "edgeagent" / "systemd")
        (slot / ".whole").write_text(json.dumps({"version": name[:3]}))
    slots.switch("1.1-b")
    for well, left in (True, "1.1"), (False, "1.0"):
        places.trial.write_text("1.0-a\n")
        if well:
            board.installation.settle()
        else:
            with pytest.raises(EdgeAgentError, match=r"1\.0-a runs again"):
                board.installation.settle(lambda: False)
        assert (board.runs, places.trial.exists()) == (left, False)
    board.installation.settle(lambda: False)  # nothing is on trial
    assert board.runs == "1.0"


def test_dry_run_only_tells(board: Board) -> None:
    steps = Steps(board.places, dry_run=True, say=board.said.append)
    Installation(steps, board.service).install(board.make("1.0"), index=False, start=False)
    assert not any(board.places.root.iterdir())
    told = "\n".join(board.said)
    assert "--require-hashes" in told and "edgeagent.service" in told and "/opt/edgeagent/current" in told


def laid(board: Board, version: str) -> Wheelhouse:
    """A release that lies there already, of files that stand in for its programs."""
    house = Wheelhouse(board.base, version, f"edgeagent=={version}\n", board.base, None)
    slot = board.slots.path(house.slot)
    shutil.copytree(ROOT / "systemd", slot / "share" / "edgeagent" / "systemd")
    for name in "bin/edgeagent", "bin/python", "lib/python3/site-packages/edgeagent/web/index.html":
        (slot / name).parent.mkdir(parents=True, exist_ok=True)
        (slot / name).write_text(version)
    (slot / ".whole").write_text(json.dumps({"version": version}))
    return house


@pytest.mark.parametrize("older", [False, True])
def test_the_machine_of_a_site_goes_on_over_two_upgrades(board: Board, monkeypatch: pytest.MonkeyPatch, older: bool) -> None:
    """Its service, its page and the hook of its certificate come from the release that runs, not from the one that made them;
    also where an `older` release made them, which named itself."""
    places, first = board.places, laid(board, "1.0")
    board.slots.switch(first.slot)
    release = f"/opt/edgeagent/releases/{first.slot}"
    places.etc.mkdir(parents=True)
    (places.etc.parent / "debian_version").write_text("13.1\n")
    site = places.at("/var/lib/edgeagent-site")
    options = argparse.Namespace(root=places.root, cert=None, key=None, url=[], host="hub.example.org", email="ann@example.org")
    options.public_host, options.acme_server = "hub.example.org", ""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "prefix", release)
        patch.setattr(sys, "executable", f"{release}/bin/python")
        if older:
            patch.setattr(here, "lasting", lambda path: path)
            patch.setattr(acme, "lasting", lambda path: path)
        patch.setattr(edgeagent, "__file__", f"{release}/lib/python3/site-packages/edgeagent/__init__.py")
        made = here.of(options, site)
        hook = acme.command(acme.Order(made.public), made.site)
        for step in here.steps(made, None, 0.0, places.root):
            if isinstance(step, here.Write):
                here._do(step, places.root)
    renewal = places.at("/etc/letsencrypt/renewal/edgeagent-hub.example.org.conf")
    renewal.parent.mkdir()
    renewal.write_text(f"renew_hook = {shlex.join(hook)}\n")
    renewal.chmod(0o600)
    assert len(files.bound(places)) == (3 if older else 0)
    unit = places.units / "edgeagent-site.service"
    unit.write_text("of 1.0")
    for version in "1.1", "1.2":
        board.installation.upgrade(laid(board, version), index=False)
    assert not places.at(release).exists()
    assert unit.read_text() == (ROOT / "systemd/edgeagent-site.service").read_text()
    texts = [path.read_text() for path in places.at("/etc").rglob("*") if path.is_file()]
    assert mode(renewal) == 0o600
    named = set(re.findall(r"/opt/edgeagent/[^\s;'\"]+", " ".join(texts)))
    assert {Path(name).name for name in named} >= {"edgeagent", "python", "web"}
    for name in named - {"/opt/edgeagent/trial"}:
        assert name.startswith("/opt/edgeagent/current/") and places.at(name).exists(), name
    assert (places.current / "bin/python").read_text() == "1.2"

    board.installation.uninstall(purge=True)
    assert not [path for path in places.units.iterdir() if path.name.startswith("edgeagent")]
    assert "mosquitto.service.d" in [path.name for path in places.units.iterdir()]


class Told(Steps):
    """Steps that answer as `systemctl show` would."""

    def __init__(self, places: Places, told: dict[str, str]) -> None:
        super().__init__(places)
        self.told, self.ran = told, list[str]()

    def run(self, argv: Sequence[str], **more: Any) -> str:
        if argv[1] != "show":
            self.ran.append(" ".join(argv[1:]))
        return self.told.get(f"{argv[-1].partition('.')[0]} {argv[3].partition('=')[2]}", "") if argv[1] == "show" else ""


@pytest.mark.parametrize(
    ("state", "since", "restarted", "steady"),
    [("active", 1, True, False), ("activating", 0, True, True), ("inactive", 0, False, True), ("", 0, False, True)],
)
def test_the_service_of_a_site_begins_anew_with_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, since: int, restarted: bool, steady: bool
) -> None:
    monkeypatch.setattr(Places, "live", True)
    monkeypatch.setattr(service, "_STEADY_S", 0.01 if steady else 60.0)  # it is seen at once
    monkeypatch.setattr(service, "_POLL_S", 0.001)
    places = Places(tmp_path)
    if state:
        places.units.mkdir(parents=True)
        (places.units / "edgeagent-site.service").touch()
    told = {"edgeagent ActiveState": "active", "edgeagent-site ActiveState": state}
    told["edgeagent-site ActiveEnterTimestampMonotonic"] = str(since)
    steps = Told(places, told)
    systemd = service.Systemd(steps)
    systemd.restart()
    assert steps.ran == ["restart edgeagent.service", *(["restart edgeagent-site.service"] if restarted else [])]
    told["edgeagent-site ActiveState"] = "failed"  # by the release that is tried; or it had failed before
    assert systemd.steady() is steady
    steps.ran.clear()
    systemd.restart()  # going back
    assert steps.ran == ["restart edgeagent.service", *(["restart edgeagent-site.service"] if restarted else [])]


def test_a_wheel_of_another_hash_is_not_installed(board: Board) -> None:
    house = board.make("1.0")
    lock = house.folder / "requirements.txt"
    lock.write_text(lock.read_text().replace("sha256:", "sha256:0").replace(" \\\n", " \\\n"))
    with pytest.raises(EdgeAgentError, match="its hash differs"):
        Wheelhouse.open(house.folder)
    # The same, where only pip can notice: a further package.
    other = wheelhouse(board.base / "other", "2.0")
    (other / "requirements.txt").write_text((other / "requirements.txt").read_text() + f"absent==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EdgeAgentError, match="absent"):
        board.installation.install(Wheelhouse.open(other), index=False)
    assert board.slots.names() == [] and board.runs == ""


@pytest.mark.parametrize("text", ["", "edgeagent\n", "edgeagent==1.0\n"])
def test_what_is_no_wheelhouse(tmp_path: Path, text: str) -> None:
    with pytest.raises(EdgeAgentError, match="provision wheelhouse"):
        Wheelhouse.open(tmp_path)
    (tmp_path / "requirements.txt").write_text(text)
    with pytest.raises(EdgeAgentError, match="provision wheelhouse"):
        Wheelhouse.open(tmp_path)


def test_the_distributions_numpy_stays_beside_its_picamera2(board: Board) -> None:
    """With a newer one picamera2 does not load any more; without picamera2 the lock's is taken, which we are tested with."""
    ours, other = "edgeagent==1.0 \\\n    --hash=sha256:0\n", "numpy-x==1 \\\n    --hash=sha256:2\n"
    lock = f"{ours}numpy==2.4 ; python_version < '3.12' \\\n    --hash=sha256:1\n{other}"
    house = Wheelhouse(board.base, "1.0", lock, board.base, None)
    assert house.without({"numpy"}) == ours + other
    packages = board.places.at("/usr/lib/python3/dist-packages")
    for folder, left in ("numpy", set()), ("picamera2", {"numpy"}):
        (packages / folder).mkdir(parents=True)
        assert board.slots.left_to_the_distribution() == left
