"""The decisions of an enrolment: who is let in, and who is told what."""

from __future__ import annotations

import base64
import dataclasses
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from edgeagent.enrol import asking, client, keys
from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import claim as c
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal
from edgeagent.wire.orders import SITE, Here
from edgeagent_provisioning import claims, rotation
from edgeagent_provisioning.broker.public import findings
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.enrolling import Doors, Enrolling, Event, NoHere, joining_users
from edgeagent_provisioning.planning import plan
from edgeagent_provisioning.registry import Board, Token
from edgeagent_provisioning.renewing import rotate
from edgeagent_provisioning.revoking import denied, revoke
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import SiteOrders
from tests.provisioning.common import DAY, NOW, PASSPHRASE


class Enrolled:
    """A site, and the hands that a test needs."""

    def __init__(self, folder: Path) -> None:
        self.site = Site.open(folder)
        self.site.registry.rows("SELECT 1")  # opens it
        self.clock = 1000.0
        self.events: list[Event] = []
        self.changes = 0
        self.enrolling = Enrolling(self.site, lambda: self.clock, told=self.events.append, changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def plan(self, name: str = "gate", serial: str | None = None, life_s: int = 7 * 86_400) -> Token:
        with self.site.registry.transaction() as connection:
            self.site.registry.save_board(connection, Board(name, int(NOW), serial=serial))
            return claims.mint(self.site.registry, connection, name, NOW, life_s)

    def handle(self, text: str, now: float = NOW, source: str = "a") -> str:
        return self.enrolling.handle(text, now, source=source)

    def board(self, name: str = "gate") -> Board:
        board = self.site.registry.board(name)
        assert board is not None
        return board


class Applicant:
    """A board: its keys, and what it asks."""

    def __init__(self, serial: str = "") -> None:
        self.id, self.enc, self.tls = keys.new(), keys.new(), keys.new()
        self.serial = serial

    def ask(self, token: Token, secret: str | None = None, **changes: Any) -> tuple[e.EnrolRequest, str]:
        fields: dict[str, Any] = {
            "nonce": e.new_nonce(secrets.token_bytes),
            "csr": keys.certificate_request(self.tls),
            "id": seal.public_jwk(self.id),
            "enc": seal.public_jwk(self.enc),
            "serial": self.serial,
        }
        request = e.EnrolRequest.model_validate(fields | changes)
        return request, e.seal_enrol(request, token_id=token.id, secret=secret or token.secret, id_key=self.id)

    def join(self, made: Enrolled, token: Token, now: float = NOW, **changes: Any) -> e.Enrolled | e.Refused:
        request, text = self.ask(token, **changes)
        return e.open_enrol_reply(made.handle(text, now), secret=token.secret, nonce=request.nonce)

    def renew(self, made: Enrolled, name: str = "gate", now: float = NOW, by: ECKey | None = None) -> e.Enrolled | e.Refused:
        request = e.RenewRequest(nonce=e.new_nonce(secrets.token_bytes), device=name, csr=keys.certificate_request(self.tls))
        answer = made.handle(e.seal_renew(request, id_key=by or self.id), now)
        return e.open_renew_reply(answer, site_sig=made.site.public_keys["sig"], nonce=request.nonce)

    def here(self, made: Enrolled, name: str = "gate", number: int = 1, certificate: str = "") -> str:
        return seal.seal(
            Here(device=name, certificate=certificate, release="0.1.0").model_dump(),
            to_enc=made.site.public_keys["enc"],
            by_sig=self.id,
            issuer=name,
            audience=SITE,
            epoch="e",
            number=number,
            typ=seal.ANSWER,
        )


@pytest.fixture(scope="module")
def module_site(made_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolled]:
    made = Enrolled(shutil.copytree(made_site, tmp_path_factory.mktemp("other") / "site"))
    yield made
    made.site.close()


@pytest.fixture
def made(made_site: Path, tmp_path: Path) -> Iterator[Enrolled]:
    made = Enrolled(shutil.copytree(made_site, tmp_path / "site"))
    yield made
    made.site.close()


def refusal(reply: e.Enrolled | e.Refused, code: int) -> str:
    assert isinstance(reply, e.Refused), reply
    assert reply.code == code, reply.message
    return reply.message


def taken(reply: e.Enrolled | e.Refused) -> e.Enrolled:
    assert isinstance(reply, e.Enrolled), reply
    return reply


def serial_of(reply: e.Enrolled) -> str:
    return f"{x509.load_pem_x509_certificate(reply.certificate.encode()).serial_number:x}"


def test_a_board_gets_name_certificate_and_the_sites_keys_and_is_active_once_it_shows_it(made: Enrolled) -> None:
    token, board = made.plan(), Applicant("abc")
    reply = taken(board.join(made, token))
    begin, end, serial = keys.check_issued(reply.certificate, reply.chain, reply.roots, name="gate", tls=board.tls)
    assert begin < NOW and end == NOW + 90 * DAY
    assert reply.device == "gate" and reply.sig.model_dump() == made.site.public_keys["sig"]
    assert reply.services == ["https://site.example:8443"] and reply.brokers == ["mqtts://site.example:8883"]
    assert [pin for _, pin in keys.pin_of(reply.roots)] == [made.site.authority.root_pin]
    assert made.board().state == "planned" and made.board().id_thumbprint == seal.thumbprint(board.id)
    made.enrolling.here(board.here(made), "gate", NOW + 5, serial=serial)
    assert (made.board().state, made.board().active_at, made.board().version) == ("active", NOW + 5, "0.1.0")
    stored = made.site.registry.token(token.id)
    assert stored is not None and stored.secret == ""
    assert [event.kind for event in made.events] == ["enrolled", "active"]


def test_a_retry_gets_the_same_certificate_and_another_key_is_told_that_the_claim_is_used(made: Enrolled) -> None:
    token, board, thief = made.plan(), Applicant(), Applicant()
    first = taken(board.join(made, token))
    assert taken(board.join(made, token, NOW + 8 * DAY)).certificate == first.certificate  # the claim has run out meanwhile
    assert len(made.site.registry.certificates()) == 1
    assert "used by another board" in refusal(thief.join(made, token), 409)
    made.enrolling.here(board.here(made), "gate", NOW, serial=made.site.registry.certificates()[0].serial)
    with pytest.raises(e.Unproved, match="has been used already") as caught:
        thief.join(made, token)
    assert caught.value.code == 409


def test_claims_that_ran_out_were_cancelled_or_are_for_another_board_are_refused(made: Enrolled) -> None:
    assert "run out" in refusal(Applicant().join(made, made.plan("late", life_s=60), NOW + 61), 410)
    token = made.plan("gate", serial="10000000aa")
    assert "10000000aa" in refusal(Applicant("10000000BB").join(made, token), 403)
    assert "tells none" in refusal(Applicant("").join(made, token), 403)
    assert taken(Applicant("10000000AA").join(made, token)).device == "gate"
    other = made.plan("door")
    with made.site.registry.transaction() as connection:
        claims.cancel(made.site.registry, connection, "door", NOW)
    with pytest.raises(e.Unproved, match="has been cancelled"):
        Applicant().join(made, other)


def test_one_board_cannot_be_two(made: Enrolled) -> None:
    board = Applicant()
    taken(board.join(made, made.plan("gate")))
    assert "gate already" in refusal(board.join(made, made.plan("door")), 409)


def test_a_foreign_claim_is_unknown(made: Enrolled, module_site: Enrolled) -> None:
    token = module_site.plan("elsewhere")
    with pytest.raises(e.Unproved, match="not known here"):
        Applicant().join(made, token)


def test_guessing_is_slowed_down_and_burns_nothing(made: Enrolled) -> None:
    token = made.plan()
    codes = []
    for _ in range(15):
        request, text = Applicant().ask(token, secret=secrets.token_urlsafe(16))
        with pytest.raises(e.Unproved) as caught:
            e.open_enrol_reply(made.handle(text, source="stranger"), secret=token.secret, nonce=request.nonce)
        codes.append(caught.value.code)
    assert codes == [401] * 10 + [429] * 5
    # Who knows the secret is held up by nobody: boards and stranger may share an address, or the network of an IPv6 one.
    board = Applicant()
    request, text = board.ask(token)
    taken(e.open_enrol_reply(made.handle(text, source="stranger"), secret=token.secret, nonce=request.nonce))
    assert taken(board.join(made, token)).device == "gate"
    assert sum(event.kind == "guessed" for event in made.events) == 10  # and the limit of lines lets no more through
    assert not any(token.secret in repr(event) for event in made.events)


def csr(key: Any, name: str | None) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def test_a_csr_with_another_name_a_weak_key_or_no_proof_is_refused(made: Enrolled) -> None:
    token, board = made.plan(), Applicant()
    good = ec.generate_private_key(ec.SECP256R1())
    assert "another name" in refusal(board.join(made, token, csr=csr(good, "door")), 422)
    assert "P-256" in refusal(board.join(made, token, csr=csr(ec.generate_private_key(ec.SECP192R1()), None)), 422)
    tampered = bytearray(x509.load_pem_x509_csr(csr(good, None).encode()).public_bytes(Encoding.DER))
    tampered[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(tampered)).public_bytes(Encoding.PEM).decode()
    assert "not signed" in refusal(board.join(made, token, csr=broken), 422)
    assert "cannot be read" in refusal(board.join(made, token, csr="-----BEGIN X-----\nAAAA\n-----END X-----\n"), 422)
    assert made.site.registry.token(token.id) == token  # none of it used the claim
    assert taken(board.join(made, token, csr=csr(good, "gate"))).device == "gate"


def test_an_id_key_has_to_sign_for_itself(made: Enrolled) -> None:
    token, board, other = made.plan(), Applicant(), Applicant()
    answer = made.handle(board.ask(token, id=seal.public_jwk(other.id))[1])
    with pytest.raises(e.Unproved, match="not signed by the id key") as caught:
        e.open_enrol_reply(answer, secret=token.secret, nonce="")
    assert caught.value.code == 422


def test_who_has_seen_a_request_and_has_another_claim_does_not_join_with_it(made: Enrolled) -> None:
    """A board's request, as whoever holds the broker sees it, around which somebody puts the seal of another board's claim."""
    gate, porch, board = made.plan("gate"), made.plan("porch"), Applicant()
    request, text = board.ask(gate)
    header = {"alg": "HS256", "typ": "ea-enrol+jwt", "kid": porch.id}
    inner = text.split(".")[1]
    seen = base64.urlsafe_b64decode(inner + "=" * (-len(inner) % 4))
    forged = jws.serialize_compact(header, seen, OctKey.import_key(c.mac_key(porch.secret)), algorithms=["HS256"])
    with pytest.raises(e.Unproved, match="for another claim"):
        e.open_enrol_reply(made.handle(forged), secret=porch.secret, nonce=request.nonce)
    assert made.board("porch").id_thumbprint is None and made.site.registry.token(porch.id) == porch
    assert taken(board.join(made, gate)).device == "gate"


def test_a_board_of_the_release_before_which_signs_for_no_claim_joins(made: Enrolled) -> None:
    token, board = made.plan(), Applicant()
    request, _ = board.ask(token)
    body = request.model_dump_json()
    proof = jws.serialize_compact({"alg": "ES256", "typ": "ea-id+jwt"}, body, board.id, algorithms=["ES256"])
    header = {"alg": "HS256", "typ": "ea-enrol+jwt", "kid": token.id}
    text = jws.serialize_compact(header, proof, OctKey.import_key(c.mac_key(token.secret)), algorithms=["HS256"])
    reply = taken(e.open_enrol_reply(made.handle(text), secret=token.secret, nonce=request.nonce))
    assert taken(board.join(made, token)).certificate == reply.certificate  # upgraded in between


def test_boards_of_a_bulk_claim_wait_for_approval(made: Enrolled) -> None:
    token = claims.mint_bulk(made.site, NOW, 2, prefix="cam", serials=["s1", "s2", "s3"])
    one, two, three = (Applicant(f"S{number}") for number in (1, 2, 3))
    assert "approve" in refusal(one.join(made, token), 202)
    assert "approve" in refusal(one.join(made, token), 202)
    refusal(two.join(made, token), 202)
    assert "as many boards" in refusal(three.join(made, token), 410)
    assert "not on the list" in refusal(Applicant("s9").join(made, token), 403)
    claims.approve(made.site, "cam-1", NOW)
    claims.refuse(made.site, "cam-2", NOW)
    reply = taken(one.join(made, token))
    assert reply.device == "cam-1" and taken(one.join(made, token)).certificate == reply.certificate
    assert "turned away" in refusal(two.join(made, token), 410)


def test_renewal_goes_by_the_id_key_also_long_after_the_end_and_never_once_revoked(made: Enrolled) -> None:
    board = Applicant()
    taken(board.join(made, made.plan()))
    board.tls = keys.new()
    late = NOW + 400 * DAY
    reply = taken(board.renew(made, now=late))
    assert keys.check_issued(reply.certificate, reply.chain, reply.roots, name="gate", tls=board.tls)[1] == late + 90 * DAY
    assert taken(board.renew(made, now=late)).certificate == reply.certificate
    with pytest.raises(e.Unproved):
        board.renew(made, by=Applicant().id)
    with pytest.raises(e.Unproved, match="No board"):
        board.renew(made, name="nobody")
    with made.site.registry.transaction() as connection:
        made.site.registry.save_board(connection, dataclasses.replace(made.board(), state="revoked"))
    assert "revoked" in refusal(board.renew(made), 410)


def test_a_certificate_that_is_not_known_or_anothers_proves_nothing(made: Enrolled) -> None:
    board, other = Applicant(), Applicant()
    taken(board.join(made, made.plan("gate")))
    taken(other.join(made, made.plan("door")))
    foreign = next(found.serial for found in made.site.registry.certificates() if found.board == "door")
    for serial in ("abcdef", foreign):
        with pytest.raises(PeerError, match="not one that this site knows"):
            made.enrolling.here(board.here(made), "gate", NOW, serial=serial)
    with pytest.raises(seal.SealError):  # another board's key
        made.enrolling.here(other.here(made, "gate"), "gate", NOW)
    assert made.board().state == "planned"


def test_after_rotate_the_older_certificates_are_revoked_once_the_new_one_is_shown(made: Enrolled) -> None:
    board = Applicant()
    taken(board.join(made, made.plan()))
    (old,) = made.site.registry.certificates()
    made.enrolling.here(board.here(made), "gate", NOW, serial=old.serial)
    with made.site.registry.transaction() as connection:
        connection.execute("UPDATE boards SET rotate_at = ?", (int(NOW) + 10,))
    made.enrolling.here(board.here(made), "gate", NOW + 11, serial=old.serial)
    assert made.site.registry.revoked(NOW) == []
    board.tls = keys.new()
    new = serial_of(taken(board.renew(made, now=NOW + 20)))
    made.changes = 0
    # Over MQTT, where no serial is seen: the board tells it.
    for told in ("", old.serial, "abcdef"):
        made.enrolling.here(board.here(made, certificate=told), "gate", NOW + 21)
    assert made.site.registry.revoked(NOW) == [] and made.changes == 0
    made.enrolling.here(board.here(made, certificate=new), "gate", NOW + 21)
    assert {serial for serial, _ in made.site.registry.revoked(NOW)} == {old.serial, "abcdef"}  # which it said it had, too
    assert made.changes == 1
    crl = x509.load_pem_x509_crl((made.site.folder / "crl.pem").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(int(old.serial, 16)) is not None


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_recorded_request_does_not_bring_a_rotated_key_back(made: Enrolled, meanwhile: bool) -> None:
    """The broker has recorded a request for a key that was stolen later; it is given again after `rotate`, and before its end."""
    board = Applicant()
    taken(board.join(made, made.plan()))
    request = e.RenewRequest(nonce=e.new_nonce(secrets.token_bytes), device="gate", csr=keys.certificate_request(board.tls))
    recorded = e.seal_renew(request, id_key=board.id)
    rotate(made.site, ["gate"], NOW + 46 * DAY - 10)
    board.tls = keys.new()
    if meanwhile:  # the old key is still good, and its certificate due
        made.handle(recorded, NOW + 46 * DAY)
    new = taken(board.renew(made, now=NOW + 46 * DAY + 5))
    serial = serial_of(new)
    made.enrolling.here(board.here(made), "gate", NOW + 46 * DAY + 6, serial=serial)
    assert [found.serial for found in made.site.registry.certificates("revoked_at IS NULL")] == [serial]
    answer = made.handle(recorded, NOW + 46 * DAY + 10)
    reply = e.open_renew_reply(answer, site_sig=made.site.public_keys["sig"], nonce=request.nonce)
    assert "was revoked" in refusal(reply, 409)
    assert taken(board.renew(made, now=NOW + 46 * DAY + 20)).certificate == new.certificate


class Way:
    """Between a board's own code and the site; `cut` loses the answers."""

    def __init__(self, made: Enrolled) -> None:
        self.made = made
        self.cut = False

    def post(self, url: str, path: str, text: str, *_: object) -> str:
        answer = self.made.handle(text)
        if self.cut:
            raise client.Unreachable("cut off")
        return answer


@pytest.fixture
def way(made: Enrolled, monkeypatch: pytest.MonkeyPatch) -> Way:
    async def aside(job: Callable[[], object]) -> object:
        return job()

    between = Way(made)
    monkeypatch.setattr(client, "aside", aside)
    monkeypatch.setattr(client, "post", between.post)
    monkeypatch.setattr(client, "fetch_roots", lambda *_: made.site.authority.roots_pem)
    return between


async def test_a_board_whose_answer_was_lost_takes_a_new_claim(made: Enrolled, tmp_path: Path, way: Way) -> None:
    """Its keys lie there for the next try; the certificate of one was revoked when the new claim was made."""
    way.cut = True
    with pytest.raises(client.Unreachable):
        await asking.join(claims.claim_for(made.site, made.plan()), tmp_path / "gate", asking.BoardFacts(), NOW)
    before = made.board().id_thumbprint
    token = plan(made.site, Row(0, "gate"), NOW, new_claim=True).token
    (lost,) = made.site.registry.certificates()
    assert token and lost.revoked_at
    way.cut = False
    identity = await asking.join(claims.claim_for(made.site, token), tmp_path / "gate", asking.BoardFacts(), NOW)
    assert (identity.name, identity.id_thumbprint) == ("gate", before) and identity.serial != lost.serial


async def test_a_board_whose_waiting_key_was_revoked_makes_another(made: Enrolled, tmp_path: Path, way: Way) -> None:
    claim = claims.claim_for(made.site, made.plan())
    identity = await asking.join(claim, tmp_path / "gate", asking.BoardFacts(), NOW)
    way.cut = True
    with pytest.raises(client.Unreachable):
        await asking.renew(identity, tmp_path / "gate", NOW)
    way.cut = False
    (waiting,) = made.site.registry.certificates("serial != ?", identity.serial)
    with made.site.registry.transaction() as connection:
        connection.execute("UPDATE certificates SET revoked_at = ? WHERE serial = ?", (int(NOW), waiting.serial))
    renewed = await asking.renew(identity, tmp_path / "gate", NOW)
    first, second = (x509.load_pem_x509_certificate(text) for text in (waiting.pem.encode(), renewed.cert_file.read_bytes()))
    assert f"{second.serial_number:x}" == renewed.serial and first.public_key() != second.public_key()


def test_a_root_is_not_retired_on_a_board_that_never_got_the_new_one(made: Enrolled) -> None:
    board = Applicant()
    old = serial_of(taken(board.join(made, made.plan())))
    made.enrolling.here(board.here(made, certificate=old), "gate", NOW + 5)
    rotation.new_root(made.site, rotation.root_key(made.site, PASSPHRASE), PASSPHRASE, NOW + 100)
    board.tls = keys.new()
    new = serial_of(taken(board.renew(made, now=NOW + 200)))  # a reply that never reaches it
    for told in (old, ""):
        made.enrolling.here(board.here(made, certificate=told), "gate", NOW + 210)  # so it comes with what it has
        assert rotation.behind(made.site) == ["gate"]
    with pytest.raises(EdgeAgentError, match="know only the old root"):
        rotation.retire_root(made.site, NOW + 220)
    made.enrolling.here(board.here(made, certificate=new), "gate", NOW + 230)
    rotation.retire_root(made.site, NOW + 240)


def test_what_a_board_said_once_is_not_believed_again(made: Enrolled) -> None:
    board, orders = Applicant(), SiteOrders(made.site)
    serial = serial_of(taken(board.join(made, made.plan())))
    first, second = (board.here(made, number=number, certificate=serial) for number in (1, 2))
    for said in (first, second):
        made.enrolling.here(said, "gate", NOW + 5)
        orders.report("gate", said, NOW + 5)
    made.enrolling.seen("gate", NOW + 6, release="9.9.9")
    for said in (first, second):
        with pytest.raises(NoHere, match="before"):
            made.enrolling.here(said, "gate", NOW + 300)
    assert (made.board().version, made.board().seen_at) == ("9.9.9", NOW + 6)
    made.enrolling.here(first, "gate", NOW + 300, serial=serial)  # by TLS, which is not replayed


def test_a_board_set_up_anew_with_a_new_claim_leaves_its_old_certificate_revoked(made: Enrolled) -> None:
    taken(Applicant().join(made, made.plan()))
    with made.site.registry.transaction() as connection:
        token = claims.mint(made.site.registry, connection, "gate", NOW)
    (old,) = made.site.registry.certificates()
    assert taken(Applicant().join(made, token)).device == "gate"
    assert [serial for serial, _ in made.site.registry.revoked(NOW)] == [old.serial]


def test_who_came_first_by_a_claim_that_was_then_replaced_never_comes_back(made: Enrolled) -> None:
    """A thief has photographed the label, joins and keeps silent; the installer makes a new claim for the real board."""
    old, thief, board = made.plan(), Applicant(), Applicant()
    stolen = serial_of(taken(thief.join(made, old)))
    token = plan(made.site, Row(0, "gate"), NOW, new_claim=True).token
    assert token and [serial for serial, _ in made.site.registry.revoked(NOW)] == [stolen]
    assert made.board().id_thumbprint is None
    with pytest.raises(e.Unproved, match="No board"):
        thief.renew(made)
    with pytest.raises(PeerError, match="No board"):
        made.enrolling.here(thief.here(made), "gate", NOW, serial=stolen)
    serial = serial_of(taken(board.join(made, token)))
    made.enrolling.here(board.here(made), "gate", NOW, serial=serial)
    thief.tls = keys.new()
    with pytest.raises(e.Unproved, match="cancelled"):
        thief.join(made, old, NOW + 30 * DAY)
    # Also where an earlier release had left that claim as it was.
    with made.site.registry.transaction() as connection:
        made.site.registry.save_token(connection, dataclasses.replace(old, used_by=seal.thumbprint(thief.id), uses_left=0))
    assert "taken by another board since" in refusal(thief.join(made, old, NOW + 30 * DAY), 409)
    assert made.board().id_thumbprint == seal.thumbprint(board.id)
    assert [found.serial for found in made.site.registry.certificates("revoked_at IS NULL")] == [serial]


def test_a_claim_made_while_its_board_was_on_the_way_takes_no_other_board_once_it_is_active(made: Enrolled) -> None:
    board, first = Applicant(), made.plan()
    serial = serial_of(taken(board.join(made, first)))
    second = dataclasses.replace(first, id="0123456789abcdef")
    with made.site.registry.transaction() as connection:
        made.site.registry.save_token(connection, second)
    made.enrolling.here(board.here(made), "gate", NOW, serial=serial)
    assert [(token.secret, token.valid(NOW)) for token in made.site.registry.tokens()] == [("", False)] * 2
    with pytest.raises(e.Unproved, match="cancelled"):
        Applicant().join(made, second)
    assert made.board().id_thumbprint == seal.thumbprint(board.id)


def test_nobody_gets_a_name_before_the_session_of_who_had_it_has_ended(made: Enrolled) -> None:
    Settings(("site.example",)).save(made.site, NOW)
    taken(Applicant().join(made, made.plan()))
    revoke(made.site, ["gate"], NOW)
    done, board = plan(made.site, Row(0, "gate"), NOW, replace=True), Applicant()
    token = done.token
    assert token and denied(made.site) == ["gate"]
    request, text = board.ask(token)
    refused = e.open_enrol_reply(made.handle(text), secret=token.secret, nonce=request.nonce)
    assert isinstance(refused, e.Refused) and (refused.code, refused.retry_s) == (503, 5.0)
    # Who ends it may not run, or may have been told to leave the broker alone.
    waits = [done.message, refused.message, *(found.advice for found in findings(made.site, NOW) if "gate waits" in found.text)]
    assert len(waits) == 3 and all("(without --no-broker)" in text for text in waits)
    with made.site.registry.transaction() as connection:
        connection.execute("UPDATE boards SET ending = 0")
    assert not any("gate waits" in found.text for found in findings(made.site, NOW))
    assert taken(board.join(made, token)).device == "gate" and denied(made.site) == []


def test_a_certificate_from_after_the_backup_is_noted_and_revoked_with_the_others(made: Enrolled) -> None:
    board = Applicant()
    first = serial_of(taken(board.join(made, made.plan())))
    board.tls = keys.new()
    second = serial_of(taken(board.renew(made, now=NOW + 61 * DAY)))
    with made.site.registry.transaction() as connection:  # as `site restore` leaves it
        connection.execute("DELETE FROM certificates WHERE serial = ?", (second,))
    rotate(made.site, ["gate"], NOW + 61 * DAY)
    for told in (second, "0", "0abc", "f" * 40, second):
        made.enrolling.here(board.here(made, certificate=told), "gate", NOW + 62 * DAY)
    assert {found.serial for found in made.site.registry.certificates("revoked_at IS NULL")} == {first, second}  # nothing rotated
    for number in range(9):
        made.enrolling.here(board.here(made, certificate=f"abc{number}"), "gate", NOW + 62 * DAY)
    (done,) = revoke(made.site, ["gate"], NOW + 63 * DAY)
    assert second in done.serials and len(done.serials) == 5
    crl = x509.load_pem_x509_crl((made.site.folder / "crl.pem").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(int(second, 16)) is not None


def test_first_settings_are_sealed_for_the_board(made: Enrolled) -> None:
    made.enrolling = Enrolling(made.site, lambda: 0.0, settings=lambda board: {"device": board.name})
    board = Applicant()
    reply = taken(board.join(made, made.plan()))
    opened = seal.unseal(reply.settings, with_enc=board.enc, from_sig=reply.sig.model_dump(), issuer=SITE, audience="gate")
    assert opened.epoch == reply.nonce and opened.body["settings"] == {"device": "gate"}


@pytest.mark.parametrize("door", ["https", "mqtt"])
def test_joining_users_come_with_claims_and_stay_for_boards_that_will_reach_only_the_broker(made: Enrolled, door: Doors) -> None:
    token = made.plan()
    assert joining_users(made.site, NOW) == []
    made.site.update(joining="mqtts://127.0.0.1:8884")
    assert [(user.name, user.password) for user in joining_users(made.site, NOW)] == [
        (c.joining_user(token.id), c.joining_password(token.secret))
    ]
    board = Applicant()
    _, text = board.ask(token)
    made.enrolling.handle(text, NOW, source="j", door=door)
    made.enrolling.here(board.here(made), "gate", NOW)
    (user,) = joining_users(made.site, NOW)
    assert user.name == c.back_user(seal.thumbprint(board.id))
    assert user.password == c.back_password(board.enc, made.site.public_keys["enc"])
    assert user.password not in repr(user)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_gets_a_plain_refusal(module_site: Enrolled, data: bytes | str) -> None:
    module_site.clock += 100
    answer = module_site.enrolling.handle(data, NOW, source="fuzz")
    assert e.Refused.model_validate_json(answer).code in (400, 413)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_request_with_any_byte_changed_is_refused(module_site: Enrolled, data: st.DataObject) -> None:
    module_site.clock += 100
    token = module_site.site.registry.tokens()[0] if module_site.site.registry.tokens() else module_site.plan("fuzzed")
    text = bytearray(_ASKED.setdefault(token.id, Applicant().ask(token)[1]).encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 127))
    answer = module_site.enrolling.handle(bytes(text), NOW, source="fuzz")
    refused = e.Refused.model_validate_json(answer)
    assert refused.code in (400, 401) and token.secret not in answer
    after = module_site.site.registry.token(token.id)
    assert after is not None and after.used_by is None


_ASKED: dict[str, str] = {}


def test_who_has_stolen_one_board_does_not_fill_the_registry(made: Enrolled) -> None:
    token, board = made.plan(), Applicant()
    taken(board.join(made, token))
    for _ in range(19):
        board.tls = keys.new()
        taken(board.renew(made))
    taken(board.renew(made))  # the one that it has
    board.tls = keys.new()
    assert "many certificates" in refusal(board.renew(made), 429)
    assert len(made.site.registry.certificates()) == 20
    made.clock += 300
    taken(board.renew(made))


def test_who_has_a_claim_does_not_fill_the_log(made: Enrolled) -> None:
    token, stranger = made.plan("gate", serial="aa"), Applicant("bb")
    for _ in range(30):
        refusal(stranger.join(made, token), 403)
    assert len(made.events) == 20
    assert taken(Applicant("aa").join(made, made.plan("door"))).device == "door"
    assert made.events[-1].board == "door"  # of others all is told


def test_what_a_board_tells_cannot_draw_on_the_installers_terminal(made: Enrolled) -> None:
    token = claims.mint_bulk(made.site, NOW, 1, prefix="cam")
    refusal(Applicant("\x1b[2J1\n12:00:00  gate is active").join(made, token), 202)
    (event,) = made.events
    assert event.text.isprintable() and "?[2J1?12:00:00" in event.text
    assert made.board("cam-1").serial == "?[2j1?12:00:00  gate is active"
