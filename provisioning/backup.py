"""A site in one file, and back, also on another machine.

Under a passphrase the file is a JWE (RFC 7516; PBES2-HS512+A256KW, A256GCM) around a tar; without one it is the tar itself, 0600.
Everything of the folder is in it except cards/ and labels/, which can be made again and hold claims, and releases/, which are large
and made again by the next `upgrade`.
"""

from __future__ import annotations

__all__ = ["Found", "read", "restore", "write"]

import gzip
import io
import json
import secrets
import shutil
import sqlite3
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import held, keyfiles, rights, upgrade
from edgeagent_provisioning.site import Site, move, new_folder

if TYPE_CHECKING:
    from joserfc.jwk import OctKey

_ROUNDS = 250_000  # of PBKDF2-HMAC-SHA512
_MAX_BYTES = 1_000_000_000
_MAX_FILES = 10_000
_MAX_HEADER = 65_536  # ours have none; a long name takes one
_OMITTED = {"cards", "labels", "staged"}
_RELEASES = upgrade.FOLDER  # were in backups once, and are passed over there
_DATABASE = "registry.sqlite3"
_MANIFEST = "backup.json"
_DAMAGED = "The backup is damaged: take another one."
_TOO_LARGE = "The backup holds more than a site has: take another one."


@dataclass(frozen=True, slots=True)
class Found:
    """What a backup tells of itself.

    Attributes:
        site: The site's name.
        at: When it was written, Unix seconds.
        files: By path.
    """

    site: str
    at: int
    files: dict[str, bytes]


def write(site: Site, path: Path, now: float, passphrase: str | None) -> int:
    """Write a backup; bytes of the file. Others may go on working meanwhile.

    Args:
        path: The file, which is replaced if it is there.
        passphrase: None for a tar in the clear, which holds the issuing key and every open claim.

    Raises:
        EdgeAgentError: The passphrase is too short, or the file cannot be written.
    """
    protection = keyfiles.checked_passphrase(passphrase) if passphrase is not None else None
    buffer = io.BytesIO()
    with site.lock(), tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        manifest = {"edgeagent_site_backup": 1, "site": site.name, "at": int(now)}
        _add(tar, _MANIFEST, json.dumps(manifest).encode(), now)
        for name, file in _files(site.folder):
            _add(tar, name, file.read_bytes(), now)
        _add(tar, _DATABASE, _database(site), now)
    data = buffer.getvalue()
    sealed = _sealed(data, protection) if protection else data
    try:
        with rights.as_root():
            held.write_private(path, sealed, make=False)
    except OSError as error:
        raise EdgeAgentError(f"{path} cannot be written: {error.strerror or error}.") from None
    with site.registry.transaction() as connection:
        site.registry.audit(connection, now, "site backup", site.name, encrypted=protection is not None, file=path.name)
    return len(sealed)


def read(data: bytes, passphrase: str | None) -> Found:
    """What is in a backup.

    Raises:
        EdgeAgentError: It is none, is damaged, or the passphrase is missing or wrong.
    """
    if not data.startswith(b"\x1f\x8b"):
        if data[:3] != b"eyJ":
            raise EdgeAgentError("This is no backup of a site: give the file that `site backup` wrote.")
        if passphrase is None:
            raise EdgeAgentError("This backup is under a passphrase: give it.")
        data = _opened(data, passphrase.encode())
    files: dict[str, bytes] = {}
    try:
        plain = _unpacked(data)
        with tarfile.open(fileobj=_Headers(plain), mode="r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                # Nothing is unpacked by tarfile itself, whose filters Python 3.11.2 does not have.
                if (
                    member.issparse()
                    or not member.isreg()
                    or path.is_absolute()
                    or ".." in path.parts
                    or not 1 <= len(path.parts) <= 4
                ):
                    raise EdgeAgentError(_DAMAGED)
                if path.parts[0] in _OMITTED:  # `staged` would be carried out by `Site.open`, wherever it says that files go
                    raise EdgeAgentError(_DAMAGED)
                if member.offset_data + member.size > len(plain):
                    raise EdgeAgentError(_DAMAGED)
                if path.parts[0] == _RELEASES:
                    continue
                files[str(path)] = plain[member.offset_data : member.offset_data + member.size]
                if len(files) > _MAX_FILES:
                    raise EdgeAgentError(_TOO_LARGE)
        manifest = json.loads(files.pop(_MANIFEST))
        found = Found(str(manifest["site"]), int(manifest["at"]), files)
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError, zlib.error):
        raise EdgeAgentError(_DAMAGED) from None
    if {"site.json", "root.crt", "issuing.crt", _DATABASE} - files.keys():
        raise EdgeAgentError(_DAMAGED)
    return found


def _unpacked(data: bytes) -> bytes:
    most = min(_MAX_BYTES, 50_000_000 + 50 * len(data))  # files of a site shrink to a tenth at best
    plain = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while part := file.read(1 << 20):
            plain += part
            if len(plain) > most:
                raise EdgeAgentError(_TOO_LARGE)
    return bytes(plain)


class _Headers(io.BytesIO):
    """What tarfile finds its way by: headers, of which none is large. It would copy one of any size, and decode that."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER:
            raise EdgeAgentError(_DAMAGED)
        return super().read(size)


def restore(found: Found, folder: Path, now: float, *, cancel_claims: bool = False) -> Site:
    """Make the site again from a backup. Who was revoked since is a member again, and must be revoked again.

    Args:
        folder: Must not exist, or be empty.
        cancel_claims: Cancel every claim that is open, or was used by a board that was not active yet: one that was used after
            the backup would work again.

    Raises:
        EdgeAgentError: The folder holds something, or what was restored does not fit together.
    """
    new = new_folder(folder)
    try:
        for name, data in found.files.items():
            target = new / name
            for missing in reversed([parent for parent in target.parents if parent != new and new in parent.parents]):
                missing.mkdir(mode=0o700, exist_ok=True)
            (keyfiles.write_public if _public(name) else keyfiles.write_private)(target, data)
        _check_database(new / _DATABASE)
        with Site.open(new) as site:
            if problem := site.registry.audit_problem():
                raise EdgeAgentError(f"{problem} The backup was tampered with: take another one.")
            with site.registry.transaction() as connection:
                site.registry.audit(connection, now, "site restore", site.name, backup_of=found.at)
                if cancel_claims:
                    query = "UPDATE tokens SET cancelled_at = ?, secret = '' WHERE cancelled_at IS NULL AND secret != ''"
                    query += " AND (uses_left > 0 OR kind = 'single')"  # who waits by one for many stays
                    connection.execute(query, (int(now),))
            if (new / "issuing.key").exists():  # else it is a systemd credential, and belongs to the service
                site.service_certificate(now)
                site.write_crl(now)
        move(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return Site.open(folder)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or name.parts[0] in {*_OMITTED, _RELEASES}:
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        if not str(name).startswith(_DATABASE):
            yield name.as_posix(), path


def _database(site: Site) -> bytes:
    """A consistent copy, though others write meanwhile."""
    copy = site.folder / f".backup.{secrets.token_hex(4)}"
    try:
        keyfiles.write_private(copy, b"")
        site.registry.copy_to(copy)
        return copy.read_bytes()
    finally:
        for path in site.folder.glob(f"{copy.name}*"):
            path.unlink()


def _check_database(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            fine = connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    except sqlite3.Error:
        fine = False
    if not fine:
        raise EdgeAgentError(_DAMAGED)


def _add(tar: tarfile.TarFile, name: str, data: bytes, now: float) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), int(now), 0o600
    tar.addfile(member, io.BytesIO(data))


def _public(name: str) -> bool:
    return name in ("site.json", "crl.pem") or (name.endswith(".crt") and not name.startswith("broker/"))


def _sealed(data: bytes, passphrase: bytes) -> bytes:
    from joserfc import jwe

    header = {"alg": "PBES2-HS512+A256KW", "enc": "A256GCM", "p2c": _ROUNDS}
    return jwe.encrypt_compact(header, data, _oct(passphrase), algorithms=["PBES2-HS512+A256KW", "A256GCM"]).encode()


def _oct(passphrase: bytes) -> OctKey:
    from joserfc.errors import SecurityWarning
    from joserfc.jwk import OctKey

    with warnings.catch_warnings(action="ignore", category=SecurityWarning):  # short for a key; this is stretched into one
        return OctKey.import_key(passphrase)


def _opened(data: bytes, passphrase: bytes) -> bytes:
    from joserfc import jwe
    from joserfc.errors import JoseError

    registry = jwe.JWERegistry(algorithms=["PBES2-HS512+A256KW", "A256GCM"])
    registry.max_ciphertext_length = _MAX_BYTES
    try:
        plain = jwe.decrypt_compact(data.strip(), _oct(passphrase), registry=registry).plaintext
    except (JoseError, ValueError):
        plain = None
    if plain is None:
        raise EdgeAgentError("The backup cannot be opened: the passphrase is wrong, or the file is damaged.")
    return plain
