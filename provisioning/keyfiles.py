"""Files that hold secrets: written whole or not at all, 0600, refused where others may read them; keys under a passphrase."""

from __future__ import annotations

__all__ = [
    "PASSPHRASE_MIN",
    "check_private",
    "checked_passphrase",
    "encrypted_pem",
    "key_hash",
    "key_pem",
    "load_key",
    "new_key",
    "read_private",
    "write_private",
    "write_public",
]

import base64
import hashlib
import os
import secrets
import stat
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import files
from edgeagent.errors import EdgeAgentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

PASSPHRASE_MIN = 8
_ROUNDS = 600_000  # of PBKDF2-HMAC-SHA256; `cryptography` itself writes 2,048


def new_key() -> EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def key_hash(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """The key in PKCS #8, in the clear: only for files that are 0600."""
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def encrypted_pem(key: EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    """The key in PKCS #8 under a passphrase (PBES2, RFC 8018: AES-256-CBC, PBKDF2 with 600,000 rounds); `openssl pkey` reads it."""
    from cryptography.hazmat.primitives import hashes, padding
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    salt, start = secrets.token_bytes(16), secrets.token_bytes(16)
    secret = PBKDF2HMAC(hashes.SHA256(), 32, salt, _ROUNDS).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    clear = key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(start)).encryptor()
    sealed = encryptor.update(padder.update(clear) + padder.finalize()) + encryptor.finalize()
    # 1.2.840.113549.1.5.13 PBES2, …5.12 PBKDF2, 1.2.840.113549.2.9 HMAC-SHA256, 2.16.840.1.101.3.4.1.42 AES-256-CBC
    parameters = _der(0x30, _der(4, salt), _der(2, _ROUNDS.to_bytes(3, "big")), _der(0x30, _oid("2a864886f70d0209"), _der(5)))
    scheme = _der(
        0x30,
        _der(0x30, _oid("2a864886f70d01050c"), parameters),
        _der(0x30, _oid("60864801650304012a"), _der(4, start)),
    )
    whole = _der(0x30, _der(0x30, _oid("2a864886f70d01050d"), scheme), _der(4, sealed))
    lines = "\n".join(textwrap.wrap(base64.b64encode(whole).decode(), 64))
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{lines}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode()


def load_key(pem: bytes, path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """The P-256 key of a file.

    Raises:
        EdgeAgentError: It is none, or the passphrase is another.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = form.load_pem_private_key(pem, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise EdgeAgentError(f"{path} is under a passphrase, and none was given.") from None
        raise EdgeAgentError(f"{path} is not under a passphrase: protect it, or give another file.") from error
    except ValueError:
        wrong = "The passphrase is not that of" if passphrase is not None else "There is no private key in"
        raise EdgeAgentError(f"{wrong} {path}: give the right one.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EdgeAgentError(f"{path} holds a key that is not P-256: give the one that `site init` wrote.")
    return key


def checked_passphrase(text: str) -> bytes:
    """A passphrase that may protect something new.

    Raises:
        EdgeAgentError: It is too short.
    """
    if len(text) < PASSPHRASE_MIN:
        raise EdgeAgentError(f"The passphrase is too short: take at least {PASSPHRASE_MIN} characters, better five words.")
    return text.encode()


def read_private(path: Path) -> bytes:
    """The content of a file that only its owner may read.

    Raises:
        EdgeAgentError: It cannot be read, or others may.
    """
    try:
        with path.open("rb") as file:
            _refuse_shared(path, os.fstat(file.fileno()).st_mode)
            return file.read()
    except OSError as error:
        raise EdgeAgentError(f"{path} cannot be read: {error.strerror or error}.") from None


def check_private(path: Path) -> None:
    """Raises EdgeAgentError where others may read this file."""
    _refuse_shared(path, path.stat().st_mode)


def _refuse_shared(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o077:
        shown = f"mode {stat.S_IMODE(mode):o}"
        raise EdgeAgentError(f"{path} may be read by others ({shown}): `chmod 600 {path}`, and think of who may have read it.")


def write_private(path: Path, data: bytes | str) -> None:
    """Put a file of mode 0600 in place, whole, and on disk before this returns."""
    files.write(path, data)


def write_public(path: Path, data: bytes | str) -> None:
    """The same for what everybody may read (0644)."""
    files.write(path, data, 0o644)


def _der(tag: int, *parts: bytes) -> bytes:
    """One value in DER (X.690, 8.1), with `parts` as its content."""
    content = b"".join(parts)
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (size if len(content) < 128 else bytes([0x80 | len(size)]) + size) + content


def _oid(content: str) -> bytes:
    return _der(6, bytes.fromhex(content))
