from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.errors import EdgeAgentError
from edgeagent_provisioning import audit, migrate
from edgeagent_provisioning.registry import Board, Registry, Token
from edgeagent_provisioning.site import Site
from tests.provisioning.common import NOW, certified, planned


def test_what_is_saved_comes_back(site: Site) -> None:
    board = Board(
        "gate-1",
        NOW,
        "active",
        serial="10000000a1b2c3d4",
        place="Nordtor – Größe",
        tags=("north", "outside"),
        cameras={"front": {"driver": "picamera2"}},
        wifi={"ssid": "Home", "psk": "not shown to anyone"},
        id_jwk={"kty": "EC"},
        id_thumbprint="t",
        online=True,
    )
    token = Token("0" * 16, "s" * 22, "bulk", NOW, NOW + 60, uses_left=3, serials=("a", "b"), prefix="cam", template={"place": "x"})
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, board)
        site.registry.save_token(connection, token)
    assert site.registry.board("gate-1") == site.registry.board_of("t") == site.registry.board_with("10000000a1b2c3d4") == board
    assert site.registry.token(token.id) == token
    assert "not shown" not in repr(board) and "sss" not in repr(token)
    assert [b.name for b in site.registry.boards(tag="north", state="active")] == ["gate-1"]
    assert site.registry.boards(tag="south") == site.registry.boards(state="planned") == []


def test_a_failure_undoes_the_whole_transaction(site: Site) -> None:
    with pytest.raises(KeyError), site.registry.transaction() as connection:
        site.registry.save_board(connection, Board("gate-1", NOW))
        raise KeyError
    assert site.registry.boards() == []


def test_a_single_token_is_for_one_identity(site: Site) -> None:
    token, registry = planned(site, "gate-1"), site.registry
    with registry.transaction() as connection:
        assert not registry.use_token(connection, token, "mine", "gate-2", NOW)  # of another board
        assert registry.use_token(connection, token, "mine", "gate-1", NOW)
        assert registry.use_token(connection, token, "mine", "gate-1", NOW + 5)  # a retry
        assert not registry.use_token(connection, token, "yours", "gate-1", NOW + 5)
        registry.forget_secret(connection, token.id)
    used = registry.token(token.id)
    assert used and (used.used_by, used.used_at, used.secret, used.valid(NOW)) == ("mine", NOW, "", False)
    assert registry.used_before(used, "mine") and not registry.used_before(used, "yours")


def test_two_processes_cannot_both_take_a_token(site: Site) -> None:
    token = planned(site, "gate-1")
    site.close()  # SQLite keeps files of closed connections while another one of this process holds the lock
    won: list[str] = []

    def take(name: str) -> None:
        registry = Registry(site.folder / "registry.sqlite3", name)
        with registry.transaction() as connection:
            if registry.use_token(connection, token, name, "gate-1", NOW):
                won.append(name)
        registry.close()

    threads = [threading.Thread(target=take, args=(f"board-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_the_end_of_a_certificate_and_its_revocation(site: Site) -> None:
    planned(site, "gate-1")
    old, new = certified(site, "gate-1", NOW), certified(site, "gate-1", NOW + 1000)
    assert site.registry.expiries() == {"gate-1": new.not_after}
    assert site.registry.certificates("board = ?", "gate-1") == [new, old]
    with site.registry.transaction() as connection:
        assert set(site.registry.revoke_certificates(connection, "gate-1", NOW + 5)) == {old.serial, new.serial}
        assert site.registry.revoke_certificates(connection, "gate-1", NOW + 6) == []
    assert site.registry.expiries() == {}
    assert dict(site.registry.revoked(NOW)) == {old.serial: NOW + 5, new.serial: NOW + 5}


def test_the_audit_log_is_chained(site: Site) -> None:
    planned(site, "gate-1")
    assert [entry.action for entry in site.registry.audited()] == ["site init", "add", "claim"]
    assert [entry.action for entry in site.registry.audited("gate-1", 1)] == ["claim"]
    assert {entry.actor for entry in site.registry.audited()} == {"ann"}
    assert site.registry.audit_problem() is None
    with pytest.raises(sqlite3.IntegrityError, match="only added to"), site.registry.transaction() as connection:
        connection.execute("UPDATE audit SET actor = 'bob' WHERE id = 2")
    with pytest.raises(sqlite3.IntegrityError, match="only added to"), site.registry.transaction() as connection:
        connection.execute("DELETE FROM audit")
    with site.registry.transaction() as connection:  # as somebody with the file could
        connection.execute("DROP TRIGGER audit_stays")
        connection.execute("DROP TRIGGER audit_remains")
        connection.execute("UPDATE audit SET actor = 'bob' WHERE id = 2")
    assert site.registry.audit_problem() == "Line 2 of the audit log was changed after it was written."
    with site.registry.transaction() as connection:
        connection.execute("DELETE FROM audit WHERE id = 2")
    assert site.registry.audit_problem() == "Line 2 of the audit log is missing."


@settings(max_examples=15)
@given(rows=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=6), data=st.data())
def test_no_row_of_the_log_can_be_changed_unnoticed(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate.apply(connection)
    rows = [(clean(one), clean(two)) for one, two in rows]
    for actor, subject in rows:
        audit.add(connection, NOW, actor, "do", subject, {"of": subject})
    query = "SELECT * FROM audit ORDER BY id"
    assert audit.problem(connection.execute(query).fetchall()) is None
    connection.execute("DROP TRIGGER audit_stays")
    number = data.draw(st.integers(1, len(rows)))
    column = data.draw(st.sampled_from(["actor", "action", "subject", "detail", "previous", "hash"]))
    connection.execute(f"UPDATE audit SET {column} = {column} || 'x' WHERE id = ?", (number,))
    assert audit.problem(connection.execute(query).fetchall()) is not None
    connection.close()


def clean(text: str) -> str:
    return text.encode("utf-8", "ignore").decode()


def test_secrets_stay_out_of_the_log(site: Site) -> None:
    with pytest.raises(ValueError, match="psk"), site.registry.transaction() as connection:
        site.registry.audit(connection, NOW, "add", "gate-1", psk="secret")
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, Board("gate-1", NOW, wifi={"ssid": "Home", "psk": "hidden-key"}))
    token = planned(site, "gate-2")
    text = json.dumps([[entry.subject, dict(entry.detail)] for entry in site.registry.audited()])
    assert token.id in text and token.secret not in text and "hidden-key" not in text


def test_migrations_run_once_each_and_a_newer_registry_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "020_later.sql").write_text("CREATE TABLE later (x TEXT DEFAULT 'a;b'); -- one; two\nCREATE TABLE other (y);")
    connection = sqlite3.connect(tmp_path / "registry.sqlite3", isolation_level=None)
    assert migrate.apply(connection, folder) == ["020_later"]
    (folder / "010_earlier.sql").write_text("ALTER TABLE later ADD COLUMN z TEXT;")  # a block of another module
    assert migrate.apply(connection, folder) == ["010_earlier"]
    assert migrate.apply(connection, folder) == []
    (folder / "030_broken.sql").write_text("CREATE TABLE half (x);\nCREATE TABLE other (y);")
    with pytest.raises(sqlite3.Error):
        migrate.apply(connection, folder)
    assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()
    (folder / "030_broken.sql").unlink()
    (folder / "020_later.sql").unlink()
    with pytest.raises(EdgeAgentError, match="newer version"):
        migrate.apply(connection, folder)
    connection.close()


def test_a_damaged_file_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(EdgeAgentError, match="Restore it from a backup"):
        Registry(path)


def test_a_full_disk_undoes_a_transaction_and_spoils_no_other(site: Site) -> None:
    registry = site.registry
    pages = registry.rows("PRAGMA page_count")[0][0]
    registry.rows(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"), registry.transaction() as connection:
            registry.audit(connection, NOW, "add", "gate", text="x" * 100_000)
    registry.rows("PRAGMA max_page_count = 100000")
    with registry.transaction() as connection:
        registry.audit(connection, NOW, "add", "gate", text="x" * 100_000)
    assert len(registry.audited("gate")) == 1 and registry.audit_problem() is None
