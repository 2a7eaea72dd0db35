"""Certificates as TLS libraries judge them: OpenSSL is asked, by the command that administrators use."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent_provisioning import keyfiles, rotation
from edgeagent_provisioning.authority import crl_number
from edgeagent_provisioning.site import Site, pem
from tests.provisioning.common import DAY, NOW, PASSPHRASE, certified, planned, public_key, used
from tests.support import require


def accepted(
    folder: Path, leaf: str, chain: str, roots: str, *, at: int = NOW, purpose: str = "sslclient", crl: bytes = b""
) -> bool:
    """Whether OpenSSL trusts `leaf`."""
    for name, text in (("leaf", leaf), ("chain", chain), ("roots", roots), ("crl", crl.decode())):
        (folder / name).write_text(text)
    command = [require("openssl"), "verify", "-x509_strict", "-attime", str(at), "-purpose", purpose]
    command += ["-CAfile", str(folder / "roots"), "-untrusted", str(folder / "chain")]
    command += ["-crl_check", "-CRLfile", str(folder / "crl")] if crl else []
    return subprocess.run([*command, str(folder / "leaf")], capture_output=True, check=False).returncode == 0


def test_a_board_is_trusted_as_a_client_for_90_days(site: Site, tmp_path: Path) -> None:
    issued = site.authority.issue_board("gate-1", public_key(), NOW)
    roots = site.authority.roots_pem
    assert issued.not_after == NOW + 90 * DAY
    assert accepted(tmp_path, issued.pem, issued.chain, roots)
    assert accepted(tmp_path, issued.pem, issued.chain, roots, at=NOW + 89 * DAY)
    assert not accepted(tmp_path, issued.pem, issued.chain, roots, at=NOW + 91 * DAY)
    assert not accepted(tmp_path, issued.pem, issued.chain, roots, at=0)  # a clock in 1970
    assert not accepted(tmp_path, issued.pem, issued.chain, roots, purpose="sslserver")
    certificate = x509.load_pem_x509_certificate(issued.pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=gate-1"
    (name,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value == "ea:d:gate-1"
    assert f"{certificate.serial_number:x}" == issued.serial


def test_a_server_is_trusted_as_a_server_only(site: Site, tmp_path: Path) -> None:
    issued = site.authority.issue_server(["site.example", "192.0.2.7", "[2001:db8::1]"], public_key(), NOW)
    roots = site.authority.roots_pem
    assert accepted(tmp_path, issued.pem, issued.chain, roots, purpose="sslserver", at=NOW + 300 * DAY)
    assert not accepted(tmp_path, issued.pem, issued.chain, roots)
    names = x509.load_pem_x509_certificate(issued.pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name.value) for name in names.value] == ["site.example", "192.0.2.7", "2001:db8::1"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
def test_other_keys_are_refused(site: Site, make: Callable[[], ec.EllipticCurvePrivateKey]) -> None:
    with pytest.raises(PeerError, match="P-256"):
        site.authority.issue_board("gate-1", make().public_key(), NOW)


def test_the_pin_is_that_of_the_root(site: Site) -> None:
    root = x509.load_pem_x509_certificate((site.folder / "root.crt").read_bytes())
    info = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert site.authority.root_pin == base64.urlsafe_b64encode(hashlib.sha256(info).digest()).decode().rstrip("=")


def test_a_revoked_board_is_refused_and_the_list_lasts_a_year(site: Site, tmp_path: Path) -> None:
    roots, chain = site.authority.roots_pem, site.authority.issue_board("x", public_key(), NOW).chain
    planned(site, "gate-1")
    gone, kept = certified(site, "gate-1"), site.authority.issue_board("gate-2", public_key(), NOW)
    assert accepted(tmp_path, gone.pem, chain, roots, crl=site.write_crl(NOW))
    with site.registry.transaction() as connection:
        assert site.registry.revoke_certificates(connection, "gate-1", NOW) == [gone.serial]
    crl = site.write_crl(NOW)
    assert (site.folder / "crl.pem").read_bytes() == crl
    assert not accepted(tmp_path, gone.pem, chain, roots, crl=crl)
    assert accepted(tmp_path, kept.pem, chain, roots, crl=crl)
    assert accepted(tmp_path, kept.pem, chain, roots, crl=crl, at=NOW + 89 * DAY)
    (only,) = crl.split(b"-----BEGIN X509 CRL-----")[1:]
    until = x509.load_pem_x509_crl(b"-----BEGIN X509 CRL-----" + only).next_update_utc
    assert until and until.timestamp() == NOW + 365 * DAY
    assert len(site.write_crl(NOW + 92 * DAY)) < len(crl)  # what has run out need not be listed


def test_a_later_crl_has_a_higher_number_whatever_the_clock_says(site: Site) -> None:
    def written(now: float) -> tuple[int, float]:
        crl = site.write_crl(now)
        return crl_number(crl), x509.load_pem_x509_crl(crl).last_update_utc.timestamp()

    found = [written(NOW), written(NOW), written(NOW + 0.5), written(NOW - 100 * DAY), written(NOW + 2)]
    numbers, since = zip(*found, strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert list(since[:3]) == sorted(set(since[:3]))
    assert since[3] <= NOW - 100 * DAY - 300  # the clock was set back: valid all the same, also by one that is a little behind
    assert written(NOW + 3)[1] == since[4] + 1  # and by the right clock as before
    assert crl_number(b"-----BEGIN X509 CRL-----\nnothing\n") == 0


def test_an_issuing_ca_that_has_run_out_says_what_to_do(site: Site) -> None:
    end = int(site.authority.issuing.not_valid_after_utc.timestamp())
    assert site.authority.issue_board("gate-1", public_key(), end - DAY).not_after == end
    with pytest.raises(EdgeAgentError, match="rotate-ca"):
        site.authority.issue_board("gate-1", public_key(), end)


def test_the_roots_key_is_under_the_passphrase(site: Site) -> None:
    assert rotation.root_key(site, PASSPHRASE).public_key() == site.authority.roots[0].public_key()
    with pytest.raises(EdgeAgentError, match="passphrase is not that of"):
        rotation.root_key(site, "another one")
    path = site.folder / "root.key.pem"
    command = [require("openssl"), "pkey", "-in", str(path), "-noout", "-passin", f"pass:{PASSPHRASE}"]
    subprocess.run(command, check=True, capture_output=True)  # can be opened without us
    kept = path.rename(site.folder.parent / "stick.pem")
    with pytest.raises(EdgeAgentError, match="--root-key FILE"):
        rotation.root_key(site, PASSPHRASE)
    assert rotation.root_key(site, PASSPHRASE, kept)
    other = keyfiles.encrypted_pem(keyfiles.new_key(), PASSPHRASE.encode())
    keyfiles.write_private(kept, other)
    with pytest.raises(EdgeAgentError, match="another root"):
        rotation.root_key(site, PASSPHRASE, kept)


def test_a_new_issuing_ca_loses_nobody(site: Site, tmp_path: Path) -> None:
    old = site.authority.issue_board("gate-1", public_key(), NOW)
    rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), NOW)
    new = site.authority.issue_board("gate-2", public_key(), NOW)
    assert new.issuer != old.issuer
    crl = (site.folder / "crl.pem").read_bytes()
    for issued in (old, new):
        assert accepted(tmp_path, issued.pem, issued.chain, site.authority.roots_pem, crl=crl)
    # The old one's certificates can still be revoked.
    crl = site.authority.crl([(old.serial, NOW)], NOW)
    assert not accepted(tmp_path, old.pem, old.chain, site.authority.roots_pem, crl=crl)
    assert accepted(tmp_path, new.pem, new.chain, site.authority.roots_pem, crl=crl)
    service = (site.folder / "service.crt").read_text()
    assert accepted(tmp_path, service, service, site.authority.roots_pem, purpose="sslserver")
    assert new.chain in service


def test_an_old_issuing_ca_ends_once_nobody_needs_it(site: Site, tmp_path: Path) -> None:
    planned(site, "gate-1")
    old, chain = certified(site, "gate-1"), site.authority.issuing
    used(site, old)
    rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), NOW)
    with pytest.raises(EdgeAgentError, match="gate-1"):
        rotation.drop_old(site, NOW)
    used(site, certified(site, "gate-1", NOW + DAY))
    assert accepted(tmp_path, old.pem, pem(chain), site.authority.roots_pem, crl=(site.folder / "crl.pem").read_bytes())
    assert rotation.drop_old(site, NOW) == 1
    assert not accepted(tmp_path, old.pem, pem(chain), site.authority.roots_pem, crl=(site.folder / "crl.pem").read_bytes())
    assert not list((site.folder / "retired").iterdir())


def test_what_a_stolen_issuing_key_signed_is_refused(site: Site, tmp_path: Path) -> None:
    old = site.authority.issue_board("gate-1", public_key(), NOW)
    rotation.new_issuing(site, rotation.root_key(site, PASSPHRASE), NOW, compromised=True)
    crl = (site.folder / "crl.pem").read_bytes()
    assert not accepted(tmp_path, old.pem, old.chain, site.authority.roots_pem, crl=crl)
    new = site.authority.issue_board("gate-1", public_key(), NOW)
    assert accepted(tmp_path, new.pem, new.chain, site.authority.roots_pem, crl=crl)


def test_a_new_root_loses_nobody(site: Site, tmp_path: Path) -> None:
    planned(site, "gate-1")
    old_roots, old_pin = site.authority.roots_pem, site.authority.root_pin
    before = certified(site, "gate-1")
    used(site, before)
    old_chain = site.authority.issue_board("x", public_key(), NOW).chain
    rotation.new_root(site, rotation.root_key(site, PASSPHRASE), "another passphrase", NOW + DAY)
    authority = site.authority
    assert authority.changing_root and authority.root_pins[1] == old_pin
    # Servers are trusted by boards that know the old root, both, and the new one alone, whose claims are newer.
    service = (site.folder / "service.crt").read_text()
    new_root = pem(authority.roots[0])
    for roots in (old_roots, authority.roots_pem, new_root):
        assert accepted(tmp_path, service, service, roots, purpose="sslserver", at=NOW + DAY)
    # The broker, with both roots, lets old and new boards in.
    new = authority.issue_board("gate-2", public_key(), NOW + DAY)
    crl = (site.folder / "crl.pem").read_bytes()
    for leaf, chain in ((before.pem, old_chain), (new.pem, new.chain)):
        assert accepted(tmp_path, leaf, chain, authority.roots_pem, crl=crl, at=NOW + DAY)
        assert accepted(tmp_path, leaf, leaf, authority.trust_pem, crl=crl, at=NOW + DAY)
    # The old root stays while a board or a claim knows no other.
    assert rotation.behind(site) == ["gate-1"]
    with pytest.raises(EdgeAgentError, match=r"gate-1.*1 claims"):
        rotation.retire_root(site, NOW + DAY)
    rotation.new_issuing(site, rotation.root_key(site, "another passphrase"), NOW + DAY)
    service = (site.folder / "service.crt").read_text()
    for roots in (old_roots, new_root):
        assert accepted(tmp_path, service, service, roots, purpose="sslserver", at=NOW + DAY)
    renewed = certified(site, "gate-1", NOW + 2 * DAY)
    assert rotation.behind(site) == ["gate-1"]  # the reply may have been lost
    used(site, renewed)
    assert rotation.behind(site) == []
    rotation.retire_root(site, NOW + 8 * DAY)  # the claim has run out, too
    authority = site.authority
    assert not authority.changing_root and old_pin not in authority.root_pins
    service = (site.folder / "service.crt").read_text()
    assert accepted(tmp_path, service, service, authority.roots_pem, purpose="sslserver", at=NOW + 8 * DAY)
    assert not accepted(tmp_path, before.pem, old_chain, authority.roots_pem, at=NOW + 8 * DAY)
    assert rotation.root_key(site, "another passphrase")
    with pytest.raises(EdgeAgentError, match="one root only"):
        rotation.retire_root(site, NOW + 8 * DAY)


def test_a_damaged_pair_is_noticed(site: Site) -> None:
    keyfiles.write_private(site.folder / "issuing.key", keyfiles.key_pem(keyfiles.new_key()))
    with pytest.raises(EdgeAgentError, match="does not belong to"):
        site.authority.issue_board("gate-1", public_key(), NOW)
