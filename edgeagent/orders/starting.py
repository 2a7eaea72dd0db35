"""By which settings a board begins: those on trial, those that work, its own file, or in need something that always runs."""

from __future__ import annotations

__all__ = ["BARE", "Started", "ended", "in_force", "left", "load_settings", "start"]

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeagent.config import Config
from edgeagent.core.orders import FIRST, Keep, Record, Trial, TrialEffect, TrialState, Tried
from edgeagent.errors import ConfigError
from edgeagent.orders.store import Store

_SAID = 3
BARE = "devices: {board: {driver: system}}"
"""What a board runs by in need."""


@dataclass(frozen=True, slots=True)
class Started:
    """What the agent is to run by.

    Attributes:
        config: The settings.
        path: Their file; None in need.
        trial: For `Obeying`.
        problem: Why these are not the settings that it should have; "" where they are.
    """

    config: Config
    path: Path | None
    trial: Trial
    problem: str = ""


def start(
    store: Store, own: Path | None, device: str, load: Callable[[Path | str], Config], first: Mapping[str, Any] | None = None
) -> Started:
    """Choose, and count the start where settings are on trial. To be called once, before anything else reads settings.

    A board without settings, or whose settings cannot be read, runs with its own sensors alone: its site must go on reaching it.

    Args:
        store: The board's.
        own: The file that its owner named; None where there is none.
        device: The board's name at its site; goes before what settings say.
        load: Reads settings; raises ConfigError.
        first: What the site gave when the board enrolled (`Identity.first_settings`); tried where there was nothing before.
    """
    before, problem = store.record, ""
    try:
        if first and before == Record():
            store.keep(Record(tried=Tried(store.lay(first), FIRST)))
        trial = Trial(store.record)
        _carry(store, trial.start())
    except OSError as error:  # a start that is not counted could be tried for ever
        store.record, trial = before, Trial(replace(before, tried=None))
        problem = f"The disk cannot be written ({error.strerror or error}): what was to be tried waits."
    if trial.state is TrialState.TRYING:
        path = store.path(trial.running)
        try:
            return Started(_load(path or own, device, load), path or own, trial)
        except (ConfigError, OSError) as error:
            with contextlib.suppress(OSError):  # the next start finds the same
                _carry(store, trial.failed(f"they cannot be read: {said(error)}"))
    path = store.path(store.record.settings) or own
    try:
        return Started(_load(path, device, load), path, trial, problem)
    except (ConfigError, OSError) as error:
        return Started(_load(None, device, load), None, trial, f"The settings cannot be used: {said(error)}")


def in_force(store: Store, own: Path | None) -> Path | None:
    """The file by which the board's agent runs, or would, for those who only look; None where there is none."""
    record = store.record
    return store.path(record.tried.version if record.tried else record.settings) or own


def ended(store: Store, why: str) -> None:
    """The agent ends because it cannot run: what is on trial is told with this reason, should it be taken back."""
    tried = store.record.tried
    if tried is not None:
        with contextlib.suppress(OSError):  # why it ends counts more
            store.keep(replace(store.record, tried=replace(tried, why=why[:500])))


def left(store: Store, trial: Trial) -> None:
    """The agent ends in order: what is on trial is tried again, as if it had not begun."""
    with contextlib.suppress(OSError):  # then it counts
        _carry(store, trial.leave())


def load_settings(settings: Mapping[str, Any], load: Callable[[Path | str], Config]) -> list[str]:
    """What is wrong with settings; empty where nothing is. Loads the drivers that they name: not for the event loop."""
    import json

    try:
        load(json.dumps(settings, ensure_ascii=False))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def said(error: ConfigError | OSError) -> str:
    """The first few problems in one line."""
    if not isinstance(error, ConfigError):
        return error.strerror or str(error)
    problems = [str(problem) for problem in error.problems]
    more = f"; and {len(problems) - _SAID} more" if len(problems) > _SAID else ""
    return "; ".join(problems[:_SAID]) + more


def _load(path: Path | None, device: str, load: Callable[[Path | str], Config]) -> Config:
    config = load(path if path is not None else BARE)
    return config.model_copy(update={"device": device})


def _carry(store: Store, effects: list[TrialEffect]) -> None:
    for effect in effects:
        if isinstance(effect, Keep):
            store.keep(effect.record)
