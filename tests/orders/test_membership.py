"""`edgeagent reset` beside an agent that runs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest

from edgeagent import membership
from edgeagent.config import Drivers, load
from edgeagent.core.orders import Record
from edgeagent.enrol.identity import Identity, Pending, forget
from edgeagent_provisioning.site import Site
from tests.enrol.conftest import away, enrolled, reply

__all__ = ["away", "enrolled", "reply"]


class Agent:
    """Of the real one, what is asked here."""

    def __init__(self) -> None:
        self.anew: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begin_anew(self, why: str) -> None:
        self.anew.set_result(why)


def begun(state: Path) -> membership.Membership:
    found = membership.begin(state, None, lambda source: load(source, {}, Drivers.installed()))
    assert found is not None
    return found[1]


async def test_an_agent_that_was_reset_begins_anew_and_what_it_wrote_after_counts_for_nothing(
    enrolled: tuple[Path, Identity], reply: Any, away: Site
) -> None:
    state, before = enrolled
    member, agent = begun(state), Agent()
    task = asyncio.create_task(member._until_left(cast(Any, agent)))
    await asyncio.sleep(60)
    assert not task.done()

    renewing = Pending(state, before)
    member.identity = renewing.accept(reply(renewing), pin=before.pin, door="https", now=before.enrolled_at)
    await asyncio.sleep(60)
    assert not task.done()  # a renewal is none

    forget(state)
    member._store.keep(Record(settings="0" * 16))  # as late as can be
    pending = Pending(state)
    pending.accept(reply(pending, "porch"), pin=away.authority.root_pin, door="https", now=before.enrolled_at + 1)
    assert await agent.anew == "this board was reset"
    await task
    again = begun(state)
    assert again.identity.name == "porch" and again._store.record == Record()
    assert "0" * 16 in (state / "orders.json").read_text()  # which it has not taken for its own


async def test_a_board_that_forgets_by_order_ends_that_first(enrolled: tuple[Path, Identity]) -> None:
    """Its Wi-Fi goes last."""
    member, agent = begun(enrolled[0]), Agent()
    task = asyncio.create_task(member._until_left(cast(Any, agent)))
    await asyncio.to_thread(member._forget, False)
    await task
    assert Identity.load(enrolled[0]) is None and not agent.anew.done()


@pytest.mark.parametrize("gone", [True, False])
async def test_a_disk_that_fails_while_it_forgets(
    enrolled: tuple[Path, Identity], monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """Once its keys are gone it begins anew; while they are there it stays a member."""
    member = begun(enrolled[0])

    def failing(state: Path, everything: bool) -> None:
        if gone:
            (state / "identity").rename(state / ".forgotten-1")
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(membership, "forget", failing)
    with contextlib.nullcontext() if gone else pytest.raises(OSError, match="Read-only"):
        await asyncio.to_thread(member._forget, False)
    assert member._leaving is gone
