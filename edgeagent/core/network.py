"""Addresses that stand for one network."""

from __future__ import annotations

__all__ = ["network_of"]

import ipaddress


def network_of(address: str) -> str:
    """Whose this address is: an IPv4 address itself, of IPv6 the /64, since a single machine may use each address in it.

    What is no address is returned as it is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
