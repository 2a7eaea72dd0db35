"""The checks of `tests.support` themselves: what they let pass and what they catch."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.runtime import loopwatch
from edgeagent.runtime.loopwatch import Block, LoopWatch
from tests.support import require
from tests.support.virtual import START_S

ROOT = Path(__file__).parents[2]

BAD = """
import asyncio, os, socket, subprocess, sys, threading, time
import pytest
from tests.support import leaks

kept = []
leaks.GRACE_S = 0.1

async def test_task():
    kept.append(asyncio.create_task(asyncio.sleep(100), name="forgotten"))

async def test_stuck():
    await asyncio.Event().wait()

async def test_socket_on_virtual_clock():
    await asyncio.open_connection("127.0.0.1", 9)

async def test_unseen():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

@pytest.mark.realtime
async def test_descriptor():
    kept.append(socket.socket())

@pytest.mark.realtime(block_limit_s=0.05)
async def test_blocking():
    culprit()

def culprit():
    threading.Event().wait(1)

@pytest.mark.realtime(block_limit_s=0.05)
async def test_keeps_the_lock():
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        sum(range(1000))

def test_thread():
    thread = threading.Thread(target=threading.Event().wait, name="edgeagent-lost", daemon=True)
    thread.start()
    kept.append(thread)

def test_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"]))

def test_after_child():
    kept[-1].kill()
    kept[-1].wait()

@pytest.mark.timeout(0.2)
def test_slow():
    threading.Event().wait(20)

@pytest.mark.realtime
@pytest.mark.timeout(0.2)
async def test_slow_async():
    await asyncio.sleep(20)

@pytest.mark.timeout(0.2)
async def test_slow_executor():
    await asyncio.to_thread(threading.Event().wait, 1)

def test_warning():
    import warnings
    warnings.warn("noticed", UserWarning)

def test_missing(require):
    require("no-such-program")
"""

CAUGHT = {
    "task": "a task is left pending: forgotten",
    "stuck": "nothing is left that could wake this test",
    "socket_on_virtual_clock": "mark this test with @pytest.mark.realtime",
    "unseen": "only the event loop saw this",
    "descriptor": "the test left behind: descriptor",
    "blocking": "in culprit",
    "keeps_the_lock": "the event loop was held for over 50 ms",
    "thread": "thread edgeagent-lost",
    "child": "child process",
    "slow": "the test took over 0.2 s",
    "slow_async": "test_slow_async",
    "slow_executor": "the test took over 0.2 s",
    "warning": "UserWarning: noticed",
    "missing": "no-such-program is missing: sudo apt-get install no-such-program",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Failure text by test name, from a run of pytest over `BAD`."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "test_bad.py").write_text(BAD)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "-p",
        "tests.support.plugin",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": "true", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, "--tb=short", str(folder)], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert f"{len(CAUGHT)} failed, 1 passed" in done.stdout, done.stdout + done.stderr
    sections = done.stdout.split("\n____")[1:]
    return {section.lstrip("_").split()[0].removeprefix("test_"): section for section in sections}


@pytest.mark.parametrize("name", CAUGHT)
def test_fault_is_reported(report: dict[str, str], name: str) -> None:
    assert CAUGHT[name] in report[name]


def test_missing_component_is_skipped_locally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install"):
        require("no-such-program")


def test_present_component() -> None:
    assert require("sh").endswith("/sh")
    assert require("module:asyncio") == "asyncio"


async def test_hours_pass_at_once() -> None:
    loop = asyncio.get_running_loop()
    woken: list[float] = []
    loop.call_later(7200, lambda: woken.append(loop.time()))
    await asyncio.sleep(3600 * 24 * 3)
    assert woken == [START_S + 7200]
    assert loop.time() == pytest.approx(START_S + 3600 * 24 * 3)


async def test_clock_stands_while_a_thread_works() -> None:
    begun = asyncio.get_running_loop().time()
    go = threading.Event()
    asyncio.get_running_loop().call_soon(go.set)
    async with asyncio.timeout(1):
        await asyncio.to_thread(go.wait)
    assert asyncio.get_running_loop().time() == begun


async def test_time_out_comes_in_order() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(20), 10)
    assert asyncio.get_running_loop().time() == pytest.approx(START_S + 10)


@given(st.lists(st.floats(0, 1e6), max_size=5))
async def test_hypothesis_on_the_virtual_clock(waits: list[float]) -> None:
    for wait in waits:
        await asyncio.sleep(wait)
    assert asyncio.get_running_loop().time() >= START_S


@pytest.mark.realtime
async def test_real_loop_does_io() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ping\n")
        assert await reader.readline() == b"ping\n"
        writer.close()
        await writer.wait_closed()


def test_loop_watch_names_the_culprit_while_it_blocks() -> None:
    told = threading.Event()
    blocks: list[Block] = []

    def report(block: Block) -> None:
        blocks.append(block)
        told.set()

    def blocking_call() -> None:
        assert told.wait(30)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(blocking_call)
        await asyncio.sleep(0)

    with LoopWatch(report, limit_s=0.02) as watch, asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(main())
    assert len(blocks) == 1
    assert "blocking_call" in blocks[0].stack
    assert "over 20 ms" in str(blocks[0])


def test_the_wait_for_a_processor_is_nobodys_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine what takes a moment takes many; whoever rests or computes all the time is told of as ever."""
    blocks: list[Block] = []
    looks = threading.Semaphore(0)
    queued_s, busy = 0.0, True

    def report(block: Block) -> None:
        blocks.append(block)
        looks.release()  # the last: nothing follows a report

    def queued(thread: int) -> float:
        nonlocal queued_s
        queued_s += 0.01 if busy else 0.0
        looks.release()
        return queued_s

    async def main() -> None:
        nonlocal busy
        for _ in range(10):  # at the begin and at the end of as many samples as make a block
            assert looks.acquire(timeout=60)
        assert blocks == []
        busy = False
        while not blocks:
            assert looks.acquire(timeout=60)

    monkeypatch.setattr(loopwatch, "_queued_s", queued)
    with LoopWatch(report, limit_s=0.02) as watch, asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(main())
    assert len(blocks) == 1


def test_a_thread_that_the_system_is_slow_to_begin_is_nobodys_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine `Thread.start` waits for the thread's first step."""
    blocks: list[Block] = []
    samples = threading.Event()
    begin = threading.Thread.start

    def sampled(frame: FrameType | None) -> bool:
        found = bool(genuine(frame))
        if found:
            samples.set()
        return found

    genuine = loopwatch._starts_a_thread
    monkeypatch.setattr(loopwatch, "_starts_a_thread", sampled)

    class Late(threading.Thread):
        def _bootstrap(self) -> None:
            samples.wait(30)
            super()._bootstrap()  # type: ignore[misc]

    async def main() -> None:
        begin(late := Late())
        late.join()

    with LoopWatch(blocks.append, limit_s=0.02) as watch, asyncio.Runner(loop_factory=watch.new_loop) as runner:
        runner.run(main())
    assert samples.is_set()
    assert blocks == []
