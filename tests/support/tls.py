"""TLS before a plain server, with a certificate of its own: an encrypted camera for tests."""

from __future__ import annotations

__all__ = ["TlsDoor"]

import contextlib
import datetime
import ipaddress
import selectors
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
_CHUNK = 65_536


class TlsDoor:
    """Forwards TLS connections on 127.0.0.1 to `port` while the `with` block lasts; one that comes then stays until its end.

    Args:
        port: Of the plain server, on 127.0.0.1.
        folder: For the certificate, `cert.pem`.
        address: Whether the certificate is for 127.0.0.1, or for localhost.
    """

    def __init__(self, port: int, folder: Path, *, address: bool = True) -> None:
        self.certificate = folder / "cert.pem"
        self._target = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = folder / "key.pem"
        _write_certificate(self.certificate, key, address=address)
        self._context.load_cert_chain(self.certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._forward, args=(raw,))
            self._threads.append(thread)
            thread.start()

    def _forward(self, raw: socket.socket) -> None:
        raw.settimeout(10)
        with contextlib.suppress(OSError), raw, self._context.wrap_socket(raw, server_side=True) as near:
            self._pump(near)

    def _pump(self, near: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._target)) as far, selectors.DefaultSelector() as waiting:
            waiting.register(near, selectors.EVENT_READ, far)
            waiting.register(far, selectors.EVENT_READ, near)
            while not self._closing.is_set():
                for key, _ in waiting.select(0.1):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(_CHUNK)  # above a TLS record: nothing stays behind
                    if not data:
                        return
                    key.data.sendall(data)


def _write_certificate(certificate: Path, key: Path, *, address: bool) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([LOOPBACK if address else x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
