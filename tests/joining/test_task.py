"""What is decided is done: on the virtual clock, with hands of paper."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeagent.core.joining import Join, JoinPolicy
from edgeagent.enrol.asking import Turned, Waiting
from edgeagent.enrol.client import Unreachable
from edgeagent.enrol.identity import Identity
from edgeagent.errors import DeviceFault
from edgeagent.joining.task import Joining, member_of
from edgeagent.joining.wifi import WifiAbsent
from edgeagent.wire.claim import Claim
from edgeagent.wire.seal import new_key, public_jwk
from edgeagent.wire.wifi import Wifi, sign_wifi

KEY = new_key()
CLAIM = Claim("https://site.example:8443", "c" * 43, "0123456789abcdef", "S" * 22, "", "home", "a-long-key")
HOME = Wifi("home", "a-long-key")


class Eyes:
    def __init__(self) -> None:
        self.shown: list[str] = []
        self.looks = 0
        self.problem = ""

    def why_not(self) -> str:
        return self.problem

    async def look(self) -> list[str]:
        self.looks += 1
        return list(self.shown)


class Air:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.fault: DeviceFault | None = None
        self.hangs = False

    async def join(self, wifi: Wifi) -> None:
        self.done.append(f"join {wifi.ssid}")
        if self.fault is not None:
            raise self.fault
        await asyncio.sleep(3600 if self.hangs else 2)

    async def keep(self) -> None:
        self.done.append("keep")

    async def restore(self) -> None:
        self.done.append("restore")


class Bench:
    """A board with eyes and air of paper, and a site that answers as it is told."""

    def __init__(self, state: Path) -> None:
        self.state, self.eyes, self.air = state, Eyes(), Air()
        self.answers: list[Exception] = []
        self.asked = 0
        self.online = False
        self.entered: list[str] = []
        self.joining = Joining(
            state,
            self.eyes,
            self.air,
            online=lambda: self.online,
            enrolled=lambda found: self.entered.append(found.name),
            enrol=self.enrol,
            join=Join(JoinPolicy(offline_s=30.0)),
        )

    async def enrol(self, claim: Claim, state: Path) -> Identity:
        assert claim == CLAIM
        self.asked += 1
        await asyncio.sleep(0.5)
        if self.answers:
            raise self.answers.pop(0)
        return identity(state)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.joining.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def identity(state: Path) -> Identity:
    sig = public_jwk(KEY)
    (state / "identity").mkdir(exist_ok=True)
    return Identity(state / "identity", "gate", (), (), (), sig, sig, "c" * 43, "https", 0, 0, 0, "0")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def member(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    known = identity(bench.state)
    monkeypatch.setattr(Identity, "load", lambda state: known)
    return bench


async def test_a_claim_before_the_camera_makes_a_member(bench: Bench) -> None:
    async with bench.running():
        await asyncio.sleep(10)
        looks = bench.eyes.looks
        assert 8 <= looks <= 11 and not bench.air.done
        bench.eyes.shown = [CLAIM.text()]
        await asyncio.sleep(5)
        assert bench.entered == ["gate"] and bench.air.done == ["join home", "keep"]
        looks, bench.online = bench.eyes.looks, True
        await asyncio.sleep(50)
        assert bench.eyes.looks == looks, "a member looks no more"


async def test_an_unreachable_site_is_asked_again_and_then_the_old_network_comes_back(bench: Bench) -> None:
    bench.eyes.shown = [CLAIM.text()]
    bench.answers = [Unreachable("It does not answer.")] * 100
    async with bench.running():
        await asyncio.sleep(70)
        assert bench.asked > 3 and bench.air.done == ["join home"]
        await asyncio.sleep(15)
        assert bench.air.done == ["join home", "restore"]
        bench.answers = []
        await asyncio.sleep(40)
        assert bench.entered == ["gate"] and bench.air.done[2:] == ["join home", "keep"]


async def test_a_refused_claim_is_left_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.eyes.shown = [CLAIM.text()]
    bench.answers = [Turned(410, "This claim has been used.")]
    async with bench.running():
        await asyncio.sleep(100)
    assert bench.asked == 1 and bench.air.done == ["join home", "restore"]
    assert "This claim has been used." in caplog.text
    assert CLAIM.secret not in caplog.text and CLAIM.wifi_key not in caplog.text


async def test_a_board_that_must_be_approved_waits_in_its_new_network(bench: Bench) -> None:
    bench.eyes.shown = [CLAIM.text()]
    bench.answers = [Waiting("The installer has to approve this board.", 30.0)] * 200
    async with bench.running():
        await asyncio.sleep(200)
        assert bench.air.done == ["join home", "keep"]
        bench.answers = []
        await asyncio.sleep(40)
        assert bench.entered == ["gate"]


async def test_a_board_without_wifi_goes_on_by_cable(bench: Bench) -> None:
    bench.eyes.shown, bench.air.fault = [CLAIM.text()], WifiAbsent("no adapter")
    async with bench.running():
        await asyncio.sleep(5)
    assert bench.entered == ["gate"]


async def test_without_eyes_it_says_so_and_waits_for_other_ways(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.eyes.problem = "A QR cannot be read."
    async with bench.running():
        await asyncio.sleep(3)
        assert "A QR cannot be read." in caplog.text and not bench.eyes.looks
        known = identity(bench.state)
        monkeypatch.setattr(Identity, "load", lambda state: known)  # `edgeagent enrol` has been here
        await asyncio.sleep(6)
    assert bench.entered == ["gate"]


async def test_a_member_whose_broker_is_away_takes_the_wifi_of_its_site(member: Bench) -> None:
    text = sign_wifi(HOME, KEY, at=1_800_000_000)
    member.online = True
    async with member.running():
        await asyncio.sleep(50)
        member.online, member.eyes.shown = False, [CLAIM.text(), text]
        await asyncio.sleep(25)
        assert not member.eyes.looks and not member.air.done
        await asyncio.sleep(15)
        assert member.air.done == ["join home"]
        member.online = True
        await asyncio.sleep(3)
        assert member.air.done == ["join home", "keep"] and member.asked == 0
    assert member_of(identity(member.state), member.state).wifi_at == 1_800_000_000
    other = dataclasses.replace(identity(member.state), site_sig=public_jwk(new_key()))
    assert member_of(other, member.state).wifi_at == 0, "another site begins anew"


async def test_a_wifi_that_leads_nowhere_is_left(member: Bench) -> None:
    member.eyes.shown = [sign_wifi(HOME, KEY, at=1_800_000_000)]
    async with member.running():
        await asyncio.sleep(30 + 75)
        assert member.air.done == ["join home", "restore"]
    assert member_of(identity(member.state), member.state).wifi_at == 0


async def test_an_agent_that_ends_meanwhile_leaves_the_network_as_it_was(member: Bench) -> None:
    member.eyes.shown, member.air.hangs = [sign_wifi(HOME, KEY, at=1)], True
    async with member.running():
        await asyncio.sleep(40)
        assert member.air.done == ["join home"]
    assert member.air.done == ["join home", "restore"]


def test_a_damaged_memory_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    path = tmp_path / "identity" / "wifi.json"
    path.write_text("[")
    path.chmod(0o600)
    assert member_of(identity(tmp_path), tmp_path).wifi_at == 0
