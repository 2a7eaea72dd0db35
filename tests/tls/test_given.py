"""A certificate that somebody laid there: what is wrong with it in words, and renewal behind the agent's back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeagent.errors import EdgeAgentError
from edgeagent.tls import own
from edgeagent.tls.certificate import DAY_S, examine, of_pem, shortly
from edgeagent.tls.source import GivenCertificate

NOW = 1_800_000_000.0


def lay(folder: Path, now: float = NOW) -> tuple[Path, Path]:
    """A pair, as certbot writes it."""
    data = own.make(own.new_key(), "porch", ["porch.example"], now)
    cut = data.index(b"-----BEGIN CERT")
    cert, key = folder / "fullchain.pem", folder / "privkey.pem"
    cert.write_bytes(data[cut:])
    key.write_bytes(data[:cut])
    key.chmod(0o600)
    return cert, key


def refusal(cert: Path, key: Path) -> str:
    with pytest.raises(EdgeAgentError) as caught:
        examine(cert, key)
    return str(caught.value)


def test_a_good_pair(tmp_path: Path) -> None:
    cert, key = lay(tmp_path)
    assert examine(cert, key).names == ("porch.example",)
    key.chmod(0o640)
    assert examine(cert, key).names, "a group may read it"
    loaded = GivenCertificate(cert, key, lambda: NOW).load()
    assert loaded.certificate.fingerprint in loaded.said and str(cert) in loaded.said


def test_what_is_wrong_in_words(tmp_path: Path) -> None:
    cert, key = lay(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, alien = lay(other)
    assert "http.tls.key: " in refusal(cert, alien) and "is not the key of the certificate" in refusal(cert, alien)
    assert "http.tls.cert: " in refusal(key, key) and "holds no certificate in PEM" in refusal(key, key)
    cert_as_key = tmp_path / "swapped.pem"
    cert_as_key.write_bytes(cert.read_bytes())
    cert_as_key.chmod(0o600)
    assert "holds no private key in PEM" in refusal(cert, cert_as_key)
    assert "cannot be read: No such file" in refusal(cert, tmp_path / "none.pem")
    key.chmod(0o644)
    assert f"everybody on this machine may read {key}: `chmod o= {key}`" in refusal(cert, key)


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    cert, key = lay(tmp_path)
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    locked = load_pem_private_key(key.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim")
    )
    key.write_bytes(locked)
    assert "has a passphrase" in refusal(cert, key) and "openssl pkey" in refusal(cert, key)


def test_the_sentence_for_a_key_that_we_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = lay(tmp_path)
    really = Path.open

    def opened(self: Path, *args: Any, **named: Any) -> Any:
        if self == key:
            raise PermissionError(13, "Permission denied")
        return really(self, *args, **named)

    monkeypatch.setattr(Path, "open", opened)
    said = refusal(cert, key)
    assert f"may not read {key}: `sudo chgrp " in said and f"`sudo chmod g+r {key}`" in said


def test_dates(tmp_path: Path) -> None:
    cert, _ = lay(tmp_path)
    certificate = of_pem(cert.read_bytes())
    end = certificate.not_after
    assert shortly(certificate, NOW) == ""
    assert shortly(certificate, end - 15 * DAY_S) == ""
    assert shortly(certificate, end - 13.5 * DAY_S).startswith("The certificate ends in 13 days and has not been renewed")
    assert "in 1 day and" in shortly(certificate, end - 1.5 * DAY_S)
    assert "ends today" in shortly(certificate, end - 3600)
    assert f"has ended on {certificate.last_day}" in shortly(certificate, end)
    assert "does not count yet" in shortly(certificate, certificate.not_before - 1)
    # One that lives for six days is renewed with two left.
    short = replace(certificate, not_before=end - 6 * DAY_S)
    assert shortly(short, end - 2 * DAY_S) == ""
    assert "in 1 day" in shortly(short, end - 1.1 * DAY_S)


def test_renewed_files_are_taken(tmp_path: Path) -> None:
    cert, key = lay(tmp_path)
    source = GivenCertificate(cert, key, lambda: NOW)
    first = source.load()
    assert source.look() is None
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    new_cert, new_key = lay(fresh, NOW + DAY_S)
    # One after the other, as whoever renews does it.
    os.replace(new_cert, cert)
    with pytest.raises(EdgeAgentError, match="is not the key"):
        source.look()
    with pytest.raises(EdgeAgentError, match="is not the key"):
        source.look()
    os.replace(new_key, key)
    second = source.look()
    assert second is not None
    assert second.certificate.not_after > first.certificate.not_after
    assert source.look() is None
    assert source.warning() == ""


def test_a_link_that_points_elsewhere_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        lay(tmp_path / name)
    live = tmp_path / "live"
    live.symlink_to("one")
    source = GivenCertificate(live / "fullchain.pem", live / "privkey.pem", lambda: NOW)
    source.load()
    assert source.look() is None
    live.unlink()
    live.symlink_to("two")
    assert source.look() is not None
