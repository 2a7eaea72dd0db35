"""Claims, and the sealed requests and replies of an enrolment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.errors import PeerError
from edgeagent.wire import claim as c
from edgeagent.wire import enrolment as e
from edgeagent.wire import seal, topics

TOKEN = "0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAA"
PIN = "p" * 43
WHOLE: dict[str, Any] = {
    "v": 1,
    "u": "https://site.local:8443",
    "c": PIN,
    "t": TOKEN,
    "m": "mqtts://site.local:8885",
    "s": "Haus am Berg ü",
    "p": "geheim & lang",
}
NONCE = "n" * 22
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


def test_a_claim_comes_back_from_its_own_text_and_hides_its_secrets() -> None:
    claim = c.Claim.parse(json.dumps(WHOLE))
    assert (claim.url, claim.mqtt, claim.token, claim.ssid, claim.wifi_key) == (
        WHOLE["u"],
        WHOLE["m"],
        TOKEN,
        WHOLE["s"],
        WHOLE["p"],
    )
    assert c.Claim.parse(claim.text()) == claim and json.loads(claim.text()) == WHOLE
    assert "AAAA" not in repr(claim) and "geheim" not in repr(claim)
    assert c.Claim.parse(("\ufeff" + claim.text() + "\n").encode()) == claim


def test_a_bare_token_needs_the_rest() -> None:
    assert c.Claim.parse(TOKEN, url="https://a", root_pin=PIN).url == "https://a"
    assert c.Claim.parse(TOKEN, mqtt="mqtts://a", root_pin=PIN).mqtt == "mqtts://a"
    with pytest.raises(PeerError, match="address and pin"):
        c.Claim.parse(TOKEN, url="https://a")
    with pytest.raises(PeerError, match="address and pin"):
        c.Claim.parse(TOKEN, root_pin=PIN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 2}, "another version"),
        ({"v": True}, "another version"),
        ({"x": 1}, "no claim has"),
        ({"t": TOKEN[:-1]}, "cut off"),
        ({"t": 7}, "no text"),
        ({"c": PIN + "p"}, "pin"),
        ({"u": "", "m": ""}, "no address"),
        ({"u": "http://site.local"}, "not https"),
        ({"u": "https://site.local/x"}, "not https"),
        ({"u": "https://a:b@site.local"}, "not https"),
        ({"u": "https://site.local:99999"}, "not https"),
        ({"u": "https://[site"}, "not https"),
        ({"m": "mqtt://site.local"}, "not mqtts"),
        ({"m": "mqtts://si te"}, "not mqtts"),
        ({"s": "x" * 33}, "32 bytes"),
        ({"s": "a\nb"}, "32 bytes"),
        ({"s": "\ud800"}, "UTF-8"),
        ({"p": "short"}, "8 to 63"),
        ({"s": "", "p": "longenough"}, "no network"),
    ],
)
def test_what_is_wrong_with_a_claim_is_said_without_its_secret(change: dict[str, Any], says: str) -> None:
    with pytest.raises(PeerError, match=says) as caught:
        c.Claim.parse(json.dumps(WHOLE | change))
    assert "AAAA" not in caught.value.message


def test_what_is_no_claim_is_refused() -> None:
    for text in ("", "hello", "[]", "{", b"\xff", '{"v":1,"v":1}', "[" * 500, "{}"):
        with pytest.raises(PeerError):
            c.Claim.parse(text)
    with pytest.raises(PeerError) as caught:
        c.Claim.parse("x" * 3000)
    assert caught.value.code == 413


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100)))
@settings(max_examples=60, deadline=None)
def test_no_text_raises_anything_else(text: str | bytes) -> None:
    try:
        c.Claim.parse(text)
    except PeerError:
        pass
    else:
        pytest.fail("no random text is a claim")


def test_what_is_derived_differs_by_purpose_and_names_fit_topics() -> None:
    secret = TOKEN[17:]
    mac, password = c.mac_key(secret), c.joining_password(secret)
    assert len(mac) == 32 and len(password) == 64 and mac.hex() != password and secret not in password
    # RFC 5869 with an empty salt; computed with the HKDF of another library.
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    assert HKDF(hashes.SHA256(), 32, None, b"ea-join-1").derive(secret.encode()).hex() == password
    ours, theirs = seal.new_key(), seal.new_key()
    assert c.back_password(ours, seal.public_jwk(theirs)) == c.back_password(theirs, seal.public_jwk(ours))
    for user in (c.joining_user(TOKEN[:16]), c.back_user(seal.thumbprint(ours))):
        assert topics.is_name(user) and len(user) == 18


@pytest.fixture(scope="module")
def keys() -> tuple[seal.ECKey, seal.ECKey]:
    return seal.new_key(), seal.new_key()


def request_of(keys: tuple[seal.ECKey, seal.ECKey]) -> e.EnrolRequest:
    own, enc = keys
    return e.EnrolRequest.model_validate({"nonce": NONCE, "csr": CSR, "id": seal.public_jwk(own), "enc": seal.public_jwk(enc)})


def test_a_request_is_proved_by_secret_and_key(keys: tuple[seal.ECKey, seal.ECKey]) -> None:
    secret = TOKEN[17:]
    request = request_of(keys)
    text = e.seal_enrol(request, token_id=TOKEN[:16], secret=secret, id_key=keys[0])
    assert e.what_is(text) == ("enrol", TOKEN[:16]) and e.open_enrol(text, secret) == request
    with pytest.raises(e.Unproved):
        e.open_enrol(text, "B" * 22)
    foreign = e.seal_enrol(request, token_id=TOKEN[:16], secret=secret, id_key=keys[1])
    with pytest.raises(PeerError, match="id key") as caught:
        e.open_enrol(foreign, secret)
    assert caught.value.code == 422
    # The inner part alone, or a reply, is no request: one is never taken for another.
    with pytest.raises(e.Unproved):
        e.open_enrol(e.reply_to_enrol(e.Refused(code=401, message="no", nonce=NONCE), secret), secret)


def test_a_reply_is_proved_and_belongs_to_its_request(keys: tuple[seal.ECKey, seal.ECKey]) -> None:
    secret, refused = TOKEN[17:], e.Refused(nonce=NONCE, code=202, message="wait", retry_s=30.0)
    assert e.open_enrol_reply(e.reply_to_enrol(refused, secret), secret=secret, nonce=NONCE) == refused
    site = keys[0]
    assert e.open_renew_reply(e.reply_to_renew(refused, site), site_sig=seal.public_jwk(site), nonce=NONCE) == refused
    for text, says in (
        (e.reply_to_enrol(refused, "B" * 22), "not sealed"),
        (e.reply_to_enrol(refused.model_copy(update={"nonce": "m" * 22}), secret), "another request"),
        (e.plain_refusal(429, "slowly"), "slowly"),
        (e.reply_to_renew(refused, site), "not sealed"),
        ('{"t":"refused"}', "none that a site gives"),
        ("x" * 70_000, "none that a site gives"),
    ):
        with pytest.raises(e.Unproved, match=says):
            e.open_enrol_reply(text, secret=secret, nonce=NONCE)


def test_a_renewal_is_proved_by_the_id_key_of_the_board_it_names(keys: tuple[seal.ECKey, seal.ECKey]) -> None:
    request = e.RenewRequest(nonce=NONCE, device="gate", csr=CSR)
    text = e.seal_renew(request, id_key=keys[0])
    assert e.what_is(text) == ("renew", "gate") and e.open_renew(text, seal.public_jwk(keys[0])) == request
    with pytest.raises(e.Unproved):
        e.open_renew(text, seal.public_jwk(keys[1]))


def test_headers_hold_what_they_must_and_nothing_else(keys: tuple[seal.ECKey, seal.ECKey]) -> None:
    from joserfc import jws
    from joserfc.jwk import OctKey

    secret = TOKEN[17:]
    mac = OctKey.import_key(c.mac_key(secret))
    for extra in ({"jku": "https://x"}, {"crit": ["b64"], "b64": False}, {"jwk": seal.public_jwk(keys[0])}):
        header = {"alg": "HS256", "typ": "ea-enrol+jwt", "kid": TOKEN[:16], **extra}
        text = jws.serialize_compact(header, b"a.b.c", mac, algorithms=["HS256"])
        with pytest.raises(PeerError):
            e.what_is(text)
        with pytest.raises(e.Unproved):
            e.open_enrol(text, secret)
    none = "eyJhbGciOiJub25lIiwidHlwIjoiZWEtZW5yb2wrand0Iiwia2lkIjoiMDEyMzQ1Njc4OWFiY2RlZiJ9.e30."
    with pytest.raises(PeerError):
        e.what_is(none)
