"""pytest plugin of this project.

- `async def` tests run on a virtual clock (`virtual`), with `@pytest.mark.realtime` on a real loop. Hypothesis works with both.
- A callback that holds the loop, a task left pending, an exception that only the loop saw: the test fails and says so.
- Every test: descriptors, threads and child processes that it leaves behind fail it; so does passing its time limit.
- `make test` runs two processes of pytest side by side (pytest-xdist, a file at a time): files of whole programs come first, and
  while a test marked `alone` runs, the other processes wait between two tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import inspect
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Never

import pytest

from edgeagent.runtime.loopwatch import Block, LoopWatch
from tests.support import leaks
from tests.support.components import require as require_component
from tests.support.virtual import VirtualLoop, awaiting, tasks_text

TIMEOUT_S = 180.0
"""Only what hangs takes so long, also on a machine that stands still for half a minute."""
BLOCK_LIMIT_S = 0.5
TASK_GRACE_S = 20.0

AsyncTest = Callable[..., Coroutine[Any, Any, None]]


class TimedOut(SystemExit):
    """A test passed its time limit. A SystemExit, since asyncio lets nothing else through from a callback."""


@pytest.fixture
def require() -> Callable[[str], str]:
    """`require("mosquitto")` returns the program's path; see `tests.support.components`."""
    return require_component


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    hypothesis = getattr(test, "hypothesis", None)
    if hypothesis is not None:
        if inspect.iscoroutinefunction(hypothesis.inner_test):
            hypothesis.inner_test = _as_sync(hypothesis.inner_test, pyfuncitem)
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _as_sync(test, pyfuncitem)(**arguments)
    return True


def _as_sync(test: AsyncTest, item: pytest.Function) -> Callable[..., None]:
    marker = item.get_closest_marker("realtime")
    options = marker.kwargs if marker else {}

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_async(functools.partial(test, *args, **kwargs), realtime=marker is not None, **options)

    return run


def run_async(
    test: Callable[[], Coroutine[Any, Any, None]], *, realtime: bool = False, block_limit_s: float = BLOCK_LIMIT_S
) -> None:
    """Run one async test with every check; raises what the test raises, or fails it for what it left."""
    blocks: list[Block] = []
    unseen: list[dict[str, Any]] = []
    left: list[str] = []
    with LoopWatch(blocks.append, block_limit_s) as watch:
        factory: Callable[[], asyncio.AbstractEventLoop] = watch.new_loop if realtime else functools.partial(VirtualLoop, watch)
        with asyncio.Runner(loop_factory=factory, debug=not realtime) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: unseen.append(context))
            runner.run(_then_settle(test, left, realtime))
    complaints = [
        *(f"a task is left pending: {text}" for text in left),
        *(str(block) for block in blocks),
        *(_unseen_text(context) for context in unseen),
    ]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


async def _then_settle(test: Callable[[], Coroutine[Any, Any, None]], left: list[str], realtime: bool) -> None:
    await test()
    me = asyncio.current_task()
    if realtime:
        if others := asyncio.all_tasks() - {me}:
            await asyncio.wait(others, timeout=TASK_GRACE_S)
    else:
        for _ in range(20):
            await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {me}:
        place = "".join(f"\n    {f.f_code.co_filename}:{f.f_lineno} in {f.f_code.co_name}" for f in awaiting(task))
        left.append(f"{task.get_name()} {task.get_coro()!r}{place}")


def _unseen_text(context: dict[str, Any]) -> str:
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error else ""
    return f"only the event loop saw this: {context.get('message')}\n{trace}"


@contextlib.contextmanager
def _time_limit(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0]) if marker else TIMEOUT_S

    def expired(_: int, frame: FrameType | None) -> Never:
        raise TimedOut(f"the test took over {seconds:g} s\n{_stacks()}")

    previous = signal.signal(signal.SIGALRM, expired)
    # Again every 10 s: what cleans up after the first may hang as well.
    signal.setitimer(signal.ITIMER_REAL, seconds, 10.0)
    try:
        yield
    except TimedOut as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _stacks() -> str:
    text = []
    for ident, frame in sys._current_frames().items():
        stack = [
            line for line in traceback.extract_stack(frame) if not any(part in line.filename for part in ("/_pytest/", "/pluggy/"))
        ]
        text.append(f"thread {ident}:\n{''.join(traceback.format_list(stack))}")
    with contextlib.suppress(RuntimeError):  # no loop runs
        text.append(tasks_text(asyncio.get_running_loop()))
    return "\n".join(text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of whole programs first: they take minutes, and whichever process is done early takes short files until the end.
    Before them what wants to be alone: at the begin nobody has to wait for the end of another long test."""
    programs = {item.path for item in items if item.get_closest_marker("e2e")}
    alone = {item.path for item in items if item.get_closest_marker("alone")}

    def rank(item: pytest.Item) -> tuple[bool, bool, bool]:
        return item.path not in alone, item.path not in programs, item.path in alone and not item.get_closest_marker("alone")

    items.sort(key=rank)


@contextlib.contextmanager
def _beside_others(item: pytest.Item) -> Iterator[None]:
    """Keep a test that is marked `alone` and those of the other processes apart."""
    if not hasattr(item.config, "workerinput"):  # the only process
        yield
        return
    folder = Path(item.config.rootpath, "build")
    folder.mkdir(exist_ok=True)
    alone = item.get_closest_marker("alone") is not None
    with (folder / ".tests.lock").open("w") as running, (folder / ".turn.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # who wants to be alone waits here for all that run, and all others for him
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with _beside_others(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker("netns"):
        require_component("root")
        require_component("ip")
    with _time_limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    with _time_limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    before = leaks.Snapshot.take()
    with _time_limit(item):
        result = yield
        if left := leaks.settle(before):
            pytest.fail("the test left behind: " + "; ".join(left), pytrace=False)
    return result
