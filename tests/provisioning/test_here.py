"""`site init --here` below another root folder: what is written, and that Mosquitto takes it."""

from __future__ import annotations

import argparse
import grp
import json
import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import here, keyfiles
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, PASSPHRASE
from tests.support import require


def options(root: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--url", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    here.add_options(parser)
    return parser.parse_args(["home", "--here", "--root", str(root), *words])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/debian_version").write_text("13.1\n")
    return tmp_path


def made(root: Path) -> Site:
    return Site.create(root / "var/lib/edgeagent-site", "home", PASSPHRASE, NOW)


def test_a_machine_in_the_house(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with made(root) as site:
        assert here.run(site, options(root, "--host", "Hub.local")) == 0
        settings = Settings.load(site)
        assert site.urls == ("https://hub.local:8443",)
        assert site.brokers == ("mqtts://hub.local:8883",)
    said = capsys.readouterr().out
    assert "8443/tcp" in said
    assert "Phones and most browsers will not connect" in said
    assert "nginx" not in said
    assert settings is not None
    assert (settings.folder, settings.include) == ("/var/lib/edgeagent-broker", "/etc/mosquitto/conf.d/edgeagent.conf")
    rendered = (root / "etc/mosquitto/conf.d/edgeagent.conf").read_text()
    assert "acl_file /var/lib/edgeagent-broker/acl-boards" in rendered
    assert str(root) not in rendered
    assert "persistence" not in rendered.replace("persistent", "")  # which the system's own configuration says
    assert (root / "var/lib/edgeagent-broker").stat().st_mode & 0o7777 == 0o2750
    assert not (root / "var/lib/edgeagent-broker/.untold").exists()  # who comes next would start Mosquitto once more
    assert (root / "var/lib/edgeagent-broker/server.key").stat().st_mode & 0o777 == 0o640
    drop_in = (root / "etc/systemd/system/edgeagent-site.service.d/here.conf").read_text()
    assert "provision serve --site /var/lib/edgeagent-site --listen :8443" in drop_in
    assert "ReadWritePaths=/var/lib/edgeagent-broker" in drop_in


@pytest.mark.realtime
def test_systemd_takes_the_units(root: Path) -> None:
    with made(root) as site:
        here.run(site, options(root, "--json"))
    units = [path for path in (root / "etc/systemd/system").iterdir() if path.is_file()]
    assert len(units) == 5
    for unit in units:  # the programs are elsewhere
        unit.write_text(
            "\n".join("ExecStart=/bin/true" if line.startswith("ExecStart") else line for line in unit.read_text().splitlines())
        )
    done = subprocess.run([require("systemd-analyze"), "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if str(root) in line] == []


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_exposure(verb: str, tmp_path: Path) -> None:
    """As of the other units (tests/install/test_units.py)."""
    step = here._told(verb)[1]
    assert isinstance(step, here.Write)
    (tmp_path / step.path.name).write_text(step.text)
    argv = [require("systemd-analyze"), "security", "--offline=true", "--no-pager", str(tmp_path / step.path.name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    assert float(found[1]) <= 1.5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_what_another_user_could_exchange_is_not_given_away(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "victim/etc").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", nobody.pw_uid, nobody.pw_gid)
    (tmp_path / "theirs/link").symlink_to(tmp_path / "victim")
    for folder in ("theirs/link/etc", "theirs/site"):
        step = here.Own(tmp_path / folder, "nobody", grp.getgrgid(nobody.pw_gid).gr_name, 0o700)
        with pytest.raises(EdgeAgentError, match="nobody could put another folder"):
            here._on_the_system(step, Path("/"), True)
        with pytest.raises(EdgeAgentError, match="nobody could put another folder"):  # said before anything is done
            here.of(options(Path("/")), tmp_path / folder)
    assert list((tmp_path / "theirs").iterdir()) == [tmp_path / "theirs/link"]
    found = (tmp_path / "victim/etc").stat()
    assert (found.st_uid, found.st_mode & 0o077) == (0, 0o055)


def test_with_a_public_name_it_is_the_page_host_too(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with made(root) as site:
        key = keyfiles.new_key()
        issued = site.authority.issue_server(["hub.example.org"], key.public_key(), NOW)
        keyfiles.write_public(tmp_path / "public.crt", issued.pem)
        keyfiles.write_private(tmp_path / "public.key", keyfiles.key_pem(key))
        pair = ["--cert", str(tmp_path / "public.crt"), "--key", str(tmp_path / "public.key")]
        here.run(site, options(root, "--json", "--public-host", "hub.example.org", *pair))
        settings = Settings.load(site)
    assert settings is not None
    assert settings.viewers_url == "wss://hub.example.org:8884/mqtt"
    assert settings.page == "https://hub.example.org/"
    assert (root / "var/lib/edgeagent-broker/viewers.crt").read_text() == issued.pem
    nginx = (root / "etc/nginx/sites-available/edgeagent").read_text()
    assert f"ssl_certificate {tmp_path / 'public.crt'};" in nginx
    assert nginx.count("{") == nginx.count("}")
    told = json.loads(capsys.readouterr().out)
    assert told["packages"] == ["mosquitto", "nginx-light"]
    assert {"port": "443/tcp", "from": "browsers", "for": "the page"} in told["outside"]


def test_what_was_asked_of_the_broker_before_stays(root: Path) -> None:
    with made(root) as site:
        Settings(("old.local",), home="hash", viewers_port=9001, include="x").save(site, NOW)
        here.run(site, options(root, "--json", "--host", "hub.local"))
        again = Settings.load(site)
    assert again is not None
    assert (again.hosts, again.home, again.viewers_port) == (("hub.local",), "hash", 9001)


def test_the_dry_run_shows_all_and_makes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(root.rglob("*"))
    asked = options(root, "--dry-run", "--public-host", "hub.example.org", "--email", "ann@example.org")
    assert here.preview(asked, root / "var/lib/edgeagent-site") == 0
    said = capsys.readouterr().out
    assert sorted(root.rglob("*")) == before
    assert "run apt-get install --yes --no-install-recommends mosquitto nginx-light certbot" in said
    assert "80/tcp" in said
    assert "write /etc/systemd/system/edgeagent-broker-reload.path" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cert", "x"], "together"),
        (["--cert", "x", "--key", "y"], "--public-host"),
        (["--root", "/nowhere"], "no Debian"),
    ],
)
def test_what_is_wrong_is_said(root: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(EdgeAgentError, match=sentence):
        here.of(options(root, *words), root / "site")
    with pytest.raises(EdgeAgentError, match="must be below it"):
        here.of(options(root), Path("/var/lib/edgeagent-site"))
    (root / "etc/debian_version").unlink()
    with pytest.raises(EdgeAgentError, match="no Debian"):
        here.of(options(root), root / "site")
