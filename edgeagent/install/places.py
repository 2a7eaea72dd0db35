"""Where everything lies on a board. The units in `systemd/` name the same paths."""

from __future__ import annotations

__all__ = ["APT", "USER", "Places", "lasting"]

from dataclasses import dataclass
from pathlib import Path

USER = "edgeagent"
APT = {
    "python3-venv": "makes the agent's own folder of libraries",
    "python3-picamera2": "cameras on the board's connector",
    "python3-gpiozero": "pins, motors and servos",
    "python3-lgpio": "pins, motors and servos",
    "python3-smbus2": "sensors on I²C",
    "python3-serial": "devices on a serial line",
}
"""Debian packages that a board may want, and what for; only the first is needed by every board."""


def lasting(path: Path) -> Path:
    """Of a path in a release the same by the link `current`: what is written into the system must outlive that release."""
    places = Places()
    if path.is_relative_to(places.releases) and path != places.releases:
        return places.current.joinpath(*path.relative_to(places.releases).parts[1:])
    return path


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one system.

    Attributes:
        root: Its root folder; another than `/` for an image, or a test. Nothing is started then.
    """

    root: Path = Path("/")

    @property
    def live(self) -> bool:
        """Whether this is the running system."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """An absolute path of the system, as seen from here."""
        return self.root / path.lstrip("/")

    @property
    def home(self) -> Path:
        """Releases, and links to the one that runs and the one before."""
        return self.at("/opt/edgeagent")

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """Link to the release that runs."""
        return self.home / "current"

    @property
    def trial(self) -> Path:
        """Holds the name of the release to go back to, while a new one is on trial."""
        return self.home / "trial"

    @property
    def etc(self) -> Path:
        """The configuration, for root to write and the agent to read."""
        return self.at("/etc/edgeagent")

    @property
    def config(self) -> Path:
        return self.etc / "edgeagent.yaml"

    @property
    def environment(self) -> Path:
        """Variables of the service, which may be secrets: for root alone."""
        return self.etc / "environment"

    @property
    def state(self) -> Path:
        """The agent's own: keys, certificate, what the site set."""
        return self.at("/var/lib/edgeagent")

    @property
    def orders(self) -> Path:
        """Where the agent lays an upgrade that the site has signed; root takes it from there."""
        return self.state / "upgrade"

    @property
    def signers(self) -> Path:
        """The site's public keys that may order upgrades, pinned by root: what the agent itself can write is not believed."""
        return self.etc / "upgrade-keys.json"

    @property
    def units(self) -> Path:
        return self.at("/etc/systemd/system")
