from __future__ import annotations

import dataclasses

import pytest

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire.claim import Claim
from edgeagent_provisioning import claims
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.planning import conflicts, plan
from edgeagent_provisioning.registry import Board, Token
from edgeagent_provisioning.site import Site
from tests.provisioning.common import DAY, NOW, planned

WIFI = {"ssid": "Home", "psk": "correct horse"}


def admit(site: Site, token: Token, who: str, serial: str = "", now: float = NOW) -> Board:
    with site.registry.transaction() as connection:
        return claims.admit(site.registry, connection, token, who, {"kty": "EC"}, {"kty": "EC"}, serial, now)


def test_a_claim_tells_the_board_all_it_needs(site: Site) -> None:
    token = plan(site, Row(0, "gate-1", wifi=WIFI), NOW).token
    assert token and token.expires_at == NOW + 7 * DAY
    claim = claims.claim_for(site, token)
    assert Claim.parse(claim.text()) == claim
    assert (claim.url, claim.root_pin, claim.token) == (site.urls[0], site.authority.root_pin, f"{token.id}.{token.secret}")
    assert (claim.ssid, claim.wifi_key, claim.mqtt) == ("Home", "correct horse", "")
    site.update(joining="mqtts://site.example:8884", urls=[])
    claim = claims.claim_for(site, token)
    assert (claim.url, claim.mqtt) == ("", "mqtts://site.example:8884")
    site.update(joining=None)
    with pytest.raises(EdgeAgentError, match="site set --url"):
        claims.claim_for(site, token)


def test_a_new_claim_cancels_the_old_one(site: Site) -> None:
    first = planned(site, "gate-1")
    second = plan(site, Row(0, "gate-1"), NOW + 1, new_claim=True).token
    assert second and second.id != first.id
    old = site.registry.token(first.id)
    assert old and not old.valid(NOW + 1) and not old.secret
    assert site.registry.claim_of("gate-1", NOW + 1) == second
    assert site.registry.claim_of("gate-1", second.expires_at) is None
    with pytest.raises(EdgeAgentError, match="There is no board gate-9"), site.registry.transaction() as connection:
        claims.mint(site.registry, connection, "gate-9", NOW)


def test_boards_of_a_bulk_claim_wait(site: Site) -> None:
    token = claims.mint_bulk(site, NOW, 2, prefix="cam", template={"place": "Hall", "tags": ["in"], "wifi": WIFI})
    assert claims.claim_for(site, token).ssid == "Home"
    first = admit(site, token, "one", "SERIAL-1")
    assert (first.name, first.state, first.serial, first.place, first.tags) == ("cam-1", "waiting", "serial-1", "Hall", ("in",))
    assert admit(site, token, "one", "SERIAL-1") == first  # a retry takes no use
    approved = claims.approve(site, "cam-1", NOW + 5)
    assert (approved.state, approved.approved_at) == ("planned", NOW + 5)
    assert admit(site, token, "one", "serial-1", NOW + 6) == approved
    with pytest.raises(PeerError, match="known to the site") as known:
        admit(site, token, "two", "serial-1")  # says to be another's hardware
    assert known.value.code == 409
    assert admit(site, token, "two").name == "cam-2"
    with pytest.raises(PeerError) as full:
        admit(site, token, "three")
    assert full.value.code == 410
    assert [board.name for board in site.registry.boards()] == ["cam-1", "cam-2"]
    assert claims.refuse(site, "cam-2", NOW).state == "revoked"
    assert admit(site, token, "two").state == "revoked"  # does not come back as a third
    for name, sentence in (("cam-2", "it is revoked"), ("cam-9", "waiting: none")):
        with pytest.raises(EdgeAgentError, match=sentence):
            claims.approve(site, name, NOW)
    log = [(entry.action, entry.subject) for entry in site.registry.audited()][-5:]
    assert log == [("bulk claim", "cam"), ("wait", "cam-1"), ("approve", "cam-1"), ("wait", "cam-2"), ("refuse", "cam-2")]


def test_a_bulk_claim_may_have_a_list_of_serials(site: Site) -> None:
    token = claims.mint_bulk(site, NOW, 5, prefix="cam", serials=["A1", "b2"])
    assert token.serials == ("a1", "b2")
    with pytest.raises(PeerError) as unknown:
        admit(site, token, "one", "c3")
    assert unknown.value.code == 403
    assert admit(site, token, "one", "B2 ").serial == "b2"
    with pytest.raises(PeerError) as none:
        admit(site, token, "two")
    assert none.value.code == 403


@pytest.mark.parametrize(
    ("uses", "prefix", "serials"),
    [(0, "cam", []), (10_001, "cam", []), (1, "Cam", []), (1, "v", []), (1, "site-tool", []), (1, "cam", ["a b"])],
)
def test_a_bulk_claim_is_checked(site: Site, uses: int, prefix: str, serials: list[str]) -> None:
    with pytest.raises(EdgeAgentError):
        claims.mint_bulk(site, NOW, uses, prefix=prefix, serials=serials)
    assert site.registry.tokens() == []


def test_planning_again_changes_nothing(site: Site) -> None:
    row = Row(2, "gate-1", "a1", "North", ("out",), {"front": {"driver": "test-pattern"}}, {}, WIFI)
    first, again = plan(site, row, NOW), plan(site, row, NOW + DAY)
    assert (first.result, again.result, again.token) == ("added", "unchanged", first.token)
    assert len(site.registry.audited()) == 3
    late = plan(site, row, NOW + 8 * DAY)
    assert late.result == "new claim" and late.token and late.token.valid(NOW + 8 * DAY)
    log = str([entry.detail for entry in site.registry.audited()])
    assert "Home" in log and "horse" not in log


def test_a_used_claim_is_not_made_again_by_itself(site: Site) -> None:
    token, registry = planned(site, "gate-1"), site.registry
    with registry.transaction() as connection:
        assert registry.use_token(connection, token, "mine", "gate-1", NOW)
    again = plan(site, Row(0, "gate-1"), NOW + 8 * DAY)
    assert (again.result, again.token) == ("unchanged", None)
    with registry.transaction() as connection:  # as a board of a bulk claim that was approved
        registry.save_board(connection, Board("cam-1", NOW, id_thumbprint="mine", id_jwk={}))
    assert plan(site, Row(0, "cam-1"), NOW).result == "unchanged"
    cam = registry.board("cam-1")
    assert cam and cam.id_thumbprint == "mine" and "--replace" in claims.no_claim(cam)
    assert plan(site, Row(0, "gate-1"), NOW + 8 * DAY, new_claim=True).token


def test_contradictions_to_what_is_known_are_found(site: Site) -> None:
    plan(site, Row(0, "gate-1", "a1"), NOW)
    with site.registry.transaction() as connection:
        for name, state in (("gate-2", "active"), ("gate-3", "revoked"), ("gate-4", "waiting")):
            board = Board(name, NOW, state)  # type: ignore[arg-type]
            site.registry.save_board(connection, dataclasses.replace(board, serial=f"s-{name}"))
    rows = [
        Row(2, "gate-1", "a1", "North"),
        Row(3, "gate-5", "a1"),
        Row(4, "gate-2", "s-gate-2", "x"),
        Row(5, "gate-3"),
        Row(6, "gate-4"),
    ]
    rows.append(Row(7, "gate-6", "s-gate-3"))  # hardware of a revoked board may come again
    found = [(problem.row, problem.column) for problem in conflicts(site.registry, rows)]
    assert found == [(2, "place"), (3, "serial"), (4, "place"), (5, "name"), (6, "name")]
    found = [(problem.row, problem.column) for problem in conflicts(site.registry, rows, update=True, replace=True)]
    assert found == [(3, "serial"), (4, "place"), (6, "name")]
    assert plan(site, rows[0], NOW).result == "updated"
    assert plan(site, rows[1], NOW).result == "failed"
    assert site.registry.board("gate-5") is None
    assert plan(site, rows[3], NOW).result == "failed"
    replaced = plan(site, rows[3], NOW, replace=True)
    assert replaced.result == "added" and replaced.token
    again = site.registry.board("gate-3")
    assert again and (again.state, again.serial, again.id_thumbprint) == ("planned", None, None)


def test_old_claims_of_a_replaced_board_are_dead(site: Site) -> None:
    token, registry = planned(site, "gate-1"), site.registry
    with registry.transaction() as connection:
        registry.use_token(connection, token, "mine", "gate-1", NOW)
        registry.save_board(connection, Board("gate-1", NOW, "revoked", id_thumbprint="mine"))
    assert plan(site, Row(0, "gate-1"), NOW, replace=True).result == "added"
    old = registry.token(token.id)
    assert old and not old.secret
    with registry.transaction() as connection:
        assert not registry.use_token(connection, token, "mine", "gate-1", NOW)
