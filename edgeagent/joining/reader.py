"""Reads QR codes in the cameras' pictures."""

from __future__ import annotations

__all__ = ["Pictures", "Reader", "texts_in", "why_not"]

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from edgeagent.errors import DeviceFault
from edgeagent.media.luma import Luma, luma
from edgeagent.model import Capabilities, EncodedFrame

log = logging.getLogger(__name__)

_MOST_TEXTS = 8
_MOST_CHARS = 2048


class Pictures(Protocol):
    """A camera's pictures; `media.hub.Hub` is one."""

    capabilities: Capabilities

    async def gop(self, layer: str = "main", timeout_s: float = 5.0) -> list[EncodedFrame]:
        """Frames from a keyframe on, at most a second old; starts the camera for it. Raises DeviceFault."""


class Reader:
    """Looks at every camera at once.

    Args:
        cameras: The board's own ones, by name; not those on the network, where anybody may stand between.
    """

    def __init__(self, cameras: Mapping[str, Pictures]) -> None:
        self._cameras = cameras
        self._seen: dict[str, float] = {}

    async def look(self) -> list[str]:
        """What the QR codes say that are before the cameras now; a camera that gives no picture has none.

        Raises:
            DeviceFault: No QR can be read here at all, and why.
        """
        if problem := self.why_not():
            raise DeviceFault(problem, retry=False)
        found = await asyncio.gather(*(self._at(name, camera) for name, camera in self._cameras.items()))
        return list(dict.fromkeys(text for texts in found for text in texts))

    def why_not(self) -> str:
        """Why nothing can be read here, one sentence; "" where it can."""
        return self.blind(self._cameras)

    @staticmethod
    def blind(own: Collection[str]) -> str:
        """The same for a board with these cameras of its own."""
        return why_not() if own else "No camera of this board's own is configured, so no QR can be read."

    async def _at(self, name: str, camera: Pictures) -> list[str]:
        try:
            keyframe = (await camera.gop(camera.capabilities.layers[0]))[0]
            if self._seen.get(name) == keyframe.captured_at:  # of a source that cannot be asked for another
                return []
            self._seen[name] = keyframe.captured_at
            return await asyncio.to_thread(_texts_of, keyframe)
        except DeviceFault as fault:  # the camera's runner has told of it
            log.debug("camera %s: no picture to read a QR in: %s", name, fault)
            return []


def why_not() -> str:
    """Why no QR can be read here and what to do, one sentence; "" where it can."""
    if importlib.util.find_spec("zxingcpp") is not None:
        return ""
    return f"A QR before the camera cannot be read, since zxing-cpp is not installed: `{sys.executable} -m pip install zxing-cpp`."


def texts_in(picture: Luma) -> list[str]:
    """What the QR codes of a picture say; takes 3 to 30 ms.

    Raises:
        DeviceFault: zxing-cpp is not installed.
    """
    try:
        import zxingcpp
    except ImportError:
        raise DeviceFault(why_not() or "zxing-cpp is damaged: install it again.", retry=False) from None
    pixels = memoryview(picture.data).cast("B", (picture.height, picture.width))
    wanted: Any = zxingcpp.BarcodeFormat.QRCode  # a set of formats is taken, too, and only that is declared
    found = zxingcpp.read_barcodes(pixels, formats=wanted, text_mode=zxingcpp.TextMode.Plain)
    texts = [code.text for code in found[:_MOST_TEXTS] if code.valid]
    return list(dict.fromkeys(text for text in texts if 0 < len(text) <= _MOST_CHARS))


def _texts_of(keyframe: EncodedFrame) -> list[str]:
    return texts_in(luma(keyframe))
