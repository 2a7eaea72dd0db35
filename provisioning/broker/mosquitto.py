"""Mosquitto's configuration as text: nothing here reads a file or a clock.

Three listeners, each with its own rules (`per_listener_settings`), and nobody anonymous at any of them:

    boards    TLS with certificates of the site; CN = user = client id; what is revoked is refused (CRL) and denied (ACL)
    viewers   MQTT over WebSocket and TLS; a user and a password for each browser
    joining   TLS with passwords: boards that enrol or come back over MQTT, and Home Assistant

No option of a listener may stand above the first `listener`: Mosquitto 2.0.11 would open port 1883 to everybody. By
`use_username_as_clientid` no client ends another's connection by taking its id. Read again on SIGHUP are ACLs, passwords, CRL
and certificates, except that of the browsers' listener; not listeners.
"""

from __future__ import annotations

__all__ = [
    "ACL_BOARDS",
    "ACL_JOINING",
    "ACL_VIEWERS",
    "Listeners",
    "Rights",
    "Viewer",
    "acl_boards",
    "acl_joining",
    "acl_viewers",
    "configuration",
    "hashed",
    "passwords",
    "settled",
]

import base64
import functools
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeagent.wire import topics
from edgeagent_provisioning.broker.names import HOME, ORDERS, SITE, TOOLS

ACL_BOARDS, ACL_VIEWERS, ACL_JOINING = "acl-boards", "acl-viewers", "acl-joining"
_HEAD = "# Written by `edgeagent provision broker mosquitto` and again at each change: what is altered here is lost.\n"
_PACKET = 131_072  # messages of ours have at most 64 KiB
# Of each client: what is retained comes all at once when somebody subscribes, and what is beyond these is lost without a word.
_QUEUED, _QUEUED_BYTES = 20_000, 13_107_200
_CONNECTIONS = 2_000
_PAGES = 9  # of a discovery message of Home Assistant
_ROUNDS = 101  # as mosquitto_passwd; passwords here are random, 128 bits and more


@dataclass(frozen=True, slots=True)
class Viewer:
    """A browser's user.

    Attributes:
        name: User, client id, and the viewer's name in topics.
        password: Hashed (`hashed`).
        boards: Whom it may watch; empty for all.
    """

    name: str
    password: str = field(repr=False)
    boards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may what.

    Attributes:
        revoked: Boards that may nothing any more.
        pairs: `(a, b)`: board a may watch and command board b as viewers do.
        viewers: Browsers.
        joining: Hashed passwords by user, of boards that join.
        home: Hashed password of Home Assistant; "" where there is none.
        home_prefix: Where Home Assistant listens.
    """

    revoked: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    viewers: tuple[Viewer, ...] = ()
    joining: Mapping[str, str] = field(default_factory=dict, repr=False)
    home: str = field(default="", repr=False)
    home_prefix: str = "homeassistant"


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the broker listens, and where its files are.

    Attributes:
        folder: Of ACLs, passwords and certificates.
        boards, viewers, joining: Ports; `joining` 0 for none.
        bind: Address to listen at; "" for all.
        owner: Set where this is the whole configuration and not a part of the system's: who runs the broker.
    """

    folder: Path
    boards: int = 8883
    viewers: int = 8884
    joining: int = 8885
    bind: str = ""
    owner: str = ""


def configuration(listeners: Listeners) -> str:
    """`mosquitto.conf`, or a file for /etc/mosquitto/conf.d."""
    at = listeners.folder
    whole = [
        f"user {listeners.owner}",
        f"pid_file {at}/mosquitto.pid",
        "persistence true",
        f"persistence_location {at}/",
        "log_dest stderr",
    ]
    tls = ["tls_version tlsv1.2", f"certfile {at}/server.crt", f"keyfile {at}/server.key"]
    password = ["allow_anonymous false", "use_username_as_clientid true", f"max_connections {_CONNECTIONS}"]
    parts = [
        [
            *(whole if listeners.owner else []),
            "per_listener_settings true",
            f"max_packet_size {_PACKET}",
            f"max_queued_messages {_QUEUED}",
            f"max_queued_bytes {_QUEUED_BYTES}",
            "set_tcp_nodelay true",
            "persistent_client_expiration 1d",
        ],
        [
            "# Boards, and the site's service: certificates of the site",
            f"listener {listeners.boards} {listeners.bind}".rstrip(),
            *tls,
            f"cafile {at}/ca.crt",
            f"crlfile {at}/crl.pem",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            "allow_anonymous false",
            f"acl_file {at}/{ACL_BOARDS}",
        ],
        [
            "# Browsers",
            f"listener {listeners.viewers} {listeners.bind}".rstrip(),
            "protocol websockets",
            "tls_version tlsv1.2",
            f"certfile {at}/viewers.crt",
            f"keyfile {at}/viewers.key",
            *password,
            f"password_file {at}/viewers.pw",
            f"acl_file {at}/{ACL_VIEWERS}",
        ],
    ]
    if listeners.joining:
        parts.append(
            [
                "# Boards that join or come back, and Home Assistant: passwords",
                f"listener {listeners.joining} {listeners.bind}".rstrip(),
                *tls,
                *password,
                f"password_file {at}/joining.pw",
                f"acl_file {at}/{ACL_JOINING}",
            ]
        )
    return _HEAD + "\n".join("\n".join(part) + "\n" for part in parts)


def acl_boards(rights: Rights) -> str:
    """Who may what at the boards' listener. What no line allows is refused; `deny` goes before all else."""
    own = "ea/1/d/%u"
    lines = [
        f"pattern write {own}/hello",
        f"pattern readwrite {own}/up",
        f"pattern readwrite {own}/r/+",
        f"pattern readwrite {own}/announced",
        f"pattern write {own}/still/+",
        f"pattern read {own}/in/+",
        "pattern write ea/1/v/+/in/%u",
    ]
    if rights.home:
        lines += [f"pattern readwrite {topic}" for topic in announcements(rights.home_prefix, "%u")]
        lines += [f"pattern read {rights.home_prefix}/status"]
    # It sees all, orders by its own inboxes, and tidies up after boards that are gone.
    tidied = [f"write ea/1/d/+/{what}" for what in ("hello", "up", "announced", "r/+")]
    tidied += [f"write {rights.home_prefix}/device/+/config"] if rights.home else []
    site = ["read ea/1/#", "read $SYS/#", f"write ea/1/d/+/in/{SITE}", *tidied]
    blocks = [(name, site) for name in (SITE, ORDERS, *TOOLS)]
    paired: dict[str, list[str]] = {}
    for viewer, board in rights.pairs:
        paired.setdefault(viewer, []).extend(_viewer(viewer, (board,)))
    blocks += [(name, rules) for name, rules in sorted(paired.items()) if name not in rights.revoked]
    blocks += [(name, ["deny #"]) for name in sorted(rights.revoked)]
    return _acl(lines, blocks)


def announcements(prefix: str, board: str) -> list[str]:
    """Where a board may tell Home Assistant of itself."""
    return [f"{prefix}/device/ea-{board}{page}/config" for page in ("", *(f"_{number}" for number in range(2, _PAGES + 1)))]


def acl_viewers(rights: Rights) -> str:
    """At the viewers'."""
    return _acl([], [(viewer.name, _viewer(viewer.name, viewer.boards)) for viewer in rights.viewers])


def acl_joining(rights: Rights) -> str:
    """At that for passwords: a board that joins has two topics (`edgeagent.enrol.over_mqtt`)."""
    lines = [f"pattern read ea/1/d/%u/in/{SITE}", f"pattern write ea/1/v/{SITE}/in/%u"]
    home = [
        "deny ea/1/v/#",
        f"readwrite {rights.home_prefix}/#",
        *(f"read ea/1/d/+/{what}" for what in ("up", "r/+", "still/+")),
        f"write ea/1/d/+/in/{HOME}",
    ]
    return _acl(lines, [(HOME, home)] if rights.home else [])


def passwords(users: Mapping[str, str]) -> str:
    """A password file, of hashed passwords by user."""
    return "".join(f"{name}:{password}\n" for name, password in sorted(users.items()))


def hashed(password: str, salt: bytes | None = None) -> str:
    """A password as Mosquitto 2 stores it: PBKDF2-HMAC-SHA512 (RFC 8018), salted.

    Args:
        salt: 12 bytes; random by default. `settled` ones are for passwords that are random themselves and hashed again and again.
    """
    salt = salt or secrets.token_bytes(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS, 64)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


@functools.lru_cache(20_000)
def settled(password: str) -> str:
    """`hashed`, the same at each call, so that a file changes only when its users do. Only for random passwords."""
    return hashed(password, hmac.digest(password.encode(), b"ea-salt-1", "sha256")[:12])


def _viewer(name: str, boards: Iterable[str]) -> list[str]:
    whom = list(boards) or ["+"]
    rules = [
        f"{rule} ea/1/d/{board}/{what}"
        for board in whom
        for rule, what in (("read", "hello"), ("read", "up"), ("write", f"in/{name}"))
    ]
    return [*rules, *(f"read ea/1/v/{name}/in/{board}" for board in whom)]


def _acl(patterns: Iterable[str], blocks: Iterable[tuple[str, Iterable[str]]]) -> str:
    text = _HEAD + "".join(f"{line}\n" for line in patterns)
    for name, rules in blocks:
        if not topics.is_name(name):  # a line break in it would be a rule of its own
            raise ValueError(f"{name[:80]!r} is no name")
        text += f"\nuser {name}\n" + "".join(f"topic {rule}\n" for rule in rules)
    return text
