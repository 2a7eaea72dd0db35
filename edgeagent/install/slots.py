"""Releases side by side: `/opt/edgeagent/releases/V`, each a venv of its own, and the link `current` to the one that runs.

A venv cannot be moved, so each is built where it stays. It sees the distribution's packages: libcamera's bindings come only so.
"""

from __future__ import annotations

__all__ = ["Slots"]

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install.environment import of_service
from edgeagent.install.places import USER, Places
from edgeagent.install.steps import Steps
from edgeagent.install.wheels import Wheelhouse

_WHOLE = ".whole"  # the last file written into a release
_SELF_TEST = "import edgeagent.app, edgeagent.keeper, edgeagent.drivers.registry as r; [r.load(name) for name in r.names()]"
# The distribution's picamera2 is built against the distribution's numpy, and breaks with a newer one.
_DISTRIBUTIONS_OWN = {"numpy"}


class Slots:
    """The releases of one system."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._places: Places = steps.places

    def current(self) -> str | None:
        """The name of the release that runs, or None."""
        try:
            return Path(os.readlink(self._places.current)).name
        except OSError:
            return None

    def names(self) -> list[str]:
        """All whole releases, the oldest first."""
        found = [path for path in self._places.releases.glob("*") if (path / _WHOLE).is_file()]
        return [path.name for path in sorted(found, key=lambda path: ((path / _WHOLE).stat().st_mtime_ns, path.name))]

    def path(self, name: str) -> Path:
        return self._places.releases / name

    def version(self, name: str) -> str:
        """The agent's version in a release."""
        found: str = json.loads((self.path(name) / _WHOLE).read_text())["version"]
        return found

    def build(self, wheelhouse: Wheelhouse, *, index: bool, before_test: Callable[[Path], object] = lambda slot: None) -> str:
        """Make the release of a wheelhouse, unless it is there; returns its name. Nothing that runs is touched.

        Args:
            wheelhouse: What to install.
            index: Take what it lacks from the package index; the hashes are the wheelhouse's all the same.
            before_test: Called with the release's folder when everything is in it: a first one makes the account that tests it.

        Raises:
            EdgeAgentError: It cannot be built, or is built and does not work.
        """
        steps, name = self._steps, wheelhouse.slot
        slot = self.path(name)
        if (slot / _WHOLE).is_file():
            return name
        wheelhouse.for_machine(platform.machine())
        steps.say(f"building {slot}: a minute on a PC, some minutes on a small board")
        steps.remove(slot)
        python = _system_python()
        try:
            steps.run([python, "-I", "-m", "venv", "--without-pip", "--system-site-packages", str(slot)])
            lock = slot / "requirements.txt"
            steps.write(lock, wheelhouse.without(self.left_to_the_distribution()))
            sources = ["--find-links", str(wheelhouse.folder / "wheels"), *([] if index else ["--no-index"])]
            steps.run(
                [
                    *self._pip(wheelhouse, python),
                    *("--disable-pip-version-check", "--python", str(slot / "bin" / "python"), "install", "--quiet"),
                    # Complete as it is: nothing is resolved, and what the distribution has besides does not count.
                    *("--no-deps", "--ignore-installed", "--require-hashes", "--only-binary", ":all:", "--no-cache-dir"),
                    *(*sources, "--requirement", str(lock)),
                ],
                env={**os.environ, "PIP_CONFIG_FILE": os.devnull} if not index else None,
            )
            kept = slot / "share" / "edgeagent" / "wheel" / wheelhouse.own.name  # from here it can make wheelhouses for others
            steps.write(kept, wheelhouse.own.read_bytes())
            before_test(slot)
            self.test(name)
        except BaseException:
            steps.remove(slot)
            raise
        if not steps.dry_run:
            os.sync()  # a card that loses power now shall not hold a release that looks whole
        steps.write(slot / _WHOLE, json.dumps({"version": wheelhouse.version}))
        return name

    def test(self, name: str) -> None:
        """Let a release load all of itself, and read the configuration; as the agent's user, since its code is not root's.

        Raises:
            EdgeAgentError: It does not work.
        """
        slot, env = self.path(name), {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
        self._steps.run([str(slot / "bin" / "python"), "-P", "-W", "ignore", "-c", _SELF_TEST], user=USER, env=env, timeout_s=300)
        self._steps.run([str(slot / "bin" / "edgeagent"), "--version"], user=USER, env=env, timeout_s=300)
        if self._places.config.is_file():
            check = [str(slot / "bin" / "edgeagent"), "check", str(self._places.config)]
            self._steps.run(check, user=USER, env=of_service(self._places.config, env, self._places)[0], timeout_s=300)

    def switch(self, name: str) -> None:
        """Let `current` be this release, from the next start on."""
        self._steps.link(self._places.current, f"releases/{name}")

    def discard(self, name: str) -> None:
        """Remove a release that does not run."""
        self._steps.remove(self.path(name))

    def prune(self, keep: set[str]) -> None:
        """Remove all releases but these."""
        for path in sorted(self._places.releases.glob("*")):
            if path.name not in keep:
                self._steps.remove(path)

    def left_to_the_distribution(self) -> set[str]:
        """Packages of the lock that a release takes from the distribution."""
        folder = self._places.at("/usr/lib/python3/dist-packages")
        return {name for name in _DISTRIBUTIONS_OWN if (folder / "picamera2").is_dir() and (folder / name).is_dir()}

    def _pip(self, wheelhouse: Wheelhouse, python: str) -> list[str]:
        """A pip that is not of the release being built: of the current one, out of its own wheel, or of whoever runs this."""
        current = self._places.current / "bin" / "python"
        if any(self._places.current.glob("lib/python3*/site-packages/pip/__main__.py")):
            return [str(current), "-I", "-m", "pip"]
        if wheelhouse.pip:
            return [python, "-I", str(wheelhouse.pip / "pip")]
        if importlib.util.find_spec("pip") is not None:
            return [sys.executable, "-I", "-m", "pip"]
        raise EdgeAgentError("pip is missing: sudo apt-get install python3-pip, then try again.")


def _system_python() -> str:
    """The interpreter to build on: the system's own, not that of a venv, which may go."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    system = Path("/usr/bin/python3")
    if system.is_file() and sys.version_info >= (3, 11) and base.resolve() == system.resolve():
        return str(system)
    return str(base)
