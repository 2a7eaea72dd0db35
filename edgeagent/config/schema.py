"""JSON Schema of the configuration, for editors: `edgeagent schema`, and the file `edgeagent/config.schema.json`."""

from __future__ import annotations

__all__ = ["schema"]

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from edgeagent.config.model import CameraConfig, Config, DeviceConfig


def schema(cameras: Mapping[str, type[BaseModel]], devices: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of the file.

    Args:
        cameras: `Options` of cameras' drivers by name. Cameras of other drivers are allowed, with any keys.
        devices: The same of sensors and actuators.
    """
    whole = Config.model_json_schema()
    definitions: dict[str, Any] = whole.pop("$defs")
    for part in (whole, *definitions.values()):
        for entries in part.get("properties", {}).values():
            if "patternProperties" in entries:  # of one pattern, from the type of the keys
                ((pattern, inner),) = entries.pop("patternProperties").items()
                entries |= {"propertyNames": {"pattern": pattern}, "additionalProperties": inner}
    for section, model, drivers in (("cameras", CameraConfig, cameras), ("devices", DeviceConfig, devices or {})):
        described = definitions.pop(model.__name__)
        common = {name: value for name, value in described["properties"].items() if name != "options"}
        for name, options in sorted(drivers.items()):
            definitions |= _of_driver(name, options, common)
        whole["properties"][section]["additionalProperties"] = {
            "type": "object",
            "description": described["description"],
            "properties": {**common, "driver": {**common["driver"], "examples": sorted(drivers)}},
            "required": ["driver"],
            "allOf": [
                {"if": {"properties": {"driver": {"const": name}}}, "then": {"$ref": f"#/$defs/driver.{name}"}}
                for name in sorted(drivers)
            ],
        }
    complete: dict[str, Any] = _without_titles(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **whole,
            "anyOf": [{"required": ["cameras"]}, {"required": ["devices"]}],
            "$defs": dict(sorted(definitions.items())),
        }
    )
    return complete


def _of_driver(name: str, options: type[BaseModel], common: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that one driver adds, its own as `driver.NAME`."""
    own = options.model_json_schema(ref_template=f"#/$defs/driver.{name}.{{model}}")
    inner = {f"driver.{name}.{key}": value for key, value in own.pop("$defs", {}).items()}
    whole = {
        **own,
        "properties": {**own.get("properties", {}), **common},
        "required": ["driver", *own.get("required", [])],
    }
    return {**inner, f"driver.{name}": whole}


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
