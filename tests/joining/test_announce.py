"""A board's word on the network, and `provision discover` at the other end: real mDNS on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import pytest

from edgeagent.joining import announce
from edgeagent.joining.announce import Announcement
from edgeagent_provisioning import discover as discover_module
from edgeagent_provisioning.discover import WaitingBoard, discover
from tests.support import require

pytestmark = pytest.mark.realtime(block_limit_s=10)
LOOPBACK = ("127.0.0.1",)


def test_both_ends_mean_the_same_service() -> None:
    assert announce.SERVICE == discover_module.SERVICE


async def test_a_waiting_board_is_found_until_it_belongs_to_a_site() -> None:
    require("module:zeroconf")
    name = f"pi-{secrets.token_hex(4)}"
    facts = {"model": "Raspberry Pi 4 Model B", "serial": "10000000a1b2c3d4", "release": "1.2.3\x1b[31m"}
    board = Announcement(name, 8080, facts=facts, interfaces=LOOPBACK)
    board.say("Waits for a claim: hold its QR before the camera.")
    task = asyncio.create_task(board.run())

    async def seen() -> list[WaitingBoard]:
        return [found for found in await discover(0.4, LOOPBACK) if found.name == name]

    try:
        said = "Waits for a claim: hold its QR before the camera."
        expected = WaitingBoard(name, "Raspberry Pi 4 Model B", "10000000a1b2c3d4", "1.2.3?[31m", LOOPBACK, said)
        async with asyncio.timeout(60):
            while await seen() != [expected]:  # at first maybe without its addresses
                pass
        board.say("ü" * 300)
        async with asyncio.timeout(60):
            while not any(found.state.startswith("üü") for found in await seen()):
                pass
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert not await seen()
