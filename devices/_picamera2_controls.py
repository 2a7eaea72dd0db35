"""From the options to libcamera's controls, leaving out what this camera does not offer."""

from __future__ import annotations

__all__ = ["Wish", "wishes", "within"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeagent_devices._picamera2_options import Picamera2Options

_EXPOSURE = {"normal": "Normal", "sport": "Short", "short": "Short", "long": "Long", "custom": "Custom"}
_METERING = {"centre": "CentreWeighted", "spot": "Spot", "average": "Matrix", "matrix": "Matrix", "custom": "Custom"}
_DENOISE = {"auto": "Fast", "off": "Off", "cdn_off": "Minimal", "cdn_fast": "Fast", "cdn_hq": "HighQuality"}


@dataclass(frozen=True, slots=True)
class Wish:
    """One control.

    Attributes:
        option: The key that asks for it; "" for what nobody wrote.
        control: libcamera's name.
        value: What to set: a number, a tuple, or `(enumeration, member)` by name, looked up only where the control is there.
    """

    option: str
    control: str
    value: Any


def wishes(options: Picamera2Options, properties: Mapping[str, Any]) -> list[Wish]:
    """Everything the options ask for, in libcamera's names.

    Args:
        options: Of the camera.
        properties: The camera's (`ScalerCropMaximum`, `PixelArraySize`), for windows given as fractions.
    """
    made = [
        Wish(
            "denoise" if options.denoise != "auto" else "",
            "NoiseReductionMode",
            ("draft", "NoiseReductionMode", _DENOISE[options.denoise]),
        )
    ]

    def add(option: str, control: str, convert: Callable[[Any], Any] = lambda value: value) -> None:
        value = getattr(options, option)
        if value is not None:
            made.append(Wish(option, control, convert(value)))

    def member(enumeration: str, names: Mapping[str, str] | None = None) -> Callable[[str], Any]:
        return lambda word: (enumeration, names[word] if names else word.capitalize())

    made += _focus(options)
    add("autofocus_range", "AfRange", member("AfRange"))
    add("autofocus_speed", "AfSpeed", member("AfSpeed"))
    add("exposure", "AeExposureMode", member("AeExposureMode", _EXPOSURE))
    add("shutter", "ExposureTime")
    add("gain", "AnalogueGain")
    add("ev", "ExposureValue")
    add("metering", "AeMeteringMode", member("AeMeteringMode", _METERING))
    if options.flicker_period is not None:
        made.append(Wish("flicker_period", "AeFlickerMode", ("AeFlickerMode", "Manual")))
    add("flicker_period", "AeFlickerPeriod")
    add("awb", "AwbMode", member("AwbMode"))
    add("awbgains", "ColourGains")
    for name in ("brightness", "contrast", "saturation", "sharpness"):
        add(name, name.capitalize())
    if options.hdr == "single-exp":
        made.append(Wish("hdr", "HdrMode", ("HdrMode", "SingleExposure")))
    if whole := properties.get("ScalerCropMaximum"):
        if options.autofocus_window:
            made.append(Wish("autofocus_window", "AfMetering", ("AfMetering", "Windows")))
            made.append(Wish("autofocus_window", "AfWindows", [_part(whole, options.autofocus_window)]))
        if options.roi:
            made.append(Wish("roi", "ScalerCrop", _part(whole, options.roi)))
    else:
        made += [Wish(option, "ScalerCropMaximum", None) for option in ("autofocus_window", "roi") if getattr(options, option)]
    return made


def within(value: Any, low: Any, high: Any) -> Any:
    """A plain number brought between the bounds that the camera states; anything else as it is."""
    if isinstance(value, bool) or not all(isinstance(item, int | float) for item in (value, low, high)) or low > high:
        return value
    return min(max(value, low), high)


def _focus(options: Picamera2Options) -> list[Wish]:
    """As rpicam-apps has it: continuous unless the lens position is given."""
    mode, asked = options.autofocus_mode, "autofocus_mode"
    if mode == "default":
        mode, asked = ("manual", "lens_position") if options.lens_position is not None else ("continuous", "")
    made = [Wish(asked, "AfMode", ("AfMode", mode.capitalize()))]
    if mode == "auto":
        made.append(Wish(asked, "AfTrigger", ("AfTrigger", "Start")))
    if options.lens_position is not None:
        made.append(Wish("lens_position", "LensPosition", options.lens_position))
    return made


def _part(whole: tuple[int, int, int, int], area: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """A rectangle in pixels of the sensor from fractions of what it can show."""
    x, y, width, height = whole
    return (
        x + round(area[0] * width),
        y + round(area[1] * height),
        max(2, round(area[2] * width)),
        max(2, round(area[3] * height)),
    )
