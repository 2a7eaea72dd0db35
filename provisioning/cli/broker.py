"""`edgeagent provision broker …` and `edgeagent provision viewer …`."""

from __future__ import annotations

__all__ = ["add"]

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent_provisioning.cli.common import Commands, command, group, open_site, print_json, shown_time, table

if TYPE_CHECKING:
    from edgeagent_provisioning.broker.settings import Settings
    from edgeagent_provisioning.site import Site

_LINKS = 10
_MOSQUITTO = """Write Mosquitto's configuration for this site and have it read. What is given here is kept, so that later calls,
and every change of boards and viewers, write the same broker again; without options it is only brought up to date."""


def add(commands: Commands) -> None:
    """Add the commands."""
    broker = group(commands, "broker", help="the site's broker: its configuration, and a check of everybody's rights")
    _add_mosquitto(broker)
    command(
        broker,
        "check",
        _check,
        help="connect to the broker and try what must work and what must be refused",
        description="Connect as boards, browsers and strangers, and try what must work and what must be refused.\n"
        "Takes some seconds; the users that it needs exist only meanwhile.",
        example="edgeagent provision broker check",
        json=True,
    )
    viewer = group(commands, "viewer", help="browsers that may use the site's broker")
    new = command(
        viewer,
        "add",
        _viewer_add,
        help="let a browser in, and print its password once",
        example='edgeagent provision viewer add "Anna\'s phone"\n  edgeagent provision viewer add tablet --board gate',
        json=True,
    )
    new.add_argument("label", metavar="LABEL", help="whose browser it is")
    new.add_argument("--board", action="append", default=[], metavar="NAME", help="it may watch only these boards")
    command(viewer, "ls", _viewer_ls, help="list the browsers that are let in", example="edgeagent provision viewer ls", json=True)
    gone = command(
        viewer,
        "revoke",
        _viewer_revoke,
        help="shut a browser out, at once",
        example='edgeagent provision viewer revoke "Anna\'s phone"',
        json=True,
    )
    gone.add_argument("who", metavar="WHO", help="its label or its user")


def _add_mosquitto(broker: Commands) -> None:
    parser = command(
        broker,
        "mosquitto",
        _mosquitto,
        help="write Mosquitto's configuration for this site and have it read",
        description=_MOSQUITTO,
        example="edgeagent provision broker mosquitto --host hub.local\n"
        "  sudo edgeagent provision broker mosquitto --system --host hub.local --acme hub.example.org --email me@example.org\n"
        "  edgeagent provision broker mosquitto --home-assistant --pair door:gate",
        json=True,
    )
    yes_no = argparse.BooleanOptionalAction
    place = parser.add_argument_group("where")
    place.add_argument("--host", action="append", metavar="NAME", help="name or address of the broker for boards; may be repeated")
    place.add_argument(
        "--bind", metavar="ADDRESS", help="listen at this address only (Mosquitto's WebSockets, for browsers, listen at all)"
    )
    for what, default in (("boards", 8883), ("viewers", 8884), ("joining", 8885)):
        place.add_argument(f"--{what}-port", type=int, metavar="N", help=f"port for {what} (default: {default})")
    place.add_argument("--system", action=yes_no, help="the system's Mosquitto, by /etc/mosquitto/conf.d (as root)")
    place.add_argument("--elsewhere", action=yes_no, help="the broker is another machine; you carry the files there")
    place.add_argument("--carried", action="store_true", help="they are there now, and Mosquitto has read them")
    place.add_argument("--folder", type=_path, metavar="DIR", help="where to write (default: broker/ of the site)")
    seen = parser.add_argument_group("browsers")
    seen.add_argument("--cert", type=_path, metavar="FILE", help="a public certificate with its chain, in PEM")
    seen.add_argument("--key", type=_path, metavar="FILE", help="its key")
    seen.add_argument("--acme", metavar="NAME", help="get one for this DNS name, and renew it, by certbot")
    seen.add_argument("--email", default="", metavar="ADDRESS", help="whom the CA tells of trouble")
    seen.add_argument("--acme-server", default="", metavar="URL", help="directory of another CA (default: Let's Encrypt)")
    seen.add_argument("--acme-webroot", default="", metavar="DIR", help="what a web server shows on port 80, where one runs")
    seen.add_argument("--acme-dns", default="", metavar="PLUGIN", help="ask by DNS, with this plugin of certbot")
    seen.add_argument("--no-public", action="store_true", help="no public certificate any more")
    seen.add_argument("--public-host", metavar="NAME", help="the broker's name for browsers")
    seen.add_argument("--page", metavar="URL", help="where people find the page, for the links of `viewer add`")
    who = parser.add_argument_group("who else")
    who.add_argument("--joining", action=yes_no, help="boards may join over MQTT (default: yes)")
    who.add_argument("--home-assistant", action=yes_no, help="a user for Home Assistant; its password is printed once")
    who.add_argument("--home-prefix", metavar="WORD", help="where Home Assistant listens (default: homeassistant)")
    who.add_argument("--pair", action="append", default=[], metavar="A:B", help="board A may watch and command board B")
    who.add_argument("--no-pair", action="append", default=[], metavar="A:B", help="no more")


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("write a path")
    return Path(text)


def _mosquitto(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning import rights
    from edgeagent_provisioning.broker import files, public
    from edgeagent_provisioning.broker.settings import Settings, checked, hosts_of

    rights.named(options.cert, options.key)
    for path in filter(None, (options.cert, options.key)):
        _readable(path)
    now = time.time()
    with open_site(options) as site:
        old = Settings.load(site) or Settings(hosts_of(site))
        wanted, password = _wanted(options, old)
        wanted = checked(wanted, [board.name for board in site.registry.boards()])
        carried, written_at = files.carried(site) if options.carried else ((), 0.0)  # of what was there before this call
        with Settings.tried(site, now):
            wanted.save(site, now)  # before a certificate comes, whose hook calls this command
            wanted = _public(options, site, wanted)
            wanted.save(site, now)
            changed = files.write(site, now)
        done = files.tell(site, changed)
        found = [finding for finding in public.findings(site, now) if finding.level != "ok"]
        folder = files.folder_of(site, wanted)
    if options.json:
        data: dict[str, Any] = {"boards": wanted.boards_url, "joining": wanted.joining_url, "viewers": wanted.viewers_url}
        data |= {"folder": str(folder), "changed": list(done.changed), "told": done.told, "advice": done.advice}
        data |= {"carried": list(carried), "written_at": int(written_at) or None} if options.carried else {}
        data["findings"] = [{"check": finding.check, "level": finding.level, "text": finding.text} for finding in found]
        print_json(data | ({"home_assistant": password} if password else {}))
        return 0
    if carried:
        print(f"Taken as carried: {', '.join(carried)}.")
        print(f"They were written last at {shown_time(written_at)}: if you carried them before that, carry them again.")
    print(f"Boards reach the broker at {wanted.boards_url}, browsers at {wanted.viewers_url}.")
    print(f"Written to {folder}: {', '.join(done.changed) or 'nothing, all is up to date'}.")
    if done.told and done.changed:
        print("Mosquitto was told.")
    if done.advice:
        print(done.advice)
    if password:
        print(f"Home Assistant: port {wanted.joining_port} with TLS, user home-assistant, password {password} (shown once).")
        print(f"It must know the site's CA: upload {folder / 'ca.crt'} in its MQTT settings.")
    for finding in found:
        print(f"{finding.text} {finding.advice}".strip())
    return 0


def _readable(path: Path) -> None:
    """Raises EdgeAgentError where a file that was named now cannot be read."""
    from edgeagent.errors import EdgeAgentError

    try:
        path.open("rb").close()
    except OSError as error:
        raise EdgeAgentError(f"{path} cannot be read: {error.strerror or error}.") from None


def _wanted(options: argparse.Namespace, old: Settings) -> tuple[Settings, str]:
    """The settings with what was given, and a new password of Home Assistant, "" for none."""
    import dataclasses
    import secrets

    from edgeagent_provisioning.broker.mosquitto import hashed
    from edgeagent_provisioning.broker.places import INCLUDED, SYSTEM

    given: dict[str, Any] = {
        "hosts": tuple(dict.fromkeys(options.host)) if options.host else None,
        "folder": str(options.folder.absolute()) if options.folder else None,
        "include": None if options.system is None else str(INCLUDED) if options.system else "",
        "cert": str(options.cert.absolute()) if options.cert else None,
        "key": str(options.key.absolute()) if options.key else None,
    }
    same = ("bind", "boards_port", "viewers_port", "joining_port", "elsewhere", "public_host", "page", "joining", "home_prefix")
    given |= {name: getattr(options, name) for name in same}
    if options.no_public:
        given |= {"cert": "", "key": ""}
    if options.system and not options.folder and not old.folder:
        given["folder"] = str(SYSTEM)
    pairs = dict.fromkeys([*old.pairs, *map(_pair, options.pair)])
    given["pairs"] = tuple(pair for pair in pairs if pair not in map(_pair, options.no_pair))
    password = ""
    if options.home_assistant:
        password = secrets.token_urlsafe(16)
        given["home"] = hashed(password)
    elif options.home_assistant is False:
        given["home"] = ""
    return dataclasses.replace(old, **{name: value for name, value in given.items() if value is not None}), password


def _pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(":")
    return first, second


def _public(options: argparse.Namespace, site: Site, wanted: Settings) -> Settings:
    import dataclasses

    from edgeagent_provisioning import rights
    from edgeagent_provisioning.broker import acme

    if not options.acme:
        return wanted
    order = acme.Order(options.acme, options.email, options.acme_server, webroot=options.acme_webroot, dns=options.acme_dns)
    with rights.as_root():
        cert, key = acme.obtain(order, site.folder)
    return dataclasses.replace(wanted, public_host=options.acme, cert=str(cert), key=str(key))


def _check(options: argparse.Namespace) -> int:
    import asyncio
    import time

    from edgeagent_provisioning.broker.check import check

    with open_site(options) as site:
        results = asyncio.run(check(site, time.time()))
    bad = [result for result in results if not result.ok]
    if options.json:
        fields = ("sentence", "ok", "kind", "detail")
        print_json({"ok": not bad, "results": [{name: getattr(result, name) for name in fields} for result in results]})
        return 1 if bad else 0
    for title, kind in (("Works", "works"), ("Is refused", "refused")):
        if any(result.kind == kind for result in results):
            print(title)
        for result in results:
            if result.kind == kind:
                print(
                    f"  {'ok      ' if result.ok else 'PROBLEM '} {result.sentence}{f' {result.detail}' if result.detail else ''}"
                )
    if all(result.kind == "works" for result in results):  # somebody who must get in did not
        print("Nothing else was tried: mend this first. Does the broker run?")
    else:
        print("All is well." if not bad else f"{len(bad)} of {len(results)} are not as they should be.")
    return 1 if bad else 0


def _viewer_add(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning import viewers
    from edgeagent_provisioning.broker import files
    from edgeagent_provisioning.broker.settings import Settings

    now = time.time()
    with open_site(options) as site:
        made, password = viewers.add(site, options.label, now, options.board)
        try:
            done = files.update(site, now)
        except BaseException:  # nobody will ever know this password
            viewers.revoke(site, made.name, now)
            raise
        settings = Settings.load(site)
        known = [board.name for board in site.registry.boards() if board.state != "revoked"]
    broker = settings.viewers_url if settings else ""
    boards = made.boards or (known if 0 < len(known) <= _LINKS else ["BOARD"])
    links = [viewers.link(settings.page, broker, made.name, password, board) for board in boards] if settings else []
    if options.json:
        data = {"user": made.name, "label": made.label, "password": password, "broker": broker, "boards": list(made.boards)}
        print_json({**data, "links": links, "advice": done.advice})
        return 0
    print(f"{made.label}: user {made.name}, password {password} (shown once){f', broker {broker}' if broker else ''}.")
    if settings and settings.page:
        print("Open in that browser, once, and show the address to nobody:")
        print("\n".join(f"  {link}" for link in links))
    if done.advice:
        print(done.advice)
    return 0


def _viewer_ls(options: argparse.Namespace) -> int:
    from edgeagent_provisioning import viewers

    with open_site(options) as site:
        found = viewers.active(site)
    if options.json:
        rows = [{"user": v.name, "label": v.label, "boards": list(v.boards), "created_at": v.created_at} for v in found]
        print_json({"viewers": rows})
        return 0
    if not found:
        print('No browser is let in yet: edgeagent provision viewer add "Anna\'s phone"')
        return 0
    print(
        table(
            ("USER", "WHOSE", "BOARDS", "SINCE"),
            [(v.name, v.label, ", ".join(v.boards) or "all", shown_time(v.created_at)) for v in found],
        )
    )
    return 0


def _viewer_revoke(options: argparse.Namespace) -> int:
    import time

    from edgeagent_provisioning import viewers
    from edgeagent_provisioning.broker import files

    now = time.time()
    with open_site(options) as site:
        gone = viewers.revoke(site, options.who, now)
        done = files.update(site, now)
    if options.json:
        print_json({"user": gone.name, "label": gone.label, "told": done.told, "advice": done.advice})
    else:
        untold = done.advice and not done.told
        print(f"{gone.label} ({gone.name}) is shut out{', once the broker knows' if untold else ''}.")
        if done.advice:
            print(done.advice)
    return 1 if done.advice and not done.told else 0
