"""Writes down what a board obeys and tries, for as long as it runs; a full or read-only disk ends no agent."""

from __future__ import annotations

__all__ = ["Saving"]

import asyncio
import logging
from collections.abc import Callable

from edgeagent.core.faultlog import FaultLog, duration
from edgeagent.core.orders import Record
from edgeagent.orders.store import Store

_log = logging.getLogger(__name__)


class Saving:
    """The store of a board that runs. What could not be written is `behind`, and written with the next that can.

    Attributes:
        alone: Held by whoever changes more than one file; `save` takes it itself.

    Args:
        store: The board's.
        clock: Seconds that only go up.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.alone = asyncio.Lock()
        self._store, self._clock = store, clock
        self._written: int | None = store.sent
        self._faults = FaultLog()

    @property
    def behind(self) -> bool:
        """Whether the disk lacks something."""
        return self._store.sent != self._written

    async def save(self) -> str:
        """Write everything down; returns why that cannot be done, for the site; "" where it is."""
        async with self.alone:
            sent = self._store.sent
            try:
                await asyncio.to_thread(self._store.save)
            except OSError as error:
                return self.cannot(error)
            self._written = sent
            if (seconds := self._faults.good(self._clock())) is not None:
                _log.info("the disk can be written again, after %s", duration(seconds))
            return ""

    async def keep(self, record: Record, *, anyway: bool) -> None:
        """Write a record down, by who is alone; `anyway`: later where the disk cannot be written now. Else raises OSError."""
        try:
            await asyncio.to_thread(self._store.keep, record)
        except OSError as error:
            if not anyway:
                raise
            self.cannot(error)

    def cannot(self, error: OSError) -> str:
        """Log it, not too often; returns a sentence for the site."""
        self._written = None
        why = error.strerror or str(error)
        if self._faults.fault(why, self._clock()):
            _log.error("what this board obeys and tries cannot be written down: %s", why)
        return f"This board cannot write to its disk ({why}), so nothing was done. Make room there, then order it again."
