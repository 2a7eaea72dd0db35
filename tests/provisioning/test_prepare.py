"""Cards: what is a boot partition and what is not, and what is written there."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from edgeagent.cli import main
from edgeagent.config import Drivers, load
from edgeagent.errors import EdgeAgentError
from edgeagent.wire.claim import Claim
from edgeagent_provisioning import prepare
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.planning import plan
from edgeagent_provisioning.site import Site
from tests.install.wheels import wheelhouse

FRESH = "#cloud-config\n\n# hostname: raspberrypi\n# users:\n"
COMMAND = "console=serial0,115200 console=tty1 root=PARTUUID=1-02 rootfstype=ext4 fsck.repair=yes rootwait\n"
WIFI = {"ssid": "Lab", "psk": "correct horse"}


def partition(folder: Path, *, trixie: bool = True) -> Path:
    """As Raspberry Pi OS has it."""
    (folder / "overlays").mkdir(parents=True)
    for name in ("bootcode.bin", "config.txt", "kernel8.img", "kernel_2712.img", "issue.txt"):
        (folder / name).write_text("arm_64bit=1\n")
    (folder / "cmdline.txt").write_text(COMMAND)
    for name in ("user-data", "network-config", "meta-data") if trixie else ():
        (folder / name).write_text(FRESH)
    return folder


def order(**more: object) -> prepare.Order:
    claim = Claim("https://site:8443", "p" * 43, "0123456789abcdef", "s" * 22)
    values = {"board": "porch", "claim": claim.text(), "token_id": claim.token_id, "wifi": WIFI, "country": "CH"} | more
    return prepare.Order(**values)  # type: ignore[arg-type]


def test_which_system_is_on_the_card(tmp_path: Path) -> None:
    trixie = prepare.recognise(partition(tmp_path / "a"))
    assert (trixie.way, trixie.python, trixie.prepared_for, trixie.foreign) == ("cloud-init", "3.13", "", False)
    bookworm = prepare.recognise(partition(tmp_path / "b", trixie=False))
    assert (bookworm.way, bookworm.python) == ("firstrun", "3.11")
    (tmp_path / "a" / "user-data").write_text("#cloud-config\nhostname: mine\n")
    assert prepare.recognise(tmp_path / "a").foreign


def test_what_is_no_boot_partition(tmp_path: Path) -> None:
    for folder, word in (tmp_path / "absent", "no folder"), (tmp_path, "It is empty"):
        with pytest.raises(EdgeAgentError, match=word):
            prepare.recognise(folder)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "config.txt").touch()
    with pytest.raises(EdgeAgentError, match=r"it lacks cmdline\.txt, kernel\*\.img"):
        prepare.recognise(tmp_path)
    (tmp_path / "usr").mkdir()
    with pytest.raises(EdgeAgentError, match="`rootfs`"):
        prepare.recognise(tmp_path)
    small = partition(tmp_path / "small")
    for name in ("kernel8.img", "kernel_2712.img"):
        (small / name).unlink()
    (small / "kernel7l.img").touch()
    with pytest.raises(EdgeAgentError, match="32-bit"):
        prepare.recognise(small)


def test_a_card_for_cloud_init(tmp_path: Path) -> None:
    card = prepare.recognise(partition(tmp_path / "boot"))
    done = prepare.prepare(card, order(), wheels=wheelhouse(tmp_path / "wheels", "1.0"))
    boot = card.folder
    assert yaml.safe_load((boot / "meta-data").read_text()) == {"instance-id": "edgeagent-porch-0123456789abcdef"}
    assert (boot / "cmdline.txt").read_text() == COMMAND
    assert "s" * 22 in (boot / "edgeagent/claim.json").read_text()
    assert "s" * 22 not in (boot / "user-data").read_text()
    for line in (boot / "edgeagent/wheelhouse/SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((boot / "edgeagent/wheelhouse" / name).read_bytes()).hexdigest()
    config = load(boot / "edgeagent/edgeagent.yaml", {}, Drivers.installed())
    assert config.device == "porch" and config.join  # a claim that is void must not keep it out: it takes a QR then
    assert json.loads((boot / "edgeagent/card.json").read_text()) == {
        "board": "porch",
        "token": "0123456789abcdef",
        "index": False,
        "wifi": True,
    }
    shown = "\n".join(done.files.values())
    assert "s" * 22 not in shown and '"password": "***"' in shown
    # Once more, for another board: nothing of the first stays.
    assert prepare.recognise(boot).prepared_for == "porch"
    prepare.prepare(prepare.recognise(boot), order(board="gate"), wheels=tmp_path / "wheels")
    assert not [path for path in boot.rglob("*") if path.is_file() and b"porch" in path.read_bytes()]


def test_a_card_for_the_systems_before(tmp_path: Path) -> None:
    card = prepare.recognise(partition(tmp_path / "boot", trixie=False))
    for _ in range(2):  # a second time adds nothing twice
        prepare.prepare(card, order(), wheels=tmp_path / "wheels" if _ else wheelhouse(tmp_path / "wheels", "1.0"))
    line = (card.folder / "cmdline.txt").read_text()
    assert (
        line.startswith(COMMAND.strip() + " ")
        and line.count("systemd.run=/boot/firmware/firstrun.sh") == 1
        and line.count("\n") == 1
    )
    assert (card.folder / "firstrun.sh").read_text().startswith("#!/bin/sh\n")
    assert not (card.folder / "user-data").exists()


def test_only_wheels_that_the_system_can_use_are_copied(tmp_path: Path) -> None:
    wheels = wheelhouse(tmp_path / "wheels", "1.0")
    for tags in "cp311-cp311-manylinux_2_28_aarch64", "cp313-cp313-manylinux_2_28_aarch64", "cp38-abi3-manylinux_2_28_aarch64":
        (wheels / "wheels" / f"{tags[:5].replace('-', '')}-1-{tags}.whl").touch()
    card = prepare.recognise(partition(tmp_path / "boot"))
    prepare.prepare(card, order(), wheels=wheels)
    names = {path.name.split("-")[0] for path in (card.folder / "edgeagent/wheelhouse/wheels").iterdir()}
    assert names == {"edgeagent", "cp313", "cp38"}


def test_a_card_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    card = prepare.recognise(partition(tmp_path / "boot"))
    with pytest.raises(EdgeAgentError, match="leave --wheelhouse out"):
        prepare.prepare(card, order(), wheels=wheelhouse(tmp_path / "wheels", "1.0"))
    assert (card.folder / "user-data").read_text() == FRESH


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ssh_user": "ops"}, "--ssh-key"),
        ({"ssh_keys": ["ssh-ed25519 AAAA"]}, "--ssh-user"),
        ({"ssh_user": "Ops; rm", "ssh_keys": ["ssh-ed25519 AAAA"]}, "no name of a user"),
        ({"ssh_user": "ops", "ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}, r"\.pub"),
        ({"timezone": "../etc/shadow x"}, "no time zone"),
        ({"country": "x"}, "two letters"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(tmp_path: Path, more: dict[str, object], words: str) -> None:
    card = prepare.recognise(partition(tmp_path / "boot"))
    with pytest.raises(EdgeAgentError, match=words):
        prepare.prepare(card, order(**more), wheels=wheelhouse(tmp_path / "wheels", "1.0"))
    assert not (card.folder / "edgeagent").exists()


@pytest.mark.parametrize("trixie", [True, False])
def test_no_secret_is_shown(tmp_path: Path, trixie: bool) -> None:
    cameras = {
        "quoted": {"driver": "rtsp", "password": 'x"SECRET', "url": "rtsp://me:p@SECRET@cam/1?token=SECRET", "width": 640},
        "named": {"token": "SECRET", "passphrase": "SECRET", "more": [{"secret": ["SECRET"], "api_key": "SECRET"}]},
    }
    given = order(config={"title": "Porch", "cameras": cameras}, wifi={"ssid": "Lab", "psk": "12345-SECRET"})
    key = hashlib.pbkdf2_hmac("sha1", b"12345-SECRET", b"Lab", 4096, 32).hex()
    card = prepare.recognise(partition(tmp_path / "boot", trixie=trixie))
    shown = prepare.prepare(card, given, wheels=wheelhouse(tmp_path / "wheels", "1.0")).files
    written = {name: (card.folder / name).read_text() for name in shown}
    assert any(key in text for text in written.values()) and "SECRET" in written["edgeagent/edgeagent.yaml"]
    everything = "\n".join(shown.values())
    assert "SECRET" not in everything and key not in everything and "s" * 22 not in everything
    assert '"width": 640' in everything and '"title": "Porch"' in everything and "cam/1" in everything
    assert shown["edgeagent/claim.json"] == written["edgeagent/claim.json"].replace("s" * 22, "***")


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """Into a folder (`--out`) where another user may have laid some, root writes."""
    outside, wheels = tmp_path / "outside", wheelhouse(tmp_path / "wheels", "1.0")
    outside.mkdir()
    (outside / "file").write_text("precious")
    card = prepare.recognise(partition(tmp_path / "boot"))
    (card.folder / "meta-data.new").symlink_to(outside / "file")
    (card.folder / "user-data").unlink()
    (card.folder / "user-data").symlink_to(outside / "file")
    prepare.prepare(card, order(), wheels=wheels)
    assert not (card.folder / "user-data").is_symlink()
    shutil.rmtree(card.folder / "edgeagent")
    (card.folder / "edgeagent").symlink_to(outside)
    with pytest.raises(EdgeAgentError, match="is a link"):
        prepare.prepare(card, order(), wheels=wheels)
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "precious")]


def test_the_command(made_site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the registry's claim and Wi-Fi; today, since the command asks the clock."""
    folder = shutil.copytree(made_site, tmp_path / "site")
    boot, wheels = partition(tmp_path / "boot"), wheelhouse(tmp_path / "wheels", "1.0")
    with Site.open(folder) as site:
        plan(site, Row(0, "porch", place="Porch", cameras={"gate": {"driver": "test-pattern"}}, wifi=WIFI), time.time())
        token, pin = site.registry.claim_of("porch", time.time()), site.authority.root_pin
    assert token
    arguments = ["provision", "prepare", "--site", str(folder), "--wheelhouse", str(wheels)]
    assert main([*arguments, "--boot", str(boot), "porch"]) == 0
    shown = capsys.readouterr().out
    assert token.secret not in shown and WIFI["psk"] not in shown and "The key of the Wi-Fi stays on it." in shown
    claim = Claim.parse((boot / "edgeagent/claim.json").read_text())
    assert (claim.secret, claim.ssid, claim.root_pin) == (token.secret, "", pin)
    config = load(boot / "edgeagent/edgeagent.yaml", {}, Drivers.installed())
    assert (config.title, list(config.cameras)) == ("Porch", ["gate"])

    assert main([*arguments, "--boot", str(boot), "gate"]) == 1
    assert "provision add gate" in capsys.readouterr().err
    with Site.open(folder) as site:
        plan(site, Row(0, "gate"), time.time())
    assert main([*arguments, "--boot", str(boot), "gate"]) == 1
    assert "was prepared for porch" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "cards"), "--json", "gate", "porch"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [card["board"] for card in told] == ["gate", "porch"] and token.secret not in json.dumps(told)
    assert (tmp_path / "cards" / "gate" / "user-data").is_file()
