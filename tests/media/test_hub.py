from __future__ import annotations

import asyncio

import pytest

from edgeagent.errors import DeviceFault
from edgeagent.media.hub import Hub
from edgeagent.media.packetize import Packets
from edgeagent.model import CameraPhase, CameraStatus, Capabilities, EncodedFrame, StreamInfo

IDR = b"\0\0\0\1\x67sps\0\0\0\1\x68p\0\0\0\1\x65" + b"i" * 50
SLICE = b"\0\0\0\1\x41" + b"p" * 20


class Source:
    """A scripted camera that notes what it is asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.wanted: dict[str, bool] = {}

    def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        await asyncio.sleep(0.5)
        self.log.append("stop")

    def request_keyframe(self, layer: str = "main") -> None:
        self.log.append("keyframe")

    def set_bitrate(self, layer: str, bps: int) -> None:
        self.log.append(f"bitrate {layer} {bps}")

    def set_wanted(self, layer: str, wanted: bool) -> None:
        self.wanted[layer] = wanted


class Viewer:
    def __init__(self) -> None:
        self.frames: list[Packets] = []

    def deliver(self, packets: Packets) -> None:
        self.frames.append(packets)

    def left_out(self) -> None:
        raise AssertionError("it never fails")


def frame(key: bool, n: int = 0) -> EncodedFrame:
    return EncodedFrame(IDR if key else SLICE, key, n * 3000, asyncio.get_running_loop().time())


def make(*, keyframe_on_demand: bool = False, always_on: bool = False) -> tuple[Hub, Source]:
    source = Source()
    hub = Hub("cam", Capabilities(keyframe_on_demand=keyframe_on_demand, always_on=always_on))
    hub.connect(source)
    return hub, source


async def test_the_camera_runs_while_someone_needs_it_and_lingers() -> None:
    hub, source = make(keyframe_on_demand=True)
    viewer, other = Viewer(), Viewer()
    hub.attach(viewer)
    assert source.log == ["start"]
    hub.detach(viewer)
    await asyncio.sleep(4.9)
    hub.attach(other)
    await asyncio.sleep(60)
    assert source.log == ["start"]
    hub.detach(other)
    hub.detach(other)
    await asyncio.sleep(6)
    assert source.log == ["start", "stop"]
    hub.attach(viewer)
    assert source.log[-1] == "start"
    await hub.close()
    assert source.log[-1] == "stop"


async def test_who_comes_while_the_camera_stops_starts_it_again_after() -> None:
    hub, source = make()
    viewer = Viewer()
    hub.attach(viewer)
    hub.detach(viewer)
    await asyncio.sleep(5.2)
    hub.attach(viewer)
    assert source.log == ["start"]
    await asyncio.sleep(1)
    assert source.log == ["start", "stop", "start"]
    await hub.close()


async def test_an_always_on_camera_starts_with_the_hub_and_stays() -> None:
    hub, source = make(always_on=True)
    assert source.log == ["start"]
    viewer = Viewer()
    hub.attach(viewer)
    hub.detach(viewer)
    await asyncio.sleep(100)
    assert source.log == ["start"]
    await hub.close()


async def test_a_frame_is_packetised_once_for_all() -> None:
    hub, _ = make(keyframe_on_demand=True)
    viewers = [Viewer() for _ in range(10)]
    for viewer in viewers:
        hub.attach(viewer)
    hub.on_frame(frame(True))
    assert len({id(v.frames[0]) for v in viewers}) == 1
    await hub.close()


async def test_a_subscriber_that_fails_takes_the_picture_from_nobody_else() -> None:
    class Broken:
        def deliver(self, packets: Packets) -> None:
            raise RuntimeError("descriptors are used up")

        def left_out(self) -> None:
            hub.detach(self)
            ended.append(self)

    ended: list[Broken] = []
    hub, _ = make(keyframe_on_demand=True)
    broken, good = Broken(), Viewer()
    hub.attach(broken)
    hub.attach(good)
    hub.on_frame(frame(True))
    hub.on_frame(frame(False, 1))
    assert len(good.frames) == 2
    assert hub.viewers == 1
    assert ended == [broken]
    await hub.close()


async def test_what_holds_no_picture_is_delivered_to_nobody() -> None:
    hub, _ = make(keyframe_on_demand=True)
    viewer = Viewer()
    hub.attach(viewer)
    hub.on_frame(EncodedFrame(b"\0\0\0\1\x06\x05sei", False, 0, 0.0))
    assert not viewer.frames
    await hub.close()


async def test_a_source_that_cannot_be_asked_keeps_its_gop_for_newcomers() -> None:
    hub, source = make(always_on=True)
    hub.on_frame(frame(False))
    assert list(hub.catch_up()) == []
    for n in range(5):
        hub.on_frame(frame(n == 0, n))
    assert [p.frame.keyframe for p in hub.catch_up()] == [True, False, False, False, False]
    hub.on_frame(frame(True, 5))
    assert len(hub.catch_up()) == 1
    assert "keyframe" not in source.log
    hub.on_status(CameraStatus(CameraPhase.RETRYING, "gone"))
    assert list(hub.catch_up()) == []
    assert hub.epoch == 1
    await hub.close()


async def test_many_requests_become_one_keyframe() -> None:
    hub, source = make(keyframe_on_demand=True)
    viewers = [Viewer() for _ in range(10)]
    for viewer in viewers:
        hub.attach(viewer)
        assert list(hub.catch_up()) == []
    assert source.log.count("keyframe") == 1
    await asyncio.sleep(0.01)
    hub.on_frame(frame(True))
    hub.request_keyframe()
    hub.request_keyframe()
    assert source.log.count("keyframe") == 1
    await asyncio.sleep(0.6)
    assert source.log.count("keyframe") == 2
    await hub.close()


async def test_who_joins_right_behind_another_shares_the_keyframe() -> None:
    hub, source = make(keyframe_on_demand=True)
    viewer = Viewer()
    hub.attach(viewer)
    assert list(hub.catch_up()) == []
    hub.on_frame(frame(True))
    hub.on_frame(frame(False, 1))
    await asyncio.sleep(0.2)
    assert [p.frame.keyframe for p in hub.catch_up()] == [True, False]
    assert source.log.count("keyframe") == 1
    await asyncio.sleep(0.4)
    assert list(hub.catch_up()) == []
    assert source.log.count("keyframe") == 2
    await hub.close()


async def test_a_snapshot_is_at_most_a_second_old() -> None:
    hub, source = make(keyframe_on_demand=True)
    waiting = asyncio.create_task(hub.gop())
    await asyncio.sleep(0.1)
    assert source.log == ["start", "keyframe"]
    hub.on_frame(frame(False))
    hub.on_frame(frame(True))
    assert [f.keyframe for f in await waiting] == [True]
    assert hub.viewers == 0
    await hub.close()

    hub, _ = make(always_on=True)
    hub.on_frame(frame(True))
    hub.on_frame(frame(False, 1))
    assert len(await hub.gop()) == 2
    await asyncio.sleep(2)
    for key, length in ((False, 3), (True, 1)):  # one that cannot be asked: what comes next goes on from its last keyframe
        waiting = asyncio.create_task(hub.gop())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        hub.on_frame(frame(key, 60))
        assert len(await waiting) == length
        await asyncio.sleep(0.5)
    await hub.close()


async def test_a_camera_without_a_picture_says_why() -> None:
    hub, _ = make()
    hub.on_status(CameraStatus(CameraPhase.RETRYING, "The camera refused the password."))
    with pytest.raises(DeviceFault, match="password"):
        await hub.gop(timeout_s=3)
    await hub.close()


async def test_changes_are_told_once() -> None:
    told: list[CameraPhase] = []
    hub = Hub("cam", Capabilities(), on_change=lambda h: told.append(h.status.phase))
    hub.connect(Source())
    hub.on_status(CameraStatus(CameraPhase.STARTING))
    hub.on_status(CameraStatus(CameraPhase.STARTING))
    hub.on_info("main", StreamInfo(640, 480))
    hub.on_info("main", StreamInfo(640, 480))
    assert told == [CameraPhase.STARTING] * 2
    await hub.close()


async def test_a_board_that_is_too_slow_for_a_layer() -> None:
    hub, _ = make()
    hub.attach(Viewer())
    hub.on_info("main", StreamInfo(640, 360, 10))
    hub.on_too_slow("unknown", 5)

    async def run(left_out: int) -> bool:
        for n in range(12):
            for _ in range(10 - left_out):
                hub.on_frame(frame(n == 0, n))
            hub.on_too_slow("main", left_out)
            await asyncio.sleep(1)
            hub.slow("main")
        return hub.slow("main")

    assert [await run(0), await run(6), await run(0)] == [False, True, False]
    assert not hub.slow("unknown")
    await hub.close()
