"""The runner with real threads: what it decides is tested in tests/core/test_camera_life.py."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Never

import pytest

from edgeagent.core.camera_life import LifePolicy
from edgeagent.drivers import Camera, CameraIO, Capabilities, DeviceFault, EncodedFrame, StreamInfo
from edgeagent.drivers.runner import CameraRunner
from edgeagent.model import CameraPhase, CameraStatus

pytestmark = pytest.mark.realtime

QUICK = LifePolicy(start_s=0.3, stall_s=0.2, good_s=10, end_s=0.3, retry_min_s=0.02, retry_max_s=0.05, max_hung=2)
PATIENT = LifePolicy(retry_min_s=0.02, retry_max_s=0.05)


def frame(number: int, keyframe: bool = True, layer: str = "main") -> EncodedFrame:
    return EncodedFrame(b"\0\0\0\1\x65", keyframe, number * 3000, 0.0, layer)


class Scripted(Camera):
    """A camera whose `run` is given by the test."""

    def __init__(self, script: Callable[[CameraIO], object], secrets: Sequence[str] = ()) -> None:
        super().__init__("gate", None)
        self.script = script
        self.runs = 0
        self.hidden = secrets

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(keyframe_on_demand=True, layers=("main", "small"))

    def run(self, io: CameraIO) -> None:
        self.runs += 1
        self.script(io)

    def secrets(self) -> Sequence[str]:
        return self.hidden


class Watch:
    """Gathers what a runner tells and lets a test wait for it."""

    def __init__(self) -> None:
        self.frames: list[EncodedFrame] = []
        self.statuses: list[CameraStatus] = []
        self.infos: list[tuple[str, StreamInfo]] = []
        self.told = asyncio.Event()

    def note(self, kept: list[Any], item: Any) -> None:
        kept.append(item)
        self.told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.told.clear()
                await self.told.wait()

    @property
    def phases(self) -> list[CameraPhase]:
        return [status.phase for status in self.statuses]


@asynccontextmanager
async def running(camera: Camera, policy: LifePolicy = PATIENT, **options: Any) -> AsyncIterator[tuple[CameraRunner, Watch]]:
    watch = Watch()

    def no_encoder(**_: Any) -> Never:
        raise AssertionError("not wanted here")

    runner = CameraRunner(
        camera,
        on_frame=lambda item: watch.note(watch.frames, item),
        on_status=lambda item: watch.note(watch.statuses, item),
        on_info=lambda layer, info: watch.note(watch.infos, (layer, info)),
        encoder_factory=no_encoder,
        policy=policy,
        **options,
    )
    runner.start()
    try:
        yield runner, watch
    finally:
        await runner.stop()


async def test_delivers_on_the_loop_and_stops() -> None:
    threads = set()

    def script(io: CameraIO) -> None:
        threads.add(threading.current_thread().name)
        io.describe(StreamInfo(64, 48))
        io.describe(StreamInfo(32, 24), "small")
        for number in range(3):
            io.emit(frame(number))
        io.stopping.wait()

    async with running(Scripted(script)) as (runner, watch):
        await watch.until(lambda: len(watch.frames) == 3)
        assert watch.infos == [("main", StreamInfo(64, 48)), ("small", StreamInfo(32, 24))]
        assert runner.status == CameraStatus(CameraPhase.LIVE, "", StreamInfo(64, 48))
    assert threads == {"camera-gate"}
    assert watch.phases == [CameraPhase.STARTING, CameraPhase.LIVE, CameraPhase.OFF, CameraPhase.OFF]
    assert [item.timestamp for item in watch.frames] == [0, 3000, 6000]


async def test_what_the_board_is_too_slow_for_comes_along_with_the_next_frame() -> None:
    told: list[tuple[str, int]] = []

    def script(io: CameraIO) -> None:
        io.too_slow()
        io.too_slow("small", 2)
        io.too_slow("main", 3)
        io.emit(frame(0))
        io.stopping.wait()

    async with running(Scripted(script), on_too_slow=lambda *item: told.append(item)) as (_, watch):
        await watch.until(lambda: watch.frames)
        assert told == [("main", 4), ("small", 2)]


async def test_what_is_handed_over_ahead_is_delivered_when_it_is_due() -> None:
    seen: list[tuple[float, float]] = []

    def script(io: CameraIO) -> None:
        now = io.now()
        for number, due in enumerate((now, now + 0.05, now + 0.1, now + 3600)):
            if number == 1:
                io.describe(StreamInfo(64, 48))
            io.emit(dataclasses.replace(frame(number), captured_at=due))
        io.stopping.wait()

    def on_frame(item: EncodedFrame) -> None:
        seen.append((item.captured_at, time.monotonic()))
        watch.told.set()

    async with running(Scripted(script)) as (runner, watch):
        runner._on_frame = on_frame
        await watch.until(lambda: len(seen) == 3)
        assert watch.infos == [("main", StreamInfo(64, 48))]
    assert all(at > due - 0.001 for due, at in seen) and len(seen) == 3


async def test_an_end_is_heard_by_all_who_wait_for_it() -> None:
    heard: list[bool] = []

    def script(io: CameraIO) -> None:
        assert not io.stopping.wait(0.001)
        others = [threading.Thread(target=lambda: heard.append(io.stopping.wait())) for _ in range(4)]
        for other in others:
            other.start()
        io.emit(frame(0))
        heard.append(io.stopping.wait(600))
        for other in others:
            other.join()
        heard.append(io.stopping.wait(600))

    async with running(Scripted(script)) as (_, watch):
        await watch.until(lambda: watch.frames)
    assert heard == [True] * 6


@pytest.mark.realtime(block_limit_s=60)
async def test_a_burst_wakes_the_loop_once() -> None:
    emitted = threading.Event()

    def script(io: CameraIO) -> None:
        for number in range(50):
            io.emit(frame(number))
        emitted.set()
        io.stopping.wait()

    wakeups = 0
    loop = asyncio.get_running_loop()
    original = loop.call_soon_threadsafe

    def counted(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal wakeups
        wakeups += 1
        return original(*args, **kwargs)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign,assignment]
    async with running(Scripted(script)) as (_, watch):
        assert emitted.wait(60)  # the loop is held, so that all of it gathers
        await watch.until(lambda: len(watch.frames) == 50)
        assert wakeups == 1


@pytest.mark.realtime(block_limit_s=60)
async def test_a_loop_that_lags_loses_frames_up_to_the_next_keyframe_and_counts_them() -> None:
    emitted, caught_up = threading.Event(), threading.Event()
    asked: list[bool] = []

    def script(io: CameraIO) -> None:
        for number in range(10):
            io.emit(frame(number, keyframe=number == 0))
        asked.append(io.take_keyframe_request())
        emitted.set()
        caught_up.wait(60)
        for number in range(10, 14):
            io.emit(frame(number, keyframe=number == 12))
        io.stopping.wait()

    async with running(Scripted(script), max_pending=4) as (runner, watch):
        assert emitted.wait(60)
        await watch.until(lambda: len(watch.frames) == 4)
        caught_up.set()
        await watch.until(lambda: len(watch.frames) >= 6)
        assert [item.timestamp // 3000 for item in watch.frames] == [0, 1, 2, 3, 12, 13]
        assert runner.dropped == 8
        assert asked == [True]


async def test_a_fault_is_shown_and_the_camera_opened_again() -> None:
    def script(io: CameraIO) -> None:
        if camera.runs == 1:
            raise DeviceFault("The camera at 10.0.0.7 does not answer.")
        io.emit(frame(0))
        io.stopping.wait()

    camera = Scripted(script)
    async with running(camera) as (_, watch):
        await watch.until(lambda: watch.frames)
        assert watch.phases == [CameraPhase.STARTING, CameraPhase.RETRYING, CameraPhase.STARTING, CameraPhase.LIVE]
        assert watch.statuses[1].text.startswith("The camera at 10.0.0.7 does not answer. Trying again.")


async def test_a_device_that_is_lost_to_the_process_is_told_until_it_delivers() -> None:
    looked = threading.Event()

    def script(io: CameraIO) -> None:
        if camera.runs == 1:
            raise DeviceFault("The camera does not let itself be closed.", restart=True)
        looked.wait(60)
        io.emit(frame(0))
        io.stopping.wait()

    camera = Scripted(script)
    async with running(camera) as (runner, watch):
        await watch.until(lambda: len(watch.statuses) > 1)
        assert runner.lost
        looked.set()
        await watch.until(lambda: watch.frames)
        assert not runner.lost


async def test_a_fault_is_one_line_and_so_is_the_return(caplog: pytest.LogCaptureFixture) -> None:
    def script(io: CameraIO) -> None:
        if camera.runs in (2, 3, 4):
            raise DeviceFault("It is unplugged.")
        if camera.runs == 5:
            raise ZeroDivisionError
        io.emit(frame(0))
        if camera.runs > 1:
            io.stopping.wait()

    camera = Scripted(script)
    with caplog.at_level(logging.INFO):
        async with running(camera) as (runner, watch):
            await watch.until(lambda: len(watch.frames) == 2)
            assert (runner.runs, runner.hung) == (6, 0)
    lines = [record.message.partition(" (")[0].splitlines()[0] for record in caplog.records]
    back = lines.pop(-2)
    assert lines == [
        "camera gate: live",
        "camera gate: The camera stopped by itself. Trying again.",
        "camera gate: It is unplugged. Trying again.",
        "camera gate: its driver failed",
        "camera gate: The camera's driver failed",
        "camera gate: off",
    ]
    assert back.startswith("camera gate: the picture is back after ")
    assert all(vars(record)["camera"] == "gate" for record in caplog.records)


async def test_a_fault_that_stays_ends_it() -> None:
    def script(io: CameraIO) -> None:
        raise DeviceFault("The path is a folder.", retry=False)

    async with running(Scripted(script)) as (runner, watch):
        await watch.until(lambda: CameraPhase.FAILED in watch.phases)
        assert runner.status.text == "The path is a folder."


async def test_a_bug_in_a_driver_is_logged_without_secrets_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    def script(io: CameraIO) -> None:
        if camera.runs == 1:
            raise TypeError("cannot open rtsp://admin:hunter2@gate/")
        io.emit(frame(0))
        io.stopping.wait()

    camera = Scripted(script, secrets=["hunter2"])
    with caplog.at_level(logging.INFO):
        async with running(camera) as (_, watch):
            await watch.until(lambda: watch.frames)
    assert watch.statuses[1].text.startswith("The camera's driver failed (TypeError). Trying again")
    assert "Traceback" in caplog.text
    assert "admin:…@gate" in caplog.text
    assert "hunter2" not in caplog.text


async def test_secrets_are_cut_out_of_a_fault() -> None:
    def script(io: CameraIO) -> None:
        raise DeviceFault("rtsp://admin:hunter2@gate/ is gone.", retry=False)

    async with running(Scripted(script, secrets=["hunter2", ""])) as (runner, watch):
        await watch.until(lambda: CameraPhase.FAILED in watch.phases)
        assert runner.status.text == "rtsp://admin:…@gate/ is gone."


async def test_a_camera_that_stalls_is_ended_and_opened_again() -> None:
    def script(io: CameraIO) -> None:
        io.emit(frame(0))
        io.stopping.wait()

    camera = Scripted(script)
    async with running(camera, QUICK) as (_, watch):
        await watch.until(lambda: len(watch.frames) == 2)
        assert camera.runs == 2
        assert CameraPhase.RETRYING in watch.phases


async def test_a_driver_says_how_long_its_camera_may_be_silent() -> None:
    def script(io: CameraIO) -> None:
        io.emit(frame(0))
        io.stopping.wait()

    for stall_s, allowed_s in ((3600.0, 3600.0), (0.1, PATIENT.stall_s)):
        camera = Scripted(script)
        camera.stall_s = stall_s
        async with running(camera) as (runner, watch):
            assert runner.stall_s == allowed_s
            await watch.until(lambda: watch.frames)
            deadline = runner._life.next_deadline()
            assert deadline is not None
            assert deadline - time.monotonic() > 1800 or stall_s < 1


async def test_a_camera_that_never_delivers_is_ended() -> None:
    camera = Scripted(lambda io: io.stopping.wait())
    async with running(camera, QUICK) as (_, watch):
        await watch.until(lambda: watch.phases.count(CameraPhase.STARTING) == 2)
        assert "has sent no picture" in watch.statuses[1].text


async def test_a_driver_that_hangs_is_given_up_and_never_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    finished = threading.Semaphore(0)

    def script(io: CameraIO) -> None:
        if camera.runs == 1:
            io.emit(frame(1))
            release.wait()
            io.emit(frame(99))
            finished.release()
            return
        io.emit(frame(2))
        io.stopping.wait(0.1)
        release.set()
        io.stopping.wait()

    camera = Scripted(script)
    async with running(camera, QUICK) as (_, watch):
        await watch.until(lambda: len(watch.frames) >= 2)
        await asyncio.to_thread(finished.acquire)
        await watch.until(lambda: len(watch.frames) >= 3)  # the second run stalls as well, and a third begins
    assert all(item.timestamp == 6000 for item in watch.frames[1:])
    assert "does not return" in caplog.text


async def test_stop_returns_although_the_driver_hangs() -> None:
    release = threading.Event()
    camera = Scripted(lambda io: release.wait())
    async with running(camera, QUICK) as (runner, watch):
        await watch.until(lambda: watch.statuses)
    assert runner.status.phase is CameraPhase.OFF
    release.set()


async def test_start_again_after_stop() -> None:
    def script(io: CameraIO) -> None:
        io.emit(frame(camera.runs))
        io.stopping.wait()

    camera = Scripted(script)
    async with running(camera) as (runner, watch):
        await watch.until(lambda: len(watch.frames) == 1)
        await runner.stop()
        assert runner.status.phase is CameraPhase.OFF
        runner.start()
        runner.start()
        await watch.until(lambda: len(watch.frames) == 2)
        stopping = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(0)
        runner.start()
        await stopping
        await watch.until(lambda: len(watch.frames) == 3)
        assert camera.runs == 3


async def test_wishes_reach_the_driver() -> None:
    seen: list[tuple[bool, bool, bool, int | None, int | None]] = []

    def script(io: CameraIO) -> None:
        io.emit(frame(0))
        asked.wait()
        seen.append(
            (
                io.take_keyframe_request("small"),
                io.take_keyframe_request("small"),
                io.take_keyframe_request(),
                io.target_bitrate("small"),
                io.target_bitrate(),
            )
        )
        io.emit(frame(1))
        io.stopping.wait()

    asked = threading.Event()
    async with running(Scripted(script)) as (runner, watch):
        await watch.until(lambda: watch.frames)
        runner.request_keyframe("small")
        runner.set_bitrate("small", 250_000)
        asked.set()
        await watch.until(lambda: len(watch.frames) == 2)
        assert seen == [(True, False, False, 250_000, None)]


async def test_a_camera_that_nobody_wants_pictures_of_is_alive() -> None:
    def script(io: CameraIO) -> None:
        io.alive()
        io.stopping.wait()

    async with running(Scripted(script)) as (_, watch):
        await watch.until(lambda: CameraPhase.LIVE in watch.phases)
        assert watch.frames == []


async def test_what_is_wanted_reaches_the_driver_and_the_runs_after_it() -> None:
    seen: list[list[bool]] = []

    def script(io: CameraIO) -> None:
        seen.append([io.wanted(), io.wanted("small"), io.wanted("large")])
        io.emit(frame(0))

    async with running(Scripted(script)) as (runner, watch):
        runner.set_wanted("small", False)
        runner.set_wanted("large", False)
        runner.set_wanted("large", True)
        before = len(watch.frames)
        await watch.until(lambda: len(watch.frames) >= before + 2)
        assert seen[-1] == [True, False, True]


def test_a_driver_outlives_a_closed_loop_without_harm() -> None:
    began, go, done = threading.Event(), threading.Event(), threading.Event()

    def script(io: CameraIO) -> None:
        began.set()
        go.wait()
        io.emit(frame(0))
        assert io.stopping.is_set()
        done.set()

    async def start() -> None:
        def never(**_: Any) -> Never:
            raise AssertionError

        runner = CameraRunner(
            Scripted(script), on_frame=print, on_status=print, on_info=print, encoder_factory=never, policy=PATIENT
        )
        runner.start()
        assert began.wait(60)

    asyncio.run(start())
    go.set()
    assert done.wait(60)
