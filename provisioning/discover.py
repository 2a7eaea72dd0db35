"""Boards in this network that belong to no site yet, as they announce themselves (by `edgeagent.joining.announce`)."""

from __future__ import annotations

__all__ = ["SERVICE", "WaitingBoard", "discover"]

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edgeagent.errors import EdgeAgentError

SERVICE = "_edgeagent-join._tcp.local."
_ASK_MS = 1500
_MOST = 1000


@dataclass(frozen=True, slots=True, order=True)
class WaitingBoard:
    """What a board says of itself; anybody in the network can say so, and nothing of it is proved.

    Attributes:
        name: Its host name.
        model: What its maker calls it.
        serial: As its maker gives it; for `--serial` and for bulk claims.
        release: Of the agent.
        addresses: Where it is reached.
        state: What it waits for, or what went wrong last.
    """

    name: str
    model: str
    serial: str
    release: str
    addresses: tuple[str, ...]
    state: str


async def discover(timeout_s: float = 4.0, interfaces: Sequence[str] = ()) -> list[WaitingBoard]:
    """Ask the local network.

    Args:
        timeout_s: How long to wait for answers.
        interfaces: Addresses of this machine to ask from; all where empty.

    Raises:
        EdgeAgentError: The network cannot be asked.
    """
    found: set[str] = set()
    try:
        zeroconf = AsyncZeroconf(interfaces=list(interfaces)) if interfaces else AsyncZeroconf()
    except OSError as error:
        raise EdgeAgentError(f"This machine's network cannot be asked: {error.strerror or error}.") from None

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            found.discard(name)
        elif len(found) < _MOST:
            found.add(name)

    async with zeroconf, AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed]):
        await asyncio.sleep(timeout_s)
        boards = await asyncio.gather(*(_asked(zeroconf, name) for name in sorted(found)))
    return sorted(board for board in boards if board is not None)


async def _asked(zeroconf: AsyncZeroconf, name: str) -> WaitingBoard | None:
    info = AsyncServiceInfo(SERVICE, name)
    with contextlib.suppress(OSError):
        if await info.async_request(zeroconf.zeroconf, _ASK_MS):
            addresses = tuple(info.parsed_addresses(IPVersion.V4Only)) or tuple(info.parsed_addresses())
            told = info.properties
            return WaitingBoard(
                name=_plain(name.removesuffix(f".{SERVICE}")),
                model=_text(told, "model"),
                serial=_text(told, "serial"),
                release=_text(told, "release"),
                addresses=addresses[:4],
                state=_text(told, "state"),
            )
    return None


def _text(told: Mapping[bytes, bytes | None], key: str) -> str:
    return _plain((told.get(key.encode()) or b"").decode("utf-8", "replace"))


def _plain(text: str) -> str:
    """As a terminal may show it: a stranger in the network has written it."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:200]
