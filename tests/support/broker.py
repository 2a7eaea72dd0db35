"""A real Mosquitto of the test's own: free ports, a configuration in a temporary folder, killed and restarted at will."""

from __future__ import annotations

__all__ = ["Broker", "Certificates", "free_port", "free_ports"]

import datetime
import ipaddress
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.components import require
from tests.support.ports import free_port, free_ports

START_TIMEOUT_S = 60.0


class Certificates:
    """A CA and a server certificate for localhost and 127.0.0.1, as files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgeagent test CA")])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        ca = _builder(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(True, 0), True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        ca = ca.add_extension(usage, True).add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        cert = _builder(ca_name, name, key).add_extension(names, False).add_extension(issuer, False)
        self.ca.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.cert.write_bytes(cert.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


def _builder(issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


class Broker:
    """Mosquitto with a TCP listener (`url`), a WebSocket listener (`ws_url`) and, with `certificates`, both over TLS.

    `start`, `kill`, `stop` and `restart` block for the moment that they take; use `asyncio.to_thread` in async tests.

    Args:
        folder: For the configuration and the log.
        users: User names and passwords; without them everybody may connect.
        certificates: For the TLS listeners.
        acl: Text of an ACL file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: dict[str, str] | None = None,
        certificates: Certificates | None = None,
        acl: str | None = None,
    ) -> None:
        self._binary = require("mosquitto")
        self.port, self.ws_port, self.tls_port, self.wss_port = free_ports(4)
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        lines = ["persistence false", "set_tcp_nodelay true", "max_packet_size 131072"]
        if os.geteuid() == 0:
            lines.append("user root")
        self._users, self._passwords = users or {}, folder / "passwords"
        if users:
            lines += [f"password_file {self._passwords}", "allow_anonymous false"]
        else:
            lines.append("allow_anonymous true")
        if acl is not None:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            lines.append(f"acl_file {folder / 'acl'}")
        lines += [f"listener {self.port} 127.0.0.1", f"listener {self.ws_port} 127.0.0.1", "protocol websockets"]
        if certificates:
            tls = [f"certfile {certificates.cert}", f"keyfile {certificates.key}"]
            lines += [f"listener {self.tls_port} 127.0.0.1", *tls]
            lines += [f"listener {self.wss_port} 127.0.0.1", "protocol websockets", *tls]
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.ws_port}/mqtt"

    @property
    def tls_url(self) -> str:
        return f"mqtts://localhost:{self.tls_port}"

    @property
    def wss_url(self) -> str:
        return f"wss://localhost:{self.wss_port}/mqtt"

    @property
    def log(self) -> str:
        """What Mosquitto said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start and wait until both plain listeners answer."""
        assert self._process is None
        if self._users and not self._passwords.exists():  # here, since it takes a moment, too
            self._passwords.touch(mode=0o600)
            for name, password in self._users.items():
                command = [require("mosquitto_passwd"), "-b", str(self._passwords), name, password]
                subprocess.run(command, check=True, capture_output=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._binary, "-v", "-c", self._config], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (_listens(self.port) and _listens(self.ws_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mosquitto did not start:\n{self.log}")
            threading.Event().wait(0.01)

    def kill(self) -> None:
        """As `kill -9`."""
        self._end(kill=True)

    def stop(self) -> None:
        """End it the ordinary way; nothing happens where it does not run."""
        self._end(kill=False)

    def restart(self) -> None:
        """Kill and start again, on the same ports."""
        self.kill()
        self.start()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
