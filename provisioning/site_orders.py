"""The site's side of sealed orders: takes them from the registry, seals and sends them, opens what boards tell, and writes it down.

Commands put orders into the table `orders` (`fleet`); the one process that is on the broker as `site` works them off. One order
is under way for each board; the next waits:

    waiting   sent once the board is online; failed when it expires before
    sent      sent again as it is until answered; sealed anew where the board has begun another run, or says that it is stale, by
              the board's clock then; failed once no board obeys it any more (`core.orders.VALID_S`)
    begun     a board tries settings or a release: its next run tells what became of it
    done, failed

What the broker says (who is online, in which run) decides only when something is sent; what a board says counts by its seal.
Nothing here waits: `work` returns what is to be published now.
"""

from __future__ import annotations

__all__ = ["Outgoing", "SiteOrders", "put"]

import json
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeagent.core.orders import VALID_S, next_number
from edgeagent.errors import PeerError
from edgeagent.wire import orders as o
from edgeagent.wire import seal, topics
from edgeagent_provisioning import settings as desired
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site

_log = logging.getLogger(__name__)
_AGAIN_S = 5.0
_SLOW_S = 30.0  # the first answer of what takes its time
_TRIES = 4
_BEGUN_S = {"settings": 240.0, "upgrade": 3_600.0}
_ANSWERED_S = {"doctor": 150.0, "snapshot": 60.0, "upgrade": 3_600.0}
_GIVEN_UP = 504
_ENDS = 3.0  # times that, from when it was first sent: whatever the board says meanwhile, and in however many runs
_NOT_AGAIN = ("restart", "transfer", "reset")  # of which nobody knows, once the board runs anew, whether it was obeyed
_KEPT_S = 86_400.0
_MOST_BYTES = 2_000_000
_ASKED_S = 60.0
_FOREVER_S = 10 * 365 * 86_400.0
_FAR = 2**40  # numbers ahead of ours that a board may have obeyed; by the clock in ms, which counts them, 35 years

_UNHEARD = """
SELECT 1 FROM boards WHERE name = ? AND enrolled_at IS NOT NULL
AND (state = 'planned' OR (state = 'active' AND EXISTS (
    SELECT 1 FROM certificates WHERE board = name AND used_at IS NULL AND revoked_at IS NULL
    AND issued_at >= (SELECT coalesce(max(issued_at), 0) FROM certificates WHERE board = name AND used_at IS NOT NULL))))
AND NOT EXISTS (SELECT 1 FROM orders WHERE board = name AND kind = 'ping' AND state IN ('waiting', 'sent'))"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """To be published, QoS 1."""

    topic: str
    text: str


@dataclass(slots=True)
class _Sent:
    """An order under way."""

    id: int
    kind: str
    epoch: str
    text: str
    since: float
    sealed: float
    at: float
    tries: int = 1
    said: str = ""
    parts: dict[int, str] = field(default_factory=dict)


class SiteOrders:
    """Not for several threads at once; each call may wait for the disk.

    Args:
        site: The open site.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._registry = site.registry
        self._sig, self._enc = seal.p256(site.keys["sig"]), seal.p256(site.keys["enc"])
        self._epochs: dict[str, str] = {}
        self._proved: dict[str, str] = {}  # the same as sealed by the board, not as the broker tells it
        self._sent: dict[str, _Sent] = {}
        self._missed: set[str] = set()
        self._stales: dict[int, int] = {}
        self._clocks: dict[int, float] = {}  # by order, how far the clock of its board is ahead of ours
        self._not_before: dict[int, float] = {}
        self._pruned_at = 0.0
        with self._registry.transaction() as connection:
            # What a process before us had under way: none of these does harm twice.
            connection.execute(
                f"UPDATE orders SET state = 'waiting' WHERE state = 'sent' AND kind NOT IN ({', '.join('?' * len(_NOT_AGAIN))})",
                _NOT_AGAIN,
            )

    # What the broker and the boards say

    def up(self, board: str, epoch: str, online: bool, *, missed: bool = False) -> None:
        """The broker says that a board is there, or is no longer.

        Args:
            missed: Whether it was there before us: what it said when it came may have found nobody.
        """
        if online:
            self._epochs[board] = epoch
            if missed:
                self._missed.add(board)
        else:
            self._epochs.pop(board, None)

    def report(self, name: str, envelope: str | bytes, now: float) -> None:
        """A board says something.

        Raises:
            PeerError: 401 it is not sealed by that board, 403 no such board, 400 it cannot be read; nothing has changed.
        """
        board = self._registry.board(name)
        if board is None or board.id_jwk is None or board.state == "revoked":
            raise PeerError(403, "No board of this site is called so.")
        opened = seal.unseal(envelope, with_enc=self._enc, from_sig=board.id_jwk, issuer=name, audience=o.SITE, typ=seal.ANSWER)
        told = o.decode_report(opened.body)
        if isinstance(told, o.Here):
            self._here(board, told, opened, now)
        else:
            self._answer(board, told, opened, now)

    def _here(self, board: Board, told: o.Here, opened: seal.Opened, now: float) -> None:
        row = self._fleet(board)
        if opened.number <= row["heard"]:
            return  # replayed, or overtaken
        self._epochs[board.name] = self._proved[board.name] = opened.epoch
        with self._registry.transaction() as connection:
            self._keep(connection, board, heard=opened.number, thumbprint=board.id_thumbprint or "")
            self._in_force(connection, board, told, "" if told.trial else told.text)
            if not told.trial:
                self._tried(connection, board, told, now)
        self._reconcile(board, told, now)

    def _answer(self, board: Board, told: o.OrderAnswer, opened: seal.Opened, now: float) -> None:
        rows = self._registry.rows("SELECT * FROM orders WHERE board = ? AND number = ?", (board.name, told.re))
        order = rows[0] if rows else None
        sent = self._sent.get(board.name)
        if order is None or order["state"] not in ("sent", "begun"):
            if order is not None and order["kind"] == "settings" and order["code"] == _GIVEN_UP and told.code != 202:
                self._late_outcome(board, told, opened)
            return  # answered before, or of another site's time
        if told.code == 409 and (told.after or opened.epoch != (sent.epoch if sent else "")) and order["state"] == "sent":
            self._stale(board, order, told, opened, now)
            return
        if told.code == 429 and sent:
            sent.at, sent.tries, sent.said = now, sent.tries - 1, told.text
            return
        if told.code == 202 and order["state"] == "begun":
            return  # its time is counted from the first of these
        if told.code == 409 and order["kind"] == "settings" and order["state"] == "sent":
            self._later(order, told.text, now)
            return
        data = told.data
        if told.parts > 1:
            parts = sent.parts if sent and sent.id == order["id"] else {}
            if told.part < told.parts and sum(map(len, parts.values())) <= _MOST_BYTES:
                parts[told.part] = told.data
            if len(parts) < told.parts or sum(map(len, parts.values())) > _MOST_BYTES:
                if sent:
                    sent.at = now  # it is coming
                return
            data = "".join(parts[number] for number in sorted(parts))
        self._epochs[board.name] = opened.epoch
        state = "begun" if told.code == 202 else "done" if told.code < 300 else "failed"
        with self._registry.transaction() as connection:
            self._in_force(connection, board, told, None)
            if order["kind"] == "settings" and state in ("done", "failed"):
                self._settled(connection, board, order, state == "done", told.text)
            self._close(connection, order, state, told.code, told.text, data, now)
        if state != "begun" or order["state"] == "begun":
            self._sent.pop(board.name, None)

    def _late_outcome(self, board: Board, told: o.OrderAnswer, opened: seal.Opened) -> None:
        """What became of settings after all: the board was away when we gave up waiting."""
        if opened.number <= self._fleet(board)["heard"]:
            return  # replayed
        with self._registry.transaction() as connection:
            self._in_force(connection, board, told, told.text[:4000] if told.code >= 300 else "")
            self._keep(connection, board, heard=opened.number, **({"refused": ""} if told.code < 300 else {}))

    def _later(self, order: sqlite3.Row, why: str, now: float) -> None:
        """Other settings are on trial there, as in the first minute of a board: once more in a while, until the order expires."""
        self._sent.pop(order["board"], None)
        self._not_before[order["id"]] = now + _AGAIN_S
        with self._registry.transaction() as connection:
            connection.execute(
                "UPDATE orders SET state = 'waiting', text = ?, changed_at = ? WHERE id = ?", (why[:4000], now, order["id"])
            )

    def _stale(self, board: Board, order: sqlite3.Row, told: o.OrderAnswer, opened: seal.Opened, now: float) -> None:
        """Our copy of the board's run or of its numbers is old, as after a backup: the board has said how it is."""
        self._sent.pop(board.name, None)
        self._epochs[board.name] = opened.epoch
        stale = self._stales.get(order["id"], 0) + 1
        if told.after > next_number(self._fleet(board)["sent"], now) + _FAR:  # it would leave us no numbers
            text = "The board says that it has obeyed a number which this site never reaches: `revoke` it, then `add --replace`."
            self._fail(order, 409, text, now)
            return
        with self._registry.transaction() as connection:
            self._keep(connection, board, sent=max(self._fleet(board)["sent"], told.after))
            if stale >= _TRIES:
                self._close(connection, order, "failed", 409, told.text, "", now)
            else:
                connection.execute("UPDATE orders SET state = 'waiting', changed_at = ? WHERE id = ?", (now, order["id"]))
        self._stales[order["id"]] = stale
        if opened.at < seal.MAX_NUMBER:  # else no clock says so
            self._clocks[order["id"]] = opened.at - now

    # What is to be done

    def work(self, now: float) -> list[Outgoing]:
        """What is to be published now; to be called at every change and at least each second or two."""
        self._prune(now)
        self._ask(now)
        found: list[Outgoing] = []
        rows = self._registry.rows("SELECT * FROM orders WHERE state IN ('waiting', 'sent', 'begun') ORDER BY board, id")
        first: dict[str, sqlite3.Row] = {}
        for row in rows:
            first.setdefault(row["board"], row)
        for name, order in first.items():
            try:
                outgoing = self._next(name, order, now)
            except (OSError, sqlite3.Error):
                raise  # of the site, not of this board
            except Exception:  # a bug of ours, which shall not hold up the others
                _log.exception("an order to %s could not be handled", name)
                self._fail(order, 500, "The site could not handle this order; its log says why.", now)
                continue
            if outgoing:
                found.append(outgoing)
        for order in rows:  # those behind may expire while they wait
            if order["state"] == "waiting" and order["expires_at"] <= now and order is not first[order["board"]]:
                self._fail(order, 504, _late(order), now)
        return found

    def _ask(self, now: float) -> None:
        """Have boards say again that they are here, of which the registry lacks that: they would stay `planned`, or a certificate
        unused and the one before it in force, until they connect the next time."""
        for name in tuple(self._missed):
            if self._registry.rows(_UNHEARD, (name,)):
                with self._registry.transaction() as connection:
                    put(connection, name, {"v": 1, "t": "ping"}, now, now + _ASKED_S)
            self._missed.discard(name)

    def _next(self, name: str, order: sqlite3.Row, now: float) -> Outgoing | None:
        epoch, sent = self._epochs.get(name), self._sent.get(name)
        if order["state"] == "begun":
            if now - order["changed_at"] > _BEGUN_S.get(order["kind"], _SLOW_S):
                text = "The board tries it and has not said what became of it."
                board = self._registry.board(name)
                if order["kind"] == "settings" and board:  # it tries again by itself, or goes back: neither needs them once more
                    with self._registry.transaction() as connection:
                        self._settled(connection, board, order, False, text)
                self._fail(order, _GIVEN_UP, text, now)
            return None
        if order["state"] == "sent" and (sent is None or sent.id != order["id"]):
            self._fail(order, 504, "Whether the board has obeyed is not known.", now)
            return None
        if order["state"] == "waiting" or sent is None:
            if order["expires_at"] <= now:
                self._fail(order, 504, _late(order), now)
                return None
            return self._send(name, order, epoch, now) if epoch and self._not_before.get(order["id"], now) <= now else None
        limit = _ANSWERED_S.get(sent.kind, _SLOW_S)
        held = now - sent.sealed <= VALID_S  # it might still be obeyed, were we to say that it has failed
        if now - sent.since > _ENDS * limit:
            if held:
                return None
            self._fail(order, 504, sent.said or "The board did not come to an end with it.", now)
            return None
        if epoch and epoch != sent.epoch:
            if sent.kind != "restart":  # a board that still has our keys has neither been transferred nor reset
                return self._send(name, order, epoch, now)
            if self._proved.get(name) == epoch:  # it runs anew, which is what was wanted, or as good as
                self._finish(order, "done", 200, "The board runs anew.", now)
                return None
        if not held and now - sent.since > limit and (sent.tries >= _TRIES or not epoch):
            self._fail(order, 504, "The board does not answer." if epoch else "The board is away.", now)
            return None
        if epoch and now - sent.at >= min(_AGAIN_S * 2 ** (sent.tries - 1), limit):
            sent.at, sent.tries = now, sent.tries + 1
            return Outgoing(topics.device_inbox(name, o.SITE), sent.text)
        return None

    def _send(self, name: str, order: sqlite3.Row, epoch: str, now: float) -> Outgoing | None:
        board = self._registry.board(name)
        if board is None or board.enc_jwk is None or board.state == "revoked":
            self._fail(order, 410, "This board is not of this site any more, or not yet.", now)
            return None
        number = next_number(self._fleet(board)["sent"], now)
        try:
            text = seal.seal(
                json.loads(order["body"]),
                to_enc=board.enc_jwk,
                by_sig=self._sig,
                issuer=o.SITE,
                audience=name,
                epoch=epoch,
                number=number,
                at=max(0, int(now + self._clocks.get(order["id"], 0.0))),
            )
        except PeerError as error:
            self._fail(order, error.code, error.message, now)
            return None
        except ValueError as error:  # what the board has told of its run, or of its numbers, cannot be sealed
            self._fail(order, 422, f"This order cannot be sealed: {error}.", now)
            return None
        with self._registry.transaction() as connection:  # before it leaves: no number is ever used twice
            self._keep(connection, board, sent=number)
            connection.execute(
                "UPDATE orders SET state = 'sent', number = ?, changed_at = ? WHERE id = ?", (number, now, order["id"])
            )
        before = self._sent.get(name)
        again = before if before and before.id == order["id"] else None
        since, said = (again.since, again.said) if again else (now, "")
        self._sent[name] = _Sent(order["id"], order["kind"], epoch, text, since, now, now, said=said)
        return Outgoing(topics.device_inbox(name, o.SITE), text)

    def _reconcile(self, board: Board, told: o.Here, now: float) -> None:
        """A board that has just come gets the settings that it is to have, unless it could not use them."""
        row = self._fleet(board)
        if row["released"] is None:
            wanted = desired.of_board(self._site, board)
            if wanted is None:
                return
            with self._registry.transaction() as connection:
                self._keep(
                    connection, board, released=json.dumps(wanted, ensure_ascii=False), released_version=o.settings_version(wanted)
                )
            row = self._fleet(board)
        version = row["released_version"]
        query = "SELECT state FROM orders WHERE board = ? AND kind = 'settings'"
        states = {found["state"] for found in self._registry.rows(query, (board.name,))}
        if told.trial or version in (told.settings, row["refused"]) or states & {"waiting", "sent", "begun"}:
            return
        if version == told.refused and not states:  # the first ones, which came with the certificate and not by an order
            with self._registry.transaction() as connection:
                self._keep(connection, board, refused=version)
            return
        body = {"v": 1, "t": "settings", "settings": json.loads(row["released"]), "version": version}
        with self._registry.transaction() as connection:
            put(connection, board.name, body, now, now + _FOREVER_S)

    # In the registry

    def _fleet(self, board: Board) -> Mapping[str, Any]:
        rows = self._registry.rows("SELECT * FROM fleet WHERE board = ?", (board.name,))
        found = (
            dict(rows[0])
            if rows
            else {"sent": 0, "heard": 0, "released": None, "released_version": "", "refused": "", "thumbprint": ""}
        )
        if found["thumbprint"] != (board.id_thumbprint or ""):
            found["heard"] = 0  # another board under the same name counts from the beginning
        return found

    def _keep(self, connection: sqlite3.Connection, board: Board, **values: Any) -> None:
        connection.execute("INSERT OR IGNORE INTO fleet (board) VALUES (?)", (board.name,))
        changes = ", ".join(f"{name} = ?" for name in values)
        connection.execute(f"UPDATE fleet SET {changes} WHERE board = ?", (*values.values(), board.name))

    def _in_force(self, connection: sqlite3.Connection, board: Board, told: o.Here | o.OrderAnswer, note: str | None) -> None:
        self._keep(connection, board, effect=told.settings, **({} if note is None else {"note": note}))
        if told.release and told.release != board.version:
            connection.execute("UPDATE boards SET version = ? WHERE name = ?", (told.release, board.name))

    def _tried(self, connection: sqlite3.Connection, board: Board, told: o.Here, now: float) -> None:
        """A run without a trial ends what was tried, also where the answer about it got lost."""
        query = "SELECT * FROM orders WHERE board = ? AND state = 'begun' AND kind = 'settings'"
        for order in connection.execute(query, (board.name,)).fetchall():
            kept = json.loads(order["body"])["version"] == told.settings
            text = told.text or ("The settings are in force." if kept else "The board went back to what it had.")
            self._settled(connection, board, order, kept, text)
            self._close(connection, order, "done" if kept else "failed", 200 if kept else 422, text, "", now)
            self._sent.pop(board.name, None)

    def _settled(self, connection: sqlite3.Connection, board: Board, order: sqlite3.Row, kept: bool, text: str) -> None:
        version = json.loads(order["body"])["version"]
        self._keep(connection, board, **({"refused": "", "note": ""} if kept else {"refused": version, "note": text[:4000]}))

    def _close(
        self, connection: sqlite3.Connection, order: sqlite3.Row, state: str, code: int, text: str, data: str, now: float
    ) -> None:
        body = order["body"] if state == "begun" else ""
        connection.execute(
            "UPDATE orders SET state = ?, code = ?, text = ?, data = ?, body = ?, changed_at = ? WHERE id = ?",
            (state, code, text, data, body, now, order["id"]),
        )
        if state != "begun":
            self._registry.audit(connection, now, f"order {order['kind']}", order["board"], state=state, code=code)

    def _finish(self, order: sqlite3.Row, state: str, code: int, text: str, now: float) -> None:
        self._sent.pop(order["board"], None)
        with self._registry.transaction() as connection:
            self._close(connection, order, state, code, text, "", now)

    def _fail(self, order: sqlite3.Row, code: int, text: str, now: float) -> None:
        self._finish(order, "failed", code, text, now)

    def _prune(self, now: float) -> None:
        if not 0 <= now - self._pruned_at < 3_600:
            self._pruned_at = now
            with self._registry.transaction() as connection:
                self._stales.clear()
                self._clocks.clear()
                self._not_before.clear()
                connection.execute("DELETE FROM orders WHERE state IN ('done', 'failed') AND changed_at < ?", (now - _KEPT_S,))


def _late(order: sqlite3.Row) -> str:
    if order["kind"] == "settings":
        return order["text"] or "The board is away; it gets them when it comes."
    return "The board was not there in time."


def put(connection: sqlite3.Connection, board: str, body: Mapping[str, Any], now: float, expires_at: float) -> int:
    """Have an order sent, inside a transaction; returns its id."""
    text = json.dumps(o.decode_order(body).model_dump(mode="json"), ensure_ascii=False)
    done = connection.execute(
        "INSERT INTO orders (board, kind, body, created_at, expires_at, changed_at) VALUES (?, ?, ?, ?, ?, ?)",
        (board, body["t"], text, now, expires_at, now),
    )
    assert done.lastrowid is not None
    return done.lastrowid
