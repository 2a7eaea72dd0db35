"""Envelopes, as whoever holds the broker may treat them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe, jws
from joserfc.jwk import ECKey, OctKey

from edgeagent.errors import PeerError
from edgeagent.wire import seal as s

SITE_SIG, SITE_ENC, GATE_ID, GATE_ENC, BARN_ENC, STRANGER = (s.new_key() for _ in range(6))
BODY = {"t": "restart", "v": 1}


def sealed(body: dict[str, Any] = BODY, **changed: Any) -> str:
    how = {
        "to_enc": s.public_jwk(GATE_ENC),
        "by_sig": SITE_SIG,
        "issuer": "site",
        "audience": "gate",
        "epoch": "e1",
        "number": 7,
        "at": 1_800_000_000,
    }
    return s.seal(body, **{**how, **changed})


def opened(text: str | bytes, **changed: Any) -> s.Opened:
    how = {
        "with_enc": GATE_ENC,
        "from_sig": s.public_jwk(SITE_SIG),
        "issuer": "site",
        "audience": "gate",
        "epoch": "e1",
        "after": 6,
    }
    return s.open_sealed(text, **{**how, **changed})


def header_of(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=="))
    return found


def encoded(header: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()


def test_what_is_sealed_opens_for_whom_it_is_meant() -> None:
    assert opened(sealed()) == s.Opened("site", "e1", 7, 1_800_000_000, BODY)
    assert opened(sealed().encode()) == opened(sealed())


def test_an_envelope_tells_nothing_but_its_algorithms() -> None:
    outer = header_of(sealed(to_enc=GATE_ENC).split(".")[0])
    assert set(outer) == {"alg", "enc", "cty", "epk"} and set(outer["epk"]) == {"kty", "crv", "x", "y"}
    assert (outer["alg"], outer["enc"]) == ("ECDH-ES", "A256GCM")
    assert sealed() != sealed()


@pytest.mark.parametrize(
    "changed",
    [
        {"by_sig": STRANGER},  # forged
        {"audience": "barn"},  # meant for another board, whose broker sends it here
        {"issuer": "gate"},
        {"to_enc": BARN_ENC},
        {"typ": s.ANSWER},  # an answer sent back as an order
    ],
    ids=["forged", "another-board", "another-sender", "another-key", "another-kind"],
)
def test_what_others_have_sealed_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(s.SealError) as refused:
        opened(sealed(**changed))
    assert refused.value.code == 401 and not isinstance(refused.value, s.StaleError)


def test_a_boards_own_order_to_another_board_does_not_pass_as_the_sites() -> None:
    with pytest.raises(s.SealError):
        opened(sealed(by_sig=GATE_ID))


@pytest.mark.parametrize("changed", [{"epoch": "e0"}, {"number": 6}, {"number": 1}], ids=["reboot", "replay", "overtaken"])
def test_what_is_stale_is_told_apart_from_what_is_forged(changed: dict[str, Any]) -> None:
    with pytest.raises(s.StaleError) as stale:
        opened(sealed(**changed))
    assert stale.value.code == 409 and stale.value.opened.body == BODY


@given(st.data())
@settings(max_examples=60)
def test_no_changed_bit_is_overlooked(data: st.DataObject) -> None:
    raw = bytearray(sealed(), "ascii")
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(s.SealError):
        opened(bytes(raw))


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.from_regex(r"([A-Za-z0-9_-]{0,60}\.){4}[A-Za-z0-9_-]{0,60}")))
def test_nothing_else_is_ever_raised(junk: str | bytes) -> None:
    with pytest.raises(s.SealError):
        s.unseal(junk, with_enc=GATE_ENC, from_sig=SITE_SIG, issuer="site", audience="gate")


@pytest.mark.parametrize("extra", [{"zip": "DEF"}, {"crit": ["exp"]}, {"jku": "https://x"}, {"x5u": "https://x"}, {"kid": "1"}])
def test_headers_hold_nothing_more(extra: dict[str, Any]) -> None:
    inner = jws.serialize_compact({"alg": "ES256", "typ": s.ORDER}, b"{}", SITE_SIG)
    registry = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM", "DEF"], strict_check_header=False)
    outer = {"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT"}
    text = jwe.encrypt_compact(outer, inner, GATE_ENC, registry=registry)
    with pytest.raises(s.SealError, match="claims"):  # so far it opens
        opened(text)
    if "crit" not in extra:
        text = jwe.encrypt_compact({**outer, **extra}, inner, GATE_ENC, registry=registry)
    else:
        head, rest = text.split(".", 1)
        text = f"{encoded({**header_of(head), **extra})}.{rest}"
    with pytest.raises(s.SealError, match="another way"):
        opened(text)


def test_the_signer_brings_no_key_of_his_own() -> None:
    key = s.public_jwk(STRANGER)
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    inner = jws.serialize_compact({"alg": "ES256", "typ": s.ORDER, "jwk": key}, b"{}", STRANGER, registry=registry)
    text = jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT"}, inner, GATE_ENC)
    with pytest.raises(s.SealError, match="signed in another way"):
        opened(text)


def test_other_algorithms_are_refused_whatever_the_header_says() -> None:
    inner = jws.serialize_compact({"alg": "HS256", "typ": s.ORDER}, b"{}", OctKey.generate_key(256))
    for outer in (
        {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"},
        {"alg": "ECDH-ES", "enc": "A128CBC-HS256"},
        {"alg": "ECDH-ES", "enc": "A256GCM"},
    ):
        text = jwe.encrypt_compact({**outer, "cty": "JWT"}, inner, GATE_ENC)
        with pytest.raises(s.SealError):
            opened(text)


def test_size_is_judged_before_anything_is_read() -> None:
    with pytest.raises(s.SealError) as refused:
        opened(b"." * (s.MAX_SEALED + 1))
    assert refused.value.code == 413
    with pytest.raises(PeerError) as large:
        sealed({"t": "x" * s.MAX_SEALED})
    assert large.value.code == 413
    body = {"t": "é" * ((s.MAX_BODY - 8) // 2)}
    text = sealed(body, issuer="a" * 64, audience="b" * 64, epoch="c" * 32, number=s.MAX_NUMBER, at=2**53)
    assert len(text) <= s.MAX_SEALED
    assert opened(text, issuer="a" * 64, audience="b" * 64, epoch=None).body == body


def test_keys_are_of_p256_or_none() -> None:
    jwk = s.public_jwk(SITE_SIG)
    for bad in ({**jwk, "y": jwk["x"]}, {**jwk, "kty": "oct"}, ECKey.generate_key("P-384"), "-----BEGIN NOTHING-----", {}):
        with pytest.raises(ValueError, match="P-256"):
            s.p256(bad)
    with pytest.raises(ValueError, match="private"):
        sealed(by_sig=jwk)
    assert s.public_jwk(SITE_SIG.as_pem(private=True)) == jwk and s.thumbprint(SITE_SIG) == s.thumbprint(jwk)
    assert "d" not in jwk
    assert s.thumbprint({**jwk, "use": "sig", "kid": "7"}) == s.thumbprint(jwk)
    for number in (0, s.MAX_NUMBER + 1):
        with pytest.raises(ValueError, match="number"):
            sealed(number=number)
