"""Orders from the command line to a board, through a real Mosquitto."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core import orders as decisions
from edgeagent.core.orders import Keep, Trial
from edgeagent.errors import EdgeAgentError
from edgeagent.mqtt.connection import BrokerConnection, BrokerOptions
from edgeagent.mqtt.url import parse_url
from edgeagent.orders.jobs import Jobs
from edgeagent.orders.obeying import Obeying, SealKeys
from edgeagent.orders.store import Store
from edgeagent.wire import seal, topics
from edgeagent.wire.codec import encode
from edgeagent.wire.messages import Up
from edgeagent_provisioning import cli, fleet, keyfiles
from edgeagent_provisioning.fleet import Order, State
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from tests.provisioning.brokers import SiteBroker
from tests.provisioning.common import NOW, PASSPHRASE

CAMERAS = {"front": {"driver": "rtsp", "url": "rtsp://ann:very-secret-word@192.0.2.7/1"}}


def with_boards(site: Site) -> None:
    now = int(time.time())
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, Board("gate", now, "planned", tags=("garden",), cameras=CAMERAS))
        site.registry.save_board(connection, Board("barn", now, "active", tags=("garden",)))


class RealBoard:
    """A board's side of orders on a connection of its own."""

    def __init__(self, broker: SiteBroker, folder: Path) -> None:
        site = broker.site
        tls, self.id, self.enc = keyfiles.new_key(), seal.new_key(), seal.new_key()
        issued = site.authority.issue_board("gate", tls.public_key(), time.time())
        keyfiles.write_public(folder / "gate.crt", issued.pem + issued.chain)
        keyfiles.write_private(folder / "gate.key", keyfiles.key_pem(tls))
        address = parse_url(f"mqtts://localhost:{broker.settings.boards_port}")
        files = (site.folder / "root.crt", folder / "gate.crt", folder / "gate.key")
        ca, cert, key = map(str, files)
        self.options = BrokerOptions(address, "gate", ca_file=ca, cert_file=cert, key_file=key)
        self.site, self.state, self.runs = site, folder / "state", 0
        self._keys = site.public_keys
        self.again = asyncio.Event()
        self.connection: BrokerConnection | None = None
        id_jwk = seal.public_jwk(self.id)
        with site.registry.transaction() as connection:
            board = site.registry.board("gate")
            assert board is not None
            changes: dict[str, Any] = {"state": "active", "id_jwk": id_jwk, "enc_jwk": seal.public_jwk(self.enc)}
            site.registry.save_board(
                connection, type(board)(**{**_values(board), **changes, "id_thumbprint": seal.thumbprint(id_jwk)})
            )

    async def run(self) -> None:
        """Run after run."""
        while True:
            self.again.clear()
            self.runs += 1
            epoch = f"run{self.runs}"
            store = Store(self.state)
            trial = Trial(store.record)
            for effect in trial.start():
                assert isinstance(effect, Keep)
                store.keep(effect.record)

            obeying = Obeying(
                device="gate",
                epoch=epoch,
                keys=SealKeys(id=self.id, enc=self.enc, site_sig=self._keys["sig"], site_enc=self._keys["enc"]),
                store=store,
                trial=trial,
                jobs=Jobs(
                    restart=lambda why: self.again.set(),
                    logs=lambda lines: "it runs\n" * lines,
                    check=lambda settings: [],
                    snapshot=self._still,
                ),
                send=self._send,
                release="1.0",
            )
            self.connection = connection = await BrokerConnection.open(
                self.options, None, topics.agent_filters("gate"), _void(obeying.received)
            )
            connection.publish(topics.up("gate"), encode(Up(up=1, epoch=epoch)), retain=True)
            obeying.connected()
            running = asyncio.create_task(obeying.run())
            try:
                await self.again.wait()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await connection.close()

    def _send(self, text: str) -> bool:
        assert self.connection is not None
        return self.connection.publish(topics.viewer_inbox("site", "gate"), text)

    async def _still(self, camera: str) -> bytes:
        return b"\xff\xd8" + bytes(60_000)


def _void(take: Callable[[str, bytes, bool], bool]) -> Callable[[str, bytes, bool], None]:
    def taken(topic: str, payload: bytes, retained: bool) -> None:
        take(topic, payload, retained)

    return taken


def _values(board: Board) -> dict[str, Any]:
    return {name: getattr(board, name) for name in Board.__slots__}


def provision(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    parser = argparse.ArgumentParser()
    cli.add(parser)
    options = parser.parse_args([*words, "--site", str(folder)])
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = options.command(options)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.realtime(block_limit_s=60)
@pytest.mark.timeout(120)
async def test_an_installer_and_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "SETTLED_S", 1.0)
    with Site.create(tmp_path / "site", "home", PASSPHRASE, time.time()) as site:
        with_boards(site)
        with SiteBroker(site, time.time()) as broker:
            gate = RealBoard(broker, tmp_path)
            task = asyncio.create_task(gate.run())
            try:
                await installer(broker, gate, tmp_path)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def installer(broker: SiteBroker, gate: RealBoard, tmp_path: Path) -> None:
    async def run(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(provision, broker.site.folder, *words)

    assert (await run("set", "--tag", "garden", "log.level=debug", "http.token=0123456789abcdef0123"))[0] == 0
    code, out, _ = await run("diff", "gate")
    assert code == 0 and '+ log.level: "debug"' in out
    assert "very-secret" not in out and "0123456789" not in out and "http.token: ***" in out

    code, out, err = await run("apply", "gate", "--yes")
    assert code == 0 and "works" in out, out + err
    assert gate.runs == 2
    (desired,) = gate.state.glob("desired.*.yaml")
    assert json.loads(desired.read_text())["http"]["token"] == "0123456789abcdef0123"
    assert "in force" in (await run("apply", "gate", "--yes"))[1]

    code, out, _ = await run("logs", "gate", "-n", "2000", "--json")
    assert code == 0 and json.loads(out)[0]["data"] == "it runs\n" * 2000
    code, out, _ = await run("snapshot", "gate", "--out", str(tmp_path / "pictures"))
    assert code == 0 and (tmp_path / "pictures" / "gate.jpg").stat().st_size == 60_002
    code, out, _ = await run("doctor", "gate")
    assert code == 1 and "broker" in out.split("gate:")[0]
    code, out, _ = await run("doctor")
    assert code == int("PROBLEM" in out) and out.startswith("this site:") and "\ngate:" not in out

    code, out, err = await run("restart", "gate")
    assert code == 0, out + err
    code, out, _ = await run("watch", "--json")
    row = next(row for row in json.loads(out) if row["name"] == "gate")
    assert (row["settings"], row["version"], row["order"]) == ("in force", "1.0", "")
    code, out, _ = await run("watch", "--once")
    assert code == 0 and "gate" in out

    kept = json.dumps([[*row] for row in broker.site.registry.rows("SELECT * FROM orders UNION ALL SELECT * FROM orders")])
    told = str([tuple(row) for row in broker.site.registry.rows("SELECT detail FROM audit")])
    assert "very-secret" not in kept + told and "0123456789" not in kept + told


def test_what_is_wrong_is_said_before_anything_is_done(site: Site) -> None:
    with_boards(site)
    site.close()  # SQLite lets go of a file's descriptors only when the last connection of the process does
    code, _, err = provision(site.folder, "set", "--board", "gate", "cameras.front.driver=test-patern")
    assert code == 1 and "no such driver" in err and "Nothing was changed" in err
    assert provision(site.folder, "set", "--board", "gate")[1] == "Nothing is set there.\n"
    for words in (["logs", "nobody"], ["logs"], ["logs", "--tag", "nowhere"], ["set", "--board", "nobody", "a=1"]):
        with pytest.raises(EdgeAgentError, match=r"no board|Name boards|No active board"):
            provision(site.folder, *words)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("doctor", '{"findings": [{"text": "fine"}]}', ['{"findings": 5}', '{"findings": [5]}', "[" * 100_000, "5", ""]),
        ("snapshot", "/9j/", ["%%%", "abc"]),
    ],
)
def test_an_answer_that_cannot_be_read_takes_away_no_other(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, good: str, bad: list[str]
) -> None:
    with_boards(site)
    site.close()
    orders: list[Order] = []

    async def carried(*told: object) -> list[Order]:
        return orders

    monkeypatch.setattr(fleet, "carry_out", carried)
    words = [kind, "--all", *(["--out", str(tmp_path / "pictures")] if kind == "snapshot" else [])]
    for data in bad:
        orders[:] = [
            Order(number, name, kind, "done", 200, "", text) for number, name, text in ((1, "barn", data), (2, "gate", good))
        ]
        code, out, err = provision(site.folder, *words)
        assert code == 1 and "barn" not in out and "gate:" in out and err == "barn: Its answer cannot be read.\n"
    told = json.loads(provision(site.folder, *words, "--json")[1])
    if kind == "snapshot":
        assert [row["state"] for row in told] == ["failed", "done"] and len(list((tmp_path / "pictures").iterdir())) == 1


def test_no_board_writes_the_line_of_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with_boards(site)
    site.close()

    async def carried(*told: object) -> list[Order]:
        return [Order(1, "barn", "restart", "failed", 422, "no\ngate: all is well\x1b[2J\r", "")]

    monkeypatch.setattr(fleet, "carry_out", carried)
    assert provision(site.folder, "restart", "barn")[2] == "barn: no\n  gate: all is well?[2J\n"


def test_waves_of_an_upgrade_are_one_document(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_boards(site)
    with site.registry.transaction() as connection:
        site.registry.save_board(connection, Board("door", NOW, "active"))
    site.close()
    (tmp_path / "house/wheels").mkdir(parents=True)
    (tmp_path / "house/requirements.txt").write_text("edgeagent==9.9\n")
    states: dict[str, State] = {"barn": "done", "door": "done"}

    async def carried(at: Site, ids: list[int], *told: object) -> list[Order]:
        return [replace(order, state=states[order.board]) for order in fleet.look(at, ids)]

    monkeypatch.setattr(fleet, "carry_out", carried)
    words = ("upgrade", "--wheelhouse", str(tmp_path / "house"), "--all", "--first", "1", "--json")
    code, out, _ = provision(site.folder, *words)
    assert code == 0 and [(row["board"], row["state"]) for row in json.loads(out)] == [("barn", "done"), ("door", "done")]
    states["barn"] = "failed"
    code, out, err = provision(site.folder, *words)
    assert (
        code == 1 and [(row["board"], row["state"]) for row in json.loads(out)] == [("barn", "failed")] and "other 1 boards" in err
    )


def test_a_board_that_is_reset_is_revoked_once_it_has_obeyed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with_boards(site)
    site.close()

    async def carried(at: Site, ids: list[int]) -> list[Order]:
        return [replace(order, state=state) for order in fleet.look(at, ids)]

    monkeypatch.setattr(fleet, "carry_out", carried)
    state: State = "failed"
    for end in ("active", "revoked"):
        if end == "active":
            with pytest.raises(EdgeAgentError, match="Not reset: barn"):
                provision(site.folder, "reset", "barn", "--yes")
        else:
            state = "done"
            assert "--replace" in provision(site.folder, "reset", "barn", "--yes")[1]
        with Site.open(site.folder) as opened:
            orders = opened.registry.rows("SELECT kind FROM orders")
            assert {row["kind"] for row in orders} == {"reset"}
            board = opened.registry.board("barn")
            assert board and board.state == end
