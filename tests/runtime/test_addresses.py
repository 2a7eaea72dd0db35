from __future__ import annotations

import asyncio
import logging

import pytest

from edgeagent.runtime.addresses import watch


async def test_a_network_that_goes_comes_back_or_is_another_is_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looks: list[list[str] | OSError] = [
        ["10.0.0.5", "2001:db8::5"],
        ["10.0.0.5", "2001:db8::77"],  # IPv6 alone says little: it may be another one tomorrow
        ["10.0.0.9", "2001:db8::77"],
        ["127.0.0.1"],
        OSError("out of descriptors"),
        ["169.254.7.7", "127.0.0.1"],
        ["2001:db8::78"],
        ["192.168.1.2", "10.0.0.9"],
        ["10.0.0.9", "192.168.1.2"],
    ]
    left, done = iter(looks), asyncio.Event()

    def addresses() -> list[str]:
        look = next(left, None)
        if look is None:
            done.set()
            return ["10.0.0.9", "192.168.1.2"]
        if isinstance(look, OSError):
            raise look
        return look

    task = asyncio.create_task(watch(addresses, every_s=5))
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "this board is now at 10.0.0.9, before at 10.0.0.5"),
        ("WARNING", "this board has no network"),
        ("ERROR", "the board's addresses cannot be looked at"),
        ("WARNING", "the network is back after 15 s, this board is now at 2001:db8::78"),
        ("INFO", "this board is now at 10.0.0.9, 192.168.1.2, before at 2001:db8::78"),
    ]


async def test_a_board_that_begins_without_a_network_says_so(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(watch(lambda: ["127.0.0.1"]))
    await asyncio.sleep(60)
    task.cancel()
    await asyncio.wait([task])
    assert [record.getMessage() for record in caplog.records] == ["this board has no network"]
