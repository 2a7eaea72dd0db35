"""What a board can do for its site; each as a function that the agent gives."""

from __future__ import annotations

__all__ = ["Jobs"]

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeagent.wire.orders import Upgrade


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The board's abilities; None for what it cannot do. Each may raise PeerError or DeviceFault with a sentence for the site.

    Attributes:
        restart: End the agent orderly and begin anew, soon; told why. Returns at once.
        logs: The last lines of the log, without secrets.
        check: What is wrong with settings; runs on a thread.
        snapshot: A JPEG of at most 64 KiB of a camera, of the first where "".
        doctor: What `edgeagent doctor --json` prints.
        identify: Show a person which board this is; returns how.
        renew: Get a new certificate for a new key, soon; returns at once (`enrol.renewal.Renewing.hurry`).
        forget: Forget the site, with True all data as well; runs on a thread, `restart` follows.
        fetch: Fetch a release and lay it ready for root together with the order's envelope; returns once it lies there.
        laid: Whether a release lies ready for root, or root is at it.
        upgraded: What root has done last: number of the order and what went wrong, "" where nothing did.
    """

    restart: Callable[[str], None]
    logs: Callable[[int], str]
    check: Callable[[Mapping[str, Any]], list[str]]
    snapshot: Callable[[str], Awaitable[bytes]] | None = None
    doctor: Callable[[], Awaitable[str]] | None = None
    identify: Callable[[], Awaitable[str]] | None = None
    renew: Callable[[], None] | None = None
    forget: Callable[[bool], None] | None = None
    fetch: Callable[[Upgrade, str], Awaitable[None]] | None = None
    laid: Callable[[], bool] = lambda: True
    upgraded: Callable[[], tuple[int, str]] | None = None
