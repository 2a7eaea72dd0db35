"""By which names an open door may be asked for.

A page elsewhere may point a name of its own at an address in the visitor's network and then read from there as if it had come from
there (DNS rebinding); its browser still says the name, in `Host`. So a door without a token answers only by names that no stranger
can have: addresses, names of one word, those that nobody can register (RFC 6761, RFC 6762 with its appendix G, RFC 8375), those of
the certificate, and those that the owner wrote down.
"""

from __future__ import annotations

__all__ = ["Names", "is_local", "is_loopback", "name_of"]

import ipaddress
from collections.abc import Callable, Collection

_PRIVATE = (".localhost", ".local", ".home.arpa", ".internal", ".intranet", ".private", ".corp", ".home", ".lan", ".test")


class Names:
    """Knows the names of one door.

    Args:
        given: From the owner.
        certified: Gives those of the certificate, `*.home.example` among them.
    """

    def __init__(self, given: Collection[str], certified: Callable[[], Collection[str]] = tuple) -> None:
        self._given = frozenset(name.lower() for name in given)
        self._certified = certified

    def given(self, host: str) -> bool:
        """Whether the owner wrote this one down; `host` as in the header, with or without a port."""
        return name_of(host) in self._given

    def known(self, host: str) -> bool:
        """Whether no stranger can have it."""
        name = name_of(host)
        if "." not in name or name.endswith(_PRIVATE) or name in self._given or _address(name):
            return bool(name)
        certified = {each.lower() for each in self._certified()}
        return name in certified or f"*.{name.partition('.')[2]}" in certified


def name_of(host: str) -> str:
    """A `Host` without its port, brackets and last dot, in small letters."""
    return host[1:].partition("]")[0].lower() if host.startswith("[") else host.partition(":")[0].rstrip(".").lower()


def is_local(host: str) -> bool:
    """Whether this stands for the asking machine itself; `host` as in the header."""
    name = name_of(host)
    return name.endswith(".localhost") or is_loopback(name)


def is_loopback(name: str) -> bool:
    """Whether a bare name or address, without brackets or port, is this machine's own."""
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
