from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from edgeagent.drivers import Bitrate, PictureSize


class Options(BaseModel, extra="forbid"):
    bitrate: Bitrate = 3_000_000
    size: PictureSize = (1280, 720)


@pytest.mark.parametrize(
    ("text", "rate"), [("3M", 3_000_000), ("500k", 500_000), ("1.5 M", 1_500_000), (800_000, 800_000), ("2M bit/s", None)]
)
def test_rates(text: Any, rate: int | None) -> None:
    if rate is None:
        with pytest.raises(ValidationError, match="like 3M"):
            Options(bitrate=text)
    else:
        assert Options(bitrate=text).bitrate == rate


@pytest.mark.parametrize("text", ["", "3 G", "fast", "-1M", None, True, [3], "1k", "999M"])
def test_rates_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        Options(bitrate=text)


@pytest.mark.parametrize(("text", "size"), [("640x480", (640, 480)), ("1920×1080", (1920, 1080)), ((640, 360), (640, 360))])
def test_sizes(text: Any, size: tuple[int, int]) -> None:
    assert Options(size=text).size == size


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("641x480", "even"), ("64x48", "between"), ("9998x10", "between"), ("720p", "like 1280x720"), (None, "like 1280x720")],
)
def test_sizes_refused(text: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Options(size=text)


def test_schema_allows_what_people_write() -> None:
    properties = Options.model_json_schema()["properties"]
    assert properties["size"]["type"] == "string"
    assert {"type": "integer"} in properties["bitrate"]["anyOf"]
