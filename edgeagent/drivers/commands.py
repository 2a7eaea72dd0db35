"""Calls a driver's commands with arguments from outside: validated from the method's annotations, refused in sentences.

Values are taken as JSON means them: `"5"` is no number, `1` is no boolean, `5` is a float; a number is finite.
"""

from __future__ import annotations

__all__ = ["call", "prepare", "schema_of"]

import functools
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import ErrorDetails

from edgeagent.drivers.device import Driver, commands_of
from edgeagent.errors import PeerError

_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_MAX_ARGUMENTS = 16
_SHOWN_ERRORS = 3
_SHOWN_CHARS = 60


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, arbitrary_types_allowed=False)


def schema_of(driver: type[Driver] | Driver, name: str) -> dict[str, Any]:
    """JSON Schema (an object) of a command's arguments, for pages and clients.

    Raises:
        KeyError: The driver has no such command.
        TypeError: Its signature cannot be offered, in a sentence for the driver's author.
    """
    schema = _model(driver if isinstance(driver, type) else type(driver), name).model_json_schema()
    plain: dict[str, Any] = _plain(schema, schema.pop("$defs", {}))
    return plain


def prepare(driver: Driver, name: str, args: Mapping[str, Any]) -> Callable[[], Any]:
    """The call of a command, its arguments checked: may be done later and on another thread.

    Raises:
        PeerError: 404 where there is no such command, 400 for wrong arguments, with a sentence that names them.
    """
    known = commands_of(driver)
    if name not in known:
        offered = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise PeerError(404, f"{driver.name} has no command {_clip(name)}; {offered}.")
    try:
        checked = _model(type(driver), name).model_validate_json(json.dumps(dict(args), allow_nan=False), strict=True)
    except ValidationError as error:
        raise PeerError(400, _sentence(name, error.errors(include_url=False, include_input=False))) from None
    except (TypeError, ValueError, RecursionError):
        raise PeerError(400, f"The arguments of {name} are no plain JSON values.") from None
    given = {field: getattr(checked, field) for field in type(checked).model_fields}
    return functools.partial(getattr(driver, name), **given)


def call(driver: Driver, name: str, args: Mapping[str, Any]) -> Any:
    """Call a command now, on this thread; what it returns.

    Raises:
        PeerError: As `prepare`, or what the command itself refuses.
        DeviceFault: The hardware failed.
    """
    return prepare(driver, name, args)()


@functools.lru_cache(maxsize=512)
def _model(driver: type[Driver], name: str) -> type[BaseModel]:
    """The arguments of a command as a pydantic model."""
    if name not in commands_of(driver):
        raise KeyError(name)
    method = getattr(driver, name)
    if not _KEY.fullmatch(name):
        raise TypeError(f"`{name}` is no name for a command; write a-z, 0-9 and _, at most 32 characters")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise TypeError(f"`{name}` is `async`; write `def {name}`: it is called on a thread of its own and may block")
    try:
        hints = get_type_hints(method, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise TypeError(f"the annotations of `{name}` cannot be read ({error}); import what they name at the file's top") from None
    fields: dict[str, Any] = {}
    _, *parameters = inspect.signature(method).parameters.values()  # the first is self
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"`{name}` takes `{parameter}`; give each argument a name of its own")
        if parameter.name not in hints:
            raise TypeError(f"the argument `{parameter.name}` of `{name}` has no annotation; write its type, like `on: bool`")
        if not _KEY.fullmatch(parameter.name) or hasattr(BaseModel, parameter.name):
            raise TypeError(f"`{parameter.name}` is no name for an argument of `{name}`; take another word of a-z, 0-9 and _")
        fields[parameter.name] = (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
    if len(fields) > _MAX_ARGUMENTS:
        raise TypeError(f"`{name}` has {len(fields)} arguments; {_MAX_ARGUMENTS} are the most")
    try:
        model: type[BaseModel] = create_model(name, __base__=_Arguments, **fields)
        if "$ref" in model.model_json_schema():
            raise TypeError(f"an argument of `{name}` holds itself; take a flat one")
    except PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"an argument of `{name}` has a type that JSON cannot carry ({reason})") from None
    return model


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Without the titles that pydantic makes from names, and with its definitions (enumerations) where they are used."""
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain({**definitions[schema.pop("$ref").removeprefix("#/$defs/")], **schema}, definitions)
    return {
        key: {name: _plain(part, definitions) for name, part in value.items()}
        if key == "properties"
        else _plain(value, definitions)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


_WORDS = {
    "bool_type": "write true or false",
    "extra_forbidden": "there is no such argument",
    "finite_number": "write a finite number",
    "float_type": "write a number",
    "int_from_float": "write a whole number",
    "int_type": "write a whole number",
    "list_type": "write a list",
    "missing": "it is missing",
    "string_type": "write text",
}


def _sentence(name: str, errors: list[ErrorDetails]) -> str:
    parts = []
    for error in errors[:_SHOWN_ERRORS]:
        where = ".".join(str(part) for part in error["loc"]) or "arguments"
        text = _WORDS.get(error["type"], error["msg"].removeprefix("Value error, ").replace("Input should be ", "it must be ", 1))
        parts.append(f"{_clip(where)}: {_clip(text, 160)}")
    more = f" (and {len(errors) - _SHOWN_ERRORS} more)" if len(errors) > _SHOWN_ERRORS else ""
    return f"The command {name} cannot be called with these arguments: {'; '.join(parts)}{more}."


def _clip(text: str, chars: int = _SHOWN_CHARS) -> str:
    clean = "".join(c if c.isprintable() else "?" for c in text[: chars + 1])
    return clean if len(clean) <= chars else clean[: chars - 1] + "…"
