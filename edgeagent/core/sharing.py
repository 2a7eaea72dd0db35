"""How streams of one viewer share his path: max-min fair. Sans-IO."""

from __future__ import annotations

__all__ = ["Wish", "shares"]

from collections.abc import Sequence
from typing import NamedTuple


class Wish(NamedTuple):
    """What a stream could use.

    Attributes:
        wanted_bps: All packets counted.
        live: Whether it can be told a rate, and then keeps to it.
    """

    wanted_bps: float
    live: bool


def shares(total_bps: float, wishes: Sequence[Wish]) -> list[float]:
    """What each may be sent at, in bit/s and in the order of `wishes`: what it wants, and what is left for those who want more.

    One that cannot be told a rate has pictures of all sizes: it may send a large one as fast as its fair part allows, though it
    takes less of it in the long run. So these may add up to more than `total_bps`. The same goes for one that wants nothing now,
    paused or muted: it takes nothing, and begins with its fair part once it is resumed.
    """
    left, found = total_bps, [total_bps / max(1, len(wishes))] * len(wishes)
    order = sorted(
        (place for place in range(len(wishes)) if wishes[place].wanted_bps > 0), key=lambda place: wishes[place].wanted_bps
    )
    for done, place in enumerate(order):
        wish, part = wishes[place], left / (len(order) - done)
        used = min(part, wish.wanted_bps) if done < len(order) - 1 else part
        found[place] = used if wish.live else part
        left -= used
    return found
