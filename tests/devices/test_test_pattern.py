from __future__ import annotations

import datetime
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from edgeagent.core import stamp
from edgeagent.drivers import EncodedFrame, registry
from edgeagent.drivers.conformance import Recording, assert_conforms, record
from edgeagent.media.encoder import make_encoder
from edgeagent_devices._lettering import draw, measure
from edgeagent_devices._test_card import TestCard
from edgeagent_devices.test_pattern import TestPatternCamera, date_and_clock


def camera(**options: Any) -> TestPatternCamera:
    return TestPatternCamera("porch", TestPatternCamera.Options(**options))


def best(recording: Recording) -> list[EncodedFrame]:
    """The frames of the layer `main`: a recording wants the small one as well."""
    return [frame for frame in recording.frames if frame.layer == "main"]


def decode(frames: list[EncodedFrame]) -> list[NDArray[np.uint8]]:
    """The luma planes."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = [picture for frame in frames for picture in decoder.decode(av.Packet(frame.data))]
    return [plane_of(picture, 0) for picture in [*pictures, *decoder.decode(None)]]


def plane_of(picture: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = picture.planes[index]
    return np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def read(luma: NDArray[np.uint8]) -> stamp.Stamp | None:
    return stamp.read(luma.shape[1], luma.shape[0], lambda x, y: int(luma[y, x]))


def test_conforms() -> None:
    assert_conforms(camera(size="640x360", bitrate="1M"), make_encoder)


def test_is_found_and_says_what_it_can() -> None:
    assert registry.load("test-pattern") is TestPatternCamera
    assert TestPatternCamera.stamped
    assert camera().capabilities.keyframe_on_demand
    assert camera().capabilities.live_bitrate
    assert not camera().capabilities.always_on


@pytest.mark.parametrize("options", [{"size": "12x12"}, {"fps": 0}, {"bitrate": "1"}, {"colour": "red"}, {"title": "x" * 41}])
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TestPatternCamera.Options(**options)


def test_every_picture_carries_its_number_and_time() -> None:
    recording = record(camera(size="640x480", bitrate="600k"), make_encoder, lambda it: it.wait_for(40, 20, "main"))
    frames = best(recording)
    stamps = [read(luma) for luma in decode(frames)]
    numbers = [found.frame_number for found in stamps if found]
    assert len(numbers) == len(frames) >= 40
    assert numbers == [frame.timestamp // 3000 for frame in frames]
    times = [found.unix_ms for found in stamps if found]
    spans = [(frame.captured_at - frames[0].captured_at) * 1000 for frame in frames]
    assert all(abs((taken - times[0]) % 2**40 - span) < 3 for taken, span in zip(times, spans, strict=True))


@pytest.mark.parametrize(("size", "bitrate"), [("640x480", 400_000), ("640x480", 2_000_000), ("1280x720", 3_000_000)])
def test_uses_its_rate(size: str, bitrate: int) -> None:
    """Counted in media time, so that a busy machine, which skips pictures, is not blamed on the card."""
    recording = record(camera(size=size, bitrate=bitrate), make_encoder, lambda it: it.wait_for(105, 30, "main"))
    settled = best(recording)[30:]
    assert sum(len(frame.data) for frame in settled) * 8 * 30 / len(settled) > 0.9 * bitrate


def test_follows_the_wished_rate() -> None:
    def script(it: Recording) -> None:
        it.wait_for(20, 20, "main")
        it.bitrate = 300_000
        it.wait_for(100, 20, "main")

    recording = record(camera(size="640x480", bitrate="1M"), make_encoder, script)
    settled = best(recording)[50:]
    assert 0.8 < sum(len(frame.data) for frame in settled) * 8 * 30 / len(settled) / 300_000 < 1.2


def test_says_the_size_and_profile() -> None:
    recording = record(camera(size="640x360", fps=15), make_encoder, lambda it: it.wait_for(2, 20))
    info = recording.infos["main"]
    assert (info.width, info.height, info.fps, info.profile_level_id[:4]) == (640, 360, 15, "42c0")


def test_words_of_the_clock() -> None:
    assert date_and_clock(datetime.datetime(2026, 11, 23, 14, 5, 9)) == ("Monday 23 November", "14:05:09")
    assert date_and_clock(datetime.datetime(2027, 3, 7, 0, 0, 0)) == ("Sunday 7 March", "00:00:00")


@pytest.mark.parametrize("size", [(320, 180), (640, 480), (1280, 720), (1920, 1080), (400, 1000), (1000, 182)])
def test_card_of_any_size_changes_where_it_should(size: tuple[int, int]) -> None:
    card = TestCard(*size, title="A name as long as they may be written 123", caption="caption")

    def picture(number: int, seconds: float, clock: str) -> NDArray[np.uint8]:
        card.update(number, seconds, "Wednesday 23 September", clock, stamp.pack(number, 1000 * number))
        return plane_of(card.picture, 0).copy()

    for index in (1, 2):
        assert np.all(plane_of(card.picture, index)[-2:, :150] == 128), "no colour behind the stamp"

    first = picture(7, 0.0, "00:00:00")
    assert read(first) == stamp.Stamp(7, 7000)
    assert first.min() >= 16
    assert first.max() <= 235
    later = picture(8, 1.3, "18:59:48")
    assert read(later) == stamp.Stamp(8, 8000)
    again = picture(7, 0.0, "00:00:00")
    assert np.array_equal(first, again), "what moves leaves no trace behind"
    changed = (first != later).mean()
    assert 0.02 < changed < 0.5


def test_lettering() -> None:
    coverage, base = draw("Grün", 20, 2)
    assert coverage.max() == 1
    assert coverage[base + 3 :].max() == 0, "nothing hangs below the line"
    assert coverage.shape[1] >= measure("Grün", 20)
    assert measure("Grün", 20) == measure("Grun", 20)
    assert draw("", 20, 2)[0].max() == 0
    assert np.array_equal(draw("猫", 20, 2)[0], draw("?", 20, 2)[0])
