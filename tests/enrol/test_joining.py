"""The loops that enrol and renew, over months of virtual time; and the commands."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent import cli
from edgeagent.core.renewal import EARLIEST
from edgeagent.enrol.asking import BoardFacts, Turned, Waiting
from edgeagent.enrol.cli import claim_of
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity, Pending
from edgeagent.enrol.joining import enrol
from edgeagent.enrol.renewal import Renewing
from edgeagent.errors import EdgeAgentError
from edgeagent.wire.claim import Claim
from edgeagent_provisioning.site import Site
from tests.enrol.conftest import Reply

CLAIM = Claim("https://site.example:8443", "p" * 43, "0" * 16, "A" * 22)
DAY = 86_400.0


class Other:
    """The other end: answers, or raises, what it is told to, one after the other; the last again and again."""

    def __init__(self, *outcomes: Identity | Exception) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[float] = []

    async def __call__(self, *arguments: object, **options: object) -> Identity:
        self.asked.append(asyncio.get_running_loop().time())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def activate(identity: Identity, now: float, facts: BoardFacts) -> bool:
    return True


def clock(start: float) -> Callable[[], float]:
    """Unix time by the loop's virtual clock."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    return lambda: start + loop.time() - begun


async def test_waits_for_the_clock_then_for_the_network_then_for_a_person(tmp_path: Path, enrolled: tuple[Path, Identity]) -> None:
    said: list[str] = []
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    other = Other(Unreachable("no network"), Unreachable("no network"), Waiting("somebody must approve", 30.0), enrolled[1])

    def wall() -> float:
        passed = loop.time() - begun
        return passed if passed < 100 else EARLIEST + passed

    identity = await enrol(
        CLAIM,
        tmp_path / "new",
        facts=BoardFacts(),
        told=said.append,
        wall=wall,
        random01=lambda: 0.0,
        join=other,
        activate=activate,
    )
    assert identity == enrolled[1]
    assert other.asked[0] - begun == 100
    assert [later - earlier for earlier, later in zip(other.asked, other.asked[1:], strict=False)] == [2, 2, 30]
    assert [sentence.split()[0] for sentence in said] == ["The", "no", "somebody", "This"]


async def test_whoever_does_not_wait_is_told_at_once_and_a_refusal_ends_it(tmp_path: Path, enrolled: tuple[Path, Identity]) -> None:
    for error in (Unreachable("no network"), Waiting("wait", 1.0)):
        with pytest.raises(type(error)):
            await enrol(CLAIM, tmp_path / "new", facts=BoardFacts(), wait=False, join=Other(error), activate=activate)
    with pytest.raises(Turned):
        await enrol(CLAIM, tmp_path / "new", facts=BoardFacts(), join=Other(Turned(409, "used")), activate=activate)
    with pytest.raises(EdgeAgentError, match="already, as gate"):
        await enrol(CLAIM, enrolled[0], facts=BoardFacts(), join=Other(enrolled[1]), activate=activate)


async def test_who_is_late_enrols_nothing_and_leaves_nothing_behind(
    enrolled: tuple[Path, Identity], reply: Reply, away: Site
) -> None:
    """A first boot that waits for its network, and a person who enrols the board by hand meanwhile."""
    state, before = enrolled[0].with_name("late"), enrolled[1]
    asked, asking, joined = 0, asyncio.Event(), asyncio.Event()

    async def join(claim: Claim, folder: Path, facts: BoardFacts, now: float) -> Identity:
        nonlocal asked
        asked += 1
        Pending(folder)
        asking.set()
        await joined.wait()
        raise Unreachable("no network")

    task = asyncio.create_task(enrol(CLAIM, state, facts=BoardFacts(), join=join, activate=activate))
    await asking.wait()
    pending = Pending(state)
    identity = pending.accept(reply(pending), pin=before.pin, door="https", now=time.time())
    joined.set()
    with pytest.raises(EdgeAgentError, match="already, as gate"):
        await task
    assert asked == 1
    with pytest.raises(EdgeAgentError, match="already, as gate"):  # one that was past that look
        Pending(state)
    with pytest.raises(EdgeAgentError, match="already, as gate"):  # and one that has asked
        pending.accept(reply(pending, "porch"), pin=before.pin, door="https", now=time.time())
    assert Identity.load(state) == identity and not (identity.folder / "next").exists()


async def test_renews_in_time_and_goes_on_after_failures(tmp_path: Path, enrolled: tuple[Path, Identity]) -> None:
    start = EARLIEST + 1e6
    identity = dataclasses.replace(enrolled[1], not_before=int(start), not_after=int(start + 9 * DAY))
    later = dataclasses.replace(identity, not_before=int(start + 6 * DAY), not_after=int(start + 15 * DAY), serial="2")
    last = dataclasses.replace(identity, not_before=int(start + 12 * DAY), not_after=int(start + 21 * DAY), serial="3")
    other = Other(Unreachable("away"), Waiting("busy", 600.0), later, last)
    begun = asyncio.get_running_loop().time()
    changed: list[str] = []
    renewing = Renewing(
        identity, tmp_path, lambda new: changed.append(new.serial), wall=clock(start), random01=lambda: 0.0, renew=other
    )
    task = asyncio.create_task(renewing.run())
    await asyncio.sleep(12.5 * DAY)
    assert [round((at - begun) / DAY, 2) for at in other.asked] == [6.0, 6.0, 6.01, 12.0]
    assert changed == ["2", "3"] and renewing.identity == last and not renewing.revoked
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_revoked_board_asks_once_a_day_and_rotation_asks_at_once(tmp_path: Path, enrolled: tuple[Path, Identity]) -> None:
    start = EARLIEST + 1e6
    identity = dataclasses.replace(enrolled[1], not_before=int(start), not_after=int(start + 90 * DAY))
    asked: list[bool] = []

    async def renew(identity: Identity, state: Path, now: float, *, fresh: bool) -> Identity:
        asked.append(fresh)
        raise Turned(410, "revoked")

    renewing = Renewing(identity, tmp_path, wall=clock(start), random01=lambda: 0.0, renew=renew)
    task = asyncio.create_task(renewing.run())
    await asyncio.sleep(10 * DAY)
    assert asked == []
    renewing.hurry()
    await asyncio.sleep(1)
    assert asked == [True] and renewing.revoked
    await asyncio.sleep(5 * DAY)
    assert asked == [True] + [False] * 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_board_that_its_broker_refuses_asks_for_another_certificate(
    tmp_path: Path, enrolled: tuple[Path, Identity]
) -> None:
    start = EARLIEST + 1e6
    identity = dataclasses.replace(enrolled[1], not_before=int(start), not_after=int(start + 90 * DAY))
    other = Other(*[identity] * 3)
    renewing = Renewing(identity, tmp_path, wall=clock(start), random01=lambda: 0.5, renew=other)
    task = asyncio.create_task(renewing.run())
    begun = asyncio.get_running_loop().time()
    for _ in range(60):  # a connection each minute
        await asyncio.sleep(60)
        renewing.doubted()
    assert [round(at - begun) for at in other.asked] == [90]
    renewing.trusted()
    renewing.doubted()
    await asyncio.sleep(60)
    assert len(other.asked) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_clock_in_1970_keeps_renewal_waiting(tmp_path: Path, enrolled: tuple[Path, Identity]) -> None:
    other = Other(enrolled[1])
    renewing = Renewing(enrolled[1], tmp_path, wall=clock(0.0), random01=lambda: 0.0, renew=other)
    task = asyncio.create_task(renewing.run())
    await asyncio.sleep(600)
    assert other.asked == [] and "clock" in renewing.status
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_claim_is_given_as_file_json_token_or_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "claim.json"
    path.write_text(CLAIM.text())
    assert claim_of(str(path)) == claim_of(CLAIM.text()) == CLAIM
    assert claim_of(CLAIM.token, url=CLAIM.url, pin=CLAIM.root_pin) == CLAIM
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(CLAIM.text().encode())))
    assert claim_of("-") == CLAIM
    with pytest.raises(EdgeAgentError, match="no token, and no file"):
        claim_of("nothing.json")


def test_enrol_and_reset_by_hand(tmp_path: Path, enrolled: tuple[Path, Identity], capsys: pytest.CaptureFixture[str]) -> None:
    state = str(enrolled[0])
    assert cli.main(["enrol", CLAIM.text(), "--state", state]) == 1
    assert "belongs to a site already, as gate" in capsys.readouterr().err
    assert cli.main(["enrol", "{}", "--state", state]) == 1
    said = capsys.readouterr().err
    assert "another version" in said
    assert cli.main(["reset", "--state", state]) == 1  # nobody is here to confirm
    assert cli.main(["reset", "--state", state, "--yes"]) == 0
    assert "Forgotten: identity." in capsys.readouterr().out
    assert Identity.load(enrolled[0]) is None
