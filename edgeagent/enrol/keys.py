"""The board's three keys, all P-256, made here and never sent: `id` (its identity), `enc` (what is sealed to it), `tls`."""

from __future__ import annotations

__all__ = ["certificate_request", "check_issued", "load", "new", "pem", "pin_of", "read_private", "sync", "vouches", "write"]

import base64
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.files import sync, write
from edgeagent.wire import seal
from edgeagent.wire.claim import site_keys


def new() -> ECKey:
    """A fresh private key."""
    return seal.new_key()


def pem(key: ECKey) -> bytes:
    """PKCS #8, in the clear: for files of mode 0600."""
    return key.as_pem(private=True)


def load(path: Path) -> ECKey:
    """The private key in a file that only its owner may read.

    Raises:
        EdgeAgentError: There is none, it is damaged, or others may read it.
    """
    try:
        key = seal.p256(read_private(path))
    except ValueError:
        key = None
    if key is None or not key.is_private:
        raise EdgeAgentError(f"{path} holds no key of this board: `edgeagent reset`, then enrol it with a new claim.")
    return key


def read_private(path: Path) -> bytes:
    """The content of a file that only its owner may read.

    Raises:
        EdgeAgentError: It cannot be read, or others may.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise EdgeAgentError(f"{path} may be read by others (mode {mode:o}): `chmod 600 {path}`.")
            return file.read()
    except OSError as error:
        raise EdgeAgentError(f"{path} cannot be read: {error.strerror or error}.") from None


def certificate_request(tls: ECKey) -> str:
    """PKCS #10 in PEM, without a name: that is for the site to give."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    assert tls.private_key is not None
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(tls.private_key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def pin_of(certificate_pem: str) -> list[tuple[str, str]]:
    """Of each certificate in a bundle its PEM and its pin: base64url of the SHA-256 of its SubjectPublicKeyInfo.

    Raises:
        PeerError: 502, it holds none that can be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found = []
    try:
        for certificate in x509.load_pem_x509_certificates(certificate_pem.encode()):
            info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            pin = base64.urlsafe_b64encode(hashlib.sha256(info).digest()).rstrip(b"=").decode()
            found.append((certificate.public_bytes(Encoding.PEM).decode(), pin))
    except Exception:  # whatever a stranger sends
        raise PeerError(502, "What the site sent as its root is no certificate.") from None
    return found


def check_issued(certificate: str, chain: str, roots: str, *, name: str, tls: ECKey) -> tuple[int, int, str]:
    """Start and end of a certificate (Unix seconds) and its serial (hexadecimal), once it has been seen to be one for our key
    and name, below one of the roots.

    Raises:
        PeerError: 502, it is not.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        leaf = x509.load_pem_x509_certificate(certificate.encode())
        above = x509.load_pem_x509_certificates(chain.encode()) if chain else []
        anchors = x509.load_pem_x509_certificates(roots.encode())
        names = [part.value for part in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [name]:
            raise ValueError("it is for another name")
        if leaf.public_key() != tls.public_key:
            raise ValueError("it is for another key")
        lower = leaf
        for upper in above:
            if any(_issued(lower, anchor) for anchor in anchors):
                break
            lower.verify_directly_issued_by(upper)
            if not upper.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise ValueError("it was made by somebody who may make none")
            lower = upper
        if not any(_issued(lower, anchor) for anchor in anchors):
            raise ValueError("it does not end in the site's root")
    except Exception as error:
        why = str(error) if type(error) is ValueError else "it cannot be read"
        raise PeerError(502, f"The certificate that the site gave is of no use: {why[:120]}.") from None
    return int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp()), f"{leaf.serial_number:x}"


def vouches(certificate: str, sig: Mapping[str, Any], enc: Mapping[str, Any]) -> bool:
    """Whether the authority that made a certificate names in it these public keys as its site's (`wire.claim.site_keys`)."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(certificate.encode())
        shown = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return site_keys(sig, enc) in shown.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return False


def _issued(lower: object, anchor: object) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    assert isinstance(lower, x509.Certificate) and isinstance(anchor, x509.Certificate)
    try:
        lower.verify_directly_issued_by(anchor)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
