"""JSON Schema of the configuration, for editors: `edgeagent schema`, and the file `edgeagent/config.schema.json`."""

from __future__ import annotations

__all__ = ["schema"]

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from edgeagent.config.model import CameraConfig, Config


def schema(drivers: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """JSON Schema (2020-12) of the file.

    Args:
        drivers: `Options` by driver name. Cameras of other drivers are allowed, with any keys.
    """
    whole = Config.model_json_schema()
    definitions: dict[str, Any] = whole.pop("$defs")
    camera = definitions.pop(CameraConfig.__name__)
    common = {name: camera["properties"][name] for name in ("driver", "title")}
    branches = []
    for name, options in sorted(drivers.items()):
        own = options.model_json_schema(ref_template=f"#/$defs/driver.{name}.{{model}}")
        definitions |= {f"driver.{name}.{inner}": value for inner, value in own.pop("$defs", {}).items()}
        definitions[f"driver.{name}"] = {
            **own,
            "properties": {**own.get("properties", {}), **common},
            "required": ["driver", *own.get("required", [])],
        }
        branches.append({"if": {"properties": {"driver": {"const": name}}}, "then": {"$ref": f"#/$defs/driver.{name}"}})
    cameras = whole["properties"]["cameras"]
    (pattern,) = cameras.pop("patternProperties", {"": None})
    cameras["propertyNames"] = {"pattern": pattern}
    cameras["additionalProperties"] = {
        "type": "object",
        "description": camera["description"],
        "properties": {**common, "driver": {**common["driver"], "examples": sorted(drivers)}},
        "required": ["driver"],
        "allOf": branches,
    }
    complete: dict[str, Any] = _without_titles(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **whole,
            "$defs": dict(sorted(definitions.items())),
        }
    )
    return complete


def _without_titles(schema: Any) -> Any:
    """Without the titles that pydantic makes from names; `properties` may have a key of that name."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(part) for name, part in value.items()} if key == "properties" else _without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }
