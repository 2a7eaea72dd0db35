"""The first boot of a prepared card, in a real Debian trixie: cloud-init reads it, the agent is installed, joins its site, runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeagent.install.wheels import Wheelhouse
from edgeagent_provisioning import claims, prepare, wheelhouse
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.planning import plan
from edgeagent_provisioning.site import Site
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.test_prepare import partition
from tests.rootfs.board import PYTHON, Board, wheels
from tests.support.broker import free_port
from tests.support.components import require
from tests.support.procs import Program

WIFI = {"ssid": "Lab", "psk": "correct horse"}


@pytest.mark.e2e
@pytest.mark.timeout(900)  # the first run makes the system and fetches the wheels
def test_first_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    require("mmdebstrap")
    require("mosquitto")
    machine, service, page = os.uname().machine, free_port(), free_port()
    kept = wheels(wheelhouse.lock_text())
    with monkeypatch.context() as patch:  # what is kept was checked against the lock, and is checked again
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(kept))
        house = wheelhouse.make(tmp_path / "house", machine=machine, pythons=[PYTHON]).folder

    url, now = f"https://127.0.0.1:{service}", time.time()
    with (
        Site.create(tmp_path / "site", "home", "correct horse battery", now, urls=[url]) as site,
        SiteBroker(site, now, hosts=("127.0.0.1",)),
    ):
        camera = {"gate": {"driver": "test-pattern", "size": "320x180", "fps": 10}}
        token = plan(site, Row(0, "porch", place="Front porch", cameras=camera, wifi=WIFI), time.time()).token
        assert token
        order = prepare.Order(
            board="porch",
            claim=claims.claim_for(site, token).text(),
            token_id=token.id,
            config={"cameras": camera},
            wifi=WIFI,
            country="CH",
            ssh_user="ops",
            ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE ops@bench"],
        )
        boot = partition(tmp_path / "boot")
        prepare.prepare(prepare.recognise(boot), order, wheels=house, machine=machine)
        board = Board(tmp_path / "board", boot)
        reads_the_card(board)

        serve = [sys.executable, "-m", "edgeagent", "provision", "serve", "--site", str(site.folder)]
        with Program([*serve, "--listen", f"127.0.0.1:{service}"]) as serving:
            said = board.run("sh /boot/firmware/edgeagent/first-boot.sh")
            assert "First boot is done." in said and "The key of the Wi-Fi stays" in said
            joined = site.registry.board("porch")
            assert joined and joined.enrolled_at and serving.running

            is_installed(board, Wheelhouse.open(house).slot)
            assert holding([boot, board.at("/"), tmp_path / "board" / "run"], token.secret) == []
            with started(board, page) as agent:
                agent.wait_for(lambda: on_the_broker(site), "the site to see it, by its certificate and its own words")
                told = ask(page, "api/hello")
                assert (told["title"], [each["name"] for each in told["cameras"]]) == ("Front porch", ["gate"])


def reads_the_card(board: Board) -> None:
    """cloud-init takes its files for right, and does what they say."""
    said = board.run(
        "cloud-init schema --config-file /boot/firmware/user-data; "
        "cloud-init schema --config-file /boot/firmware/network-config --schema-type network-config",
        network=False,
    )
    assert said.count("Valid") == 2 and "Error" not in said and "deprecat" not in said.lower(), said
    stages = ("init --local", "init", "modules --mode=config", "modules --mode=final")
    board.run(" && ".join(f"cloud-init {stage}" for stage in stages), network=False)
    result = json.loads((board.at("/var/lib/cloud/data/result.json")).read_text())["v1"]
    assert result["errors"] == [] and "NoCloud" in result["datasource"], result
    assert board.at("/etc/hostname").read_text() == "porch\n"
    netplan = yaml.safe_load(board.at("/etc/netplan/50-cloud-init.yaml").read_text())["network"]
    assert list(netplan["wifis"]["wlan0"]["access-points"]) == ["Lab"]
    assert "ops@bench" in board.at("/home/ops/.ssh/authorized_keys").read_text()
    wanted = board.at("/etc/systemd/system/multi-user.target.wants/edgeagent-first-boot.service")
    assert wanted.is_symlink()


def is_installed(board: Board, slot: str) -> None:
    units = board.at("/etc/systemd/system")
    assert {path.name for path in (units / "multi-user.target.wants").iterdir()} >= {"edgeagent.service"}
    assert not (units / "edgeagent-first-boot.service").exists()
    assert os.readlink(board.at("/opt/edgeagent/current")) == f"releases/{slot}"
    identity = board.at("/var/lib/edgeagent/identity")
    account = next(line for line in board.at("/etc/passwd").read_text().splitlines() if line.startswith("edgeagent:")).split(":")
    for name in "id.pem", "enc.pem", "tls.pem":
        found = (identity / name).stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o600, int(account[2]))
    assert json.loads(board.at("/etc/edgeagent/upgrade-keys.json").read_text())["device"] == "porch"


def holding(folders: list[Path], secret: str) -> list[Path]:
    """Files that hold a secret. Wheels and libraries cannot."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.suffix not in {".whl", ".so", ".pyc"} and secret.encode() in path.read_bytes()]


def on_the_broker(site: Site) -> bool:
    board = site.registry.board("porch")
    return board is not None and board.state == "active" and board.online


@contextlib.contextmanager
def started(board: Board, page: int) -> Iterator[Program]:
    """By the line of the unit, as the unit's user, with what systemd gives it; once it is healthy."""
    unit = board.at("/etc/systemd/system/edgeagent.service").read_text()
    command = unit.partition("\nExecStart=")[2].partition("\n")[0]
    env = f"STATE_DIRECTORY=/var/lib/edgeagent EDGEAGENT_HTTP__LISTEN=127.0.0.1:{page}"
    with Program(board.argv(f"cd $(mktemp -d); exec env {env} {command}", user="edgeagent")) as agent:

        def healthy() -> bool:
            try:
                return bool(ask(page, "healthz"))
            except OSError:
                return False

        agent.wait_for(healthy, "the agent to be healthy")
        yield agent


def ask(page: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/{path}", timeout=10) as answer:
        return json.load(answer)
