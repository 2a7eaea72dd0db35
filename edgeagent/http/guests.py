"""Who is connected to the door: so many in all and from one network, and who gives way when there is no room.

Whoever says nothing costs a descriptor, and 256 of them would keep everybody else out. So a newcomer is let in at the cost of the
connection that has been idle longest: one that holds no request at the moment, whether it had one before or not. Browsers notice
that and connect anew. Only where nobody is idle is the newcomer hung up on.
"""

from __future__ import annotations

__all__ = ["Guest", "Guests", "network_of"]

import asyncio
from collections.abc import Callable

from edgeagent.core import network
from edgeagent.http.names import is_loopback

FIRST_REQUEST_S = 10.0
"""How long a connection may take for its first request."""
FROM_ONE = 32
"""Connections from one network; a browser opens six, and more people may share an address."""
_OF_MANY = frozenset({"::/64", "fe80::/64"})  # loopback, and all link-local addresses of all machines


def network_of(address: str) -> str:
    """Who shares one limit: as `core.network.network_of`, but loopback and link-local addresses by themselves."""
    found = network.network_of(address)
    return address.partition("%")[0] if found in _OF_MANY else found


class Guests:
    """All connections of a door.

    Args:
        most: So many at once.
        from_one: So many from one network. This machine's own are not limited so: a reverse proxy brings everybody's.
    """

    def __init__(self, most: int, from_one: int = FROM_ONE) -> None:
        self._most, self._from_one = most, from_one
        self._here: dict[Guest, str] = {}  # longest idle first

    def __len__(self) -> int:
        return len(self._here)

    def let_in(self, guest: Guest, address: str) -> bool:
        """Take one more, at the cost of another where that must be; False where there is no room."""
        origin = network_of(address)
        own = [other for other, theirs in self._here.items() if theirs == origin]
        crowded = len(own) >= self._from_one and not is_loopback(origin)
        if crowded or len(self._here) >= self._most:
            idle = next((other for other in (own if crowded else self._here) if not other.requests), None)
            if idle is None:
                return False
            idle.leave()
            idle.hang_up()
        self._here[guest] = origin
        return True

    def seen(self, guest: Guest) -> None:
        """It was not idle until now."""
        if guest in self._here:
            self._here[guest] = self._here.pop(guest)

    def left(self, guest: Guest) -> None:
        """It is gone, or on its way out."""
        self._here.pop(guest, None)


class Guest(asyncio.Protocol):
    """One connection: hands everything on to the protocol that serves it.

    Args:
        guests: Those of the door.
        serve: Makes that protocol, once there is a connection.
    """

    def __init__(self, guests: Guests, serve: Callable[[], asyncio.Protocol]) -> None:
        self._guests, self.serve = guests, serve
        self._inner: asyncio.Protocol | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._came = self._gone = False
        self.requests = 0
        """How many it has under way."""
        self.hang_up: Callable[[], object] = lambda: None

    def come(self, address: str, hang_up: Callable[[], object]) -> bool:
        """Be let in before there is a transport, as during a TLS handshake; False where there is no room."""
        self.hang_up = hang_up
        self._came = self._guests.let_in(self, address)
        return self._came

    def leave(self) -> None:
        """Take up no more room, and make no connection any more."""
        self._gone = True
        self._guests.left(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def began(self) -> None:
        """A request has come."""
        self.requests += 1
        if self._deadline is not None:
            self._deadline.cancel()

    def ended(self) -> None:
        """It was answered."""
        self.requests -= 1
        self._guests.seen(self)

    @property
    def connected(self) -> bool:
        """Whether there was a connection: its end is seen here."""
        return self._inner is not None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        address = (transport.get_extra_info("peername") or ("",))[0]
        if self._gone or (not self._came and not self.come(address, transport.abort)):
            transport.abort()
            return
        self.hang_up = transport.abort
        self._deadline = asyncio.get_running_loop().call_later(FIRST_REQUEST_S, transport.abort)
        self._inner = self.serve()
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.leave()
        if self._inner is not None:
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
