"""Mosquitto's configuration as text; what it does is in test_broker_check.py."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent import cli
from edgeagent.errors import ConfigError
from edgeagent_provisioning import viewers
from edgeagent_provisioning.broker import files, mosquitto
from edgeagent_provisioning.broker.mosquitto import Listeners, Rights, Viewer
from edgeagent_provisioning.broker.names import TOOLS, is_viewer, new_viewer, reserved
from edgeagent_provisioning.broker.public import findings
from edgeagent_provisioning.broker.settings import Settings, checked, hosts_of
from edgeagent_provisioning.cli import serve
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.revoking import revoke
from edgeagent_provisioning.site import Site
from tests.provisioning.common import DAY, NOW, planned
from tests.support import require

GLOBAL = {
    "max_packet_size",
    "max_queued_messages",
    "max_queued_bytes",
    "per_listener_settings",
    "persistence",
    "persistence_location",
    "persistent_client_expiration",
    "pid_file",
    "set_tcp_nodelay",
    "log_dest",
    "user",
}


def options_of(text: str) -> list[list[str]]:
    return [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("owner", ["", "ann"])
def test_no_option_of_a_listener_stands_above_the_first(owner: str) -> None:
    """Trap 1: Mosquitto 2.0.11 then opens port 1883 to everybody."""
    found = [option[0] for option in options_of(mosquitto.configuration(Listeners(Path("/b"), owner=owner)))]
    above, below = found[: found.index("listener")], found[found.index("listener") :]
    assert set(above) <= GLOBAL
    assert not set(below) & GLOBAL
    # Within the system's configuration the system says where to log, and as whom to run.
    assert ("user" in above) == bool(owner)


@pytest.mark.parametrize("joining", [0, 8885])
def test_every_listener_has_tls_rules_and_nobody_anonymous(joining: int) -> None:
    parts = mosquitto.configuration(Listeners(Path("/b"), joining=joining)).split("\nlistener ")[1:]
    assert len(parts) == (3 if joining else 2)
    for part in parts:
        for needed in ("certfile /b/", "keyfile /b/", "allow_anonymous false", "use_username_as_clientid true", "acl_file /b/"):
            assert part.count(needed) == 1, needed
        assert ("require_certificate true" in part) != ("password_file" in part)


def test_a_name_that_holds_a_rule_of_its_own_goes_into_no_file() -> None:
    for name in ("gate\ntopic readwrite #", "", "Gate", "a b"):
        with pytest.raises(ValueError, match="is no name"):
            mosquitto.acl_boards(Rights(revoked=(name,)))
        with pytest.raises(ValueError, match="is no name"):
            mosquitto.acl_viewers(Rights(viewers=(Viewer(name, ""),)))


def test_who_is_revoked_is_denied_though_it_has_a_pair() -> None:
    text = mosquitto.acl_boards(Rights(revoked=("gate",), pairs=(("gate", "porch"), ("door", "porch"))))
    assert text.split("\nuser gate\n")[1] == "topic deny #\n"
    assert "topic write ea/1/d/porch/in/door" in text
    assert "in/gate" not in text


def test_passwords_are_as_mosquitto_passwd_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.touch(0o600)
    subprocess.run([require("mosquitto_passwd"), "-b", path, "ann", "a secret"], check=True, capture_output=True)
    _, kind, rounds, salt, key = path.read_text().strip().split("$")
    assert kind == "7"
    made = mosquitto.hashed("a secret", base64.b64decode(salt))
    assert made == f"$7${rounds}${salt}${key}"
    assert hashlib.pbkdf2_hmac("sha512", b"a secret", base64.b64decode(salt), int(rounds)) == base64.b64decode(key)
    assert mosquitto.hashed("a secret") != mosquitto.hashed("a secret")
    assert mosquitto.settled("a secret") == mosquitto.settled("a secret")


def test_names_of_users_are_none_for_boards(site: Site) -> None:
    for name in ("site", "home-assistant", "j-0123456789abcdef", "check-1", *TOOLS, new_viewer()):
        assert reserved(name)
    for name in ("gate", "sites", "v", "j", "home"):
        assert not reserved(name)
    assert is_viewer(new_viewer())
    with pytest.raises(ConfigError, match="v-gate"):
        checked(Settings(("hub",)), ["v-gate"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(), "under which name"),
        (Settings(("mqtts://hub",)), "without scheme"),
        (Settings(("hub",), viewers_port=8883), "another port"),
        (Settings(("hub",), bind="eth0"), "an address of this machine"),
        (Settings(("hub",), cert="x"), "--cert and --key together"),
        (Settings(("hub",), home_prefix="a/b"), "homeassistant"),
        (Settings(("hub",), pairs=(("gate", "gate"),)), "two boards"),
        (Settings(("hub",), pairs=(("gate", "x"),)), "two boards"),
        (Settings(("hub",), public_host="a b"), "host's name"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_write(settings: Settings, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        checked(settings, ["gate"])


def test_settings_are_kept_and_told_to_boards(site: Site) -> None:
    assert Settings.load(site) is None
    assert not files.update(site, NOW).changed
    wanted = Settings(hosts_of(site), pairs=(("a", "b"),), home="secret hash", boards_port=1883)
    wanted.save(site, NOW)
    assert Settings.load(site) == wanted
    assert site.brokers == ("mqtts://site.example:1883", "mqtts://site.example:8883")
    assert site.joining == "mqtts://site.example:8885"
    assert "secret hash" not in str([tuple(row) for row in site.registry.rows("SELECT detail FROM audit")])
    Settings(("10.1.2.3",), joining=False).save(site, NOW)
    assert site.brokers == ("mqtts://10.1.2.3:8883", "mqtts://site.example:8883")
    assert site.joining == ""


def test_files_are_written_where_something_changed(site: Site) -> None:
    Settings(("hub.local", "10.1.2.3")).save(site, NOW)
    token = planned(site, "gate")
    first = files.update(site, NOW)
    assert first.advice.startswith("Start the broker")
    folder = site.folder / "broker"
    assert {name for name in first.changed if (folder / name).stat().st_mode & 0o007} == {
        *("ca.crt", "crl.pem", "server.crt", "viewers.crt", "mosquitto.conf")
    }
    assert f"j-{token.id}:$7$" in (folder / "joining.pw").read_text()
    assert token.secret not in (folder / "joining.pw").read_text()
    assert files.update(site, NOW + DAY).changed == ()
    made, password = viewers.add(site, " Anna's  phone ", NOW, ["gate"])
    assert set(files.update(site, NOW).changed) == {"viewers.pw", mosquitto.ACL_VIEWERS}
    assert password not in (folder / "viewers.pw").read_text()
    assert made.label == "Anna's phone"
    # Eight months later, its certificate is made again.
    assert set(files.update(site, NOW + 250 * DAY).changed) >= {"server.crt", "server.key", "viewers.crt"}


def test_what_mosquitto_was_never_told_is_told_the_next_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    Settings(("hub.local",)).save(site, NOW)
    files.write(site, NOW)
    told: list[tuple[str, ...]] = []

    def tell(folder: Path, changed: tuple[str, ...]) -> files.Update:
        told.append(changed)
        return files.Update(changed, True)

    monkeypatch.setattr(files, "_tell_own", tell)
    files.update(site, NOW)
    files.update(site, NOW)
    assert "acl-boards" in told[0]
    assert told[1] == ()


def test_a_broker_is_found_however_its_files_were_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who revokes a board while it is not found is told so."""
    Settings(("hub.local",)).save(site, NOW)
    files.update(site, NOW)
    planned(site, "gate")
    site.close()
    folder = site.folder / "broker"
    code = "import signal, sys; signal.signal(signal.SIGHUP, lambda *_: sys.exit(3)); print(flush=True); signal.pause()"
    words = [sys.executable, "-c", code, "site/broker/mosquitto.conf"]
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    place = ["--site", "../site", "--yes"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            assert cli.main(["provision", "revoke", "gate", *place]) == 1
            (folder / "mosquitto.pid").write_text(f"{process.pid}")
            with site.registry.transaction() as connection:
                site.registry.save_board(connection, Board("gate", NOW))
            site.close()
            assert cli.main(["provision", "revoke", "gate", *place]) == 0
            assert process.wait(60) == 3  # it had the signal
        finally:
            process.kill()


def test_a_broker_on_another_machine_is_told_once_somebody_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Until then whoever revokes a board learns each time that its session goes on."""
    for name in "gate", "door":
        planned(site, name)
    site.close()
    place = ["--site", str(site.folder)]
    broker = ["provision", "broker", "mosquitto", *place]
    assert cli.main([*broker, "--carried"]) == 1
    assert "--elsewhere" in capsys.readouterr().err
    assert cli.main([*broker, "--host", "hub.local", "--elsewhere"]) == 0
    assert "--carried" in capsys.readouterr().out
    assert cli.main([*broker, "--carried"]) == 0
    assert "Taken as carried: crl.pem, ca.crt" in capsys.readouterr().out
    for name in "gate", "door", "gate":
        assert cli.main(["provision", "revoke", name, "--yes", *place]) == 1
        assert "--carried" in capsys.readouterr().err
    assert cli.main([*broker, "--carried", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"acl-boards", "joining.pw"} <= set(told["carried"]) and (told["changed"], told["advice"]) == ([], "")
    assert told["written_at"] > 0
    assert cli.main(["provision", "revoke", "gate", "--yes", *place]) == 0


def test_what_was_written_counts_as_carried_by_no_call_that_fails(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    Settings(("hub.local",), elsewhere=True).save(site, NOW)
    files.update(site, NOW)
    site.close()
    broker = ["provision", "broker", "mosquitto", "--site", str(site.folder), "--carried"]
    assert cli.main([*broker, "--viewers-port", "8883"]) == 78
    assert cli.main(broker) == 0
    assert "Taken as carried: crl.pem" in capsys.readouterr().out


def test_the_service_asks_for_carrying_whenever_it_has_written(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in the same words as before, which somebody has followed meanwhile."""
    Settings(("hub.local",), elsewhere=True).save(site, NOW)
    planned(site, "gate")
    refresh = serve._refreshing(site)

    def asked() -> list[int]:
        counts = []
        for _ in range(2):
            refresh()
            counts.append(capsys.readouterr().err.count("Carry "))
        return counts

    assert asked() == [1, 0]
    files.carried(site)
    revoke(site, ["gate"], NOW)
    assert asked() == [1, 0]


def test_a_service_that_runs_finds_the_sites_first_broker(site: Site) -> None:
    site.update(brokers=None)
    assert not serve._has_broker(site)
    as_read = dict(site.settings)
    Settings(("hub.local",)).save(site, NOW)
    site._settings = as_read  # of another process it knows no more than this
    assert not site.brokers
    assert serve._has_broker(site) and site.brokers == ("mqtts://hub.local:8883",)


def test_what_a_running_broker_has_read_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is new: else a revocation that the service was first to write would count as untold."""
    Settings(("hub.local",)).save(site, NOW)
    files.update(site, NOW)
    (site.folder / "broker/mosquitto.pid").touch()
    signalled: list[int] = []
    monkeypatch.setattr(files, "_pid", lambda folder: 4321)
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    for _ in range(2):  # what it was not told while it was not found, and then nothing more
        assert files.update(site, NOW) == files.Update((), True)
    assert signalled == [4321]


def test_what_cannot_be_used_is_not_kept(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.close()
    place = ["--site", str(site.folder)]
    (tmp_path / "boards.csv").touch()

    def settings() -> tuple[Settings | None, tuple[str, ...]]:
        with Site.open(site.folder) as found:
            return Settings.load(found), found.brokers

    before = settings()
    for words in (["--host", "hub", "--folder", str(tmp_path / "boards.csv")], ["--host", "hub", "--cert", "no", "--key", "no"]):
        assert cli.main(["provision", "broker", "mosquitto", *words, *place]) == 1
        assert settings() == before and before[0] is None
    assert cli.main(["provision", "broker", "mosquitto", "--host", "hub", *place]) == 0
    kept = settings()
    assert cli.main(["provision", "broker", "mosquitto", "--folder", str(tmp_path / "boards.csv"), *place]) == 1
    assert settings() == kept and kept[0] is not None
    with pytest.raises(SystemExit):
        cli.main(["provision", "broker", "mosquitto", "--cert", "", "--key", "", *place])
    # Nobody would know the password of a browser whose user is made and not told.
    (site.folder / "broker" / ".lock").unlink()
    (site.folder / "broker" / ".lock").mkdir()
    assert cli.main(["provision", "viewer", "add", "phone", *place]) == 1
    with Site.open(site.folder) as found:
        assert viewers.active(found) == []
    assert "cannot be written" in capsys.readouterr().err


def test_the_doctor_knows_the_sites_own_certificate(site: Site) -> None:
    """Whatever the settings say of a public one."""
    wanted = Settings(("hub.local",))
    wanted.save(site, NOW)
    files.update(site, NOW)
    dataclasses.replace(wanted, cert="/nowhere/c", key="/nowhere/k", public_host="a.example").save(site, NOW)
    files.update(site, NOW)
    (only,) = findings(site, NOW)
    assert only.level == "problem" and "for /nowhere/c could not be read" in only.text


def test_the_doctor_says_that_phones_will_not_connect(site: Site) -> None:
    assert [finding.level for finding in findings(site, NOW)] == ["notice"]
    Settings(("hub.local",)).save(site, NOW)
    assert any("not whole" in finding.text for finding in findings(site, NOW))
    files.update(site, NOW)
    (only,) = findings(site, NOW)
    assert only.level == "problem"
    assert "Phones" in only.text
    assert "--acme" in only.advice
    late = [finding for finding in findings(site, NOW + 366 * DAY) if finding.check == "broker.crl"]
    assert "refuses every board" in late[0].text
