"""What the tests of the site share."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.planning import Done, plan
from edgeagent_provisioning.registry import Certificate, Token
from edgeagent_provisioning.site import Site

NOW = 1_800_000_000
DAY = 86_400
PASSPHRASE = "correct horse battery"


def public_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def planned(site: Site, name: str, now: float = NOW) -> Token:
    """A planned board's claim."""
    done: Done = plan(site, Row(0, name), now)
    assert done.token, done.message
    return done.token


def certified(site: Site, name: str, now: float = NOW) -> Certificate:
    """A certificate for a board that is planned or active, as enrolment issues it."""
    issued = site.authority.issue_board(name, public_key(), now)
    certificate = Certificate(issued.serial, name, int(now), issued.not_after, issued.pem, issued.issuer)
    with site.registry.transaction() as connection:
        site.registry.save_certificate(connection, certificate)
        connection.execute("UPDATE boards SET enrolled_at = coalesce(enrolled_at, ?) WHERE name = ?", (int(now), name))
    return certificate


def used(site: Site, certificate: Certificate) -> None:
    """The board has shown the certificate."""
    with site.registry.transaction() as connection:
        connection.execute("UPDATE certificates SET used_at = issued_at WHERE serial = ?", (certificate.serial,))
