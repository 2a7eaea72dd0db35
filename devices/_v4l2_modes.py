"""What a USB camera offers, and which of it is the best for what the owner wants."""

from __future__ import annotations

__all__ = ["Mode", "Offer", "choose", "offers", "summary"]

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeagent.drivers import DeviceFault, v4l2

RAW = {
    "YU12": "yuv420p", "NV12": "nv12", "YUYV": "yuyv422", "UYVY": "uyvy422", "YVYU": "yvyu422",
    "RGB3": "rgb24", "BGR3": "bgr24", "GREY": "gray",
}  # fmt: skip
"""Raw pixel formats, the one that costs least first, and libav's names for them."""
_KINDS = {"H264": "h264", "MJPG": "mjpeg", "JPEG": "mjpeg"} | dict.fromkeys(RAW, "yuyv")
_NAMES = {"h264": "H.264", "mjpeg": "MJPEG", "yuyv": "raw (YUYV)"}
_ORDER = ["h264", "yuyv", "mjpeg"]
"""Nothing to encode, then nothing to decode."""
_TYPICAL = (1280, 720)
_REACHED = 0.8  # of the wanted rate
_SIZES_TOLD = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """A size of a pixel format with its frame rates, each as lowest and highest; none where the camera does not say."""

    node: str
    code: int
    width: int
    height: int
    rates: tuple[tuple[float, float], ...]

    @property
    def fourcc(self) -> str:
        return v4l2.fourcc_name(self.code)

    @property
    def kind(self) -> str:
        """`h264`, `mjpeg` or `yuyv`, which stands for everything raw."""
        return _KINDS[self.fourcc]


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to run a camera."""

    offer: Offer
    fps: float

    def __str__(self) -> str:
        name = self.offer.fourcc if self.offer.fourcc in RAW else _NAMES[self.offer.kind]
        return f"{name} {self.offer.width}x{self.offer.height} at {self.fps:g} frames a second"


def offers(node: v4l2.Node, wanted: tuple[int, int] | None) -> list[Offer]:
    """What a node offers; of a range of sizes only the wanted one, or what comes nearest to the typical one.

    Raises:
        OSError: The device does not answer.
    """
    found = []
    for info in node.formats(v4l2.BufferType.CAPTURE):
        if v4l2.fourcc_name(info.code) not in _KINDS:
            continue
        for low_w, high_w, step_w, low_h, high_h, step_h in node.sizes(info.code):
            width = _within((wanted or _TYPICAL)[0], low_w, high_w, step_w)
            height = _within((wanted or _TYPICAL)[1], low_h, high_h, step_h)
            found.append(Offer(node.path, info.code, width, height, tuple(node.rates(info.code, width, height))))
    return found


def choose(found: Sequence[Offer], size: tuple[int, int] | None, fps: float, kind: str) -> list[Mode]:
    """The modes that fit, the best first: the rate reached, the size near 1280x720 where none is wanted, the least work.

    Args:
        found: Of all nodes of the camera.
        size: What the owner wants, None where he does not care.
        fps: Frames a second wanted; reached means 80 % of it.
        kind: `auto`, `h264`, `mjpeg` or `yuyv`.

    Raises:
        DeviceFault: Nothing fits; the sentence says what there is.
    """
    if not found:
        raise DeviceFault("The camera offers no format that can be used (H.264, MJPEG or raw pictures).", retry=False)
    of_kind = [offer for offer in found if kind in ("auto", offer.kind)]
    if not of_kind:
        there = ", ".join(_NAMES[name] for name in _ORDER if any(offer.kind == name for offer in found))
        raise DeviceFault(f"The camera does not deliver {_NAMES[kind]}; it offers {there}. Write format: auto.", retry=False)
    if size:
        fitting = [offer for offer in of_kind if (offer.width, offer.height) == size]
        if not fitting:
            raise DeviceFault(
                f"The camera does not offer {size[0]}x{size[1]}. Write as `size` one of {_sizes(of_kind)}.", retry=False
            )
    else:
        limit = _TYPICAL[0] * _TYPICAL[1]
        fitting = [offer for offer in of_kind if offer.width * offer.height <= limit] or [min(of_kind, key=_area)]
    modes = {Mode(offer, _rate(offer, fps)): None for offer in fitting}
    return sorted(modes, key=lambda mode: _rank(mode, fps))


def summary(found: Iterable[Offer]) -> list[str]:
    """A sentence for each kind: `MJPEG: 1920x1080 at up to 30, 1280x720 at up to 60 frames a second`."""
    sentences = []
    for kind in _ORDER:
        best: dict[tuple[int, int], float] = {}
        for offer in found:
            if offer.kind == kind:
                rate = max((high for _, high in offer.rates), default=0.0)
                best[offer.width, offer.height] = max(rate, best.get((offer.width, offer.height), 0.0))
        if best:
            largest = sorted(best.items(), key=lambda item: -item[0][0] * item[0][1])[:_SIZES_TOLD]
            texts = [f"{w}x{h}" + (f" at up to {round(rate, 2):g}" if rate else "") for (w, h), rate in largest]
            sentences.append(f"{_NAMES[kind]}: {', '.join(texts)} frames a second")
    return sentences


def _rank(mode: Mode, fps: float) -> tuple[bool, int, int, float, int]:
    offer = mode.offer
    reached = mode.fps >= _REACHED * fps
    raw = list(RAW).index(offer.fourcc) if offer.fourcc in RAW else 0
    return (not reached, -_area(offer), _ORDER.index(offer.kind) if reached else 0, -min(mode.fps, fps), raw)


def _rate(offer: Offer, fps: float) -> float:
    """The rate nearest to the wanted one, rather above it than below."""
    if not offer.rates:
        return fps
    nearest = [min(max(fps, low), high) for low, high in offer.rates]
    enough = [rate for rate in nearest if rate >= fps - 0.5]
    return min(enough) if enough else max(nearest)


def _within(value: int, low: int, high: int, step: int) -> int:
    """The nearest allowed value at or below the wanted one."""
    value = min(max(value, low), high)
    return low + (value - low) // step * step


def _area(offer: Offer) -> int:
    return offer.width * offer.height


def _sizes(found: Iterable[Offer]) -> str:
    sizes = sorted({(offer.width, offer.height) for offer in found}, key=lambda size: -size[0] * size[1])
    return ", ".join(f"{width}x{height}" for width, height in sizes[:_SIZES_TOLD])
