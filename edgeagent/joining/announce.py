"""A word on the local network from a board of no site (DNS-SD over mDNS, RFC 6763 and 6762), for `provision discover`.

It tells model, serial number, release and what the board waits for: nothing that lets anybody in.
"""

from __future__ import annotations

__all__ = ["SERVICE", "Announcement"]

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

log = logging.getLogger(__name__)

SERVICE = "_edgeagent-join._tcp.local."

_LOOK_S = 10.0  # after which a network that came or went is noticed
_MAX_STATE = 200  # a TXT string has at most 255 bytes


class Announcement:
    """Announces one board while `run` runs, in whatever networks it is at the time.

    Args:
        name: Tells this board from others in the same network.
        port: Of its page; 9 (discard) where it has none.
        facts: What else is told: `model`, `serial`, `release`, at most 200 bytes each.
        interfaces: Addresses to speak at; every one of the board's where empty.
    """

    def __init__(self, name: str, port: int = 9, *, facts: dict[str, str], interfaces: Sequence[str] = ()) -> None:
        self._name, self._port, self._facts, self._interfaces = name, port, facts, tuple(interfaces)
        self._state = ""
        self._changed = asyncio.Event()

    def say(self, state: str) -> None:
        """What the board waits for, or what went wrong last: one sentence."""
        if state != self._state:
            self._state = state
            self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled, which takes the word back. Without zeroconf it says so once and returns."""
        try:
            from zeroconf.asyncio import AsyncZeroconf
        except ImportError:
            log.info("this board is not announced in its network: `%s -m pip install zeroconf` mends it", sys.executable)
            return
        while True:
            addresses = self._addresses()
            zeroconf: AsyncZeroconf | None = None
            try:
                if addresses:
                    zeroconf = AsyncZeroconf(interfaces=list(addresses))
                    await self._announce(zeroconf, addresses)
                else:
                    await asyncio.sleep(_LOOK_S)
            except OSError as error:  # an address that went meanwhile, a network that refuses
                log.debug("the board is not announced: %s", error)
                await asyncio.sleep(_LOOK_S)
            finally:
                if zeroconf is not None:
                    await zeroconf.async_close()

    async def _announce(self, zeroconf: AsyncZeroconf, addresses: tuple[str, ...]) -> None:
        """Until the board's addresses are others."""
        told = self._info(addresses)
        await zeroconf.async_register_service(told, allow_name_change=True)
        while self._addresses() == addresses:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
                await zeroconf.async_update_service(self._info(addresses, told.name))

    def _info(self, addresses: tuple[str, ...], name: str = "") -> ServiceInfo:
        from zeroconf import ServiceInfo

        facts = {"v": "1", "state": self._state, **self._facts}
        return ServiceInfo(
            SERVICE,
            name or f"{self._name[:50]}.{SERVICE}",
            port=self._port,
            parsed_addresses=list(addresses),
            properties={key: value.encode()[:_MAX_STATE] for key, value in facts.items() if value},
            server=f"{socket.gethostname().partition('.')[0] or 'edgeagent'}.local.",
        )

    def _addresses(self) -> tuple[str, ...]:
        if self._interfaces:
            return self._interfaces
        import ifaddr

        found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)]
        return tuple(sorted(ip for ip in found if not ip.startswith(("127.", "169.254."))))
