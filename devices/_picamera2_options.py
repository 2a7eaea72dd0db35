"""The keys of a `picamera2` camera: those of rpicam-apps by name and meaning, checked before any camera is opened."""

from __future__ import annotations

__all__ = ["LoresOptions", "Picamera2Options"]

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from edgeagent.drivers import Bitrate, PictureSize

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)?")
_MICROSECONDS = {None: 1, "us": 1, "ms": 1_000, "s": 1_000_000}
_HARDWARE_SIDE = 1920  # the longest that the encoder of a Pi 4 and older takes
_LORES_SIDE, _LORES_MIN = 640, (320, 180)


def _microseconds(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write a time like 10ms, or a number of microseconds")
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("write a time like 10ms, or a number of microseconds")
    return round(float(match[1]) * _MICROSECONDS[match[2]])


def _numbers(value: Any) -> Any:
    """`1.5,1.2` as rpicam-apps writes it; a list is taken as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _switch(value: Any) -> Any:
    """`off` and `on` as booleans, which they are in some YAML and not in ours."""
    return {"off": False, "on": True}.get(value, value) if isinstance(value, str) else value


def _word(value: Any) -> Any:
    value = _switch(value)
    return {False: "off", True: "auto"}[value] if isinstance(value, bool) else value


def _dioptres(value: Any) -> Any:
    return 0.0 if value in ("inf", ".inf", float("inf")) else value


def _wished(value: Any) -> Any:
    value = _switch(value)
    return ({} if value else None) if isinstance(value, bool) else value


def _or_boolean(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [*(part for part in schema["anyOf"] if part.get("type") != "null"), {"type": "boolean"}]
    schema["default"] = True


_TIME = WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(us|ms|s)?$"}]})
_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]}
Microseconds = Annotated[int, BeforeValidator(_microseconds), _TIME]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Gain = Annotated[float, Field(gt=0, le=32)]
Area = Annotated[tuple[_Fraction, _Fraction, _Fraction, _Fraction], BeforeValidator(_numbers), WithJsonSchema(_LIST)]


class _Keys(BaseModel, extra="forbid"):
    @model_validator(mode="before")
    @classmethod
    def _hyphens(cls, data: Any) -> Any:
        """rpicam-apps writes `autofocus-mode`; our keys have underscores. Both are right."""
        if not isinstance(data, dict):
            return data
        plain: dict[Any, Any] = {}
        for key, value in data.items():
            known = key.replace("-", "_") if isinstance(key, str) else key
            plain[known if known in cls.model_fields and known not in data else key] = value
        return plain


class LoresOptions(_Keys):
    """A second, smaller picture of the same camera: for small tiles, slow links and motion detection."""

    size: PictureSize | None = Field(default=None, description="Width and height in pixels; by default like 640x360")
    bitrate: Bitrate = Field(default=500_000, description="bit/s, like 500k")


class Picamera2Options(_Keys):
    """The keys of a `picamera2` camera."""

    camera: Annotated[int, Field(ge=0, le=15)] | str = Field(
        default=0,
        description="Which camera: 0, 1 … as `rpicam-hello --list-cameras` counts, or better a part of its Id, like i2c@88000",
    )
    size: PictureSize = Field(default=(1280, 720), description="Width and height in pixels, like 1280x720")
    fps: float = Field(default=30, ge=1, le=120, description="Pictures a second")
    bitrate: Bitrate = Field(default=3_000_000, description="bit/s, like 3M")
    intra: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None, description="Pictures from keyframe to keyframe where nobody asks for one; 10 seconds by default"
    )
    lores: Annotated[LoresOptions | None, BeforeValidator(_wished)] = Field(
        default_factory=LoresOptions,
        description="A second, smaller stream: `size` and `bitrate`, or false for none",
        json_schema_extra=_or_boolean,
    )

    rotation: Literal[0, 180] = Field(default=0, description="Turn the picture by 180 degrees")
    hflip: bool = Field(default=False, description="Mirror left and right")
    vflip: bool = Field(default=False, description="Turn top and bottom round")
    roi: Area | None = Field(default=None, description="Digital zoom: x,y,width,height as fractions, like 0.25,0.25,0.5,0.5")

    autofocus_mode: Literal["default", "manual", "auto", "continuous"] = Field(
        default="default", description="default: continuous, or manual with lens_position; auto focuses once at the start"
    )
    autofocus_range: Literal["normal", "macro", "full"] | None = Field(default=None, description="Distances to look at")
    autofocus_speed: Literal["normal", "fast"] | None = Field(default=None, description="How fast the lens moves")
    autofocus_window: Area | None = Field(default=None, description="Where to focus: x,y,width,height as fractions")
    lens_position: Annotated[float, BeforeValidator(_dioptres), Field(ge=0, le=32)] | None = Field(
        default=None, description="Fixed focus in dioptres (1 / metres): 0.5 is 2 m, 0 is infinity"
    )

    exposure: Literal["normal", "sport", "short", "long", "custom"] | None = Field(
        default=None, description="sport or short: less blur in motion, more noise"
    )
    shutter: Annotated[Microseconds, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Fixed exposure time, like 10ms; a number alone is microseconds"
    )
    gain: Annotated[float, Field(gt=0, le=64)] | None = Field(default=None, description="Fixed analogue gain")
    ev: Annotated[float, Field(ge=-8, le=8)] | None = Field(default=None, description="Exposure compensation in stops")
    metering: Literal["centre", "spot", "average", "matrix", "custom"] | None = Field(
        default=None, description="Where brightness is measured"
    )
    flicker_period: Annotated[Microseconds, Field(ge=100, le=1_000_000)] | None = Field(
        default=None, description="Against the flicker of lamps: 10ms for mains of 50 Hz, 8333us for 60 Hz"
    )
    awb: Literal["auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy", "custom"] | None = Field(
        default=None, description="White balance"
    )
    awbgains: Annotated[tuple[_Gain, _Gain], BeforeValidator(_numbers), WithJsonSchema(_LIST)] | None = Field(
        default=None, description="Fixed white balance: gains for red and blue, like 1.8,1.5"
    )

    denoise: Annotated[Literal["auto", "off", "cdn_off", "cdn_fast", "cdn_hq"], BeforeValidator(_word)] = Field(
        default="auto", description="auto is cdn_fast"
    )
    brightness: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, description="-1 to 1, 0 is normal")
    contrast: Annotated[float, Field(ge=0, le=32)] | None = Field(default=None, description="1 is normal")
    saturation: Annotated[float, Field(ge=0, le=32)] | None = Field(default=None, description="1 is normal, 0 is grey")
    sharpness: Annotated[float, Field(ge=0, le=16)] | None = Field(default=None, description="1 is normal")
    hdr: Annotated[Literal["off", "auto", "sensor", "single-exp"], BeforeValidator(_word)] | None = Field(
        default=None,
        description="sensor: Camera Module 3; single-exp: Pi 5; auto takes what there is. As the camera was left, by default",
    )
    tuning_file: str | None = Field(
        default=None,
        description="A tuning file of libcamera: its path (relative to the configuration), or its name like imx477_noir.json",
    )

    @field_validator("camera", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, bool) or text == "":
            raise ValueError("write 0 or 1, or a part of the camera's Id")
        return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 3 else text

    @field_validator("roi", "autofocus_window")
    @classmethod
    def _inside(cls, value: Area | None) -> Area | None:
        if value and (value[0] + value[2] > 1 or value[1] + value[3] > 1 or 0 in value[2:]):
            raise ValueError("write x,y,width,height as fractions from 0 to 1, inside the picture")
        return value

    @field_validator("tuning_file")
    @classmethod
    def _beside_the_configuration(cls, value: str | None, info: ValidationInfo) -> str | None:
        from pathlib import Path

        if value is None:
            return None
        if not value.endswith(".json"):
            raise ValueError("write the name of a tuning file of libcamera; it ends in .json")
        path = Path((info.context or {}).get("folder", ".")) / value
        if path.is_file():
            return str(path.absolute())
        if len(Path(value).parts) > 1:
            raise ValueError(
                "there is no such file; write a path relative to the configuration, or just a name like imx477_noir.json"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Picamera2Options:
        width, height = self.size
        if self.lores and self.lores.size and (self.lores.size[0] > width or self.lores.size[1] > height):
            raise ValueError("the size of `lores` may not exceed `size`")
        if self.shutter and self.shutter > 1e6 / self.fps:
            raise ValueError(
                f"a shutter of {self.shutter / 1000:g} ms leaves at most {1e6 / self.shutter:.3g} pictures a second: "
                "lower `fps` or `shutter`"
            )
        if self.lens_position is not None and self.autofocus_mode in ("auto", "continuous"):
            raise ValueError(
                "`lens_position` is for a fixed focus: write it without `autofocus_mode`, or with `autofocus_mode: manual`"
            )
        if self.autofocus_mode == "manual" and (self.autofocus_range or self.autofocus_speed or self.autofocus_window):
            raise ValueError("`autofocus_range`, `autofocus_speed` and `autofocus_window` do nothing with `autofocus_mode: manual`")
        if self.awbgains and self.awb:
            raise ValueError("write either `awb` or `awbgains`")
        return self

    @property
    def fits_hardware(self) -> bool:
        """Whether the encoder of a Pi 4 and older takes pictures of this size."""
        return max(self.size) <= _HARDWARE_SIDE

    @property
    def lores_size(self) -> tuple[int, int] | None:
        """Size of the layer `lores`; None where there is none: switched off, or the main picture is small itself."""
        if not self.lores or self.lores.size:
            return self.lores.size if self.lores else None
        scale = min(0.5, _LORES_SIDE / max(self.size))
        width, height = (round(side * scale / 2) * 2 for side in self.size)
        return (width, height) if width >= _LORES_MIN[0] and height >= _LORES_MIN[1] else None
