"""YAML text to plain Python values, with every complaint in words.

The dialect is the core schema of YAML 1.2, so `on`, `no`, `1:30` and `007` stay text; duplicate keys, own tags and documents
beyond the first are refused; size, depth and the number of values (aliases counted each time) are bounded.
"""

from __future__ import annotations

__all__ = ["MAX_BYTES", "parse", "parse_value"]

import math
import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from edgeagent.config.problems import printable
from edgeagent.errors import ConfigError, ConfigProblem

MAX_BYTES = 256 * 1024
_MAX_VALUES = 10_000
_MAX_DEPTH = 32

_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+|\.?[0-9]*[eE][-+]?[0-9]{1,3}|\.)")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_IMPLICIT = {"!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value"))}

_SENTENCES = (
    ("cannot start any token", "a tab or an odd character begins this; indent with spaces and put special text in quotes"),
    ("mapping values are not allowed", "a colon stands where none may; put the text in quotes or mend the indentation"),
    ("could not find expected ':'", "a key without its colon; write `key: value`"),
    ("expected <block end>", "the indentation does not match the lines above"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("expected the node content", "a value is missing, or a bracket is not closed"),
    ("unexpected end of stream", "a quote is not closed"),
    ("undefined alias", "an alias (*name) without its anchor (&name) above"),
    ("duplicate anchor", "an anchor (&name) is given twice"),
    ("a single document", "a second document begins (---); keep one"),
    ("special characters are not allowed", "a control character; this is perhaps not a text file"),
    ("unknown escape", "an unknown \\ in double quotes; write \\\\ or use single quotes"),
)


class _Composer(yaml.SafeLoader):
    """Only composes nodes; their tags are resolved here, not by PyYAML's YAML 1.1 rules."""


def parse(text: str) -> dict[str, Any]:
    """The mapping that a configuration file holds.

    Raises:
        ConfigError: It is no YAML, not a mapping, too large, or breaks the rules of the module.
    """
    if len(text) > MAX_BYTES:
        raise _error(f"the file is larger than {MAX_BYTES // 1024} kB; this is not a configuration of edgeagent")
    node = _compose(text)
    if node is None or (isinstance(node, ScalarNode) and node.style is None and _WORDS.get(node.value, node) is None):
        raise _error("the file is empty; begin with `cameras:` and one camera, as in docs/edgeagent.example.yaml")
    if not isinstance(node, MappingNode):
        raise _error("this is not a list of settings; write `key: value` lines, as in docs/edgeagent.example.yaml")
    reader = _Reader()
    value = reader.value(node, "", 0)
    if reader.problems:
        raise ConfigError(reader.problems)
    assert isinstance(value, dict)
    return value


def parse_value(text: str) -> Any:
    """One value in YAML, as an environment variable holds it.

    Raises:
        ConfigError: As `parse`.
    """
    if len(text) > MAX_BYTES:
        raise _error("the value is too long")
    node = _compose(text)
    reader = _Reader()
    value = None if node is None else reader.value(node, "", 0)
    if reader.problems:
        raise ConfigError(reader.problems)
    return value


def _error(message: str) -> ConfigError:
    return ConfigError([ConfigProblem("", message)])


def _compose(text: str) -> Node | None:
    try:
        loader = _Composer(text)
        try:
            node: Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except RecursionError:
        raise _error("the file is nested too deeply; this is not a configuration of edgeagent") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = f"{error.context or ''} {error.problem or ''}"
        sentence = next(
            (sentence for part, sentence in _SENTENCES if part in said), "YAML cannot be read here; mend the line or quote the text"
        )
        raise _error(f"line {mark.line + 1}, column {mark.column + 1}: {sentence}" if mark else sentence) from None
    except yaml.YAMLError:  # the reader's, without a mark
        raise _error("a control character stands in the file; write it as plain text in UTF-8") from None
    except (ValueError, OverflowError):
        # PyYAML's scanner lets these out of int() and chr() for wild escapes and directives.
        raise _error("YAML cannot be read; an escape or a %YAML line is wrong") from None
    return node


class _Reader:
    def __init__(self) -> None:
        self.problems: list[ConfigProblem] = []
        self._values = 0

    def value(self, node: Node, path: str, depth: int) -> Any:
        self._values += 1
        if depth > _MAX_DEPTH or self._values > _MAX_VALUES:
            raise _error("the file holds too many values or is nested too deeply; this is not a configuration of edgeagent")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, SequenceNode):
            self._plain_tag(node, "seq", path)
            return [self.value(item, f"{path}.{index}" if path else str(index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        self._plain_tag(node, "map", path)
        return self._mapping(node, path, depth)

    def _mapping(self, node: MappingNode, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.problems.append(ConfigProblem(path, f"line {line}: a key must be a plain word"))
                continue
            key = key_node.value
            inner = f"{path}.{printable(key)}" if path else printable(key)
            value = self.value(value_node, inner, depth + 1)
            if key == "<<" and key_node.style is None:
                parts = value if isinstance(value, list) else [value]
                if not all(isinstance(part, dict) for part in parts):
                    self.problems.append(ConfigProblem(inner, f"line {line}: `<<` takes an alias of a mapping, like `<<: *name`"))
                    continue
                for part in reversed(parts):
                    merged.update(part)
            elif key in lines:
                self.problems.append(ConfigProblem(inner, f"written twice, in lines {lines[key]} and {line}; keep one"))
            else:
                lines[key] = line
                found[key] = value
        return {**merged, **found}

    def _scalar(self, node: ScalarNode, path: str) -> Any:
        text: str = node.value
        self._plain_tag(node, "str", path)
        if node.style is not None or node.tag == "!":
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and text not in {".", "-."}:
            try:
                number = float(text)
            except ValueError:
                return text
            return number if math.isfinite(number) else text
        return text

    def _plain_tag(self, node: Node, kind: str, path: str) -> None:
        """Refuse tags that are written; PyYAML gives the usual ones to every plain value by its own rules."""
        tag = node.tag
        if tag in _IMPLICIT or (kind != "str" and tag == f"tag:yaml.org,2002:{kind}"):
            return
        line = node.start_mark.line + 1
        self.problems.append(ConfigProblem(path, f"line {line}: write the value without the tag {printable(tag)}"))
