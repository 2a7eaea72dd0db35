"""Root on a site of somebody else: it is led nowhere, and leaves nothing behind that the site's owner cannot use."""

from __future__ import annotations

import argparse
import base64
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.errors import ConfigError, EdgeAgentError
from edgeagent_provisioning import backup, held, keyfiles, prepare, rights
from edgeagent_provisioning.broker import acme, files, public
from edgeagent_provisioning.broker.places import INCLUDED
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.cli import fleet
from edgeagent_provisioning.fleet import Order
from edgeagent_provisioning.site import Site
from tests.install.wheels import wheelhouse
from tests.provisioning.common import NOW
from tests.provisioning.test_prepare import order

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def theirs(made_site: Path) -> Iterator[Path]:
    """A site of the user nobody, in a folder that everybody may enter, and beside it `roots`, which is root's."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "roots").mkdir(mode=0o700)
        site = shutil.copytree(made_site, place / "site")
        rights.own_tree(site, NOBODY.pw_uid, NOBODY.pw_gid)
        yield site


# First as root on root's own site, which loads all modules: the interpreter of a test may lie where only root may read.
PROGRAM = """
import contextlib, io, json, sys
from edgeagent.cli import main
from edgeagent_provisioning import rights
def run(site, words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        return main(["provision", *words, "--site", site]), err.getvalue()
own, theirs, first, then = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
for words in first:
    run(own, words)
rights._program_readable = lambda: True
print(json.dumps([run(theirs, words) for words in then]))
"""
BROKER = ["broker", "mosquitto", "--host", "hub.local"]


def provision(made_site: Path, theirs: Path, first: list[list[str]], then: list[list[str]]) -> list[tuple[int, str]]:
    """Exit codes of commands on `theirs`, and what they said of failures."""
    with tempfile.TemporaryDirectory() as name:
        own = shutil.copytree(made_site, Path(name) / "site")
        command = [sys.executable, "-c", PROGRAM, str(own), str(theirs), json.dumps(first), json.dumps(then)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


@pytest.mark.realtime
def test_what_root_writes_belongs_to_the_owner_and_named_files_to_root(made_site: Path, theirs: Path) -> None:
    roots = theirs.parent / "roots"
    (roots / "passphrase").touch(0o600)
    (roots / "passphrase").write_text("correct horse battery\n")
    words = [BROKER, ["site", "backup", str(roots / "home.backup"), "--passphrase-file", str(roots / "passphrase")]]
    card = ["prepare", "--wheelhouse", str(wheelhouse(theirs.parent / "wheels", "1.0")), "gate"]
    words += [["add", "gate"], card, [*card, "--out", str(roots / "cards")]]
    done = provision(made_site, theirs, words, words)
    assert [code for code, _ in done] == [0] * 5
    assert (theirs / "broker/server.key").exists() and (theirs / "cards/gate/edgeagent/claim.json").exists()
    for path in (roots / "home.backup", roots / "cards/gate/edgeagent/claim.json"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o600)
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {NOBODY.pw_uid}


@pytest.mark.realtime
def test_links_and_settings_of_the_owner_lead_root_nowhere(made_site: Path, theirs: Path) -> None:
    roots = theirs.parent / "roots"
    with Site.open(theirs) as site:
        # As the owner could by his own hand: a file of the system to include, and a folder of root's for the broker's files.
        Settings(("hub.local",), folder=str(roots / "broker"), include=str(roots / "included.conf")).save(site, NOW)
    (theirs / ".site-tool-1").symlink_to(roots / "lock")
    (theirs / "labels").symlink_to(roots / "labels")
    rights.own_tree(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    folder, add = ["broker", "mosquitto", "--folder", str(theirs / "broker")], ["add", "gate"]
    done = provision(made_site, theirs, [BROKER, add, ["labels"]], [["broker", "mosquitto"], folder, add, ["labels"]])
    assert str(INCLUDED) in done[0][1]
    assert str(INCLUDED) in done[1][1]
    assert [bool(code) for code, _ in done] == [True, True, True, True]
    assert list(roots.iterdir()) == []


# In `roots` first, for the same reason.
MAKING = """
import sys
from pathlib import Path
from edgeagent_provisioning import backup, keyfiles, rights
from edgeagent_provisioning.site import Site
place, now = Path(sys.argv[1]), float(sys.argv[2])
found = backup.read((place / "roots/home.backup").read_bytes(), None)
keyfiles._ROUNDS = 1
def make(folder):
    Site.create(folder / "made", "home", "correct horse", now).close()
    backup.restore(found, folder / "restored", now).close()
make(place / "roots")
rights._program_readable = lambda: True
rights.take_on(place / "made")
assert rights.lent()
make(place)
"""


@pytest.mark.realtime
def test_a_site_is_made_in_the_empty_folder_of_a_service(theirs: Path) -> None:
    """As systemd makes it (StateDirectory=): in a folder of root's, where the service may make nothing."""
    place = theirs.parent
    with Site.open(theirs) as site:
        backup.write(site, place / "roots/home.backup", NOW, None)
    for name in ("made", "restored"):
        (place / name).mkdir(mode=0o700)
        (place / name / ".new-site.00000000").mkdir()  # of a try that broke off
        rights.own_tree(place / name, NOBODY.pw_uid, NOBODY.pw_gid)
    before = set(place.iterdir())
    command = [sys.executable, "-c", MAKING, str(place), str(NOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(place.iterdir()) == before
    for name in ("made", "restored"):
        with Site.open(place / name) as made:
            assert made.name == "home" and made.registry.audit_problem() is None
        assert {path.stat().st_uid for path in (place / name).rglob("*")} == {NOBODY.pw_uid}
        assert not list((place / name).glob(".new-site.*"))


SNAPSHOT = """
import argparse, base64, os, sys
from pathlib import Path
from edgeagent_provisioning import rights
from edgeagent_provisioning.cli import fleet
from edgeagent_provisioning.fleet import Order
theirs, out = map(Path, sys.argv[1:])
def answered(options, body, keep):
    rights._program_readable = lambda: True
    rights.take_on(theirs)
    keep(Order(1, "gate", "snapshot", "done", 200, "", base64.b64encode(b"picture").decode()))
    return os.geteuid()
fleet._order = answered
print(fleet._snapshot(argparse.Namespace(out=out, camera="", json=True)))
"""


@pytest.mark.realtime
def test_a_snapshot_goes_where_root_says(theirs: Path) -> None:
    out = theirs.parent / "roots/pictures"
    command = [sys.executable, "-c", SNAPSHOT, str(theirs), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == f"{NOBODY.pw_uid}\n"
    assert (out / "gate.jpg").read_bytes() == b"picture" and (out / "gate.jpg").stat().st_uid == 0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of the user nobody, `out`, and beside it `roots`, which is root's."""
    for name in ("roots", "out"):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / "out", NOBODY.pw_uid, NOBODY.pw_gid)
    return tmp_path


def exchanged(folder: Path, elsewhere: Path) -> None:
    """As its owner could at any moment."""
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(elsewhere)


def test_a_folder_that_is_exchanged_meanwhile_leads_root_nowhere(place: Path) -> None:
    out, roots = place / "out", place / "roots"
    (place / "straight").symlink_to("out/../out/")
    with held.Held(place / "straight/cards/new") as folder:
        exchanged(out / "cards", roots)
        keyfiles.write_private(folder.path / "a", "a")
        keyfiles.write_private(folder.below("b", "c") / "d", "d")
        (out / "moved/new/e").symlink_to(roots)
        with pytest.raises(EdgeAgentError, match="new/e is a link"):
            folder.below("e", "f")
    assert sorted(str(path.relative_to(out)) for path in (out / "moved").rglob("*") if path.is_file()) == [
        "moved/new/a",
        "moved/new/b/c/d",
    ]
    for path in (out / "cards", out / "cards/new"):
        with pytest.raises(EdgeAgentError, match="a link of another user"), held.Held(path):
            pass
    (place / "round").symlink_to("round")
    with pytest.raises(EdgeAgentError, match="without an end"), held.Held(place / "round"):
        pass
    assert list(roots.iterdir()) == []


@pytest.mark.parametrize("which", ["gate", "gate/edgeagent", "gate/edgeagent/wheelhouse"])
def test_a_card_is_written_where_it_began_or_nowhere(place: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    wheels, card = wheelhouse(place / "wheels", "1.0"), prepare.Card(place / "out/gate", "cloud-init", "3.13")
    measured = shutil.disk_usage

    def meanwhile(path: Path) -> object:
        (place / "out" / which).mkdir(exist_ok=True)
        exchanged(place / "out" / which, place / "roots")
        return measured(path)

    monkeypatch.setattr(shutil, "disk_usage", meanwhile)
    if which.endswith("wheelhouse"):
        with pytest.raises(EdgeAgentError, match="wheelhouse is a link"):
            prepare.prepare(card, order(), wheels=wheels)
    else:
        prepare.prepare(card, order(), wheels=wheels)
        monkeypatch.undo()
    assert list((place / "roots").iterdir()) == []


CHILDREN = """
import json, os, sys
from pathlib import Path
from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import rights, wheelhouse
theirs, sys.executable = Path(sys.argv[1]), sys.argv[2]
os.setgroups([1, 2])
told = []
def pip():
    try:
        wheelhouse._pip("wheel")
    except EdgeAgentError as error:
        told.append(str(error).splitlines()[1:])
rights._program_readable = lambda: False
try:
    rights.take_on(theirs)
except EdgeAgentError:
    told.append([os.geteuid(), os.getegid(), sorted(os.getgroups()), rights.lent()])
rights._program_readable = lambda: True
rights.take_on(theirs)
pip()
with rights.as_root():
    pip()
print(json.dumps(told))
"""


@pytest.mark.realtime
def test_a_child_has_no_way_back_to_root(theirs: Path) -> None:
    """Real, effective, saved user of what is run; and a try that failed leaves root as it was."""
    program = theirs.parent / "python"
    program.write_text("#!/bin/sh\ngrep ^Uid: /proc/self/status; pwd; echo $1\nexit 1\n")
    program.chmod(0o755)
    command = [sys.executable, "-c", CHILDREN, str(theirs), str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    failed, theirs_, roots = json.loads(done.stdout)
    assert failed == [0, 0, [1, 2], False]
    assert theirs_ == ["\t".join(["Uid:", *[str(NOBODY.pw_uid)] * 4]), "/", "-I"]
    assert roots == ["\t".join(["Uid:", *["0"] * 4]), "/", "-I"]


def test_whoever_can_exchange_a_link_on_the_way_is_seen(tmp_path: Path) -> None:
    (tmp_path / "roots/site").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/link").symlink_to("../roots")
    os.chown(tmp_path / "theirs", NOBODY.pw_uid, NOBODY.pw_gid)
    (tmp_path / "straight").symlink_to(tmp_path / "roots")
    (tmp_path / "through").symlink_to(tmp_path / "theirs/link")
    (tmp_path / "round").symlink_to("round")
    assert rights.changer(tmp_path / "straight/site") is rights.changer(tmp_path / "absent/site") is None
    assert rights.changer(tmp_path / "through/site") == (NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(EdgeAgentError, match="without an end"):
        rights.changer(tmp_path / "round/site")


def test_a_snapshot_overwrites_nothing_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/gate.jpg").symlink_to(tmp_path / "precious")
    order = Order(1, "gate", "snapshot", "done", 200, "", base64.b64encode(b"picture").decode())

    def answered(options: object, body: object, keep: Callable[[Order], None]) -> int:
        keep(order)
        return 0

    monkeypatch.setattr(fleet, "_order", answered)
    assert fleet._snapshot(argparse.Namespace(out=tmp_path / "out", camera="", json=True)) == 0
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "out/gate.jpg").read_bytes() == b"picture"


def test_a_stick_that_is_not_mounted_is_missed(tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match="mount what it is on"):
        held.write_private(tmp_path / "usb/home.backup", "x", make=False)
    assert not (tmp_path / "usb").exists()


def test_a_tree_is_given_away_without_what_its_links_lead_to(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep").mkdir(parents=True)
    outside.mkdir()
    (inside / "deep/file").touch()
    (outside / "file").touch()
    (inside / "link").symlink_to(outside)
    (inside / "deep/link").symlink_to(outside / "file")
    os.link(outside / "file", inside / "second-name")
    rights.own_tree(inside, NOBODY.pw_uid, NOBODY.pw_gid)
    assert (inside / "deep/file").stat().st_uid == inside.stat().st_uid == NOBODY.pw_uid
    assert (outside / "file").stat().st_uid == outside.stat().st_uid == 0


def test_lines_of_a_configuration_are_no_address() -> None:
    settings = Settings(("hub.local",), folder="/var/lib/edgeagent-broker", include=str(INCLUDED), pairs=(("a", "b"),))
    assert "listener 8883" in files.included(settings)
    with pytest.raises(ConfigError):
        files.included(Settings(**(json.loads('{"bind": "fe80::1%x\\nplugin evil"}')), hosts=("hub.local",)))


def test_root_reads_no_key_for_others_but_the_one_that_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(host: str, cert: str | Path, key: str | Path) -> bool:
        return public._for_root(Settings((host,), public_host=host, cert=str(cert), key=str(key)))

    own, other = acme.Order("hub.example.org").pair, acme.Order("bank.example.org").pair
    assert read("hub.example.org", *own)  # certbot's hook, at each renewal
    assert not read("hub.example.org", *other)
    assert not read("hub.example.org/../edgeagent-bank.example.org", *other)
    assert not read("hub.example.org", "/etc/ssl/cert.pem", "/etc/ssl/private/key.pem")
    monkeypatch.setattr(rights, "_named", set())
    rights.named(Path("/etc/ssl/cert.pem"), Path("/etc/ssl/private/key.pem"))
    assert read("hub.example.org", "/etc/ssl/cert.pem", "/etc/ssl/private/key.pem")
