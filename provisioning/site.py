"""The site: one folder that holds its certificate authority, its registry and its keys.

    site.json           name, urls (of `serve`), brokers (mqtts://…), joining, version
    registry.sqlite3    boards, claims, certificates, audit log
    root.crt            root certificates; root.key.pem its key under a passphrase, which may be kept elsewhere
    issuing.crt, .key   the CA that signs boards and servers; service.crt, .key: TLS of `serve`
    site-keys.json      P-256 JWKs `sig` and `enc`, private: what orders to boards are signed with, and answers encrypted to
    crl.pem             revoked certificates
    broker/ cards/ labels/  of the other commands

Private files are 0600, and refused where others may read them. A file of the same name in `$CREDENTIALS_DIRECTORY` (systemd's
LoadCredential) goes before issuing.key, service.key and site-keys.json.
"""

from __future__ import annotations

__all__ = ["Site", "checked_urls", "default_folder", "move", "new_folder", "pem", "user"]

import base64
import contextlib
import fcntl
import getpass
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeagent.errors import EdgeAgentError
from edgeagent.wire import topics
from edgeagent_provisioning import keyfiles
from edgeagent_provisioning.authority import DAY_S, Authority, certificates, create, crl_number, crl_serials, private_key
from edgeagent_provisioning.registry import Registry

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VERSION = 1
_STAGED = "staged"
_NEW = ".new-site."
_SERVICE_RENEWED_S = 120 * DAY_S


def default_folder() -> Path:
    """Where the site is unless `--site` says otherwise."""
    if named := os.environ.get("EDGEAGENT_SITE"):
        return Path(named)
    return Path("/var/lib/edgeagent-site") if os.getuid() == 0 else Path.home() / ".local/share/edgeagent/site"


class Site:
    """An open site. `authority` and `registry` are opened when first asked for.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], actor: str) -> None:
        self.folder = folder
        self._settings = dict(settings)
        self._actor = actor
        self._authority: tuple[object, Authority] | None = None

    @classmethod
    def open(cls, folder: Path, actor: str | None = None) -> Site:
        """The site in `folder`.

        Args:
            actor: Who acts, for the audit log; by default the user of the machine.

        Raises:
            EdgeAgentError: There is none, or it was written by a newer version.
        """
        try:
            settings = json.loads((folder / "site.json").read_text("utf-8"))
        except FileNotFoundError:
            raise EdgeAgentError(
                f"There is no site in {folder}: make one with `edgeagent provision site init NAME`, "
                "or say where it is with --site DIR."
            ) from None
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "site.json is damaged"
            raise EdgeAgentError(f"The site in {folder} cannot be opened: {what}.") from None
        if settings.get("version") != VERSION:
            raise EdgeAgentError(f"The site in {folder} was written by a newer version of edgeagent: install that one here.")
        site = cls(folder, settings, actor or user())
        if (folder / _STAGED / "plan.json").exists():
            with site.lock():
                site._settle()
        return site

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        passphrase: str,
        now: float,
        *,
        urls: Sequence[str] = (),
        brokers: Sequence[str] = (),
        actor: str | None = None,
    ) -> Site:
        """Make a site: keys, certificates, an empty registry.

        Args:
            folder: Must not exist, or be empty.
            name: As a board's: a-z, 0-9 and inner hyphens.
            passphrase: Protects the root's key.
            urls: Where boards reach `provision serve`, like https://site.example:8443.
            brokers: Where boards reach the broker, like mqtts://site.example:8883.

        Raises:
            EdgeAgentError: Something of it cannot be used, with what to write instead.
        """
        if not topics.is_name(name):
            raise EdgeAgentError(f"{name[:80]!r} cannot name a site: use a-z, 0-9 and inner hyphens, like `home`.")
        urls, brokers = checked_urls(urls, ("https",)), checked_urls(brokers, ("mqtts", "wss"))
        protection = keyfiles.checked_passphrase(passphrase)
        new = new_folder(folder)
        try:
            root_key = keyfiles.new_key()
            root, issuing, issuing_key = create(name, root_key, now)
            keyfiles.write_private(new / "root.key.pem", keyfiles.encrypted_pem(root_key, protection))
            keyfiles.write_public(new / "root.crt", pem(root))
            keyfiles.write_private(new / "issuing.key", keyfiles.key_pem(issuing_key))
            keyfiles.write_public(new / "issuing.crt", pem(issuing))
            keyfiles.write_private(
                new / "site-keys.json", json.dumps({use: _private_jwk(keyfiles.new_key()) for use in ("sig", "enc")})
            )
            settings = {"version": VERSION, "name": name, "urls": list(urls), "brokers": list(brokers)}
            keyfiles.write_public(new / "site.json", json.dumps(settings, indent=2) + "\n")
            site = cls(new, settings, actor or user())
            with site.registry.transaction() as connection:
                site.registry.audit(connection, now, "site init", name, root=site.authority.root_pin)
            site.service_certificate(now)
            site.write_crl(now)
            site.close()
            move(new, folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return cls.open(folder, actor)

    def close(self) -> None:
        """Let go of the registry."""
        if "registry" in self.__dict__:
            self.__dict__.pop("registry").close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The site's name."""
        return str(self._settings["name"])

    @property
    def urls(self) -> tuple[str, ...]:
        """Where boards reach `provision serve` (https)."""
        return tuple(self._settings.get("urls", ()))

    @property
    def brokers(self) -> tuple[str, ...]:
        """Where boards reach the broker (mqtts or wss)."""
        return tuple(self._settings.get("brokers", ()))

    @property
    def joining(self) -> str:
        """Where boards that reach only the broker join, with a password (mqtts or wss); "" where they cannot."""
        return str(self._settings.get("joining", ""))

    @property
    def settings(self) -> Mapping[str, Any]:
        """All of site.json."""
        return self._settings

    def update(self, **settings: Any) -> None:
        """Change values of site.json (None takes one out)."""
        with self.lock():
            merged = json.loads((self.folder / "site.json").read_text("utf-8")) | settings
            self._settings = {key: value for key, value in merged.items() if value is not None}
            keyfiles.write_public(self.folder / "site.json", json.dumps(self._settings, indent=2) + "\n")

    @property
    def authority(self) -> Authority:
        """The certificate authority; read again after `site rotate-ca`, also by a service that goes on running."""
        stamp = tuple((self.folder / name).stat().st_mtime_ns for name in ("root.crt", "issuing.crt"))
        if self._authority is None or self._authority[0] != stamp:
            self._authority = (stamp, Authority(self.folder))
        return self._authority[1]

    @cached_property
    def registry(self) -> Registry:
        """Boards, claims, certificates."""
        path = self.folder / "registry.sqlite3"
        if path.exists():
            keyfiles.check_private(path)  # it holds claims and Wi-Fi keys
        else:
            keyfiles.write_private(path, b"")
        return Registry(path, self._actor)

    @cached_property
    def keys(self) -> Mapping[str, Mapping[str, str]]:
        """The site's private JWKs, `sig` and `enc`."""
        path = self.folder / "site-keys.json"
        credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / path.name
        given = bool(os.environ.get("CREDENTIALS_DIRECTORY")) and credential.is_file()
        keys: dict[str, dict[str, str]] = json.loads(credential.read_bytes() if given else keyfiles.read_private(path))
        return keys

    @property
    def public_keys(self) -> dict[str, dict[str, str]]:
        """The public halves of `keys`, as boards get them."""
        return {use: {name: value for name, value in jwk.items() if name != "d"} for use, jwk in self.keys.items()}

    def service_certificate(self, now: float) -> tuple[Path, Path]:
        """Certificate (with its chain) and key of `serve`, made again where they run out, names changed, or the CA did.

        Returns:
            Their paths; the key may be a systemd credential.
        """
        from cryptography import x509

        cert, key = self.folder / "service.crt", self.folder / "service.key"
        names = self.service_names()
        if cert.exists():
            old = certificates(cert)
            shown = old[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            same = {str(name.value) for name in shown} == set(names)
            above = old[0].issuer == self.authority.issuing.subject and pem(*old[1:]) == self.authority.server_chain
            if same and above and old[0].not_valid_after_utc.timestamp() - now > _SERVICE_RENEWED_S:
                return cert, _credential(key)
        try:
            made = private_key(key)
        except EdgeAgentError:
            if key.exists():
                raise
            made = keyfiles.new_key()
            keyfiles.write_private(key, keyfiles.key_pem(made))
        issued = self.authority.issue_server(names, made.public_key(), now)
        keyfiles.write_public(cert, issued.pem + issued.chain)
        return cert, _credential(key)

    def service_names(self) -> list[str]:
        """Host names and addresses of `urls`, and localhost."""
        hosts = [urlsplit(url).hostname or "" for url in self.urls]
        return list(dict.fromkeys([host for host in hosts if host] + ["localhost", "127.0.0.1"]))

    def write_crl(self, now: float) -> bytes:
        """Write crl.pem from the registry; the broker is to be told by whoever changed it."""
        with self.lock():  # or a service that read the registry before a revocation could write its older list after
            path = self.folder / "crl.pem"
            before = crl_number(path.read_bytes()) if path.exists() else 0
            data = self.authority.crl(self.registry.revoked(now), now, after=before)
            keyfiles.write_public(path, data)
        return data

    def crl_is_whole(self, now: float) -> bool:
        """Whether crl.pem can be read and lists all that is revoked."""
        try:
            listed = crl_serials((self.folder / "crl.pem").read_bytes())
        except (OSError, ValueError):
            return False
        return all(serial in listed for serial, _ in self.registry.revoked(now))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nobody else changes files of the site meanwhile; waits for who does."""
        with open(os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def replace(self, files: Mapping[str, tuple[bytes, bool]], remove: Sequence[str] = ()) -> None:
        """Put several files in place together: after a power cut all of them are, or none (`open` finishes what was begun).

        The caller holds `lock`.

        Args:
            files: By path below the folder the content and whether it is private; issuing.crt last, by which others notice.
            remove: Paths that go, before that.
        """
        staged = self.folder / _STAGED
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        plan = []
        for number, (name, (data, private)) in enumerate(files.items()):
            (keyfiles.write_private if private else keyfiles.write_public)(staged / str(number), data)
            plan.append([str(number), name])
        keyfiles.write_private(staged / "plan.json", json.dumps({"put": plan, "remove": list(remove)}))
        self._settle()

    def _settle(self) -> None:
        staged = self.folder / _STAGED
        if not (staged / "plan.json").exists():
            return
        plan = json.loads(keyfiles.read_private(staged / "plan.json"))
        for name in plan["remove"]:
            (self.folder / name).unlink(missing_ok=True)
        for number, name in plan["put"]:
            target = self.folder / name
            target.parent.mkdir(mode=0o700, exist_ok=True)
            if (staged / number).exists():
                os.replace(staged / number, target)
        shutil.rmtree(staged)


def new_folder(folder: Path) -> Path:
    """Where a site is made before `move` puts it in its place.

    Beside `folder`; or inside, where that is there already: a mount, or a service's (`StateDirectory=`) in a folder of root's.

    Raises:
        EdgeAgentError: The folder holds something.
    """
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    refuse_taken(folder)
    try:
        if folder.exists():
            for path in folder.iterdir():
                shutil.rmtree(path)  # what broke off before
            new = folder / f"{_NEW}{secrets.token_hex(4)}"
        new.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise EdgeAgentError(f"The site cannot be made in {folder}: {error.strerror or error}.") from None
    return new


def refuse_taken(folder: Path) -> None:
    """Raises EdgeAgentError where a site cannot be made, since something is there."""
    try:
        there = (list(folder.iterdir()) if folder.is_dir() else [folder]) if folder.exists() else []
    except OSError as error:
        raise EdgeAgentError(f"The site cannot be made in {folder}: {error.strerror or error}.") from None
    if any(not path.name.startswith(_NEW) for path in there):
        raise EdgeAgentError(f"{folder} holds something already: give another place with --site DIR, or move that away.")


def move(new: Path, folder: Path) -> None:
    """Put the finished folder in its place; one that is there and empty stays, since it may be a mount or belong to a service."""
    if new.parent != folder:
        new.rename(folder)
        return
    for path in sorted(new.iterdir(), key=lambda path: path.name == "site.json"):  # this one last: it makes it a site
        path.rename(folder / path.name)
    new.rmdir()


def checked_urls(urls: Sequence[str], schemes: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses without a slash at the end.

    Raises:
        EdgeAgentError: One is none of these schemes, or has no host.
    """
    for url in urls:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
            fine = fine and not parts.query and not parts.fragment and (parts.scheme == "wss" or parts.path in ("", "/"))
        except ValueError:
            fine = False
        if not fine or not url.isascii() or not url.isprintable() or " " in url or len(url) > 300:
            example = {"https": "https://site.example:8443", "mqtts": "mqtts://site.example:8883"}[schemes[0]]
            raise EdgeAgentError(f"{url[:120]!r} is no address for this: write one like {example}.")
    return tuple(url.rstrip("/") for url in urls)


def user() -> str:
    """The user of this machine, for the audit log."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # no entry in the password file
        return str(os.getuid())


def pem(*certificates: Any) -> str:
    """Certificates in PEM, one after the other."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def _credential(key: Path) -> Path:
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(given) / key.name if given and (Path(given) / key.name).is_file() else key


def _private_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """RFC 7518, 6.2."""
    numbers = key.private_numbers()
    parts = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y, "d": numbers.private_value}
    encoded = {name: base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode() for name, value in parts.items()}
    return {"kty": "EC", "crv": "P-256", **encoded}
