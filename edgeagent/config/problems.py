"""What pydantic found wrong, in sentences that say what to write; values shown without secrets."""

from __future__ import annotations

__all__ = ["nearest", "of_validation", "path_text", "printable", "shown"]

import difflib
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from edgeagent.core.redact import HIDDEN, is_secret_key, redact
from edgeagent.errors import ConfigProblem

_SHOWN = 60

_SENTENCES = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "dict_type": "write settings below it, `key: value`",
    "finite_number": "write a finite number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_parsing_size": "write a smaller number",
    "int_type": "write a whole number",
    "list_type": "write a list, like [one, two]",
    "mapping_type": "write settings below it, `key: value`",
    "model_attributes_type": "write settings below it, `key: value`",
    "model_type": "write settings below it, `key: value`",
    "none_required": "leave it empty",
    "path_type": "write a path",
    "string_type": "write text, in quotes where YAML would take it for something else",
    "string_sub_type": "write text",
    "tuple_type": "write a list, like [one, two]",
}
_WITH_CONTEXT = {
    "greater_than": "write a number above {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than": "write a number below {lt}",
    "less_than_equal": "write {le} or less",
    "enum": "write one of {expected}",
    "literal_error": "write {expected}",
    "multiple_of": "write a multiple of {multiple_of}",
    "string_too_short": "write at least {min_length} characters",
    "string_too_long": "write at most {max_length} characters",
    "too_long": "write at most {max_length} {unit}",
    "too_short": "write at least {min_length} {unit}",
}
_NAME = "write a name of a-z, 0-9 and inner hyphens, at most 64 characters, like front-door"


def nearest(word: str, known: Iterable[str]) -> str:
    """Half a sentence that helps with an unknown word."""
    known = sorted(known)
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known are {', '.join(known)}" if known else "nothing may stand here"


def path_text(path: Iterable[str | int]) -> str:
    """Dotted, as in `cameras.gate.url`."""
    return ".".join(printable(str(part)) for part in path)


def printable(text: str) -> str:
    """With control characters made visible and at most 60 characters."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def shown(value: Any, path: Sequence[str | int]) -> str:
    """A value as it may be shown: short, without secrets; what is no plain value is only named."""
    if value is None:
        return "nothing"
    if isinstance(value, SecretStr) or any(is_secret_key(str(part)) for part in path[-1:]):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "settings"
    if isinstance(value, list | tuple):
        return "a list"
    if not isinstance(value, str | int | float):
        return ""
    text = redact(value) if isinstance(value, str) else repr(value)
    text = printable(text)
    return f'"{text}"' if isinstance(value, str) else text


def of_validation(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[ConfigProblem]:
    """Each of pydantic's findings as a problem, `prefix` before its path."""
    problems = []
    for found in error.errors(include_url=False):
        kind, loc, context = found["type"], found["loc"], dict(found.get("ctx", {}))
        context["unit"] = "entries" if isinstance(found["input"], dict | list | tuple) else "characters"
        path = (*prefix, *(part for part in loc if part != "[key]"))
        text = path_text(path)
        if kind == "extra_forbidden":
            known = _keys(model, loc[:-1])
            # Not the value: below a misspelt key it may be a secret.
            problems.append(ConfigProblem(text, f"there is no such key; {nearest(str(loc[-1]), known)}"))
        elif kind == "missing":
            problems.append(ConfigProblem(text, f"is missing{_meaning(model, loc)}"))
        else:
            problems.append(ConfigProblem(text, redact(_sentence(kind, found["msg"], context)), shown(found["input"], path)))
    return problems


def _sentence(kind: str, message: str, context: dict[str, Any]) -> str:
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind == "string_pattern_mismatch" and "a-z0-9-" in context.get("pattern", ""):
        return _NAME
    if kind in _WITH_CONTEXT:
        try:
            whole = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in context.items()}
            return _WITH_CONTEXT[kind].format(**whole)
        except KeyError:
            pass
    for lead in ("Value error, ", "Assertion failed, "):
        message = message.removeprefix(lead)
    return message.replace("Input should ", "it must ", 1) if message else "write another value"


def _meaning(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    owner = _model_at(model, loc[:-1])
    field = owner.model_fields.get(str(loc[-1])) if owner else None
    key = loc[-1] if loc else ""
    return f": write `{key}: …`. {field.description}" if field and field.description else f": write `{key}: …`"


def _keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    owner = _model_at(model, loc)
    return [field.alias or name for name, field in owner.model_fields.items()] if owner else []


def _model_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the settings at `loc`; None where there is none."""
    here: Any = model
    for part in loc:
        fields = here.model_fields if isinstance(here, type) and issubclass(here, BaseModel) else {}
        if part in fields:
            here = _inner(fields[part].annotation)
        # else: an index of a list or a key of a dictionary, whose items `_inner` has looked through
        if here is None:
            return None
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The first model inside an annotation such as `list[Server] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _inner(part))), None)
