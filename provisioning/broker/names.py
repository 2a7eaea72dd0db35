"""Whom the broker knows, by name. A name is user and client id at once, at every listener: two who share one would end each other.

<board>         with a certificate, CN = name
site            the site's service, with a certificate
site-tool-<n>   commands beside it, with a certificate each: they have the same rights
v-<12 hex>      a browser, with a password
j-<16 hex>      a board that joins or comes back, with a password derived from its claim or its key
home-assistant  with a password
check-<…>       `broker check`, for a moment
"""

from __future__ import annotations

__all__ = ["CHECK", "HOME", "ORDERS", "SITE", "TOOLS", "is_viewer", "new_viewer", "reserved"]

import re
import secrets

from edgeagent.wire.orders import SITE

HOME = "home-assistant"
"""As agents know it: `ea/1/d/<board>/in/home-assistant`."""
CHECK = "check-"
TOOLS = tuple(f"{SITE}-tool-{number}" for number in range(1, 9))
ORDERS = f"{SITE}-tool-orders"
"""Of the one command that carries orders while no service does."""
_VIEWER = re.compile(r"v-[0-9a-f]{12}", re.ASCII)


def new_viewer() -> str:
    """A fresh user for a browser."""
    return f"v-{secrets.token_hex(6)}"


def is_viewer(name: str) -> bool:
    """Whether this is a browser's user."""
    return _VIEWER.fullmatch(name) is not None


def reserved(name: str) -> bool:
    """Whether no board may be called so, because the broker knows somebody else by it."""
    return name in (SITE, HOME) or name.startswith(("v-", "j-", CHECK, f"{SITE}-tool-"))
