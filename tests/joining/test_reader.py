from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import pytest

from edgeagent.errors import DeviceFault
from edgeagent.joining import reader
from edgeagent.joining.reader import Reader, texts_in
from edgeagent.media.luma import Luma, luma
from edgeagent.model import Capabilities, EncodedFrame
from edgeagent.wire.claim import Claim
from edgeagent.wire.seal import new_key
from edgeagent.wire.wifi import Wifi, sign_wifi
from tests.joining.shown import Held, clip_of, scene
from tests.support import require

CLAIM = Claim("https://enrol.site.example:8443", "c" * 43, "0123456789abcdef", "S" * 22, "", "Haus Süd", "a-long-key").text()


@pytest.fixture(autouse=True)
def zxing() -> None:
    require("module:zxingcpp")


def grey(text: str, held: Held) -> Luma:
    picture = scene(text, held)
    return Luma(picture.shape[1], picture.shape[0], picture.tobytes())


@pytest.mark.parametrize(
    "held",
    [
        Held(),
        Held(turn=17, blur=3, noise=8),
        Held(turn=90, side=360, noise=12),
        Held(turn=200, tilt=0.12, blur=3),
        Held(turn=-45, blur=5, noise=6),
        Held(turn=8, side=330, blur=3, noise=5, light=(120, 40)),
        Held(turn=3, light=(20, 230)),  # light on dark, as a phone in its dark mode may show it
    ],
    ids=str,
)
def test_a_claim_is_read_as_hands_hold_it(held: Held) -> None:
    assert texts_in(grey(CLAIM, held)) == [CLAIM]


def test_signed_wifi_is_read() -> None:
    text = sign_wifi(Wifi("Haus Süd", "a-long-key-of-a-network"), new_key(), board="gate", at=1_800_000_000)
    assert texts_in(grey(text, Held(turn=11, blur=3, noise=6))) == [text]


def test_an_empty_room_holds_nothing() -> None:
    assert texts_in(grey(CLAIM, Held(side=1))) == []


class Playing:
    """A camera whose pictures are those of a clip."""

    capabilities = Capabilities()

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        self.frames = [EncodedFrame(packets[0], True, 0, 1.0)]
        self.asked = 0

    async def gop(self, layer: str = "main", timeout_s: float = 5.0) -> list[EncodedFrame]:
        self.asked += 1
        if not self.frames:
            raise DeviceFault("It gives no picture.")
        return self.frames


async def test_all_cameras_are_looked_at_and_one_that_fails_hides_nothing(tmp_path: Path) -> None:
    shows = Playing(clip_of(tmp_path / "qr.h264", scene(CLAIM, Held(turn=12, blur=3, noise=4)), seconds=0.1))
    fails = Playing(tmp_path / "qr.h264")
    fails.frames = []
    eyes = Reader({"door": shows, "gate": fails})
    assert await eyes.look() == [CLAIM]
    assert await eyes.look() == [], "the same keyframe is read once"
    shows.frames = [EncodedFrame(shows.frames[0].data, True, 9000, 2.0)]
    assert await eyes.look() == [CLAIM]


async def test_without_a_camera_or_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceFault, match="No camera of this board's own"):
        await Reader({}).look()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "-m pip install zxing-cpp" in reader.why_not()


def test_what_is_no_picture_is_a_fault() -> None:
    with pytest.raises(DeviceFault, match="cannot be decoded"):
        luma(EncodedFrame(b"\0\0\0\1\x65nothing", True, 0, 0.0))
