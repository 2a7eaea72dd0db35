"""What one board can do to the orders of all others: nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from edgeagent.errors import PeerError
from edgeagent.mqtt.connection import BrokerOptions
from edgeagent.mqtt.url import parse_url
from edgeagent.wire import orders as o
from edgeagent.wire import seal
from edgeagent.wire.codec import encode
from edgeagent.wire.messages import Up
from edgeagent_provisioning.broker_side import BrokerSide
from edgeagent_provisioning.fleet import Carrier, Order, look
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.service import Service
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import Outgoing, SiteOrders, put
from tests.provisioning.common import NOW


class Hostile:
    """An enrolled board, `gate`, that says what it likes; beside `barn`, which waits for an order."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.id, self.enc = seal.new_key(), seal.new_key()
        self.orders = SiteOrders(site)
        self.ids: dict[str, int] = {}
        self._number = 0
        with site.registry.transaction() as connection:
            for name in ("barn", "gate"):
                id_jwk = seal.public_jwk(self.id if name == "gate" else seal.new_key())
                board = Board(name, NOW, "active", id_jwk=id_jwk, id_thumbprint=name, enc_jwk=seal.public_jwk(self.enc))
                site.registry.save_board(connection, board)
                self.ids[name] = put(connection, name, {"v": 1, "t": "ping"}, NOW, NOW + 600)

    def work(self, now: float = NOW) -> dict[str, Outgoing]:
        """What leaves, by board; both are online."""
        for name in self.ids:
            self.orders.up(name, "e1", True)
        return {outgoing.topic.split("/")[3]: outgoing for outgoing in self.orders.work(now)}

    def number(self) -> int:
        """Of the order to `gate`."""
        return int(self.site.registry.rows("SELECT number FROM orders WHERE board = 'gate'")[0]["number"])

    def says(self, body: dict[str, Any], epoch: str = "e1", now: float = NOW) -> None:
        """Seal and report."""
        self._number += 1
        keys = self.site.public_keys
        text = seal.seal(
            {"v": 1, "t": "answer", "re": self.number(), **body},
            to_enc=keys["enc"],
            by_sig=self.id,
            issuer="gate",
            audience="site",
            epoch=epoch,
            number=self._number,
            typ=seal.ANSWER,
        )
        self.orders.report("gate", text, now)

    def order(self, board: str) -> Order:
        return look(self.site, [self.ids[board]])[0]


@pytest.mark.parametrize("after", [2**42, 2**53 - 1])
def test_a_number_out_of_reach_ends_that_order_and_no_other(site: Site, after: int) -> None:
    board = Hostile(site)
    assert board.work().keys() == {"barn", "gate"}
    board.says({"code": 409, "after": after})
    failed = board.order("gate")
    assert (failed.state, failed.code) == ("failed", 409) and "--replace" in failed.text
    assert site.registry.rows("SELECT sent FROM fleet WHERE board = 'gate'")[0]["sent"] == NOW * 1000
    board.orders = SiteOrders(site)  # begun anew
    assert board.work().keys() == {"barn"}


def test_a_registry_that_has_no_numbers_left_for_a_board_serves_the_others(site: Site) -> None:
    board = Hostile(site)
    with site.registry.transaction() as connection:
        connection.execute("INSERT INTO fleet (board, sent) VALUES ('gate', ?)", (2**53 - 1,))
    assert board.work().keys() == {"barn"}
    assert board.order("gate").state == "failed" and "number" in board.order("gate").text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"code": 429, "text": "busy"}, "busy"),
        ({"code": 202}, "has not said"),
        ({"code": 200, "part": 0, "parts": 3}, "to an end"),
        (None, "to an end"),  # it only runs anew each time
    ],
)
def test_an_order_ends_whatever_the_board_goes_on_saying(site: Site, body: dict[str, Any] | None, text: str) -> None:
    board = Hostile(site)
    for number in range(100):
        now = NOW + 4.0 * number
        board.work(now)
        if not board.order("gate").open:
            break
        if body is not None:
            board.says(body, now=now)
        else:
            board.orders.up("gate", f"e{number + 2}", True)
            board.orders.work(now)
    order = board.order("gate")
    assert order.state == "failed" and text in order.text


@pytest.mark.parametrize(
    "body", [{"code": 2**70}, {"code": 600}, {"code": 409, "after": 2**70}, {"code": 409, "after": -1}, {"part": 10**30}]
)
def test_figures_out_of_range_are_refused_before_they_are_written(site: Site, body: dict[str, Any]) -> None:
    board = Hostile(site)
    board.work()
    with pytest.raises(PeerError) as caught:
        board.says(body)
    assert caught.value.code == 400 and board.order("gate").state == "sent"


def test_text_that_no_file_can_hold_is_mended() -> None:
    told = o.decode_report({"v": 1, "t": "answer", "re": 1, "data": "a\ud800ü"})
    assert isinstance(told, o.OrderAnswer) and told.data == "a?ü"


def test_a_run_that_cannot_be_sealed_for_ends_that_order_only(site: Site) -> None:
    board = Hostile(site)
    board.orders.up("gate", "\ud800", True)
    board.orders.up("barn", "e1", True)
    assert [outgoing.topic.split("/")[3] for outgoing in board.orders.work(NOW)] == ["barn"]
    assert board.order("gate").state == "failed"


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), sqlite3.OperationalError("disk full")])
async def test_orders_go_on_after_a_fault(site: Site, fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Hostile(site)
    published: list[str] = []
    failing = {"barn"}
    real = SiteOrders._next

    def next_(self: SiteOrders, name: str, order: sqlite3.Row, now: float) -> Outgoing | None:
        if name in failing:
            raise fault
        return real(self, name, order, now)

    async def on_thread(job: Callable[[], Any]) -> Any:
        return job()

    def publish(topic: str, text: str) -> bool:
        published.append(topic.split("/")[3])
        return True

    monkeypatch.setattr(SiteOrders, "_next", next_)
    carrier = Carrier(site, publish, on_thread)
    for name in board.ids:
        carrier.up(name, encode(Up(up=1, epoch="e1")).encode())
    task = asyncio.create_task(carrier.run())
    await asyncio.sleep(2)
    if isinstance(fault, RuntimeError):
        assert published == ["gate"] and board.order("barn").code == 500
    else:
        assert published == []  # of the site: all wait, and are tried again
        failing.clear()
        await asyncio.sleep(2)
        assert sorted(published) == ["barn", "gate"]
    for name in ("work", "report"):
        monkeypatch.setattr(SiteOrders, name, lambda self, *told: 1 / 0)
    await asyncio.sleep(2)
    await carrier.report("gate", b"")
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_service_goes_on_after_a_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(site, "127.0.0.1", 0)
    side = BrokerSide(service, site, lambda: BrokerOptions(address=parse_url("mqtts://localhost"), client_id="site"))
    monkeypatch.setattr(service.enrolling, "here", lambda *told: 1 / 0)
    await side._enrolled("gate", b"1.2.3.4.5")
    await service.close()
