"""Which rendition of a camera each viewer is sent, and at what rate each is encoded. Pure functions on rates in bit/s.

The best viewers decide a layer's rate; who cannot follow takes the next layer, and on the last one fewer pictures: one slow viewer
never softens the picture of the others.
"""

from __future__ import annotations

__all__ = ["LayerFacts", "Share", "Want", "low_layer", "picture_rate", "plan"]

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

TOGETHER = 0.85
"""Viewers with at least this share of the best one's rate are served at the least of theirs."""
STAY, CLIMB = 0.75, 1.1
"""Of what a layer needs: above the first one stays on it, above the second one moves up to it."""
_BITS_PER_PIXEL = 0.02  # below it, fewer pictures look better than worse ones
_MIN_FPS = 5.0


@dataclass(slots=True, frozen=True)
class LayerFacts:
    """One rendition. `max_bps` is the rate set for it, or measured where it cannot be changed (`live` false); `min_bps` what it
    needs to be better than the next one down, 0 for the last."""

    name: str
    max_bps: float
    min_bps: float = 0.0
    live: bool = True


@dataclass(slots=True, frozen=True)
class Want:
    """A viewer: what may be sent to him in bit/s (None: anything), the layer he is on ("" for none yet) and the one he asks for."""

    usable_bps: float | None
    current: str = ""
    wish: str = "auto"


@dataclass(slots=True, frozen=True)
class Share:
    """What a viewer is sent: a layer, and where he cannot take all of it, at how many bit/s it is thinned out."""

    layer: str
    thin_bps: float | None = None


def plan(layers: Sequence[LayerFacts], wants: Mapping[K, Want]) -> tuple[dict[str, float], dict[K, Share]]:
    """Rates of the layers that can be changed and are watched, and each viewer's share.

    Args:
        layers: Those that deliver, best first; at least one.
        wants: The viewers.
    """
    rates: dict[str, float] = {}
    shares: dict[K, Share] = {}
    names = [layer.name for layer in layers]
    waiting = dict(wants)
    for place, layer in enumerate(layers):
        last = place == len(layers) - 1
        usable = {key: min(layer.max_bps, _usable(want, layer)) for key, want in waiting.items()}
        asked = {key for key, want in waiting.items() if want.wish == layer.name or (last and want.wish not in names)}
        free = {key for key, want in waiting.items() if want.wish not in names}
        if last:
            fitting = set(waiting)
        else:
            needed = layer.min_bps if layer.live else layer.max_bps
            fitting = asked | {
                key for key in free if (bps := waiting[key].usable_bps) is None or bps >= needed * _margin(waiting[key], layer)
            }
        if not fitting:
            continue
        best = max(usable[key] for key in fitting)
        together = {key for key in fitting if usable[key] >= best * TOGETHER} if layer.live else fitting
        rate = min(usable[key] for key in together) if layer.live else layer.max_bps
        for key in fitting:
            if key not in together and key not in asked and not last:
                continue  # on to the next layer
            # A rate that varies about its mean is no reason to leave pictures out.
            short = usable[key] < rate * (0.8 if layer.live else 0.95)
            shares[key] = Share(layer.name, _usable(waiting[key], layer) if short else None)
            del waiting[key]
        if layer.live:
            rates[layer.name] = rate
    return rates, shares


def _usable(want: Want, layer: LayerFacts) -> float:
    return layer.max_bps if want.usable_bps is None else want.usable_bps


def _margin(want: Want, layer: LayerFacts) -> float:
    """How much of a layer's need a viewer must have: less to stay than to climb, since each change costs a keyframe."""
    if not layer.live:
        return 1.0 if want.current == layer.name else CLIMB
    return STAY if want.current == layer.name else CLIMB


def low_layer(width: int, height: int, bitrate: int) -> tuple[int, int, int] | None:
    """Width, height and highest bitrate of the small rendition of a camera, None where it is small itself.

    Half of the sides; an encoder needs a third of the rate for a quarter of the pixels.
    """
    if width * height <= 480 * 360:
        return None
    side = 2 if width * height <= 1920 * 1088 else 4
    return width // side // 2 * 2, height // side // 2 * 2, max(150_000, round(bitrate * (side**-1.5)))


def picture_rate(width: int, height: int, fps: float, bitrate: float) -> float:
    """Pictures a second that `bitrate` can carry well: all of them, or fewer where each would have too few bits."""
    enough = bitrate / (width * height * _BITS_PER_PIXEL)
    return fps if enough >= fps else max(min(fps, _MIN_FPS), enough)
