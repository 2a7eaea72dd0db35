"""The broker's address, taken apart, and what it never gives away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.mqtt.url import BrokerAddress, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://127.0.0.1", BrokerAddress("127.0.0.1", 1883, False)),
        ("mqtt://broker.lan:2883/", BrokerAddress("broker.lan", 2883, False)),
        ("mqtts://broker.lan", BrokerAddress("broker.lan", 8883, True)),
        ("mqtt://[::1]:1884", BrokerAddress("::1", 1884, False)),
        ("ws://broker.lan:9001", BrokerAddress("broker.lan", 9001, False, "/mqtt")),
        ("wss://broker.lan/a/b?c=d", BrokerAddress("broker.lan", 443, True, "/a/b?c=d")),
        ("mqtt://me:p%40ss%3A@h", BrokerAddress("h", 1883, False, None, "me", "p@ss:")),
        ("mqtt://me@h", BrokerAddress("h", 1883, False, None, "me", None)),
    ],
)
def test_addresses(url: str, expected: BrokerAddress) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://me:secret@h", "begins with mqtt://"),
        ("h:1883", "begins with mqtt://"),
        ("mqtt://", "lacks a host"),
        ("mqtt://me:secret@", "lacks a host"),
        ("mqtt://me:secret@h:0", "cannot be 0"),
        ("mqtt://me:secret@h:99999", "cannot be read"),
        ("mqtt://me:secret@h/topic", "takes no path"),
        ("mqtt://me:secret@[h", "cannot be read"),
        ("wss://me:secret@h/#x", "no fragment"),
    ],
)
def test_what_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown() -> None:
    address = parse_url("mqtt://me:secret@[::1]")
    assert str(address) == "[::1]:1883"
    assert "secret" not in repr(address)
    assert "me" not in repr(address).replace("username", "").replace("websocket", "")


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    for url in (text, f"mqtt://{text}", f"wss://me:secret@{text}"):
        try:
            assert parse_url(url).host
        except ValueError as error:
            assert "secret" not in str(error)
