"""Still pictures: however many ask, one is made at a time for each camera, and it serves for half a second."""

from __future__ import annotations

__all__ = ["Snapshot", "Snapshots"]

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from edgeagent.errors import DeviceFault

_REUSE_S = 0.5
_TIMEOUT_S = 15.0


class Snapshot(Protocol):
    """Makes a JPEG of a camera that exists; raises DeviceFault or PeerError with a sentence."""

    def __call__(self, camera: str, /) -> Awaitable[bytes]: ...


class Snapshots:
    """Bounded by the number of cameras; the caller checks that the camera exists."""

    def __init__(self, make: Snapshot) -> None:
        self._make = make
        self._ready: dict[str, tuple[float, bytes]] = {}
        self._making: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, camera: str) -> bytes:
        """A JPEG at most half a second older than what `make` gives; raises what it raises, DeviceFault when it is slow."""
        now = asyncio.get_running_loop().time()
        made_at, data = self._ready.get(camera, (-1e9, b""))
        if now - made_at <= _REUSE_S:
            return data
        task = self._making.get(camera)
        if task is None:
            task = self._making[camera] = asyncio.create_task(self._one(camera, now), name=f"snapshot of {camera}")
            task.add_done_callback(lambda done: self._done(camera, done))
        # Shielded: one who hangs up does not take the picture from the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, camera: str, task: asyncio.Task[bytes]) -> None:
        del self._making[camera]
        if not task.cancelled():
            task.exception()  # seen, also where everybody who asked has hung up

    async def _one(self, camera: str, began: float) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                data = await self._make(camera)
        except TimeoutError:
            raise DeviceFault(f"The camera {camera} gave no picture within {_TIMEOUT_S:g} s.") from None
        self._ready[camera] = (began, data)
        return data
