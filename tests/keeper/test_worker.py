"""Orders to what is stopped in the same turn of the worker's loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace

import pytest

from edgeagent.core import keeping
from edgeagent.core.shaping import AxisRange
from edgeagent.keeper.worker import Worker
from edgeagent.wire import keeper as wire


class Thread:
    """In place of a device's."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def stop(self) -> None:
        self.log.append("stop")

    def apply(self, values: Mapping[str, float], until: float) -> None:
        self.log.append("apply")

    def order(self, order: wire.Order) -> bool:
        self.log.append(order.command)
        return True


class Rig:
    """A worker that is turned by hand, and the agent's end. The device was told to move `ago_s` ago, for as long as `life_s`."""

    def __init__(self, ends: list[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
        agent, self.agent, guard, self.guard = ends
        for end in ends:
            end.setblocking(False)
        self.now = 1000.0
        monkeypatch.setattr("edgeagent.keeper.worker.time", SimpleNamespace(monotonic=lambda: self.now))
        self.worker = Worker(agent, guard, [], 1, "")
        self.thread = Thread()
        self.worker._threads = {"rover": self.thread}  # type: ignore[dict-item]
        self.worker._keeping = keeping.Keeping({"rover": keeping.Kept("drive", {"throttle": AxisRange()})}, 1, self.now)
        self.worker._keeping.handle(keeping.Opened("rover"), self.now)
        self.worker._pulse_at = 1e9
        self.file = agent.fileno()
        self.turn(wire.Set(run=1, halts=0, until=self.now + 0.3, values={"rover": {"throttle": 0.5}}))
        assert self.thread.log == ["apply"]
        self.thread.log.clear()

    def turn(self, *messages: wire.Message) -> list[wire.Message]:
        """What the worker does with these in one turn, and answers."""
        for message in messages:
            self.agent.send(wire.encode(message))
        self.worker._turn({self.file: 1} if messages else {}, [])
        answers: list[wire.Message] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                answers.append(wire.decode_keeper(self.agent.recv(wire.MAX_PACKET)))
        return answers


ORDER = wire.Order(run=1, id=1, device="rover", command="spin")


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    ends = [*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), *socket.socketpair()]
    rig = Rig(ends, monkeypatch)
    yield rig
    for end in (*ends, rig.worker._woken, rig.worker._wake_end):
        end.close()


def code(answers: list[wire.Message]) -> int:
    (done,) = [answer for answer in answers if isinstance(answer, wire.Done)]
    return done.code


@pytest.mark.parametrize(
    ("passed_s", "before", "expected"),
    [
        (0.31, lambda rig: [wire.Alive(at=rig.now)], 409),
        (0.31, lambda rig: [wire.Alive(at=rig.now), wire.Set(run=1, halts=0, until=rig.now + 0.3, values={"rover": {}})], 409),
        (0.31, lambda rig: [], 409),
        (0.31, lambda rig: [wire.Stop()], 409),
        (0.51, lambda rig: [], 503),
    ],
)
def test_a_command_never_comes_behind_the_stop_of_its_device(
    rig: Rig, passed_s: float, before: Callable[[Rig], list[wire.Message]], expected: int
) -> None:
    rig.now += passed_s
    assert code(rig.turn(*before(rig), ORDER)) == expected
    assert set(rig.thread.log) == {"stop"}


def test_a_command_does_not_come_behind_the_keepers_own_delay(rig: Rig) -> None:
    rig.worker._held = True
    assert code(rig.turn(wire.Alive(at=rig.now), ORDER)) == 409
    assert rig.thread.log == ["stop"]


def test_a_command_that_was_asked_for_behind_a_stop_is_taken(rig: Rig) -> None:
    rig.turn(wire.Stop(), ORDER)
    assert rig.thread.log == ["stop", "spin"]
    rig.now += 0.31
    rig.turn(wire.Alive(at=rig.now))
    rig.turn(ORDER)
    assert rig.thread.log == ["stop", "spin", "spin"]
