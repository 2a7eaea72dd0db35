from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.core.redact import is_secret_key, redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://user:pass@192.0.2.1:554/a", "rtsp://***@192.0.2.1:554/a"),
        ("mqtt://u:p@ss@h", "mqtt://***@h"),
        ("turn:u:p@h:3478", "turn:***@h:3478"),
        ("http://h/a?user=me&password=x&size=3", "http://h/a?user=***&password=***&size=3"),
        ("see rtsp://u:p@h/ and wss://v:q@i/x", "see rtsp://***@h/ and wss://***@i/x"),
        ("http://h/a@b", "http://h/a@b"),
        ("mail a@b.example", "mail a@b.example"),
    ],
)
def test_urls(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_known_secrets() -> None:
    assert redact("the word is swordfish, abc", ["swordfish", "sword", "abc", ""]) == "the word is ***, abc"


@given(st.text(st.characters(blacklist_categories=["Z", "C"], blacklist_characters="/?#\"'<>")))
def test_no_password_survives_in_a_url(password: str) -> None:
    assert redact(f"rtsp://user:{password}@camera/main") == "rtsp://***@camera/main"


def test_names_of_secrets() -> None:
    assert all(map(is_secret_key, ["password", "token", "TURN_CREDENTIAL", "api_key", "auth"]))
    assert not any(map(is_secret_key, ["url", "monkey", "keepalive_s", "device"]))
