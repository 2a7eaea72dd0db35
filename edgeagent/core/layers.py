"""Which rendition of a camera each viewer is sent, and at what rate each is encoded. Sans-IO; rates in bit/s, times in s come in.

The best viewers decide a layer's rate; who cannot follow takes the next layer, and on the last one fewer pictures: one slow viewer
never softens the picture of the others for long. Estimates of a network rise and fall by a third though it stays the same, and not
together where two are alike: who is a little behind has a moment to catch up, and who falls again and again stays away.
"""

from __future__ import annotations

__all__ = ["LayerFacts", "Planner", "Share", "Want", "low_layer", "picture_rate", "plan"]

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

TOGETHER = 0.85
"""Viewers with at least this share of the best one's rate are served at the least of theirs."""
TOGETHER_YET, YET_S = 0.6, 2.0
"""The same for who was together with the others until so many seconds ago."""
AWAY_S, MOST_AWAY_S = 10.0, 60.0
"""Who falls from a layer once more does not return to the others there for so long, and twice as long each time. It begins anew
when he has not fallen for `MOST_AWAY_S` in which he might have returned."""
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


@dataclass(slots=True)
class _Falls:
    """Of one viewer: since when he is behind the others of his layer, and from which layer he stays away."""

    behind_since: float | None = None
    layer: str = ""
    away_s: float = 0.0
    until: float = float("-inf")


class Planner(Generic[K]):
    """`plan`, without anybody going to and fro between two layers: each change costs all who watch them a keyframe.

    Attributes:
        due_at: When another plan may differ though the networks are the same; inf where none will.
    """

    def __init__(self) -> None:
        self.due_at = float("inf")
        self._falls: dict[K, _Falls] = {}

    def plan(self, layers: Sequence[LayerFacts], wants: Mapping[K, Want], now: float) -> tuple[dict[str, float], dict[K, Share]]:
        """See the function `plan`."""
        names = [layer.name for layer in layers]
        self._falls = falls = {key: self._falls.get(key) or _Falls() for key in wants}
        away = {key: fall.layer for key, fall in falls.items() if now < fall.until}
        rates, shares = plan(layers, wants, away)
        yet = set()
        for key, fall in falls.items():
            if not _falls_from(wants[key], shares[key], names):
                fall.behind_since = None
                continue
            if fall.behind_since is None:
                fall.behind_since = now
            if now < fall.behind_since + YET_S:
                yet.add(key)
        if yet:
            rates, shares = plan(layers, wants, away, yet)
        for key, fall in falls.items():
            if _falls_from(wants[key], shares[key], names):
                fall.away_s = 0.0 if now > fall.until + MOST_AWAY_S else min(MOST_AWAY_S, max(AWAY_S, 2 * fall.away_s))
                fall.layer, fall.until, fall.behind_since = wants[key].current, now + fall.away_s, None
        ends = [fall.until for fall in falls.values()]
        ends += [fall.behind_since + YET_S for fall in falls.values() if fall.behind_since is not None]
        self.due_at = min((at for at in ends if at > now), default=float("inf"))
        return rates, shares


def _falls_from(want: Want, share: Share, names: Sequence[str]) -> bool:
    """Whether a viewer who wishes no layer leaves one for a lower one."""
    if want.wish in names or want.current not in names:
        return False
    return names.index(share.layer) > names.index(want.current)


def plan(
    layers: Sequence[LayerFacts], wants: Mapping[K, Want], away: Mapping[K, str] | None = None, yet: Container[K] = ()
) -> tuple[dict[str, float], dict[K, Share]]:
    """Rates of the layers that can be changed and are watched, and each viewer's share.

    Args:
        layers: Those that deliver, best first; at least one.
        wants: The viewers.
        away: Who may not come to which layer where others are.
        yet: Who stays with the others of his layer though he is a little behind.
    """
    away = away or {}
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
            if layer.live:  # a keyframe for one is one for all
                others = {
                    key for key in fitting if key in asked or away.get(key) != layer.name or waiting[key].current == layer.name
                }
                fitting = others or fitting
        if not fitting:
            continue
        best = max(usable[key] for key in fitting)
        together = fitting
        if layer.live:
            least = {key: TOGETHER_YET if key in yet and waiting[key].current == layer.name else TOGETHER for key in fitting}
            together = {key for key in fitting if usable[key] >= best * least[key]}
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
