"""Orders to many boards: put into the registry by a command, carried out by whoever is on the broker as the site, and watched."""

from __future__ import annotations

__all__ = ["Carrier", "Order", "Progress", "boards_of", "carry_out", "release", "stale_boards"]

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from edgeagent.errors import EdgeAgentError, PeerError
from edgeagent.wire import topics
from edgeagent.wire.codec import decode_up
from edgeagent.wire.orders import SITE, settings_version
from edgeagent_provisioning import settings as desired
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import SiteOrders, put

T = TypeVar("T")
_log = logging.getLogger(__name__)
State: TypeAlias = Literal["waiting", "sent", "begun", "done", "failed"]
_OPEN: tuple[str, ...] = get_args(State)[:3]
_WORK_S = 1.0
_LOOK_S = 0.3


@dataclass(frozen=True, slots=True)
class Order:
    """How an order stands. `text` is for a person, `data` what was asked for."""

    id: int
    board: str
    kind: str
    state: State
    code: int
    text: str
    data: str

    @property
    def open(self) -> bool:
        """Whether something is still to come."""
        return self.state in _OPEN


class Progress(Protocol):
    """Told how the orders of a command stand, whenever one has changed."""

    def __call__(self, orders: Sequence[Order], /) -> None: ...


def boards_of(site: Site, names: Iterable[str], tags: Iterable[str] = (), everyone: bool = False) -> list[Board]:
    """The active boards that are meant, by name; each once.

    Raises:
        EdgeAgentError: One is not known or not active, a tag is on none, or nobody is meant.
    """
    found: dict[str, Board] = {}
    for name in names:
        board = site.registry.board(name)
        if board is None:
            raise EdgeAgentError(f"There is no board {name[:80]!r}: `edgeagent provision list` shows all.")
        if board.state != "active":
            raise EdgeAgentError(f"{name} is {board.state}: only boards that have come can be given orders.")
        found[name] = board
    for tag in tags:
        tagged = site.registry.boards(tag=tag, state="active")
        if not tagged:
            raise EdgeAgentError(f"No active board has the tag {tag[:80]!r}: `edgeagent provision list` shows tags.")
        found |= {board.name: board for board in tagged}
    if everyone:
        found |= {board.name: board for board in site.registry.boards(state="active")}
    if not found and everyone:
        raise EdgeAgentError("No board is active yet: those that have come can be given orders (`edgeagent provision list`).")
    if not found:
        raise EdgeAgentError("Name boards, or give --tag TAG, or --all.")
    return [found[name] for name in sorted(found)]


def give(site: Site, bodies: Mapping[str, Mapping[str, Any]], now: float, patience_s: float) -> list[int]:
    """Put one order for each board into the registry; their ids."""
    with site.registry.transaction() as connection:
        return [put(connection, board, body, now, now + patience_s) for board, body in bodies.items()]


def release(site: Site, boards: Iterable[Board], now: float, patience_s: float) -> list[int]:
    """Let boards run by the settings that are wanted now, and order it; ids of the orders. Settings must have been checked."""
    found = []
    with site.registry.transaction() as connection:
        for board in boards:
            wanted = desired.of_board(site, board) or {}
            version = settings_version(wanted)
            connection.execute("INSERT OR IGNORE INTO fleet (board) VALUES (?)", (board.name,))
            connection.execute(
                "UPDATE fleet SET released = ?, released_version = ?, refused = '' WHERE board = ?",
                (json.dumps(wanted, ensure_ascii=False), version, board.name),
            )
            # What was ordered before and never left is overtaken.
            connection.execute(
                "UPDATE orders SET state = 'failed', text = 'Newer settings were ordered.', body = '', changed_at = ?"
                " WHERE board = ? AND kind = 'settings' AND state = 'waiting'",
                (now, board.name),
            )
            body = {"v": 1, "t": "settings", "settings": wanted, "version": version}
            found.append(put(connection, board.name, body, now, now + patience_s))
            site.registry.audit(connection, now, "apply", board.name, version=version)
    return found


def released(site: Site, board: str) -> tuple[dict[str, Any] | None, str]:
    """The settings that a board was last told to run by, and the version that it says is in force."""
    rows = site.registry.rows("SELECT released, effect FROM fleet WHERE board = ?", (board,))
    if not rows:
        return None, ""
    return (json.loads(rows[0]["released"]) if rows[0]["released"] is not None else None), rows[0]["effect"]


def stale_boards(site: Site, boards: Iterable[Board]) -> list[Board]:
    """Those whose wanted settings are not the ones in force."""
    found = []
    for board in boards:
        wanted = desired.of_board(site, board)
        if wanted is not None and settings_version(wanted) != released(site, board.name)[1]:
            found.append(board)
    return found


def look(site: Site, ids: Sequence[int]) -> list[Order]:
    """How these orders stand, in their order."""
    marks = ", ".join("?" * len(ids))
    rows = {row["id"]: row for row in site.registry.rows(f"SELECT * FROM orders WHERE id IN ({marks})", ids)}
    names = Order.__slots__
    return [Order(**{name: rows[number][name] for name in names}) for number in ids if number in rows]


async def carry_out(
    site: Site, ids: Sequence[int], progress: Progress = lambda orders: None, *, link: Link | None = None
) -> list[Order]:
    """Wait until these orders are done or have failed. Where no `provision serve` runs, this process goes on the broker itself.

    Raises:
        EdgeAgentError: The broker cannot be reached from here.
    """
    before: list[Order] = []
    try:
        async with (link or Link(site)).running():
            while True:
                orders = look(site, ids)
                if orders != before:
                    progress(orders)
                    before = orders
                if not any(order.open for order in orders):
                    return orders
                await asyncio.sleep(_LOOK_S)
    finally:
        _tidy(site, ids)


def _tidy(site: Site, ids: Sequence[int]) -> None:
    """What nobody waits for any more shall not happen later, by surprise; and pictures and logs are not kept."""
    marks = ", ".join("?" * len(ids))
    with site.registry.transaction() as connection:
        connection.execute(
            f"UPDATE orders SET state = 'failed', text = 'Withdrawn.', body = '' WHERE state = 'waiting' AND id IN ({marks})", ids
        )
        connection.execute(f"UPDATE orders SET data = '' WHERE data != '' AND id IN ({marks})", ids)


# On the broker


class Carrier:
    """Carries orders out over a connection that somebody else keeps; implemented for `broker_side.BrokerSide` and `Link`.

    Args:
        site: The open site.
        publish: Topic and text; false where it could not be handed over. Called on the loop.
        on_thread: Runs what uses the registry.
    """

    def __init__(
        self, site: Site, publish: Callable[[str, str], bool], on_thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    ) -> None:
        self._site, self._publish, self._on_thread = site, publish, on_thread
        self._orders: SiteOrders | None = None
        self._ups: dict[str, tuple[str, bool, bool]] = {}
        self._soon = asyncio.Event()

    def up(self, board: str, payload: bytes, *, missed: bool = False) -> None:
        """The broker tells a board's retained `Up`; `missed` as in `SiteOrders.up`."""
        with contextlib.suppress(PeerError):
            told = decode_up(payload)
            self._ups[board] = (told.epoch, told.up == 1, missed or (board in self._ups and self._ups[board][2]))
            self._soon.set()

    async def report(self, board: str, payload: bytes) -> None:
        """A board tells something; raises PeerError where it is not to be believed, and nothing else."""
        try:
            await self._on_thread(lambda: self._opened().report(board, payload, time.time()))
        except PeerError:
            raise
        except Exception as error:  # the disk, and the board tells it again; or a bug of ours, which no board shall end us by
            _log.error("what %s told could not be written down: %s", board, error, exc_info=_is_bug(error))
        self._soon.set()

    async def run(self) -> None:
        """Send what is due, until cancelled; only one process of a site at a time does so."""
        async with _alone(self._site.folder):
            while True:
                try:
                    for outgoing in await self._on_thread(self._work):
                        self._publish(outgoing.topic, outgoing.text)
                except Exception as error:  # one board's order shall not end those of all
                    _log.error("orders wait: %s", error, exc_info=_is_bug(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WORK_S):
                        await self._soon.wait()
                self._soon.clear()

    def _opened(self) -> SiteOrders:
        if self._orders is None:
            self._orders = SiteOrders(self._site)
        return self._orders

    def _work(self) -> list[Any]:
        orders = self._opened()
        ups, self._ups = self._ups, {}
        for board, (epoch, online, missed) in ups.items():
            orders.up(board, epoch, online, missed=missed)
        return orders.work(time.time())


class Link:
    """This process on the broker as `site`, for as long as a command takes; does nothing where another is already.

    Args:
        site: The open site.
        options: How the broker is reached (`edgeagent.mqtt.connection.BrokerOptions`); by default as the site knows it.
    """

    def __init__(self, site: Site, options: Callable[[], Any] | None = None) -> None:
        self._site = site
        self._options = options

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be there meanwhile.

        Raises:
            EdgeAgentError: The broker cannot be reached.
        """
        if _taken(self._site.folder):
            yield
            return
        from edgeagent.mqtt.connection import BrokerConnection

        inbox = topics.viewer_inbox(SITE, "x").removesuffix("x")
        connection: BrokerConnection | None = None
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(10_000)

        def received(topic: str, payload: bytes, retained: bool) -> None:
            if not topic.startswith(inbox):
                board = topic.removeprefix("ea/1/d/").removesuffix("/up")
                if topics.is_name(board):  # else the broker sends what nobody asked for
                    carrier.up(board, payload)
            elif not retained:
                with contextlib.suppress(asyncio.QueueFull):
                    queue.put_nowait((topic.removeprefix(inbox), payload))

        async def hear() -> None:
            while True:
                board, payload = await queue.get()
                with contextlib.suppress(PeerError):
                    await carrier.report(board, payload)

        async def on_thread(job: Callable[[], T]) -> T:
            return job()  # a command has nothing else to do

        carrier = Carrier(self._site, lambda topic, text: connection is not None and connection.publish(topic, text), on_thread)
        options = self._options() if self._options else _options(self._site)
        filters = [f"{inbox}+", topics.up("x").replace("/x/", "/+/")]
        connection = await BrokerConnection.open(options, None, filters, received)
        tasks = [asyncio.create_task(carrier.run(), name="orders"), asyncio.create_task(hear(), name="orders-inbox")]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, EdgeAgentError | OSError | sqlite3.Error)


def _options(site: Site) -> Any:
    from edgeagent_provisioning.broker import files

    return files.client_options(site, time.time())


def _locked(folder: Path) -> int | None:
    """The lock of who is on the broker, taken; None where another has it."""
    descriptor = os.open(folder / ".orders.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _taken(folder: Path) -> bool:
    descriptor = _locked(folder)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextlib.asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[None]:
    while (descriptor := _locked(folder)) is None:
        await asyncio.sleep(_WORK_S)
    try:
        yield
    finally:
        os.close(descriptor)
