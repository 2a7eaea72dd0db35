"""Overrides from the environment: `EDGEAGENT_HTTP__LISTEN=0.0.0.0:8080` stands for `http: {listen: …}`.

Two underscores go one level down. A value is YAML, except where text is wanted: there it is taken as it is, so that no password
needs quotes. A hyphen in a camera's name is written as one underscore.
"""

from __future__ import annotations

__all__ = ["PREFIX", "override"]

import re
from collections.abc import Mapping
from typing import Any

from edgeagent.config.document import parse_value
from edgeagent.config.problems import nearest, printable
from edgeagent.errors import ConfigError, ConfigProblem

PREFIX = "EDGEAGENT_"
OTHERS = {"EDGEAGENT_SITE"}
"""Variables that are no settings of the agent: the installer's folder."""


def override(
    data: dict[str, Any], environ: Mapping[str, str], schema: Mapping[str, Any]
) -> tuple[dict[str, Any], list[ConfigProblem]]:
    """`data` with the environment's values laid over it, and what is wrong with these.

    Args:
        data: The file's settings; not changed.
        schema: JSON Schema of the whole file: tells known keys, and which want text.
    """
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in OTHERS:
            continue
        path = name.removeprefix(PREFIX).split("__")
        try:
            data = _set(data, path, environ[name], dict(schema), schema)
        except ConfigError as error:
            problems += [ConfigProblem(printable(name), problem.message, problem.found) for problem in error.problems]
    return data, problems


def _set(here: Any, path: list[str], value: str, schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    if here is None:
        here = {}
    if not isinstance(here, dict):
        raise ConfigError(
            [ConfigProblem("", "the file has a plain value where this variable goes one level down; remove one of them")]
        )
    schema = _resolve(schema, root)
    # Where settings may also be a plain `true`, one level down are the settings.
    schema = next((found for part in schema.get("anyOf", ()) if "properties" in (found := _resolve(part, root))), schema)
    known = schema.get("properties", {})
    key = _match(path[0], here, known)
    if key is None:
        if not schema.get("additionalProperties"):
            raise ConfigError([ConfigProblem("", f"there is no setting `{printable(path[0].lower())}`; {nearest(path[0], known)}")])
        key = path[0].lower()
        if not re.search(schema.get("propertyNames", {}).get("pattern", "^$"), key):
            key = key.replace("_", "-")
    inner = known.get(key) or schema.get("additionalProperties") or {}
    inner = _resolve(inner if isinstance(inner, dict) else {}, root)
    if len(path) == 1:
        return {**here, key: value if _wants_text(inner, root) else parse_value(value)}
    if "driver" in inner.get("properties", {}):
        inner = _of_driver(inner, here.get(key), root)
    return {**here, key: _set(here.get(key), path[1:], value, inner, root)}


def _match(word: str, here: dict[str, Any], known: Mapping[str, Any]) -> str | None:
    wanted = word.lower().replace("-", "_")
    return next((key for key in (*known, *here) if key.lower().replace("-", "_") == wanted), None)


def _resolve(schema: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references, and take the branch of `anyOf` that is not null."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        elif branches := [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]:
            if len(branches) > 1:
                return schema
            schema = branches[0]
        else:
            return schema


def _wants_text(schema: dict[str, Any], root: Mapping[str, Any]) -> bool:
    schema = _resolve(schema, root)
    return schema.get("type") == "string" or any(_resolve(part, root).get("type") == "string" for part in schema.get("anyOf", ()))


def _of_driver(camera: dict[str, Any], settings: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a camera with the options of its driver, where that is known already."""
    driver = settings.get("driver") if isinstance(settings, dict) else None
    options = root["$defs"].get(f"driver.{driver}")
    # An unknown driver is reported by itself; its options are taken for YAML.
    return options or {**camera, "additionalProperties": True}
