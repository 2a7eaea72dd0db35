"""The service's variables, read beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeagent.install.environment import of_service, parse
from edgeagent.install.places import Places


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB_2=two words  \n", {"A": "1", "B_2": "two words"}),
        ("# A=1\n; B=2\n\n  C = 3 # no comment\n", {"C": "3 # no comment"}),
        ('A=\'a "b" \\n\'\nB="it\'s \\"so\\" \\n\\$"\n', {"A": 'a "b" \\n', "B": 'it\'s "so" \\n$'}),
        ("A='one '\"two \"three 'four' \n", {"A": "one two three 'four'"}),
        ("A=one\\\n  two\\ \nB=a\\\\b\n", {"A": "one  two ", "B": "a\\b"}),
        ('A="one\ntwo" \r\nB=\n', {"A": "one\ntwo", "B": ""}),
        ("A\n=B\n1A=x\nA-B=x\nA=1\nA=2", {"A": "2"}),
        ("A='never closed", {"A": "never closed"}),
        ('A="\\', {"A": ""}),
    ],
)
def test_a_file_is_read_as_systemd_does(text: str, found: dict[str, str]) -> None:
    """Each was compared with what systemd 252 makes of it."""
    assert parse(text) == found


def test_they_belong_to_the_configuration_of_the_service(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.etc.mkdir(parents=True)
    own = {"EDGEAGENT_TITLE": "mine"}
    assert of_service(places.config, own, places) == (own, "")
    places.environment.write_text("EDGEAGENT_TITLE=theirs\nEDGEAGENT_HTTP__TOKEN=0123456789abcdef\n")
    every = {"EDGEAGENT_TITLE": "mine", "EDGEAGENT_HTTP__TOKEN": "0123456789abcdef"}
    assert of_service(places.config, own, places) == (every, "")
    assert of_service(places.state / "desired.1.yaml", own, places) == (every, "")
    assert of_service(tmp_path / "edgeagent.yaml", own, places) == (own, "")


def test_who_may_not_read_them_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(tmp_path)

    def refused(path: Path) -> bytes:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert "run this with sudo" in of_service(places.config, {"PATH": "/bin"}, places)[1]
    assert of_service(places.config, {"EDGEAGENT_HTTP__TOKEN": "x"}, places)[1] == "", "he gives them himself"
