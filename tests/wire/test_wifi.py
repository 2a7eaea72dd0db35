from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws

from edgeagent.errors import PeerError
from edgeagent.wire.seal import new_key, public_jwk
from edgeagent.wire.wifi import MAX_SIGNED_WIFI, SignedWifi, Wifi, looks_signed, open_wifi, sign_wifi

KEY = new_key()
PUBLIC = public_jwk(KEY)
HOME = Wifi("Haus Süd", "a-long-key")


def signed(header: dict[str, Any], claims: Any, key: Any = KEY) -> str:
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, registry=jws.JWSRegistry(strict_check_header=False))


HEADER = {"alg": "ES256", "typ": "ea-wifi+jwt"}
CLAIMS = {"s": "home", "p": "a-long-key", "b": "*", "iat": 7}


def test_there_and_back() -> None:
    text = sign_wifi(HOME, KEY, board="gate", at=7)
    assert open_wifi(text, PUBLIC, board="gate", after=7) == SignedWifi(HOME, 7)
    assert looks_signed(text) and len(text) < 250
    assert "a-long-key" not in repr(open_wifi(text, PUBLIC, board="gate"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (sign_wifi(HOME, new_key(), at=7), 401),
        (sign_wifi(HOME, KEY, board="shed", at=7), 403),
        (sign_wifi(HOME, KEY, at=6), 409),
        ("", 401),
        ("a" * (MAX_SIGNED_WIFI + 1), 413),
        (signed({"alg": "ES256", "typ": "ea-order+jwt"}, CLAIMS), 401),
        (signed({**HEADER, "jwk": public_jwk(KEY)}, CLAIMS), 401),
        ("eyJhbGciOiJub25lIn0.e30.", 401),
        (signed(HEADER, {**CLAIMS, "x": 1}), 400),
        (signed(HEADER, {**CLAIMS, "iat": True}), 400),
        (signed(HEADER, {**CLAIMS, "iat": 1e9}), 400),
        (signed(HEADER, {**CLAIMS, "p": "short"}), 400),
        (signed(HEADER, {**CLAIMS, "s": ""}), 400),
        (signed(HEADER, []), 400),
    ],
)
def test_refused(text: str, code: int) -> None:
    with pytest.raises(PeerError) as caught:
        open_wifi(text, PUBLIC, board="gate", after=7)
    assert caught.value.code == code
    assert "a-long-key" not in caught.value.message


def test_hs256_with_the_public_key_is_no_signature() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "ea-wifi+jwt"}).encode()).rstrip(b"=").decode()
    with pytest.raises(PeerError, match="not signed"):
        open_wifi(f"{head}.e30.AAAA", PUBLIC, board="gate")


@given(st.text(max_size=300))
def test_whatever_a_camera_reads_is_answered_with_a_sentence(text: str) -> None:
    with pytest.raises(PeerError):
        open_wifi(text, PUBLIC, board="gate")


@pytest.mark.parametrize(
    ("ssid", "key"),
    [("", "12345678"), ("x" * 33, ""), ("ü" * 17, ""), ("a\nb", ""), ("a", "1234567"), ("a", "x" * 64), ("a", "schlüssel-1")],
)
def test_no_network(ssid: str, key: str) -> None:
    with pytest.raises(ValueError, match="Wi-Fi"):
        Wifi(ssid, key)


def test_keys_of_64_hex_digits_and_open_networks() -> None:
    assert Wifi("a", "0f" * 32).key and not Wifi("a").key
