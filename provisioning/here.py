"""`site init --here`: one Debian machine, as a Raspberry Pi, becomes the site's broker, service and page host.

What is to be done is made as a list first, so that it can be shown (`--dry-run`) or done below another root folder (`--root`).
The service runs as the user `edgeagent-site` and may not touch the system: it writes the broker's files into a folder that
Mosquitto may read, and two units wait there for a file by which it asks for a reload or a restart.
"""

from __future__ import annotations

__all__ = ["Here", "Own", "Run", "Write", "add_options", "outside", "preview", "run", "steps"]

import argparse
import grp
import pwd
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgeagent import files as whole
from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import lasting
from edgeagent_provisioning import rights
from edgeagent_provisioning.broker.places import INCLUDED, SYSTEM

if TYPE_CHECKING:
    from edgeagent_provisioning.site import Site

USER = "edgeagent-site"
_WEB = Path("/var/www/edgeagent")
_UNITS = Path("/etc/systemd/system")
_NGINX = Path("/etc/nginx")
_PORT = 8443
_CONFINED = """\
# It is root's, and only speaks to systemd, whose process systemctl looks at: so no ProtectProc=.
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
PrivateNetwork=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateTmp=yes
ProtectHome=yes
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
UMask=0077
"""
_MOSQUITTO = """[Service]
# For a thousand boards and more; and it comes back, whatever ended it.
LimitNOFILE=65536
Restart=always
RestartSec=2
"""


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine becomes.

    Attributes:
        site: The site's folder.
        program: `edgeagent`, as the units call it.
        web: The page's files.
        host: The machine's name for boards.
        public: Its DNS name for browsers; "" without a public certificate, and then there is no page here.
        cert, key: The public certificate; "" where it comes by ACME, or there is none.
        email: For ACME.
        acme_server: Another CA's directory.
        service_port: Of `provision serve`.
    """

    site: Path
    program: Path
    web: Path
    host: str
    public: str = ""
    cert: str = ""
    key: str = ""
    email: str = ""
    acme_server: str = ""
    service_port: int = _PORT

    @property
    def acme(self) -> bool:
        """Whether the certificate comes by ACME."""
        return bool(self.public) and not self.cert

    @property
    def packages(self) -> tuple[str, ...]:
        """Of Debian."""
        return ("mosquitto", *(("nginx-light",) if self.public else ()), *(("certbot",) if self.acme else ()))


@dataclass(frozen=True, slots=True)
class Write:
    """Put a file in place."""

    path: Path
    text: str
    mode: int = 0o644

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class Own:
    """Make a folder where there is none, and give it to somebody, with all that is in it."""

    path: Path
    owner: str
    group: str
    mode: int

    def __str__(self) -> str:
        return f"folder {self.path}, of {self.owner}:{self.group}, mode {self.mode:o}"


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command; not below another root."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Do:
    """Something of our own."""

    what: str
    job: Callable[[], object]

    def __str__(self) -> str:
        return self.what


Step: TypeAlias = Write | Own | Run | Do


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `site init --here`."""
    here = parser.add_argument_group("this machine", "Debian or Raspberry Pi OS, as root")
    here.add_argument("--here", action="store_true", help="this machine becomes broker, service and page host")
    here.add_argument("--host", metavar="NAME", help="its name or address for boards (default: HOSTNAME.local)")
    here.add_argument("--public-host", metavar="NAME", help="its public DNS name, by which browsers find page and broker")
    here.add_argument("--email", default="", metavar="ADDRESS", help="whom the CA tells of trouble (the certificate comes by ACME)")
    here.add_argument("--acme-server", default="", metavar="URL", help="directory of another CA (default: Let's Encrypt)")
    here.add_argument("--cert", type=Path, metavar="FILE", help="a certificate for that name, with its chain, instead of ACME")
    here.add_argument("--key", type=Path, metavar="FILE", help="its key")
    here.add_argument("--dry-run", action="store_true", help="only show what would be done")
    here.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="another system's root folder; nothing is started"
    )


def of(options: argparse.Namespace, folder: Path) -> Here:
    """What the options ask for.

    Raises:
        EdgeAgentError: They contradict each other, or this is no system for it.
    """
    import socket
    from urllib.parse import urlsplit

    import edgeagent

    root: Path = options.root
    if bool(options.cert) != bool(options.key):
        raise EdgeAgentError("Give --cert and --key together.")
    if options.cert and not options.public_host:
        raise EdgeAgentError("Say with --public-host for which name the certificate is.")
    if not (root / "etc/debian_version").exists():
        raise EdgeAgentError(
            f"{root} is no Debian or Raspberry Pi OS: set up Mosquitto with `edgeagent provision broker mosquitto`."
        )
    if not rights.root() and not options.dry_run and root == Path("/"):
        raise EdgeAgentError("This changes the system: run it with sudo, or look at it with --dry-run.")
    urls = [urlsplit(url) for url in options.url]
    host = (
        options.host or next((url.hostname for url in urls if url.hostname), None) or f"{socket.gethostname().split('.')[0]}.local"
    )
    inside = (
        Path("/") / folder.absolute().relative_to(root.absolute()) if folder.absolute().is_relative_to(root.absolute()) else folder
    )
    if inside == folder and root != Path("/"):
        raise EdgeAgentError(f"With --root {root} the site must be below it: --site {root / 'var/lib/edgeagent-site'}.")
    if inside.is_relative_to("/home") or inside.is_relative_to("/root"):
        raise EdgeAgentError(f"The service may not read {inside}: let the site be in /var/lib/edgeagent-site (--site).")
    if root == Path("/") and rights.root():
        with rights.as_root():
            _check_way(inside)
    return Here(
        site=inside,
        program=lasting(Path(sys.prefix) / "bin/edgeagent"),
        web=lasting(Path(edgeagent.__file__).with_name("web")),
        host=host.lower(),
        public=(options.public_host or "").lower(),
        cert=str(options.cert.absolute()) if options.cert else "",
        key=str(options.key.absolute()) if options.key else "",
        email=options.email,
        acme_server=options.acme_server,
        service_port=next((url.port for url in urls if url.port), _PORT),
    )


def preview(options: argparse.Namespace, folder: Path) -> int:
    """`--dry-run`: show what would be done; nothing is made, no passphrase asked for."""
    here = of(options, folder)
    print(f"make the site {options.name} in {folder}")
    for step in steps(here, None, 0.0, options.root):
        print(step)
        if isinstance(step, Write):
            print("".join(f"  | {line}\n" for line in step.text.splitlines()), end="")
    print(_reachable(here))
    return 0


def run(site: Site, options: argparse.Namespace) -> int:
    """Make this machine the site's, and say what must be reachable from outside; returns the exit code.

    Raises:
        EdgeAgentError: A step failed; the same again begins anew, and changes nothing that is done.
    """
    import json
    import time

    here = of(options, site.folder)
    rights.named(options.cert, options.key)
    if here.acme:
        from edgeagent_provisioning.broker import acme

        acme.command(acme.Order(here.public, here.email), here.site)  # a name that no CA can certify is said now
    shown = sys.stderr if options.json else sys.stdout
    site.close()
    for step in steps(here, site, time.time(), options.root):
        print(step, file=shown, flush=True)
        _do(step, options.root)
    if options.json:
        rows = [{"port": port, "from": whom, "for": why} for port, whom, why in outside(here)]
        print(json.dumps({"site": site.name, "folder": str(here.site), "packages": list(here.packages), "outside": rows}, indent=2))
    else:
        print(_reachable(here))
    return 0


def steps(here: Here, site: Site | None, now: float, root: Path = Path("/")) -> list[Step]:
    """All that is to be done, in this order. `site` is None where it is only shown."""
    from edgeagent_provisioning.broker.acme import Order

    live = root == Path("/")
    order = Order(here.public, here.email, here.acme_server, webroot=str(_WEB))
    pair = (str(order.pair[0]), str(order.pair[1])) if here.acme else (here.cert, here.key)
    todo: list[Step] = [
        Run(("apt-get", "install", "--yes", "--no-install-recommends", *here.packages)),
        Write(Path("/etc/sysusers.d/edgeagent-site.conf"), _shipped("sysusers.d/edgeagent-site.conf")),
        Run(("systemd-sysusers", "/etc/sysusers.d/edgeagent-site.conf")),
        Own(SYSTEM, USER, "mosquitto", 0o2750),
        Write(_UNITS / "edgeagent-site.service", _shipped("edgeagent-site.service")),
        Write(_UNITS / "edgeagent-site.service.d/here.conf", _service(here)),
        *(step for verb in ("reload", "restart") for step in _told(verb)),
        Write(
            _UNITS / "mosquitto.service.d/edgeagent.conf",
            _MOSQUITTO,
        ),
    ]
    if here.public:
        todo.append(Own(_WEB, "root", "root", 0o755))
    if here.acme:
        todo += [
            Write(_NGINX / "sites-available/edgeagent", _nginx(here, None)),
            Run(("ln", "-sf", "../sites-available/edgeagent", str(_NGINX / "sites-enabled/edgeagent"))),
            Run(("systemctl", "reload-or-restart", "nginx")),
            Do("keep what this broker shall be", lambda: _keep(here, site, ("", ""), now)),  # which certbot's hook reads
            Do(
                f"get a certificate for {here.public} by certbot, which renews it",
                lambda: _certificate(order, here.site) if live else None,
            ),
            Write(Path("/etc/letsencrypt/renewal-hooks/deploy/edgeagent-page"), "#!/bin/sh\nexec systemctl reload nginx\n", 0o755),
        ]
    todo.append(
        Do(f"write the broker's files into {SYSTEM}, and let Mosquitto include them", lambda: _broker(here, site, pair, now, root))
    )
    if here.public:
        todo += [
            Write(_NGINX / "sites-available/edgeagent", _nginx(here, pair)),
            Run(("ln", "-sf", "../sites-available/edgeagent", str(_NGINX / "sites-enabled/edgeagent"))),
            Run(("nginx", "-t")),
        ]
    units = ["edgeagent-site.service", "edgeagent-broker-reload.path", "edgeagent-broker-restart.path", "mosquitto.service"]
    return [
        *todo,
        Own(here.site, USER, USER, 0o700),
        Own(SYSTEM, USER, "mosquitto", 0o2750),
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", "enable", *units, *(["nginx.service"] if here.public else []))),
        Run(("systemctl", "restart", *units, *(["nginx.service"] if here.public else []))),
    ]


def outside(here: Here) -> list[tuple[str, str, str]]:
    """What must be reachable here: port, from where, and what for."""
    rows = [
        (f"{here.service_port}/tcp", "boards", "to enrol and to renew their certificates"),
        ("8883/tcp", "boards", "the broker"),
        ("8885/tcp", "boards", "only those that enrol over the broker; Home Assistant"),
        ("8884/tcp", "browsers", "the broker"),
    ]
    if here.public:
        rows.append(("443/tcp", "browsers", "the page"))
    if here.acme:
        rows.append(("80/tcp", "the Internet", "the CA asks here at each renewal"))
    return rows


def _reachable(here: Here) -> str:
    from edgeagent_provisioning.cli.common import table

    text = f"What must be reachable at {' and '.join(dict.fromkeys([here.host, *([here.public] if here.public else [])]))}:\n"
    text += table(("PORT", "FROM", "FOR"), outside(here))
    text += "\nWhere boards or browsers are elsewhere, forward these ports in your router. Pictures do not come through here."
    text += (
        f"\nMove {here.site / 'root.key.pem'} to a medium that you lock away, and keep the passphrase apart from it: "
        "only `site rotate-ca` needs it."
    )
    if not here.public:
        text += (
            "\nPhones and most browsers will not connect to the broker: that takes a public name and certificate "
            "(--public-host NAME --email YOU). The pages of the boards themselves work without."
        )
    return text


def _broker(here: Here, site: Site | None, pair: Sequence[str], now: float, root: Path) -> None:
    from edgeagent_provisioning.broker import files
    from edgeagent_provisioning.broker.settings import Settings

    if site is None:
        return
    _keep(here, site, pair, now)
    files.write(site, now, root=root)
    files.known(files.below(root, SYSTEM))  # Mosquitto is started again in the end
    settings = Settings.load(site)
    assert settings is not None
    _do(Write(INCLUDED, files.included(settings)), root)
    site.close()


def _keep(here: Here, site: Site | None, pair: Sequence[str], now: float) -> None:
    """What else was asked of the broker before stays."""
    import dataclasses

    from edgeagent_provisioning.broker.settings import Settings, checked

    if site is None:
        return
    if not site.urls:
        site.update(urls=[f"https://{here.host}:{here.service_port}"])
    wanted: dict[str, object] = {"hosts": (here.host,), "folder": str(SYSTEM), "include": str(INCLUDED), "elsewhere": False}
    if here.public:
        wanted |= {"public_host": here.public, "page": f"https://{here.public}/"}
    if pair[0]:
        wanted |= {"cert": pair[0], "key": pair[1]}
    settings = dataclasses.replace(Settings.load(site) or Settings(), **wanted)  # type: ignore[arg-type]
    checked(settings, [board.name for board in site.registry.boards()]).save(site, now)
    site.close()


def _certificate(order: object, site: Path) -> None:
    from edgeagent_provisioning.broker import acme

    assert isinstance(order, acme.Order)
    with rights.as_root():
        acme.obtain(order, site)


def _service(here: Here) -> str:
    return (
        "[Service]\n"
        f"ReadWritePaths={SYSTEM}\n"
        f"ExecStart=\nExecStart={here.program} provision serve --site {here.site} --listen :{here.service_port}\n"
    )


def _told(verb: str) -> list[Step]:
    """By which the service has Mosquitto read its files again, without any right of its own."""
    name = f"edgeagent-broker-{verb}"
    path = (
        f"[Unit]\nDescription=edgeagent: Mosquitto shall {verb}\n\n"
        f"[Path]\nPathModified={SYSTEM}/{verb}\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    command = "reload-or-restart" if verb == "reload" else "restart"
    service = (
        f"[Unit]\nDescription=edgeagent: {verb} Mosquitto\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nType=oneshot\nExecStart=/bin/systemctl {command} mosquitto.service\n{_CONFINED}"
    )
    return [Write(_UNITS / f"{name}.path", path), Write(_UNITS / f"{name}.service", service)]


def _nginx(here: Here, pair: Sequence[str] | None) -> str:
    """The page host: static files, and the CA's questions on port 80. Never the broker, since users trust who serves the page."""
    plain = (
        "# Written by `edgeagent provision site init --here`.\n"
        f"server {{\n    listen 80;\n    listen [::]:80;\n    server_name {here.public};\n"
        f"    location /.well-known/acme-challenge/ {{ root {_WEB}; }}\n"
        "    location / { return 301 https://$host$request_uri; }\n}\n"
    )
    if pair is None:
        return plain
    policy = (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    )
    return plain + (
        f"server {{\n    listen 443 ssl;\n    listen [::]:443 ssl;\n    server_name {here.public};\n"
        f"    ssl_certificate {pair[0]};\n    ssl_certificate_key {pair[1]};\n    ssl_protocols TLSv1.2 TLSv1.3;\n"
        f"    root {here.web};\n    index index.html;\n    autoindex off;\n    server_tokens off;\n"
        f'    add_header Content-Security-Policy "{policy}" always;\n    add_header X-Content-Type-Options nosniff always;\n'
        "    add_header Cache-Control no-cache always;\n"
        '    add_header Strict-Transport-Security "max-age=31536000" always;\n'
        "    types {\n        text/html html;\n        text/css css;\n        text/javascript js;\n        image/svg+xml svg;\n"
        "        image/png png;\n        application/manifest+json webmanifest;\n    }\n"
        "    location ~ /\\. { deny all; }\n    location / { try_files $uri $uri/ =404; }\n}\n"
    )


def _shipped(name: str) -> str:
    """A file of `systemd/`, which the wheel installs below share/edgeagent."""
    for folder in (Path(sys.prefix) / "share/edgeagent/systemd", Path(__file__).resolve().parents[1] / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text("utf-8")
    raise EdgeAgentError(f"systemd/{name} is not part of this installation: install edgeagent from its wheel or its sources.")


def _do(step: Step, root: Path) -> None:
    live = root == Path("/")
    if isinstance(step, Do):  # with the rights of the site's owner
        step.job()
        return
    try:
        with rights.as_root():
            _on_the_system(step, root, live)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()[-3:]
        raise EdgeAgentError(f"{step}: it failed: {' '.join(said) or error.returncode}") from None
    except (OSError, LookupError, subprocess.SubprocessError) as error:
        raise EdgeAgentError(f"{step}: {error}") from None


def _on_the_system(step: Write | Own | Run, root: Path, live: bool) -> None:
    from edgeagent_provisioning.broker.files import below

    match step:
        case Write(path, text, mode):
            target = below(root, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            whole.write(target, text, mode)
        case Own(path, owner, group, mode):
            target = below(root, path)
            if live:
                _check_way(target)
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(mode)
            if live:
                rights.own_tree(target, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
                target.chmod(mode)  # chown takes the set-group-ID bit away
        case Run(words):
            if live:
                subprocess.run(words, check=True, capture_output=True, text=True, timeout=1_800, cwd="/")


def _check_way(folder: Path) -> None:
    """Root gives this folder away, with all in it: nobody else may be able to put another one in its place meanwhile."""
    for path in dict.fromkeys((folder.absolute(), folder.resolve())):
        if (found := rights.changer(path.parent)) is not None:
            try:
                name = pwd.getpwuid(found[0]).pw_name
            except KeyError:
                name = f"the user {found[0]}"
            raise EdgeAgentError(
                f"{name} could put another folder in the place of {folder}: let the site be in /var/lib/edgeagent-site (--site)."
            )
