"""Revocation, as it is written down and as commands do it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from edgeagent import cli
from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, CertificateRefused
from edgeagent.mqtt.url import parse_url
from edgeagent_provisioning import claims
from edgeagent_provisioning.broker_side import note_absence, note_presence
from edgeagent_provisioning.ending import Ending
from edgeagent_provisioning.revoking import denied, revoke
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, certified, planned


def revoked_serials(site: Site) -> set[str]:
    crl = x509.load_pem_x509_crl((site.folder / "crl.pem").read_bytes())
    return {f"{entry.serial_number:x}" for entry in crl}


def test_registry_crl_and_claims_first_and_the_broker_last(site: Site) -> None:
    planned(site, "gate")
    first, second = certified(site, "gate"), certified(site, "gate")
    planned(site, "door")
    certified(site, "door")
    seen: list[set[str]] = []
    (done,) = revoke(site, ["gate"], NOW + 10, refresh=lambda: seen.append(revoked_serials(site)))
    assert set(done.serials) == {first.serial, second.serial} == seen[0] and not done.again
    assert denied(site) == ["gate"] and site.registry.claim_of("gate", NOW) is None
    (again,) = revoke(site, ["gate", "gate"], NOW + 20, refresh=lambda: seen.append(set()))
    assert again.again and again.serials == () and len(seen) == 2
    assert [entry.action for entry in site.registry.audited("gate")].count("revoke") == 1


def test_one_unknown_name_and_nothing_is_revoked(site: Site) -> None:
    planned(site, "gate")
    certified(site, "gate")
    with pytest.raises(EdgeAgentError, match="Nothing was revoked"):
        revoke(site, ["gate", "gatee"], NOW)
    assert denied(site) == [] and site.registry.revoked(NOW) == []


def test_the_end_of_a_bulk_claim_turns_away_who_waits_and_means_no_board(site: Site) -> None:
    planned(site, "cam")
    token = claims.mint_bulk(site, NOW, 3, prefix="cam")
    with site.registry.transaction() as connection:
        for who in "one", "two":
            claims.admit(site.registry, connection, token, who, {}, {}, who, NOW)
    claims.approve(site, "cam-1", NOW)
    with pytest.raises(EdgeAgentError, match="--board or --bulk"):
        revoke(site, ["cam"], NOW)
    assert site.registry.tokens("kind = 'bulk'")[0].secret and denied(site) == []
    (done,) = revoke(site, ["cam"], NOW, kind="bulk")
    assert (done.uses, done.away, done.stranded) == (1, ("cam-2",), ("cam-1",))
    assert denied(site) == ["cam-2"]
    with pytest.raises(EdgeAgentError, match="revoked"):
        claims.approve(site, "cam-2", NOW)
    with pytest.raises(EdgeAgentError, match="no bulk claim"):
        revoke(site, ["cam"], NOW, kind="bulk")
    (done,) = revoke(site, ["cam"], NOW)
    assert done.uses is None and denied(site) == ["cam", "cam-2"]


def test_a_broker_that_cannot_be_told_is_said_and_the_rest_is_done(site: Site) -> None:
    planned(site, "gate")
    certified(site, "gate")

    def refuse() -> None:
        raise EdgeAgentError("it is away")

    with pytest.raises(EdgeAgentError, match=r"could not be told \(it is away\)"):
        revoke(site, ["gate"], NOW, refresh=refuse)
    assert denied(site) == ["gate"] and len(revoked_serials(site)) == 1


def test_the_broker_denies_also_where_no_crl_can_be_written(site: Site) -> None:
    planned(site, "gate")
    certified(site, "gate")
    seen: list[list[str]] = []
    with pytest.raises(EdgeAgentError, match="clock of this machine is not set"):
        revoke(site, ["gate"], 3600, refresh=lambda: seen.append(denied(site)))
    assert seen == [["gate"]]


def test_the_commands_ask_answer_and_refuse(made_site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(made_site, tmp_path / "site")
    with Site.open(folder) as site:
        planned(site, "gate")
        planned(site, "door")
        certificate = certified(site, "gate")
    place = ["--site", str(folder)]
    assert cli.main(["provision", "revoke", "gate", *place]) == 1
    assert "give --yes" in capsys.readouterr().err
    assert cli.main(["provision", "rotate", "gate", *place]) == 1
    assert "gate is planned" in capsys.readouterr().err
    assert cli.main(["provision", "transfer", "gate", "--yes", *place]) == 1
    assert "gate is planned" in capsys.readouterr().err
    assert cli.main(["provision", "revoke", "gate", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out) == [{"board": "gate", "certificates": [certificate.serial], "again": False}]
    assert cli.main(["provision", "transfer", "door", "--offline", "--yes", *place]) == 0
    assert "of this site no more" in capsys.readouterr().out
    with Site.open(folder) as site:
        assert denied(site) == ["door", "gate"]
        planned(site, "barn")
    assert cli.main(["provision", "reset", "barn", "--yes", *place]) == 1
    assert "barn is planned" in capsys.readouterr().err
    assert cli.main(["provision", "reset", "barn", "--offline", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out) == [{"board": "barn", "reset": True, "text": ""}]


@pytest.mark.parametrize("name", ["serve", "revoke", "rotate", "transfer", "reset"])
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["provision", name, "--help"])
    assert f"example:\n  edgeagent provision {name}" in capsys.readouterr().out


def test_a_wrong_place_to_listen_says_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["provision", "serve", "--listen", "nowhere"])
    assert "192.0.2.10:8443" in capsys.readouterr().err
    assert cli.main(["provision", "serve", "--site", str(tmp_path / "none")]) == 1
    assert "site init" in capsys.readouterr().err


def test_who_is_online_is_noted_and_who_is_not_heard_of_is_not(site: Site) -> None:
    planned(site, "gate")
    planned(site, "door")
    note_presence(site, {"gate": True, "door": True, "stranger": True}, 1000.0)
    assert [(board.name, board.online, board.seen_at) for board in site.registry.boards()] == [
        ("door", True, 1000),
        ("gate", True, 1000),
    ]
    revoke(site, ["door"], NOW)
    note_presence(site, {"gate": False, "door": True}, 2000.0)
    note_absence(site, {"gate"})
    assert [(board.name, board.online, board.seen_at) for board in site.registry.boards()] == [
        ("door", False, 1000),
        ("gate", False, 1000),
    ]


async def test_a_broker_has_read_the_list_once_it_calls_a_certificate_revoked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no sooner: for another reason it refuses each, and each try would list one more."""

    async def on_thread(job: Callable[[], object]) -> object:
        return job()

    says = [BrokerError("away"), CertificateRefused("(unknown ca)"), CertificateRefused("(certificate revoked)")]

    async def opened(*_: object) -> None:
        raise says.pop(0)

    monkeypatch.setattr(BrokerConnection, "open", opened)
    listed = BrokerOptions(parse_url("mqtts://localhost"), "gate")
    ending = Ending(SimpleNamespace(on_thread=on_thread), site, lambda: listed)  # type: ignore[arg-type]
    async with asyncio.timeout(600):
        await ending._refused(listed, site.authority.issuer)
    assert says == []
    says = [CertificateRefused("(unknown ca)")]
    with pytest.raises(EdgeAgentError, match="changed meanwhile"):
        await ending._refused(listed, "another")
