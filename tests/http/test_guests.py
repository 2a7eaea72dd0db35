"""Who gives way at the door, with made-up connections on the virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgeagent.http.guests import FIRST_REQUEST_S, Guest, Guests, network_of


class Line(asyncio.Transport):
    """A connection from an address."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.hung_up = False

    def abort(self) -> None:
        self.hung_up = True


class Serving(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")


def guest_of(guests: Guests, address: str) -> tuple[Guest, Line]:
    guest, line = Guest(guests, Serving), Line(address)
    guest.connection_made(line)
    return guest, line


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("2001:db8:1:2::3", "2001:db8:1:2:ffff::4", True),
        ("2001:db8:1:2::3", "2001:db8:1:3::3", False),
        ("fe80::1%eth0", "fe80::2", False),
        ("::1", "::2", False),
        ("", "pipe", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


async def test_everything_is_handed_on() -> None:
    guests, serving = Guests(2), Serving()
    guest = Guest(guests, lambda: serving)
    assert not guest.connected
    guest.connection_made(Line("192.0.2.7"))
    guest.data_received(b"GET")
    assert len(guests) == 1
    guest.connection_lost(None)
    assert serving.told == ["made", b"GET", "lost"]
    assert (guest.connected, len(guests)) == (True, 0)


async def test_one_network_drives_out_only_itself() -> None:
    guests = Guests(8, from_one=2)
    _, stranger = guest_of(guests, "192.0.2.1")
    lines = [guest_of(guests, f"2001:db8::{i}")[1] for i in range(1, 6)]
    assert [line.hung_up for line in lines] == [True, True, True, False, False]
    assert not stranger.hung_up
    assert len(guests) == 3


async def test_a_reverse_proxy_brings_everybodys() -> None:
    guests = Guests(4, from_one=2)
    lines = [guest_of(guests, "127.0.0.1")[1] for _ in range(5)]
    assert [line.hung_up for line in lines] == [True, False, False, False, False]


async def test_the_longest_idle_gives_way_and_nobody_who_asks() -> None:
    guests = Guests(3)
    (asking, first), (asked, second), (_, third) = (guest_of(guests, f"192.0.2.{i}") for i in range(1, 4))
    asking.began()
    asked.began()
    asked.ended()
    assert not guest_of(guests, "192.0.2.4")[1].hung_up
    assert (first.hung_up, second.hung_up, third.hung_up) == (False, False, True)
    assert not guest_of(guests, "192.0.2.5")[1].hung_up
    assert (first.hung_up, second.hung_up) == (False, True)


async def test_while_everybody_asks_there_is_no_room() -> None:
    guests = Guests(2)
    lines = []
    for i in (1, 2):
        guest, line = guest_of(guests, f"192.0.2.{i}")
        guest.began()
        lines.append(line)
    late, line = guest_of(guests, "192.0.2.3")
    assert line.hung_up
    late.connection_lost(None)
    assert not any(line.hung_up for line in lines)
    assert len(guests) == 2


async def test_the_first_request_comes_soon_or_never() -> None:
    guests = Guests(9)
    (asked, one), (_, other) = guest_of(guests, "192.0.2.1"), guest_of(guests, "192.0.2.2")
    await asyncio.sleep(FIRST_REQUEST_S - 1)
    asked.began()
    asked.ended()
    assert not other.hung_up
    await asyncio.sleep(1.5)
    assert (one.hung_up, other.hung_up) == (False, True)
    asked.connection_lost(None)


async def test_who_had_to_go_before_there_was_a_connection_makes_none() -> None:
    guests, went = Guests(1), []
    early = Guest(guests, Serving)
    assert early.come("192.0.2.1", lambda: went.append("early"))
    guest_of(guests, "192.0.2.2")
    assert went == ["early"]
    line = Line("192.0.2.1")
    early.connection_made(line)
    assert (line.hung_up, early.connected, len(guests)) == (True, False, 1)
