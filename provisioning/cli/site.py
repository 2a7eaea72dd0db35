"""`edgeagent provision site …`: the site itself."""

from __future__ import annotations

__all__ = ["add"]

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent_provisioning.cli.common import (
    Commands,
    command,
    group,
    open_site,
    passphrase,
    print_json,
    shown_time,
    site_folder,
    tell_broker,
    with_site,
)

if TYPE_CHECKING:
    from edgeagent_provisioning.site import Site


def add(commands: Commands) -> None:
    """Add the commands."""
    from edgeagent_provisioning import here

    site = group(commands, "site", help="make, change, back up and restore the site")

    init = command(
        site,
        "init",
        _init,
        help="make a site: its certificate authority, registry and keys",
        example="edgeagent provision site init home --url https://pi.home:8443 --broker mqtts://pi.home:8883",
        json=True,
    )
    init.add_argument("name", metavar="NAME", help="a-z, 0-9 and inner hyphens")
    init.add_argument(
        "--url", action="append", default=[], metavar="URL", help="where boards reach `provision serve`; may be repeated"
    )
    init.add_argument(
        "--broker", action="append", default=[], metavar="URL", help="where boards reach the broker (mqtts); may be repeated"
    )
    _passphrase_option(init)
    here.add_options(init)

    change = command(
        site,
        "set",
        _set,
        help="change where boards reach the site",
        example="edgeagent provision site set --url https://site.example:8443",
        json=True,
    )
    change.add_argument("--url", action="append", default=[], metavar="URL", help="of `provision serve`; instead of those before")
    change.add_argument(
        "--broker", action="append", default=[], metavar="URL", help="of the broker (mqtts); instead of those before"
    )
    change.add_argument("--joining", metavar="URL", help="where boards that reach only the broker join (mqtts); empty for nowhere")

    command(
        site,
        "show",
        _show,
        help="show the site's addresses, roots and certificates",
        example="edgeagent provision site show",
        json=True,
    )

    rotate = command(
        site,
        "rotate-ca",
        _rotate,
        help="make a new issuing CA, or a new root",
        description=(
            "Make a new issuing CA under the same root: boards notice nothing. With --new-root make a new root beside the\n"
            "old one, and tell boards of it as they renew; when all have, end the old one with --retire-root. The root's key\n"
            "is needed for the first two."
        ),
        example="edgeagent provision site rotate-ca --root-key /media/usb/root.key.pem",
        json=True,
    )
    what = rotate.add_mutually_exclusive_group()
    what.add_argument("--new-root", action="store_true", help="make a new root, too")
    what.add_argument("--retire-root", action="store_true", help="end the old root after --new-root")
    what.add_argument("--drop-old", action="store_true", help="have the broker refuse what issuing CAs before have signed")
    what.add_argument("--compromised", action="store_true", help="the issuing key was stolen: refuse what it has signed, at once")
    rotate.add_argument(
        "--root-key", type=Path, metavar="FILE", help="where the root's key is kept (default: root.key.pem of the site)"
    )
    _passphrase_option(rotate)
    rotate.add_argument(
        "--new-passphrase-file", type=Path, metavar="FILE", help="passphrase of the new root's key (with --new-root)"
    )
    rotate.add_argument("--force", action="store_true", help="with --retire-root, --drop-old: also where boards have nothing newer")

    backup = command(
        site,
        "backup",
        _backup,
        help="write the whole site into one file",
        example="edgeagent provision site backup /media/usb/home.backup",
        json=True,
    )
    backup.add_argument("file", type=Path, metavar="FILE")
    _passphrase_option(backup)
    backup.add_argument("--plain", action="store_true", help="do not encrypt; the file is 0600, and whoever has it has the site")

    restore = command(
        site,
        "restore",
        _restore,
        help="make the site again from a backup, here or on another machine",
        description=(
            "Make the site again from a backup. It is as it was then: boards and browsers' users that were revoked since are\n"
            "members again, and must be revoked again; boards that were enrolled since must be enrolled again."
        ),
        example="edgeagent provision site restore /media/usb/home.backup",
        json=True,
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    _passphrase_option(restore)
    restore.add_argument(
        "--cancel-claims", action="store_true", help="cancel open claims: one used since the backup would work again"
    )


def _passphrase_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="file (0600) with the passphrase, instead of typing it"
    )


def _init(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError
    from edgeagent.wire import topics
    from edgeagent_provisioning import rights
    from edgeagent_provisioning.site import Site, checked_urls, refuse_taken

    if not topics.is_name(options.name):  # said before a passphrase is typed
        raise EdgeAgentError(f"{options.name[:80]!r} cannot name a site: use a-z, 0-9 and inner hyphens, like `home`.")
    checked_urls(options.url, ("https",))
    checked_urls(options.broker, ("mqtts", "wss"))
    folder = site_folder(options)
    rights.take_on(folder)
    if options.here:
        from edgeagent_provisioning import here

        if options.dry_run:
            return here.preview(options, folder)
        here.of(options, folder)
        if (folder / "site.json").exists():  # what was interrupted goes on
            with open_site(options) as site:
                if site.name != options.name:
                    raise EdgeAgentError(
                        f"The site in {folder} is called {site.name}: give that name, or another place with --site."
                    )
                return here.run(site, options)
    refuse_taken(folder)  # as above
    secret = passphrase(options.passphrase_file, "Passphrase for the key of the root", new=True)
    with Site.create(folder, options.name, secret, time.time(), urls=options.url, brokers=options.broker) as site:
        if options.here:
            return here.run(site, options)
        if options.json:
            print_json(_facts(site))
            return 0
        print(
            f"The site {site.name} is in {site.folder}. Its root has the pin {site.authority.root_pin}.\n"
            f"{site.folder / 'root.key.pem'} is needed for `site rotate-ca` only: move it to a medium that you lock away,\n"
            "and keep the passphrase apart from it. Next:"
        )
        where = with_site(options)
        if not site.urls:
            print(f"  edgeagent provision site set{where} --url https://HOST:8443")
        host = "" if site.urls or site.brokers else " --host HOST"
        for step in (f"broker mosquitto{where}{host}", f"add{where} --csv FILE", f"serve{where}"):
            print(f"  edgeagent provision {step}")
    return 0


def _set(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning.site import checked_urls

    changes: dict[str, object] = {}
    if options.url:
        changes["urls"] = list(checked_urls(options.url, ("https",)))
    if options.broker:
        changes["brokers"] = list(checked_urls(options.broker, ("mqtts", "wss")))
    if options.joining is not None:
        changes["joining"] = checked_urls([options.joining], ("mqtts", "wss"))[0] if options.joining else None
    if not changes:
        raise EdgeAgentError("Say what to change: --url, --broker or --joining.")
    now = time.time()
    with open_site(options) as site:
        site.update(**changes)
        with site.registry.transaction() as connection:
            site.registry.audit(connection, now, "site set", site.name, **changes)
        site.service_certificate(now)
        if options.json:
            print_json(_facts(site))
        else:
            print("Changed. Boards learn it when they enrol or renew; claims that were made before keep the old address.")
    return 0


def _show(options: argparse.Namespace) -> int:
    with open_site(options) as site:
        facts = _facts(site)
    if options.json:
        print_json(facts)
        return 0
    print(f"Site {facts['name']} in {facts['folder']}")
    for title, key in (("service", "urls"), ("broker", "brokers"), ("joining", "joining"), ("root pin", "root_pins")):
        found = facts[key]
        print(f"  {title:10} {', '.join(found) if isinstance(found, list) else found or '-'}")
    for title, key in (("root", "root_not_after"), ("issuing CA", "issuing_not_after"), ("service", "service_not_after")):
        print(f"  {title:10} until {shown_time(facts[key])}")
    if facts["changing_root"]:
        print(f"  The root is being changed: {len(facts['behind'])} boards know only the old one.")
    print(f"  root's key {'here: better kept elsewhere' if facts['root_key_here'] else 'kept elsewhere'}")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from edgeagent_provisioning import rotation

    say = _teller(options)
    ends = options.retire_root or options.drop_old or options.compromised
    with open_site(options) as site:
        if options.retire_root:
            rotation.retire_root(site, time.time(), force=options.force)
            say("The old root counts no more, and boards know only the new one: no backup from before brings them back.")
        elif options.drop_old:
            say(f"{rotation.drop_old(site, time.time(), force=options.force)} issuing CAs count no more.")
        else:
            there = options.root_key is not None or (site.folder / "root.key.pem").exists()
            typed = passphrase(options.passphrase_file, "Passphrase of the root's key") if there else ""  # none in vain
            key = rotation.root_key(site, typed, options.root_key)
            if options.new_root:
                secret = passphrase(
                    options.new_passphrase_file, "Passphrase for the new root's key", new=True, option="--new-passphrase-file"
                )
                rotation.new_root(site, key, secret, time.time())  # not before: boards renew while somebody types
                say(
                    f"The new root has the pin {site.authority.root_pin}; its key is {site.folder / 'root.key.pem'}.\n"
                    f"{len(rotation.behind(site))} boards learn it when they renew, sooner by `edgeagent provision rotate`; then:\n"
                    "  edgeagent provision site rotate-ca --retire-root"
                )
            else:
                rotation.new_issuing(site, key, time.time(), compromised=options.compromised)
                say("There is a new issuing CA.")
        if options.new_root or options.retire_root:
            say("Make a new backup now: edgeagent provision site backup FILE")
        told = tell_broker(site)
        if not told and ends:
            say("THE BROKER WAS NOT TOLD: what counts no more here goes on counting there, until that is done.")
        if options.compromised:
            say(
                f"{'The' if told else 'From then on the'} broker refuses every board until it has renewed at the service with its "
                "identity key, which a board\n"
                "does as soon as it is refused; restart Mosquitto to cut live connections, too. Whoever has the key can\n"
                "still pose as a server, but not order boards, which is sealed by other keys; a new root (--new-root,\n"
                "--retire-root) ends that, too."
            )
        if options.json:
            print_json({**_facts(site), "told": told})
    return 1 if ends and not told else 0


def _backup(options: argparse.Namespace) -> int:
    from edgeagent_provisioning import backup

    say = _teller(options)
    with open_site(options) as site:
        secret = None if options.plain else passphrase(options.passphrase_file, "Passphrase for the backup", new=True)
        size = backup.write(site, options.file, time.time(), secret)
        say(f"{options.file} holds the site {site.name} ({size / 1000:.0f} kB).")
        if not (site.folder / "root.key.pem").exists():
            say("The root's key is kept elsewhere, and not in it.")
        if not (site.folder / "issuing.key").exists():
            say("The issuing key is a systemd credential, and not in it: keep that in a safe place, too.")
        if options.plain:
            say("It is not encrypted: whoever reads it has the site.")
        if options.json:
            print_json({"site": site.name, "file": str(options.file), "bytes": size, "encrypted": not options.plain})
    return 0


def _restore(options: argparse.Namespace) -> int:
    from edgeagent.errors import EdgeAgentError
    from edgeagent_provisioning import backup, rights

    say = _teller(options)
    try:
        data = options.file.read_bytes()
    except OSError as error:
        raise EdgeAgentError(f"{options.file} cannot be read: {error.strerror or error}.") from None
    encrypted = data.startswith(b"eyJ")
    found = backup.read(data, passphrase(options.passphrase_file, "Passphrase of the backup") if encrypted else None)
    rights.take_on(site_folder(options))
    with backup.restore(found, site_folder(options), time.time(), cancel_claims=options.cancel_claims) as site:
        say(
            f"The site {site.name} is in {site.folder}, as it was on {shown_time(found.at)}.\n"
            "Boards enrolled after that are not in it, and must be enrolled again. Who was revoked after that, boards and\n"
            "browsers, is in it: revoke them again. Give the name of a board that has not come back since to no other one for\n"
            "90 days: it may have a certificate from after the backup, which nobody knows here. Was the root retired after\n"
            "that (rotate-ca --retire-root), boards believe nothing of this site: take a backup from after it. Next:\n"
            f"  edgeagent provision broker mosquitto{with_site(options)}\n  edgeagent provision serve{with_site(options)}"
        )
        if not options.cancel_claims:
            say("A claim that was used since then would work again: `site restore --cancel-claims` cancels all that are open.")
        if options.json:
            print_json({**_facts(site), "backup_at": found.at})
    return 0


def _teller(options: argparse.Namespace) -> Callable[[str], None]:
    """Prints for a person; with `--json`, which has the standard output for itself, on standard error."""
    return lambda text: print(text, file=sys.stderr if options.json else sys.stdout)


def _facts(site: Site) -> dict[str, Any]:
    from edgeagent_provisioning import rotation
    from edgeagent_provisioning.authority import certificates

    authority = site.authority
    service = site.folder / "service.crt"
    return {
        "name": site.name,
        "folder": str(site.folder),
        "urls": list(site.urls),
        "brokers": list(site.brokers),
        "joining": site.joining,
        "root_pins": list(authority.root_pins),
        "root_not_after": int(authority.roots[0].not_valid_after_utc.timestamp()),
        "issuing_not_after": int(authority.issuing.not_valid_after_utc.timestamp()),
        "service_not_after": int(certificates(service)[0].not_valid_after_utc.timestamp()) if service.exists() else None,
        "changing_root": authority.changing_root,
        "behind": rotation.behind(site),
        "root_key_here": (site.folder / "root.key.pem").exists(),
    }
