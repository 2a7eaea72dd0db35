"""The limit on what leaves for viewers beyond the LAN, shared evenly among them. Pure state, no clock."""

from __future__ import annotations

__all__ = ["UplinkShare", "beyond_lan"]

import ipaddress
from collections.abc import Hashable


def beyond_lan(remote: str, local: str = "") -> bool:
    """Whether an IP address is outside this network: global, and not in the /64 of our own IPv6 address `local`.

    Names and nonsense count as outside.
    """
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
        if not address.is_global:
            return False
        own = ipaddress.ip_address(local.partition("%")[0]) if local else None
    except ValueError:
        return True
    return own is None or own.version == 4 or address.version == 4 or int(address) >> 64 != int(own) >> 64


class UplinkShare:
    """Who shares the uplink now.

    Args:
        limit_bps: Bits a second for all of them together; None for no limit.
    """

    def __init__(self, limit_bps: float | None = None) -> None:
        self.limit_bps = limit_bps
        self._streams: set[Hashable] = set()

    def join(self, stream: Hashable) -> None:
        self._streams.add(stream)

    def leave(self, stream: Hashable) -> None:
        self._streams.discard(stream)

    def share_bps(self, stream: Hashable) -> float | None:
        """What this stream may take, or None: no limit, or it does not leave the LAN."""
        if self.limit_bps is None or stream not in self._streams:
            return None
        return self.limit_bps / len(self._streams)
