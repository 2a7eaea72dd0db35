"""Where the board's network went: a line in the log when its addresses change, are gone and are back."""

from __future__ import annotations

__all__ = ["AddressWatch", "watch"]

import asyncio
import logging
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from edgeagent.core.faultlog import duration

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0


class AddressWatch:
    """Turns looks at the board's addresses into a line for the log where they change. Time is an argument, in seconds of any
    monotonic clock."""

    def __init__(self) -> None:
        self._at: str | None = None
        self._gone_since = 0.0

    def look(self, addresses: Iterable[str], now: float) -> tuple[int, str] | None:
        """Take one look; returns level and line, None where nothing has changed."""
        before, self._at = self._at, _where(addresses)
        if self._at == before or (self._at and before is None):
            return None
        if not self._at:
            self._gone_since = now
            return logging.WARNING, "this board has no network"
        if not before:
            return logging.WARNING, f"the network is back after {duration(now - self._gone_since)}, this board is now at {self._at}"
        return logging.INFO, f"this board is now at {self._at}, before at {before}"


def _where(addresses: Iterable[str]) -> str:
    """Those that others can reach; of IPv6, whose addresses a board changes by itself each day, only where there is no other."""
    found = [ip for ip in map(ip_address, sorted(addresses)) if not (ip.is_loopback or ip.is_link_local)]
    return ", ".join(str(ip) for ip in found if ip.version == 4 or all(other.version == 6 for other in found))


async def watch(addresses: Callable[[], Iterable[str]], *, every_s: float = LOOK_EVERY_S) -> None:
    """Look at the board's addresses for ever: the log gets a line when they change, are gone and are back."""
    watcher, loop = AddressWatch(), asyncio.get_running_loop()
    while True:
        try:
            news = watcher.look(addresses(), loop.time())
        except (OSError, ValueError):
            _log.exception("the board's addresses cannot be looked at")
        else:
            if news:
                _log.log(news[0], "%s", news[1])
        await asyncio.sleep(every_s)
