#!/usr/bin/env python3
"""Join two network namespaces by an impaired link: delay, jitter, loss, rate and queue, in user space.

    linkem.py --a cam --b view --delay 25 --jitter 5 --loss 0.02 --rate 2000 --queue 100 -- COMMAND

makes the namespaces `cam` (10.77.0.1) and `view` (10.77.0.2), runs COMMAND in the caller's own namespace (it reaches the
others by `ip netns exec cam …`) and removes both when COMMAND ends. Without COMMAND it runs until SIGTERM, SIGINT or, with
`--stdin`, until its standard input ends, so that it cannot outlive its parent. Options hold in both directions.

`--control PATH` makes a FIFO; a line such as `rate=500 loss=0.1` written to it changes the running link: rate in kbit/s
(0: unlimited), delay, jitter and queue in ms, loss 0 to 1, `down=1` drops everything. `a.loss=1` changes only what a sends.

Needs root, iproute2 and /dev/net/tun; no kernel module. Each side's TUN device is its only way to the other side, so every
packet crosses this process: good for some 10,000 packets a second.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

ADDRESS = {"a": "10.77.0.1", "b": "10.77.0.2"}
KNOBS = ("delay", "jitter", "loss", "rate", "queue", "down")

# linux/if_tun.h, linux/sched.h
TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000
BURST = 64  # packets read before other work has its turn


@dataclass(slots=True)
class Direction:
    """One direction of the link: delay, jitter and queue in ms, loss 0 to 1, rate in kbit/s (0: unlimited)."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 0.0
    queue: float = 200.0
    down: float = 0.0
    free_at: float = 0.0
    sent: int = 0
    lost: int = 0
    overflowed: int = 0

    def departure(self, now: float, size: int, chance: random.Random) -> float | None:
        """When a packet of `size` bytes that came at `now` leaves the link; None where it is dropped."""
        if self.down or chance.random() < self.loss:
            self.lost += 1
            return None
        start = now
        if self.rate:
            start = max(now, self.free_at)
            if (start - now) * 1000 > self.queue:
                self.overflowed += 1
                return None
            start += size * 8 / (self.rate * 1000)
            self.free_at = start
        self.sent += 1
        return start + max(0.0, self.delay + chance.uniform(-self.jitter, self.jitter)) / 1000


def change(directions: dict[str, Direction], line: str) -> None:
    """Apply a control line. Unknown words are ignored: the writer of a FIFO could not be told."""
    for word in line.split():
        name, _, value = word.partition("=")
        side, dot, knob = name.rpartition(".")
        if knob not in KNOBS or (dot and side not in directions):
            continue
        for direction in [directions[side]] if dot else directions.values():
            setattr(direction, knob, float(value))


def ip(*args: str) -> None:
    subprocess.run(("ip", *args), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace that is removed at the end."""
    ip("netns", "add", name)
    try:
        yield name
    finally:
        subprocess.run(("ip", "netns", "del", name), check=False, stderr=subprocess.DEVNULL)


def open_tun(name: str, address: str) -> int:
    """Make the device `link0` in a namespace; returns the descriptor of its other end."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")
        try:
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"link0", IFF_TUN | IFF_NO_PI))
        finally:
            libc.setns(here, CLONE_NEWNET)
    finally:
        os.close(here)
        os.close(there)
    ip("-n", name, "addr", "add", f"{address}/24", "dev", "link0")
    ip("-n", name, "link", "set", "link0", "up", "mtu", "1500")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "route", "add", "default", "dev", "link0")
    # multicast (mDNS) crosses the link too
    ip("-n", name, "route", "add", "224.0.0.0/4", "dev", "link0")
    return tun


def pump(loop: asyncio.AbstractEventLoop, source: int, sink: int, direction: Direction, chance: random.Random) -> None:
    """Carry packets from `source` to `sink` from now on."""

    def deliver(packet: bytes) -> None:
        try:
            os.write(sink, packet)
        except OSError:  # the other side's device is full
            direction.lost += 1

    def readable() -> None:
        for _ in range(BURST):
            try:
                packet = os.read(source, 2048)
            except OSError:  # nothing more
                return
            now = loop.time()
            when = direction.departure(now, len(packet), chance)
            if when is None:
                continue
            if when <= now:
                deliver(packet)
            else:
                loop.call_at(when, deliver, packet)

    loop.add_reader(source, readable)


def listen(loop: asyncio.AbstractEventLoop, path: Path, directions: dict[str, Direction]) -> None:
    """Obey the lines that are written to the FIFO at `path`."""
    if not path.exists():
        os.mkfifo(path)
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    loop.add_reader(fifo, lambda: change(directions, os.read(fifo, 4096).decode(errors="replace")))


async def serve(args: argparse.Namespace, command: list[str]) -> int:
    """Make the link, run `command` or wait for the end; returns the exit status."""
    loop = asyncio.get_running_loop()
    knobs = {field.name: getattr(args, field.name) for field in fields(Direction) if hasattr(args, field.name)}
    directions = {side: Direction(**knobs) for side in ADDRESS}
    chance = random.Random(args.seed)
    with ExitStack() as stack:
        names = {side: stack.enter_context(namespace(getattr(args, side))) for side in ADDRESS}
        tun = {side: open_tun(names[side], ADDRESS[side]) for side in ADDRESS}
        pump(loop, tun["a"], tun["b"], directions["a"], chance)
        pump(loop, tun["b"], tun["a"], directions["b"], chance)
        if args.control:
            listen(loop, Path(args.control), directions)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if args.stdin:
            loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 4096) else stop.set())
        print(f"link up: {ADDRESS['a']} in {names['a']} and {ADDRESS['b']} in {names['b']}", flush=True)
        status = 0
        if command:
            process = await asyncio.create_subprocess_exec(*command)
            ended, stopped = asyncio.ensure_future(process.wait()), asyncio.ensure_future(stop.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                process.terminate()
            stopped.cancel()
            status = await ended
        else:
            await stop.wait()
        if args.stdin:
            loop.remove_reader(sys.stdin)
        for side, link in directions.items():
            print(f"link {side}: sent {link.sent}, lost {link.lost}, queue full {link.overflowed}", file=sys.stderr)
        return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--a", default="cam", help="name of the namespace at 10.77.0.1")
    parser.add_argument("--b", default="view", help="name of the namespace at 10.77.0.2")
    for name, unit in {"delay": "ms", "jitter": "ms", "loss": "0..1", "rate": "kbit/s"}.items():
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar=unit)
    parser.add_argument("--queue", type=float, default=200.0, metavar="ms")
    parser.add_argument("--seed", type=int, help="for the same losses again")
    parser.add_argument("--control", metavar="FIFO")
    parser.add_argument("--stdin", action="store_true", help="end with standard input")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command: list[str] = args.command
    if command[:1] == ["--"]:
        del command[0]
    return asyncio.run(serve(args, command))


if __name__ == "__main__":
    sys.exit(main())
