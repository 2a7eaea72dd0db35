"""Driver `test-pattern`: a test card with a clock, motion, grain and a machine-readable stamp of the capture time.

All that stands still is drawn once; a picture then costs a few small copies: the ring's glow, the grain in the lens, the
playhead, the digits that changed, and the stamp. The grain cannot be predicted, so that the encoder uses the rate it was given.
"""

from __future__ import annotations

__all__ = ["TestPatternCamera"]

import datetime
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field

from edgeagent.drivers import Bitrate, Camera, CameraIO, Capabilities, PictureSize, Renditions, stamp

if TYPE_CHECKING:
    from edgeagent_devices._test_card import TestCard

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


class TestPatternCamera(Camera):
    """Draws and encodes a test card in real time."""

    summary: ClassVar[str] = "A moving test card with a clock: tries out everything without a camera"
    stamped: ClassVar[bool] = True
    __test__ = False  # its name makes pytest look for tests in it

    class Options(BaseModel, extra="forbid"):
        """The keys of a `test-pattern` camera."""

        size: PictureSize = Field(default=(1280, 720), description="Width and height in pixels, like 1280x720")
        fps: float = Field(default=30, ge=1, le=120, description="Pictures a second")
        bitrate: Bitrate = Field(default=3_000_000, description="bit/s, like 3M")
        title: str = Field(default="", max_length=40, description="Large on the card; the camera's name where empty")

    options: Options

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._card: TestCard | None = None
        self._drawing = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """Keyframes and rates as asked, and a small layer for slow networks."""
        return self._renditions().capabilities

    def run(self, io: CameraIO) -> None:
        """Draw, encode and hand over until `io.stopping`."""
        fps, renditions = self.options.fps, self._renditions()
        card = self._draw_card()
        number = 0
        began = io.now()
        try:
            while not io.stopping.is_set():
                now, unix_s = io.now(), time.time()
                date, clock = date_and_clock(datetime.datetime.fromtimestamp(unix_s))
                card.update(number, now - began, date, clock, stamp.pack(number, int(unix_s * 1000)))
                timestamp = round(number * 90_000 / fps)
                for frame in renditions.encode(io, card.picture, number=number, timestamp=timestamp, captured_at=now):
                    io.emit(frame)
                # The next tick of the grid, leaving out those that have passed: late pictures never pile up.
                number = max(number + 1, int((io.now() - began) * fps))
                io.stopping.wait(max(0.0, began + number / fps - io.now()))
        finally:
            renditions.close()

    def prepare(self) -> None:
        """Draw what stands still: a third of a second on a PC."""
        self._draw_card()

    def _draw_card(self) -> TestCard:
        with self._drawing:
            if self._card is None:
                self._card = self._new_card()
            return self._card

    def _renditions(self) -> Renditions:
        (width, height), fps, bitrate = self.options.size, self.options.fps, self.options.bitrate
        colours = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
        return Renditions(width, height, fps, bitrate, colours)

    def _new_card(self) -> TestCard:
        from edgeagent_devices._test_card import TestCard

        (width, height), fps, bitrate = self.options.size, self.options.fps, self.options.bitrate
        return TestCard(
            width, height, self.options.title or self.name, f"{width}×{height} · {fps:g} fps · {bitrate / 1e6:g} Mbit/s"
        )


def date_and_clock(now: datetime.datetime) -> tuple[str, str]:
    """`Monday 23 November` and `14:05:09`, in English whatever the locale."""
    return f"{_WEEKDAYS[now.weekday()]} {now.day} {_MONTHS[now.month - 1]}", f"{now:%H:%M:%S}"
