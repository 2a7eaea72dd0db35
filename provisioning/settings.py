"""What boards are to run by: settings of the site, of tags and of boards, merged into one file for each board.

A later layer goes before an earlier one: site, then the board's tags in their order, then what was planned with the board (its
cameras and drivers), then the board's own. Mappings are merged key by key; everything else is replaced; null takes a key out. A
camera or device with another `driver` than the layers below replaces theirs whole: options of one driver mean nothing to another.
"""

from __future__ import annotations

__all__ = [
    "Scope",
    "changed",
    "check",
    "layers",
    "merge",
    "of_board",
    "read",
    "shown_diff",
    "with_value",
    "without",
    "write",
]

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgeagent.core.redact import HIDDEN, is_secret_key, redact
from edgeagent.errors import ConfigError, ConfigProblem, DeviceFault
from edgeagent.wire.seal import MAX_BODY
from edgeagent_provisioning.registry import Board

if TYPE_CHECKING:
    from edgeagent.config import Drivers
    from edgeagent_provisioning.site import Site

Scope: TypeAlias = Literal["site", "tag", "board"]
_BARE = {"devices": {"board": {"driver": "system"}}}
"""For a board that is told nothing to watch: its own sensors."""
_DRIVEN = ("cameras", "devices")
_LARGEST = MAX_BODY - 500
_FOREIGN = "drivers_dir"


def read(site: Site, scope: Scope, name: str = "") -> dict[str, Any]:
    """The settings of one layer; empty where there are none."""
    rows = site.registry.rows("SELECT settings FROM settings WHERE scope = ? AND name = ?", (scope, name))
    found: dict[str, Any] = json.loads(rows[0]["settings"]) if rows else {}
    return found


def write(site: Site, scope: Scope, name: str, settings: Mapping[str, Any], now: float) -> list[str]:
    """Keep the settings of one layer; returns the keys that differ from before. Boards are told by `apply` only."""
    before = read(site, scope, name)
    keys = changed(before, settings)
    if keys:
        text = json.dumps(settings, ensure_ascii=False)
        with site.registry.transaction() as connection:
            connection.execute(
                "REPLACE INTO settings VALUES (?, ?, ?, ?)",
                (scope, name, text, int(now)),
            )
            site.registry.audit(connection, now, "set", name or site.name, scope=scope, changed=keys)
    return keys


def layers(
    site: Site, board: Board, instead: tuple[Scope, str, Mapping[str, Any]] | None = None
) -> list[tuple[str, Mapping[str, Any]]]:
    """What a board's settings are made of, lowest first, each with where it comes from; `instead` stands for one that is kept."""

    def layer(scope: Scope, name: str = "") -> Mapping[str, Any]:
        return instead[2] if instead and instead[:2] == (scope, name) else read(site, scope, name)

    found: list[tuple[str, Mapping[str, Any]]] = [("the site", layer("site"))]
    found += [(f"tag {tag}", layer("tag", tag)) for tag in board.tags]
    planned: dict[str, Any] = {"cameras": dict(board.cameras), "devices": dict(board.drivers)}
    planned = {key: value for key, value in planned.items() if value}
    if planned and board.place:  # as on its card; a place alone would take a board's own file from it
        planned = {"title": board.place, **planned}
    found.append(("its plan", planned))
    found.append(("the board", layer("board", board.name)))
    return [(name, settings) for name, settings in found if settings]


def of_board(site: Site, board: Board, *, instead: tuple[Scope, str, Mapping[str, Any]] | None = None) -> dict[str, Any] | None:
    """What this board is to run by; None where nothing at all is said about it. `instead` as in `layers`."""
    merged: dict[str, Any] = {}
    for _, settings in layers(site, board, instead):
        merged = merge(merged, settings)
    if not merged:
        return None
    return merged if merged.get("cameras") or merged.get("devices") else merge(merged, _BARE)


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` laid over `lower`; neither is changed."""
    return _merge(lower, upper, ())


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    found = dict(lower)
    for key, value in upper.items():
        old = found.get(key)
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            below = old if isinstance(old, Mapping) else {}
            if (
                len(path) == 1
                and path[0] in _DRIVEN
                and below.get("driver") not in (None, value.get("driver", below.get("driver")))
            ):
                below = {}
            found[key] = _merge(below, value, (*path, key))
        else:
            found[key] = value
    return found


def with_value(settings: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`settings` with one value set, null included; `path` as in `cameras.gate.driver`.

    Raises:
        ConfigError: The path names nothing, or goes through a plain value.
    """
    keys = path.split(".")
    if not all(keys):
        raise ConfigError([ConfigProblem(path[:80], "write keys with dots between, like cameras.gate.driver")])
    found = json.loads(json.dumps(settings))
    here = found
    for key in keys[:-1]:
        inner = here.get(key)
        if inner is None:
            inner = here[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError([ConfigProblem(path[:80], f"`{key}` is a plain value there: nothing can stand below it")])
        here = inner
    here[keys[-1]] = value
    return dict(found)


def without(settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """`settings` without one key, and without what is empty then; lower layers show through again.

    Raises:
        ConfigError: There is no such key.
    """
    found = json.loads(json.dumps(settings))
    trail, here = [], found
    keys = path.split(".")
    for key in keys[:-1]:
        trail.append((here, key))
        here = here.get(key) if isinstance(here, dict) else None
    if not isinstance(here, dict) or keys[-1] not in here:
        raise ConfigError([ConfigProblem(path[:80], "is not set in this layer; to take it out of a lower one, set it to null")])
    del here[keys[-1]]
    for parent, key in reversed(trail):
        if not parent[key]:
            del parent[key]
    return dict(found)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The dotted keys whose values differ; no values, so that it may be told and kept."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [".".join(path) for path in sorted({*old, *new}) if old.get(path, _leaves) != new.get(path, _leaves)]


def shown_diff(before: Mapping[str, Any], after: Mapping[str, Any], drivers: Drivers | None = None) -> list[str]:
    """What changes, a line each: `- ` as it was, `+ ` as it will be. Secrets are masked, and it is said where they change."""
    secret = _Secrets((before, after), drivers)
    old, new = dict(_leaves(before)), dict(_leaves(after))
    lines = []
    for path in sorted({*old, *new}):
        was, will = path in old, path in new
        if was and will and old[path] == new[path]:
            continue
        name = ".".join(path)
        texts = [secret.shown(path, found[path]) if there else "" for there, found in ((was, old), (will, new))]
        if was:
            lines.append(f"- {name}: {texts[0]}")
        if will:
            lines.append(f"+ {name}: {texts[1]}" + (" (another one)" if was and texts[0] == texts[1] else ""))
    return lines


def check(settings: Mapping[str, Any], drivers: Drivers | None = None) -> tuple[list[ConfigProblem], list[str]]:
    """What is wrong with the settings of a board, by the agent's own models; and what only the board can check.

    Drivers of a board's own (`drivers_dir`) are not here: what uses one that is not installed here is left to the board.
    """
    from edgeagent.config import Drivers, load

    drivers = drivers or Drivers.installed()
    problems: list[ConfigProblem] = []
    left: list[str] = []
    wanted = json.loads(json.dumps(settings))
    if "device" in wanted:
        problems.append(ConfigProblem("device", "leave it out: the board's name is the one in the site's registry"))
        del wanted["device"]
    if wanted.pop(_FOREIGN, None) is not None:
        for section in _DRIVEN:
            entries = wanted.get(section)
            for name in [*entries] if isinstance(entries, dict) else []:
                driver = entries[name].get("driver") if isinstance(entries[name], dict) else None
                if isinstance(driver, str) and driver not in drivers.names:
                    left.append(f"{section}.{name}: the driver {driver} is the board's own, which checks this itself")
                    del entries[name]
        if not wanted.get("cameras") and not wanted.get("devices"):
            wanted = merge(wanted, _BARE)
    text = json.dumps(wanted, ensure_ascii=False)
    if len(json.dumps(settings, ensure_ascii=False).encode()) > _LARGEST:
        problems.append(ConfigProblem("", f"a board's settings may have {_LARGEST} bytes as JSON; split them between boards"))
    try:
        load(text, {}, drivers)
    except ConfigError as error:
        problems += error.problems
    return problems, left


def _leaves(settings: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


class _Secrets:
    """Knows which values may not be shown: by the name of the key, by the driver's own models, and inside addresses."""

    def __init__(self, of: Iterable[Mapping[str, Any]], drivers: Drivers | None) -> None:
        self._hidden: set[tuple[str, ...]] = set()
        if drivers is None:
            from edgeagent.config import Drivers

            drivers = Drivers.installed()
        options: Callable[[str], Any] = drivers.options
        for settings in of:
            for section in _DRIVEN:
                entries = settings.get(section)
                for name, entry in entries.items() if isinstance(entries, Mapping) else ():
                    driver = entry.get("driver") if isinstance(entry, Mapping) else None
                    try:
                        model = options(driver) if isinstance(driver, str) else None
                    except DeviceFault:
                        model = None
                    for field, info in model.model_fields.items() if model else ():
                        if "Secret" in str(info.annotation):
                            self._hidden.add((section, str(name), info.alias or field))

    def shown(self, path: tuple[str, ...], value: Any) -> str:
        if any(is_secret_key(part) for part in path) or any(path[: len(hidden)] == hidden for hidden in self._hidden):
            return HIDDEN if value is not None else "null"
        return redact(json.dumps(value, ensure_ascii=False))
