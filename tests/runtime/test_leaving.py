"""The end of a process, in processes of their own: what is tested would end the test, too."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import asyncio, signal, sys, threading, time
from edgeagent.runtime import leaving
never = threading.Event()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_thread_that_hangs_holds_up_neither_loop_nor_process() -> None:
    done = run(
        """
        async def main():
            asyncio.get_running_loop().set_default_executor(leaving.BoundedPool())
            await asyncio.gather(*(asyncio.to_thread(time.monotonic) for _ in range(20)))
            hanging = asyncio.ensure_future(asyncio.to_thread(never.wait))
            await asyncio.wait({hanging}, timeout=0.1)
        asyncio.run(main())
        print("the loop has ended", flush=True)
        leaving.leave_within(0.2, 3)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "the loop has ended\n", "")


def test_who_leaves_in_time_keeps_his_own_code() -> None:
    done = run("leaving.leave_within(30, 3); sys.exit(5)")
    assert (done.returncode, done.stderr) == (5, "")


def test_the_loop_waits_for_what_soon_ends() -> None:
    done = run(
        """
        async def main():
            asyncio.get_running_loop().set_default_executor(leaving.BoundedPool())
            asyncio.ensure_future(asyncio.to_thread(lambda: (never.wait(0.2), print("done", flush=True))))
            await asyncio.sleep(0.05)
        asyncio.run(main())
        print("the loop has ended", flush=True)
        """
    )
    assert done.stdout == "done\nthe loop has ended\n"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_told_once_and_deaf_to_all_that_follow(number: str) -> None:
    """A thread sends the signal without a pause, until the process has ended: no moment is left in which it kills."""
    done = run(
        f"""
        import os
        async def main():
            stop = asyncio.Event()
            with leaving.told_by(signal.{number}, then=stop.set):
                started.set()
                await stop.wait()
            print("told", flush=True)
        def send():
            started.wait()
            while True:
                os.kill(os.getpid(), signal.{number})
        started = threading.Event()
        threading.Thread(target=send, daemon=True).start()
        asyncio.run(main())
        never.wait(0.2)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")


@pytest.mark.parametrize(("when", "code", "said"), [("never", 3, "once\nagain\n"), ("during", 0, "once\n"), ("after", 0, "once\n")])
def test_begins_anew_unless_a_signal_has_come(when: str, code: int, said: str) -> None:
    """Also one that comes when nobody listens any more."""
    done = run(
        f"""
        import os
        if "AGAIN" in os.environ:
            print("again")
            sys.exit(3)
        os.environ["AGAIN"] = "yes"
        async def main():
            with leaving.told_by(signal.SIGTERM, then=lambda: None):
                if "{when}" == "during":
                    signal.raise_signal(signal.SIGTERM)
        asyncio.run(main())
        if "{when}" == "after":
            signal.raise_signal(signal.SIGTERM)
        print("once")
        leaving.exec_anew(signal.SIGTERM)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")


def test_a_signal_before_there_is_an_agent_ends_well() -> None:
    """Also in the middle of a library that takes whatever comes up there for a failure, as pydantic's does while it is loaded."""
    done = run(
        """
        leaving.prepare()
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise RuntimeError("it cannot be loaded") from error
        print("not reached")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_watchdog_kills_says_where_it_hung() -> None:
    done = run(
        """
        leaving.prepare()
        def where_it_hangs():
            signal.raise_signal(signal.SIGABRT)
        where_it_hangs()
        """
    )
    assert done.returncode == -6
    assert "where_it_hangs" in done.stderr
