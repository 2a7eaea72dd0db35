"""By what the agent runs here, as the doctor finds it: the service's variables, a site's name and settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeagent.core.orders import Record, Tried
from edgeagent.doctor.report import Level
from edgeagent.doctor.settings import Settings, read_settings
from edgeagent.enrol import keys
from edgeagent.enrol.identity import Identity
from edgeagent.install.places import Places
from edgeagent.orders.store import Store

OWN = "device: porch\nhttp: {listen: '0.0.0.0:8080'}\ncameras: {front: {driver: test-pattern}}\n"
TOKEN = "EDGEAGENT_HTTP__TOKEN=0123456789abcdef\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A board with the service and a configuration that needs a token."""
    found = Places(tmp_path)
    found.etc.mkdir(parents=True)
    found.state.mkdir(parents=True)
    found.config.write_text(OWN)
    return found


def read(places: Places, own: Path | None) -> Settings:
    return read_settings(own, places.state, {}, places)


def joined(places: Places) -> Store:
    """Make it a board of a site; returns where its orders are kept."""
    folder = places.state / "identity"
    folder.mkdir()
    told = {
        "version": 1,
        "name": "gate-7",
        "brokers": ["mqtts://site.example:8883"],
        "sig": {},
        "enc": {},
        "pin": "",
        "door": "https",
    }
    told |= {"services": [], "joining": [], "enrolled_at": 0, "not_before": 0, "not_after": 0, "serial": "1"}
    keys.write(folder / "id.pem", keys.pem(keys.new()))
    keys.write(folder / "site.json", json.dumps(told))
    identity = Identity.seen(places.state)
    assert identity is not None
    return Store(places.state, identity.id_thumbprint)


def test_a_token_in_the_environment_of_the_service_counts(places: Places, tmp_path: Path) -> None:
    found = read(places, places.config)
    assert found.config is None and "add `token: …`" in found.findings[0].text
    places.environment.write_text(TOKEN)
    found = read(places, places.config)
    assert found.config is not None and found.config.http.token is not None and not found.hidden
    assert [finding.level for finding in found.findings] == [Level.OK]
    other = tmp_path / "other.yaml"
    other.write_text(OWN)
    assert read(places, other).config is None, "which is not the service's"


def test_who_may_not_read_it_is_told_to_use_sudo(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    found = read(places, places.config)
    assert found.hidden and "run this with sudo" in found.findings[0].text
    monkeypatch.undo()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read(places, None).hidden, "nor look into the state folder"


def test_a_board_of_a_site_has_name_and_settings_from_there(places: Places) -> None:
    places.environment.write_text(TOKEN)
    store = joined(places)
    found = read(places, places.config)
    assert found.config is not None and found.identity is not None
    assert (found.config.device, found.identity.name) == ("gate-7", "gate-7")
    assert list(found.config.cameras) == ["front"]
    bare = read(places, None).config
    assert bare is not None and (bare.device, list(bare.devices)) == ("gate-7", ["board"])

    first = store.lay({"http": {"listen": "0.0.0.0:8080"}, "cameras": {"yard": {"driver": "test-pattern"}}})
    second = store.lay({"cameras": {"barn": {"driver": "test-pattern"}}})
    store.keep(Record(first, Tried(second, 5)))
    for camera in "barn", "yard":
        config = read(places, places.config).config
        assert config is not None and (config.device, list(config.cameras)) == ("gate-7", [camera])
        store.keep(Record(first))
    (site,) = [finding for finding in read(places, places.config).findings if finding.check == "site"]
    assert site.text == f"This board belongs to a site, as gate-7, and runs by what that has set (desired.{first}.yaml)."


def test_looking_changes_nothing(places: Places) -> None:
    joined(places)
    coming = places.state / "identity" / "next"
    coming.mkdir()
    for name in "tls.pem", "ready":
        (coming / name).touch()
    keys.write(places.state / "orders.json", "{")
    before = {path: path.lstat().st_mtime_ns for path in places.root.rglob("*")}
    found = read(places, places.config)
    assert found.identity is not None and "orders.json is damaged" in found.findings[0].text
    assert {path: path.lstat().st_mtime_ns for path in places.root.rglob("*")} == before


def test_an_identity_of_no_use_is_a_problem(places: Places) -> None:
    places.environment.write_text(TOKEN)
    joined(places)
    (places.state / "identity" / "site.json").write_text("{")
    found = read(places, places.config)
    assert [(finding.check, finding.level) for finding in found.findings] == [("site", Level.PROBLEM), ("config", Level.OK)]
    assert "is damaged" in found.findings[0].text
