"""Who a board is at its site, in `<state>/identity`: files of mode 0600, replaced together or not at all.

id.pem, enc.pem   keys that stay until `reset`
tls.pem           key of cert.pem; chain.pem: what stands between that and root.pem (roots, one after the other)
settings.json     the first settings, where the site gave some
site.json         name, the site's public keys, where broker and service are, when enrolled
next/             what will replace these: new keys are kept here before they are sent, so that a retry asks the same thing again;
                  once `next/ready` is there, all of it counts
"""

from __future__ import annotations

__all__ = ["Identity", "Pending", "already", "folder_of", "forget", "mqtt_options"]

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey

from edgeagent.enrol import keys
from edgeagent.errors import EdgeAgentError
from edgeagent.wire import seal
from edgeagent.wire.enrolment import Enrolled

_NEXT, _READY, _SITE = "next", "ready", "site.json"
_OWN = frozenset({"id.pem", "enc.pem"})  # which no renewal may exchange
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A board that belongs to a site.

    Attributes:
        folder: `<state>/identity`.
        name: Its name on the broker, also the CN of its certificate.
        brokers: Where the broker is (`mqtts:` or `wss:`), best first.
        services: Where the site's service is (`https:`), best first; may be empty.
        joining: Where the broker takes joining users, for renewals without a service; may be empty.
        site_sig: The site's public key for signatures, pinned; a JWK.
        site_enc: The site's public key for encryption.
        pin: SHA-256 of the root's SubjectPublicKeyInfo that the claim carried, base64url.
        door: By what it was enrolled, `https` or `mqtt`.
        enrolled_at: Unix seconds.
        not_before: Start of its certificate, Unix seconds.
        not_after: Its end.
        serial: Its serial, hexadecimal.
    """

    folder: Path
    name: str
    brokers: tuple[str, ...]
    services: tuple[str, ...]
    joining: tuple[str, ...]
    site_sig: Mapping[str, str] = field(repr=False)
    site_enc: Mapping[str, str] = field(repr=False)
    pin: str
    door: str
    enrolled_at: int
    not_before: int
    not_after: int
    serial: str

    @property
    def id_key(self) -> ECKey:
        """The private identity key, read from its file."""
        return keys.load(self.folder / "id.pem")

    @property
    def enc_key(self) -> ECKey:
        """The private key that orders are sealed to."""
        return keys.load(self.folder / "enc.pem")

    @property
    def id_thumbprint(self) -> str:
        """RFC 7638, of the identity key."""
        return seal.thumbprint(self.id_key)

    @property
    def first_settings(self) -> dict[str, Any] | None:
        """What the site wants this board to run by at first, as its configuration file; None where it did not say."""
        path = self.folder / "settings.json"
        found: dict[str, Any] | None = json.loads(keys.read_private(path)) if path.exists() else None
        return found

    @property
    def cert_file(self) -> Path:
        """Certificate and chain, as TLS shows them."""
        return self.folder / "shown.pem"

    @property
    def key_file(self) -> Path:
        """Key of the certificate."""
        return self.folder / "tls.pem"

    @property
    def root_file(self) -> Path:
        """What broker and service are checked against."""
        return self.folder / "root.pem"

    @classmethod
    def load(cls, state: Path) -> Identity | None:
        """The identity in this state folder; None where the board belongs to no site.

        Raises:
            EdgeAgentError: It is damaged, or others may read it.
        """
        folder = folder_of(state)
        try:
            _settle(folder)
        except OSError as error:
            raise _unwritten(folder, error) from None
        return cls._read(folder)

    @classmethod
    def seen(cls, state: Path) -> Identity | None:
        """As `load`, for those who only look: what is being exchanged is left as it is, for the agent to put in place."""
        return cls._read(folder_of(state))

    @classmethod
    def _read(cls, folder: Path) -> Identity | None:
        path = folder / _SITE
        if not path.exists():
            return None
        try:
            told = json.loads(keys.read_private(path))
            if told["version"] != _VERSION:
                raise EdgeAgentError(f"{path} was written by a newer version of edgeagent: install that version again.")
            return cls(
                folder=folder,
                name=told["name"],
                brokers=tuple(told["brokers"]),
                services=tuple(told["services"]),
                joining=tuple(told["joining"]),
                site_sig=told["sig"],
                site_enc=told["enc"],
                pin=told["pin"],
                door=told["door"],
                enrolled_at=told["enrolled_at"],
                not_before=told["not_before"],
                not_after=told["not_after"],
                serial=told["serial"],
            )
        except (ValueError, KeyError, TypeError):
            raise EdgeAgentError(f"{path} is damaged: `edgeagent reset`, then enrol this board with a new claim.") from None


class Pending:
    """What a request is made with: keys that lie on disk before anything is sent, and are the same at each retry.

    Args:
        state: The agent's state folder.
        identity: Who the board is already, for a renewal; None for an enrolment, which makes all keys.
        fresh: Whether the key of the certificate is made anew, whatever a try before has left.

    Raises:
        EdgeAgentError: The folder cannot be written; the board has joined a site meanwhile, or left the one it renews at.
    """

    def __init__(self, state: Path, identity: Identity | None = None, *, fresh: bool = False) -> None:
        self._folder = folder_of(state)
        self._identity = identity
        self._next = self._folder / _NEXT
        try:
            if identity is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(self._folder):  # a QR and `edgeagent enrol` at once shall ask with the same keys
                _settle_held(self._folder)
                self._check()
                self._clear((set() if identity else _OWN) | (set() if fresh else {"tls.pem"}))
                self._next.mkdir(mode=0o700, exist_ok=True)
                self.tls = self._key("tls.pem")
                self.id = identity.id_key if identity else self._key("id.pem")
                self.enc = identity.enc_key if identity else self._key("enc.pem")
            keys.sync(self._folder)
        except OSError as error:
            raise _unwritten(self._folder, error) from None

    def accept(self, reply: Enrolled, *, pin: str, door: str, now: float, settings: Mapping[str, Any] | None = None) -> Identity:
        """Check what the site gave and put it in place, all together.

        Args:
            settings: The first settings of this board (`Identity.first_settings`).

        Raises:
            PeerError: 502, it is of no use; nothing has changed.
            EdgeAgentError: It cannot be written, or another process has joined a site or left it meanwhile; nothing has changed.
        """
        begin, end, serial = keys.check_issued(reply.certificate, reply.chain, reply.roots, name=reply.device, tls=self.tls)
        before = self._identity
        told = {
            "version": _VERSION,
            "name": reply.device,
            "brokers": reply.brokers,
            "services": reply.services,
            "joining": reply.joining,
            "sig": reply.sig.model_dump(),
            "enc": reply.enc.model_dump(),
            "pin": pin,
            "door": door,
            "enrolled_at": before.enrolled_at if before else int(now),
            "not_before": begin,
            "not_after": end,
            "serial": serial,
        }
        files = {
            "cert.pem": reply.certificate,
            "chain.pem": reply.chain,
            "shown.pem": reply.certificate.rstrip("\n") + "\n" + reply.chain,
            "root.pem": reply.roots,
            _SITE: json.dumps(told, indent=1),
            **({"settings.json": json.dumps(settings, indent=1)} if settings is not None else {}),
        }
        try:
            with _alone(self._folder):
                self._check()
                if not self._is_next():
                    raise EdgeAgentError("Another process has asked with other keys meanwhile: try again.")
                for name, text in files.items():
                    keys.write(self._next / name, text)
                keys.write(self._next / _READY, "")
                _settle_held(self._folder)
                made = Identity._read(self._folder)
        except OSError as error:
            raise _unwritten(self._folder, error) from None
        assert made is not None
        return made

    def _check(self) -> None:
        """Whether the board still is what it was when it was decided to ask: another process may have enrolled or reset it."""
        found = Identity._read(self._folder)
        if self._identity is None:
            if found is not None:
                raise already(found)
        elif found is None or _membership(found) != _membership(self._identity):
            raise EdgeAgentError("This board has left the site that it would renew its certificate of.")

    def _clear(self, keep: Collection[str]) -> None:
        """What an enrolment that came too late, or a try that was cut off, has left there: it would be put in place with ours."""
        for path in list(self._next.iterdir()) if self._next.exists() else ():
            if path.name not in keep:
                path.unlink()

    def _is_next(self) -> bool:
        """Whether what lies there is still what was asked with."""
        path = self._next / "tls.pem"
        return path.exists() and seal.thumbprint(keys.load(path)) == seal.thumbprint(self.tls)

    def _key(self, name: str) -> ECKey:
        path = self._next / name
        if not path.exists():
            keys.write(path, keys.pem(keys.new()))
        return keys.load(path)


def already(identity: Identity) -> EdgeAgentError:
    """The error of whoever would enrol this board once more."""
    return EdgeAgentError(
        f"This board belongs to a site already, as {identity.name}. To take it to another: `edgeagent reset`, then enrol it again."
    )


def folder_of(state: Path) -> Path:
    """Where the identity lies."""
    return state / "identity"


def mqtt_options(identity: Identity) -> dict[str, Any]:
    """How the agent reaches its site's broker: the keywords of `edgeagent.mqtt.door.MqttOptions`.

    Raises:
        EdgeAgentError: The site has told no broker.
    """
    if not identity.brokers:
        raise EdgeAgentError(f"The site of {identity.name} has told no broker: `edgeagent provision site` there, then renew.")
    return {
        "url": identity.brokers[0],
        "ca_file": str(identity.root_file),
        "cert_file": str(identity.cert_file),
        "key_file": str(identity.key_file),
    }


def forget(state: Path, *, keep: Iterable[str] = (), everything: bool = False) -> list[str]:
    """Forget the site: keys, certificate, and the settings that it gave; with `everything` all that lies in the state folder.

    What is to go is renamed first, so that a power cut leaves nothing half forgotten: `forget` again ends what was begun.

    Args:
        keep: Names in the state folder that stay whatever is asked.

    Returns:
        The names that were removed.
    """
    kept = set(keep)
    gone = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(state.iterdir()):
            site_made = path.name == "identity" or path.name.startswith(("desired.", "orders.", ".forgotten-"))
            if path.name in kept or not (everything or site_made):
                continue
            doomed = path if path.name.startswith(".forgotten-") else state / f".forgotten-{secrets.token_hex(4)}"
            if doomed != path:
                os.replace(path, doomed)
                gone.append(path.name)
        keys.sync(state)
        for path in state.glob(".forgotten-*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        keys.sync(state)
    return gone


def _settle(folder: Path) -> None:
    """Finish what was begun before a power cut."""
    if (folder / _NEXT / _READY).exists():
        with _alone(folder):  # the agent looks here while `edgeagent enrol` puts it there
            _settle_held(folder)


def _settle_held(folder: Path) -> None:
    """`_settle`, by who is alone there."""
    coming = folder / _NEXT
    if not (coming / _READY).exists():
        return
    joined = (folder / _SITE).exists()  # of names in order, the keys go before it
    for path in sorted(coming.iterdir()):
        if path.name != _READY and not path.name.startswith(".") and not (joined and path.name in _OWN):
            os.replace(path, folder / path.name)
    keys.sync(folder)
    (coming / _READY).unlink()
    shutil.rmtree(coming, ignore_errors=True)


def _membership(identity: Identity) -> tuple[object, ...]:
    return identity.name, dict(identity.site_sig), identity.enrolled_at


def _unwritten(folder: Path, error: OSError) -> EdgeAgentError:
    hint = "make room there, or mend the disk."
    if isinstance(error, PermissionError):
        hint = "run this with sudo, or name another folder with --state DIR."
    elif isinstance(error, FileNotFoundError):
        hint = "it was removed meanwhile, as `edgeagent reset` does."
    return EdgeAgentError(f"{folder} cannot be written ({error.strerror or error}): {hint}")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process changes the identity meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
