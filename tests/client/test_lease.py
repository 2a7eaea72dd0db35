"""A script's lease, with an agent that answers as ours does and nothing between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from edgeagent.client.address import parse_address
from edgeagent.client.device import Device
from edgeagent.client.errors import ConnectionLost, FailSafe, Refused
from edgeagent.client.session import Session
from edgeagent.wire import control as c
from edgeagent.wire.messages import CameraState, LayerState
from tests.support.control import ARM, ROVER

_TELLS_S = 0.05


class Agent:
    """Answers requests at once, and tells how its group stands a moment later, as the desk does."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.last = self.lease = 0
        self.armed = self.deaf = False
        self.sent: list[c.SetPoint] = []

    async def ask(self, make: Callable[[int], Any]) -> Any:
        if self.deaf:
            raise ConnectionLost("There is no connection to the agent at the moment.")
        match make(1):
            case c.Lease(do="release"):
                self.lease, self.armed = 0, False
            case c.Command():
                self.sent.clear()
                return None
            case c.Lease():
                self.last += 1
                self.lease = self.last
            case other:
                raise AssertionError(other)
        asyncio.get_running_loop().call_later(_TELLS_S, self.tell)
        return "yours"

    def send(self, label: str, point: c.SetPoint) -> None:
        self.sent.append(point)
        if point.lease == self.lease:
            self.armed = True
            self.tell()
            self._device._heard(c.Ack(group="drive", lease=point.lease, seq=point.seq, at=point.at, taken=True), [])
            self._device._signal.fire()

    def tell(self) -> None:
        state: Any = "armed" if self.armed else "disarmed" if self.lease else "free"
        group = c.Group(group="drive", lease=self.lease or None, state=state, expiry_ms=300, max_age_ms=0)
        self._device._told.take(group)
        self._device._heard(group, [])
        self._device._signal.fire()


def robot(*cameras: str) -> tuple[Device, Agent]:
    device = Device(parse_address("http://robot.local"))
    device._told.devices = {"rover": ROVER, "arm": ARM}
    layers = [LayerState(name="full", width=640, height=360)]
    device._told.cameras = {name: CameraState(name=name, phase="live", layers=layers) for name in cameras}
    agent = Agent(device)
    device._session = cast(Session, agent)
    agent.tell()
    return device, agent


async def test_a_lease_that_was_given_back_is_not_taken_for_the_next_one() -> None:
    device, agent = robot()
    async with device.lease():
        pass
    async with device.lease() as lease:
        await asyncio.sleep(2 * _TELLS_S)
        assert lease.error is None
        assert agent.sent[-1].lease == agent.lease == 2


async def test_a_stop_that_could_not_be_sent_stops_what_this_script_moves() -> None:
    device, agent = robot()
    async with device.lease() as lease:
        await lease.drive(0.5, for_s=60)
        assert agent.sent[-1].values["rover"]["throttle"] == 0.5
        agent.deaf = True
        agent.sent.clear()
        with pytest.raises(ConnectionLost):
            await device.stop()
        await asyncio.sleep(1)
        assert agent.sent
        assert all(point.values == {"rover": {}, "arm": {}} for point in agent.sent)
        with pytest.raises(FailSafe, match="emergency stop"):
            await lease.drive(0.5)
        await lease.rearm()
        await lease.drive(0.5)
        agent.deaf = False


async def test_a_command_ends_the_places_that_were_set_before_it() -> None:
    device, agent = robot()
    async with device.lease() as lease:
        await lease.set({"rover": {"throttle": 0.5}, "arm": {"lift": 3, "grip": 20}}, for_s=10)
        assert agent.sent[-1].values == {"rover": {"throttle": 0.5}, "arm": {"lift": 3.0, "grip": 20.0}}
        await device.command("arm", "fold")
        await asyncio.sleep(1)
        assert agent.sent
        assert all(point.values == {"rover": {"throttle": 0.5}, "arm": {"lift": 3.0}} for point in agent.sent)
        await lease.set({"arm": {"grip": 30}}, for_s=10)
        await device.command("rover", "horn")
        await asyncio.sleep(1)
        assert agent.sent[-1].values["arm"] == {"lift": 3.0, "grip": 30.0}, "it is of another device"


@pytest.mark.parametrize(
    ("cameras", "watched", "chosen", "expected"),
    [
        (("test", "clip", "rover"), (), None, "rover"),
        (("test", "clip", "old-rover-eye"), (), None, "old-rover-eye"),
        (("test", "clip", "rover"), ("clip",), None, "clip"),
        (("test", "clip", "rover"), ("clip", "rover"), None, "rover"),
        (("test", "clip", "rover"), ("rover",), "test", "test"),
        (("test", "clip"), (), None, "test"),
        ((), (), None, None),
    ],
)
async def test_one_drives_by_the_picture_that_one_looks_at(
    cameras: tuple[str, ...], watched: tuple[str, ...], chosen: str | None, expected: str | None
) -> None:
    device, _ = robot(*cameras)
    for camera in watched:
        device._watch(camera, "auto")
    assert device.lease(camera=chosen)._eye() == expected


async def test_a_camera_that_does_not_exist_is_refused() -> None:
    device, _ = robot("rover")
    with pytest.raises(Refused, match="no camera boat"):
        async with device.lease(camera="boat"):
            raise AssertionError("there is none")
