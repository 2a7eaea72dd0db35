"""Install, upgrade, go back, uninstall. A release that does not work is never the one that runs for long."""

from __future__ import annotations

__all__ = ["Installation", "example_config"]

import fcntl
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeagent.errors import EdgeAgentError
from edgeagent.install import files
from edgeagent.install.places import USER
from edgeagent.install.service import Service
from edgeagent.install.slots import Slots
from edgeagent.install.steps import Steps
from edgeagent.install.wheels import Wheelhouse


def example_config() -> str:
    """The configuration of a board that has none: it runs, and tells how the board fares."""
    return (
        "# The configuration of this board: docs/configuration.md, or `edgeagent drivers` for what there is.\n"
        "# Cameras of this machine, ready to paste: edgeagent discover cameras\n"
        "devices:\n  board: {driver: system}\n"
    )


class Installation:
    """The agent on one system.

    Args:
        steps: What changes the system.
        service: What runs it.
    """

    def __init__(self, steps: Steps, service: Service) -> None:
        self._steps = steps
        self._places = steps.places
        self._service = service
        self.slots = Slots(steps)

    def install(
        self, wheelhouse: Wheelhouse, *, index: bool, config: str | None = None, start: bool = True, site: bool = False
    ) -> None:
        """Put a release in place and start it; where one runs already, this is an upgrade.

        Args:
            wheelhouse: What to install.
            index: Take what it lacks from the package index.
            config: The configuration to write where there is none yet; by default one without cameras.
            start: Start it, and with the system.
            site: The site's service as well; that is not started.

        Raises:
            EdgeAgentError: It cannot be installed; what ran before still runs.
        """
        if self.slots.current() not in (None, wheelhouse.slot):  # the same again: whatever was cut off is done
            self.upgrade(wheelhouse, index=index, site=site)
        else:
            with self._alone():
                put = functools.partial(files.put, self._steps, site=site)
                name = self.slots.build(wheelhouse, index=index, before_test=put)
                put(self.slots.path(name))
                self.slots.switch(name)
                self._command()
        # After the account is there.
        if not self._places.config.exists():
            self._steps.write(self._places.config, example_config() if config is None else config, 0o640)
            if not self._steps.dry_run:
                self._of_the_agents_group(self._places.config)
        self._service.reload()
        self._service.enable()
        self._service_of_upgrades()
        if start:
            self.start()

    def start(self) -> None:
        """Start the agent, anew if it runs. Raises EdgeAgentError where it does not get ready."""
        self._service.restart()

    def heard(self) -> bool:
        """Wait up to a minute and say whether the agent has reached its broker."""
        return self._service.heard()

    def upgrade(
        self,
        wheelhouse: Wheelhouse,
        *,
        index: bool,
        healthy: Callable[[], bool] = lambda: True,
        begun: Callable[[str], None] = lambda name: None,
        site: bool = False,
    ) -> str:
        """Build a release beside the one that runs, try it, and keep it only if it is well; returns its name.

        Args:
            wheelhouse: What to install.
            index: Take what it lacks from the package index.
            healthy: Asked once the new release has run steadily for some seconds.
            begun: Called with the new release's name before it is tried.
            site: The site's service as well.

        Raises:
            EdgeAgentError: It is not well, or cannot be built. The one before runs.
        """
        with self._alone():
            before = self.slots.current()
            if before is None:
                raise EdgeAgentError("Nothing is installed here yet: use `edgeagent install`.")
            name = self.slots.build(wheelhouse, index=index)
            begun(name)
            if name != before:
                # From here on the power may fail: at the next start `settle` finds this file.
                self._steps.write(self._places.trial, before)
            self._try(name, before, healthy, site=site)
            if name != before:
                self.slots.prune({name, before})
            return name

    def settle(self, healthy: Callable[[], bool] = lambda: True) -> None:
        """Finish a trial that was cut off, as by a loss of power: keep the new release if it is well, else go back."""
        with self._alone():
            name = self.slots.current()
            if name is None or not self._places.trial.exists():
                return
            self._try(name, self._places.trial.read_text().strip(), healthy)

    def back(self) -> str:
        """Run the release before this one; returns its name.

        Raises:
            EdgeAgentError: There is none.
        """
        with self._alone():
            current = self.slots.current()
            others = [name for name in self.slots.names() if name != current]
            if not others or current is None:
                raise EdgeAgentError("There is no other release to go back to.")
            self._steps.write(self._places.trial, current)
            self._try(others[-1], current, lambda: True, keep=True)
            return others[-1]

    def uninstall(self, *, purge: bool) -> None:
        """Stop the agent and remove it.

        Args:
            purge: Its configuration, keys and account as well.
        """
        places, steps = self._places, self._steps
        names = ("edgeagent-upgrade.path", "edgeagent.service")
        of_site = ("edgeagent-broker-reload.path", "edgeagent-broker-restart.path", "edgeagent-site.service")
        for unit in (*names, *of_site):
            if places.at(f"/etc/systemd/system/{unit}").exists():
                if places.live:
                    steps.run(["systemctl", "stop", unit])
                steps.run(["systemctl", *([] if places.live else [f"--root={places.root}"]), "disable", unit])
        files.take_away(steps)
        self._service.reload()
        steps.remove(places.at("/usr/local/bin/edgeagent"))
        if purge:
            steps.remove(places.etc)
            steps.remove(places.state)
        if purge and _has_account(places.at("/etc/passwd")):
            steps.run(["userdel", *([] if places.live else ["--root", str(places.root)]), USER])
        steps.remove(places.home)  # last: this code may come from there

    def _try(self, name: str, before: str, healthy: Callable[[], bool], *, site: bool = False, keep: bool = False) -> None:
        self.slots.switch(name)
        files.put(self._steps, self.slots.path(name), site=site)
        self._service.reload()
        problem = ""
        try:
            self._service.restart()
            if not self._service.steady():
                problem = "it did not run on"
            elif not healthy():
                problem = "it was not well"
        except EdgeAgentError as error:
            problem = str(error)
        if problem and name != before:
            self._steps.say(f"{name} does not work ({problem}): going back to {before}")
            self.slots.switch(before)
            files.put(self._steps, self.slots.path(before))
            self._service.reload()
            self._steps.remove(self._places.trial)
            self._service.restart()
            if not keep:
                self.slots.discard(name)  # so that nobody goes back to it, and an order of it builds it anew
            raise EdgeAgentError(f"Release {name} does not work on this board, {before} runs again: {problem}")
        self._steps.remove(self._places.trial)
        if problem:
            raise EdgeAgentError(f"Release {name} does not work on this board: {problem}")

    def _command(self) -> None:
        """`edgeagent` for people at the board."""
        path = self._places.at("/usr/local/bin/edgeagent")
        if path.is_symlink() or not path.exists():
            if not self._steps.dry_run:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._steps.link(path, "/opt/edgeagent/current/bin/edgeagent")

    def _service_of_upgrades(self) -> None:
        places, unit = self._places, "edgeagent-upgrade.path"
        self._steps.run(["systemctl", *([] if places.live else [f"--root={places.root}"]), "enable", unit])
        if places.live:
            self._steps.run(["systemctl", "start", unit])

    def _of_the_agents_group(self, path: Path) -> None:
        passwd = self._places.at("/etc/passwd")
        if os.geteuid() == 0 and _has_account(passwd):
            fields = next(line.split(":") for line in passwd.read_text().splitlines() if line.startswith(f"{USER}:"))
            os.chown(path, 0, int(fields[3]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time: a person's upgrade and a site's would undo each other."""
        if self._steps.dry_run:
            yield
            return
        self._places.home.mkdir(parents=True, exist_ok=True)
        with (self._places.home / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _has_account(passwd: Path) -> bool:
    return passwd.is_file() and any(line.startswith(f"{USER}:") for line in passwd.read_text().splitlines())
