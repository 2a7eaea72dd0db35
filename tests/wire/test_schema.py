"""The files made from the models are current and say what the models say."""

from __future__ import annotations

import re
import typing

from edgeagent.wire import messages as m
from edgeagent.wire.__main__ import main, outputs
from edgeagent.wire.schema import json_schema, typescript


def test_the_generated_files_are_current() -> None:
    for path, text in outputs().items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: run `python -m edgeagent.wire`"
    assert main(["--check"]) == 0


def test_every_message_of_the_unions_is_in_the_schema() -> None:
    schema = json_schema()
    for name, union in (("ViewerMessage", m.ViewerMessage), ("AgentMessage", m.AgentMessage)):
        members = {model.__name__ for model in typing.get_args(typing.get_args(union)[0])}
        listed = {entry["$ref"].rsplit("/", 1)[1] for entry in schema["$defs"][name]["oneOf"]}
        assert listed == members
        for tag, reference in schema["$defs"][name]["discriminator"]["mapping"].items():
            assert schema["$defs"][reference.rsplit("/", 1)[1]]["properties"]["t"]["const"] == tag


def test_typescript_names_every_field_and_knows_every_type() -> None:
    text = typescript()
    for name, definition in json_schema()["$defs"].items():
        if "properties" not in definition:
            continue
        body = re.search(rf"export interface {name} {{\n(.*?)}}", text, re.DOTALL)
        assert body, name
        assert re.findall(r"^  (\w+)\??:", body[1], re.MULTILINE) == list(definition["properties"])
    known = set(re.findall(r"export (?:interface|type) (\w+)", text)) | {"Array", "Record"}
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"\b[A-Z][A-Za-z]+\b(?=[;<>, |])", code))
    assert {"Candidate", "Record"} <= used <= known


def test_what_only_the_agent_writes_is_complete() -> None:
    text = typescript()
    assert "  cameras: Array<CameraState>;" in text
    assert "  retry_s?: number;" in text
    assert "  candidates?: Array<Candidate>;" in text
    assert '  phase: "off" | "starting" | "live" | "retrying" | "failed";' in text
