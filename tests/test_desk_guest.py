"""Commands by somebody who has no channels, a home automation, beside people who drive."""

from __future__ import annotations

import asyncio

import pytest

from edgeagent.core.principals import principal_of
from edgeagent.errors import DeviceFault, PeerError
from edgeagent.model import Principal
from edgeagent.wire import control as c
from tests.test_desk import world

HOME = principal_of("home-assistant", "operate")


async def test_a_lamp_is_switched() -> None:
    async with world() as w:
        w.local.answer = "done"
        assert await w.desk.command(HOME, "lamp", "switch", {"on": True}) == "done"
        assert w.local.calls == [("lamp", "switch", {"on": True})]


async def test_what_is_refused_is_raised_in_words() -> None:
    async with world() as w:
        with pytest.raises(PeerError, match="no device attic"):
            await w.desk.command(HOME, "attic", "switch", {})
        w.local.answer = DeviceFault("The pin is gone.")
        with pytest.raises(PeerError, match="pin is gone"):
            await w.desk.command(HOME, "lamp", "switch", {})
        with pytest.raises(PeerError, match="may watch"):
            await w.desk.command(Principal("stranger"), "lamp", "switch", {})


async def test_what_moves_is_lent_for_one_command() -> None:
    async with world() as w:
        anna = w.anna()
        await w.desk.command(HOME, "rover", "horn", {})
        assert w.keeper.calls == [("rover", "horn", {})]
        await asyncio.sleep(0.1)
        assert anna.group.holder_name == "home-assistant"
        await asyncio.sleep(1)
        assert (anna.group.state, anna.group.holder) == ("free", None)
        assert w.keeper.log[-1] == "stop"


async def test_whoever_drives_is_not_disturbed() -> None:
    async with world() as w:
        anna = w.anna()
        await anna.drive()
        with pytest.raises(PeerError, match="Somebody else"):
            await w.desk.command(HOME, "rover", "horn", {})
        assert not w.keeper.calls
        ack = await anna.hold(0.5, 0.2)
        assert ack is not None and ack.taken
        assert anna.group.queue == []


async def test_an_emergency_stop_holds_for_everybody() -> None:
    async with world() as w:
        w.person("v9").ask(c.Stop)
        with pytest.raises(PeerError, match="emergency stop"):
            await w.desk.command(HOME, "rover", "horn", {})
        assert not w.keeper.calls


async def test_who_waits_when_the_agent_ends_is_told() -> None:
    async with world() as w:
        w.local.answer = asyncio.Event()
        waiting = asyncio.create_task(w.desk.command(HOME, "lamp", "switch", {}))
        await asyncio.sleep(0.1)
        await w.desk.close("The agent is stopping.")
        with pytest.raises(PeerError, match="stopping"):
            await waiting
        with pytest.raises(PeerError, match="stopping"):
            await w.desk.command(HOME, "lamp", "switch", {})
