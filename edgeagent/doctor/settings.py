"""By what an agent would run here: its file, the service's variables, and who this board is at its site."""

from __future__ import annotations

__all__ = ["Settings", "read_settings"]

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.config import Config, Drivers, load
from edgeagent.doctor.report import Finding, notice, ok, problem
from edgeagent.errors import ConfigError, EdgeAgentError
from edgeagent.install.environment import of_service
from edgeagent.install.places import Places

if TYPE_CHECKING:
    from edgeagent.enrol.identity import Identity


@dataclass(slots=True)
class Settings:
    """What was found.

    Attributes:
        config: None where there is none, or it is wrong.
        identity: Who the board is at its site; None where it belongs to none, or this user may not look.
        hidden: Whether some of it may be where this user may not look.
        findings: What is to be said of it.
    """

    config: Config | None = None
    identity: Identity | None = None
    hidden: bool = False
    findings: list[Finding] = field(default_factory=list)


def read_settings(own: Path | None, state: Path | None, variables: Mapping[str, str], places: Places) -> Settings:
    """Read them as the agent does when it starts (`membership.begin`), but change nothing.

    Args:
        own: The file that the owner named.
        state: The agent's state folder; None looks at none.
        variables: The environment; goes before the service's.
        places: The system.
    """
    found = Settings(hidden=places.state.is_dir() and not os.access(places.state, os.R_OK | os.X_OK))
    source: Path | str | None = own
    try:
        if state is not None and (state / "identity").exists():
            source = _of_site(found, state, own)
    except PermissionError:
        found.hidden = True
    except EdgeAgentError as error:
        found.findings.append(problem("site", str(error)))
    if source is None:
        return found
    path = source if isinstance(source, Path) else places.config
    every, unread = of_service(path, variables, places)
    if unread:
        found.hidden = True
        found.findings.append(notice("config", unread))
    try:
        config = load(source, every, Drivers.installed())
    except ConfigError as error:
        found.findings += [problem("config", f"{path.name}: {said}", path=said.path) for said in error.problems]
        return found
    if found.identity is not None:
        config = config.model_copy(update={"device": found.identity.name})
    counted = [(len(config.cameras), "camera"), (len(config.devices), "sensor or actuator")]
    found.findings.append(ok("config", f"{path.name} is right: device {config.device}, {_counted(counted)}."))
    found.config = config
    return found


def _of_site(found: Settings, state: Path, own: Path | None) -> Path | str | None:
    """Look who this board is; returns what it runs by."""
    from edgeagent.enrol.identity import Identity
    from edgeagent.orders import starting
    from edgeagent.orders.store import Store

    found.identity = identity = Identity.seen(state)
    if identity is None:
        return own
    path = starting.in_force(Store.seen(state, identity.id_thumbprint), own)
    text = f"This board belongs to a site, as {identity.name}"
    by = f", and runs by what that has set ({path.name})" if path is not None and path != own else ""
    found.findings.append(ok("site", f"{text}{by}.", name=identity.name))
    return path or starting.BARE


def _counted(things: list[tuple[int, str]]) -> str:
    plural = {"camera": "cameras", "sensor or actuator": "sensors and actuators"}
    return ", ".join(f"{number} {word if number == 1 else plural[word]}" for number, word in things if number)
