"""What the site's broker is to be, as it was asked for; kept in the registry, so that later changes render the same broker."""

from __future__ import annotations

__all__ = ["Settings", "checked"]

import contextlib
import dataclasses
import ipaddress
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeagent.errors import ConfigError, ConfigProblem
from edgeagent.wire import topics
from edgeagent_provisioning.broker.mosquitto import Listeners
from edgeagent_provisioning.broker.names import reserved
from edgeagent_provisioning.site import Site, user

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """The broker.

    Attributes:
        hosts: Its names and addresses, as boards write them; the first is what they are given.
        boards_port, viewers_port, joining_port: Where it listens.
        joining: Whether boards may join over MQTT.
        bind: Address to listen at; "" for all. The browsers' listener does not heed it: WebSockets of Mosquitto 2.0 listen at all.
        folder: Where its files are written; "" for `broker` in the site's folder.
        include: File that makes the system's Mosquitto read them; "" where it is started with `mosquitto.conf` of the folder.
        elsewhere: Whether the broker runs on another machine, to which somebody carries the files.
        public_host: Its name for browsers; "" for the first of `hosts`.
        cert, key: A public certificate for browsers, with its chain; "" for one of the site.
        page: Where people find the page; "" where unknown.
        home: Home Assistant's password, hashed; "" where it has no user.
        home_prefix: Where it listens.
        pairs: `(a, b)`: board a may watch and command board b.
    """

    hosts: tuple[str, ...] = ()
    boards_port: int = 8883
    viewers_port: int = 8884
    joining_port: int = 8885
    joining: bool = True
    bind: str = ""
    folder: str = ""
    include: str = ""
    elsewhere: bool = False
    public_host: str = ""
    cert: str = ""
    key: str = ""
    page: str = ""
    home: str = field(default="", repr=False)
    home_prefix: str = "homeassistant"
    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def load(cls, site: Site) -> Settings | None:
        """Those of the site; None where it has never been given a broker."""
        rows = site.registry.rows("SELECT name, value FROM broker_settings")
        known = {part.name for part in dataclasses.fields(cls)}
        found: dict[str, Any] = {row["name"]: json.loads(row["value"]) for row in rows if row["name"] in known}
        for name in ("hosts", "pairs"):
            found[name] = tuple(tuple(item) if isinstance(item, list) else item for item in found.get(name, ()))
        return cls(**found) if rows else None

    def save(self, site: Site, now: float) -> None:
        """Keep them, and tell boards by `site.json` where the broker is."""
        old = Settings.load(site)
        if old != self:
            before = dataclasses.asdict(old) if old else {}
            values = dataclasses.asdict(self)
            changed = [name for name, value in values.items() if before.get(name) != value]
            with site.registry.transaction() as connection:
                for name, value in values.items():
                    connection.execute("REPLACE INTO broker_settings VALUES (?, ?)", (name, json.dumps(value)))
                shown = {name: values[name] for name in changed if name != "home"}
                site.registry.audit(connection, now, "broker", site.name, changed=changed, values=shown)
        joining = self.joining_url
        if self.boards_url not in site.brokers or site.joining != joining:
            others = [url for url in site.brokers if url != self.boards_url and (old is None or url != old.boards_url)]
            site.update(brokers=[self.boards_url, *others], joining=joining or None)

    @classmethod
    @contextlib.contextmanager
    def tried(cls, site: Site, now: float) -> Iterator[None]:
        """What is saved inside is taken back where anything is raised there."""
        old, before = cls.load(site), {name: site.settings.get(name) for name in ("brokers", "joining")}
        try:
            yield
        except BaseException:
            if old is not None:
                old.save(site, now)
            elif cls.load(site) is not None:
                with site.registry.transaction() as connection:
                    connection.execute("DELETE FROM broker_settings")
                    site.registry.audit(connection, now, "broker", site.name, taken_back=True)
            site.update(**before)
            raise

    @property
    def boards_url(self) -> str:
        """Where boards reach it."""
        return f"mqtts://{_bracketed(self.hosts[0])}:{self.boards_port}"

    @property
    def joining_url(self) -> str:
        """Where they join; "" where they cannot over MQTT."""
        return f"mqtts://{_bracketed(self.hosts[0])}:{self.joining_port}" if self.joining else ""

    @property
    def viewers_url(self) -> str:
        """Where browsers reach it."""
        return f"wss://{_bracketed(self.public_host or self.hosts[0])}:{self.viewers_port}/mqtt"

    def listeners(self, folder: Path) -> Listeners:
        """For `mosquitto.configuration`."""
        owner = "" if self.include else user()
        joining = self.joining_port if self.joining or self.home else 0
        return Listeners(folder, self.boards_port, self.viewers_port, joining, self.bind, owner)


def hosts_of(site: Site) -> tuple[str, ...]:
    """Names of the broker as the site was told when it was made: of its brokers, else of its service."""
    found = [urlsplit(url).hostname or "" for url in site.brokers or site.urls]
    return tuple(dict.fromkeys(host for host in found if host))


def checked(settings: Settings, boards: Collection[str]) -> Settings:
    """The settings, which can be used.

    Args:
        boards: All names of the registry.

    Raises:
        ConfigError: What cannot, and what to write instead.
    """
    problems = []
    if not settings.hosts:
        problems.append(ConfigProblem("--host", "say under which name or address boards reach the broker, like --host hub.local"))
    for host in [*settings.hosts, *filter(None, (settings.public_host,))]:
        if not _is_host(host):
            problems.append(ConfigProblem("--host", "write a host's name or address, without scheme and port", host[:80]))
    ports = [settings.boards_port, settings.viewers_port, settings.joining_port]
    if len(set(ports)) < len(ports) or not all(1 <= port <= 65535 for port in ports):
        problems.append(ConfigProblem("ports", "give each listener another port from 1 to 65535", " ".join(map(str, ports))))
    if settings.bind and not _is_address(settings.bind):
        problems.append(ConfigProblem("--bind", "write an address of this machine, like 192.0.2.1", settings.bind[:80]))
    if bool(settings.cert) != bool(settings.key):
        problems.append(ConfigProblem("--cert", "give --cert and --key together"))
    if not _PREFIX.fullmatch(settings.home_prefix):
        problems.append(ConfigProblem("--home-prefix", "use a-z, 0-9 and hyphens, like homeassistant", settings.home_prefix[:80]))
    for pair in settings.pairs:
        unknown = [name for name in pair if not topics.is_name(name) or name not in boards]
        if unknown or pair[0] == pair[1]:
            problems.append(
                ConfigProblem("--pair", "write two boards of this site as A:B, where A may command B", ":".join(pair)[:140])
            )
    for name in boards:
        if reserved(name):
            problems.append(
                ConfigProblem("boards", "this name is one of the broker's own users: plan the board under another", name)
            )
    if problems:
        raise ConfigError(problems)
    return settings


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_host(text: str) -> bool:
    return _is_address(text) or (len(text) <= 253 and _HOST.fullmatch(text) is not None)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text.isascii() and text.isprintable() and " " not in text  # a scope (`fe80::1%…`) may hold anything
