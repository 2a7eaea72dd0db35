"""The keeper's first process: loads the drivers, forks the worker that opens them, and forks another as soon as that one dies.

A fork takes some milliseconds where a fresh interpreter takes hundreds, on a small board seconds, and so long would go on moving
what the dead one had set in motion. The guard itself opens nothing and starts no thread. A worker in which nothing turns for
`HANG_S` is killed. Where the guard dies, its worker stops everything and ends, and the agent starts both anew.
"""

from __future__ import annotations

__all__ = ["HANG_S", "run"]

import contextlib
import faulthandler
import gc
import os
import random
import select
import signal
import socket
import sys
import traceback

from edgeagent.core.backoff import Backoff
from edgeagent.errors import PeerError
from edgeagent.keeper import record, worker
from edgeagent.wire import keeper as wire

HANG_S = 1.0
"""A worker that did not turn for so long is killed. Counted in looks, so that a machine that stood still kills nobody."""
_LOOKS = 4
_OPEN_WAIT_S = 10.0
_GOOD_S = 5.0
_NICE = -10


def run(agent: socket.socket) -> int:
    """Keep what the agent names in its first packet, until it closes its end. Returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the worker is told as well, and its end is this one's
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        faulthandler.enable()
    agent.settimeout(_OPEN_WAIT_S)
    try:
        packet = agent.recv(wire.MAX_PACKET)
        message = wire.decode_agent(packet) if packet else None
    except (OSError, PeerError) as error:
        print(f"keeper: the agent did not say what to open ({error})", file=sys.stderr)
        return worker.UNCLEAN
    if not isinstance(message, wire.Open):
        return worker.CLEAN
    prepared = worker.prepare(message)
    with contextlib.suppress(OSError):  # where that is allowed: what moves goes before pictures
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    kept = record.path()
    if kept:
        record.write(kept, message)
    gc.collect()
    gc.freeze()  # the workers share these pages
    code = _guard(agent, prepared)
    if kept and code == worker.CLEAN:
        record.remove(kept)
    return code


def _guard(agent: socket.socket, prepared: list[worker.Prepared]) -> int:
    backoff, number, why = Backoff(0.05, 2.0), 0, ""
    while True:
        code, good = _one(agent, prepared, number, why)
        if code in (worker.CLEAN, worker.UNCLEAN):
            return code
        why = f"signal {-code}" if code < 0 else f"code {code}"
        number += 1
        if good:
            backoff.reset()
        elif number > 1:  # the first time at once
            _wait(agent, backoff.next(random.random()))


def _one(agent: socket.socket, prepared: list[worker.Prepared], number: int, why: str) -> tuple[int, bool]:
    """Fork one worker and wait for its end; its exit code (below 0: the signal), and whether it did well for a while.

    `why` the one before it ended.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = worker.DEAD
        try:
            ours.close()
            code = worker.Worker(agent, theirs, prepared, number, why).work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)  # no other clean-up: threads may hang
    theirs.close()
    turns, missed = 0, 0
    with ours:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        while True:
            if not poll.poll(HANG_S / _LOOKS * 1000):
                missed += 1
                if missed > _LOOKS:
                    print(f"keeper: its process has not turned for {HANG_S:g} s and is killed", file=sys.stderr, flush=True)
                    os.kill(pid, signal.SIGKILL)
                    break
                continue
            try:
                if not ours.recv(64):
                    break
            except OSError:
                break
            turns, missed = turns + 1, 0
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), turns * worker.PULSE_S > _GOOD_S


def _wait(agent: socket.socket, seconds: float) -> None:
    """Until the time has passed or the agent is gone."""
    poll = select.poll()
    poll.register(agent, 0)  # its end is told whatever is asked for
    poll.poll(seconds * 1000)
