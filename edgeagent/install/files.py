"""Units, account, folders and rules for devices, from `systemd/` of a release into the system."""

from __future__ import annotations

__all__ = ["FILES", "HERE_FILES", "SITE_FILES", "put", "take_away"]

from pathlib import Path

from edgeagent.errors import EdgeAgentError
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
