"""A certificate of the agent's own: which names it has, when it is made anew, and how it is made."""

from __future__ import annotations

__all__ = ["make", "new_key", "outdated", "with_earlier", "wanted_names"]

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edgeagent.tls.certificate import DAY_S, Certificate

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VALID_S = 397 * DAY_S
"""Apple's systems refuse more than 398 days below roots of their own, and 825 below those that users add; nobody asks for less."""
RENEW_S = 30 * DAY_S
_BACK_S = 1 * DAY_S  # whose clock is a little slow shall take it, too
_MAX_NAMES = 24
_DNS = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


def wanted_names(*, device: str, host: str, listen: str, addresses: Iterable[str], more: Iterable[str] = ()) -> list[str]:
    """The names and addresses by which people reach this machine; what is no name is left out.

    Args:
        device: The device's name.
        host: The machine's own, with or without a domain.
        listen: Where the door listens: a name, an address, or one that means all.
        addresses: The machine's; of these IPv4 only. Nobody types the others, and many are new every day.
        more: What the owner adds.
    """
    host = host.lower().rstrip(".")
    found = [device, f"{device}.local", host, f"{host.partition('.')[0]}.local", "localhost", "127.0.0.1", "::1", listen, *more]
    found += [address for address in addresses if ":" not in address]
    return list(dict.fromkeys(name for name in map(_name, found) if name and name != "localhost.local"))[:_MAX_NAMES]


def _name(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        text = text.lower()
        # Digits alone would be an address gone wrong.
        return text if _DNS.fullmatch(text) and not re.fullmatch(r"[0-9.]*", text) else ""
    return "" if address.is_unspecified or address.is_link_local or "%" in text else str(address)


def with_earlier(wanted: list[str], known: Iterable[str]) -> list[str]:
    """The wanted names, and of those before as many as there is room for: a board that goes to and fro between two networks
    then keeps one certificate, and who has taken it is not asked again."""
    return list(dict.fromkeys([*wanted, *known]))[:_MAX_NAMES]


def outdated(certificate: Certificate, wanted: Iterable[str], now: float, *, clock_is_right: bool) -> str:
    """Why another one is needed, in words; "" where this one serves.

    Args:
        now: Unix seconds.
        clock_is_right: Whether a time server keeps the clock. A board without one begins in the past each time it starts; a
            certificate from the future is then none that is wrong.
    """
    if now > certificate.not_after - RENEW_S:
        return f"it ends on {certificate.last_day}"
    if now < certificate.not_before and clock_is_right:
        return "it was made while the clock was wrong"
    missing = [name for name in wanted if name not in certificate.names]
    return f"it does not name {', '.join(missing)}" if missing else ""


def new_key() -> EllipticCurvePrivateKey:
    """A key on P-256, which every browser takes."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def make(key: EllipticCurvePrivateKey, device: str, names: Iterable[str], now: float) -> bytes:
    """The key and a self-signed certificate for it, in PEM, for a file of mode 0600.

    Args:
        device: For people to read in the certificate.
        now: Unix seconds.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "edgeagent"), x509.NameAttribute(NameOID.COMMON_NAME, device[:64])]
    )
    begin = datetime.fromtimestamp(now - _BACK_S, UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(seconds=VALID_S))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        # No authority: whoever trusts it trusts these names, and nothing that it would sign.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
