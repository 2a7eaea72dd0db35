"""Those who take part in `broker check`: two boards, two browsers, a joining board and the site's tool, for a moment."""

from __future__ import annotations

__all__ = ["Cast", "Client", "foreign"]

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions
from edgeagent.mqtt.url import BrokerAddress
from edgeagent_provisioning import keyfiles
from edgeagent_provisioning.authority import builder_for, name_of
from edgeagent_provisioning.broker import files, mosquitto
from edgeagent_provisioning.broker.mosquitto import Viewer
from edgeagent_provisioning.broker.names import CHECK, SITE, new_viewer
from edgeagent_provisioning.broker.settings import Settings
from edgeagent_provisioning.site import Site, pem

_LIFE_S = 900


@dataclass(slots=True)
class Client:
    """Somebody of this check, and what reached him: topic and payload."""

    name: str
    kind: Literal["board", "viewer", "joining", "site"]
    options: BrokerOptions
    heard: set[tuple[str, bytes]] = field(default_factory=set)
    connection: BrokerConnection | None = None

    @property
    def gone(self) -> bool:
        """Whether the broker has ended the connection."""
        return self.connection is None or self.connection.lost.done()


class Cast:
    """Those who take part."""

    def __init__(self, site: Site, settings: Settings, tool: BrokerOptions, folder: Path, now: float) -> None:
        self.owner = site
        self.settings = settings
        mark = secrets.token_hex(4)
        names = [*(new_viewer() for _ in range(3)), *(f"j-{secrets.token_hex(8)}" for _ in range(2))]
        passwords = {name: secrets.token_urlsafe(16) for name in names}
        first, second, posing, joining, posing_joining = passwords
        self.thieves = {"viewer": posing, "joining": posing_joining}
        hashed = {name: mosquitto.hashed(password) for name, password in passwords.items()}
        with_joining = bool(settings.joining) and not settings.elsewhere
        self.extra = files.Extra(
            viewers=tuple(Viewer(name, hashed[name]) for name in (first, second, posing)),
            joining={name: hashed[name] for name in (joining, posing_joining)} if with_joining else {},
        )
        self.boards = [
            Client(name, "board", _certified(site.authority.issue_board, name, tool, folder, now))
            for name in (f"{CHECK}{mark}-a", f"{CHECK}{mark}-b")
        ]
        self.site = Client(SITE, "site", tool)
        self.viewers: list[Client] = []
        self.joining: list[Client] = []
        if not settings.elsewhere:
            self.viewers = [self.guest("viewer", name, passwords[name], settings.viewers_port) for name in (first, second)]
        if with_joining:
            self.joining = [self.guest("joining", joining, passwords[joining], settings.joining_port)]
        self.passwords = passwords
        self.folder = folder
        self.now = now
        self.shown = files.folder_of(site, settings) / "viewers.crt"

    @property
    def all(self) -> list[Client]:
        """The site last: it listens until all are done."""
        return [*self.boards, *self.viewers, *self.joining, self.site]

    def guest(self, kind: Literal["viewer", "joining"], name: str, password: str | None, port: int, client_id: str = "") -> Client:
        """Somebody with a password; None for none. What browsers see is another check."""
        tool = self.site.options.address
        path = "/mqtt" if kind == "viewer" else None
        address = BrokerAddress(tool.host, port, True, path, None if password is None else name, password)
        return Client(name, kind, BrokerOptions(address, client_id or name, verify=False))


def _certified(issue: Callable[..., object], name: str, tool: BrokerOptions, folder: Path, now: float) -> BrokerOptions:
    key = keyfiles.new_key()
    issued = issue(name, key.public_key(), now, _LIFE_S)
    return _stored(name, f"{getattr(issued, 'pem', '')}{getattr(issued, 'chain', '')}", keyfiles.key_pem(key), tool, folder)


def foreign(site: Site, name: str, tool: BrokerOptions, folder: Path, now: float) -> BrokerOptions:
    """A certificate of a board's name in the name of the site's CA, signed by somebody else."""
    from cryptography.hazmat.primitives import hashes

    key = keyfiles.new_key()
    builder = builder_for(name_of(name), site.authority.issuing.subject, key.public_key(), now, now + _LIFE_S)
    made = builder.sign(keyfiles.new_key(), hashes.SHA256())
    return _stored(f"foreign-{name}", pem(made), keyfiles.key_pem(key), tool, folder)


def _stored(name: str, cert: str, key: bytes, tool: BrokerOptions, folder: Path) -> BrokerOptions:
    keyfiles.write_public(folder / f"{name}.crt", cert)
    keyfiles.write_private(folder / f"{name}.key", key)
    return dataclasses.replace(tool, client_id=name, cert_file=str(folder / f"{name}.crt"), key_file=str(folder / f"{name}.key"))
