"""Snapshots by themselves, on the virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from edgeagent.errors import DeviceFault
from edgeagent.http import snapshots
from edgeagent.http.snapshots import Snapshots


class Camera:
    """Counts how often it is asked."""

    def __init__(self, takes_s: float = 0.1) -> None:
        self.asked = 0
        self.takes_s = takes_s

    async def __call__(self, name: str) -> bytes:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        return f"{name} {self.asked}".encode()


async def test_many_who_ask_get_one_picture() -> None:
    camera = Camera()
    made = Snapshots(camera)
    assert set(await asyncio.gather(*(made.get("gate") for _ in range(50)))) == {b"gate 1"}
    assert await made.get("gate") == b"gate 1"
    assert await made.get("desk") == b"desk 2"
    await asyncio.sleep(0.6)
    assert await made.get("gate") == b"gate 3"
    assert not made._making


async def test_one_who_hangs_up_does_not_take_it_from_the_others() -> None:
    camera = Camera()
    made = Snapshots(camera)
    first, second = (asyncio.create_task(made.get("gate")) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second == b"gate 1"
    assert first.cancelled() or isinstance(await asyncio.gather(first, return_exceptions=True), list)


async def test_a_camera_that_is_slow_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_TIMEOUT_S", 0.05)
    with pytest.raises(DeviceFault, match="gave no picture"):
        await Snapshots(Camera(takes_s=9)).get("gate")

    async def fails(name: str) -> bytes:
        raise DeviceFault("It is unplugged.")

    made = Snapshots(fails)
    results = await asyncio.gather(made.get("gate"), made.get("gate"), return_exceptions=True)
    assert [str(result) for result in results] == ["It is unplugged."] * 2
    abandoned = asyncio.create_task(made.get("gate"))
    await asyncio.sleep(0)
    abandoned.cancel()
    await asyncio.gather(abandoned, return_exceptions=True)


async def test_closing_stops_what_is_being_made() -> None:
    made = Snapshots(Camera(takes_s=999))
    waiting = asyncio.create_task(made.get("gate"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await made.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
