from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import backup, keyfiles, rotation
from edgeagent_provisioning.authority import certificates
from edgeagent_provisioning.registry import Registry
from edgeagent_provisioning.site import Site, default_folder
from tests.provisioning.common import DAY, NOW, PASSPHRASE, certified, planned, public_key

PRIVATE = {"root.key.pem", "issuing.key", "service.key", "site-keys.json", "registry.sqlite3"}


def test_what_is_secret_is_for_the_owner_only(made_site: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made_site.iterdir() if path.is_file()}
    assert modes.keys() >= PRIVATE
    assert {name for name, mode in modes.items() if mode == 0o600} - {".lock"} == PRIVATE
    assert stat.S_IMODE(made_site.stat().st_mode) == 0o700
    text = b"".join(path.read_bytes() for path in made_site.iterdir() if path.name not in PRIVATE and path.is_file())
    assert b"PRIVATE" not in text and b'"d"' not in text


@pytest.mark.parametrize("name", ["issuing.key", "site-keys.json", "registry.sqlite3"])
def test_what_others_may_read_is_refused(site: Site, name: str) -> None:
    (site.folder / name).chmod(0o640)
    with pytest.raises(EdgeAgentError, match="chmod 600"), Site.open(site.folder) as again:
        again.authority.crl([], NOW)
        assert again.keys and again.registry


def test_a_clock_that_was_never_set_issues_nothing(site: Site, tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match="clock of this machine is not set"):
        site.authority.issue_board("gate-1", public_key(), 3600)
    with pytest.raises(EdgeAgentError, match="clock of this machine is not set"):
        Site.create(tmp_path / "new", "home", PASSPHRASE, 3600)
    before = site.write_crl(NOW)
    with pytest.raises(EdgeAgentError, match="clock of this machine is not set"):
        site.write_crl(3600)  # the broker would refuse every board by it, once the clock is set
    assert (site.folder / "crl.pem").read_bytes() == before


def test_credentials_of_systemd_go_first(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "credentials"
    given.mkdir()
    pin = site.public_keys["sig"]
    for name in ("issuing.key", "site-keys.json", "service.key"):
        shutil.move(site.folder / name, given / name)
        (given / name).chmod(0o440)
    with Site.open(site.folder) as of_person:
        assert not of_person.authority.signs
        with pytest.raises(EdgeAgentError, match="credential of the site's service"):
            of_person.authority.crl([], NOW)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    with Site.open(site.folder) as service:
        assert service.authority.signs
        assert service.authority.issue_board("gate-1", public_key(), NOW).pem
        assert service.public_keys["sig"] == pin and "d" not in pin
        assert service.service_certificate(NOW) == (site.folder / "service.crt", given / "service.key")


def test_the_service_has_a_certificate_that_fits(site: Site) -> None:
    path, _ = site.service_certificate(NOW)
    first = path.read_bytes()
    site.service_certificate(NOW + 200 * DAY)
    assert path.read_bytes() == first
    site.service_certificate(NOW + 260 * DAY)  # a third of its life is left
    second = path.read_bytes()
    assert second != first
    site.update(urls=["https://other.example:8443"])
    site.service_certificate(NOW + 260 * DAY)
    third = certificates(path)[0]
    assert path.read_bytes() != second and third.subject.rfc4514_string() == "CN=other.example"
    rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), NOW + 261 * DAY)
    assert certificates(path)[0].issuer == site.authority.issuing.subject


def test_a_running_service_sees_a_new_ca(site: Site) -> None:
    with Site.open(site.folder) as service:
        before = service.authority
        assert service.authority is before
        rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), NOW)
        assert service.authority.issuer == site.authority.issuer != before.issuer


@pytest.mark.parametrize(
    ("name", "urls", "brokers", "passphrase", "sentence"),
    [
        ("My Home", [], [], PASSPHRASE, "cannot name a site"),
        ("home", ["http://site.example"], [], PASSPHRASE, "https://site.example:8443"),
        ("home", ["https://site.example/path"], [], PASSPHRASE, "is no address"),
        ("home", ["https://user@site.example"], [], PASSPHRASE, "is no address"),
        ("home", [], ["mqtt://site.example"], PASSPHRASE, "mqtts://site.example:8883"),
        ("home", [], ["mqtts://site.example:99999"], PASSPHRASE, "is no address"),
        ("home", [], [], "short", "at least 8 characters"),
    ],
)
def test_a_site_that_cannot_be(
    tmp_path: Path, name: str, urls: list[str], brokers: list[str], passphrase: str, sentence: str
) -> None:
    with pytest.raises(EdgeAgentError, match=sentence):
        Site.create(tmp_path / "site", name, passphrase, NOW, urls=urls, brokers=brokers)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(site: Site, tmp_path: Path) -> None:
    with pytest.raises(EdgeAgentError, match="holds something already"):
        Site.create(site.folder, "home", PASSPHRASE, NOW)
    with pytest.raises(EdgeAgentError, match="There is no site in"):
        Site.open(tmp_path / "nowhere")
    site.update(version=2)
    with pytest.raises(EdgeAgentError, match="newer version"):
        Site.open(site.folder)


def test_an_empty_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    inode = folder.stat().st_ino  # a mount, or a folder that belongs to a service
    Site.create(folder, "home", PASSPHRASE, NOW).close()
    assert folder.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_where_the_site_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEAGENT_SITE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("EDGEAGENT_SITE")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_folder() == Path("/home/ann/.local/share/edgeagent/site")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert default_folder() == Path("/var/lib/edgeagent-site")


@pytest.mark.parametrize("stops_at", range(1, 6))
def test_files_are_replaced_together_also_when_the_power_fails(site: Site, monkeypatch: pytest.MonkeyPatch, stops_at: int) -> None:
    old = site.authority.issuer
    key = rotation.root_key(site, PASSPHRASE)
    calls = 0
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        nonlocal calls
        calls += Path(source).parent.name == "staged" and Path(target).parent != Path(source).parent
        if calls == stops_at:
            raise OSError("no power")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    try:
        rotation.new_issuing(site, key, NOW)
    except OSError:
        assert stops_at < 5
    monkeypatch.undo()
    with Site.open(site.folder) as again:
        assert again.authority.issuer != old
        assert again.authority.issue_board("gate-1", public_key(), NOW).pem  # certificate and key fit together
        assert (again.folder / "retired" / f"{old}.key").exists()
        assert not (again.folder / "staged").exists()


@pytest.mark.parametrize("passphrase", [None, "eight888"])
def test_a_backup_makes_the_same_site_elsewhere(site: Site, tmp_path: Path, passphrase: str | None) -> None:
    token, certificate = planned(site, "gate-1"), None
    certificate = certified(site, "gate-1")
    halfway = planned(site, "gate-0")
    with site.registry.transaction() as connection:  # by a board that has not shown its certificate
        site.registry.use_token(connection, halfway, "somebody", "gate-0", NOW)
    for folder in ("broker", "cards", "releases"):
        (site.folder / folder).mkdir()
        keyfiles.write_private(site.folder / folder / "file", folder)
    file = tmp_path / "home.backup"
    backup.write(site, file, NOW + DAY, passphrase)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if passphrase:
        assert token.secret.encode() not in file.read_bytes()
        for wrong in (None, "another one"):
            with pytest.raises(EdgeAgentError, match="passphrase"):
                backup.read(file.read_bytes(), wrong)
    planned(site, "gate-2")  # after the backup
    found = backup.read(file.read_bytes(), passphrase)
    assert (found.site, found.at) == ("home", NOW + DAY)
    with backup.restore(found, tmp_path / "elsewhere", NOW + 150 * DAY) as other:
        assert other.authority.roots_pem == site.authority.roots_pem and other.keys == site.keys
        assert other.registry.certificate(certificate.serial) == certificate
        assert other.registry.token(token.id) == token
        assert [board.name for board in other.registry.boards()] == ["gate-0", "gate-1"]
        assert [entry.action for entry in other.registry.audited()][-1] == "site restore"
        assert other.registry.audit_problem() is None
        assert rotation.root_key(other, PASSPHRASE)
        assert other.authority.issue_board("gate-1", public_key(), NOW + 150 * DAY).issuer == certificate.issuer
        made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in other.folder.rglob("*") if path.is_file()}
        assert {name for name, mode in made.items() if not name.startswith(("registry", ".")) and mode == 0o600} == {
            *(PRIVATE - {"registry.sqlite3"}),
            "file",
        }
    assert not (tmp_path / "elsewhere" / "cards").exists() and not any(name.startswith("releases") for name in found.files)
    with backup.restore(found, tmp_path / "third", NOW + DAY, cancel_claims=True) as third:
        again = third.registry.token(token.id)
        assert again and not again.valid(NOW + DAY) and not again.secret
        assert [found.secret for found in third.registry.tokens()] == ["", ""]
    with pytest.raises(EdgeAgentError, match="holds something already"):
        backup.restore(found, site.folder, NOW)


def tar_of(files: dict[str, bytes], link: bool = False, comment: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.pax_headers = {"comment": comment} if comment else {}
            if link:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


MANIFEST = {"backup.json": json.dumps({"edgeagent_site_backup": 1, "site": "home", "at": 1}).encode()}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"eyJ",
        b"eyJ.a.b.c.d",
        b"\x1f\x8b",
        b"\x1f\x8bgarbage",
        tar_of({}),
        tar_of(MANIFEST),
        tar_of({"backup.json": b"[]"}),
        tar_of({**MANIFEST, "../site.json": b""}),
        tar_of({**MANIFEST, "/site.json": b""}),
        tar_of({**MANIFEST, "staged/plan.json": b'{"put": [["0", "../../new"]], "remove": ["../../old"]}'}),
        tar_of({**MANIFEST, "site.json": b""}, link=True),
    ],
    ids=itertools.count(),  # an archive holds the time, by which two workers would name the tests differently
)
def test_what_is_no_backup_is_refused(data: bytes) -> None:
    with pytest.raises(EdgeAgentError, match="backup"):
        backup.read(data, "eight888")


def test_a_hostile_backup_takes_neither_time_nor_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header, a file and a number of files that no site has."""
    monkeypatch.setattr(backup, "_MAX_FILES", 20)
    for data, sentence in (
        (tar_of(MANIFEST, comment="x" * 1_000_000), "damaged"),
        (tar_of({**MANIFEST, "a": bytes(60_000_000)}), "more than a site has"),
        (tar_of({**MANIFEST, **{f"f{number}": b"" for number in range(20)}}), "more than a site has"),
    ):
        assert len(data) < 100_000
        with pytest.raises(EdgeAgentError, match=sentence):
            backup.read(data, None)


def test_a_backup_that_was_tampered_with_is_refused(site: Site, tmp_path: Path) -> None:
    backup.write(site, tmp_path / "backup", NOW, None)
    found = backup.read((tmp_path / "backup").read_bytes(), None)
    changed = tmp_path / "registry.sqlite3"
    changed.write_bytes(found.files["registry.sqlite3"])
    registry = Registry(changed)
    with registry.transaction() as connection:
        connection.execute("DROP TRIGGER audit_stays")
        connection.execute("UPDATE audit SET actor = 'bob'")
    registry.close()
    for data, sentence in ((changed.read_bytes(), "tampered with"), (b"SQLite format 3\0" + bytes(4096), "damaged")):
        found.files["registry.sqlite3"] = data
        with pytest.raises(EdgeAgentError, match=sentence):
            backup.restore(found, tmp_path / "elsewhere", NOW)
        assert not (tmp_path / "elsewhere").exists() and not list(tmp_path.glob(".elsewhere*"))
