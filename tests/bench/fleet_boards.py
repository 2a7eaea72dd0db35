"""Boards as light as they can be, many in one process: `python -m tests.bench.fleet_boards CLAIMS FOLDER AT_ONCE`.

Keys, requests, checks, identity files and the connection to the broker are the agent's own code; there are no cameras, and nothing
obeys orders. Each board enrols, connects at once, and comes back by the agent's own back-off for as long as this process runs.
CLAIMS holds one claim in a line. Every event is a line of JSON on the standard output, with the time of CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgeagent import __version__
from edgeagent.core.ports import ReplyTo
from edgeagent.enrol import joining
from edgeagent.enrol.asking import BoardFacts, activate
from edgeagent.enrol.identity import Identity, mqtt_options
from edgeagent.mqtt.connection import BrokerConnection
from edgeagent.mqtt.door import MqttDoor, MqttOptions
from edgeagent.wire import seal, topics
from edgeagent.wire.claim import Claim
from edgeagent.wire.messages import Hello
from edgeagent.wire.orders import SITE, Here

FACTS = BoardFacts("Board of a bench")
_PARENT_S = 2.0


class _NoViewers:
    """Implements `SignalingPort`."""

    def receive(self, raw: bytes | str, reply: ReplyTo) -> None:
        """Nobody asks."""

    def gone(self, reply: ReplyTo) -> None:
        """Nobody was there."""


class _Board:
    """Says at each connection who it is, as `orders.obeying` does; implements `mqtt.door.Beside`."""

    filters: Sequence[str] = ()

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._epoch = secrets.token_hex(4)
        self._key = identity.id_key
        self._number = 0
        self.door = MqttDoor(
            MqttOptions(**mqtt_options(identity)),
            device=identity.name,
            epoch=self._epoch,
            signaling=_NoViewers(),
            hello=lambda: Hello(device=identity.name, version=__version__, epoch=self._epoch, cameras=[]),
            beside=self,
        )

    def connected(self, connection: BrokerConnection) -> None:
        identity = self._identity
        _tell("up", identity.name)
        self._number += 1
        here = seal.seal(
            Here(device=identity.name, certificate=identity.serial, model=FACTS.model, release=__version__).model_dump(),
            to_enc=identity.site_enc,
            by_sig=self._key,
            issuer=identity.name,
            audience=SITE,
            epoch=self._epoch,
            number=self._number,
            typ=seal.ANSWER,
        )
        connection.publish(topics.viewer_inbox(SITE, identity.name), here)

    def lost(self) -> None:
        _tell("down", self._identity.name)

    def received(self, topic: str, payload: bytes, retained: bool) -> bool:
        return False


def _tell(event: str, board: str, **more: object) -> None:
    print(json.dumps({"event": event, "board": board, "at": time.monotonic(), **more}), flush=True)


async def _live(claim: Claim, state: Path, gate: asyncio.Semaphore) -> None:
    async def by_broker(identity: Identity, now: float, facts: BoardFacts) -> bool:
        return False  # it reaches nothing else: the site learns of it by its first message on the broker

    async with gate:
        began = time.monotonic()
        said: list[str] = []
        show = activate if claim.url else by_broker
        identity = await joining.enrol(claim, state, facts=FACTS, told=said.append, activate=show)
        tries = said.index(f"This board is {identity.name} now.") + 1
        _tell("enrolled", identity.name, door=identity.door, took_s=time.monotonic() - began, tries=tries, said=said[: tries - 1])
    await _Board(identity).door.run()


async def _all(claims: Path, folder: Path, at_once: int) -> None:
    gate = asyncio.Semaphore(at_once)
    async with asyncio.TaskGroup() as group:
        for number, line in enumerate(claims.read_text().splitlines()):
            group.create_task(_live(Claim.parse(line), folder / f"{claims.stem}-{number}", gate))
        parent = os.getppid()
        while os.getppid() == parent:  # the bench itself may be killed
            await asyncio.sleep(_PARENT_S)
        os._exit(1)


if __name__ == "__main__":
    import logging

    logging.disable()  # a thousand boards that lose their broker say so; their events say it, too
    asyncio.run(_all(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
