"""The simulated rover's world: a process of its own, which stands for a real robot and keeps doing what it was last told.

    python -m edgeagent_devices._sim_world --socket PATH

serves a Unix socket (SOCK_SEQPACKET): one JSON object a packet, at most `MAX_PACKET` bytes, told apart by `do`.

    set      throttle, steer (-1 to 1), pan, tilt (degrees); each may be left out       no answer
    stop     brakes; pan and tilt stay                                                  no answer
    state    tells `state`
    setup    seed, size, drain: begins anew where they differ; tells `state`
    reset    begins anew; tells `state`
    charge   a full battery; tells `state`
    lights   on, colour; tells `state`
    horn     seconds; tells `state`

What cannot be read is answered by `{"error": sentence}`. The process goes into the background once it listens, and ends `IDLE_S`
after the last connection is gone. Whoever starts or ends it holds the lock `PATH.lock`. Times are `time.monotonic()`.
"""

from __future__ import annotations

__all__ = ["COLOURS", "IDLE_S", "MAX_PACKET", "World", "main"]

import argparse
import contextlib
import fcntl
import json
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from edgeagent_devices._sim_map import MAX_SIZE, MIN_SIZE, make_ground
from edgeagent_devices._sim_physics import PAN_DEG, TILT_DEG, begin, range_ahead, steps

MAX_PACKET = 1024
IDLE_S = 5.0
MAX_CONNECTIONS = 16
COLOURS = ("white", "amber", "blue")
_MAX_HORN_S = 3.0
_TICK_S = 0.02
_LIMITS = {"throttle": 1.0, "steer": 1.0, "pan": PAN_DEG, "tilt": TILT_DEG}


class World:
    """The rover on its ground and what it is told; time is an argument.

    Attributes:
        refused: How many packets could not be read.
    """

    def __init__(self, now: float, seed: int = 1, size: int = 16) -> None:
        self._setup = (seed, size, 1.0)
        self._ground = make_ground(seed, size)
        self.state = begin(self._ground, now)
        self.refused = 0
        self._commands = self._stops = 0
        self._commanded_at = self._stopped_at = -math.inf
        self._lights, self._colour = False, COLOURS[0]
        self._horn_until = -math.inf

    def advance(self, now: float) -> None:
        """Let time pass."""
        self.state = steps(self._ground, self.state, now)

    def handle(self, packet: bytes, now: float) -> bytes | None:
        """Do what a packet says and return the answer, None where it has none."""
        self.advance(now)
        try:
            message = json.loads(packet)
            if len(packet) > MAX_PACKET or not isinstance(message, dict):
                raise ValueError("a packet is one JSON object of at most 1 kB")
            do = message.pop("do", None)
            action: Callable[[Mapping[str, Any], float], None] | None = (
                getattr(self, f"_do_{do}", None) if isinstance(do, str) else None
            )
            if action is None:
                raise ValueError("unknown `do`")
            action(message, now)
        except (ValueError, RecursionError) as error:  # of JSON, too
            self.refused += 1
            return json.dumps({"error": f"{error}"[:200]}).encode()
        return None if do in {"set", "stop"} else json.dumps({"state": self.told()}).encode()

    def told(self) -> dict[str, Any]:
        """The state as it is told."""
        seed, size, _ = self._setup
        told = asdict(self.state)
        told |= {
            "seed": seed,
            "size": size,
            "pid": os.getpid(),
            "range": range_ahead(self._ground, self.state),
            "commands": self._commands,
            "stops": self._stops,
            "lights": self._lights,
            "colour": self._colour,
            "horn": self.state.at < self._horn_until,
        }
        times = {"commanded_at": self._commanded_at, "stopped_at": self._stopped_at, "bumped_at": self.state.bumped_at}
        return told | {key: value if math.isfinite(value) else None for key, value in times.items()}

    def _do_set(self, message: Mapping[str, Any], now: float) -> None:
        values = {key: _number(message, key, -limit, limit) for key, limit in _LIMITS.items() if key in message}
        _only(message, *_LIMITS)
        for place in ("pan", "tilt"):
            if place in values:
                self.state = replace(self.state, **{f"{place}_to": values[place]})  # type: ignore[arg-type]
        if "throttle" in values or "steer" in values:
            throttle, steer = (values.get(key, getattr(self.state, key)) for key in ("throttle", "steer"))
            self.state = replace(self.state, throttle=throttle, steer=steer, braking=False)
        self._commands += 1
        self._commanded_at = now

    def _do_stop(self, message: Mapping[str, Any], now: float) -> None:
        _only(message)
        self.state = replace(self.state, throttle=0.0, steer=0.0, braking=True, pan_to=self.state.pan, tilt_to=self.state.tilt)
        self._stops += 1
        self._stopped_at = now

    def _do_state(self, message: Mapping[str, Any], now: float) -> None:
        _only(message)

    def _do_setup(self, message: Mapping[str, Any], now: float) -> None:
        seed = int(_number(message, "seed", 0, 2**31))
        size = int(_number(message, "size", MIN_SIZE, MAX_SIZE))
        setup = (seed, size, _number(message, "drain", 0, 1000))
        _only(message, "seed", "size", "drain")
        if setup != self._setup:
            self._setup = setup
            self._ground = make_ground(seed, size)
            self.state = begin(self._ground, now, setup[2])

    def _do_reset(self, message: Mapping[str, Any], now: float) -> None:
        _only(message)
        self.state = begin(self._ground, now, self._setup[2])

    def _do_charge(self, message: Mapping[str, Any], now: float) -> None:
        _only(message)
        self.state = replace(self.state, battery=100.0)

    def _do_lights(self, message: Mapping[str, Any], now: float) -> None:
        on, colour = message.get("on"), message.get("colour")
        _only(message, "on", "colour")
        if not isinstance(on, bool) or colour not in COLOURS:
            raise ValueError("`on` is true or false, `colour` one of " + ", ".join(COLOURS))
        self._lights, self._colour = on, colour

    def _do_horn(self, message: Mapping[str, Any], now: float) -> None:
        seconds = _number(message, "seconds", 0, _MAX_HORN_S)
        _only(message, "seconds")
        self._horn_until = now + seconds


def _number(message: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:  # NaN is in no range
        raise ValueError(f"`{key}` is a number from {least:g} to {most:g}")
    return float(value)


def _only(message: Mapping[str, Any], *keys: str) -> None:
    if unknown := set(message) - set(keys):
        raise ValueError(f"unknown `{sorted(unknown)[0]}`")


class _Server:
    """Joins the world, its socket and the clock, until nobody is connected any more."""

    def __init__(self, listener: socket.socket, path: str, lock: int, idle_s: float) -> None:
        self._listener, self._path, self._lock, self._idle_s = listener, path, lock, idle_s
        self._world = World(time.monotonic())
        self._connections: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        alone_since: float | None = time.monotonic()
        while True:
            for key, _ in self._selector.select(1.0 if self._world.state.still else _TICK_S):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._serve(key.fileobj)
            now = time.monotonic()
            self._world.advance(now)
            if self._connections:
                alone_since = None
            elif alone_since is None:
                alone_since = now
            elif now - alone_since >= self._idle_s and self._leave():
                return

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._connections) == MAX_CONNECTIONS:
                connection.close()
                return
            connection.setblocking(False)
            self._connections.add(connection)
            self._selector.register(connection, selectors.EVENT_READ)

    def _serve(self, connection: socket.socket) -> None:
        try:
            packet = connection.recv(MAX_PACKET + 1)
            if packet:
                if answer := self._world.handle(packet, time.monotonic()):
                    connection.send(answer)  # to one who does not read them this fails, and he is let go
                return
        except OSError:
            pass
        self._selector.unregister(connection)
        self._connections.discard(connection)
        connection.close()

    def _leave(self) -> bool:
        """Take the name away, unless somebody is coming: he holds the lock, or waits to be accepted."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self._listener.setblocking(False)
        self._accept()
        if self._connections:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            return False
        os.unlink(self._path)
        return True


def main(arguments: list[str] | None = None) -> int:
    """Serve a world; returns at once in the process that was called, when the one in the background listens."""
    parser = argparse.ArgumentParser(prog="python -m edgeagent_devices._sim_world", description="The simulated rover's world.")
    parser.add_argument("--socket", required=True, metavar="PATH", help="where to listen")
    parser.add_argument("--idle", type=float, default=IDLE_S, metavar="SECONDS", help="how long to stay when nobody is connected")
    options = parser.parse_args(arguments)
    lock = os.open(f"{options.socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(options.socket)  # of one that was killed: who starts a world has found nobody there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(options.socket)
    listener.listen(MAX_CONNECTIONS)
    if os.fork():  # so that nobody has a child to wait for
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    _Server(listener, options.socket, lock, options.idle).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
