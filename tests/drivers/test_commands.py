from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from edgeagent.drivers import Driver, PeerError, command
from edgeagent.drivers.check import complaint
from edgeagent.drivers.commands import call, prepare, schema_of


class Speed(enum.StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Base(Driver):
    def open(self) -> None: ...

    def close(self) -> None: ...


class Lamp(Base):
    @command(title="Switch", danger=True)
    def switch(
        self,
        on: bool,
        level: Annotated[float, Field(ge=0, le=1, description="Brightness")] = 1.0,
        *,
        speed: Speed = Speed.SLOW,
        times: list[int] = [],  # noqa: B006  read only
        colour: Literal["red", "blue"] | None = None,
    ) -> Any:
        return on, level, speed, times, colour

    @command()
    def toggle(self) -> str:
        return "toggled"

    def hidden(self) -> None:
        raise AssertionError("no command")


LAMP = Lamp("lamp", None)


def refused(name: str, args: Any) -> tuple[int, str]:
    with pytest.raises(PeerError) as caught:
        prepare(LAMP, name, args)
    return caught.value.code, caught.value.message


def test_arguments_become_what_the_annotations_say() -> None:
    given = {"on": False, "level": 1, "speed": "fast", "times": [3], "colour": "red"}
    result = call(LAMP, "switch", given)
    assert result == (False, 1.0, Speed.FAST, [3], "red")
    assert type(result[1]) is float and result[2] is Speed.FAST
    assert call(LAMP, "switch", {"on": True}) == (True, 1.0, Speed.SLOW, [], None)
    assert call(LAMP, "toggle", {}) == "toggled"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({}, "on: it is missing."),
        ({"on": 1}, "on: write true or false."),
        ({"on": "true"}, "on: write true or false."),
        ({"on": True, "level": 1.5}, "level: it must be less than or equal to 1."),
        ({"on": True, "level": "0.5"}, "level: write a number."),
        ({"on": True, "level": True}, "level: write a number."),
        ({"on": True, "speed": "warp"}, "speed: it must be 'slow' or 'fast'."),
        ({"on": True, "times": [1.5]}, "times.0: write a whole number."),
        ({"on": True, "times": 1}, "times: write a list."),
        ({"on": True, "self": 1}, "self: there is no such argument."),
        ({"on": True, "b\nad": 1}, "b?ad: there is no such argument."),
        ({"on": 1, "level": 7, "colour": 1, "times": 1}, "(and 1 more)."),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, Any], sentence: str) -> None:
    code, said = refused("switch", args)
    assert code == 400 and said.endswith(sentence), said


def test_what_is_no_json_is_refused() -> None:
    for value in (float("nan"), float("inf"), object(), {1, 2}):
        assert refused("switch", {"on": True, "level": value}) == (400, "The arguments of switch are no plain JSON values.")


def test_unknown_commands_are_answered_with_the_known() -> None:
    for name in ("hidden", "open", "__init__", "name"):
        assert refused(name, {}) == (404, f"lamp has no command {name}; it has switch, toggle.")
    with pytest.raises(PeerError, match="it has none"):
        prepare(Base("bare", None), "x", {})


def test_schema() -> None:
    schema = schema_of(Lamp, "switch")
    assert schema["required"] == ["on"] and schema["additionalProperties"] is False
    assert schema["properties"]["level"] == {
        "type": "number", "minimum": 0, "maximum": 1, "default": 1.0, "description": "Brightness"
    }  # fmt: skip
    assert schema["properties"]["speed"] == {"type": "string", "enum": ["slow", "fast"], "default": "slow"}
    assert schema_of(LAMP, "toggle") == {"type": "object", "properties": {}, "additionalProperties": False}
    json.dumps(schema)
    with pytest.raises(KeyError):
        schema_of(Lamp, "hidden")


class Point(BaseModel):
    x: float
    name: str = ""


class Titled(Base):
    @command()
    def go(self, title: str, to: Point) -> Any:
        return title, to


def test_an_argument_may_be_called_title_and_be_a_model() -> None:
    schema = schema_of(Titled, "go")
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["properties"]["to"]["properties"]["x"] == {"type": "number"}
    assert call(Titled("t", None), "go", {"title": "a", "to": {"x": 1}}) == ("a", Point(x=1))


def sensor_with(**body: Any) -> type[Driver]:
    return type("Own", (Base,), body)


def without_annotation(self: Any, x) -> None: ...  # type: ignore[no-untyped-def]
def many(self: Any, *x: int) -> None: ...
def unknown_name(self: Any, x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def no_json(self: Any, x: Base) -> None: ...
def taken(self: Any, model_config: int) -> None: ...
def loud(self: Any, Loud: int) -> None: ...
async def waiting(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (without_annotation, "the argument `x` of `it` has no annotation"),
        (many, "give each argument a name of its own"),
        (unknown_name, "the annotations of `it` cannot be read"),
        (no_json, "a type that JSON cannot carry"),
        (taken, "`model_config` is no name for an argument"),
        (loud, "`Loud` is no name for an argument"),
        (waiting, "`it` is `async`"),
    ],
)
def test_a_signature_that_cannot_be_offered_is_told_to_its_author(method: Any, sentence: str) -> None:
    method.__edgeagent_command__ = {"title": "", "danger": False}
    with pytest.raises(TypeError, match=sentence):
        schema_of(sensor_with(it=method), "it")


def test_a_name_that_cannot_be_offered() -> None:
    with pytest.raises(TypeError, match="no name for a command"):
        schema_of(sensor_with(Loud=Lamp.toggle), "Loud")
    assert "neither from `Sensor`" in complaint(sensor_with())


@given(
    st.dictionaries(
        st.sampled_from(["on", "level", "speed", "times", "colour", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
        ),
    )
)
def test_whatever_comes_is_called_or_refused(args: dict[str, Any]) -> None:
    try:
        on, level, *_ = call(LAMP, "switch", args)
    except PeerError as refusal:
        assert refusal.code == 400 and len(refusal.message) < 1000
    else:
        assert isinstance(on, bool) and 0 <= level <= 1
