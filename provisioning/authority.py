"""The site's certificate authority: a root (10 years, under a passphrase), an issuing CA (5 years), certificates, CRLs.

Everything is P-256. Time is an argument, in Unix seconds. The root's key is needed for two things only, `create` and
`rotate` (`edgeagent_provisioning.rotation`); it may be kept elsewhere meanwhile.

    root.crt            what boards and the broker trust; while the root changes two, the new one first
    issuing.crt, .key   who signs certificates now
    root-cross.crt      while the root changes: the new root, signed by the old one; servers show it to boards that know only that
    retired/<id>.crt, .key  issuing CAs before: they sign nothing but their CRL as long as one of their certificates lasts
"""

from __future__ import annotations

__all__ = ["BOARD_LIFE_S", "CRL_LIFE_S", "DAY_S", "Authority", "Issued", "crl_number", "crl_serials", "issuer_id", "pin_of"]

import base64
import contextlib
import hashlib
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent_provisioning import keyfiles

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

DAY_S = 86_400
BOARD_LIFE_S = 90 * DAY_S
SERVER_LIFE_S = 365 * DAY_S
CRL_LIFE_S = 365 * DAY_S  # a service that is away for months locks nobody out
ROOT_LIFE_S = 3_653 * DAY_S
ISSUING_LIFE_S = 1_826 * DAY_S
BACKDATED_S = 3_600  # for clocks that are behind ours
_CLOCKS_S = 300  # of it, what is left to a CRL that follows ones of a clock that was ahead
_CRL = b"-----BEGIN X509 CRL-----"
_SANE_S = 1_767_225_600  # 1 Jan 2026: a clock before this was never set


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and what stands above it.

    Attributes:
        pem: The certificate.
        chain: What is to be shown together with `pem` (`Authority.server_chain`).
        serial: Its number, hexadecimal.
        not_after: Its end, Unix seconds.
        issuer: Who signed it (`issuer_id`).
    """

    pem: str
    chain: str
    serial: str
    not_after: int
    issuer: str


class Authority:
    """What issues certificates, without the root's key.

    Args:
        folder: The site's.

    Raises:
        EdgeAgentError: A file is missing, damaged, or may be read by others.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.roots = certificates(folder / "root.crt")
        self.issuing = certificates(folder / "issuing.crt")[0]
        cross = folder / "root-cross.crt"
        self._cross = certificates(cross) if cross.exists() else []

    @cached_property
    def _key(self) -> EllipticCurvePrivateKey:
        path = self._folder / "issuing.key"
        key = private_key(path)
        # `site rotate-ca` writes a new one beside the credential.
        if key.public_key() != self.issuing.public_key() and path.exists():
            key = keyfiles.load_key(keyfiles.read_private(path), path)
        if key.public_key() != self.issuing.public_key():
            raise EdgeAgentError(f"{path} does not belong to issuing.crt: restore both from the same backup.")
        return key

    @property
    def signs(self) -> bool:
        """Whether the issuing key is here; else it is a credential of the service alone."""
        return _credential(path := self._folder / "issuing.key") is not None or path.exists()

    @property
    def root_pin(self) -> str:
        """What claims carry: base64url of the SHA-256 of the SubjectPublicKeyInfo of the root."""
        return pin_of(self.roots[0])

    @property
    def root_pins(self) -> tuple[str, ...]:
        """Those of all roots that count; a claim from before the root changed carries the last."""
        return tuple(map(pin_of, self.roots))

    @property
    def roots_pem(self) -> str:
        """All roots that count: what boards store and what `GET /root.pem` answers."""
        return _text(self.roots)

    @property
    def trust_pem(self) -> str:
        """Roots and issuing CAs: what a broker is given to check boards with (`cafile`)."""
        return _text([*self.roots, self.issuing, *self._retired()])

    @property
    def changing_root(self) -> bool:
        """Whether two roots count, until `rotation.retire_root`."""
        return len(self.roots) > 1

    @property
    def issuer(self) -> str:
        """Who signs now (`issuer_id`)."""
        return issuer_id(self.issuing)

    def issue_board(
        self, name: str, public_key: object, now: float, life_s: int = BOARD_LIFE_S, *, vouched: str | None = None
    ) -> Issued:
        """The certificate of a board, for mutual TLS: CN `name`, SAN URI `ea:d:<name>`.

        Args:
            vouched: Another URI, which tells the board the site's keys (`edgeagent.wire.claim.site_keys`).

        Raises:
            PeerError: The key is not P-256 (400).
            EdgeAgentError: The issuing CA has run out.
        """
        from cryptography import x509

        shown = [x509.UniformResourceIdentifier(uri) for uri in (f"ea:d:{name}", vouched) if uri]
        return self._issue(name, shown, public_key, now, life_s, self.server_chain, False)

    def issue_server(self, names: Sequence[str], public_key: object, now: float, life_s: int = SERVER_LIFE_S) -> Issued:
        """The certificate of a broker or of the site's service, for these host names and addresses; the first is its CN."""
        from cryptography import x509

        shown: list[x509.GeneralName] = []
        for name in names:
            try:
                shown.append(x509.IPAddress(ipaddress.ip_address(name.strip("[]"))))
            except ValueError:
                shown.append(x509.DNSName(name.encode("idna").decode()))
        return self._issue(names[0][:64], shown, public_key, now, life_s, self.server_chain, True)

    @property
    def server_chain(self) -> str:
        """What servers and boards show with their certificate; changes when the root does, while the certificate may stay."""
        return _text([self.issuing, *self._cross])

    def crl(self, revoked: Iterable[tuple[str, int]], now: float, *, after: int = 0) -> bytes:
        """PEM: one CRL for each issuing CA that has certificates in use, valid for a year.

        Args:
            revoked: Serial and time of each revoked certificate that has not run out.
            after: The number of the CRL before (`crl_number`): numbers only grow (RFC 5280, 5.2.3), `thisUpdate` with them.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        _check_clock(now)
        entries = [
            x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_date(at)).build()
            for serial, at in revoked
        ]
        signers = [(self.issuing, self._key)]
        for certificate in self._retired():
            path = self._folder / "retired" / f"{issuer_id(certificate)}.key"
            if certificate.not_valid_after_utc.timestamp() > now and path.exists():
                signers.append((certificate, private_key(path)))
        lists = b""
        number = max(int(now), after + 1)
        # Not later than now, whatever the clock said before; nor just now, for a broker whose clock is a little behind.
        ahead = min(number - int(now), BACKDATED_S - _CLOCKS_S)
        since, until = _date(now - BACKDATED_S + ahead), _date(now + CRL_LIFE_S)
        for certificate, key in signers:
            builder = x509.CertificateRevocationListBuilder(certificate.subject, since, until, revoked_certificates=entries)
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
            builder = builder.add_extension(_above(certificate), critical=False)
            lists += builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return lists

    def _retired(self) -> list[x509.Certificate]:
        return [certificates(path)[0] for path in sorted((self._folder / "retired").glob("*.crt"))]

    def _issue(
        self,
        name: str,
        shown: Sequence[x509.GeneralName],
        public_key: object,
        now: float,
        life_s: int,
        chain: str,
        server: bool,
    ) -> Issued:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID

        end = min(now + life_s, self.issuing.not_valid_after_utc.timestamp())
        if end <= now:
            raise EdgeAgentError("The issuing CA has run out: `edgeagent provision site rotate-ca`.")
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            builder_for(name_of(name), self.issuing.subject, p256(public_key), now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(list(shown)), critical=False)
            .add_extension(_above(self.issuing), critical=False)
        )
        made = builder.sign(self._key, hashes.SHA256())
        return Issued(_text([made]), chain, f"{made.serial_number:x}", int(end), self.issuer)


def crl_number(data: bytes) -> int:
    """The highest number of the CRLs in PEM; 0 where there are none, or none can be read."""
    from cryptography import x509

    numbers = [0]
    for part in data.split(_CRL)[1:]:
        with contextlib.suppress(ValueError, x509.ExtensionNotFound):
            found = x509.load_pem_x509_crl(_CRL + part)
            numbers.append(found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    return max(numbers)


def crl_serials(data: bytes) -> set[str]:
    """Serials (hexadecimal) of the CRLs in PEM."""
    from cryptography import x509

    return {f"{entry.serial_number:x}" for part in data.split(_CRL)[1:] for entry in x509.load_pem_x509_crl(_CRL + part)}


def create(
    site: str, root_key: EllipticCurvePrivateKey, now: float
) -> tuple[x509.Certificate, x509.Certificate, EllipticCurvePrivateKey]:
    """A root certificate, an issuing CA below it, and the latter's key."""
    root = make_root(site, root_key, now)
    key = keyfiles.new_key()
    return root, make_issuing(site, key.public_key(), root, root_key, now), key


def make_root(site: str, key: EllipticCurvePrivateKey, now: float) -> x509.Certificate:
    """A self-signed root of 10 years; below it the issuing CA, and while the root changes the next root between them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = name_of(f"{site[:40]} root {_short(key.public_key())}")
    return (
        builder_for(name, name, key.public_key(), now, now + ROOT_LIFE_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=2), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_cross(root: x509.Certificate, old: x509.Certificate, old_key: EllipticCurvePrivateKey, now: float) -> x509.Certificate:
    """The new root as the old one vouches for it: who trusts only that one trusts what the new one signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    end = min(root.not_valid_after_utc.timestamp(), old.not_valid_after_utc.timestamp())
    if end <= now:
        raise EdgeAgentError("The root has run out: no board trusts it any more. Make a new site, and enrol the boards anew.")
    return (
        builder_for(root.subject, old.subject, p256(root.public_key()), now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(_above(old), critical=False)
        .sign(old_key, hashes.SHA256())
    )


def make_issuing(
    site: str, public_key: EllipticCurvePublicKey, root: x509.Certificate, root_key: EllipticCurvePrivateKey, now: float
) -> x509.Certificate:
    """An issuing CA of 5 years below `root`, with no CA below it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    end = min(now + ISSUING_LIFE_S, root.not_valid_after_utc.timestamp())
    if end <= now:
        raise EdgeAgentError("The root has run out: `edgeagent provision site rotate-ca --new-root`.")
    return (
        builder_for(name_of(f"{site[:40]} issuing {_short(public_key)}"), root.subject, public_key, now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(_above(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )


def pin_of(certificate: x509.Certificate) -> str:
    """base64url, without padding, of the SHA-256 of the certificate's SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(info).digest()).rstrip(b"=").decode()


def issuer_id(certificate: x509.Certificate) -> str:
    """Short name of a CA, of its key: 16 hexadecimal digits."""
    return _short(p256(certificate.public_key()))


def certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one.

    Raises:
        EdgeAgentError: There are none to be read.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it holds no certificate"
        raise EdgeAgentError(f"{path} cannot be used: {what}. Restore the site from a backup.") from None


def private_key(path: Path) -> EllipticCurvePrivateKey:
    """The key in `path`, or the systemd credential of the same file name where there is one.

    Raises:
        EdgeAgentError: There is none, it is damaged, or others may read it.
    """
    if credential := _credential(path):
        return keyfiles.load_key(credential.read_bytes(), credential)  # systemd sees to who may read it
    if path.name == "issuing.key" and not path.exists():
        raise EdgeAgentError(
            f"{path} is not here. Where it is a credential of the site's service, put it back for this command "
            "(docs/installing.md, 5); else restore the site from a backup."
        )
    return keyfiles.load_key(keyfiles.read_private(path), path)


def _credential(path: Path) -> Path | None:
    """What systemd has given this process instead of the file, if it has."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(given) / path.name if given and (Path(given) / path.name).is_file() else None


def p256(key: object) -> EllipticCurvePublicKey:
    """`key` itself.

    Raises:
        PeerError: It is no P-256 key (400).
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerError(400, "The key must be an elliptic one on P-256.")
    return key


def builder_for(
    subject: x509.Name, issuer: x509.Name, public_key: EllipticCurvePublicKey, now: float, end: float
) -> x509.CertificateBuilder:
    """A certificate with names, times, a random serial and its key's identifier.

    Raises:
        EdgeAgentError: The clock of this machine is not set.
    """
    from cryptography import x509

    _check_clock(now)
    return (
        x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number(), _date(now - BACKDATED_S), _date(end))
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _check_clock(now: float) -> None:
    """A CRL of 1970 has run out by the time that somebody sets the clock: the broker would refuse every board."""
    if now < _SANE_S:
        raise EdgeAgentError(
            "The clock of this machine is not set, and certificates tell times: set it (`timedatectl`), and try again."
        )


def name_of(common_name: str) -> x509.Name:
    """A distinguished name that is nothing but a CN."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _above(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    return x509.AuthorityKeyIdentifier.from_issuer_public_key(p256(issuer.public_key()))


def _usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _short(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def _text(made: Iterable[x509.Certificate]) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in made)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
