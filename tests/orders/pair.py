"""A site, its boards and a broker between them that delivers what it likes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from edgeagent.config import Config
from edgeagent.core.orders import Record, Tried
from edgeagent.errors import PeerError
from edgeagent.orders.jobs import Jobs
from edgeagent.orders.obeying import Obeying, SealKeys
from edgeagent.orders.starting import start
from edgeagent.orders.store import Store
from edgeagent.wire import orders as o
from edgeagent.wire import seal, topics
from edgeagent_provisioning.fleet import Order, give, look
from edgeagent_provisioning.registry import Board
from edgeagent_provisioning.site import Site
from edgeagent_provisioning.site_orders import SiteOrders
from tests.provisioning.common import NOW

SETTINGS = {"cameras": {"front": {"driver": "test-pattern"}}}
_CONFIG = Config.model_construct(device="board")  # what settings say is nothing to a simulated board


class SimBoard:
    """A board with its disk; `boot` begins a run, which ends when it restarts or is cut off."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.id, self.enc = seal.new_key(), seal.new_key()
        self.state = world.folder / name
        self.runs = 0
        self.ahead_s = 0.0
        self.restarts: list[str] = []
        self.works: Callable[[str], bool] = lambda version: True
        self.reaches: Callable[[str], bool] = lambda version: True
        self.problems: list[str] = []
        self.epoch = ""
        self.sent: list[str] = []
        self.obeying: Obeying | None = None
        self._task: asyncio.Task[None] | None = None
        self.jobs: dict[str, Any] = {}

    def first(self, settings: Mapping[str, Any]) -> None:
        """Settings came with the certificate; they are on trial from the next `boot` on."""
        store = Store(self.state)
        store.keep(Record(tried=Tried(store.lay(settings), 1)))

    def boot(self) -> None:
        """Begin another run, connected."""
        self.runs += 1
        self.epoch = f"epoch-{self.runs}"
        store = Store(self.state)
        trial = start(store, None, self.name, lambda source: _CONFIG).trial
        version = trial.running
        loop = asyncio.get_running_loop()
        self.obeying = Obeying(
            device=self.name,
            epoch=self.epoch,
            keys=SealKeys(
                id=self.id,
                enc=self.enc,
                site_sig=self.world.site.public_keys["sig"],
                site_enc=self.world.site.public_keys["enc"],
            ),
            store=store,
            trial=trial,
            jobs=Jobs(
                restart=self._restart, logs=lambda lines: "line\n" * lines, check=lambda settings: self.problems, **self.jobs
            ),
            send=self._send,
            healthy=lambda: self.works(version),
            release="1.0",
            wall=lambda: self.world.wall() + self.ahead_s,
            clock=loop.time,
        )
        self._task = loop.create_task(self.obeying.run(), name=f"board-{self.name}")
        if self.reaches(version):
            self.world.presence(self.name, self.epoch, True)
            self.obeying.connected()

    async def off(self) -> None:
        """Cut it off."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = self.obeying = None
        self.world.presence(self.name, self.epoch, False)

    def hears(self, text: str | bytes) -> None:
        """The broker brings something from `site`."""
        if self.obeying and self.reaches(self.obeying._trial.running):
            payload = text.encode() if isinstance(text, str) else text
            assert self.obeying.received(topics.device_inbox(self.name, "site"), payload, False)

    def _send(self, text: str) -> bool:
        self.sent.append(text)
        self.world.to_site.append((self.name, text))
        return True

    def _restart(self, why: str) -> None:
        self.restarts.append(why)

        async def again() -> None:
            await self.off()
            self.boot()

        self.world.tasks.append(asyncio.create_task(again()))


class World:
    """A site on its broker."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        self.orders = SiteOrders(site)
        self.boards: dict[str, SimBoard] = {}
        self.to_site: list[tuple[str, str]] = []
        self.to_boards: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.deliver = True
        self.refused: list[PeerError] = []

    def wall(self) -> float:
        """Unix time."""
        return NOW + asyncio.get_running_loop().time()

    def add(self, name: str, **more: Any) -> SimBoard:
        """A board that has enrolled and is active."""
        board = SimBoard(self, name)
        id_jwk = seal.public_jwk(board.id)
        entry = Board(
            name, NOW, "active", id_jwk=id_jwk, id_thumbprint=seal.thumbprint(id_jwk), enc_jwk=seal.public_jwk(board.enc), **more
        )
        with self.site.registry.transaction() as connection:
            self.site.registry.save_board(connection, entry)
        self.boards[name] = board
        return board

    def presence(self, name: str, epoch: str, online: bool) -> None:
        """As the broker retains it."""
        self.orders.up(name, epoch, online)

    def give(self, board: str, kind: str, patience_s: float = 60.0, **more: Any) -> int:
        """Order something."""
        return give(self.site, {board: {"v": 1, "t": kind, **more}}, self.wall(), patience_s)[0]

    def settings(self, board: str, settings: Mapping[str, Any] = SETTINGS) -> int:
        """Order settings."""
        return self.give(board, "settings", settings=dict(settings), version=o.settings_version(settings))

    def look(self, number: int) -> Order:
        """How an order stands."""
        return look(self.site, [number])[0]

    async def until_done(self, number: int, limit_s: float = 400.0) -> Order:
        """Wait for an order's end."""
        async with asyncio.timeout(limit_s):
            while (order := self.look(number)).open:
                await asyncio.sleep(0.5)
        return order

    async def run(self) -> None:
        """Carry messages."""
        while True:
            heard, self.to_site = self.to_site, []
            for name, text in heard if self.deliver else ():
                try:
                    self.orders.report(name, text, self.wall())
                except PeerError as error:
                    self.refused.append(error)
            for outgoing in self.orders.work(self.wall()):
                name = outgoing.topic.split("/")[3]
                self.to_boards.append((name, outgoing.text))
                if self.deliver:
                    self.boards[name].hears(outgoing.text)
            await asyncio.sleep(0.3)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """Meanwhile."""
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, *self.tasks, return_exceptions=True)
            for board in self.boards.values():
                await board.off()
