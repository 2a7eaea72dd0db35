"""What agent and keeper say to each other arrives as it was meant, and nothing else does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from edgeagent.errors import PeerError
from edgeagent.wire import keeper as k

AGENT: list[BaseModel] = [
    k.Open(
        devices=[
            k.KeptDevice(name="drive", driver="motor-pair", options={"left": [5, 6]}, limits={"steer": k.AxisLimits(expo=0.3)})
        ]
    ),
    k.Alive(at=12.5),
    k.Set(run=1, halts=2, until=3.5, values={"drive": {"throttle": -1}}),
    k.Stop(),
    k.Stop(devices=["drive"]),
    k.Order(run=1, id=2, device="drive", command="centre", args={"fast": True}),
]
KEEPER: list[BaseModel] = [
    k.Ready(run=1, pid=2, why="signal 9"),
    k.Pulse(at=1, refused={"late": 3}),
    k.Device(device="drive", phase="retrying", text="It is away."),
    k.Read(device="drive", at=1, values={"on": True, "volt": 7.4, "mode": "slow"}),
    k.Stopped(devices=["drive"], why="expired", at=1, halts=1),
    k.Done(id=2, value={"x": [1, 2]}),
    k.Say(level="warning", text="ä"),
]


@pytest.mark.parametrize("message", AGENT, ids=lambda m: type(m).__name__)
def test_from_the_agent(message: BaseModel) -> None:
    assert k.decode_agent(k.encode(message)) == message


@pytest.mark.parametrize("message", KEEPER, ids=lambda m: type(m).__name__)
def test_from_the_keeper(message: BaseModel) -> None:
    assert k.decode_keeper(k.encode(message)) == message


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"t":"ready","run":0,"pid":1}',
        b'{"t":"alive"}',
        b'{"t":"alive","at":NaN}',
        b'{"t":"alive","at":"1"}',
        b'{"t":"alive","at":1,"more":1}',
        b'{"t":"set","run":0,"halts":0,"until":1e999,"values":{}}',
        b'{"t":"set","run":0,"halts":0,"until":1,"values":{"drive":{"throttle":Infinity}}}',
        b'{"t":"open","devices":[]}',
    ],
)
def test_refused(packet: bytes) -> None:
    with pytest.raises(PeerError):
        k.decode_agent(packet)


@given(st.binary(max_size=200))
def test_whatever_comes_only_peer_errors(packet: bytes) -> None:
    with pytest.raises(PeerError):
        k.decode_agent(packet)


def test_what_cannot_be_sent() -> None:
    with pytest.raises(PeerError, match="65536"):
        k.encode(k.Say(level="info", text="x" * k.MAX_PACKET))
    with pytest.raises(PeerError):
        k.encode(k.Done(id=1, value=object()))
    with pytest.raises(ValueError):
        k.Set(run=0, halts=0, until=1, values={"drive": {"throttle": math.nan}})
