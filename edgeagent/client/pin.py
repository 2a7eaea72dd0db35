"""An agent known by the SHA-256 of its certificate, or of the key in it, instead of by an authority."""

from __future__ import annotations

__all__ = ["Pin", "parse_fingerprint"]

import asyncio
import hashlib
import re

import aiohttp


def parse_fingerprint(text: str) -> bytes:
    """The 32 bytes of `AB:CD:…` or `abcd…`. Raises ValueError with a sentence."""
    digits = re.sub(r"[\s:]", "", text)
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise ValueError("a fingerprint is a SHA-256, 64 hexadecimal digits with or without colons, as `edgeagent doctor` shows it")
    return bytes.fromhex(digits)


class Pin(aiohttp.Fingerprint):
    """Looked at before anything is sent; the certificate's names and dates do not count."""

    def check(self, transport: asyncio.Transport) -> None:
        """Raises aiohttp.ServerFingerprintMismatch, also where there is no encryption."""
        connection = transport.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True) if connection is not None else None
        found = hashlib.sha256(certificate or b"").digest()
        if certificate is None or self.fingerprint not in (found, _of_key(certificate)):
            host, port, *_ = transport.get_extra_info("peername") or ("", 0)
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, found, host, port)


def _of_key(certificate: bytes) -> bytes:
    from cryptography import x509

    from edgeagent.tls.certificate import fingerprint_of_key

    try:
        return parse_fingerprint(fingerprint_of_key(x509.load_der_x509_certificate(certificate).public_key()))
    except Exception:  # whatever a stranger shows
        return b""
