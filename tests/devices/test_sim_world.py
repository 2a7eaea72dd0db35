"""The simulated rover's ground, its motion, what it is told, and the life of the process that it lives in."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.drivers import DeviceFault
from edgeagent_devices import _sim_link
from edgeagent_devices._sim_link import connect, socket_path
from edgeagent_devices._sim_map import MAX_SIZE, MIN_SIZE, RADIUS, TARGETS, make_ground
from edgeagent_devices._sim_physics import MAX_STEP_S, TOP_SPEED, TURN_RATE, begin, range_ahead, step, steps
from edgeagent_devices._sim_world import MAX_PACKET, World
from tests.support.procs import wait_until

share = st.floats(-1, 1)
drives = st.lists(st.tuples(share, share, st.integers(1, 40)), min_size=1, max_size=12)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Worlds of this test alone; those that are left at its end are ended."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for patience in ("_ANSWER_S", "_START_S"):  # on a machine that stands still for a while the world does, too
        monkeypatch.setattr(_sim_link, patience, 60.0)
    yield tmp_path
    for path in (tmp_path / "edgeagent-sim").glob("*.sock"):
        with contextlib.suppress(DeviceFault, ProcessLookupError):
            link = connect(path.stem)
            pid = link.ask("state")["pid"]
            link.close()
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# The ground


@pytest.mark.parametrize(("seed", "size"), [(1, MIN_SIZE), (1, 16), (2, 16), (77, 12), (3, MAX_SIZE)])
def test_everything_on_the_ground_can_be_reached(seed: int, size: int) -> None:
    ground = make_ground(seed, size)
    assert len(ground.targets) == TARGETS
    assert len(ground.boxes) > size // 4
    assert ground.clearance(*ground.start) > 1
    assert ground.look(*ground.start, 0.0, 99) > math.dist(ground.start, ground.targets[0]) + RADIUS, "the first is straight ahead"
    for before, after in zip(ground.targets[:-1], ground.targets[1:], strict=True):
        angle = math.atan2(after[1] - before[1], after[0] - before[0])
        assert ground.look(*before, angle, 99) > math.dist(before, after), "and each in sight of the one before"
    assert make_ground.__wrapped__(seed, size) == ground, "always the same"


def test_looks_as_far_as_the_next_thing() -> None:
    ground = make_ground(1, 16)
    box = ground.boxes[0]
    middle = (box.bottom + box.top) / 2
    assert ground.look(box.left - 0.4, middle, 0.0, 5) == pytest.approx(0.4)
    assert ground.look(0.5, 0.5, math.pi, 5) == pytest.approx(0.5)
    assert ground.look(0.5, 0.5, -math.pi / 2, 0.3) == 0.3
    assert ground.clearance((box.left + box.right) / 2, middle) == 0


# The motion


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), drives, st.floats(0.001, MAX_STEP_S))
def test_never_inside_a_wall_and_never_too_fast(seed: int, told: list[tuple[float, float, int]], dt: float) -> None:
    ground = make_ground(seed, MIN_SIZE)
    state = begin(ground, 0.0)
    for throttle, steer, times in told:
        state = replace(state, throttle=throttle, steer=steer, braking=False)
        for _ in range(times):
            before, state = state, step(ground, state, dt)
            assert ground.clearance(state.x, state.y) >= RADIUS - 1e-6
            assert abs(state.speed) <= TOP_SPEED + 1e-9
            assert abs(state.turn) <= TURN_RATE + 1e-9
            assert math.dist((before.x, before.y), (state.x, state.y)) <= TOP_SPEED * dt + 1e-9
            assert 0 <= state.battery <= 100
            assert state.bumps >= before.bumps
            assert state.reached[: len(before.reached)] == before.reached


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), drives)
def test_stop_stops(seed: int, told: list[tuple[float, float, int]]) -> None:
    ground = make_ground(seed, MIN_SIZE)
    world = World(0.0, seed, MIN_SIZE)
    now = 0.0
    for throttle, steer, times in told:
        world.handle(json.dumps({"do": "set", "throttle": throttle, "steer": steer}).encode(), now)
        now += times * MAX_STEP_S
        world.advance(now)
    world.handle(b'{"do": "stop"}', now)
    world.advance(now + 0.2)
    still = world.state
    assert still.speed == still.turn == 0
    world.advance(now + 60)
    assert (world.state.x, world.state.y, world.state.heading) == (still.x, still.y, still.heading)
    assert range_ahead(ground, world.state) >= 0


def test_keeps_going_until_told_otherwise_then_bumps() -> None:
    ground = make_ground(1, 16)
    state = replace(begin(ground, 0.0), throttle=1.0, braking=False)
    state = steps(ground, state, 3.0)
    assert state.speed == TOP_SPEED
    assert state.reached == (1,)
    state = steps(ground, state, 30.0)
    assert state.bumps >= 1
    assert state.speed == pytest.approx(0, abs=0.1)
    assert range_ahead(ground, state) < 0.1
    assert state.battery < 100
    assert steps(ground, state, 30.0) == state


def test_steers_to_the_right_and_looks_where_it_is_told() -> None:
    ground = make_ground(1, 16)
    state = steps(ground, replace(begin(ground, 0.0), steer=0.5, pan_to=90.0, tilt_to=-10.0, braking=False), 0.3)
    assert -0.5 < (state.heading + math.pi) % math.tau - math.pi < -0.1
    assert 0 < state.pan < 90, "a servo takes its time"
    state = steps(ground, replace(state, steer=0.0), 5.0)
    assert (state.pan, state.tilt) == (90.0, -10.0)
    assert state.still


def test_battery_empties_recharges_on_the_pad_and_moves_nothing_when_empty() -> None:
    ground = make_ground(1, 16)
    state = replace(begin(ground, 0.0, drain=1000.0), throttle=1.0, braking=False)
    state = steps(ground, state, 20.0)
    assert state.battery == 0
    place = state.x, state.y
    state = steps(ground, state, 25.0)
    assert state.speed == 0
    assert (state.x, state.y) == pytest.approx(place, abs=1e-6)
    on_pad = replace(begin(ground, 0.0), battery=40.0)
    assert steps(ground, on_pad, 2.0).charging
    assert 50 < steps(ground, on_pad, 2.0).battery < 60
    assert steps(ground, on_pad, 20.0).battery == 100


def test_steps_do_not_depend_on_when_they_are_asked_for() -> None:
    ground = make_ground(1, 16)
    moving = replace(begin(ground, 0.0), throttle=0.8, steer=0.1, braking=False)
    often = moving
    for index in range(1, 201):
        often = steps(ground, often, index * 0.01)
    seldom = steps(ground, moving, 2.0)
    assert (often.x, often.y) == pytest.approx((seldom.x, seldom.y), abs=0.02)


# What it is told


def answer(world: World, message: Any, now: float = 0.0) -> Any:
    packet = message if isinstance(message, bytes) else json.dumps(message).encode()
    reply = world.handle(packet, now)
    return None if reply is None else json.loads(reply)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\x00",
        b"[1, 2]",
        b'"set"',
        b"[" * 900,
        b'{"do": "set", "throttle": NaN}',
        b'{"do": "set", "throttle": Infinity}',
        b'{"do": "state", "x": "' + b"a" * MAX_PACKET + b'"}',
        {"do": "fly"},
        {"do": "__init__"},
        {"do": ["set"]},
        {"throttle": 1},
        {"do": "set", "throttle": 1.01},
        {"do": "set", "throttle": True},
        {"do": "set", "throttle": "1"},
        {"do": "set", "steer": None},
        {"do": "set", "speed": 1},
        {"do": "set", "pan": 1e9},
        {"do": "stop", "now": True},
        {"do": "setup", "seed": 1, "size": 10**9, "drain": 1},
        {"do": "setup", "seed": 1},
        {"do": "lights", "on": 1, "colour": "white"},
        {"do": "lights", "on": True, "colour": "infrared"},
        {"do": "horn", "seconds": 60},
    ],
)
def test_nonsense_is_refused_and_moves_nothing(message: Any) -> None:
    world = World(0.0)
    before = world.state
    assert set(answer(world, message)) == {"error"}
    assert world.refused == 1
    assert world.state == before


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        ).map(lambda value: json.dumps(value).encode()),
        st.dictionaries(
            st.sampled_from(["do", "throttle", "steer", "pan", "tilt", "seed", "size", "drain", "on", "colour", "seconds"]),
            st.sampled_from(["set", "stop", "state", "setup", "reset", "lights", "horn", "white"]) | st.floats() | st.booleans(),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_comes_is_answered(packet: bytes) -> None:
    world = World(0.0)
    reply = world.handle(packet, 1.0)
    assert reply is None or {"state", "error"} >= set(json.loads(reply))
    assert abs(world.state.throttle) <= 1
    assert abs(world.state.steer) <= 1


def test_commands() -> None:
    world = World(10.0)
    assert answer(world, {"do": "set", "throttle": 1.0, "pan": 20}, 10.0) is None
    state = answer(world, {"do": "state"}, 12.0)["state"]
    assert state["speed"] == TOP_SPEED
    assert state["pan"] == 20
    assert (state["commands"], state["commanded_at"], state["stops"], state["stopped_at"]) == (1, 10.0, 0, None)
    assert answer(world, {"do": "stop"}, 12.5) is None
    state = answer(world, {"do": "lights", "on": True, "colour": "blue"}, 13.0)["state"]
    assert (state["speed"], state["lights"], state["colour"], state["stopped_at"]) == (0, True, "blue", 12.5)
    assert answer(world, {"do": "horn", "seconds": 1.5}, 13.0)["state"]["horn"]
    assert not answer(world, {"do": "state"}, 14.6)["state"]["horn"]
    assert answer(world, {"do": "setup", "seed": 1, "size": 16, "drain": 1.0}, 15.0)["state"]["x"] == state["x"], "nothing new"
    assert answer(world, {"do": "reset"}, 16.0)["state"]["x"] == make_ground(1, 16).start[0]
    state = answer(world, {"do": "setup", "seed": 4, "size": 20, "drain": 2.0}, 17.0)["state"]
    assert (state["seed"], state["size"], state["drain"]) == (4, 20, 2.0)
    assert answer(world, {"do": "charge"}, 18.0)["state"]["battery"] == 100


# The process


def test_two_who_come_at_once_find_one_world(runtime: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        links = list(pool.map(lambda _: connect("rover"), range(4)))
    pids = {link.ask("state")["pid"] for link in links}
    other = connect("second")
    assert len(pids) == 1
    assert other.ask("state")["pid"] not in pids, "each rover has a world of its own"
    for link in (*links, other):
        link.close()


DRIVE_AND_DIE = """
import os, signal
from edgeagent_devices._sim_link import connect
link = connect("rover")
link.send("set", throttle=0.5, steer=1.0)
print(link.ask("state")["pid"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_goes_on_when_who_drives_is_killed_and_stops_when_told(runtime: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DRIVE_AND_DIE], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    link = connect("rover")
    state = link.ask("state")
    assert state["pid"] == int(done.stdout), "the same world"
    assert (state["throttle"], state["steer"]) == (0.5, 1.0)
    wait_until(lambda: link.ask("state")["heading"] != state["heading"], "it still turns")
    link.send("stop")
    wait_until(lambda: link.ask("state")["turn"] == link.ask("state")["speed"] == 0, "it stands")
    assert link.ask("state")["stopped_at"] >= state["commanded_at"]
    link.close()


def test_inherits_nothing_and_ends_when_nobody_is_there(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAGENT_HTTP__TOKEN", "a secret")
    monkeypatch.setattr(_sim_link, "_LINGER_S", 0.5)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    link = connect("rover")
    pid = link.ask("state")["pid"]
    proc = Path("/proc", str(pid))
    assert os.getsid(pid) == os.getpgid(pid) != os.getsid(0), "no terminal's Ctrl-C reaches it"
    assert b"secret" not in (proc / "environ").read_bytes()
    targets = [os.readlink(path) for path in (proc / "fd").iterdir()]
    assert f"pipe:[{os.fstat(write).st_ino}]" not in targets
    assert [os.readlink(proc / "fd" / str(number)) for number in range(3)] == [os.devnull] * 3
    os.close(read)
    os.close(write)
    assert Path(socket_path("rover")).exists()
    link.close()
    wait_until(lambda: not alive(pid), "it ends by itself")
    assert not Path(socket_path("rover")).exists()
    again = connect("rover")
    assert again.ask("state")["pid"] != pid
    again.close()


def test_one_that_was_killed_is_replaced(runtime: Path) -> None:
    link = connect("rover")
    pid = link.ask("state")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), "it is dead")
    with pytest.raises(DeviceFault):
        link.ask("state")
    with pytest.raises(DeviceFault):
        link.send("stop")
    link.close()
    new = connect("rover")
    assert new.ask("state")["pid"] != pid
    new.close()


def test_one_that_hangs_is_a_fault_and_blocks_no_stop(runtime: Path) -> None:
    link = connect("rover")
    pid = link.ask("state")["pid"]
    link._socket.settimeout(0.1)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeviceFault, match="does not answer"):
            link.ask("state")
        with pytest.raises(DeviceFault, match="does not answer"):
            for _ in range(100_000):  # until its buffer is full; none of them waits
                link.send("stop")
    finally:
        os.kill(pid, signal.SIGCONT)
    link.close()


def test_its_folder_must_be_ours_alone(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runtime / "edgeagent-sim"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(DeviceFault, match="of this user alone"):
        socket_path("rover")
    folder.rmdir()
    folder.symlink_to(runtime)
    with pytest.raises(DeviceFault):
        socket_path("rover")
    folder.unlink()
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{runtime}:/elsewhere")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert socket_path("rover") == str(runtime / "edgeagent-sim" / "rover.sock")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime / "missing"))
    with pytest.raises(DeviceFault, match="cannot make its folder"):
        socket_path("rover")
    long = runtime / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(long))
    with pytest.raises(DeviceFault, match="too long"):
        socket_path("rover")
