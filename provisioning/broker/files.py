"""The broker's files: made from the registry, written where they changed, and read by Mosquitto at once.

    mosquitto.conf                     the whole configuration, or what the system's Mosquitto includes
    acl-boards, acl-viewers, acl-joining, viewers.pw, joining.pw
    ca.crt, crl.pem, server.crt, .key  of the site
    viewers.crt, .key                  what browsers see
    reload, restart                    touched where only the system may tell Mosquitto (units of `site init --here`)

Private files are 0640: the folder's group is Mosquitto's where that runs as a user of its own.
"""

from __future__ import annotations

__all__ = [
    "CONFIGURATION",
    "Extra",
    "Update",
    "below",
    "carried",
    "client_options",
    "folder_of",
    "guests",
    "included",
    "known",
    "tell",
    "tool_options",
    "update",
    "write",
]

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent import files as whole
from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import keyfiles, viewers
from edgeagent_provisioning import rights as ours
from edgeagent_provisioning.authority import DAY_S, certificates, private_key
from edgeagent_provisioning.broker import mosquitto, public
from edgeagent_provisioning.broker.mosquitto import Rights, Viewer
from edgeagent_provisioning.broker.names import SITE, TOOLS
from edgeagent_provisioning.broker.places import INCLUDED, SYSTEM
from edgeagent_provisioning.broker.settings import Settings, checked
from edgeagent_provisioning.site import Site, pem

if TYPE_CHECKING:
    from edgeagent.mqtt.connection import BrokerOptions

CONFIGURATION = "mosquitto.conf"
_PUBLIC = {"ca.crt", "crl.pem", "server.crt", "viewers.crt", CONFIGURATION}
_SERVER_RENEWED_S = 120 * DAY_S
_CLIENT_RENEWED_S = 30 * DAY_S
# What Mosquitto reads when it starts and never again; its WebSockets come from a library that keeps the first certificate.
_RESTART = {CONFIGURATION, "viewers.crt"}
_UNTOLD = ".untold"
_PID = "mosquitto.pid"
_GUESTS = ".guests"


@dataclass(frozen=True, slots=True)
class Update:
    """What became of a change.

    Attributes:
        changed: Files that were written.
        told: Whether Mosquitto was told, or its units will see to it; of our own also where it knows all of it already.
        advice: What is left to do by hand; "" for nothing.
    """

    changed: tuple[str, ...] = ()
    told: bool = False
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Extra:
    """Users who are let in for a moment (`check`): hashed passwords."""

    viewers: tuple[Viewer, ...] = ()
    joining: Mapping[str, str] | None = None


def folder_of(site: Site, settings: Settings) -> Path:
    """Where the broker's files are."""
    return Path(settings.folder) if settings.folder else site.folder / "broker"


def below(root: Path, path: Path) -> Path:
    """A path of another system."""
    return path if root == Path("/") or path.is_relative_to(root) else root / path.relative_to("/")


def update(site: Site, now: float) -> Update:
    """Bring the broker's files up to date with the registry, the CA and the settings, and have Mosquitto read what changed.

    To be called after every change that the broker must know: a board revoked, a claim made or used, a viewer added, a certificate
    renewed; and once a day. Nothing happens where nothing changed, or where the site has no broker of ours.

    Raises:
        EdgeAgentError: The files cannot be written, or Mosquitto cannot be told.
    """
    return tell(site, write(site, now))


def write(site: Site, now: float, *, root: Path = Path("/")) -> tuple[str, ...]:
    """The files alone; returns those that were written. Whoever calls `tell` next has Mosquitto read them.

    Args:
        root: Another system's root folder, for which they are written.

    Raises:
        EdgeAgentError: They cannot be written.
    """
    settings = Settings.load(site)
    if settings is None:
        return ()
    folder = below(root, folder_of(site, settings))
    if settings.include and ours.root() and ours.lent() and (Path(settings.include), folder) != (INCLUDED, SYSTEM):
        raise EdgeAgentError(
            f"This site is another user's, for whom root writes {INCLUDED} alone, and only for files in {SYSTEM}: "
            f"give `--system --folder {SYSTEM}`, or carry the files by hand (--elsewhere)."
        )
    try:
        with _locked(folder):
            return tuple(_write(folder, _files(site, settings, folder, now, _guests(site))))
    except OSError as error:
        raise EdgeAgentError(f"The broker's files in {folder} cannot be written: {error.strerror or error}.") from None


def tell(site: Site, written: tuple[str, ...]) -> Update:
    """Have Mosquitto read what `write` has named, and what was written before and is still not told.

    Raises:
        EdgeAgentError: It cannot be told.
    """
    settings = Settings.load(site)
    if settings is None:
        return Update()
    folder = folder_of(site, settings)
    with _locked(folder):  # or two would start Mosquitto again for one change
        return _tell(settings, folder, written)


def carried(site: Site) -> tuple[tuple[str, ...], float]:
    """Take note that a broker on another machine has all that was written so far; what it lacked before, and when that was written.

    Raises:
        EdgeAgentError: The site's broker is here.
    """
    settings = Settings.load(site)
    if settings is None or not settings.elsewhere:
        raise EdgeAgentError("--carried is for a broker on another machine (--elsewhere), to which you carry the files.")
    return known(folder_of(site, settings))


def known(folder: Path) -> tuple[tuple[str, ...], float]:
    """Take note that Mosquitto has all that was written so far, or will read it when it starts; the same as `carried`.

    Raises:
        EdgeAgentError: That cannot be noted.
    """
    try:
        with _locked(folder):
            names = tuple(_untold(folder))
            at = (folder / _UNTOLD).stat().st_mtime if names else 0.0
            (folder / _UNTOLD).unlink(missing_ok=True)
    except OSError as error:
        raise EdgeAgentError(f"The broker's files in {folder} cannot be written: {error.strerror or error}.") from None
    return names, at


def included(settings: Settings) -> str:
    """What the system's Mosquitto includes: made of checked settings alone, since root writes it."""
    checked(replace(settings, pairs=()), ())
    return mosquitto.configuration(settings.listeners(Path(settings.folder)))


@contextlib.contextmanager
def guests(site: Site, now: float, extra: Extra) -> Iterator[None]:
    """Let others in for a moment, whoever else brings the files up to date meanwhile.

    Raises:
        EdgeAgentError: Somebody does so already; or as `update`.
    """
    told = {"viewers": [asdict(viewer) for viewer in extra.viewers], "joining": dict(extra.joining or {})}
    with open(os.open(site.folder / _GUESTS, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgeAgentError("The broker is being checked already: wait for that to end.") from None
        file.truncate()
        file.write(json.dumps(told).encode())
        file.flush()
        try:
            update(site, now)
            yield
        finally:
            file.truncate(0)
            update(site, now)


def _guests(site: Site) -> Extra:
    """Who is let in now besides; what a check that was killed has left counts no more."""
    try:
        with (site.folder / _GUESTS).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.loads(file.read() or b"{}")
                found = [Viewer(each["name"], each["password"], tuple(each["boards"])) for each in told.get("viewers", ())]
                return Extra(tuple(found), told.get("joining"))
    except FileNotFoundError:
        pass
    return Extra()


def client_options(site: Site, now: float, name: str = SITE) -> BrokerOptions:
    """How the site itself connects: the user `site`, by a certificate of its own, made and renewed here.

    There is one connection of a name at a time: `site` is that of `provision serve`, `tool_options` are for all else.

    Raises:
        EdgeAgentError: The site has no broker.
    """
    from edgeagent.mqtt.connection import BrokerOptions
    from edgeagent.mqtt.url import parse_url

    settings = Settings.load(site)
    if settings and not settings.elsewhere:
        url = f"mqtts://{settings.bind or 'localhost'}:{settings.boards_port}"
    elif site.brokers:
        url = site.brokers[0]
    else:
        raise EdgeAgentError("The site has no broker yet: `edgeagent provision broker mosquitto --host NAME`.")
    cert, key = site.folder / f"{name}-client.crt", site.folder / f"{name}-client.key"
    with site.lock():
        _keep(site, name, cert, key, now)
    root = site.folder / "root.crt"
    return BrokerOptions(address=parse_url(url), client_id=name, ca_file=str(root), cert_file=str(cert), key_file=str(key))


@contextlib.contextmanager
def tool_options(site: Site, now: float) -> Iterator[BrokerOptions]:
    """The same for a command beside `provision serve`: the first of the names `site-tool-<n>` that no other command has now.

    Its topics are those of `site`.

    Raises:
        EdgeAgentError: The site has no broker, or too many commands run at once.
    """
    for name in TOOLS:
        with open(os.open(site.folder / f".{name}", os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield client_options(site, now, name)
            return
    raise EdgeAgentError(f"{len(TOOLS)} other commands talk to the broker already: wait for one of them.")


def rights(site: Site, settings: Settings, now: float, extra: Extra) -> Rights:
    """Who may what, from the registry."""
    from edgeagent_provisioning.joining_users import joining_users

    return Rights(
        revoked=tuple(site.registry.denied()),
        pairs=settings.pairs,
        viewers=(*(Viewer(viewer.name, viewer.password, viewer.boards) for viewer in viewers.active(site)), *extra.viewers),
        joining={user.name: mosquitto.settled(user.password) for user in joining_users(site, now)} | dict(extra.joining or {}),
        home=settings.home,
        home_prefix=settings.home_prefix,
    )


def _files(site: Site, settings: Settings, folder: Path, now: float, extra: Extra) -> dict[str, bytes]:
    """All of them by name."""
    granted = rights(site, settings, now, extra)
    listeners = settings.listeners(folder_of(site, settings))
    certificate, key = _server(site, settings, folder, now)
    shown, shown_key = public.pair(settings, folder, now) or (certificate, key)
    crl = site.folder / "crl.pem"
    texts = {
        # The certificates first: whoever reads a configuration finds what it names.
        "ca.crt": site.authority.trust_pem,
        # With the roots, for boards that join here and know nothing of them but the pin in their claim.
        "server.crt": certificate + site.authority.roots_pem,
        "server.key": key,
        "viewers.crt": shown,
        "viewers.key": shown_key,
        mosquitto.ACL_BOARDS: mosquitto.acl_boards(granted),
        mosquitto.ACL_VIEWERS: mosquitto.acl_viewers(granted),
        "viewers.pw": mosquitto.passwords({viewer.name: viewer.password for viewer in granted.viewers}),
        mosquitto.ACL_JOINING: mosquitto.acl_joining(granted),
        "joining.pw": mosquitto.passwords({**granted.joining, **({"home-assistant": granted.home} if granted.home else {})}),
        CONFIGURATION: mosquitto.configuration(listeners),
    }
    return {"crl.pem": crl.read_bytes(), **{name: text.encode() for name, text in texts.items()}}


def _server(site: Site, settings: Settings, folder: Path, now: float) -> tuple[str, str]:
    """Certificate with its chain, and key, made again where they run out, names changed, or the CA did."""
    from cryptography import x509

    above_it = site.authority.server_chain
    cert, key = folder / "server.crt", folder / "server.key"
    names = list(dict.fromkeys([*settings.hosts, *([settings.bind] if settings.bind else []), "localhost", "127.0.0.1"]))
    with contextlib.suppress(EdgeAgentError, OSError, ValueError, x509.ExtensionNotFound):
        old = certificates(cert)
        shown = old[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        above = old[0].issuer == site.authority.issuing.subject
        left = old[0].not_valid_after_utc.timestamp() - now
        if above and {str(name.value) for name in shown} == set(names) and left > _SERVER_RENEWED_S:
            return pem(old[0]) + above_it, key.read_text("ascii")
    made = keyfiles.new_key()
    issued = site.authority.issue_server(names, made.public_key(), now)
    return issued.pem + above_it, keyfiles.key_pem(made).decode()


def _keep(site: Site, name: str, cert: Path, key: Path, now: float) -> None:
    """The site's own client certificate."""
    with contextlib.suppress(EdgeAgentError):
        old = certificates(cert)[0]
        same = old.issuer == site.authority.issuing.subject and old.public_key() == private_key(key).public_key()
        if same and old.not_valid_after_utc.timestamp() - now > _CLIENT_RENEWED_S:
            return
    made = keyfiles.new_key()
    issued = site.authority.issue_board(name, made.public_key(), now)
    cert.unlink(missing_ok=True)  # so that no certificate ever stands beside another's key
    keyfiles.write_private(key, keyfiles.key_pem(made))
    keyfiles.write_public(cert, issued.pem + issued.chain)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if not folder.exists():
        mine = os.geteuid()
        # Only into a folder of the system itself may another's choice lead root.
        with ours.as_root() if folder == SYSTEM else contextlib.nullcontext():
            folder.mkdir(mode=0o700, parents=True)
            if os.geteuid() == 0:
                os.chown(folder, mine, -1)
                with contextlib.suppress(LookupError):
                    shutil.chown(folder, group="mosquitto")
                    folder.chmod(0o2750)
    with open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write what differs; names of that."""
    wanted = [name for name, data in files.items() if not (folder / name).exists() or (folder / name).read_bytes() != data]
    if wanted:
        # Noted first: were we to end in between, the next run has Mosquitto read what this one wrote.
        _put(folder, _UNTOLD, "\n".join(dict.fromkeys([*_untold(folder), *wanted])).encode())
    for name in wanted:
        _put(folder, name, files[name])
    return wanted


def _untold(folder: Path) -> list[str]:
    """What was written and Mosquitto was not told."""
    untold = folder / _UNTOLD
    return untold.read_text("ascii").split() if untold.exists() else []


def _put(folder: Path, name: str, data: bytes) -> None:
    """Write a file, whole or not at all. Who owns the folder owns what is in it."""
    of = folder.stat() if os.geteuid() == 0 else None
    whole.write(folder / name, data, 0o644 if name in _PUBLIC else 0o640, (of.st_uid, of.st_gid) if of else None)


def _tell(settings: Settings, folder: Path, written: tuple[str, ...]) -> Update:
    untold = tuple(dict.fromkeys([*_untold(folder), *written]))
    if settings.elsewhere:  # until somebody says that it is done: `carried`
        advice = (
            f"Carry {folder} to the broker's machine, reload Mosquitto there, and then say so: "
            "`edgeagent provision broker mosquitto --carried`."
        )
        return Update(written, False, advice if untold else "")
    done = _tell_system(settings, folder, untold) if settings.include else _tell_own(folder, untold)
    if done.told:
        (folder / _UNTOLD).unlink(missing_ok=True)
    return replace(done, changed=written)


def _tell_own(folder: Path, changed: tuple[str, ...]) -> Update:
    pid = _pid(folder)
    if pid is None:  # it reads all when it starts
        return Update(changed, False, f"Start the broker: mosquitto -c {folder / CONFIGURATION}")
    if changed:
        os.kill(pid, signal.SIGHUP)
    started = (folder / _PID).stat().st_mtime_ns
    if any((folder / name).stat().st_mtime_ns > started for name in _RESTART):
        return Update(
            changed,
            True,
            f"Listeners or the browsers' certificate changed: end the broker (process {pid}) and start it again.",
        )
    return Update(changed, True)


def _tell_system(settings: Settings, folder: Path, changed: tuple[str, ...]) -> Update:
    """The system's Mosquitto: by systemd where we are root, else through units that wait for a file."""
    include = Path(settings.include)
    wanted = included(settings).encode()
    restart = bool(_RESTART & set(changed))
    if ours.root():
        if not include.exists() or include.read_bytes() != wanted:
            with ours.as_root():
                include.parent.mkdir(parents=True, exist_ok=True)
                keyfiles.write_public(include, wanted)
            restart = True
    elif not include.exists() or include.read_bytes() != wanted:
        return Update(
            changed, False, "The listeners changed, which only the system may do: `sudo edgeagent provision broker mosquitto`."
        )
    if not changed and not restart:
        return Update()
    verb = "restart" if restart else "reload"
    if not ours.root():
        (folder / verb).write_text("")  # closing it is what the unit sees
        return Update(changed, True)
    try:
        with ours.as_root():
            subprocess.run(
                ["systemctl", f"{verb}-or-restart" if verb == "reload" else verb, "mosquitto"],
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise EdgeAgentError(f"Mosquitto could not be told to {verb}: {said.strip()}. See `journalctl -u mosquitto`.") from None
    return Update(changed, True)


def _pid(folder: Path) -> int | None:
    """The process that runs with our configuration, if it is one; however its path was typed when that was started."""
    wanted = os.path.realpath(folder / CONFIGURATION)
    try:
        pid = int((folder / _PID).read_text("ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    place = "/"
    with contextlib.suppress(OSError):  # of one that root has started, also where it is ours by now
        place = os.readlink(f"/proc/{pid}/cwd")
    named = {os.path.realpath(os.path.join(place, os.fsdecode(word))) for word in words if word}
    return pid if wanted in named else None
