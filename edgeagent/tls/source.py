"""Where the certificate of the HTTPS door comes from: made and kept here, or laid there by somebody. Both block for a moment."""

from __future__ import annotations

__all__ = ["GivenCertificate", "Loaded", "OwnCertificate", "Source"]

import contextlib
import errno
import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeagent import files
from edgeagent.errors import EdgeAgentError
from edgeagent.tls import own
from edgeagent.tls.certificate import Certificate, examine, fingerprint_of_key, of_pem, server_context, shortly

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
FILE = "https.pem"
"""Key and certificate in the state folder: one file, so that they always fit together."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate in use.

    Attributes:
        context: For new connections.
        said: What the owner should read of it, one line.
    """

    context: ssl.SSLContext
    certificate: Certificate
    said: str


class Source(Protocol):
    """Gives the certificate of the door. Each call blocks, and raises EdgeAgentError with a sentence that says what to do."""

    def load(self) -> Loaded:
        """The certificate, at the start."""

    def look(self) -> Loaded | None:
        """Another one, if there is; to be called now and then."""

    def warning(self) -> str:
        """What is wrong with the one that was loaded last; "" where nothing is."""


class OwnCertificate:
    """Made here, kept in the state folder, and made anew before it ends or when the machine has another name or address.

    The key stays, so that a program that knows it need not be told of a new certificate.

    Args:
        folder: The state folder; made where there is none.
        device: The device's name.
        listen: Where the door listens.
        more: Further names, from the owner.
        addresses: Gives the machine's addresses.
        clock_is_right: Whether a time server keeps the clock.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str,
        listen: str,
        more: Iterable[str] = (),
        addresses: Callable[[], Iterable[str]],
        clock_is_right: Callable[[], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = folder / FILE
        self._device, self._listen, self._more = device, listen, tuple(more)
        self._addresses, self._clock_is_right, self._wall = addresses, clock_is_right, wall
        self._certificate: Certificate | None = None
        self._unkept = b""

    def load(self) -> Loaded:
        """The one that is kept, or a new one. Where a new one is due and cannot be kept (a full disk), the old one does for now,
        and where there was none one in memory: the agent must come up all the same, and `look` goes on trying."""
        key, certificate = self._kept()
        if certificate is None:
            return self._loaded(key, certificate, "there was none")
        try:
            return self._renewed(key, certificate) or self._in_use(certificate)
        except EdgeAgentError:
            return self._in_use(certificate)

    def look(self) -> Loaded | None:
        """A new one, where it is time for it."""
        assert self._certificate is not None
        if self._unkept:
            with contextlib.suppress(OSError):
                self._keep(self._unkept)
        return self._renewed(None, self._certificate)

    def warning(self) -> str:
        """Nothing: it takes care of itself."""
        return ""

    def _renewed(self, key: EllipticCurvePrivateKey | None, certificate: Certificate) -> Loaded | None:
        why = own.outdated(certificate, self._names(), self._wall(), clock_is_right=self._clock_is_right())
        return self._loaded(key or self._kept()[0], certificate, why) if why else None

    def _names(self) -> list[str]:
        return own.wanted_names(
            device=self._device, host=socket.gethostname(), listen=self._listen, addresses=self._addresses(), more=self._more
        )

    def _loaded(self, key: EllipticCurvePrivateKey | None, before: Certificate | None, why: str) -> Loaded:
        names = own.with_earlier(self._names(), before.names if before else ())
        data = own.make(key or own.new_key(), self._device, names, self._wall())
        try:
            self._keep(data)
        except OSError as error:
            if before is None and error.errno in _FULL:
                self._unkept = data
                return self._in_use(of_pem(data), f" (for now: {self._file} cannot be written, {error.strerror})", data)
            raise EdgeAgentError(
                f"The agent's own certificate cannot be kept in {self._file}: {error.strerror or error}. Let its user write there, "
                "or give it another folder with --state."
            ) from None
        return self._in_use(of_pem(data), f" (made now: {why})")

    def _keep(self, data: bytes) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(self._file, data)
        self._unkept = b""

    def _in_use(self, certificate: Certificate, new: str = "", data: bytes = b"") -> Loaded:
        context = _of_memory(data) if data else server_context(self._file)
        self._certificate = certificate
        said = f"a certificate of its own until {certificate.last_day}{new}; SHA-256 {certificate.fingerprint}"
        return Loaded(context, certificate, said)

    def _kept(self) -> tuple[EllipticCurvePrivateKey | None, Certificate | None]:
        """What lies in the file; nothing where it is damaged, or was within reach of others."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            with self._file.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    return None, None
                data = file.read()
            key, certificate = load_pem_private_key(data, None), of_pem(data)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
            return None, None
        if not isinstance(key, EllipticCurvePrivateKey) or fingerprint_of_key(key.public_key()) != certificate.key_fingerprint:
            return None, None
        return key, certificate


def _of_memory(data: bytes) -> ssl.SSLContext:
    """OpenSSL, as Python has it, reads files only."""
    with open(os.memfd_create(FILE), "wb") as file:
        file.write(data)
        file.flush()
        return server_context(Path(f"/proc/self/fd/{file.fileno()}"))


class GivenCertificate:
    """Two PEM files that somebody else renews.

    Args:
        cert: The certificate, and those between it and its root.
        key: Its key.
        wall: Unix time in seconds.
    """

    def __init__(self, cert: Path, key: Path, wall: Callable[[], float] = time.time) -> None:
        self._cert, self._key, self._wall = cert, key, wall
        self._seen: tuple[object, ...] = ()
        self._certificate: Certificate | None = None

    def load(self) -> Loaded:
        """What lies there now."""
        seen = self._signs()
        certificate = examine(self._cert, self._key)
        loaded = Loaded(
            server_context(self._cert, self._key),
            certificate,
            f"the certificate {self._cert} until {certificate.last_day}; SHA-256 {certificate.fingerprint}",
        )
        self._seen, self._certificate = seen, certificate
        return loaded

    def look(self) -> Loaded | None:
        """What lies there, if it is not what was loaded."""
        return self.load() if self._signs() != self._seen else None

    def warning(self) -> str:
        """Of its dates."""
        return shortly(self._certificate, self._wall()) if self._certificate else ""

    def _signs(self) -> tuple[object, ...]:
        """By which a file that was renewed is known, also behind a link."""
        signs: list[object] = []
        for path in (self._cert, self._key):
            try:
                found = path.stat()
                signs.append((found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode))
            except OSError:
                signs.append(None)
        return tuple(signs)
