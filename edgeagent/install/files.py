"""Units, account, folders and rules for devices, from `systemd/` of a release into the system."""

from __future__ import annotations

__all__ = ["FILES", "HERE_FILES", "SITE_FILES", "bound", "put", "take_away"]

import contextlib
import re
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.places import Places
from edgeagent.install.steps import Steps

FILES = {
    "edgeagent.service": "/etc/systemd/system/edgeagent.service",
    "edgeagent-upgrade.service": "/etc/systemd/system/edgeagent-upgrade.service",
    "edgeagent-upgrade.path": "/etc/systemd/system/edgeagent-upgrade.path",
    "sysusers.d/edgeagent.conf": "/etc/sysusers.d/edgeagent.conf",
    "tmpfiles.d/edgeagent.conf": "/etc/tmpfiles.d/edgeagent.conf",
    "udev/70-edgeagent.rules": "/etc/udev/rules.d/70-edgeagent.rules",
    "polkit/50-edgeagent-wifi.rules": "/etc/polkit-1/rules.d/50-edgeagent-wifi.rules",
}
"""By name below `systemd/`: where it goes."""
SITE_FILES = {
    "edgeagent-site.service": "/etc/systemd/system/edgeagent-site.service",
    "sysusers.d/edgeagent-site.conf": "/etc/sysusers.d/edgeagent-site.conf",
}
"""What the site's own machine has besides."""
_UNITS = "/etc/systemd/system"
HERE_FILES = (
    f"{_UNITS}/edgeagent-site.service.d/here.conf",
    *(f"{_UNITS}/edgeagent-broker-{verb}.{kind}" for verb in ("reload", "restart") for kind in ("path", "service")),
)
"""What `provision site init --here` has written, and is of no use without a release."""

_BOUND = re.compile(rb"/opt/edgeagent/releases/[^/\s]+/")
_NGINX = "/etc/nginx/sites-available/edgeagent"


def put(steps: Steps, release: Path, *, site: bool = False) -> bool:
    """Put the files of a release in their places, and make account and folders; returns whether a file changed.

    Args:
        steps: The system.
        release: The release's folder.
        site: The site's service as well; where it is already, it is in any case.

    Raises:
        EdgeAgentError: A file is missing, or systemd's tools fail.
    """
    places, changed, rules = steps.places, False, False
    site = site or places.at(SITE_FILES["edgeagent-site.service"]).exists()
    source = release if steps.dry_run else _source(release)
    for name, target in (FILES | (SITE_FILES if site else {})).items():
        path = places.at(target)
        data = b"" if steps.dry_run else (source / name).read_bytes()
        if steps.dry_run or not path.is_file() or path.read_bytes() != data:
            steps.write(path, data)
            changed, rules = True, rules or name.startswith("udev/")
    if site:
        changed = _unbind(steps) or changed
    confs = ["edgeagent.conf", *(["edgeagent-site.conf"] if site else [])]
    root = [] if places.live else [f"--root={places.root}"]
    steps.run(["systemd-sysusers", *root, *(str(places.at(f"/etc/sysusers.d/{conf}")) for conf in confs)])
    steps.run(["systemd-tmpfiles", *root, "--create", str(places.at("/etc/tmpfiles.d/edgeagent.conf"))])
    if places.live and rules and Path("/run/udev/control").exists():
        matches = [f"--subsystem-match={name}" for name in ("dma_heap", "video4linux", "media")]
        try:
            steps.run(["udevadm", "control", "--reload"])
            steps.run(["udevadm", "trigger", *matches])
        except EdgeAgentError as error:  # as in the sandbox of the service that upgrades
            steps.say(f"the rules for devices count from the next start of the board on ({error})")
    return changed


def bound(places: Places) -> dict[Path, bytes]:
    """Files that `provision site init --here` of an older release has bound to that very release; with what should stand there."""
    hooks = places.at("/etc/letsencrypt/renewal").glob("edgeagent-*.conf")
    found: dict[Path, bytes] = {}
    for path in (places.at(HERE_FILES[0]), places.at(_NGINX), *hooks):
        with contextlib.suppress(OSError):  # it is not there, or not for us to read
            data = path.read_bytes()
            if (lasting := _BOUND.sub(b"/opt/edgeagent/current/", data)) != data:
                found[path] = lasting
    return found


def _unbind(steps: Steps) -> bool:
    """Have the site's machine use the release that runs, before the one that it was made by is gone; whether there was need."""
    found = bound(steps.places)
    for path, data in found.items():
        steps.write(path, data, path.stat().st_mode & 0o7777)
    if steps.places.live and steps.places.at(_NGINX) in found:
        try:
            steps.run(["systemctl", "try-reload-or-restart", "nginx.service"])
        except EdgeAgentError as error:
            steps.say(f"the page comes from this release once nginx is reloaded ({error})")
    return bool(found)


def take_away(steps: Steps) -> None:
    """Remove what `put` has put, and what of the site's machine would call a release that is gone."""
    for target in (*(FILES | SITE_FILES).values(), *HERE_FILES):
        steps.remove(steps.places.at(target))
    folder = steps.places.at(HERE_FILES[0]).parent
    if folder.is_dir() and not any(folder.iterdir()):  # else somebody has written more there
        steps.remove(folder)


def _source(release: Path) -> Path:
    folder = release / "share" / "edgeagent" / "systemd"
    if folder.is_dir():
        return folder
    raise EdgeAgentError(f"{release} lacks share/edgeagent/systemd: its wheel is not whole; make the wheelhouse anew.")
