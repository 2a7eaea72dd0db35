"""A certificate for HTTPS: what it says, whether a key is its own, and what is wrong with either, in words."""

from __future__ import annotations

__all__ = ["DAY_S", "Certificate", "examine", "fingerprint_of_key", "of_der", "of_pem", "server_context", "shortly"]

import getpass
import hashlib
import os
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.errors import EdgeAgentError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

DAY_S = 86_400.0
_SOON_S = 14 * DAY_S
_BEGIN = b"-----BEGIN "
_MAX_FILE = 1_000_000


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Attributes:
        names: DNS names and IP addresses that it stands for.
        not_before: From when on it counts, Unix seconds.
        not_after: Until when.
        fingerprint: SHA-256 of the certificate, as browsers show it: `AB:CD:…`.
        key_fingerprint: SHA-256 of its public key (SubjectPublicKeyInfo), written alike; it outlives renewals with the same key.
        self_signed: Whether nobody else vouches for it.
    """

    names: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: str
    key_fingerprint: str
    self_signed: bool

    @property
    def last_day(self) -> str:
        """The day on which it ends, as `2027-01-31`, in UTC."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.not_after))


def of_der(data: bytes) -> Certificate:
    """Read a certificate in DER, as a TLS connection gives it. Raises ValueError."""
    from cryptography import x509

    return _of(x509.load_der_x509_certificate(data))


def of_pem(data: bytes) -> Certificate:
    """Read the first certificate in PEM. Raises ValueError."""
    from cryptography import x509

    return _of(x509.load_pem_x509_certificate(data))


def _of(found: x509.Certificate) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        san = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (*san.get_values_for_type(x509.DNSName), *map(str, san.get_values_for_type(x509.IPAddress)))
    except x509.ExtensionNotFound:
        names = ()
    return Certificate(
        names=names,
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        fingerprint=_sha256(found.public_bytes(Encoding.DER)),
        key_fingerprint=fingerprint_of_key(found.public_key()),
        self_signed=found.issuer == found.subject,
    )


def fingerprint_of_key(key: PublicKeyTypes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, as in `Certificate`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return _sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).digest().hex(":").upper()


def examine(cert_file: Path, key_file: Path) -> Certificate:
    """Look at a certificate and its key as somebody has laid them there.

    Raises:
        EdgeAgentError: They cannot be used; the sentence says why, and what to do.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    cert_data, _ = _read(cert_file, "http.tls.cert")
    try:
        found = x509.load_pem_x509_certificate(cert_data)
        certificate = _of(found)
    except (ValueError, UnsupportedAlgorithm):
        hint = "give the file that begins with -----BEGIN CERTIFICATE-----, of certbot fullchain.pem"
        raise EdgeAgentError(f"http.tls.cert: {cert_file} holds no certificate in PEM: {hint}.") from None
    key_data, mode = _read(key_file, "http.tls.key")
    if mode & stat.S_IROTH:
        raise EdgeAgentError(f"http.tls.key: everybody on this machine may read {key_file}: `chmod o= {key_file}`.")
    try:
        key = load_pem_private_key(key_data, None)
    except TypeError:  # as the library says that it has a passphrase
        out = f"`openssl pkey -in {key_file} -out NEW` takes it off"
        raise EdgeAgentError(f"http.tls.key: {key_file} has a passphrase, which nobody is there to type: {out}.") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "give the file that begins with -----BEGIN PRIVATE KEY-----, of certbot privkey.pem"
        raise EdgeAgentError(f"http.tls.key: {key_file} holds no private key in PEM: {hint}.") from None
    if key.public_key() != found.public_key():
        hint = "give two that were made together, and in `cert` the certificate of this machine first"
        raise EdgeAgentError(f"http.tls.key: {key_file} is not the key of the certificate in {cert_file}: {hint}.")
    return certificate


def _read(path: Path, key: str) -> tuple[bytes, int]:
    """A file's content and mode."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE), os.fstat(file.fileno()).st_mode
    except PermissionError:
        hint = f"`sudo chgrp {_user()} {path}` and `sudo chmod g+r {path}`, or a copy that it may read (docs/operation.md)"
        raise EdgeAgentError(f"{key}: the user {_user()} may not read {path}: {hint}.") from None
    except OSError as error:
        raise EdgeAgentError(f"{key}: {path} cannot be read: {error.strerror or error}.") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def shortly(certificate: Certificate, now: float) -> str:
    """What is to be said of its dates: that it has ended, ends soon, or has not begun; "" where all is well.

    The sentence changes from day to day.
    """
    left_s = certificate.not_after - now
    if left_s <= 0:
        return (
            f"The certificate has ended on {certificate.last_day}: browsers refuse it. Renew it; the new file is taken by itself."
        )
    if now < certificate.not_before:
        return "The certificate does not count yet: this machine's clock is slow, or the certificate was made for later."
    # Whoever renews in time does so with a third left, also of certificates that live for days only.
    if left_s < min(_SOON_S, (certificate.not_after - certificate.not_before) / 5):
        days = int(left_s // DAY_S)
        when = f"in {days} day{'' if days == 1 else 's'}" if days else "today"
        return f"The certificate ends {when} and has not been renewed: see what renews it, such as `certbot renew`."
    return ""


def server_context(cert_file: Path, key_file: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate.

    Raises:
        EdgeAgentError: OpenSSL does not take it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without the function OpenSSL would ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or error.strerror or error
        raise EdgeAgentError(f"http.tls: the certificate in {cert_file} cannot be used ({why}); make a new one.") from None
    return context
