"""The limit on what leaves for viewers beyond the LAN, shared evenly among them. Pure state, no clock."""

from __future__ import annotations

__all__ = ["UplinkShare", "beyond_lan"]

import ipaddress
from collections.abc import Hashable


def beyond_lan(address: str) -> bool:
    """Whether an IP address is outside private, link-local and loopback ranges. Names and nonsense count as outside."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return True


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
