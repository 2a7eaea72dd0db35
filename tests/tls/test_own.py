"""The agent's own certificate: its names, when it is made anew, what is in it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeagent import files
from edgeagent.errors import EdgeAgentError
from edgeagent.tls import own
from edgeagent.tls.certificate import DAY_S, Certificate, of_der, of_pem
from edgeagent.tls.source import OwnCertificate

NOW = 1_800_000_000.0
NAMES = ["porch", "porch.local", "10.0.0.7"]


def made(names: list[str] = NAMES, now: float = NOW) -> Certificate:
    return of_pem(own.make(own.new_key(), "porch", names, now))


def test_names_are_those_that_people_type() -> None:
    names = own.wanted_names(
        device="porch",
        host="Pi-4.fritz.box.",
        listen="0.0.0.0",
        addresses=["10.0.0.7", "fd00::7", "fe80::1", "169.254.3.4"],
        more=["robot.example", "10.0.0.7"],
    )
    local = ["localhost", "127.0.0.1", "::1"]
    assert names == ["porch", "porch.local", "pi-4.fritz.box", "pi-4.local", *local, "robot.example", "10.0.0.7"]


@pytest.mark.parametrize(
    ("listen", "host", "last"),
    [
        ("fd00::5", "porch", "fd00::5"),
        ("porch.example", "porch", "porch.example"),
        ("::", "localhost", "::1"),
        ("127.0.0.1", "my_host", "::1"),
        ("127.0.0.1", "ümlaut", "::1"),
        ("127.0.0.1", "", "::1"),
        ("1.2.3.4", "999.999", "1.2.3.4"),
    ],
)
def test_what_is_no_name_is_left_out(listen: str, host: str, last: str) -> None:
    names = own.wanted_names(device="porch", host=host, listen=listen, addresses=[])
    assert names[-1] == last
    made(names)  # all of them are taken


def test_when_another_one_is_needed() -> None:
    kept = made()

    def why(certificate: Certificate = kept, wanted: list[str] = NAMES, now: float = NOW, right: bool = True) -> str:
        return own.outdated(certificate, wanted, now, clock_is_right=right)

    assert why() == ""
    assert why(wanted=["porch"]) == "", "names that are gone do no harm"
    assert why(wanted=[*NAMES, "10.0.0.8"]) == "it does not name 10.0.0.8"
    assert why(now=kept.not_after - 30 * DAY_S - 1) == ""
    assert why(now=kept.not_after - 30 * DAY_S + 1) == f"it ends on {kept.last_day}"
    assert why(now=kept.not_after + 1, right=False)
    assert why(now=kept.not_before - 1, right=False) == "", "a board without a clock begins in the past"
    assert why(now=kept.not_before - 1) == "it was made while the clock was wrong"


def test_what_browsers_ask_of_it() -> None:
    data = own.make(own.new_key(), "porch", NAMES, NOW)
    found = x509.load_pem_x509_certificate(data)
    certificate = of_pem(data)
    assert certificate.not_after - certificate.not_before < 398 * DAY_S
    assert certificate.not_before < NOW - 3600, "whose clock is a little slow takes it too"
    assert certificate.names == ("porch", "porch.local", "10.0.0.7")
    assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.OID_SERVER_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.self_signed
    der = ssl.PEM_cert_to_DER_cert(data.decode()[data.decode().index("-----BEGIN CERT") :])
    assert certificate.fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert of_der(der) == certificate


class Board:
    """What a certificate depends on."""

    def __init__(self, folder: Path) -> None:
        self.now, self.addresses, self.clock_is_right = NOW, ["10.0.0.7"], True
        self.folder = folder

    def source(self, device: str = "porch") -> OwnCertificate:
        return OwnCertificate(
            self.folder,
            device=device,
            listen="0.0.0.0",
            addresses=lambda: self.addresses,
            clock_is_right=lambda: self.clock_is_right,
            wall=lambda: self.now,
        )


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "state")


def test_it_is_kept(board: Board) -> None:
    first = board.source().load()
    file = board.folder / "https.pem"
    assert (file.stat().st_mode & 0o777, board.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in board.folder.iterdir()] == ["https.pem"]
    assert first.certificate.fingerprint in first.said
    assert board.source().load().certificate == first.certificate


def test_it_is_made_anew_with_the_same_key(board: Board) -> None:
    source = board.source()
    first = source.load().certificate
    assert source.look() is None
    board.now = first.not_after - 20 * DAY_S
    second = source.look()
    assert second is not None
    assert second.certificate.not_after > first.not_after
    assert second.certificate.fingerprint != first.fingerprint
    assert second.certificate.key_fingerprint == first.key_fingerprint
    assert source.look() is None
    assert board.source().load().certificate == second.certificate


def test_a_board_between_two_networks_keeps_one(board: Board) -> None:
    source = board.source()
    source.load()
    board.addresses = ["192.168.1.7"]
    both = source.look()
    assert both is not None
    assert {"10.0.0.7", "192.168.1.7"} <= set(both.certificate.names)
    board.addresses = ["10.0.0.7"]
    assert source.look() is None
    # However often it moves, it does not grow for ever.
    for network in (1, 2):
        board.addresses = [f"10.{network}.0.{number}" for number in range(10)]
        assert source.look() is not None
    last = board.source().load().certificate
    assert len(last.names) <= 24 and {"porch", "10.2.0.9"} <= set(last.names)


def test_what_is_damaged_or_was_open_to_others_is_made_anew(board: Board) -> None:
    first = board.source().load().certificate
    file = board.folder / "https.pem"
    file.chmod(0o644)
    second = board.source().load().certificate
    assert second.key_fingerprint != first.key_fingerprint
    for data in (b"", file.read_bytes()[:300], b"\xff" * 100):
        file.write_bytes(data)
        assert board.source().load().certificate.names == first.names
    assert file.stat().st_mode & 0o777 == 0o600


def test_on_a_full_disk_the_agent_comes_up_with_the_old_one(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    first = board.source().load().certificate
    board.addresses = ["192.168.1.7"]  # so that another one is due

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files, "write", full)
        source = board.source()
        assert source.load().certificate == first
        with pytest.raises(EdgeAgentError, match="No space left on device"):  # which the door tells
            source.look()
    later = source.look()
    assert later is not None and "192.168.1.7" in later.certificate.names


def test_on_a_full_disk_without_one_it_comes_up_with_one_in_memory(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is kept as soon as there is room, and is shown until then."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files, "write", full)
        source = board.source()
        first = source.load()
        assert "No space left on device" in first.said and shown(first.context) == first.certificate
        assert source.look() is None
    assert source.look() is None
    assert board.source().load().certificate == first.certificate
    with monkeypatch.context() as disk:
        disk.setattr(files, "write", full)
        assert source.look() is None


def shown(context: ssl.SSLContext) -> Certificate:
    """What a browser would see."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = stranger.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for end in client, server, client:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return of_der(client.getpeercert(binary_form=True) or b"")


def test_a_folder_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    with pytest.raises(EdgeAgentError, match=r"cannot be kept in .*https\.pem: .*--state"):
        Board(tmp_path / "state").source().load()


def test_another_key_in_the_file_is_replaced(board: Board) -> None:
    first = board.source().load().certificate
    file = board.folder / "https.pem"
    data = file.read_bytes()
    for alien in (Ed25519PrivateKey.generate(), own.new_key()):
        file.write_bytes(
            alien.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + data[data.index(b"-----BEGIN CERT") :]
        )
        found = board.source().load().certificate
        assert (found.names, found.key_fingerprint != first.key_fingerprint) == (first.names, True)


def test_dates_in_words() -> None:
    certificate = replace(made(), not_after=1_832_889_600.0)
    assert certificate.last_day == "2028-01-31"
