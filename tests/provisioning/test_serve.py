"""`edgeagent provision serve` as a process: killed in the middle of enrolments, and ended."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from edgeagent.enrol import joining
from edgeagent.enrol.asking import BoardFacts
from edgeagent_provisioning import claims, planning
from edgeagent_provisioning.csv_import import Row
from edgeagent_provisioning.site import Site
from tests.provisioning.common import PASSPHRASE
from tests.support.ports import free_port
from tests.support.procs import Program

pytestmark = [pytest.mark.realtime(block_limit_s=5.0), pytest.mark.timeout(120), pytest.mark.e2e]
BOARDS = 12


def serving(folder: Path, port: int) -> Program:
    command = [sys.executable, "-m", "edgeagent", "provision", "serve", "--no-broker", "--json"]
    return Program([*command, "--site", str(folder), "--listen", f"127.0.0.1:{port}"])


async def until(process: Program, event: str, number: int = 1) -> None:
    await asyncio.to_thread(process.wait_for, lambda: process.log.count(f'"event": "{event}"') >= number, f"{number} {event}")


async def test_killed_in_the_middle_nothing_is_lost_or_issued_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_RETRY_MIN_S", 0.2)
    port, folder = free_port(), tmp_path / "site"
    with Site.create(folder, "home", PASSPHRASE, time.time(), urls=[f"https://127.0.0.1:{port}"]) as site:
        given = []
        for number in range(BOARDS):
            token = planning.plan(site, Row(0, f"cam-{number}"), time.time()).token
            assert token is not None
            given.append(claims.claim_for(site, token))
        with serving(folder, port) as process:
            await until(process, "listening")
            boards = [
                asyncio.create_task(joining.enrol(claim, tmp_path / f"board-{number}", facts=BoardFacts(), random01=lambda: 0.0))
                for number, claim in enumerate(given)
            ]
            await until(process, "enrolled", 3)
            process.stop(kill=True)
        with serving(folder, port) as process:
            identities = await asyncio.gather(*boards)
            assert sorted(identity.name for identity in identities) == sorted(f"cam-{number}" for number in range(BOARDS))
            serials = {certificate.serial for certificate in site.registry.certificates()}
            assert serials == {identity.serial for identity in identities} and len(serials) == BOARDS
            assert process.stop() == 0, process.log
        assert site.registry.audit_problem() is None
